//! libdbss downloads the audit reports of Huawei Cloud's Database Security
//! Service (DBSS). It is a shared library with a C ABI; the header is
//! `include/dbss.h` and is generated from the doc comments in [`ffi`].
//!
//! The folders, in the direction in which a call travels:
//!
//! | folder | what happens there |
//! | --- | --- |
//! | `client` | what a client can do: checked arguments, configuration, the calls of the service |
//! | `auth` | the credentials that sign a request |
//! | `http` | how bytes move: connections, TLS, timeouts, the service's error bodies |
//! | `sink` | where the bytes of a report go |
//! | `operation` | the control of one call: options, progress, cancel, result |
//! | `error` | the error type that all folders share |
//! | `log` | what a client tells its log callback |
//! | `memory` | memory that may be refused |
//! | `fork` | what each process has for itself |
//! | `sys` | system calls that std does not offer |
//! | `tables` | one table for each fact: statuses, options, features, counts, fields |
//!
//! `unsafe` is in `sys` alone, and in the package `libdbss` (`src/ffi`), the C ABI.

#![deny(unsafe_code)]
#![warn(missing_docs)]
// The unit tests have the stand-in beside them, which they do not use.
#![cfg_attr(not(test), warn(unused_crate_dependencies))]

#[cfg(not(unix))]
compile_error!("dbss needs a POSIX system: it waits on sockets with poll(2)");

mod auth;
mod client;
mod error;
mod fork;
#[cfg(fuzzing)]
pub mod fuzzing;
mod host;
mod http;
mod log;
mod memory;
mod operation;
mod sink;
mod sys;
mod tables;

// For its features alone, see Cargo.toml.
use ::log as _;

pub use error::{Detail, Error, Status};

/// What the C ABI is made of. No interface: it may change with any version.
#[doc(hidden)]
#[allow(missing_docs)]
pub mod internal {
    pub use crate::auth::{TokenProvider, TokenRequest};
    pub use crate::client::*;
    pub use crate::log::{Level, Log, LogRecord};
    pub use crate::memory::on_exhaustion;
    pub use crate::operation::{Interrupt, Operation, Progress, Running};
    pub mod tables {
        pub use crate::tables::*;
    }
}
