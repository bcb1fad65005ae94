//! One table for each fact of the interface.
//!
//! `build.rs` includes these files too, so they name nothing else of the crate.

mod counts;
mod features;
mod fields;
mod options;
mod statuses;

pub use counts::{COUNTS, CountRow, Counts};
pub use features::{FEATURES, FeatureRow};
pub use fields::{FIELDS, FieldKind, FieldRow};
pub use options::*;
pub use statuses::{STATUSES, Status, StatusRow};
