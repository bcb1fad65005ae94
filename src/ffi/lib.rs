//! The C ABI of the crate `dbss`, and nothing else: one file for each C type.
//!
//! Functions here translate and hold no logic: pointers and strings become
//! Rust values, the call goes to [`dbss`], and its error becomes a status, the
//! thread's last error and the operation's. The doc comments are the header's,
//! so they speak to a C programmer. `include/dbss.h` is generated from these
//! files by `build.rs`, in the order of `SECTIONS` there.

// The boundary itself: raw pointers come in, exported symbols go out.
#![allow(unsafe_code)]
// The C names are the names.
#![allow(non_camel_case_types)]
// What a pointer must be stands in the header's rules, once for all functions.
#![allow(clippy::missing_safety_doc)]

mod arguments;
pub mod buffer;
mod call;
pub mod callback;
pub mod config;
pub mod context;
pub mod credentials;
pub mod error;
pub mod format;
mod handle;
pub mod log;
pub mod manage;
mod memory;
pub mod mirror;
pub mod operation;
pub mod options;
pub mod page;
mod panic;
pub mod report;
pub mod status;
pub mod stream;
pub mod token;
pub mod version;
