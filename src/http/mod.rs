//! How bytes move: one blocking HTTP exchange at a time, over connections that
//! are kept for the next.
//!
//! Nothing here knows what a report is. [`Http`] lives as long as a context,
//! [`Exchange`] as long as a call, [`Answer`] as long as its body.

mod agent;
mod answer;
mod buffers;
mod call;
mod clock;
mod connect;
mod content;
mod endpoint;
mod inspect;
mod object;
mod proxy;
mod redirect;
mod refusal;
mod resolve;
mod retry;
mod secrets;
mod service_error;
mod tls;

pub(crate) use agent::{Http, Outgoing, Setup};
pub(crate) use answer::{Answer, VALUE_LIMIT};
pub(crate) use call::{Call, Limits};
pub(crate) use content::{content_range, safe_name, shortened, strong_etag, unsatisfied_range};
pub(crate) use endpoint::{ENCODED, Endpoint};
pub(crate) use object::Object;
pub(crate) use proxy::Proxy;
pub(crate) use refusal::Asked;
pub(crate) use retry::Retry;
pub(crate) use service_error::{ERROR_BODY_LIMIT, ServiceError};

#[cfg(fuzzing)]
pub(crate) use self::{
    answer::retry_after, content::safe_filename, redirect::check, redirect::origin, redirect::target,
    secrets::LastToken, secrets::Secrets,
};
