//! Converts I/O errors of a connection.

use std::io;

use super::tls;
use crate::error::{Error, Status};
use crate::text::os_message;

/// Returns the library's error inside of an I/O error, or converts one of the TLS layer.
pub(super) fn from_io(error: io::Error) -> Error {
    let kind = error.kind();
    let text = os_message(&error);
    match error.into_inner() {
        Some(source) => match source.downcast::<Error>() {
            Ok(error) => *error,
            Err(source) => match source.downcast_ref::<rustls::Error>() {
                Some(e) => tls::failure(e),
                None if kind == io::ErrorKind::UnexpectedEof => unclean_close(),
                None => Error::new(Status::Network, format!("the connection failed: {text}")),
            },
        },
        None if kind == io::ErrorKind::UnexpectedEof => unclean_close(),
        None => Error::new(Status::Network, format!("the connection failed: {text}")),
    }
}

/// The error for a close without close_notify: somebody may have cut the connection.
fn unclean_close() -> Error {
    Error::new(
        Status::ConnectionLost,
        "the connection was closed without the close_notify of TLS",
    )
}
