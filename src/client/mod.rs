//! What a context can do, in safe Rust that knows nothing of C.

mod arguments;
mod check;
mod config;
mod context;
mod document;
mod download;
mod manage;
mod mirror;
mod options;
mod pages;
mod regions;
mod report;
mod transfer;
mod wait;

pub use crate::log::{Level, Log};
pub(crate) use arguments::utf8;
pub use config::Config;
pub(crate) use config::set_override;
pub use context::Context;
pub(crate) use download::ReportStream;
pub(crate) use manage::NewReport;
pub(crate) use mirror::{MirrorOptions, MirrorResult};
pub use options::{Kind, OPTIONS, Option};
#[cfg(fuzzing)]
pub(crate) use pages::Item;
pub(crate) use pages::{Cursor, List, Page};
#[cfg(fuzzing)]
pub(crate) use regions::parse as parse_regions;
pub(crate) use report::ReportRequest;
pub(crate) use transfer::Format;
