//! What a context can do, in safe Rust that knows nothing of C.

mod arguments;
mod check;
mod config;
mod context;
mod download;
mod options;
mod regions;
mod report;
mod transfer;

pub use crate::log::{Level, Log};
pub(crate) use arguments::utf8;
pub use config::Config;
pub(crate) use config::set_override;
pub use context::Context;
pub(crate) use download::ReportStream;
pub use options::{Kind, OPTIONS, Option};
pub(crate) use report::ReportRequest;
pub(crate) use transfer::Format;
