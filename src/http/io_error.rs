//! The errors of a connection.

use std::io;

use super::tls;
use crate::error::{Error, Status};

/// The library's error in an I/O error, or what the TLS layer said.
pub(super) fn from_io(error: io::Error) -> Error {
    let kind = error.kind();
    let text = error.to_string();
    match error.into_inner() {
        Some(inner) => match inner.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(inner) => match inner.downcast_ref::<rustls::Error>() {
                Some(e) => tls::failure(e),
                None if kind == io::ErrorKind::UnexpectedEof => unclean(),
                None => Error::new(Status::Network, format!("the connection failed: {text}")),
            },
        },
        None if kind == io::ErrorKind::UnexpectedEof => unclean(),
        None => Error::new(Status::Network, format!("the connection failed: {text}")),
    }
}

/// TLS says goodbye before it closes; where it does not, somebody may have cut
/// the connection.
fn unclean() -> Error {
    Error::new(
        Status::ConnectionLost,
        "the connection was closed without TLS's goodbye",
    )
}
