//! What a context can do, in safe Rust that knows nothing of C.

mod arguments;
mod config;
mod context;
mod download;
mod log;
mod options;
mod report;
mod transfer;

pub(crate) use arguments::utf8;
pub use config::Config;
pub(crate) use config::set_override;
pub use context::Context;
pub(crate) use download::ReportStream;
pub use log::{Level, Log};
pub use options::{Kind, OPTIONS, Option};
pub(crate) use report::ReportRequest;
pub(crate) use transfer::Format;
