//! Tokens that a callback of the caller provides.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::{Completion, CredentialSource, Credentials, RequestContext, Token, TokenFetcher};
use crate::error::{Error, Status};
use crate::host::HostCallback;
use crate::message::{Part, PartKind};
use crate::text::sanitize;

/// The maximum length of a failure reason in error messages, in bytes.
const REASON_LIMIT: usize = 512;

/// The milliseconds since 1970 that are rather seconds: those of the years 2001 to 2096.
const SECONDS_AS_MILLISECONDS: Range<Duration> =
    Duration::from_secs(1_000_000)..Duration::from_secs(4_000_000);

/// A function that provides tokens. It receives a request and completes it now or later.
pub(crate) type TokenProvider = dyn Fn(TokenRequest) + Send + Sync;

/// A request for a token. A [token provider](crate::ClientBuilder::token_provider)
/// completes it once with [`TokenRequest::set`] or [`TokenRequest::fail`], immediately or
/// later, from any thread. A request that is dropped before that counts as failed.
pub struct TokenRequest {
    provider: &'static str,
    rejected: bool,
    completion: Mutex<Option<Completion<Credentials>>>,
}

impl TokenRequest {
    /// Whether the service rejected the previous token. It would reject the same one
    /// again.
    pub fn is_after_refusal(&self) -> bool {
        self.rejected
    }

    /// Whether a client may still use the token. It is false once the request is
    /// completed, the client was closed or dropped, or a newer request was made.
    /// Completing the request anyway does no harm.
    pub fn is_wanted(&self) -> bool {
        let completion = self.completion.lock().unwrap_or_else(PoisonError::into_inner);
        completion.as_ref().is_some_and(Completion::is_wanted)
    }

    fn take(&self) -> Result<Completion<Credentials>, Error> {
        let mut completion = self.completion.lock().unwrap_or_else(PoisonError::into_inner);
        completion
            .take()
            .ok_or_else(|| Error::argument(Status::Argument, "request", "has been completed already"))
    }

    /// Completes the request with a token and, if known, its expiry by the clock of this
    /// machine. A malformed or expired token is an error here ([`Status::InvalidToken`])
    /// and for the waiting calls ([`Status::NoToken`]). The token is copied, and the copy
    /// is wiped when it is no longer needed.
    pub fn set(&self, token: impl AsRef<[u8]>, expires: Option<SystemTime>) -> Result<(), Error> {
        let completion = self.take()?;
        let life = expires.map(|expires| expires.duration_since(SystemTime::now()));
        let are_seconds = expires
            .and_then(|expires| expires.duration_since(SystemTime::UNIX_EPOCH).ok())
            .is_some_and(|since| SECONDS_AS_MILLISECONDS.contains(&since));
        let checked = Token::new(token.as_ref()).and_then(|token| match life {
            Some(Err(_)) if are_seconds => Err(Error::argument(
                Status::InvalidToken,
                "expires_ms",
                "is in the past, in 1970, so the token has expired; are these seconds in place of milliseconds?",
            )),
            Some(Err(_)) => Err(Error::argument(
                Status::InvalidToken,
                "expires_ms",
                format_args!(
                    "is in the past, so the token has expired; use {} if the expiry is not known",
                    Part(PartKind::Unknown, -1)
                ),
            )),
            Some(Ok(life)) => Ok((token, Some(life))),
            None => Ok((token, None)),
        });
        match checked {
            Ok((token, life)) => {
                completion.complete(Ok(Credentials::from(token).with_lifetime(life)));
                Ok(())
            }
            Err(e) => {
                completion.complete(Err(self.no_token(e.marked())));
                Err(e)
            }
        }
    }

    /// Completes the request without a token. The reason becomes part of the error
    /// message, so it must not contain secrets. The waiting calls fail with
    /// [`Status::NoToken`].
    pub fn fail(&self, reason: &str) -> Result<(), Error> {
        let reason = match sanitize(reason, REASON_LIMIT) {
            reason if reason.trim().is_empty() => "no reason given".into(),
            reason => reason,
        };
        self.take()?.complete(Err(self.no_token(&reason)));
        Ok(())
    }

    fn no_token(&self, reason: &str) -> Error {
        Error::new(
            Status::NoToken,
            format!("the {} provider failed: {reason}", self.provider),
        )
    }
}

/// Fetches tokens or passcodes from the caller's [`TokenProvider`].
pub(crate) struct CallbackProvider {
    callback: HostCallback<TokenProvider>,
    /// What it provides.
    name: &'static str,
}

impl CallbackProvider {
    pub(crate) fn new(provider: Arc<TokenProvider>) -> CallbackProvider {
        CallbackProvider {
            callback: HostCallback::new(provider),
            name: "token",
        }
    }

    pub(crate) fn for_passcodes(provider: Arc<TokenProvider>) -> CallbackProvider {
        CallbackProvider {
            name: "passcode",
            ..CallbackProvider::new(provider)
        }
    }
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenRequest")
    }
}

impl fmt::Debug for CallbackProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallbackProvider")
    }
}

impl TokenFetcher for CallbackProvider {
    fn fetch(&self, _: &RequestContext<'_>, rejected: bool, completion: Completion<Credentials>) {
        let request = TokenRequest {
            provider: self.name,
            rejected,
            completion: Mutex::new(Some(completion)),
        };
        self.callback.run(move |provider| provider(request));
    }

    fn source(&self) -> CredentialSource {
        CredentialSource::TokenProvider
    }

    fn may_return_stale(&self) -> bool {
        true
    }
}
