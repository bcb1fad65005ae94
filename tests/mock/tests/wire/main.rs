//! The mock service seen from outside, through its sockets.

mod common;
mod faults;
mod iam;
mod management;
mod metadata;
mod origins;
mod program;
mod ranges;
mod service;
mod signatures;
