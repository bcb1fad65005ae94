//! Lists, schedules, and the calls that create, generate, wait for and delete reports.

pub(crate) mod cursor;
pub(crate) mod list;
pub(crate) mod manage;
pub(crate) mod page;
pub(crate) mod schedule;
pub(crate) mod wait;
