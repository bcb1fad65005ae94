//! Tokens that the caller's own code gives, when asked.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::renewing::{Grantor, Ticket};
use super::{Grant, Origin, Token, Wire};
use crate::error::{Error, Status, printable};
use crate::host::Hosted;

/// The longest reason for a refusal that is passed on, in bytes.
const REASON_LIMIT: usize = 512;

/// Code that gives tokens: takes a request, and answers it now or later.
pub(crate) type TokenProvider = dyn Fn(TokenRequest) + Send + Sync;

/// A request for a token, which a
/// [token provider](crate::ClientBuilder::token_provider) answers once with
/// [`TokenRequest::set`] or [`TokenRequest::fail`]: at once or later, from any
/// thread. Dropped without an answer it counts as failed.
pub struct TokenRequest {
    refused: bool,
    ticket: Mutex<Option<Ticket>>,
}

impl TokenRequest {
    /// Whether the service has refused the last token that was given; the same one
    /// would be refused again.
    pub fn is_after_refusal(&self) -> bool {
        self.refused
    }

    /// Whether a call or a client may still use the token: not once it is answered,
    /// nor when the client was closed or dropped, nor after another was asked for.
    /// To answer all the same does no harm.
    pub fn is_wanted(&self) -> bool {
        let ticket = self.ticket.lock().unwrap_or_else(PoisonError::into_inner);
        ticket.as_ref().is_some_and(Ticket::is_wanted)
    }

    fn take(&self) -> Result<Ticket, Error> {
        let mut ticket = self.ticket.lock().unwrap_or_else(PoisonError::into_inner);
        ticket
            .take()
            .ok_or_else(|| Error::argument(Status::Argument, "request", "has been answered already"))
    }

    /// Answers with a token, and when it expires by the clock of this machine,
    /// where that is known. A token that cannot be one, or has expired, is an error
    /// here ([`Status::InvalidToken`]) and for the calls that wait
    /// ([`Status::NoToken`]). It is copied, and the copy wiped when it is no longer
    /// needed.
    pub fn set(&self, token: impl AsRef<[u8]>, expires: Option<SystemTime>) -> Result<(), Error> {
        let ticket = self.take()?;
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
                ticket.grant(Grant::new(token).living(life));
                Ok(())
            }
            Err(e) => {
                ticket.fail(no_token(e.message()));
                Err(e)
            }
        }
    }

    /// Answers that there is no token, and why, for the error's message; let it hold
    /// no secret. The calls that wait fail with [`Status::NoToken`].
    pub fn fail(&self, why: &str) -> Result<(), Error> {
        let why = printable(why, REASON_LIMIT);
        self.take()?.fail(no_token(&why));
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
pub(crate) struct Provided(Hosted<TokenProvider>);

impl Provided {
    pub(crate) fn new(provider: Arc<TokenProvider>) -> Provided {
        Provided(Hosted::new(provider))
    }
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenRequest")
    }
}

impl fmt::Debug for Provided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provided")
    }
}

impl Grantor for Provided {
    fn ask(&self, _: &Wire<'_>, refused: bool, ticket: Ticket) {
        let request = TokenRequest {
            refused,
            ticket: Mutex::new(Some(ticket)),
        };
        self.0.run(move |provider| provider(request));
    }

    fn origin(&self) -> Origin {
        Origin::TokenProvider
    }

    fn may_give_old_ones(&self) -> bool {
        true
    }
}
