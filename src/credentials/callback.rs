//! Tokens that the caller's own code gives, when asked.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::{Completion, CredentialSource, Credentials, RequestContext, Token, TokenFetcher};
use crate::error::{Error, Status};
use crate::host::HostCallback;
use crate::text::sanitize;

/// The longest reason for a refusal that is passed on, in bytes.
const REASON_LIMIT: usize = 512;

/// Code that gives tokens: takes a request, and answers it now or later.
pub(crate) type TokenProvider = dyn Fn(TokenRequest) + Send + Sync;

/// A request for a token, which a
/// [token provider](crate::ClientBuilder::token_provider) answers once with
/// [`TokenRequest::set`] or [`TokenRequest::fail`]: at once or later, from any
/// thread. Dropped without an answer it counts as failed.
pub struct TokenRequest {
    rejected: bool,
    completion: Mutex<Option<Completion<Credentials>>>,
}

impl TokenRequest {
    /// Whether the service has refused the last token that was given; the same one
    /// would be refused again.
    pub fn is_after_refusal(&self) -> bool {
        self.rejected
    }

    /// Whether a call or a client may still use the token: not once it is answered,
    /// nor when the client was closed or dropped, nor after another was asked for.
    /// To answer all the same does no harm.
    pub fn is_wanted(&self) -> bool {
        let completion = self.completion.lock().unwrap_or_else(PoisonError::into_inner);
        completion.as_ref().is_some_and(Completion::is_wanted)
    }

    fn take(&self) -> Result<Completion<Credentials>, Error> {
        let mut completion = self.completion.lock().unwrap_or_else(PoisonError::into_inner);
        completion
            .take()
            .ok_or_else(|| Error::argument(Status::Argument, "request", "has been answered already"))
    }

    /// Answers with a token, and when it expires by the clock of this machine,
    /// where that is known. A token that cannot be one, or has expired, is an error
    /// here ([`Status::InvalidToken`]) and for the calls that wait
    /// ([`Status::NoToken`]). It is copied, and the copy wiped when it is no longer
    /// needed.
    pub fn set(&self, token: impl AsRef<[u8]>, expires: Option<SystemTime>) -> Result<(), Error> {
        let completion = self.take()?;
        let life = expires.map(|expires| expires.duration_since(SystemTime::now()));
        let checked = Token::new(token.as_ref()).and_then(|token| match life {
            Some(Err(_)) => Err(Error::argument(
                Status::InvalidToken,
                "expires_ms",
                "lies in the past, so the token is of no use; -1 says that it is not known",
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
                completion.complete(Err(no_token(e.message())));
                Err(e)
            }
        }
    }

    /// Answers that there is no token, and why, for the error's message; let it hold
    /// no secret. The calls that wait fail with [`Status::NoToken`].
    pub fn fail(&self, why: &str) -> Result<(), Error> {
        let why = sanitize(why, REASON_LIMIT);
        self.take()?.complete(Err(no_token(&why)));
        Ok(())
    }
}

fn no_token(why: &str) -> Error {
    Error::new(
        Status::NoToken,
        format!("the token provider gave no token: {why}"),
    )
}

/// A [`TokenProvider`] as a source of credentials.
pub(crate) struct CallbackProvider(HostCallback<TokenProvider>);

impl CallbackProvider {
    pub(crate) fn new(provider: Arc<TokenProvider>) -> CallbackProvider {
        CallbackProvider(HostCallback::new(provider))
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
            rejected,
            completion: Mutex::new(Some(completion)),
        };
        self.0.run(move |provider| provider(request));
    }

    fn source(&self) -> CredentialSource {
        CredentialSource::TokenProvider
    }

    fn may_return_stale(&self) -> bool {
        true
    }
}
