//! Documents of the service: responses that are JSON.

use ::http::StatusCode;

use crate::error::{Error, Status};
use crate::http::{ERROR_BODY_LIMIT, ErrorContext, Response};

/// A thousand items with all their fields have about a megabyte.
const LIMIT: usize = 16 * 1024 * 1024;

/// The body of a response of success; an error for any other, also where it says
/// success and its body is an error. 204 has an empty one.
pub(super) fn read(response: &mut Response, context: &ErrorContext) -> Result<Vec<u8>, Error> {
    match response.status() {
        StatusCode::NO_CONTENT => return Ok(Vec::new()),
        StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED => {}
        _ => return Err(response.read_error(context)?),
    }
    let mut bytes = response.read_document(LIMIT)?;
    if bytes.len() <= ERROR_BODY_LIMIT {
        let said = response.service_error(&bytes)?;
        if said.is_error_object {
            return Err(response.error_from(said, context));
        }
    }
    Ok(std::mem::take(&mut *bytes))
}

/// The error for a document that is not what the service documents.
pub(super) fn malformed(response: &Response, what: &str, why: impl std::fmt::Display) -> Error {
    response.with_context(Error::new(
        Status::UnexpectedResponse,
        format!("the service's {what} is malformed: {why}"),
    ))
}
