//! How often, and after what pause, a failed attempt is repeated.

use std::time::Duration;

use super::call::Call;
use crate::error::Error;
use crate::message::{duration, name};

/// Backoff: a random time up to this, doubled with each failure in a row. None in a
/// fuzzer.
const FIRST_PAUSE: Duration = Duration::from_millis(if cfg!(fuzzing) { 0 } else { 250 });
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Counts the failed attempts of one request or transfer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    pub(crate) max_attempts: u32,
    pub(crate) max_retry_after: Duration,
    failures: u32,
}

impl Retry {
    pub(crate) fn new(max_attempts: u32, max_retry_after: Duration) -> Retry {
        Retry {
            max_attempts,
            max_retry_after,
            failures: 0,
        }
    }

    /// Resets the count: an attempt made progress.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure and returns how long to wait before the next attempt. `None` if
    /// there must be no other attempt, or the server asks for a longer wait than allowed,
    /// which is then added to the failure.
    pub(crate) fn pause_after(&mut self, failure: &mut Error) -> Option<Duration> {
        self.failures += 1;
        if !failure.is_transient() || self.failures >= self.max_attempts {
            return None;
        }
        match failure.retry_after() {
            Some(requested) if requested > self.max_retry_after => {
                *failure = failure.clone().map_message(|text| {
                    let (requested, option) = (duration(requested), name("max_retry_after_ms"));
                    let limit = duration(self.max_retry_after);
                    format!(
                        "{text}; it asked for a wait of {requested}, which is longer than {option} ({limit})"
                    )
                });
                None
            }
            Some(requested) => Some(requested),
            None => {
                let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.saturating_sub(1).min(10));
                Some(doubled.min(LONGEST_PAUSE).mul_f64(fastrand::f64()))
            }
        }
    }

    /// Makes attempts until one succeeds or the last one has failed.
    pub(crate) fn run<T>(
        mut self,
        call: &Call,
        mut attempt: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        loop {
            let mut failure = match attempt() {
                Ok(value) => return Ok(value),
                Err(e) => e,
            };
            let Some(pause) = self.pause_after(&mut failure) else {
                return Err(failure);
            };
            if !call.pause(pause)? {
                return Err(call.out_of_time(failure));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_doubles_up_to_its_limit() {
        let failure = Error::new(crate::Status::Connect, "x");
        // The longest of many pauses, which are random, after so many failures.
        let longest = |failures: u32| {
            let pauses = (0..2000).filter_map(|_| {
                let mut retry = Retry::new(u32::MAX, Duration::ZERO);
                retry.failures = failures - 1;
                retry.pause_after(&mut failure.clone())
            });
            pauses.max().unwrap_or_default()
        };
        for (failures, limit) in [
            (1, FIRST_PAUSE),
            (2, FIRST_PAUSE * 2),
            (4, FIRST_PAUSE * 8),
            (40, LONGEST_PAUSE),
        ] {
            let longest = longest(failures);
            assert!(
                longest <= limit && longest > limit.mul_f64(0.9),
                "{failures}: {longest:?}"
            );
        }
    }
}
