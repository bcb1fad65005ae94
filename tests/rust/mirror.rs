//! Archives.

use std::sync::{Arc, Mutex};
use std::thread;

use dbss::mirror::MirrorOptions;
use dbss::{Error, Locale, Operation, Status};
use serde_json::json;

use super::Fixture;

#[test]
fn partial_mirror_returns_result() {
    let caller = thread::current().id();
    let threads = Arc::new(Mutex::new(Vec::new()));
    let (logged, ticked) = (Arc::clone(&threads), Arc::clone(&threads));
    let fixture = Fixture::with(move |builder, service| {
        builder
            .token(service.value("token"))
            .max_attempts(1)
            .log(move |_| logged.lock().expect("threads").push(thread::current().id()))
    });
    let instance = fixture.instance("mirrored");
    let ids = fixture.reports(&instance, 5);
    fixture.fault(&ids[2], json!({"status": 500}));
    let operation = Operation::new();
    operation
        .set_progress(move |_| {
            ticked.lock().expect("threads").push(thread::current().id());
            true
        })
        .expect("an idle operation");
    let client = fixture.client.with_operation(&operation);
    let directory = tempfile::tempdir().expect("a directory");
    let options = MirrorOptions::default()
        .instance(&instance)
        .and_then(|options| options.locale(Locale::EnUs))
        .and_then(|options| options.parallel(3))
        .expect("options");

    let error = client.mirror(directory.path(), &options).expect_err("one fails");
    assert_eq!(error.error.status(), Status::Partial);
    assert_eq!(error.to_string(), error.error.message());
    let result = error.result.as_ref().expect("a result");
    assert_eq!(
        (
            result.counts.listed,
            result.counts.downloaded,
            result.counts.failed
        ),
        (5, 4, 1)
    );
    let [failure] = &result.failures[..] else {
        panic!("{:?}", result.failures);
    };
    assert_eq!((&failure.instance, &failure.id), (&instance, &ids[2]));
    assert_eq!(failure.error.status(), Status::ServerError);
    let document: serde_json::Value = serde_json::from_slice(&result.json().expect("JSON")).expect("JSON");
    assert_eq!(document["failed"], 1);
    assert_eq!(Error::from(error).status(), Status::Partial);

    // The functions of the caller ran on its thread alone.
    let threads = threads.lock().expect("threads").clone();
    assert!(!threads.is_empty() && threads.iter().all(|thread| *thread == caller));

    fixture.control("DELETE", "/faults", json!(null));
    let result = client.mirror(directory.path(), &options).expect("all of them");
    assert_eq!((result.counts.present, result.counts.downloaded), (4, 1));
    assert_eq!(operation.percent(), Some(100));
    let verified = options.verify(true).expect("options");
    let result = client.mirror(directory.path(), &verified).expect("all of them");
    assert_eq!((result.counts.present, result.counts.repaired), (5, 0));
}

#[test]
fn mirror_that_did_not_begin_has_no_result() {
    let fixture = Fixture::new();
    let error = fixture
        .client
        .mirror("", &MirrorOptions::default())
        .expect_err("no directory");
    assert_eq!(error.error.parameter(), Some("directory"));
    assert!(error.result.is_none());
    for wrong in [
        MirrorOptions::default().since("yesterday"),
        MirrorOptions::default().until("2026-02-30"),
        MirrorOptions::default().parallel(17),
        MirrorOptions::default().instance("short"),
        MirrorOptions::default().name(""),
        MirrorOptions::default().report_type(""),
        MirrorOptions::default().template(""),
    ] {
        assert_eq!(wrong.map(drop).map_err(|e| e.status() as i32 / 100), Err(1));
    }
}
