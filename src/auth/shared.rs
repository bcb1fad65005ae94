//! A value that many threads need and one asks for.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwapOption;

use crate::error::{Error, Status};
use crate::fork::PerProcess;
use crate::http::Call;
use crate::sys::{self, Wake};

/// The value, and the one asking for it that is under way.
///
/// What is known may be read by a child of `fork`; who asks, and waits, is each
/// process's own affair.
pub(crate) struct Shared<T>(Arc<Inner<T>>);

struct Inner<T> {
    known: ArcSwapOption<T>,
    flights: PerProcess<Slot<T>>,
}

type Slot<T> = Mutex<Option<Arc<Flight<T>>>>;

/// An asking, and those who wait for its outcome.
struct Flight<T> {
    done: Wake,
    outcome: Mutex<Option<Outcome<T>>>,
}

/// How an asking ends.
pub(crate) enum Outcome<T> {
    Known(Arc<T>),
    /// For all who wait.
    Failed(Error),
    /// For the one who asked alone: its call is over, and another has to ask.
    GivenUp(Error),
}

impl<T> Outcome<T> {
    /// A failure, for the asking call alone where that is because of its own
    /// limits: they say nothing about the others.
    pub(crate) fn of_call(error: Error) -> Outcome<T> {
        if error.ends_its_call() {
            Outcome::GivenUp(error)
        } else {
            Outcome::Failed(error)
        }
    }
}

impl<T> Clone for Outcome<T> {
    fn clone(&self) -> Outcome<T> {
        match self {
            Outcome::Known(value) => Outcome::Known(Arc::clone(value)),
            Outcome::Failed(error) => Outcome::Failed(error.clone()),
            Outcome::GivenUp(error) => Outcome::GivenUp(error.clone()),
        }
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

/// No code of others runs while one is held, and it is held for moments.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Inner<T> {
    fn slot(&self) -> Result<&Slot<T>, Error> {
        self.flights.get_or_try_init(|| Ok(Mutex::new(None)))
    }

    /// Lets the next who needs the value ask again, who finds `value`, if there
    /// is one. Where another has asked since, what that gave counts.
    fn leave(&self, flight: &Arc<Flight<T>>, value: Option<Arc<T>>) {
        let Ok(slot) = self.slot() else {
            return;
        };
        let mut slot = lock(slot);
        let current = slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, flight));
        if value.is_some() && (current || self.known.load().is_none()) {
            self.known.store(value);
        }
        if current {
            *slot = None;
        }
    }
}

impl<T> Shared<T> {
    pub(crate) fn new() -> Shared<T> {
        Shared(Arc::new(Inner {
            known: ArcSwapOption::empty(),
            flights: PerProcess::new(Mutex::new(None)),
        }))
    }

    pub(crate) fn known(&self) -> Option<Arc<T>> {
        self.0.known.load_full()
    }

    /// Whether somebody asks at the moment.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.0.slot().is_ok_and(|slot| lock(slot).is_some())
    }

    /// The value, where the known one is `enough`; else what asking gives. One
    /// thread asks, by `ask` and with no lock held, and may hand the answer in
    /// later; all wait, each as long as its call allows.
    pub(crate) fn get(
        &self,
        call: &Call,
        enough: impl Fn(&T) -> bool,
        ask: impl FnOnce(Promise<T>),
    ) -> Result<Arc<T>, Error> {
        let mut ask = Some(ask);
        loop {
            let (flight, asks) = {
                let mut slot = lock(self.0.slot()?);
                // Under the lock: whoever made it known has left already.
                if let Some(known) = self.known().filter(|known| enough(known)) {
                    return Ok(known);
                }
                match &*slot {
                    Some(flight) => (Arc::clone(flight), false),
                    None => {
                        let done = Wake::new()
                            .map_err(|e| Error::os(Status::Resource, "cannot wait for credentials", &e))?;
                        let outcome = Mutex::new(None);
                        let flight = Arc::new(Flight { done, outcome });
                        *slot = Some(Arc::clone(&flight));
                        (flight, true)
                    }
                }
            };
            if let Some(ask) = ask.take_if(|_| asks) {
                ask(Promise {
                    process: sys::process(),
                    inner: Arc::downgrade(&self.0),
                    flight: Some(Arc::clone(&flight)),
                });
            }
            if let Err(e) = call.wait_for_another(flight.done.as_fd()) {
                // An answer that takes longer than a call may wait may never
                // come, so the next call asks again. A call that was cancelled
                // says nothing about that.
                if e.status() == Status::Stalled {
                    self.0.leave(&flight, None);
                }
                return Err(e);
            }
            let outcome = lock(&flight.outcome).clone();
            match outcome {
                Some(Outcome::Known(value)) => return Ok(value),
                Some(Outcome::Failed(error)) => return Err(error),
                Some(Outcome::GivenUp(error)) if asks => return Err(error),
                Some(Outcome::GivenUp(_)) | None => {}
            }
        }
    }
}

/// The duty to end an asking. Dropped, it fails it.
pub(crate) struct Promise<T> {
    process: usize,
    /// Gone with the client that asked.
    inner: Weak<Inner<T>>,
    flight: Option<Arc<Flight<T>>>,
}

impl<T> Promise<T> {
    /// Whether anybody waits for it: not once its client is closed or gone, nor
    /// where another has asked since.
    pub(crate) fn is_wanted(&self) -> bool {
        let slot = self.inner.upgrade();
        let slot = slot.as_ref().and_then(|inner| inner.slot().ok());
        self.process == sys::process()
            && slot.is_some_and(|slot| {
                let current = lock(slot);
                current
                    .as_ref()
                    .zip(self.flight.as_ref())
                    .is_some_and(|(one, other)| Arc::ptr_eq(one, other))
            })
    }

    pub(crate) fn keep(mut self, outcome: Outcome<T>) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome<T>) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        if self.process != sys::process() {
            // Those who wait are in the process that this one was forked from.
            std::mem::forget(flight);
            return;
        }
        let value = match &outcome {
            Outcome::Known(value) => Some(Arc::clone(value)),
            _ => None,
        };
        *lock(&flight.outcome) = Some(outcome);
        if let Some(inner) = self.inner.upgrade() {
            inner.leave(&flight, value);
        }
        flight.done.signal();
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        self.end(Outcome::Failed(Error::new(
            Status::NoToken,
            "the request for a token was ended without an answer",
        )));
    }
}
