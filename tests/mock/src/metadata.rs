//! The instance metadata service: temporary access keys for whoever runs on the instance.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use crate::Shared;
use crate::credentials::{announced, random_token};
use crate::exchange;
use crate::http::{Request, Response};
use crate::net::lock;

const TTL: &str = "X-Metadata-Token-Ttl-Seconds";
const TOKEN: &str = "X-Metadata-Token";
const MOST_SECONDS: u64 = 21_600;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The calls there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Token,
    Key,
    Pod,
}

impl Call {
    pub(crate) fn of(path: &str) -> Option<Call> {
        match path {
            "/meta-data/latest/api/token" => Some(Call::Token),
            "/openstack/latest/securitykey" => Some(Call::Key),
            "/v1/pod/credentials" => Some(Call::Pod),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Call::Token => "@metadata.token",
            Call::Key => "@metadata.key",
            Call::Pod => "@pod.key",
        }
    }

    fn method(self) -> &'static str {
        match self {
            Call::Token => "PUT",
            Call::Key => "GET",
            Call::Pod => "POST",
        }
    }
}

/// How the service behaves. What is left out of the JSON is as it was at first.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MetadataSettings {
    pub(crate) require_token: bool,
    pub(crate) agency: bool,
    pub(crate) key_lifetime_ms: u64,
    pub(crate) announced_key_lifetime_ms: Option<i64>,
}

impl Default for MetadataSettings {
    fn default() -> Self {
        MetadataSettings {
            require_token: true,
            agency: true,
            key_lifetime_ms: DAY_MS,
            announced_key_lifetime_ms: None,
        }
    }
}

/// Session tokens, and when they end.
pub(crate) type Sessions = HashMap<String, Instant>;

/// What the service answers where no fault waits.
pub(crate) fn respond(shared: &Shared, request: &Request, call: Call) -> Response {
    if request.method != call.method() {
        return text(405, "405 Method Not Allowed").header("Allow", call.method());
    }
    match call {
        Call::Token => token(shared, request),
        Call::Key => key(shared, request),
        Call::Pod => exchange::pod(shared, request),
    }
}

/// Whether whoever asks is let in.
pub(crate) fn authorised(shared: &Shared, request: &Request, call: Call) -> bool {
    match call {
        Call::Token => true,
        Call::Pod => exchange::pod(shared, request).status == 200,
        Call::Key => admitted(shared, request),
    }
}

pub(crate) fn no_such_path() -> Response {
    text(404, "404 Not Found")
}

fn token(shared: &Shared, request: &Request) -> Response {
    let seconds = request
        .header(TTL)
        .and_then(|text| std::str::from_utf8(text).ok())
        .and_then(|text| text.parse().ok())
        .filter(|seconds| (1..=MOST_SECONDS).contains(seconds));
    let Some(seconds) = seconds else {
        return text(400, "400 Bad Request: X-Metadata-Token-Ttl-Seconds");
    };
    let token = random_token(42);
    let end = Instant::now() + Duration::from_secs(seconds);
    lock(&shared.sessions).insert(token.clone(), end);
    text(200, &token).header(TTL, seconds.to_string())
}

fn key(shared: &Shared, request: &Request) -> Response {
    if !admitted(shared, request) {
        return text(401, "401 Unauthorized");
    }
    let settings = lock(&shared.metadata_settings).clone();
    if !settings.agency {
        return text(401, "Please configure Cloud Service Agency first");
    }
    let end = announced(settings.key_lifetime_ms, settings.announced_key_lifetime_ms);
    let lifetime = Duration::from_millis(settings.key_lifetime_ms);
    Response::json(200, &json!({"credential": shared.keys.issue(lifetime, end)}))
}

fn admitted(shared: &Shared, request: &Request) -> bool {
    let Some(token) = request.header(TOKEN) else {
        return !lock(&shared.metadata_settings).require_token;
    };
    let sessions = lock(&shared.sessions);
    let end = std::str::from_utf8(token)
        .ok()
        .and_then(|token| sessions.get(token));
    end.is_some_and(|end| Instant::now() < *end)
}

fn text(status: u16, text: &str) -> Response {
    Response::new(status)
        .header("Content-Type", "text/plain")
        .with_body(crate::http::Body::Bytes(text.as_bytes().to_vec()))
}
