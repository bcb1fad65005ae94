//! The request log: received requests and connections.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use strum::VariantArray;

use crate::http::Request;
use crate::net::lock;

const BODY_LIMIT: usize = 64 * 1024;

/// One of the addresses of the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, VariantArray)]
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

/// A request as it was received, and what was decided about it.
#[derive(Debug, Clone, Serialize)]
pub struct Recorded {
    pub listener: Listener,
    pub method: String,
    pub target: String,
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
    pub status: Option<u16>,
    pub report: Option<String>,
    pub sent: u64,
}

impl Recorded {
    /// `report` is what it is for: the id of a report, or the name of another call.
    pub(crate) fn new(
        listener: Listener,
        request: &Request,
        status: Option<u16>,
        report: Option<&str>,
    ) -> Self {
        let text = |(name, value): &(String, Vec<u8>)| (name.clone(), String::from_utf8_lossy(value).into());
        // A download, or an unknown path, has none that matters.
        let body = report.filter(|report| report.starts_with('@'));
        let body = body.and_then(|_| std::str::from_utf8(&request.body).ok());
        Recorded {
            listener,
            method: request.method.clone(),
            target: request.target.clone(),
            path: request.path().to_owned(),
            query: request.query().to_owned(),
            headers: request.headers.iter().map(text).collect(),
            body: body.map(|text| text[..text.floor_char_boundary(BODY_LIMIT)].to_owned()),
            status,
            report: report.map(str::to_owned),
            sent: 0,
        }
    }

    /// The first value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|header| header.0.eq_ignore_ascii_case(name));
        found.map(|header| header.1.as_str())
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
    accepted: Mutex<BTreeMap<Listener, u64>>,
}

impl RequestLog {
    pub(crate) fn accepted(&self, listener: Listener) {
        *lock(&self.accepted).entry(listener).or_default() += 1;
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

    pub(crate) fn total(&self) -> u64 {
        lock(&self.accepted).values().sum()
    }

    /// How many connections were accepted, by listener and in total.
    pub(crate) fn connections(&self) -> Value {
        let accepted = lock(&self.accepted);
        let count = |listener: &Listener| (*listener, accepted.get(listener).copied().unwrap_or_default());
        let mut counts = json!(Listener::VARIANTS.iter().map(count).collect::<BTreeMap<_, _>>());
        counts["total"] = json!(accepted.values().sum::<u64>());
        counts
    }
}
