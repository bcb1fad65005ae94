//! What the mock service refuses: a lax one would hide faults of its clients. That it does what
//! its documents say is shown by the official SDKs and by the tests of libdbss.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use dbss_mock::MockService;
use serde_json::{Value, json};

/// Listener, method, target, headers and body of a request; the status of its response, and what
/// the body has.
type Row<'a> = (
    &'a str,
    &'a str,
    &'a str,
    &'a [(&'a str, &'a str)],
    &'a str,
    u16,
    &'a str,
);

/// The status and the body of the response to a request that is sent as it is.
fn send(url: &str, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let address = url.rsplit('/').next().unwrap();
    let mut tcp = TcpStream::connect(address).unwrap();
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
    tcp.write_all(text.as_bytes()).unwrap();
    let mut response = String::new();
    tcp.read_to_string(&mut response).unwrap();
    let status = response[9..12].parse().unwrap();
    let (_, body) = response.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}

#[test]
fn wrong_requests_are_refused() {
    let mock = MockService::start().unwrap();
    let value = |name| mock.value(name);
    let (token, project, instance) = (value("token"), value("project_id"), value("instance_id"));
    let with_token = [("X-Auth-Token", token), ("Content-Type", "application/json")];
    let no_type = [("X-Auth-Token", token)];
    let wrong_token = [("X-Auth-Token", "wrong")];
    let type_alone = [("Content-Type", "application/json")];
    let key = [("X-Metadata-Token", "wrong")];
    let reports = format!("/v1/{project}/audit/{instance}/reports/list");
    let download =
        |id: &str, query: &str| format!("/v1/{project}/audit/{instance}/reports/{id}/download{query}");
    let pdf = mock.ready()["reports"][0]["id"].as_str().unwrap();
    let login = |user: Value| {
        json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": value("region")}},
        }})
        .to_string()
    };
    let user = json!({
        "name": value("user"), "password": value("password"), "domain": {"name": value("domain")},
    });
    let mut wrong_user = user.clone();
    wrong_user["password"] = json!("wrong");
    let mut odd_user = user.clone();
    odd_user["nickname"] = json!("odd");
    let page = r#"{"page": 1, "size": 10}"#;
    let (good, bad, odd) = (login(user), login(wrong_user), login(odd_user));
    #[rustfmt::skip]
    let rows: &[Row] = &[
        ("http", "POST", &reports, &with_token, page, 200, ""),
        ("http", "POST", &reports, &no_type, page, 400, "DBSS.10000001"),
        ("http", "POST", &reports, &with_token, "{}", 400, "DBSS.10000001"),
        ("http", "POST", &reports, &with_token, r#"{"page": 0, "size": 10}"#, 400, "DBSS.10000001"),
        ("http", "POST", &reports, &with_token, r#"{"page": 1, "size": 0}"#, 400, "DBSS.10000001"),
        ("http", "POST", &reports, &with_token, r#"{"page": 1, "size": 1001}"#, 200, ""),
        ("http", "POST", &reports, &with_token, r#"{"page": 1, "size": 10, "odd": 1}"#, 400, "DBSS.10000001"),
        ("http", "POST", &reports, &type_alone, page, 401, "APIG.0301"),
        ("http", "POST", &reports, &wrong_token, page, 401, "APIG.0301"),
        ("http", "PUT", &reports, &with_token, page, 404, "APIG.0101"),
        ("http", "GET", &download(pdf, "?local=de-de"), &with_token, "", 400, "DBSS.10000001"),
        ("http", "GET", &download(pdf, "?local=en-us&local=zh-cn"), &with_token, "", 400, "DBSS.10000001"),
        ("http", "GET", &download("short", ""), &with_token, "", 400, "DBSS.10020021"),
        ("http", "GET", &download(&"0".repeat(32), ""), &with_token, "", 404, "DBSS.10021004"),
        ("http", "GET", &format!("/v2/{}/audit/instances", "0".repeat(32)), &with_token, "", 403, ""),
        ("http", "GET", &format!("/v2/{project}/audit/instances?limit=1001"), &with_token, "", 400, "DBSS.10000001"),
        ("http", "POST", "/v3/auth/tokens", &with_token, &good, 404, "APIG.0101"),
        ("iam", "POST", "/v3/auth/tokens", &type_alone, &good, 201, "expires_at"),
        ("iam", "POST", "/v3/auth/tokens", &[], &good, 400, "IAM.0011"),
        ("iam", "POST", "/v3/auth/tokens", &type_alone, &odd, 400, "IAM.0011"),
        ("iam", "POST", "/v3/auth/tokens", &type_alone, &bad, 401, "wrong"),
        ("iam", "GET", "/v3/projects", &wrong_token, "", 401, "error"),
        ("iam", "GET", &format!("/v2/{project}/audit/instances"), &with_token, "", 404, "error"),
        ("metadata", "PUT", "/meta-data/latest/api/token", &[], "", 400, ""),
        ("metadata", "GET", "/openstack/latest/securitykey", &key, "", 401, ""),
        ("metadata", "POST", "/v1/pod/credentials", &[("Authorization", "wrong")], "", 401, ""),
        ("proxy", "GET", "/", &[], "", 405, ""),
        ("control", "GET", "/nothing", &[], "", 404, "error"),
        ("control", "POST", "/faults", &[], r#"{"report": "*", "odd": 1}"#, 400, "odd"),
        ("control", "POST", "/faults", &[], r#"{"report": "@nothing"}"#, 400, "@nothing"),
        ("control", "POST", "/faults", &[], r#"{"report": "*", "cut_after": 1, "stall_after": 1}"#, 400, "only one of"),
        ("control", "POST", "/paging", &[], r#"{"odd": 1}"#, 400, "odd"),
    ];
    for (listener, method, target, headers, body, status, has) in rows {
        let found = send(mock.value(listener), method, target, headers, body);
        assert_eq!(found.0, *status, "{method} {target}: {}", found.1);
        assert!(found.1.contains(has), "{method} {target}: {}", found.1);
    }
}

#[test]
fn program_ends_with_its_standard_input() {
    let program = || Command::new(env!("CARGO_BIN_EXE_dbss-mock"));
    let mut child = program()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdin.take());
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success());
    let ready: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(ready["http"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    assert_eq!(program().arg("--odd").output().unwrap().status.code(), Some(2));
}
