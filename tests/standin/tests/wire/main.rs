//! The stand-in seen from outside, through its sockets.

mod common;
mod faults;
mod origins;
mod program;
mod ranges;
mod service;
