//! The C ABI of the crate `dbss`: one file for each C type.
//!
//! The functions only translate: pointers and strings become Rust values, the
//! function calls [`dbss`], and an error becomes a status, the thread's last
//! error and the operation's. The doc comments are copied to the header, so
//! they address C programmers. `build.rs` generates `include/dbss.h` from these
//! files, in the order of its `SECTIONS`.

// The C boundary: it takes raw pointers and exports symbols.
#![allow(unsafe_code)]
// C names are used unchanged.
#![allow(non_camel_case_types)]
// The header's rules define the requirements of pointers for all functions.
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
pub mod schedule;
mod settings;
pub mod status;
pub mod stream;
pub mod token;
pub mod version;
