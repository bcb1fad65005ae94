//! Documents of the service: answers that are JSON.

use ::http::StatusCode;

use crate::error::{Error, Status};
use crate::http::{Answer, Asked, ERROR_BODY_LIMIT};

/// A thousand items with all their fields have about a megabyte.
const LIMIT: usize = 16 * 1024 * 1024;

/// The body of an answer of success; an error for any other, also where it says
/// success and its body is an error. 204 has an empty one.
pub(super) fn read(answer: &mut Answer, asked: &Asked) -> Result<Vec<u8>, Error> {
    match answer.status() {
        StatusCode::NO_CONTENT => return Ok(Vec::new()),
        StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED => {}
        _ => return Err(answer.refusal(asked)?),
    }
    let mut bytes = answer.read_document(LIMIT)?;
    if bytes.len() <= ERROR_BODY_LIMIT {
        let said = answer.service_error(&bytes)?;
        if said.is_error_object {
            return Err(answer.refused(said, asked));
        }
    }
    Ok(std::mem::take(&mut *bytes))
}

/// The error for a document that is not what the service documents.
pub(super) fn malformed(answer: &Answer, what: &str, why: impl std::fmt::Display) -> Error {
    answer.explain(Error::new(
        Status::UnexpectedResponse,
        format!("the service's {what} is malformed: {why}"),
    ))
}
