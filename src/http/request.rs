//! A request, before it is signed and sent.

use ::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use ::http::{Method, Uri};
use zeroize::Zeroizing;

use crate::error::Error;

/// Adds the credentials to a request.
pub(crate) type Sign<'a> = dyn Fn(&mut ::http::Request<&[u8]>) -> Result<(), Error> + 'a;

/// The type of every request to a service of the cloud, as the official SDKs send it: with
/// GET and DELETE too.
pub(crate) static JSON: [(HeaderName, HeaderValue); 1] =
    [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];

/// A request without credentials.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: Uri,
    pub(crate) headers: &'a [(HeaderName, HeaderValue)],
    pub(crate) body: &'a [u8],
    /// Whether the server may receive it twice without a second effect.
    pub(crate) idempotent: bool,
    /// Secrets in the body, to be redacted in messages.
    pub(crate) secrets: &'a [Zeroizing<String>],
}

impl<'a> Request<'a> {
    pub(crate) fn get(url: Uri, headers: &'a [(HeaderName, HeaderValue)]) -> Request<'a> {
        Request {
            method: Method::GET,
            url,
            headers,
            body: b"",
            idempotent: true,
            secrets: &[],
        }
    }

    /// Builds the request to this URL.
    pub(super) fn at(&self, url: Uri) -> ::http::Request<&'a [u8]> {
        let mut request = ::http::Request::new(self.body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = url;
        request.headers_mut().extend(self.headers.iter().cloned());
        request
    }
}
