//! Reads the service's JSON responses.

use ::http::StatusCode;

use crate::error::{Error, Status};
use crate::http::{ERROR_BODY_LIMIT, ErrorContext, Response};

/// The maximum size. A thousand items with all their fields have about a megabyte.
const LIMIT: usize = 16 * 1024 * 1024;

/// Returns the body of a successful response; a 204 has an empty body. A successful
/// status with an error object as its body is an error too.
pub(super) fn read(response: &mut Response, context: &ErrorContext) -> Result<Vec<u8>, Error> {
    match response.status() {
        StatusCode::NO_CONTENT => return Ok(Vec::new()),
        StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED => {}
        _ => return Err(response.read_error(context)?),
    }
    let mut bytes = response.read_document(LIMIT)?;
    if bytes.len() <= ERROR_BODY_LIMIT {
        let service_error = response.service_error(&bytes)?;
        if service_error.is_error_object {
            return Err(response.error_from(service_error, context));
        }
    }
    Ok(std::mem::take(&mut *bytes))
}

/// Returns the error for a document that differs from the service's documentation.
pub(super) fn malformed(response: &Response, what: &str, why: impl std::fmt::Display) -> Error {
    response.with_context(Error::new(
        Status::UnexpectedResponse,
        format!("the service's {what} is malformed: {why}"),
    ))
}
