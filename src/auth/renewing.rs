//! Credentials that are asked for, kept, and replaced in time.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::shared::{Outcome, Promise};
use super::{Grant, Origin, Shared, Source, Wire};
use crate::error::{Error, Status};
use crate::log::Level;

/// Somebody who grants credentials when asked.
pub(crate) trait Grantor: std::fmt::Debug + Send + Sync {
    /// Asks, and sees to it that `ticket` is answered, now or later. `refused`
    /// tells whether the last credential was refused by the service.
    fn ask(&self, wire: &Wire<'_>, refused: bool, ticket: Ticket);

    /// What it is.
    fn origin(&self) -> Origin;

    /// Whether what it gave a moment ago can be stale all the same.
    fn may_give_old_ones(&self) -> bool {
        false
    }
}

/// A request to a [`Grantor`] that waits for its answer.
pub(crate) struct Ticket {
    promise: Promise<Grant>,
    number: u64,
    /// Where a refusal for good is kept.
    refusal: Arc<ArcSwapOption<Error>>,
}

impl Ticket {
    pub(crate) fn is_wanted(&self) -> bool {
        self.promise.is_wanted()
    }

    pub(crate) fn grant(self, grant: Grant) {
        let number = self.number;
        self.promise
            .keep(Outcome::Known(Arc::new(Grant { number, ..grant })));
    }

    pub(crate) fn fail(self, error: Error) {
        self.promise.keep(Outcome::of_call(error));
    }

    /// Fails, and lets nobody ask again: what was wrong stays wrong, and asking
    /// often with it can lock an account.
    pub(crate) fn refuse(self, error: Error) {
        self.refusal.store(Some(Arc::new(error.clone())));
        self.promise.keep(Outcome::Failed(error));
    }
}

#[derive(Debug)]
pub(crate) struct Renewing<G> {
    grantor: G,
    shared: Shared<Grant>,
    refusal: Arc<ArcSwapOption<Error>>,
}

impl<G: Grantor> Renewing<G> {
    pub(crate) fn new(grantor: G) -> Renewing<G> {
        Renewing {
            grantor,
            shared: Shared::new(),
            refusal: Arc::new(ArcSwapOption::empty()),
        }
    }

    fn renew(
        &self,
        wire: &Wire<'_>,
        enough: impl Fn(&Grant) -> bool,
        refused: Option<u64>,
    ) -> Result<Arc<Grant>, Error> {
        if let Some(refusal) = self.refusal.load_full() {
            return Err(Error::clone(&refusal));
        }
        self.shared
            .get(wire.call, enough, |promise| {
                // Nobody else changes it while this one asks.
                let number = self.shared.known().map_or(1, |known| known.number + 1);
                let ticket = Ticket {
                    promise,
                    number,
                    refusal: Arc::clone(&self.refusal),
                };
                (wire.log)(Level::Info, &|| {
                    format!("asks for credentials: {}", self.grantor.origin())
                });
                let refused = refused.is_some_and(|refused| refused + 1 == number);
                self.grantor.ask(wire, refused, ticket);
            })
            .map_err(|e| match e.status() {
                // Another attempt of the same call would only ask once more.
                Status::Stalled => e
                    .amend(|message| format!("no credentials came from {}: {message}", self.grantor.origin()))
                    .spent(),
                _ => e,
            })
    }
}

impl<G: Grantor> Source for Renewing<G> {
    fn obtain(&self, wire: &Wire<'_>, refused: Option<&Arc<Grant>>) -> Result<Option<Arc<Grant>>, Error> {
        let after = refused.map(|grant| grant.number);
        let enough = |grant: &Grant| !grant.is_expired() && after.is_none_or(|after| grant.number > after);
        let Some(known) = self.shared.known().filter(|known| enough(known)) else {
            if let Some(refused) = refused
                && !refused.was_good()
                && !self.grantor.may_give_old_ones()
            {
                return Ok(None);
            }
            return self.renew(wire, enough, after).map(Some);
        };
        if !known.is_due() || self.shared.is_asked_for() {
            return Ok(Some(known));
        }
        let newer = |grant: &Grant| grant.number > known.number;
        match self.renew(wire, newer, None) {
            Ok(new) => Ok(Some(new)),
            Err(e) if e.status() == Status::Cancelled => Err(e),
            Err(e) => {
                known
                    .renewal_failed
                    .store(Some(Arc::new(std::time::Instant::now())));
                (wire.log)(Level::Warning, &|| {
                    format!("the credentials could not be renewed and are still good: {e}")
                });
                Ok(Some(known))
            }
        }
    }

    fn origin(&self) -> Origin {
        self.grantor.origin()
    }
}
