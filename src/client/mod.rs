//! What a context can do, in safe Rust that knows nothing of C.

mod arguments;
mod check;
mod config;
mod context;
mod document;
mod download;
mod manage;
mod mirror;
mod pages;
mod regions;
mod report;
mod transfer;
mod value;
mod wait;

pub use arguments::utf8;
pub use config::Config;
pub use config::set_override;
pub use context::Client;
pub use download::{Reader, ReportStream};
pub use manage::{NewReport, ReportSpec};
pub use mirror::{MirrorOptions, MirrorResult};
#[cfg(fuzzing)]
pub use pages::Item;
pub use pages::{Cursor, List, Page};
#[cfg(fuzzing)]
pub use regions::parse as parse_regions;
pub use report::ReportRequest;
pub use transfer::Format;
