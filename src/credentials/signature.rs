//! Signs requests with an access key, algorithm SDK-HMAC-SHA256.
//!
//! The rules are those of the service's SDKs: see the parts of the canonical request in
//! [`canonical`]. The secret key is used directly; no key is derived from it.

use ::http::header::HeaderMap;
use ::http::{Method, Uri};
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{percent_decode_str, percent_encode};
use sha2::{Digest, Sha256};

use crate::http::ENCODE_SET;

const ALGORITHM: &str = "SDK-HMAC-SHA256";

/// Returns the value of `Authorization` for a request. It signs all of `headers`,
/// which the caller chooses (see access_key.rs). `date` is the value of X-Sdk-Date, which
/// is one of them.
pub(super) fn authorization(
    key_id: &str,
    secret: &[u8],
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
    date: &str,
) -> String {
    let (digest, signed) = canonical(method, uri, headers, body);
    let to_sign = format!("{ALGORITHM}\n{date}\n{digest}");
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC accepts a key of any length");
    mac.update(to_sign.as_bytes());
    let signature = hex::encode(mac.finalize().into_bytes());
    format!("{ALGORITHM} Access={key_id}, SignedHeaders={signed}, Signature={signature}")
}

/// Returns the hash of the canonical request, and the names of the signed headers. The
/// canonical request is hashed in parts and never held in memory, because a header may be
/// secret.
fn canonical(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> (String, String) {
    // The path is decoded, each segment is encoded again, and the result always ends with
    // a slash.
    let decoded = percent_decode_str(uri.path()).decode_utf8_lossy();
    let mut path: String = decoded
        .split('/')
        .map(|s| encode(s.as_bytes()))
        .collect::<Vec<_>>()
        .join("/");
    if !path.ends_with('/') {
        path.push('/');
    }

    // Sorted by the decoded name, then by the decoded value.
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (
                percent_decode_str(name).collect(),
                percent_decode_str(value).collect(),
            )
        })
        .collect();
    pairs.sort();
    let query: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();

    let mut hash = Sha256::new();
    hash.update(format!("{method}\n{path}\n{}\n", query.join("&")));
    // `HeaderName` is always in lower case.
    let mut lines: Vec<(&str, &[u8])> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes().trim_ascii()))
        .collect();
    lines.sort();
    for (name, value) in &lines {
        hash.update(name);
        hash.update(b":");
        hash.update(value);
        hash.update(b"\n");
    }
    let names = lines.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    hash.update(format!("\n{names}\n{}", hex::encode(Sha256::digest(body))));
    (hex::encode(hash.finalize()), names)
}

fn encode(bytes: &[u8]) -> String {
    percent_encode(bytes, ENCODE_SET).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    /// One row of the table of requests that the official SDK signed.
    /// `tests/python/test_official_sdk.py` makes the table and runs the test.
    #[derive(Deserialize)]
    struct Row {
        key_id: String,
        secret: String,
        method: String,
        uri: String,
        headers: BTreeMap<String, String>,
        body: String,
        date: String,
        authorization: String,
    }

    fn signed(row: &Row) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in &row.headers {
            let name: ::http::HeaderName = name.parse().expect("a header's name");
            headers.append(name, value.parse().expect("a header's value"));
        }
        authorization(
            &row.key_id,
            row.secret.as_bytes(),
            &row.method.parse().expect("a method"),
            &row.uri.parse().expect("a URI"),
            &headers,
            row.body.as_bytes(),
            &row.date,
        )
    }

    #[test]
    fn signature_of_download_request_matches_official_sdk() {
        // From huaweicloudsdkcore 3.1.219.
        let row = Row {
            key_id: "AKEXAMPLE".into(),
            secret: "secret-example".into(),
            method: "GET".into(),
            uri: "https://dbss.cn-north-4.myhuaweicloud.com/v1/p/audit/i/reports/r/download?local=zh-cn".into(),
            headers: [
                ("host", "dbss.cn-north-4.myhuaweicloud.com"),
                ("x-project-id", "p"),
                ("x-sdk-date", "20250910T080000Z"),
            ]
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .into(),
            body: String::new(),
            date: "20250910T080000Z".into(),
            authorization: "SDK-HMAC-SHA256 Access=AKEXAMPLE, SignedHeaders=host;x-project-id;x-sdk-date, Signature=ce5b31f442e3d993c1c9b5f97f03d7a77192de475ac17066b438ab83ed2b2f89".into(),
        };
        assert_eq!(signed(&row), row.authorization);
    }

    #[test]
    #[ignore = "run by tests/python/test_official_sdk.py, which makes the table"]
    fn signatures_match_official_sdk_table() {
        let path = std::env::var("DBSS_SIGNATURE_TABLE").expect("the path of the table");
        let table = std::fs::read(path).expect("the table");
        let rows: Vec<Row> = serde_json::from_slice(&table).expect("rows");
        assert!(rows.len() > 20);
        for row in rows {
            assert_eq!(signed(&row), row.authorization, "{} {}", row.method, row.uri);
        }
    }
}
