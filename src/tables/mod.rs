//! The tables of the interface: one source for the code, the header and the description.
//!
//! `build.rs` includes these files too, so they use nothing else of the crate.

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
