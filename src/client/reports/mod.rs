//! Lists, and what the service does with reports: create, generate, wait, delete.

pub(crate) mod cursor;
pub(crate) mod list;
pub(crate) mod manage;
pub(crate) mod page;
pub(crate) mod wait;
