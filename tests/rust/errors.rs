//! What an error says, and what it must not say.

use std::time::Duration;

use dbss::{Error, Status};
use dbss_mock::Locale as Language;
use serde_json::json;

use super::Fixture;

/// All that is text in an error.
fn texts(error: &Error) -> String {
    format!("{error} {error:?}")
}

#[test]
fn error_has_all_service_fields() {
    let fixture = Fixture::new();
    let id = fixture.pdf().id;
    fixture.fault(
        &id,
        json!({"status": 400, "headers": [["X-Request-Id", "req-0001"]], "json": {
            "error_code": "DBSS.10000001", "error_msg": "Invalid request message.",
            "encoded_authorization_message": "ENC+/=",
            "details": [{"error_code": "DBSS.10020021", "error_msg": "Invalid id"}]}}),
    );
    let error = fixture
        .client
        .download(&fixture.report(&id))
        .expect_err("refused");
    assert_eq!(error.status(), Status::BadRequest);
    assert_eq!(error.status().name(), "DBSS_ERR_BAD_REQUEST");
    assert_eq!(error.http_status(), Some(400));
    assert_eq!(error.service_code(), Some("DBSS.10000001"));
    assert_eq!(error.service_message(), Some("Invalid request message."));
    assert_eq!(error.request_id(), Some("req-0001"));
    assert_eq!(error.encoded_authorization_message(), Some("ENC+/="));
    assert_eq!(error.details().len(), 1);
    assert_eq!(error.details()[0].code.as_deref(), Some("DBSS.10020021"));
    assert_eq!(error.details()[0].message.as_deref(), Some("Invalid id"));
    assert_eq!(
        (error.parameter(), error.os_code(), error.retry_after()),
        (None, None, None)
    );
    assert_eq!((error.path(), error.redirect_target()), (None, None));
    assert_eq!((error.attempts(), error.is_retryable()), (1, false));
    assert!(error.candidates().is_empty());
    let text = error.to_string();
    assert!(
        text.contains("DBSS.10000001") && text.contains("req-0001"),
        "{text}"
    );
}

#[test]
fn error_details_have_their_own_fields() {
    let fixture = Fixture::with(|builder, service| builder.token(service.value("token")).max_attempts(1));
    let id = fixture.pdf().id;
    let report = fixture.report(&id);
    fixture.fault(
        &id,
        json!({"status": 429, "headers": [["Retry-After", "7"]], "times": 1}),
    );
    let error = fixture.client.download(&report).expect_err("throttled");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    assert!(error.is_retryable());

    fixture.fault(
        &id,
        json!({"status": 302, "headers": [["Location", "/elsewhere"]], "times": 1}),
    );
    let error = fixture.client.download(&report).expect_err("redirected");
    assert_eq!(error.status(), Status::Redirected);
    assert_eq!(error.redirect_target(), Some("/elsewhere"));
}

#[test]
fn echoed_token_is_redacted_in_error() {
    let token = "MIIE/+=".repeat(300);
    let fixture = Fixture::with(|builder, _| builder.token(&token).max_attempts(1));
    let id = fixture.pdf().id;
    for fault in [
        json!({"status": 401, "json": {"error_code": "APIG.0301", "error_msg": format!("bad {token}!"),
            "details": [{"error_msg": token}]}, "headers": [["X-Request-Id", token]]}),
        json!({"status": 500, "body": format!("cannot parse {token}")}),
        json!({"status": 302, "headers": [["Location", format!("http://127.0.0.1/{token}")], ["X-Request-Id", token]]}),
        json!({"status": 200, "headers": [["Content-Encoding", token]]}),
    ] {
        fixture.control("DELETE", "/faults", json!(null));
        fixture.fault(&id, fault);
        let error = fixture
            .client
            .download(&fixture.report(&id))
            .expect_err("refused");
        assert!(!texts(&error).contains("MIIE/+=MIIE"), "{error:?}");
    }
    let log = fixture.log.lock().expect("the log");
    assert!(!log.is_empty() && log.iter().all(|r| !format!("{r:?}").contains("MIIE/+=MIIE")));
    assert!(!format!("{:?}", dbss::Client::builder().token(&token)).contains("MIIE"));
}

#[test]
fn wrong_access_key_is_tried_once() {
    let fixture = Fixture::with(|builder, service| {
        builder.access_key(service.value("access_key"), service.value("secret_key"), None)
    });
    // A transfer that is resumed is signed anew.
    let (info, report) = fixture.add(3_000_000);
    fixture.fault(&info.id, json!({"cut_after": 1_000_000, "times": 1}));
    let bytes = fixture.client.download(&report).expect("a report");
    assert!(bytes == info.bytes(Language::EnUs));
    let requests = fixture.service.requests(Some(&info.id));
    assert_eq!(requests.len(), 2);
    assert!(
        requests
            .iter()
            .all(|r| r.header("authorization").is_some() && r.header("x-auth-token").is_none())
    );

    let wrong = Fixture::with(|builder, service| {
        builder.access_key(service.value("access_key"), "not-the-secret", None)
    });
    let id = wrong.zip().id;
    let error = wrong.client.download(&wrong.report(&id)).expect_err("refused");
    assert_eq!((error.status(), error.attempts()), (Status::Unauthenticated, 1));
    assert_eq!(wrong.service.requests(Some(&id)).len(), 1);
    assert!(!texts(&error).contains("not-the-secret"), "{error:?}");
}

#[test]
fn redirect_to_other_origin_sends_no_credentials() {
    for signing in [false, true] {
        let fixture = Fixture::with(|builder, service| {
            let builder = builder.option("follow_redirects", "true").max_attempts(1);
            match signing {
                true => builder.access_key(service.value("access_key"), service.value("secret_key"), None),
                false => builder.token(service.value("token")),
            }
        });
        let service = &fixture.service;
        let id = fixture.pdf().id;
        for (origin, arrives) in [
            (service.value("http"), true),
            (service.value("http_other"), false),
        ] {
            fixture.control("DELETE", "/requests", json!(null));
            let (project, instance) = (service.value("project_id"), service.value("instance_id"));
            let location =
                format!("{origin}/v1/{project}/audit/{instance}/reports/{id}/download?local=zh-cn");
            fixture.fault(
                &id,
                json!({"status": 302, "headers": [["Location", location]], "times": 1}),
            );
            let outcome = fixture.client.download(&fixture.report(&id));
            let second = &service.requests(Some(&id))[1];
            assert_eq!(second.query, "local=zh-cn");
            let secrets = ["x-auth-token", "authorization", "x-sdk-date"];
            assert_eq!(secrets.iter().any(|name| second.header(name).is_some()), arrives);
            match outcome {
                Ok(bytes) => assert!(arrives && bytes == fixture.pdf().bytes(Language::ZhCn)),
                Err(e) => assert_eq!((arrives, e.status()), (false, Status::Unauthenticated)),
            }
        }
    }
}
