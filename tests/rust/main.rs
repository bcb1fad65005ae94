//! The Rust API, against the mock service in this process.

mod control;
mod downloads;
mod errors;
mod lists;
mod mirror;

use std::sync::{Arc, Mutex};

use dbss::{Client, ClientBuilder, Report, Status};
use dbss_mock::{Format, MockService, ReportInfo};

/// A service, a client of it, and what that logs.
struct Fixture {
    service: MockService,
    client: Client,
    log: Arc<Mutex<Vec<dbss::LogRecord>>>,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture::with(|builder, service| builder.token(service.token()))
    }

    fn with(configure: impl FnOnce(ClientBuilder, &MockService) -> ClientBuilder) -> Fixture {
        let service = MockService::start().expect("loopback");
        let log = Arc::new(Mutex::new(Vec::new()));
        let records = Arc::clone(&log);
        let builder = Client::builder()
            .endpoint(service.http_url())
            .project_id(service.project_id())
            .log(move |record| records.lock().expect("the log").push(record.clone()));
        let client = configure(builder, &service).build().expect("a client");
        Fixture { service, client, log }
    }

    fn report(&self, id: &str) -> Report {
        Report::new(self.service.instance_id(), id)
    }

    /// A new report of random bytes.
    fn add(&self, size: u64) -> (ReportInfo, Report) {
        let info = self.service.add_report(Format::Bytes, Some(size));
        let report = self.report(&info.id);
        (info, report)
    }

    fn fault(&self, id: &str, fault: serde_json::Value) {
        self.service.fault_json(id, fault).expect("a fault");
    }
}

fn status<T>(outcome: Result<T, dbss::Error>) -> Status {
    outcome.map(drop).map_or_else(|e| e.status(), |()| Status::Ok)
}
