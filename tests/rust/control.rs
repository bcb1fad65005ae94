//! Operations, closing, and what the caller's own code is asked and told.

use std::io::Read;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use dbss::{Client, ClientBuilder, Level, Operation, Report, ReportStream, Status, TokenRequest};
use dbss_mock::{Locale as Language, MockService};
use serde_json::json;

use super::{Fixture, status};

const STALL: u64 = 500_000;

/// A report that stops arriving in its midst, and an operation that says when.
fn stalling(fixture: &Fixture) -> (Report, Arc<Operation>, mpsc::Receiver<()>) {
    let (info, report) = fixture.add(3_000_000);
    fixture.fault(&info.id, json!({"stall_after": STALL}));
    let operation = Operation::new();
    let (sender, stalled) = mpsc::channel();
    operation
        .set_progress(move |operation| {
            if operation.received() == STALL {
                let _ = sender.send(());
            }
            true
        })
        .expect("an idle operation");
    (report, operation, stalled)
}

#[test]
fn public_types_are_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<Client>();
    check::<ClientBuilder>();
    check::<Operation>();
    check::<ReportStream>();
    check::<dbss::Items>();
    check::<dbss::Item>();
    check::<dbss::Error>();
    check::<TokenRequest>();
    check::<dbss::mirror::MirrorError>();
}

#[test]
fn operation_has_results_and_is_reusable() {
    let fixture = Fixture::new();
    let info = fixture.pdf();
    let report = fixture.report(&info.id);
    let operation = Operation::new();
    let client = fixture.client.with_operation(&operation);
    assert_eq!((operation.received(), operation.total()), (0, None));
    let directory = tempfile::tempdir().expect("a directory");
    let path = client
        .download_to_directory(&report, directory.path(), dbss::Overwrite::No)
        .expect("a report");
    let size = info.size(Language::EnUs);
    assert_eq!((operation.received(), operation.total()), (size, Some(size)));
    assert_eq!(operation.path(), Some(path));
    assert_eq!(operation.format(), dbss::Format::Pdf);
    assert_eq!(operation.content_type().as_deref(), Some("application/pdf"));
    assert!(operation.filename().is_some() && operation.request_id().is_some());
    assert_eq!((operation.attempts(), operation.percent()), (1, None));
    assert!(operation.error().is_none());

    let absent = fixture.report("WN5vPZABfnhLbJrRsvAT-absent");
    let error = client.download(&absent).expect_err("no such report");
    assert_eq!(error.status(), Status::NotFound);
    let kept = operation.error().expect("the failure");
    assert_eq!((kept.status(), kept.message()), (error.status(), error.message()));
    assert_eq!(operation.path(), None);
    // Arguments at fault are failures of the call too.
    let error = client.download(&Report::new("x", "y")).expect_err("no ids");
    assert_eq!(error.status(), Status::InvalidId);
    assert_eq!(operation.error().map(|e| e.status()), Some(Status::InvalidId));
    operation.reset().expect("an idle operation");
    assert!(operation.error().is_none());
}

#[test]
fn cancel_from_other_thread_lasts_until_reset() {
    let fixture = Fixture::new();
    let (report, operation, stalled) = stalling(&fixture);
    let client = fixture.client.with_operation(&operation);
    thread::scope(|scope| {
        let call = scope.spawn(|| client.download(&report));
        stalled.recv().expect("half of a report");
        assert_eq!(operation.received(), STALL);
        // It serves one call at a time.
        assert_eq!(status(client.check()), Status::Busy);
        assert_eq!(
            operation.set("max_attempts", "1").map_err(|e| e.status()),
            Err(Status::Busy)
        );
        operation.cancel();
        assert_eq!(status(call.join().expect("no panic")), Status::Cancelled);
    });
    assert_eq!(operation.error().map(|e| e.status()), Some(Status::Cancelled));
    let requests = fixture.service.requests(None).len();
    assert_eq!(status(client.check()), Status::Cancelled);
    assert_eq!(fixture.service.requests(None).len(), requests);
    operation.reset().expect("an idle operation");
    client.check().expect("a call");
}

#[test]
fn progress_callback_ends_call() {
    let fixture = Fixture::new();
    let (report, operation, _) = stalling(&fixture);
    operation
        .set_progress(|operation| operation.received() < STALL)
        .expect("an idle operation");
    let outcome = fixture.client.with_operation(&operation).download(&report);
    assert_eq!(status(outcome), Status::Cancelled);
    operation.clear_progress().expect("an idle operation");
}

#[test]
fn cancel_all_ends_only_running_calls() {
    let fixture = Fixture::new();
    let (report, operation, stalled) = stalling(&fixture);
    thread::scope(|scope| {
        let client = fixture.client.with_operation(&operation);
        let call = scope.spawn(move || client.download(&report));
        stalled.recv().expect("half of a report");
        fixture.client.cancel_all();
        assert_eq!(status(call.join().expect("no panic")), Status::Cancelled);
    });
    fixture.client.with_operation(&operation).check().expect("a call");
}

#[test]
fn stream_closed_by_other_thread_fails() {
    let fixture = Fixture::new();
    let (report, operation, stalled) = stalling(&fixture);
    let client = fixture.client.with_operation(&operation);
    let stream = Arc::new(client.open(&report).expect("a stream"));
    let read = |mut stream: &ReportStream| {
        let error = stream.read_to_end(&mut Vec::new()).expect_err("closed");
        dbss::Error::from_io(&error)
            .expect("an error of the library")
            .status()
    };
    thread::scope(|scope| {
        let reader = scope.spawn(|| read(&stream));
        stalled.recv().expect("half of a report");
        stream.close();
        assert_eq!(reader.join().expect("no panic"), Status::Cancelled);
    });
    assert_eq!(read(&stream), Status::Closed);
    assert_eq!(stream.info().size, Some(3_000_000));
    // Its operation is free.
    client.check().expect("a call");
}

#[test]
fn close_applies_to_all_handles() {
    let fixture = Fixture::new();
    let (report, operation, stalled) = stalling(&fixture);
    let other = fixture.client.clone();
    let mut stream = other.open(&fixture.report(&fixture.zip().id)).expect("a stream");
    let mut list = other.instances();
    thread::scope(|scope| {
        let client = fixture.client.with_operation(&operation);
        let call = scope.spawn(move || client.download(&report));
        stalled.recv().expect("half of a report");
        other.close();
        assert_eq!(status(call.join().expect("no panic")), Status::Cancelled);
    });
    assert_eq!(status(fixture.client.check()), Status::Closed);
    assert_eq!(status(fixture.client.set_token("abc")), Status::Closed);
    assert_eq!(list.next().map(status), Some(Status::Closed));
    let error = stream.read(&mut [0; 10]).expect_err("closed");
    assert_eq!(
        dbss::Error::from_io(&error).map(dbss::Error::status),
        Some(Status::Cancelled)
    );
}

#[test]
fn limits_accept_durations_and_none() {
    let fixture = Fixture::with(|builder, service| {
        builder
            .token(service.value("token"))
            .max_attempts(1)
            .stall_timeout(None)
            .connect_timeout(Some(Duration::from_secs(5)))
            .wait_timeout(Some(Duration::from_secs(5)))
            .total_timeout(Some(Duration::from_micros(100_500)))
    });
    let (report, operation, _) = stalling(&fixture);
    let error = fixture.client.download(&report).expect_err("too long");
    assert_eq!(error.status(), Status::TotalTimeout);
    assert!(error.message().contains("101"), "{error}");
    let client = fixture.client.with_operation(&operation);
    operation.set_total_timeout(None).expect("a limit");
    operation.set_max_attempts(1).expect("a number");
    operation
        .set_stall_timeout(Some(Duration::from_millis(100)))
        .expect("a limit");
    assert_eq!(status(client.download(&report)), Status::Stalled);
    let error = operation.set_connect_timeout(Some(Duration::ZERO));
    assert_eq!(
        error.expect_err("no limit").parameter(),
        Some("connect_timeout_ms")
    );
    let error = operation
        .set("region", "cn-north-4")
        .expect_err("no option of a call");
    assert_eq!(error.status(), Status::UnknownKey);
}

#[test]
fn build_fails_with_first_invalid_setting() {
    let error = Client::builder()
        .region("CN-NORTH-4")
        .token("with space")
        .build()
        .expect_err("two mistakes");
    assert_eq!(
        (error.status(), error.parameter()),
        (Status::InvalidEndpoint, Some("region"))
    );
    let error = Client::builder().build().expect_err("nothing");
    assert_eq!(error.status(), Status::NotConfigured);
    let error = Client::builder()
        .option("no_such", "1")
        .build()
        .expect_err("no option");
    assert_eq!(error.status(), Status::UnknownKey);
}

#[test]
fn login_sends_passcode_of_provider_and_agency_is_assumed_with_it() {
    let service = MockService::start().expect("the mock service");
    let state = service
        .control("GET", "/state", &serde_json::Value::Null)
        .expect("the state");
    let text = |name: &str| state[name].as_str().expect(name).to_owned();
    let passcodes = serde_json::json!({"passcodes": ["123456"]});
    service.control("POST", "/iam", &passcodes).expect("settings");
    let builder = Client::builder()
        .endpoint(service.value("http"))
        .region(service.value("region"))
        .option("iam_endpoint", service.value("iam"))
        .iam_user(
            service.value("user"),
            service.value("password"),
            service.value("domain"),
        )
        .passcode_provider(&text("user_id"), |request| {
            assert!(!request.is_after_refusal());
            request.set("123456", None).expect("a passcode");
        });
    let client = builder
        .agency(&text("agency"), &text("agency_domain"))
        .build()
        .expect("a client");
    client.check().expect("the agency's key");
    assert_eq!(client.find_credentials().expect("credentials").source, "agency");
}

#[test]
fn token_provider_is_called_first_and_after_rejection() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let fixture = Fixture::with(|builder, service| {
        let token = service.value("token").to_owned();
        builder.token_provider(move |request| {
            let first = count.fetch_add(1, Ordering::Relaxed) == 0;
            assert_eq!(request.is_after_refusal(), !first);
            let token = if first { "first".to_owned() } else { token.clone() };
            // Later, and by another thread.
            thread::spawn(move || request.set(token, None).expect("a token"));
        })
    });
    fixture.control("POST", "/tokens", json!({"token": "first"}));
    fixture.client.check().expect("the first token");
    fixture.client.check().expect("the same");
    fixture.control("DELETE", "/tokens", json!({"token": "first"}));
    fixture.client.check().expect("the second token");
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    let found = fixture.client.find_credentials().expect("credentials");
    assert_eq!(found.source, "token_provider");
    assert_eq!(
        found.project.as_deref(),
        Some(fixture.service.value("project_id"))
    );

    let hasty = Fixture::with(|builder, service| {
        let token = service.value("token").to_owned();
        builder.token_provider(move |request| {
            let seconds = UNIX_EPOCH + Duration::from_millis(1_795_000_000);
            let error = request.set(&token, Some(seconds)).expect_err("long past");
            assert_eq!(error.parameter(), Some("expires_ms"));
        })
    });
    let error = hasty.client.check().expect_err("no token");
    assert!(error.message().contains("are these seconds"), "{error}");

    let failing = Fixture::with(|builder, _| {
        builder.token_provider(|request| request.fail("the vault is shut").expect("the first word"))
    });
    let error = failing.client.check().expect_err("no token");
    assert_eq!(error.status(), Status::NoToken);
    assert!(error.message().contains("the vault is shut"), "{error}");
}

#[test]
fn set_token_replaces_token() {
    let fixture = Fixture::with(|builder, _| builder.token("old"));
    let error = fixture.client.check().expect_err("refused");
    assert_eq!(error.status(), Status::Unauthenticated);
    assert_eq!(status(fixture.client.set_token("not good")), Status::InvalidToken);
    fixture
        .client
        .set_token(fixture.service.value("token"))
        .expect("a token");
    fixture.client.check().expect("accepted");
}

#[test]
fn log_record_of_retry_has_fields() {
    let fixture = Fixture::new();
    let (info, report) = fixture.add(3_000_000);
    fixture.fault(&info.id, json!({"cut_after": 1_200_000, "times": 1}));
    fixture.client.download(&report).expect("a report");
    let log = fixture.log.lock().expect("the log");
    let broke = log.iter().find(|r| r.level == Level::Warning).expect("a warning");
    assert_eq!(broke.status, Status::Truncated);
    assert_eq!((broke.attempt, broke.offset), (1, Some(1_200_000)));
    assert_eq!(broke.report_id.as_ref(), Some(&info.id));
    assert!(broke.retry_delay.is_some() && broke.duration.is_some());
    assert_eq!(broke.error.as_ref().map(dbss::Error::attempts), Some(1));
    let done = log.iter().rfind(|r| r.level == Level::Info).expect("an end");
    assert_eq!((done.status, done.bytes), (Status::Ok, Some(3_000_000)));
    assert!(done.request_id.is_some());
}
