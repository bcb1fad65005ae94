//! libdbss downloads the audit reports of Huawei Cloud's Database Security
//! Service (DBSS). It is a shared library with a C ABI; the header is
//! `include/dbss.h` and is generated from the doc comments in [`ffi`].
//!
//! The rooms, in the direction in which a call travels:
//!
//! | room | what happens there |
//! | --- | --- |
//! | [`ffi`] | the C ABI: pointers and strings become Rust values, errors become statuses; no logic |
//! | [`client`] | what a context can do, in safe Rust: checked arguments, configuration, the calls of the service |
//! | `auth` | who we are: the credentials that sign a request |
//! | `http` | how bytes move: connections, TLS, timeouts, the service's error answers |
//! | `sink` | where the bytes of a report go |
//! | `operation` | the control of one call: options, progress, cancel, result |
//! | `error` | the one error type that all rooms share |
//! | `log` | what a context tells its log callback |
//! | `fork` | what each process has for itself |
//! | `sys` | system calls that std does not offer |
//!
//! `unsafe` lives in `ffi` and `sys` alone.

#![deny(unsafe_code)]
#![warn(missing_docs)]
// The unit tests have the stand-in beside them, which they do not use.
#![cfg_attr(not(test), warn(unused_crate_dependencies))]

#[cfg(not(unix))]
compile_error!("libdbss needs a POSIX system: it waits on sockets with poll(2)");

mod auth;
pub mod client;
mod error;
pub mod ffi;
mod fork;
#[cfg(fuzzing)]
pub mod fuzzing;
mod http;
mod log;
mod operation;
mod sink;
mod sys;

// For its features alone, see Cargo.toml.
use ::log as _;

pub use error::{Detail, Error, Status};
