//! The stand-in seen from outside, through its sockets.

mod common;
mod faults;
mod iam;
mod metadata;
mod origins;
mod program;
mod ranges;
mod service;
mod signatures;
