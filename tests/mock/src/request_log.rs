//! The request log: received requests and connections.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::http::Request;
use crate::net::lock;

const BODY_LIMIT: usize = 64 * 1024;

/// One of the addresses of the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Listener {
    Http,
    Https,
    HttpOther,
    HttpsOther,
    HttpsSelfSigned,
    HttpsExpired,
    HttpsWrongName,
    Proxy,
    Iam,
    IamHttps,
    Metadata,
}

impl Listener {
    /// Every listener.
    pub const ALL: [Listener; 11] = [
        Listener::Http,
        Listener::Https,
        Listener::HttpOther,
        Listener::HttpsOther,
        Listener::HttpsSelfSigned,
        Listener::HttpsExpired,
        Listener::HttpsWrongName,
        Listener::Proxy,
        Listener::Iam,
        Listener::IamHttps,
        Listener::Metadata,
    ];

    /// The name used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Listener::Http => "http",
            Listener::Https => "https",
            Listener::HttpOther => "http_other",
            Listener::HttpsOther => "https_other",
            Listener::HttpsSelfSigned => "https_self_signed",
            Listener::HttpsExpired => "https_expired",
            Listener::HttpsWrongName => "https_wrong_name",
            Listener::Proxy => "proxy",
            Listener::Iam => "iam",
            Listener::IamHttps => "iam_https",
            Listener::Metadata => "metadata",
        }
    }
}

/// A request as it was received, and what was decided about it.
#[derive(Debug, Clone, Serialize)]
pub struct Recorded {
    pub connection: u64,
    pub listener: Listener,
    pub method: String,
    pub target: String,
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body_length: u64,
    pub body: Option<String>,
    pub status: Option<u16>,
    pub report: Option<String>,
    pub sent: u64,
}

impl Recorded {
    pub(crate) fn new(
        listener: Listener,
        connection: u64,
        request: &Request,
        status: Option<u16>,
        report: Option<&str>,
    ) -> Self {
        Recorded {
            connection,
            listener,
            method: request.method.clone(),
            target: request.target.clone(),
            path: request.path().to_owned(),
            query: request.query().to_owned(),
            headers: request
                .headers
                .iter()
                .map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned()))
                .collect(),
            body_length: request.body.len() as u64,
            body: None,
            status,
            report: report.map(str::to_owned),
            sent: 0,
        }
    }

    /// The same with the request's body.
    pub(crate) fn with_body(mut self, request: &Request) -> Self {
        self.body = std::str::from_utf8(&request.body).ok().map(|text| {
            let end = text.floor_char_boundary(BODY_LIMIT);
            text[..end].to_owned()
        });
        self
    }

    /// The first value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|header| header.0.eq_ignore_ascii_case(name))
            .map(|header| header.1.as_str())
    }
}

/// How many connections were accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Connections {
    #[serde(flatten)]
    pub accepted: BTreeMap<Listener, u64>,
    pub total: u64,
    pub tls_failures: u64,
}

impl Connections {
    /// Those accepted on one listener.
    pub fn on(&self, listener: Listener) -> u64 {
        self.accepted.get(&listener).copied().unwrap_or_default()
    }
}

/// Counts the bytes sent for one request.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sent(Arc<AtomicU64>);

impl Sent {
    pub(crate) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::AcqRel);
    }
}

#[derive(Default)]
pub(crate) struct RequestLog {
    requests: Mutex<Vec<(Recorded, Sent)>>,
    accepted: [AtomicU64; Listener::ALL.len()],
    total: AtomicU64,
    tls_failures: AtomicU64,
}

impl RequestLog {
    /// Counts a connection and gives it its number.
    pub(crate) fn accepted(&self, listener: Listener) -> u64 {
        self.accepted[listener as usize].fetch_add(1, Ordering::AcqRel);
        self.total.fetch_add(1, Ordering::AcqRel) + 1
    }

    pub(crate) fn tls_failed(&self) {
        self.tls_failures.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn record(&self, request: Recorded) -> Sent {
        let sent = Sent::default();
        lock(&self.requests).push((request, sent.clone()));
        sent
    }

    pub(crate) fn requests(&self, report: Option<&str>) -> Vec<Recorded> {
        lock(&self.requests)
            .iter()
            .filter(|(request, _)| report.is_none() || request.report.as_deref() == report)
            .map(|(request, sent)| Recorded {
                sent: sent.0.load(Ordering::Acquire),
                ..request.clone()
            })
            .collect()
    }

    pub(crate) fn clear(&self) {
        lock(&self.requests).clear();
    }

    pub(crate) fn connections(&self) -> Connections {
        let count = |listener: Listener| self.accepted[listener as usize].load(Ordering::Acquire);
        Connections {
            accepted: Listener::ALL.into_iter().map(|one| (one, count(one))).collect(),
            total: self.total.load(Ordering::Acquire),
            tls_failures: self.tls_failures.load(Ordering::Acquire),
        }
    }
}
