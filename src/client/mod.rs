//! The client and its calls, in safe Rust and independent of the C ABI.

mod api;
mod arguments;
mod check;
mod config;
mod document;
mod download;
mod failover;
mod fetch;
mod inner;
mod instances;
mod mirror;
mod project;
mod reports;
mod run;
mod time;
mod value;

pub use api::{Client, ClientBuilder, Items, Locale, MirrorError, Overwrite, Report};
pub use arguments::utf8;
pub use check::Identity;
pub use config::Config;
pub use config::regions::KNOWN as KNOWN_REGIONS;
#[cfg(fuzzing)]
pub(crate) use config::regions::parse as parse_regions;
pub use download::format::Format;
pub use download::report::ReportInfo;
pub use download::stream::{Reader, ReportStream};
pub use mirror::{Failure, Gap, MirrorOptions, MirrorResult};
pub use reports::cursor::Cursor;
pub use reports::list::List;
pub use reports::manage::ReportSpec;
pub use reports::page::{Item, Page};
pub use reports::schedule::ScheduleChanges;
