//! Parts of reports, their versions, and transfers that break on the way.

use std::io::{Read, Write};

use dbss_mock::{Format, Locale, MockService, ReportInfo};
use serde_json::{Value, json};

use crate::common::{
    End, QUIET, connect, connect_tls, exchange, header, read_answer, read_to_end, request_with, split,
};

const SIZE: u64 = 1_000_000;

struct Case {
    mock: MockService,
    report: ReportInfo,
    bytes: Vec<u8>,
}

impl Case {
    fn new() -> Self {
        let mock = MockService::start().unwrap();
        let report = mock.add_report(Format::Bytes, Some(SIZE));
        let bytes = report.bytes(Locale::EnUs);
        Case { mock, report, bytes }
    }

    fn with(fault: Value) -> Self {
        let case = Case::new();
        case.fault(fault);
        case
    }

    fn fault(&self, fault: Value) {
        self.mock.fault_json(&self.report.id, fault).unwrap();
    }

    fn etag(&self) -> &str {
        self.report.etag(Locale::EnUs)
    }

    /// One answer, off a connection of its own that lives on.
    fn ask(&self, headers: &str) -> (u16, String, Vec<u8>) {
        let mut stream = connect(self.mock.http_url());
        stream.write_all(self.text(headers).as_bytes()).unwrap();
        let (head, body) = read_answer(&mut stream);
        (status(&head), head, body)
    }

    /// All that comes until the connection ends.
    fn all(&self, headers: &str) -> (String, Vec<u8>, End) {
        let (all, end) = exchange(self.mock.http_url(), &self.text(headers));
        let (head, body) = split(&all);
        (head, body, end)
    }

    fn text(&self, headers: &str) -> String {
        request_with(&self.mock, &self.report, headers)
    }

    fn sent(&self) -> Vec<u64> {
        let requests = self.mock.requests_for(&self.report.id);
        requests.iter().map(|request| request.sent).collect()
    }
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn range_request_returns_206_with_content_range() {
    let case = Case::new();
    let mut stream = connect(case.mock.http_url());
    let mut ask = |headers: &str| {
        stream.write_all(case.text(headers).as_bytes()).unwrap();
        read_answer(&mut stream)
    };
    for (range, first, last) in [
        ("0-", 0, 999_999),
        ("999999-", 999_999, 999_999),
        ("400000-", 400_000, 999_999),
        ("10-19", 10, 19),
        ("999990-2000000", 999_990, 999_999),
        ("-100001", 899_999, 999_999),
    ] {
        let (head, body) = ask(&format!("Range: bytes={range}\r\n"));
        assert!(head.starts_with("HTTP/1.1 206 Partial Content\r\n"), "{head}");
        let content_range = format!("bytes {first}-{last}/1000000");
        assert_eq!(header(&head, "Content-Range"), Some(&content_range[..]));
        assert_eq!(header(&head, "Accept-Ranges"), Some("bytes"));
        assert_eq!(header(&head, "ETag"), Some(case.etag()));
        assert_eq!(body, case.bytes[first..=last]);
    }
    let (head, body) = ask("Range: bytes=1000000-\r\n");
    assert!(head.starts_with("HTTP/1.1 416 Range Not Satisfiable\r\n"));
    assert_eq!(header(&head, "Content-Range"), Some("bytes */1000000"));
    assert_eq!(body, b"");
    for ignored in ["", "Range: bytes=0-1,5-6\r\n", "Range: bytes=b-\r\n"] {
        let (head, body) = ask(ignored);
        assert_eq!(status(&head), 200);
        assert_eq!(header(&head, "Accept-Ranges"), Some("bytes"));
        assert_eq!(header(&head, "Content-Range"), None);
        assert_eq!(body, case.bytes);
    }
    let statuses: Vec<_> = case.mock.requests().iter().map(|one| one.status).collect();
    assert_eq!(statuses[5..8], [Some(206), Some(416), Some(200)]);
}

#[test]
fn range_request_without_token_is_refused() {
    let case = Case::new();
    let text = case.text("Range: bytes=1-\r\nConnection: close\r\n");
    let text = text.replace(case.mock.token(), "another");
    let (head, _) = split(&exchange(case.mock.http_url(), &text).0);
    assert_eq!(status(&head), 401);
}

#[test]
fn range_far_into_huge_report_is_fast() {
    let mock = MockService::start().unwrap();
    let report = mock.add_report(Format::Bytes, Some(1 << 40));
    let from = (1u64 << 40) - 300_000;
    let mut expected = vec![0; 300_000];
    report.read_at(Locale::EnUs, from, &mut expected);
    let mut stream = connect(mock.http_url());
    let range = format!("Range: bytes={from}-\r\n");
    stream
        .write_all(request_with(&mock, &report, &range).as_bytes())
        .unwrap();
    assert_eq!(read_answer(&mut stream).1, expected);
}

#[test]
fn if_range_of_other_version_returns_whole_report() {
    let case = Case::new();
    let tag = case.etag();
    let ask = |condition: &str| {
        let (status, _, body) = case.ask(&format!("Range: bytes=5-\r\nIf-Range: {condition}\r\n"));
        (status, body.len())
    };
    assert_eq!(ask(tag), (206, 999_995));
    let zh_cn = case.report.etag(Locale::ZhCn);
    let weak = format!("W/{tag}");
    for condition in [zh_cn, &weak, "\"\"", "Sun, 06 Nov 1994 08:49:37 GMT"] {
        assert_eq!(ask(condition), (200, 1_000_000), "{condition}");
    }
    case.fault(json!({"weak_etag": true, "times": 3}));
    let (_, head, _) = case.ask("");
    assert_eq!(header(&head, "ETag"), Some(&weak[..]));
    assert_eq!(ask(&weak), (200, 1_000_000));
    assert_eq!(ask(tag), (200, 1_000_000));
    case.fault(json!({"no_etag": true, "times": 2}));
    let (status, head, _) = case.ask("Range: bytes=5-\r\n");
    assert_eq!((status, header(&head, "ETag")), (206, None));
    assert_eq!(ask(tag), (200, 1_000_000));
    assert_eq!(ask(tag), (206, 999_995));
}

#[test]
fn range_faults_ignore_or_shift_the_range() {
    let case = Case::with(json!({"ranges": false, "times": 1}));
    let (status, head, body) = case.ask("Range: bytes=5-\r\n");
    assert_eq!((status, body), (200, case.bytes.clone()));
    assert_eq!(header(&head, "Accept-Ranges"), None);
    assert_eq!(header(&head, "ETag"), Some(case.etag()));

    case.fault(json!({"content_range": "bytes 6-999999/1000000", "times": 2}));
    let (status, head, body) = case.ask("Range: bytes=5-\r\n");
    assert_eq!((status, &body[..]), (206, &case.bytes[5..]));
    assert_eq!(header(&head, "Content-Range"), Some("bytes 6-999999/1000000"));
    let (status, head, _) = case.ask("");
    assert_eq!((status, header(&head, "Content-Range")), (200, None));

    for shift in [3, -3, -8, 250_000, i64::MAX, i64::MIN] {
        case.fault(json!({"range_shift": shift, "times": 1}));
        let (status, head, body) = case.ask("Range: bytes=5-\r\n");
        assert_eq!(status, 206);
        assert_eq!(header(&head, "Content-Range"), Some("bytes 5-999999/1000000"));
        let start = (5 + i128::from(shift)).rem_euclid(1_000_000) as usize;
        let turned = [&case.bytes[start..], &case.bytes[..start]].concat();
        assert_eq!(body, turned[..999_995], "{shift}");
    }
}

#[test]
fn cut_of_range_is_counted_from_range_start() {
    let case = Case::new();
    let range = "Range: bytes=400000-\r\n";
    let part = |from: usize, bytes: usize| case.bytes[from..from + bytes].to_vec();
    case.fault(json!({"cut_after": 300_000, "times": 1}));
    let (head, body, end) = case.all(range);
    assert_eq!(header(&head, "Content-Length"), Some("600000"));
    assert_eq!((body, end), (part(400_000, 300_000), End::Orderly));
    case.fault(json!({"reset_after": 100_001, "times": 1}));
    let (_, body, end) = case.all(range);
    assert_eq!((body, end), (part(400_000, 100_001), End::Reset));
    case.fault(json!({"truncate_tls_after": 1000, "times": 1}));
    let mut tls = connect_tls(&case.mock, case.mock.https_url()).unwrap();
    tls.write_all(case.text(range).as_bytes()).unwrap();
    let (all, end) = read_to_end(&mut tls);
    assert_eq!((split(&all).1, end), (part(400_000, 1000), End::Truncated));
    case.fault(json!({"drip": {"bytes": 500_000, "every_ms": 1}, "times": 1}));
    assert_eq!(case.ask(range).2, part(400_000, 600_000));
    case.fault(json!({"framing": "close", "cut_after": 2_000_000, "times": 1}));
    let (_, body, end) = case.all(range);
    assert_eq!((body, end), (part(400_000, 600_000), End::Orderly));
    case.fault(json!({"stall_after": 10, "times": 1}));
    let mut stream = connect(case.mock.http_url());
    stream.write_all(case.text(range).as_bytes()).unwrap();
    stream.set_read_timeout(Some(QUIET)).unwrap();
    let (all, end) = read_to_end(&mut stream);
    assert_eq!((split(&all).1, end), (part(400_000, 10), End::Silent));
    assert_eq!(case.sent(), [300_000, 100_001, 1000, 600_000, 600_000, 10]);
}

#[test]
fn new_version_replaces_the_old_one() {
    let case = Case::with(json!({"drip": {"bytes": 1000, "every_ms": 100}, "cut_after": 2000, "times": 1}));
    let mut stream = connect(case.mock.http_url());
    stream.write_all(case.text("").as_bytes()).unwrap();
    let mut began = [0; 10];
    stream.read_exact(&mut began).unwrap();
    let changed = case.mock.new_version(&case.report.id);
    let (rest, _) = read_to_end(&mut stream);
    let (_, body) = split(&[&began[..], &rest].concat());
    assert_eq!(body, case.bytes[..2000], "what is under way is not mixed");

    assert_eq!((case.report.version, changed.version), (0, 1));
    let (status, head, body) = case.ask(&format!("Range: bytes=5-\r\nIf-Range: {}\r\n", case.etag()));
    assert_eq!((status, &body), (200, &changed.bytes(Locale::EnUs)));
    assert_eq!(header(&head, "ETag"), Some(changed.etag(Locale::EnUs)));
    assert_eq!(body.len(), case.bytes.len());
    let matching = format!("Range: bytes=5-\r\nIf-Range: {}\r\n", changed.etag(Locale::EnUs));
    assert_eq!(case.ask(&matching).2, body[5..]);

    let pdf = case.mock.pdf();
    let changed = case.mock.new_version(&pdf.id);
    assert_eq!(changed.sha256s(), case.mock.pdf().sha256s());
    assert_ne!(changed.sha256(Locale::ZhCn), pdf.sha256(Locale::ZhCn));
    assert_eq!(changed.sizes(), pdf.sizes());
}

#[test]
fn randomly_cut_transfer_completes_by_ranges() {
    for kind in ["cut", "reset", "any"] {
        let case = Case::with(json!({
            "cut_random": {"seed": 7, "least": 1, "most": 200_000, "kind": kind},
        }));
        let mut got = Vec::new();
        let mut ends = Vec::new();
        while (got.len() as u64) < SIZE {
            assert!(ends.len() < 200);
            let headers = format!("Range: bytes={}-\r\nIf-Range: {}\r\n", got.len(), case.etag());
            let (head, body, end) = case.all(&headers);
            assert_eq!(status(&head), 206);
            assert!((1..=200_000).contains(&body.len()));
            got.extend(body);
            ends.push(end);
        }
        assert_eq!(got, case.bytes);
        let sent = case.sent();
        assert_eq!(sent.iter().sum::<u64>(), SIZE);
        let resets = ends.iter().filter(|end| **end == End::Reset).count();
        match kind {
            "cut" => assert_eq!(resets, 0),
            "reset" => assert_eq!(resets, ends.len()),
            _ => assert!((1..ends.len()).contains(&resets)),
        }

        let again = Case::with(json!({
            "cut_random": {"seed": 7, "least": 1, "most": 200_000, "kind": kind}, "times": 1,
        }));
        again.all("");
        assert_eq!(again.sent()[0], sent[0], "the same seed, the same cut");
    }
}

#[test]
fn fault_with_skip_applies_later() {
    let case = Case::with(json!({"status": 503, "skip": 1, "times": 2, "after_auth": true}));
    let mut stream = connect(case.mock.http_url());
    let mut ask = |token: &str| {
        let text = case.text("").replace(case.mock.token(), token);
        stream.write_all(text.as_bytes()).unwrap();
        status(&read_answer(&mut stream).0)
    };
    let token = case.mock.token();
    let statuses = [ask("another"), ask(token), ask(token), ask(token), ask(token)];
    assert_eq!(statuses, [401, 200, 503, 503, 200]);
}

#[test]
fn sent_bytes_are_logged_while_sending() {
    let case = Case::with(json!({"framing": "chunked", "stall_after": 70_000, "times": 1}));
    let mut stream = connect(case.mock.http_url());
    stream.write_all(case.text("").as_bytes()).unwrap();
    let mut some = vec![0; 70_000];
    stream.read_exact(&mut some).unwrap();
    assert_eq!(case.sent(), [70_000], "the answer has not ended");
    case.ask("");
    case.fault(json!({"raw_base64": "cmF3", "times": 1}));
    assert_eq!(exchange(case.mock.http_url(), &case.text("")).0, b"raw");
    case.fault(json!({"no_answer": true, "times": 1}));
    let mut silent = connect(case.mock.http_url());
    silent.write_all(case.text("").as_bytes()).unwrap();
    crate::common::wait_until(|| case.sent().len() == 4);
    assert_eq!(case.sent(), [70_000, SIZE, 3, 0]);
    let json = serde_json::to_value(case.mock.requests()).unwrap();
    assert_eq!(json[1]["sent"], SIZE);
}
