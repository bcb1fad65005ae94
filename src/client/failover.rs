//! The service's endpoints, with failover to the next one that can be reached.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::credentials::RequestContext;
use crate::error::{Error, Status};
use crate::http::{Call, Endpoint, Request, Response, Sign};
use crate::log::{Level, LogRecord};

/// The endpoints of the service, in the order of preference.
pub(super) struct Endpoints {
    all: Vec<Endpoint>,
    /// The one that was reached last.
    reachable: AtomicUsize,
    /// The version of the list of instances that worked last at each of them.
    instance_versions: Box<[AtomicUsize]>,
}

impl Endpoints {
    /// `all` must have at least one endpoint.
    pub(super) fn new(all: Vec<Endpoint>) -> Endpoints {
        Endpoints {
            instance_versions: all.iter().map(|_| AtomicUsize::new(0)).collect(),
            all,
            reachable: AtomicUsize::new(0),
        }
    }

    pub(super) fn preferred(&self) -> &Endpoint {
        &self.all[0]
    }

    pub(super) fn instance_versions(&self) -> &[AtomicUsize] {
        &self.instance_versions
    }

    /// Returns the position of an endpoint that a request is made for.
    pub(super) fn index_of(&self, endpoint: &Endpoint) -> usize {
        let is_it = |one: &Endpoint| std::ptr::eq(one, endpoint);
        self.all.iter().position(is_it).unwrap_or_default()
    }

    /// Sends a request to the first endpoint that can be reached.
    pub(super) fn send_with_failover<'a>(
        &self,
        context: &RequestContext<'_>,
        sign: &Sign<'_>,
        request: &dyn Fn(&Endpoint) -> Result<Request<'a>, Error>,
    ) -> Result<Response, Error> {
        let Endpoints { all, reachable, .. } = self;
        let RequestContext { call, log, .. } = *context;
        let count = all.len();
        let first = reachable.load(Ordering::Relaxed);
        let mut tried = 0;
        loop {
            let index = (first + tried) % count;
            let request = request(&all[index])?;
            match context.http.send(call, &request, sign) {
                Ok(response) => {
                    reachable.store(index, Ordering::Relaxed);
                    log(Level::Debug, &|| response_record(call, &request, &response));
                    return Ok(response);
                }
                Err(e) => {
                    tried += 1;
                    let unreachable = matches!(
                        e.status(),
                        Status::Resolve | Status::Connect | Status::ConnectTimeout
                    );
                    if !unreachable || tried == count {
                        return Err(e);
                    }
                    log(Level::Warning, &|| {
                        let next = all[(first + tried) % count].origin();
                        LogRecord {
                            report_id: call.report_id().cloned(),
                            attempt: call.operation().attempts(),
                            ..LogRecord::new(format!("{}: {e}; trying {next}", all[index].origin())).about(&e)
                        }
                    });
                }
            }
        }
    }
}

fn response_record(call: &Call, request: &Request<'_>, response: &Response) -> LogRecord {
    let id = response.request_id();
    // Nobody counts the body of another response.
    let announced = match (response.status().is_success(), response.announced()) {
        (true, Some(bytes)) => format!("{bytes} bytes announced, "),
        (true, None) => "no bytes announced, ".to_owned(),
        (false, _) => String::new(),
    };
    let message = format!(
        "{} {}: HTTP {}, {announced}request id {}",
        request.method,
        request.url,
        response.status().as_u16(),
        id.as_deref().unwrap_or("none"),
    );
    LogRecord {
        attempt: call.operation().attempts(),
        report_id: call.report_id().cloned(),
        http_status: Some(response.status().as_u16()),
        request_id: id,
        bytes: response.announced(),
        duration: Some(call.elapsed()),
        ..LogRecord::new(message)
    }
}
