//! The HTTP layer: blocking requests over connections that are reused.
//!
//! It knows nothing of reports. [`Http`] lives as long as a context, [`Call`] as long as
//! a call, [`Response`] as long as its body.

mod call;
mod client;
mod clock;
mod connection;
mod connection_buffers;
mod content;
mod endpoint;
mod error_response;
mod inspector;
mod io_error;
mod object;
mod proxy;
mod redirect;
mod request;
mod resolve;
mod response;
mod retry;
mod secrets;
mod service_codes;
mod service_error;
mod tls;

pub(crate) use call::{Call, Limits};
pub(crate) use client::{Http, SDK_DATE, Setup};
pub(crate) use content::{content_range, safe_name, shorten_filename, strong_etag, unsatisfied_range};
pub(crate) use endpoint::{ENCODE_SET, Endpoint};
pub(crate) use error_response::ErrorContext;
pub(crate) use object::Object;
pub(crate) use proxy::Proxy;
pub(crate) use request::{JSON, Request, Sign};
pub(crate) use response::{Response, VALUE_LIMIT};
pub(crate) use retry::Retry;
pub(crate) use service_codes::NO_SUCH_API;
pub(crate) use service_error::{ERROR_BODY_LIMIT, ServiceError};

#[cfg(fuzzing)]
pub(crate) use self::{
    content::safe_filename, redirect::check, redirect::origin, redirect::target, response::retry_after,
    secrets::LastToken, secrets::Secrets,
};
