//! Downloads, by each of the ways to have a report.

use std::io::{self, Read, Write};

use dbss::{Client, Format, Locale, Overwrite, Report, Status};
use dbss_mock::Locale as Language;
use serde_json::json;

use super::{Fixture, status};

#[test]
fn report_downloads_to_every_destination_plain_and_tls() {
    let plain = Fixture::new();
    let ca = plain.service.value("ca_file");
    let tls = Client::builder()
        .endpoint(plain.service.value("https"))
        .project_id(plain.service.value("project_id"))
        .token(plain.service.value("token"))
        .option("ca_file", ca)
        .build()
        .expect("a client");
    for client in [&plain.client, &tls] {
        let info = plain.pdf();
        let report = plain.report(&info.id);
        let bytes = info.bytes(Language::EnUs);
        assert_eq!(client.download(&report).expect("in memory"), bytes);

        let mut written = Vec::new();
        let about = client
            .download_to_writer(&report, &mut written)
            .expect("in a writer");
        assert_eq!(written, bytes);
        assert_eq!(
            (about.size, about.format),
            (Some(bytes.len() as u64), Format::Pdf)
        );
        assert!(about.request_id.is_some() && about.content_type.as_deref() == Some("application/pdf"));

        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("x.pdf");
        client
            .download_to_file(&report, &path, Overwrite::No)
            .expect("in a file");
        assert_eq!(std::fs::read(&path).expect("the file"), bytes);

        let named = client
            .download_to_directory(&report, directory.path(), Overwrite::No)
            .expect("in a directory");
        assert_eq!(named, directory.path().join(&about.filename));
        assert_eq!(std::fs::read(&named).expect("the file"), bytes);

        let file = std::fs::File::create(&path).expect("a file");
        client.download_to_fd(&report, &file).expect("in a descriptor");
        assert_eq!(std::fs::read(&path).expect("the file"), bytes);

        let mut stream = client.open(&report).expect("a stream");
        assert_eq!(stream.info().filename, about.filename);
        let mut copied = Vec::new();
        assert_eq!(stream.read(&mut []).expect("no room"), 0);
        io::copy(&mut stream, &mut copied).expect("all of it");
        assert_eq!(copied, bytes);
        assert_eq!(stream.read(&mut [0]).expect("still the end"), 0);
    }
}

#[test]
fn language_and_project_of_call_are_sent() {
    let fixture = Fixture::new();
    let info = fixture.zip();
    let report = fixture.report(&info.id);
    let chinese = report.clone().locale(Locale::ZhCn);
    assert!(fixture.client.download(&chinese).expect("a report") == info.bytes(Language::ZhCn));
    assert!(fixture.client.download(&report).expect("a report") == info.bytes(Language::EnUs));

    let elsewhere = fixture.client.with_project("f".repeat(32).as_str());
    assert_eq!(status(elsewhere.download(&report)), Status::Forbidden);
    let error = fixture.client.with_project("short").download(&report);
    assert_eq!(error.expect_err("no id").parameter(), Some("project"));
}

#[test]
fn invalid_ids_fail_before_any_request() {
    let fixture = Fixture::new();
    let instance = fixture.service.value("instance_id");
    for (report, parameter) in [
        (Report::new("short", "WN5vPZABfnhLbJrRsvAT"), "instance"),
        (Report::new(instance, "../../elsewhere"), "id"),
    ] {
        for outcome in [
            fixture.client.download(&report).map(drop),
            fixture.client.open(&report).map(drop),
            fixture.client.wait(&report),
            fixture.client.delete(&report),
        ] {
            let error = outcome.expect_err("no id");
            assert_eq!((error.status(), error.attempts()), (Status::InvalidId, 0));
            assert_eq!(error.parameter(), Some(parameter));
        }
    }
    assert_eq!(fixture.service.connections(), 0);
}

#[test]
fn failing_writer_is_the_cause_of_the_error() {
    struct Failing(u64);
    impl Write for Failing {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0 += buf.len() as u64;
            match self.0 {
                0..100_000 => Ok(buf.len()),
                _ => Err(io::Error::other("the tape is torn")),
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let fixture = Fixture::new();
    let (_, report) = fixture.add(3_000_000);
    let operation = dbss::Operation::new();
    let error = fixture
        .client
        .with_operation(&operation)
        .download_to_writer(&report, Failing(0))
        .expect_err("torn");
    assert_eq!(error.status(), Status::File);
    assert!(error.message().contains("the tape is torn"), "{error}");
    let cause = std::error::Error::source(&error).expect("a cause");
    assert_eq!(cause.to_string(), "the tape is torn");
    assert_eq!(
        operation.error().map(|e| e.message().to_owned()).as_deref(),
        Some(error.message())
    );
    assert_eq!(fixture.service.requests(None).len(), 1, "not tried again");
}

#[test]
fn existing_file_is_kept_or_replaced() {
    let fixture = Fixture::new();
    let info = fixture.pdf();
    let report = fixture.report(&info.id);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("report.pdf");
    std::fs::write(&path, "old").expect("a file");
    let error = fixture
        .client
        .download_to_file(&report, &path, Overwrite::No)
        .expect_err("it exists");
    assert_eq!(error.status(), Status::FileExists);
    assert_eq!(error.path(), Some(path.as_path()));
    assert_eq!(std::fs::read(&path).expect("the file"), b"old");
    fixture
        .client
        .download_to_file(&report, &path, Overwrite::Yes)
        .expect("replaced");
    assert!(std::fs::read(&path).expect("the file") == info.bytes(Language::EnUs));
    let error = fixture.client.download_to_file(&report, "", Overwrite::No);
    assert_eq!(error.expect_err("no path").parameter(), Some("path"));
}

#[test]
fn connection_is_reused_for_many_calls() {
    let fixture = Fixture::new();
    let report = fixture.report(&fixture.zip().id);
    for _ in 0..5 {
        fixture.client.clone().download(&report).expect("a report");
    }
    assert_eq!(fixture.service.connections(), 1);
}

#[test]
fn idle_connection_closed_by_server_is_replaced() {
    let fixture = Fixture::new();
    let id = fixture.pdf().id;
    let report = fixture.report(&id);
    fixture.client.download(&report).expect("a first report");
    for fault in ["close_before_response", "reset_before_response"] {
        fixture.fault(&id, json!({"times": 1, fault: true}));
        fixture
            .client
            .download(&report)
            .expect("a report on a new connection");
    }
    assert_eq!(fixture.service.connections(), 3);

    // On a new connection the same is a failure, and is told after one attempt.
    let fresh = Fixture::with(|builder, service| builder.token(service.value("token")).max_attempts(1));
    let id = fresh.pdf().id;
    fresh.fault(&id, json!({"close_before_response": true}));
    let error = fresh.client.download(&fresh.report(&id)).expect_err("closed");
    assert_eq!((error.status(), error.attempts()), (Status::ConnectionLost, 1));
}

#[test]
fn broken_transfer_resumes() {
    let fixture = Fixture::new();
    let size = 3_000_000;
    let (info, report) = fixture.add(size);
    let cut = json!({"cut_after": 1_200_000, "times": 1});
    fixture.fault(&info.id, cut.clone());
    let bytes = fixture.client.download(&report).expect("a report");
    assert!(bytes == info.bytes(Language::EnUs));
    let requests = fixture.service.requests(Some(&info.id));
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].header("range"), Some("bytes=1200000-"));
    assert_eq!(requests[1].header("if-range"), Some(info.etag(Language::EnUs)));
    assert_eq!(requests.iter().map(|r| r.sent).sum::<u64>(), size);

    // A writer and a stream cannot forget, and need not.
    for _ in 0..2 {
        fixture.fault(&info.id, cut.clone());
        let mut written = Vec::new();
        fixture
            .client
            .download_to_writer(&report, &mut written)
            .expect("a report");
        assert!(written == bytes);
        fixture.fault(&info.id, cut.clone());
        written.clear();
        let mut stream = fixture.client.open(&report).expect("a stream");
        stream.read_to_end(&mut written).expect("a report");
        assert!(written == bytes);
    }
}

#[test]
fn restarted_body_that_breaks_at_once_restarts() {
    let fixture = Fixture::with(|builder, service| builder.token(service.value("token")).max_attempts(5));
    let (info, report) = fixture.add(3_000_000);
    // The second attempt gets the whole body anew, and breaks before anything of
    // it is handed on: the third must know that what came first is void.
    for fault in [
        json!({"cut_after": 2_000_000, "times": 1}),
        json!({"cut_after": 3, "ranges": false, "times": 1}),
    ] {
        fixture.fault(&info.id, fault);
    }
    let bytes = fixture.client.download(&report).expect("a report");
    assert!(bytes == info.bytes(Language::EnUs));
}

#[test]
fn stream_not_resumable_is_in_io_error() {
    let fixture = Fixture::new();
    let (info, report) = fixture.add(3_000_000);
    fixture.fault(&info.id, json!({"cut_after": 1_000_000, "no_etag": true}));
    let mut stream = fixture.client.open(&report).expect("a stream");
    let error = io::copy(&mut stream, &mut io::sink()).expect_err("it broke");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    let held = dbss::Error::from_io(&error).expect("an error of the library");
    assert_eq!(held.status(), Status::Truncated);
    let again = stream.read(&mut [0; 10]).expect_err("a failure stays");
    assert_eq!(again.to_string(), error.to_string());
}
