//! The C ABI, called from Rust, against the stand-in service in this process.

use std::ffi::{CStr, CString, c_char};
use std::ptr;

// The package makes C libraries, and none that Rust could link.
#[path = "../src/ffi/lib.rs"]
#[allow(dead_code)]
mod ffi;

use dbss_standin::{Format, Locale, Standin};
use ffi::buffer::*;
use ffi::config::*;
use ffi::context::*;
use ffi::error::*;
use ffi::report::*;
use ffi::status::*;
use serde_json::json;

// The header has them from the table of statuses.
const DBSS_OK: dbss_status = dbss::Status::Ok as dbss_status;
const DBSS_ERR_CONNECTION_LOST: dbss_status = dbss::Status::ConnectionLost as dbss_status;
const DBSS_ERR_UNAUTHENTICATED: dbss_status = dbss::Status::Unauthenticated as dbss_status;

fn c(text: &str) -> CString {
    CString::new(text).expect("no NUL")
}

fn text(pointer: *const c_char) -> Option<String> {
    // SAFETY: getters give NULL or a string that lives as long as the error.
    (!pointer.is_null()).then(|| {
        unsafe { CStr::from_ptr(pointer) }
            .to_str()
            .expect("UTF-8")
            .to_owned()
    })
}

/// A context on the stand-in, freed at the end.
struct Context(*mut dbss_context);

impl Context {
    fn new(endpoint: &str, token: &str, options: &[(&str, &str)]) -> Context {
        // SAFETY: a live configuration and a valid string.
        let set = |config| unsafe { dbss_config_set_token(config, c(token).as_ptr()) };
        Context::with(endpoint, set, options)
    }

    fn signing(endpoint: &str, key: &str, secret: &str, options: &[(&str, &str)]) -> Context {
        // SAFETY: a live configuration and valid strings.
        let set = |config| unsafe {
            dbss_config_set_access_key(config, c(key).as_ptr(), c(secret).as_ptr(), ptr::null())
        };
        Context::with(endpoint, set, options)
    }

    fn with(
        endpoint: &str,
        credential: impl FnOnce(*mut dbss_config) -> dbss_status,
        options: &[(&str, &str)],
    ) -> Context {
        let mut config = ptr::null_mut();
        let mut context = ptr::null_mut();
        // SAFETY: valid pointers and strings, freed once.
        unsafe {
            assert_eq!(dbss_config_new(&mut config), DBSS_OK);
            assert_eq!(dbss_config_set_endpoint(config, c(endpoint).as_ptr()), DBSS_OK);
            assert_eq!(credential(config), DBSS_OK);
            for (key, value) in options {
                assert_eq!(
                    dbss_config_set(config, c(key).as_ptr(), c(value).as_ptr()),
                    DBSS_OK
                );
            }
            assert_eq!(dbss_context_new(config, &mut context), DBSS_OK);
            dbss_config_free(config);
        }
        Context(context)
    }

    fn download(&self, standin: &Standin, id: &str) -> Result<Vec<u8>, Failure> {
        // Garbage, to see that it is overwritten.
        let mut buffer = dbss_buffer {
            data: ptr::dangling_mut(),
            len: 77,
        };
        // SAFETY: a live context, valid strings, a writable buffer.
        let status = unsafe {
            dbss_report_download(
                self.0,
                c(standin.project_id()).as_ptr(),
                c(standin.instance_id()).as_ptr(),
                c(id).as_ptr(),
                ptr::null(),
                &mut buffer,
            )
        };
        let error = dbss_last_error();
        if status == DBSS_OK {
            assert!(error.is_null());
            // SAFETY: on success the buffer holds `len` bytes until it is freed.
            let bytes = unsafe { std::slice::from_raw_parts(buffer.data, buffer.len) }.to_vec();
            // SAFETY: filled by the library, freed once.
            unsafe { dbss_buffer_free(&mut buffer) };
            assert!(buffer.data.is_null() && buffer.len == 0);
            return Ok(bytes);
        }
        assert!(buffer.data.is_null() && buffer.len == 0);
        // SAFETY: this thread's last error, until its next call.
        unsafe {
            assert_eq!(dbss_error_status(error), status);
            Err(Failure {
                status,
                attempts: dbss_error_attempts(error),
                texts: [
                    text(dbss_error_message(error)),
                    text(dbss_error_service_message(error)),
                    text(dbss_error_request_id(error)),
                    text(dbss_error_detail_message(error, 0)),
                ],
            })
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: made by dbss_context_new, freed once.
        unsafe { dbss_context_free(self.0) };
    }
}

#[derive(Debug)]
struct Failure {
    status: dbss_status,
    attempts: u32,
    texts: [Option<String>; 4],
}

#[test]
fn a_report_arrives_plain_and_under_tls() {
    let standin = Standin::start().expect("loopback");
    let ca = standin.ca_file().to_str().expect("a UTF-8 path").to_owned();
    for (endpoint, options) in [
        (standin.http_url(), vec![]),
        (standin.https_url(), vec![("ca_file", ca.as_str())]),
    ] {
        let context = Context::new(endpoint, standin.token(), &options);
        let pdf = context.download(&standin, &standin.pdf().id).expect("a report");
        assert!(pdf.starts_with(b"%PDF-"));
        assert_eq!(pdf, standin.pdf().bytes(Locale::EnUs));
    }
}

#[test]
fn one_connection_serves_many_calls() {
    let standin = Standin::start().expect("loopback");
    let context = Context::new(standin.http_url(), standin.token(), &[]);
    for _ in 0..5 {
        context.download(&standin, &standin.zip().id).expect("a report");
    }
    assert_eq!(standin.connections().total, 1);
}

#[test]
fn a_kept_connection_that_the_server_closed_is_no_failure() {
    let standin = Standin::start().expect("loopback");
    let context = Context::new(standin.http_url(), standin.token(), &[]);
    let id = standin.pdf().id;
    context.download(&standin, &id).expect("a first report");
    for fault in ["close_before_answer", "reset_before_answer"] {
        standin
            .fault_json(&id, json!({"times": 1, fault: true}))
            .expect("a fault");
        context
            .download(&standin, &id)
            .expect("a report on a new connection");
    }
    assert_eq!(standin.connections().total, 3);

    // On a new connection the same is a failure, and is told after one attempt.
    let once = [("max_attempts", "1")];
    let fresh = Context::new(standin.http_url(), standin.token(), &once);
    standin
        .fault_json(&id, json!({"close_before_answer": true}))
        .expect("a fault");
    let failure = fresh.download(&standin, &id).expect_err("closed");
    assert_eq!((failure.status, failure.attempts), (DBSS_ERR_CONNECTION_LOST, 1));
}

#[test]
fn a_token_that_the_service_echoes_is_in_no_text_of_the_error() {
    let standin = Standin::start().expect("loopback");
    let token = "MIIE/+=".repeat(300);
    let context = Context::new(standin.http_url(), &token, &[("max_attempts", "1")]);
    let id = standin.pdf().id;
    for fault in [
        json!({"status": 401, "json": {"error_code": "APIG.0301", "error_msg": format!("bad {token}!"),
            "details": [{"error_msg": token}]}, "headers": [["X-Request-Id", token]]}),
        json!({"status": 500, "body": format!("cannot parse {token}")}),
        json!({"status": 302, "headers": [["Location", format!("http://127.0.0.1/{token}")], ["X-Request-Id", token]]}),
        json!({"status": 200, "headers": [["Content-Encoding", token]]}),
    ] {
        standin.clear_faults();
        standin.fault_json(&id, fault).expect("a fault");
        let failure = context.download(&standin, &id).expect_err("refused");
        for said in failure.texts.iter().flatten() {
            assert!(!said.contains("MIIE/+=MIIE"), "{said}");
        }
        assert!(failure.texts[0].is_some());
    }
}

#[test]
fn a_transfer_that_breaks_goes_on_where_it_broke() {
    let standin = Standin::start().expect("loopback");
    let context = Context::new(standin.http_url(), standin.token(), &[]);
    let size = 3_000_000;
    let report = standin.add_report(Format::Bytes, Some(size));
    standin
        .fault_json(&report.id, json!({"cut_after": 1_200_000, "times": 1}))
        .expect("a fault");
    let bytes = context.download(&standin, &report.id).expect("a report");
    assert!(bytes == report.bytes(Locale::EnUs));
    let requests = standin.requests_for(&report.id);
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].header("range"), Some("bytes=1200000-"));
    assert_eq!(requests[1].header("if-range"), Some(report.etag(Locale::EnUs)));
    assert_eq!(requests.iter().map(|r| r.sent).sum::<u64>(), size);
}

#[test]
fn a_body_that_began_again_and_broke_at_once_begins_again() {
    let standin = Standin::start().expect("loopback");
    let context = Context::new(standin.http_url(), standin.token(), &[("max_attempts", "5")]);
    let report = standin.add_report(Format::Bytes, Some(3_000_000));
    // The second attempt gets the whole body anew, and breaks before anything of
    // it is handed on: the third must know that what came first is void.
    for fault in [
        json!({"cut_after": 2_000_000, "times": 1}),
        json!({"cut_after": 3, "ranges": false, "times": 1}),
    ] {
        standin.fault_json(&report.id, fault).expect("a fault");
    }
    let bytes = context.download(&standin, &report.id).expect("a report");
    assert!(bytes == report.bytes(Locale::EnUs));
}

#[test]
fn an_access_key_signs_each_request_and_a_wrong_one_is_tried_once() {
    let standin = Standin::start().expect("loopback");
    let (key, secret) = (standin.access_key(), standin.secret_key());
    let id = standin.zip().id;
    let context = Context::signing(standin.http_url(), key, secret, &[]);
    assert_eq!(
        context.download(&standin, &id).expect("a report"),
        standin.zip().bytes(Locale::EnUs)
    );
    // A transfer that is resumed is signed anew.
    let report = standin.add_report(Format::Bytes, Some(3_000_000));
    standin
        .fault_json(&report.id, json!({"cut_after": 1_000_000, "times": 1}))
        .expect("a fault");
    context.download(&standin, &report.id).expect("a report");
    assert!(
        standin
            .requests_for(&report.id)
            .iter()
            .all(|r| r.header("authorization").is_some() && r.header("x-auth-token").is_none())
    );

    standin.clear_requests();
    let wrong = Context::signing(standin.http_url(), key, "not-the-secret", &[]);
    let failure = wrong.download(&standin, &id).expect_err("refused");
    assert_eq!((failure.status, failure.attempts), (DBSS_ERR_UNAUTHENTICATED, 1));
    assert_eq!(standin.requests_for(&id).len(), 1);
    for said in failure.texts.iter().flatten() {
        assert!(!said.contains("not-the-secret"), "{said}");
    }
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_origin() {
    let standin = Standin::start().expect("loopback");
    let id = standin.pdf().id;
    let follow = [("follow_redirects", "true"), ("max_attempts", "1")];
    let token = Context::new(standin.http_url(), standin.token(), &follow);
    let signing = Context::signing(
        standin.http_url(),
        standin.access_key(),
        standin.secret_key(),
        &follow,
    );
    for context in [&token, &signing] {
        for (origin, arrives) in [(standin.http_url(), true), (standin.http_other_url(), false)] {
            standin.clear_requests();
            let path = format!(
                "/v1/{}/audit/{}/reports/{id}/download?local=zh-cn",
                standin.project_id(),
                standin.instance_id()
            );
            let fault =
                json!({"status": 302, "headers": [["Location", format!("{origin}{path}")]], "times": 1});
            standin.fault_json(&id, fault).expect("a fault");
            let outcome = context.download(&standin, &id);
            let second = &standin.requests_for(&id)[1];
            assert_eq!(second.query, "local=zh-cn");
            let secrets = ["x-auth-token", "authorization", "x-sdk-date"];
            assert_eq!(secrets.iter().any(|name| second.header(name).is_some()), arrives);
            match outcome {
                Ok(report) => assert!(arrives && report == standin.pdf().bytes(Locale::ZhCn)),
                Err(failure) => assert_eq!((arrives, failure.status), (false, DBSS_ERR_UNAUTHENTICATED)),
            }
        }
    }
}
