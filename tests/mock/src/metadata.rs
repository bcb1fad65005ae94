//! The instance metadata service: temporary access keys for whoever runs on the instance.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use crate::Shared;
use crate::calls::Kind;
use crate::credentials::{Lifetime, random_token};
use crate::exchange;
use crate::http::{Request, Response};
use crate::net::lock;

const TTL: &str = "X-Metadata-Token-Ttl-Seconds";
const MOST_SECONDS: u64 = 21_600;

/// How the service behaves. What is left out of the JSON is as it was at first.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MetadataSettings {
    require_token: Option<bool>,
    agency: Option<bool>,
    key_lifetime_ms: Option<u64>,
    announced_key_lifetime_ms: Option<i64>,
}

/// Session tokens, and when they end.
pub(crate) type Sessions = HashMap<String, Instant>;

/// What the service answers where no fault waits.
pub(crate) fn respond(shared: &Shared, request: &Request, kind: Kind, method: &str) -> Response {
    if request.method != method {
        return text(405, "405 Method Not Allowed").header("Allow", method);
    }
    match kind {
        Kind::MetadataToken => token(shared, request),
        Kind::MetadataKey => key(shared, request),
        _ => exchange::pod(shared, request),
    }
}

fn token(shared: &Shared, request: &Request) -> Response {
    let seconds = request
        .header(TTL)
        .and_then(|text| std::str::from_utf8(text).ok()?.parse().ok())
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
    let settings = lock(&shared.metadata_settings).clone();
    let admitted = match request.header("X-Metadata-Token") {
        None => settings.require_token == Some(false),
        Some(token) => {
            let sessions = lock(&shared.sessions);
            let end = std::str::from_utf8(token)
                .ok()
                .and_then(|token| sessions.get(token));
            end.is_some_and(|end| Instant::now() < *end)
        }
    };
    if !admitted {
        return text(401, "401 Unauthorized");
    }
    if settings.agency == Some(false) {
        return text(401, "Please configure Cloud Service Agency first");
    }
    let lifetime = Lifetime::new(settings.key_lifetime_ms, settings.announced_key_lifetime_ms);
    Response::json(200, &json!({"credential": shared.keys.issue(&lifetime)}))
}

pub(crate) fn text(status: u16, text: &str) -> Response {
    Response::new(status).with_bytes("text/plain", text)
}
