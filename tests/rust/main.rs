//! The Rust API, against the mock service in this process.

mod control;
mod downloads;
mod errors;
mod lists;
mod mirror;

use std::sync::{Arc, Mutex};

use dbss::{Client, ClientBuilder, Report, Status};
use dbss_mock::{MockService, ReportInfo};
use serde_json::{Value, json};

/// A service, a client of it, and what that logs.
struct Fixture {
    service: MockService,
    client: Client,
    log: Arc<Mutex<Vec<dbss::LogRecord>>>,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture::with(|builder, service| builder.token(service.value("token")))
    }

    fn with(configure: impl FnOnce(ClientBuilder, &MockService) -> ClientBuilder) -> Fixture {
        let service = MockService::start().expect("loopback");
        let log = Arc::new(Mutex::new(Vec::new()));
        let records = Arc::clone(&log);
        let builder = Client::builder()
            .endpoint(service.value("http"))
            .project_id(service.value("project_id"))
            .log(move |record| records.lock().expect("the log").push(record.clone()));
        let client = configure(builder, &service).build().expect("a client");
        Fixture { service, client, log }
    }

    fn report(&self, id: &str) -> Report {
        Report::new(self.service.value("instance_id"), id)
    }

    fn control(&self, method: &str, path: &str, body: Value) -> Value {
        self.service
            .control(method, path, &body)
            .expect("the control address")
    }

    fn info(&self, id: &Value) -> ReportInfo {
        self.service
            .report(id.as_str().expect("an id"))
            .expect("a report")
    }

    /// The reports that are there from the start.
    fn pdf(&self) -> ReportInfo {
        self.info(&self.service.ready()["reports"][0]["id"])
    }

    fn zip(&self) -> ReportInfo {
        self.info(&self.service.ready()["reports"][1]["id"])
    }

    /// A new report of random bytes.
    fn add(&self, size: u64) -> (ReportInfo, Report) {
        let added = self.control("POST", "/reports", json!({"format": "bytes", "size": size}));
        let info = self.info(&added["id"]);
        let report = self.report(&info.id);
        (info, report)
    }

    /// A new instance, and reports in one.
    fn instance(&self, name: &str) -> String {
        let added = self.control("POST", "/instances", json!({"name": name}));
        added["ids"][0].as_str().expect("an id").to_owned()
    }

    fn reports(&self, instance: &str, count: u64) -> Vec<String> {
        let new = json!({"format": "pdf", "instance": instance, "count": count});
        let added = self.control("POST", "/reports", new);
        serde_json::from_value(added["ids"].clone()).expect("ids")
    }

    fn fault(&self, id: &str, mut fault: Value) {
        fault["report"] = json!(id);
        self.control("POST", "/faults", fault);
    }
}

fn status<T>(outcome: Result<T, dbss::Error>) -> Status {
    outcome.map(drop).map_or_else(|e| e.status(), |()| Status::Ok)
}
