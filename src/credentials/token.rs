//! An IAM token, sent as `X-Auth-Token`.

use std::fmt;

use ::http::HeaderValue;
use ::http::header::HeaderName;

use super::secret;
use crate::error::{Error, Status};

const AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// A token. It is wiped from memory when its last copy is dropped.
#[derive(Clone)]
pub(crate) struct Token(HeaderValue);

impl Token {
    pub(crate) fn new(token: &[u8]) -> Result<Token, Error> {
        secret::header(token, Status::InvalidToken, "token").map(Token)
    }

    pub(super) fn text(&self) -> Option<&str> {
        self.0.to_str().ok()
    }

    pub(super) fn sign(&self, request: &mut ::http::Request<&[u8]>) {
        request.headers_mut().insert(AUTH_TOKEN, self.0.clone());
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::MAX_TOKEN_LENGTH;

    #[test]
    fn invalid_token_is_refused_and_not_shown() {
        for (token, expected) in [
            (&b""[..], "empty"),
            (b"abc-secret\r", "carriage return at byte 11"),
            (b"abc-secret\nX: y", "line feed at byte 11"),
            (b"abc secret", "space"),
            (b"abc-secret\x01", "control character"),
            ("abc-secrét".as_bytes(), "not ASCII"),
            (&[b'x'; MAX_TOKEN_LENGTH + 1], "at most 98304"),
        ] {
            let error = Token::new(token).expect_err(expected);
            assert_eq!(error.status(), Status::InvalidToken);
            assert!(error.message().contains(expected), "{error}");
            assert!(!error.message().contains("secr"), "{error}");
        }
        assert!(Token::new(&[b'x'; MAX_TOKEN_LENGTH]).is_ok());
    }

    #[test]
    fn debug_output_of_token_hides_it() {
        let token = Token::new(b"MIIabc+/=token").expect("a token");
        assert_eq!(format!("{token:?} {:?}", token.0), "Token(***) Sensitive");
    }
}
