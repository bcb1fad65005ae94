//! What the instance metadata service answers, and what its keys are good for.

use std::collections::HashSet;

use dbss_mock::{ListenerFault, MetadataSettings, MockService};
use serde_json::{Value, json};

use crate::common::{Call, Reply, ahead, exchange, header, path};

const TTL: &str = "X-Metadata-Token-Ttl-Seconds";

fn session(mock: &MockService, ttl: &str) -> Reply {
    Call::new("PUT", "/meta-data/latest/api/token")
        .header(TTL, ttl)
        .send(mock.metadata_url())
}

fn ask(mock: &MockService, token: Option<&str>) -> Reply {
    let call = Call::new("GET", "/openstack/latest/securitykey");
    let call = token
        .into_iter()
        .fold(call, |call, token| call.header("X-Metadata-Token", token));
    call.send(mock.metadata_url())
}

/// A new key: its id, its secret and its token.
fn key(mock: &MockService) -> [String; 3] {
    let token = session(mock, "21600");
    let reply = ask(mock, Some(token.text()));
    assert_eq!(reply.status, 200);
    let json = reply.json();
    ["access", "secret", "securitytoken"].map(|name| json["credential"][name].as_str().unwrap().to_owned())
}

fn download(mock: &MockService, access: &str, secret: &str, token: &str) -> u16 {
    Call::new("GET", &path(mock, &mock.pdf().id))
        .header("X-Project-Id", mock.project_id())
        .header("X-Security-Token", token)
        .signed(access, secret, 0)
        .send(mock.http_url())
        .status
}

#[test]
fn session_token_returns_new_keys_each_time() {
    let mock = MockService::start().unwrap();
    let token = session(&mock, "60");
    assert_eq!(token.status, 200);
    assert_eq!(header(&token.head, "Content-Type"), Some("text/plain"));
    let mut seen = HashSet::from([session(&mock, "60").text().to_owned()]);
    assert!(seen.insert(token.text().to_owned()));
    for _ in 0..2 {
        let reply = ask(&mock, Some(token.text()));
        let json = reply.json();
        let credential = json["credential"].as_object().unwrap();
        assert!((86_390.0..86_401.0).contains(&ahead(&credential["expires_at"])));
        for name in ["access", "secret", "securitytoken"] {
            assert!(
                seen.insert(credential[name].as_str().unwrap().to_owned()),
                "{name}"
            );
        }
    }
    let [access, secret, token] = key(&mock);
    assert_eq!(download(&mock, &access, &secret, &token), 200);
    let projects = Call::new("GET", "/v3/projects")
        .header("X-Security-Token", &token)
        .signed(&access, &secret, 0)
        .send(mock.iam_url());
    assert_eq!(projects.status, 200);
}

#[test]
fn invalid_requests_are_refused() {
    let mock = MockService::start().unwrap();
    for ttl in ["0", "21601", "-1", "", "x", "1.5"] {
        assert_eq!(session(&mock, ttl).status, 400, "{ttl}");
    }
    let without = Call::new("PUT", "/meta-data/latest/api/token").send(mock.metadata_url());
    assert_eq!(without.status, 400);
    for token in [None, Some("x")] {
        let reply = ask(&mock, token);
        assert_eq!((reply.status, reply.text()), (401, "401 Unauthorized"));
    }
    for (method, path, allow) in [
        ("GET", "/meta-data/latest/api/token", "PUT"),
        ("POST", "/openstack/latest/securitykey", "GET"),
    ] {
        let reply = Call::new(method, path).send(mock.metadata_url());
        assert_eq!((reply.status, header(&reply.head, "Allow")), (405, Some(allow)));
    }
    let [access, secret, token] = key(&mock);
    assert_eq!(download(&mock, &access, &secret, "other"), 401);
    assert_eq!(download(&mock, &access, "other", &token), 401);
    let bare = Call::new("GET", &path(&mock, &mock.pdf().id)).signed(&access, &secret, 0);
    assert_eq!(bare.send(mock.http_url()).status, 401, "no token");
    let unsigned = bare.header("X-Security-Token", &token);
    assert_eq!(unsigned.send(mock.http_url()).status, 401, "not signed");
}

#[test]
fn keys_and_session_tokens_expire() {
    let mock = MockService::start().unwrap();
    let settings = |key_lifetime_ms, announced_key_lifetime_ms| {
        mock.set_metadata(MetadataSettings {
            key_lifetime_ms,
            announced_key_lifetime_ms,
            ..MetadataSettings::default()
        });
        key(&mock)
    };
    let works = |[access, secret, token]: &[String; 3]| download(&mock, access, secret, token) == 200;
    assert!(!works(&settings(0, None)));
    assert!(!works(&settings(0, Some(60_000))));
    let good = settings(60_000, Some(-60_000));
    assert!(works(&good));
    let token = session(&mock, "60");
    let end = ask(&mock, Some(token.text())).json()["credential"]["expires_at"].clone();
    assert!((-70.0..-59.0).contains(&ahead(&end)));
    mock.revoke_metadata_keys();
    assert!(!works(&good));
    assert_eq!(ask(&mock, Some(token.text())).status, 200);
    mock.revoke_metadata_tokens();
    assert_eq!(ask(&mock, Some(token.text())).status, 401);
}

#[test]
fn session_token_and_agency_are_configurable() {
    let mock = MockService::start().unwrap();
    let settings = |require_token, agency| {
        mock.set_metadata(MetadataSettings {
            require_token,
            agency,
            ..MetadataSettings::default()
        });
    };
    settings(false, true);
    assert_eq!(ask(&mock, None).status, 200);
    assert_eq!(ask(&mock, Some("x")).status, 401);
    settings(false, false);
    let reply = ask(&mock, None);
    assert_eq!(reply.status, 404);
    assert!(reply.text().contains("Agency"));
    settings(true, false);
    assert_eq!(ask(&mock, None).status, 401);
}

#[test]
fn metadata_calls_have_faults_and_are_logged() {
    let mock = MockService::start().unwrap();
    mock.fault_json("@metadata.token", json!({"status": 404, "times": 1}))
        .unwrap();
    mock.fault_json(
        "@metadata.key",
        json!({"status": 503, "after_auth": true, "times": 1}),
    )
    .unwrap();
    assert_eq!(session(&mock, "60").status, 404);
    assert_eq!(ask(&mock, None).status, 401);
    let token = session(&mock, "60");
    assert_eq!(ask(&mock, Some(token.text())).status, 503);
    assert_eq!(ask(&mock, Some(token.text())).status, 200);
    let statuses = |name: &str| -> Vec<_> {
        let seen = mock.requests_for(name);
        seen.iter()
            .map(|one| (one.listener.as_str(), one.status.unwrap()))
            .collect()
    };
    assert_eq!(
        statuses("@metadata.token"),
        [("metadata", 404), ("metadata", 200)]
    );
    let keys = statuses("@metadata.key");
    assert_eq!(keys, [("metadata", 401), ("metadata", 503), ("metadata", 200)]);
    for listener in ["iam", "iam_https", "metadata"] {
        let fault: Value = json!({"listener": listener, "mode": "accept_close"});
        let fault: ListenerFault = serde_json::from_value(fault).unwrap();
        mock.listener_fault(fault).unwrap();
        assert!(exchange(mock.url(fault.listener), "").0.is_empty());
    }
}
