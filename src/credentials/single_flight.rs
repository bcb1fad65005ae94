//! A cached value that one thread fetches for all threads that need it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwapOption;

use crate::error::{Error, Status};
use crate::fork::PerProcess;
use crate::http::Call;
use crate::sys::{self, Wake};

/// The last value, and the fetch in progress.
///
/// A child of `fork` may read the value. A fetch and its waiting threads belong to one
/// process.
pub(crate) struct SingleFlight<T>(Arc<Inner<T>>);

struct Inner<T> {
    value: ArcSwapOption<T>,
    /// An error that another fetch would not fix.
    rejection: ArcSwapOption<Error>,
    fetches: PerProcess<Slot<T>>,
}

type Slot<T> = Mutex<Option<Arc<InFlight<T>>>>;

/// A fetch in progress, shared by the threads that wait for its result.
struct InFlight<T> {
    done: Wake,
    result: Mutex<Option<Result<Arc<T>, Error>>>,
}

impl<T> fmt::Debug for SingleFlight<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SingleFlight")
    }
}

/// Locks a mutex. It is held only briefly, and the caller's code never runs under it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Inner<T> {
    fn slot(&self) -> Result<&Slot<T>, Error> {
        self.fetches.get_or_try_init(|| Ok(Mutex::new(None)))
    }

    /// Ends a fetch: stores its value, and lets the next caller fetch again if there is
    /// none. The value of a later fetch takes precedence.
    fn end(&self, fetch: &Arc<InFlight<T>>, value: Option<Arc<T>>) {
        let Ok(slot) = self.slot() else {
            return;
        };
        let mut slot = lock(slot);
        let current = slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, fetch));
        if value.is_some() && (current || self.value.load().is_none()) {
            self.value.store(value);
        }
        if current {
            *slot = None;
        }
    }
}

impl<T> SingleFlight<T> {
    pub(crate) fn new() -> SingleFlight<T> {
        SingleFlight(Arc::new(Inner {
            value: ArcSwapOption::empty(),
            rejection: ArcSwapOption::empty(),
            fetches: PerProcess::new(Mutex::new(None)),
        }))
    }

    pub(crate) fn value(&self) -> Option<Arc<T>> {
        self.0.value.load_full()
    }

    /// Whether a fetch is in progress.
    pub(crate) fn is_fetching(&self) -> bool {
        self.0.slot().is_ok_and(|slot| lock(slot).is_some())
    }

    /// Returns the last value if it is `usable`, and otherwise the result of a fetch. One
    /// thread calls `fetch`, without holding a lock, and may complete it later. All
    /// callers wait, each within the limits of its call.
    pub(crate) fn get(
        &self,
        call: &Call,
        usable: impl Fn(&T) -> bool,
        fetch: impl FnOnce(Completion<T>),
    ) -> Result<Arc<T>, Error> {
        let mut fetch = Some(fetch);
        loop {
            if let Some(rejection) = self.0.rejection.load_full() {
                return Err(Error::clone(&rejection));
            }
            let (in_flight, is_ours) = {
                let mut slot = lock(self.0.slot()?);
                // Checked under the lock: a thread that stored a value has already ended
                // its fetch.
                if let Some(value) = self.value().filter(|value| usable(value)) {
                    return Ok(value);
                }
                match &*slot {
                    Some(in_flight) => (Arc::clone(in_flight), false),
                    None => {
                        let done = Wake::new()
                            .map_err(|e| Error::os(Status::Resource, "cannot wait for another thread", &e))?;
                        let result = Mutex::new(None);
                        let in_flight = Arc::new(InFlight { done, result });
                        *slot = Some(Arc::clone(&in_flight));
                        (in_flight, true)
                    }
                }
            };
            if let Some(fetch) = fetch.take_if(|_| is_ours) {
                fetch(Completion {
                    process: sys::process(),
                    inner: Arc::downgrade(&self.0),
                    in_flight: Some(Arc::clone(&in_flight)),
                });
            }
            if let Err(e) = call.wait_for_thread(in_flight.done.as_fd()) {
                // A fetch that exceeds the stall timeout may never end, so the next call
                // starts another. If this call was cancelled, the fetch goes on.
                if e.status() == Status::Stalled {
                    self.0.end(&in_flight, None);
                }
                return Err(e);
            }
            let result = lock(&in_flight.result).clone();
            match result {
                Some(Ok(value)) => return Ok(value),
                // The fetching call reached its own limits, which do not apply to this
                // call: fetch again.
                Some(Err(e)) if !is_ours && is_limit_of_call(&e) => {}
                Some(Err(e)) => return Err(e),
                None => {}
            }
        }
    }
}

fn is_limit_of_call(error: &Error) -> bool {
    error.is_end_of_call() || matches!(error.status(), Status::Stalled | Status::ConnectTimeout)
}

/// Ends a fetch with a result. If it is dropped, the fetch fails.
pub(crate) struct Completion<T> {
    process: usize,
    /// Weak, so that a pending fetch does not keep a dropped client alive.
    inner: Weak<Inner<T>>,
    in_flight: Option<Arc<InFlight<T>>>,
}

impl<T> Completion<T> {
    /// Whether the result can still be used: while a call waits for it, and as long as no
    /// other fetch began. It cannot after the client was closed or dropped.
    pub(crate) fn is_wanted(&self) -> bool {
        let Some(inner) = self.inner.upgrade().filter(|_| self.process == sys::process()) else {
            return false;
        };
        // The slot and each call that waits hold it, too.
        let has_others = |in_flight: &Arc<InFlight<T>>| Arc::strong_count(in_flight) > 1;
        self.in_flight.as_ref().is_some_and(|in_flight| {
            has_others(in_flight) || inner.slot().is_ok_and(|slot| lock(slot).is_none())
        })
    }

    pub(crate) fn complete(mut self, result: Result<T, Error>) {
        self.finish(result.map(Arc::new));
    }

    /// Fails this fetch and every later one. For errors that persist, where another
    /// attempt can do harm, such as locking an account.
    pub(crate) fn reject(mut self, error: Error) {
        if let Some(inner) = self.inner.upgrade() {
            inner.rejection.store(Some(Arc::new(error.clone())));
        }
        self.finish(Err(error));
    }

    fn finish(&mut self, result: Result<Arc<T>, Error>) {
        let Some(in_flight) = self.in_flight.take() else {
            return;
        };
        if self.process != sys::process() {
            // The waiting threads are in the parent process.
            std::mem::forget(in_flight);
            return;
        }
        let value = result.as_ref().ok().map(Arc::clone);
        *lock(&in_flight.result) = Some(result);
        if let Some(inner) = self.inner.upgrade() {
            inner.end(&in_flight, value);
        }
        in_flight.done.signal();
    }
}

impl<T> Drop for Completion<T> {
    fn drop(&mut self) {
        self.finish(Err(Error::new(
            Status::NoToken,
            "the provider dropped the request for a token or a passcode without completing it",
        )));
    }
}
