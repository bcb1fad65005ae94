//! The program, and the control address as any client sees it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use dbss_mock::MockService;
use serde_json::{Value, json};

use crate::common::{self, Call, ahead, exchange, header, split};

/// Asks as the simplest of clients does.
fn control(url: &str, method: &str, path: &str, body: &str) -> (String, Value) {
    let length = body.len();
    let text = format!("{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}");
    let (head, body) = split(&exchange(url, &text).0);
    let status = head.split(' ').nth(1).unwrap().to_owned();
    (status, serde_json::from_slice(&body).unwrap())
}

#[test]
fn program_prints_ready_line_and_ends_with_stdin() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dbss-mock"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    let (status, state) = control(ready["control"].as_str().unwrap(), "GET", "/state", "");
    assert_eq!((status.as_str(), &state), ("200", &ready));
    assert_eq!(ready["project_id"].as_str().unwrap().len(), 32);
    assert_eq!(ready["instance_id"].as_str().unwrap().len(), 36);
    for key in [
        "http_other",
        "https_other",
        "proxy",
        "never_accepts",
        "iam",
        "iam_https",
        "metadata",
    ] {
        assert!(ready[key].as_str().unwrap().starts_with("http"), "{key}");
    }
    for key in ["user", "password", "domain"] {
        assert!(ready[key].as_str().unwrap().len() > 12, "{key}");
    }
    assert_eq!(ready["region"], "cn-north-4");
    assert_eq!(ready["templates"][0]["type"], "COMPREHENSIVE");
    assert_eq!(ready["reports"][0]["format"], "pdf");
    assert_eq!(ready["reports"][1]["format"], "zip");
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    line.clear();
    assert_eq!(out.read_line(&mut line).unwrap(), 0);
}

#[test]
fn invalid_options_are_refused() {
    let run = |option: &str| {
        Command::new(env!("CARGO_BIN_EXE_dbss-mock"))
            .arg(option)
            .output()
            .unwrap()
    };
    let bad = run("--nonsense");
    assert_eq!(bad.status.code(), Some(2));
    assert!(String::from_utf8(bad.stderr).unwrap().contains("--nonsense"));
    assert!(bad.stdout.is_empty());
    assert!(run("--help").stdout.starts_with(b"Usage: dbss-mock"));
}

#[test]
fn control_address_offers_library_functions() {
    let mock = MockService::start().unwrap();
    let ask = |method: &str, path: &str, body: Value| {
        let (status, value) = control(mock.control_url(), method, path, &body.to_string());
        assert_eq!(status, "200", "{value}");
        value
    };
    let report = ask(
        "POST",
        "/reports",
        json!({"format": "zip", "size": 100_000, "name": "n"}),
    );
    assert_eq!(report["sizes"], json!({"en-us": 100_000, "zh-cn": 100_000}));
    assert_eq!(report["name"], "n");
    assert_eq!(
        ask("POST", "/tokens", json!({"token": "x"})),
        json!({"tokens": 2})
    );
    assert_eq!(
        ask("DELETE", "/tokens", json!({"token": "x"})),
        json!({"tokens": 1})
    );

    let id = report["id"].as_str().unwrap();
    let changed = ask("POST", "/versions", json!({"report": id}));
    assert_eq!(
        (&changed["version"], &changed["sizes"]),
        (&json!(1), &report["sizes"])
    );
    assert_ne!(changed["sha256"], report["sha256"]);
    ask("POST", "/faults", json!({"report": id, "status": 503}));
    let path = common::path(&mock, id);
    let get = format!("GET {path} HTTP/1.0\r\n\r\n");
    assert!(exchange(mock.http_url(), &get).0.starts_with(b"HTTP/1.1 503 "));
    ask("DELETE", &format!("/faults?report={id}"), json!({}));
    assert!(exchange(mock.http_url(), &get).0.starts_with(b"HTTP/1.1 401 "));

    let requests = ask("GET", &format!("/requests?report={id}"), json!({}));
    assert_eq!(
        (&requests[0]["status"], &requests[0]["sent"]),
        (&json!(503), &json!(0))
    );
    assert_eq!(requests[1]["path"], json!(path));
    assert_eq!(requests[1]["headers"], json!([]));
    assert_eq!(ask("GET", "/requests?report=other", json!({})), json!([]));
    ask("DELETE", "/requests", json!({}));
    assert_eq!(ask("GET", "/requests", json!({})), json!([]));

    ask(
        "POST",
        "/listener_faults",
        json!({"listener": "http", "mode": "accept_close"}),
    );
    assert!(exchange(mock.http_url(), &get).0.is_empty());
    ask("DELETE", "/listener_faults", json!({}));
    let connections = ask("GET", "/connections", json!({}));
    assert_eq!(
        (&connections["http"], &connections["total"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(
        (&connections["https"], &connections["tls_failures"]),
        (&json!(0), &json!(0))
    );
}

#[test]
fn control_address_configures_iam_and_metadata() {
    let mock = MockService::start().unwrap();
    let ask = |method: &str, path: &str, body: Value| {
        let (status, value) = control(mock.control_url(), method, path, &body.to_string());
        assert_eq!(status, "200", "{value}");
        value
    };
    let user = json!({
        "name": mock.user(), "password": mock.password(), "domain": {"name": mock.domain()},
    });
    let scope = json!({"project": {"name": mock.region()}});
    let identity = json!({"methods": ["password"], "password": {"user": user}});
    let login = json!({"auth": {"identity": identity, "scope": scope}});
    let login = Call::new("POST", "/v3/auth/tokens").json(&login);
    let token = || {
        let reply = login.send(mock.iam_url());
        (
            ahead(&reply.json()["token"]["expires_at"]),
            header(&reply.head, "X-Subject-Token").unwrap().to_owned(),
        )
    };
    let status = |token: &str| {
        let call = Call::new("GET", "/v3/projects").header("X-Auth-Token", token);
        call.send(mock.iam_url()).status
    };
    ask(
        "POST",
        "/iam",
        json!({"token_lifetime_ms": 60_000, "announced_lifetime_ms": 3_600_000}),
    );
    let (announced, first) = token();
    assert!(announced > 3590.0);
    ask("POST", "/iam", json!({}));
    let (announced, second) = token();
    assert!(announced > 86_390.0, "the default again");
    assert_eq!((status(&first), status(&second)), (200, 200));
    assert_eq!(
        ask("DELETE", "/tokens", json!({"token": first})),
        json!({"tokens": 2})
    );
    assert_eq!(
        ask("DELETE", "/tokens", json!({"issued": true})),
        json!({"tokens": 1})
    );
    assert_eq!((status(&first), status(&second)), (401, 401));
    let requests = ask("GET", "/requests?report=%40iam.tokens", json!({}));
    assert_eq!(
        (requests[1]["listener"].as_str(), &requests[1]["body"]),
        (Some("iam"), &json!(login.body))
    );

    let added = ask("POST", "/projects", json!({"name": "cn-north-4"}));
    assert_ne!(added["id"], json!(mock.project_id()));
    let count = || {
        let call = Call::new("GET", "/v3/projects?name=cn-north-4").header("X-Auth-Token", mock.token());
        call.send(mock.iam_url()).json()["projects"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(count(), 2);
    ask("DELETE", "/projects", json!({}));
    assert_eq!(count(), 1);

    let key = || Call::new("GET", "/openstack/latest/securitykey").send(mock.metadata_url());
    ask(
        "POST",
        "/metadata",
        json!({"require_token": false, "key_lifetime_ms": 60_000}),
    );
    assert!((50.0..60.1).contains(&ahead(&key().json()["credential"]["expires_at"])));
    assert_eq!(ask("DELETE", "/metadata/keys", json!({})), json!({"revoked": 1}));
    ask(
        "POST",
        "/metadata",
        json!({"require_token": false, "agency": false}),
    );
    assert_eq!(key().status, 404);
    ask("POST", "/metadata", json!({}));
    assert_eq!(key().status, 401);
    ask("DELETE", "/metadata/tokens", json!({}));
    ask(
        "POST",
        "/faults",
        json!({"report": "@metadata.key", "status": 500}),
    );
    assert_eq!(key().status, 500);
    ask("DELETE", "/faults?report=@metadata.key", json!({}));
    assert_eq!(key().status, 401);
}

#[test]
fn control_address_describes_invalid_input() {
    let mock = MockService::start().unwrap();
    let wrong = |method: &str, path: &str, body: &str, status: &str, word: &str| {
        let (got, value) = control(mock.control_url(), method, path, body);
        assert_eq!(got, status);
        let error = value["error"].as_str().unwrap();
        assert!(error.contains(word), "{error}");
    };
    wrong(
        "POST",
        "/faults",
        r#"{"report":"x","cut_afer":1}"#,
        "400",
        "cut_afer",
    );
    wrong("POST", "/faults", r#"{"cut_after":1}"#, "400", "report");
    wrong("POST", "/faults", r#"{"report":"x","times":0}"#, "400", "times");
    wrong("POST", "/faults", "not json", "400", "body");
    wrong("POST", "/reports", r#"{"format":"doc"}"#, "400", "doc");
    wrong("POST", "/reports", r#"{"format":"pdf","size":10}"#, "400", "size");
    let taken = json!({"format": "pdf", "id": mock.pdf().id}).to_string();
    wrong("POST", "/reports", &taken, "400", "id");
    let two = json!({"format": "pdf", "id": "x", "count": 2}).to_string();
    wrong("POST", "/reports", &two, "400", "count");
    wrong("POST", "/reports", r#"{"format":"pdf","urls":1}"#, "400", "urls");
    wrong(
        "POST",
        "/reports",
        r#"{"format":"pdf","instance":"x"}"#,
        "400",
        "instance",
    );
    wrong("DELETE", "/reports", r#"{"id":"x"}"#, "400", "id");
    wrong("DELETE", "/reports", "{}", "400", "ids");
    let taken = json!({"id": mock.instance_id()}).to_string();
    wrong("POST", "/instances", &taken, "400", "id");
    wrong("POST", "/instances", r#"{"names":[]}"#, "400", "names");
    wrong("DELETE", "/instances", r#"{"id":"x","ids":[]}"#, "400", "either");
    wrong("POST", "/deletions", r#"{"ids":[]}"#, "400", "after_lists");
    wrong("POST", "/generation", r#"{"duration":1}"#, "400", "duration");
    wrong("POST", "/generation", r#"{"size":1}"#, "400", "size");
    wrong("POST", "/shapes", r#"{"instances":"list"}"#, "400", "list");
    wrong("POST", "/made", "", "405", "POST");
    wrong(
        "POST",
        "/faults",
        r#"{"report":"x","perform":true}"#,
        "400",
        "perform",
    );
    wrong("POST", "/versions", r#"{"report":"x"}"#, "400", "report");
    wrong("POST", "/versions", r#"{"id":"x"}"#, "400", "id");
    wrong("GET", "/versions", "", "405", "GET");
    wrong("DELETE", "/tokens", r#"{"token":"x"}"#, "400", "token");
    wrong("DELETE", "/tokens", r#"{"issued":false}"#, "400", "issued");
    wrong(
        "DELETE",
        "/tokens",
        r#"{"token":"x","issued":true}"#,
        "400",
        "either",
    );
    wrong("POST", "/iam", r#"{"lifetime":1}"#, "400", "lifetime");
    wrong("POST", "/metadata", r#"{"token":true}"#, "400", "token");
    wrong("POST", "/projects", "{}", "400", "name");
    wrong("GET", "/metadata/keys", "", "405", "GET");
    wrong("POST", "/faults", r#"{"report":"@iam"}"#, "400", "@iam");
    wrong(
        "POST",
        "/listener_faults",
        r#"{"listener":"ftp","mode":"accept_close"}"#,
        "400",
        "ftp",
    );
    wrong("GET", "/requests?id=1", "", "400", "report");
    wrong("GET", "/nothing", "", "404", "/nothing");
    wrong("PUT", "/state", "", "405", "PUT");
}
