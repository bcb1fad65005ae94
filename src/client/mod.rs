//! What a context can do, in safe Rust that knows nothing of C.

mod arguments;
mod config;
mod context;
mod options;
mod report;

pub(crate) use arguments::utf8;
pub use config::Config;
pub use context::Context;
pub use options::{Kind, OPTIONS, Option};
pub use report::ReportRequest;
