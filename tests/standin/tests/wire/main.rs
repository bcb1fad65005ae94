//! The stand-in seen from outside, through its sockets.

mod common;
mod faults;
mod program;
mod service;
