//! How bytes move: one blocking HTTP exchange at a time, over connections that
//! are kept for the next.
//!
//! Nothing here knows what a report is. [`Http`] lives as long as a context,
//! [`Exchange`] as long as a call, [`Answer`] as long as its body.

mod agent;
mod answer;
mod call;
mod connect;
mod endpoint;
mod resolve;
mod secrets;
mod service_error;
mod tls;

pub(crate) use agent::Http;
pub(crate) use answer::Answer;
pub(crate) use call::Limits;
pub(crate) use endpoint::Endpoint;
pub(crate) use service_error::{ERROR_BODY_LIMIT, ServiceError};
