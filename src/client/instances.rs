//! The list of instances, which the service has in three versions.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::inner::ClientInner;
use super::reports::list::INSTANCE_VERSIONS;
use crate::error::Error;
use crate::http::{Call, Endpoint, NO_SUCH_API, Request, Response};
use crate::log::{Level, LogRecord};

impl ClientInner {
    /// Fetches instances in the first version that the service has. `request` makes the
    /// request in a version.
    pub(super) fn fetch_instances<'a, T>(
        &self,
        call: &Arc<Call>,
        project: &str,
        request: impl Fn(&Endpoint, usize) -> Result<Request<'a>, Error>,
        read: impl Fn(&mut Response) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let known = self.endpoints.instance_versions();
        let all = 0..INSTANCE_VERSIONS.len();
        // For each endpoint, a bit for each version that it does not have.
        let missing: Vec<Cell<u8>> = known.iter().map(|_| Cell::new(0)).collect();
        let last_request = Cell::new((0, 0));
        let is_missing = Cell::new(false);
        let mut failure: Option<Error> = None;
        loop {
            is_missing.set(false);
            let versioned_request = |endpoint: &Endpoint| {
                let at = self.endpoints.index_of(endpoint);
                let may_exist = |version: &usize| missing[at].get() & (1 << version) == 0;
                let version = Some(known[at].load(Ordering::Relaxed))
                    .filter(may_exist)
                    .or_else(|| all.clone().find(may_exist))
                    .unwrap_or_default();
                last_request.set((at, version));
                request(endpoint, version)
            };
            // Only here, because a login may fail with 404 too.
            let read = |response: &mut Response| {
                read(response).inspect_err(|e| {
                    is_missing.set(e.http_status() == Some(404) || e.service_code() == Some(NO_SUCH_API));
                })
            };
            let result = self.fetch(call, project, versioned_request, read);
            let (at, version) = last_request.get();
            let error = match result {
                Err(e) if is_missing.get() => e,
                Err(e) => return Err(e),
                Ok(value) => {
                    known[at].store(version, Ordering::Relaxed);
                    return Ok(value);
                }
            };
            self.log(Level::Debug, || LogRecord {
                request_id: error.request_id().map(str::to_owned),
                ..LogRecord::new(format!("list of instances, version {}: {error}", version + 1))
            });
            missing[at].set(missing[at].get() | 1 << version);
            // An error of the service itself says more than one of its gateway.
            let error = failure
                .take()
                .filter(|e| e.service_code() != Some(NO_SUCH_API))
                .unwrap_or(error);
            if missing[at].get() == (1 << all.len()) - 1 {
                return Err(error.with_message(|message| {
                    format!("{message}; all three versions of the list of instances were tried")
                }));
            }
            failure = Some(error);
        }
    }
}
