//! What IAM answers, and what its tokens are good for.

use dbss_mock::{IamSettings, Listener, MockService};
use serde_json::{Value, json};

use crate::common::{Call, Reply, ahead, connect_tls, header, path, read_answer};

fn login(mock: &MockService) -> Value {
    let user = json!({
        "name": mock.user(), "password": mock.password(), "domain": {"name": mock.domain()},
    });
    json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": user}},
        "scope": {"project": {"name": mock.region()}},
    }})
}

fn ask(mock: &MockService, body: &Value) -> Reply {
    Call::new("POST", "/v3/auth/tokens?nocatalog=true")
        .json(body)
        .send(mock.iam_url())
}

fn token(mock: &MockService) -> String {
    let reply = ask(mock, &login(mock));
    assert_eq!(reply.status, 201);
    header(&reply.head, "X-Subject-Token").unwrap().to_owned()
}

fn download(mock: &MockService, token: &str) -> u16 {
    Call::new("GET", &path(mock, &mock.pdf().id))
        .header("X-Auth-Token", token)
        .send(mock.http_url())
        .status
}

fn projects(mock: &MockService, query: &str) -> Vec<(String, String)> {
    let reply = Call::new("GET", &format!("/v3/projects{query}"))
        .header("X-Auth-Token", mock.token())
        .send(mock.iam_url());
    assert_eq!(reply.status, 200);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    reply.json()["projects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|project| (text(&project["id"]), text(&project["name"])))
        .collect()
}

#[test]
fn each_login_returns_new_token() {
    let mock = MockService::start().unwrap();
    assert!(
        [" ", "\"", "'", "\\", "é"]
            .iter()
            .all(|text| mock.password().contains(text))
    );
    let mut by_id = login(&mock);
    by_id["auth"]["scope"] = json!({"project": {"id": mock.project_id()}});
    let mut tokens = std::collections::HashSet::new();
    for body in [&login(&mock), &by_id] {
        let reply = ask(&mock, body);
        assert!(reply.head.starts_with("HTTP/1.1 201 Created\r\n"));
        let token = header(&reply.head, "X-Subject-Token").unwrap().to_owned();
        assert!((1900..2100).contains(&token.len()));
        assert_eq!(download(&mock, &token), 200);
        tokens.insert(token);

        let token = &reply.json()["token"];
        assert!((86_390.0..86_401.0).contains(&ahead(&token["expires_at"])));
        assert!((-10.0..1.0).contains(&ahead(&token["issued_at"])));
        assert_eq!(token["methods"], json!(["password"]));
        let project = &token["project"];
        assert_eq!(project["id"], mock.project_id());
        assert_eq!(project["name"], "cn-north-4");
        assert_eq!(token["user"]["name"], mock.user());
        assert_eq!(token["user"]["domain"], project["domain"]);
        assert_eq!(project["domain"]["name"], mock.domain());
        assert_eq!(token["catalog"], Value::Null);
    }
    assert_eq!(tokens.len(), 2);

    let full = Call::new("POST", "/v3/auth/tokens")
        .json(&by_id)
        .send(mock.iam_url());
    assert_eq!(full.json()["token"]["catalog"][0]["type"], "dbss");
}

#[test]
fn invalid_login_is_refused() {
    let mock = MockService::start().unwrap();
    let other = |pointer: &str, value: Value| {
        let mut body = login(&mock);
        *body.pointer_mut(pointer).unwrap() = value;
        let reply = ask(&mock, &body);
        (reply.status, reply.json())
    };
    let refused = |message: &str| {
        let error = json!({"code": 401, "message": message, "title": "Unauthorized"});
        (401, json!({"error": error}))
    };
    let wrong = refused("The username or password is wrong.");
    let user = "/auth/identity/password/user";
    assert_eq!(other(&format!("{user}/name"), json!("x")), wrong);
    assert_eq!(other(&format!("{user}/domain/name"), json!("x")), wrong);
    let trimmed = mock.password().replace("\\", "");
    assert_eq!(other(&format!("{user}/password"), json!(trimmed)), wrong);
    let unknown = refused("The project does not exist.");
    assert_eq!(other("/auth/scope/project/name", json!("cn-north-5")), unknown);
    assert_eq!(other("/auth/scope/project", json!({"id": "x"})), unknown);

    let malformed = |body: &Value| {
        let reply = ask(&mock, body);
        assert_eq!(reply.status, 400);
        let error = reply.json();
        assert_eq!(error["error_code"], "IAM.0011");
        error["error_msg"].as_str().unwrap().to_owned()
    };
    let with = |pointer: &str, value: Value| {
        let mut body = login(&mock);
        *body.pointer_mut(pointer).unwrap() = value;
        malformed(&body)
    };
    assert!(with("/auth/identity/methods", json!(["password", "totp"])).contains("password"));
    assert!(with("/auth/identity/methods", json!("password")).contains("sequence"));
    assert!(with("/auth/scope", json!({})).contains("project"));
    with("/auth/scope/project", json!({"name": "a", "id": "b"}));
    assert!(with("/auth/scope/project", json!({"region": "a"})).contains("region"));
    assert!(with(user, json!({"name": "x"})).contains("password"));
    assert!(with(&format!("{user}/password"), json!(1)).contains("integer"));
    // The scope belongs into what is authenticated, not next to it.
    let mut beside = login(&mock);
    let scope = beside["auth"].as_object_mut().unwrap().remove("scope").unwrap();
    assert!(malformed(&beside).contains("scope"));
    beside["scope"] = scope;
    assert!(malformed(&beside).contains("scope"));

    let mut call = Call::new("POST", "/v3/auth/tokens").json(&login(&mock));
    call.body.pop();
    assert_eq!(call.send(mock.iam_url()).status, 400);
    let mut call = Call::new("POST", "/v3/auth/tokens").json(&login(&mock));
    call.headers.clear();
    let reply = call.send(mock.iam_url());
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("Content-Type"));
}

#[test]
fn tokens_expire_and_are_revoked() {
    let mock = MockService::start().unwrap();
    let settings = |token_lifetime_ms, announced_lifetime_ms| {
        mock.set_iam(IamSettings {
            token_lifetime_ms,
            announced_lifetime_ms,
            ..IamSettings::default()
        });
    };
    let announced = || ahead(&ask(&mock, &login(&mock)).json()["token"]["expires_at"]);
    settings(0, None);
    assert_eq!(download(&mock, &token(&mock)), 401);
    assert!((-10.0..0.1).contains(&announced()));
    settings(0, Some(3_600_000));
    assert_eq!(download(&mock, &token(&mock)), 401, "whatever was announced");
    assert!((3590.0..3601.0).contains(&announced()));
    settings(60_000, Some(-3_600_000));
    assert_eq!(download(&mock, &token(&mock)), 200);
    assert!((-3610.0..-3599.0).contains(&announced()));
    settings(u64::MAX, None);
    assert!(announced() > 1e9);

    mock.set_iam(IamSettings::default());
    let (first, second) = (token(&mock), token(&mock));
    assert!(mock.revoke_token(&first));
    assert_eq!((download(&mock, &first), download(&mock, &second)), (401, 200));
    mock.revoke_issued_tokens();
    assert_eq!(download(&mock, &second), 401);
    assert_eq!(download(&mock, mock.token()), 200, "not one of IAM's");
}

#[test]
fn token_of_other_project_is_refused() {
    let mock = MockService::start().unwrap();
    let other = mock.add_project("other");
    let mut body = login(&mock);
    body["auth"]["scope"]["project"]["name"] = json!("other");
    let reply = ask(&mock, &body);
    assert_eq!(reply.json()["token"]["project"]["id"], json!(other.id));
    let token = header(&reply.head, "X-Subject-Token").unwrap();
    assert_eq!(download(&mock, token), 403);
}

#[test]
fn projects_filter_by_name() {
    let mock = MockService::start().unwrap();
    let own = (mock.project_id().to_owned(), "cn-north-4".to_owned());
    assert_eq!(projects(&mock, "?name=cn-north-4"), std::slice::from_ref(&own));
    assert_eq!(projects(&mock, "?name=cn-north-4_x"), []);
    let mut added = Vec::new();
    for name in ["cn-north-4", "cn-north-4_b ü"] {
        let project = mock.add_project(name);
        assert_eq!(project.id.len(), 32);
        added.push((project.id, project.name));
    }
    assert_eq!(
        projects(&mock, "?name=cn-north-4"),
        [own.clone(), added[0].clone()]
    );
    assert_eq!(projects(&mock, "?name=cn-north-4_b%20%C3%BC"), [added[1].clone()]);
    assert_eq!(projects(&mock, "").len(), 3);
    mock.clear_projects();
    assert_eq!(projects(&mock, ""), [own]);

    let reply = Call::new("GET", "/v3/projects?name=cn-north-4")
        .header("X-Domain-Id", "d")
        .signed(mock.access_key(), mock.secret_key(), 0)
        .send(mock.iam_url());
    let json = reply.json();
    assert!(json["links"]["self"].is_string());
    let project = &json["projects"][0];
    assert_eq!(
        (&project["enabled"], &project["is_domain"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(
        (&project["description"], &project["domain_id"]),
        (&json!(""), &project["parent_id"])
    );
    let domains = Call::new("GET", "/v3/auth/domains")
        .header("X-Auth-Token", mock.token())
        .send(mock.iam_url());
    let domain = &domains.json()["domains"][0];
    assert_eq!(
        (&domain["id"], &domain["name"]),
        (&project["domain_id"], &json!(mock.domain()))
    );
}

#[test]
fn projects_without_credentials_are_refused() {
    let mock = MockService::start().unwrap();
    let call = Call::new("GET", "/v3/projects");
    let reply = call.send(mock.iam_url());
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (401, &json!(401)));
    let reply = call.clone().header("X-Auth-Token", "x").send(mock.iam_url());
    assert_eq!(
        (reply.status, &reply.json()["error"]["title"]),
        (401, &json!("Unauthorized"))
    );
    let reply = call.signed(mock.access_key(), "x", 0).send(mock.iam_url());
    assert_eq!(
        (reply.status, &reply.json()["error_code"]),
        (401, &json!("IAM.0101"))
    );
}

#[test]
fn projects_of_the_user_need_no_permission() {
    let mock = MockService::start().unwrap();
    mock.set_iam(IamSettings {
        may_list_projects: false,
        ..IamSettings::default()
    });
    let get = |target: &str| {
        let call = Call::new("GET", target).header("X-Auth-Token", mock.token());
        call.send(mock.iam_url())
    };
    let reply = get("/v3/projects?name=cn-north-4");
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (403, &json!(403)));
    let other = mock.add_project("another");
    let projects = get("/v3/auth/projects").json()["projects"].clone();
    assert_eq!(
        (&projects[0]["id"], &projects[1]["id"]),
        (&json!(mock.project_id()), &json!(other.id))
    );
}

#[test]
fn each_service_serves_only_its_own_paths() {
    let mock = MockService::start().unwrap();
    let token = token(&mock);
    let at = |url: &str, method: &str, target: &str| {
        Call::new(method, target).header("X-Auth-Token", &token).send(url)
    };
    let report = path(&mock, &mock.pdf().id);
    for path in [&report, "/", "/v3/auth/tokens/", "/openstack/latest/securitykey"] {
        let reply = at(mock.iam_url(), "GET", path);
        assert_eq!(
            (reply.status, &reply.json()["error"]["title"]),
            (404, &json!("Not Found"))
        );
    }
    for path in ["/v3/auth/tokens", "/v3/projects", "/meta-data/latest/api/token"] {
        for url in [mock.http_url(), mock.http_other_url()] {
            let reply = at(url, "GET", path);
            assert_eq!(
                (reply.status, &reply.json()["error_code"]),
                (404, &json!("APIG.0101"))
            );
        }
    }
    for path in [&report, "/v3/projects"] {
        let reply = at(mock.metadata_url(), "GET", path);
        assert_eq!((reply.status, reply.text()), (404, "404 Not Found"));
    }
    for (method, path, allow) in [
        ("GET", "/v3/auth/tokens", "POST"),
        ("POST", "/v3/projects", "GET"),
        ("DELETE", "/v3/auth/domains", "GET"),
    ] {
        let reply = at(mock.iam_url(), method, path);
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (405, &json!(405)));
        assert_eq!(header(&reply.head, "Allow"), Some(allow));
    }
}

#[test]
fn request_log_contains_iam_requests() {
    use std::io::Write;
    let mock = MockService::start().unwrap();
    let body = login(&mock);
    token(&mock);
    let mut tls = connect_tls(&mock, mock.iam_https_url()).unwrap();
    let length = body.to_string().len();
    write!(
        tls,
        "POST /v3/auth/tokens HTTP/1.1\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    assert!(read_answer(&mut tls).0.starts_with("HTTP/1.1 201 "));
    projects(&mock, "");
    let large = Call {
        body: "é".repeat(40_000),
        ..Call::new("POST", "/v3/auth/tokens")
    };
    large.send(mock.iam_url());
    download(&mock, "x");
    let seen = mock.requests_for("@iam.tokens");
    let listeners: Vec<_> = seen.iter().map(|one| one.listener).collect();
    assert_eq!(listeners, [Listener::Iam, Listener::IamHttps, Listener::Iam]);
    for one in &seen[..2] {
        let sent: Value = serde_json::from_str(one.body.as_ref().unwrap()).unwrap();
        assert_eq!((sent, one.status), (body.clone(), Some(201)));
    }
    assert_eq!(
        (seen[2].body_length, &seen[2].body),
        (80_000, &Some("é".repeat(32_768)))
    );
    assert_eq!(mock.requests_for("@iam.projects")[0].body.as_deref(), Some(""));
    assert_eq!(mock.requests_for(&mock.pdf().id)[0].body, None);
    assert_eq!(mock.connections().on(Listener::IamHttps), 1);
}

#[test]
fn faults_apply_to_iam_call_by_name() {
    let mock = MockService::start().unwrap();
    let body = login(&mock);
    let fault = |name: &str, fault: Value| mock.fault_json(name, fault);
    fault("*", json!({"status": 503})).unwrap();
    assert_eq!(ask(&mock, &body).status, 201);
    mock.clear_faults();
    fault(
        "@iam.tokens",
        json!({"status": 429, "json": {"error_code": "APIG.0308"}, "times": 1}),
    )
    .unwrap();
    fault(
        "@iam.tokens",
        json!({"headers": [["X-Subject-Token", null]], "times": 1}),
    )
    .unwrap();
    let login = json!({"status": 201, "json": {}, "headers": [["X-Subject-Token", "t"]], "after_auth": true});
    fault("@iam.tokens", login).unwrap();
    assert_eq!(ask(&mock, &json!({})).status, 429);
    let reply = ask(&mock, &body);
    assert_eq!(
        (reply.status, header(&reply.head, "X-Subject-Token")),
        (201, None)
    );
    assert!(reply.json()["token"].is_object());
    assert_eq!(ask(&mock, &json!({})).status, 400);
    let reply = ask(&mock, &body);
    assert_eq!(
        (header(&reply.head, "X-Subject-Token"), reply.text()),
        (Some("t"), "{}")
    );
    fault(
        "@iam.projects",
        json!({"framing": "chunked", "gzip": true, "drip": {"bytes": 7, "every_ms": 0}}),
    )
    .unwrap();
    let reply = Call::new("GET", "/v3/projects").send(mock.iam_url());
    assert_eq!(header(&reply.head, "Content-Encoding"), Some("gzip"));
    for (name, given, word) in [
        ("@iam.token", json!({}), "@iam.token"),
        ("@iam.tokens", json!({"ranges": false}), "ranges"),
        ("@iam.tokens", json!({"range_shift": 1}), "range_shift"),
        ("@metadata.key", json!({"no_etag": true}), "no_etag"),
    ] {
        assert!(fault(name, given).unwrap_err().to_string().contains(word));
    }
}

#[test]
fn keys_are_given_for_id_tokens_agencies_and_pods_alone() {
    let mock = MockService::start().unwrap();
    let state = mock.control("GET", "/state", &Value::Null).unwrap();
    let post = |path: &str, headers: &[(&str, &Value)], body: &Value| {
        let base = match path {
            "/v1/pod/credentials" => mock.metadata_url(),
            _ => mock.iam_url(),
        };
        let call = headers
            .iter()
            .fold(Call::new("POST", path), |call, (name, value)| {
                call.header(name, value.as_str().unwrap())
            });
        call.json(body).send(base)
    };
    let wrong = json!("wrong");

    let oidc = |token: &Value| {
        let body = json!({
            "provider_urn": state["provider_urn"], "agency_urn": state["agency_urn"],
            "agency_session_name": "s", "id_token": token, "duration_seconds": 900,
        });
        post("/v5/agencies/assume-with-oidc", &[], &body)
    };
    assert!(oidc(&state["id_token"]).json()["credentials"]["security_token"].is_string());
    assert_eq!(oidc(&wrong).status, 400);

    let id_token = |idp: &Value, token: &Value| {
        let body = json!({"auth": {"id_token": {"id": token}}});
        post("/v3.0/OS-AUTH/id-token/tokens", &[("X-Idp-Id", idp)], &body)
    };
    let unscoped = id_token(&state["idp_id"], &state["id_token"]);
    assert_eq!(unscoped.status, 201);
    assert_eq!(id_token(&wrong, &state["id_token"]).status, 404);
    assert_eq!(id_token(&state["idp_id"], &wrong).status, 401);

    let keys = |headers: &[(&str, &Value)], identity: Value| {
        let body = json!({"auth": {"identity": identity}});
        post("/v3.0/OS-CREDENTIAL/securitytokens", headers, &body).status
    };
    let token = json!(header(&unscoped.head, "X-Subject-Token").unwrap());
    let of_token = |token: &Value, seconds: u32| {
        let token = json!({"id": token, "duration_seconds": seconds});
        keys(&[], json!({"methods": ["token"], "token": token}))
    };
    assert_eq!(
        (
            of_token(&token, 900),
            of_token(&token, 899),
            of_token(&wrong, 900)
        ),
        (201, 400, 401)
    );
    let agency = |name: &Value, token: &Value| {
        let agency = json!({
            "agency_name": name, "domain_name": state["agency_domain"], "duration_seconds": 3600,
        });
        let identity = json!({"methods": ["assume_role"], "assume_role": agency});
        keys(&[("X-Auth-Token", token)], identity)
    };
    let own = json!(mock.token());
    assert_eq!(
        (
            agency(&state["agency"], &own),
            agency(&wrong, &own),
            agency(&state["agency"], &wrong)
        ),
        (201, 403, 401)
    );

    let pod = |token: &Value| post("/v1/pod/credentials", &[("Authorization", token)], &json!({})).status;
    assert_eq!((pod(&state["pod_token"]), pod(&wrong)), (200, 401));
}

#[test]
fn each_passcode_is_good_for_one_login() {
    let mock = MockService::start().unwrap();
    let settings = json!({"passcodes": ["123456"]});
    mock.control("POST", "/iam", &settings).unwrap();
    let state = mock.control("GET", "/state", &Value::Null).unwrap();
    let mut body = login(&mock);
    assert_eq!(ask(&mock, &body).status, 401);
    let identity = &mut body["auth"]["identity"];
    identity["methods"] = json!(["password", "totp"]);
    identity["totp"] = json!({"user": {"id": "another", "passcode": "123456"}});
    assert_eq!(ask(&mock, &body).status, 401);
    body["auth"]["identity"]["totp"]["user"]["id"] = state["user_id"].clone();
    assert_eq!((ask(&mock, &body).status, ask(&mock, &body).status), (201, 401));
}
