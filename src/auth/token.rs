//! An IAM token, sent as `X-Auth-Token`.

use std::fmt;

use ::http::HeaderValue;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use std::sync::Arc;
use zeroize::Zeroizing;

use crate::error::{Error, Status};

/// The longest token that is taken. Real ones have a few kilobytes, some tens
/// of them with a long catalogue; a request must fit a connection's output
/// buffer, which is larger than this.
pub(crate) const MAX_TOKEN: usize = 96 * 1024;

/// A token, wiped from memory with its last copy.
#[derive(Clone)]
pub(crate) struct Token(HeaderValue);

impl Token {
    pub(crate) fn new(token: &[u8]) -> Result<Token, Error> {
        let invalid = |what: fmt::Arguments<'_>| Error::argument(Status::InvalidToken, "token", what);
        if token.is_empty() {
            return Err(invalid(format_args!("must not be empty")));
        }
        if token.len() > MAX_TOKEN {
            return Err(invalid(format_args!(
                "must have at most {MAX_TOKEN} bytes, and has {}",
                token.len()
            )));
        }
        // The character is part of a secret, so it is described, not shown.
        if let Some(position) = token.iter().position(|b| !b.is_ascii_graphic()) {
            let what = match token[position] {
                b'\r' => "a carriage return",
                b'\n' => "a line feed",
                b' ' | b'\t' => "a space or tab",
                0x00..=0x1f | 0x7f => "a control character",
                _ => "a byte that is not ASCII",
            };
            return Err(invalid(format_args!(
                "holds {what} at byte {position} of {}, which no token has; was it read with its line end?",
                token.len()
            )));
        }
        // All copies of the header share this one allocation, which wipes itself.
        let wiped = Bytes::from_owner(Zeroizing::new(token.to_vec()));
        let mut value = HeaderValue::from_maybe_shared(wiped)
            .map_err(|_| invalid(format_args!("cannot stand in a header")))?;
        value.set_sensitive(true);
        Ok(Token(value))
    }

    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// The token of a context, which may be replaced while calls use it.
///
/// Lock-free, because a child of `fork` must be able to read and replace what
/// it inherited, whatever the parent's threads were doing.
pub(crate) struct FixedToken(ArcSwapOption<Token>);

impl FixedToken {
    pub(crate) fn new(token: Option<Token>) -> FixedToken {
        FixedToken(ArcSwapOption::new(token.map(Arc::new)))
    }

    pub(crate) fn replace(&self, token: &[u8]) -> Result<(), Error> {
        self.0.store(Some(Arc::new(Token::new(token)?)));
        Ok(())
    }

    pub(crate) fn get(&self) -> Result<Token, Error> {
        self.0.load().as_deref().cloned().ok_or_else(|| {
            Error::argument(
                Status::NotConfigured,
                "token",
                "none is configured; set one before the call",
            )
        })
    }
}

impl fmt::Debug for FixedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = if self.0.load().is_some() { "***" } else { "none" };
        write!(f, "FixedToken({known})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_no_header_can_carry_is_refused_without_being_shown() {
        for (token, says) in [
            (&b""[..], "empty"),
            (b"abc-secret\r", "carriage return at byte 10"),
            (b"abc-secret\nX: y", "line feed at byte 10"),
            (b"abc secret", "space"),
            (b"abc-secret\x01", "control character"),
            ("abc-secrét".as_bytes(), "not ASCII"),
            (&[b'x'; MAX_TOKEN + 1], "at most 98304"),
        ] {
            let error = Token::new(token).expect_err(says);
            assert_eq!(error.status(), Status::InvalidToken);
            assert!(error.message().contains(says), "{error}");
            assert!(!error.message().contains("secr"), "{error}");
        }
        assert!(Token::new(&[b'x'; MAX_TOKEN]).is_ok());
    }

    #[test]
    fn debug_output_hides_a_token() {
        let token = Token::new(b"MIIabc+/=token").expect("a token");
        assert_eq!(format!("{token:?} {:?}", token.header()), "Token(***) Sensitive");
    }
}
