//! What a client can do, in safe Rust that knows nothing of C.

mod api;
mod arguments;
mod check;
mod config;
mod document;
mod download;
mod executor;
mod failover;
mod fetch;
mod format;
mod inner;
mod manage;
mod mirror;
mod pages;
mod project;
mod regions;
mod report;
mod time;
mod transfer;
mod value;
mod wait;

pub use api::{Client, ClientBuilder, Items, Locale, MirrorError, Overwrite, Report};
pub use arguments::utf8;
pub use check::Identity;
pub use config::Config;
pub use download::{Reader, ReportStream};
pub use format::Format;
pub use manage::ReportSpec;
pub use mirror::{Failure, Gap, MirrorOptions, MirrorResult};
pub use pages::{Cursor, Item, List, Page};
#[cfg(fuzzing)]
pub(crate) use regions::parse as parse_regions;
pub use report::ReportInfo;
