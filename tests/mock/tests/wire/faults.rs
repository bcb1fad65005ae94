//! What each fault does on the wire.

use std::io::{Read, Write};

use dbss_mock::{Fault, Format, Listener, Locale, MockService, ReportInfo};
use serde_json::{Value, json};

use crate::common::{
    self, End, PATIENCE, QUIET, connect, connect_tls, header, read_answer, read_to_end, request, split,
    unchunk,
};

const SIZE: u64 = 1_000_000;

struct Case {
    mock: MockService,
    report: ReportInfo,
    bytes: Vec<u8>,
}

impl Case {
    fn new(fault: Value) -> Self {
        let mock = MockService::start().unwrap();
        let report = mock.add_report(Format::Bytes, Some(SIZE));
        mock.fault_json(&report.id, fault).unwrap();
        let bytes = report.bytes(Locale::EnUs);
        Case { mock, report, bytes }
    }

    fn all(&self) -> (Vec<u8>, End) {
        let mut stream = connect(self.mock.http_url());
        stream
            .write_all(request(&self.mock, &self.report).as_bytes())
            .unwrap();
        read_to_end(&mut stream)
    }

    fn parts(&self) -> (String, Vec<u8>, End) {
        let (all, end) = self.all();
        let (head, body) = split(&all);
        (head, body, end)
    }

    fn tls(&self) -> (Vec<u8>, End) {
        let mut stream = connect_tls(&self.mock, self.mock.https_url()).unwrap();
        stream
            .write_all(request(&self.mock, &self.report).as_bytes())
            .unwrap();
        let (all, end) = read_to_end(&mut stream);
        (split(&all).1, end)
    }
}

#[test]
fn cut_after_closes_in_order() {
    let case = Case::new(json!({"cut_after": 300_000}));
    let (head, body, end) = case.parts();
    assert_eq!(header(&head, "Content-Length"), Some("1000000"));
    assert_eq!((body, end), (case.bytes[..300_000].to_vec(), End::Orderly));
    assert_eq!(case.tls(), (case.bytes[..300_000].to_vec(), End::Orderly));
}

#[test]
fn reset_after_sends_all_bytes_first() {
    let case = Case::new(json!({"reset_after": 700_001}));
    let (_, body, end) = case.parts();
    assert_eq!((body.len(), end), (700_001, End::Reset));
    let (body, end) = case.tls();
    assert_eq!((body.len(), end), (700_001, End::Reset));
}

#[test]
fn truncate_tls_sends_no_close_notify() {
    let case = Case::new(json!({"truncate_tls_after": 1000, "framing": "close"}));
    assert_eq!(case.tls(), (case.bytes[..1000].to_vec(), End::Truncated));
}

#[test]
fn stall_after_waits_for_client() {
    let case = Case::new(json!({"stall_after": 10}));
    let mut stream = connect(case.mock.http_url());
    stream
        .write_all(request(&case.mock, &case.report).as_bytes())
        .unwrap();
    stream.set_read_timeout(Some(QUIET)).unwrap();
    let (all, end) = read_to_end(&mut stream);
    assert_eq!((split(&all).1, end), (case.bytes[..10].to_vec(), End::Silent));
}

#[test]
fn hang_and_close_send_no_response() {
    let case = Case::new(json!({"no_answer": true, "times": 1}));
    for fault in ["close_before_answer", "reset_before_answer"] {
        case.mock
            .fault_json(&case.report.id, json!({fault: true, "times": 1}))
            .unwrap();
    }
    let mut stream = connect(case.mock.http_url());
    stream
        .write_all(request(&case.mock, &case.report).as_bytes())
        .unwrap();
    stream.set_read_timeout(Some(QUIET)).unwrap();
    assert_eq!(read_to_end(&mut stream), (Vec::new(), End::Silent));
    assert_eq!(case.all(), (Vec::new(), End::Orderly));
    assert_eq!(case.all(), (Vec::new(), End::Reset));
    let statuses: Vec<_> = case.mock.requests().iter().map(|one| one.status).collect();
    assert_eq!(statuses, [None, None, None]);
}

#[test]
fn chunked_bodies_complete_cut_and_endless() {
    let case = Case::new(json!({"framing": "chunked", "times": 1}));
    for fault in [
        json!({"framing": "chunked", "cut_after": 100_000}),
        json!({"chunked_no_end": true}),
    ] {
        let mut fault = Fault::from_json(fault).unwrap();
        fault.times = Some(1);
        case.mock.fault(&case.report.id, fault).unwrap();
    }
    let mut stream = connect(case.mock.http_url());
    let text = request(&case.mock, &case.report).replace("Host: h", "Host: h\r\nConnection: close");
    stream.write_all(text.as_bytes()).unwrap();
    let (head, body) = split(&read_to_end(&mut stream).0);
    assert_eq!(header(&head, "Transfer-Encoding"), Some("chunked"));
    assert_eq!(header(&head, "Content-Length"), None);
    assert_eq!(unchunk(&body), (case.bytes.clone(), true));

    let (_, body, end) = case.parts();
    assert_eq!(unchunk(&body), (case.bytes[..100_000].to_vec(), false));
    assert_eq!(end, End::Orderly);

    let (_, body, end) = case.parts();
    assert_eq!(unchunk(&body), (case.bytes.clone(), false));
    assert_eq!(end, End::Orderly);
}

#[test]
fn close_framing_ends_body_with_connection() {
    let case = Case::new(json!({"framing": "close"}));
    let (head, body, end) = case.parts();
    assert_eq!(header(&head, "Content-Length"), None);
    assert_eq!(header(&head, "Connection"), Some("close"));
    assert_eq!((body, end), (case.bytes.clone(), End::Orderly));
}

#[test]
fn content_length_faults_send_any_value() {
    for raw in ["4611686018427387904", "-1", "abc", "10"] {
        let case = Case::new(json!({"content_length": raw, "fill": {"size": 100, "byte": 65}}));
        let (head, body, end) = case.parts();
        assert_eq!(header(&head, "Content-Length"), Some(raw));
        assert_eq!((body, end), (vec![65; 100], End::Orderly));
    }
    let case = Case::new(json!({"extra_content_length": "7", "body": "text"}));
    let (head, body, _) = case.parts();
    let lengths: Vec<&str> = head
        .lines()
        .filter(|line| line.starts_with("Content-Length"))
        .collect();
    assert_eq!(lengths, ["Content-Length: 4", "Content-Length: 7"]);
    assert_eq!(body, b"text");
}

#[test]
fn header_faults_add_replace_and_remove() {
    let case = Case::new(json!({
        "status": 302, "reason": "Elsewhere",
        "headers": [["Location", "http://other/"], ["date", "never"], ["X-Request-Id", null]],
    }));
    let mut stream = connect(case.mock.http_url());
    for _ in 0..2 {
        stream
            .write_all(request(&case.mock, &case.report).as_bytes())
            .unwrap();
        let (head, body) = read_answer(&mut stream);
        assert!(head.starts_with("HTTP/1.1 302 Elsewhere\r\n"));
        assert_eq!(header(&head, "Location"), Some("http://other/"));
        assert_eq!(header(&head, "Date"), Some("never"));
        assert_eq!(header(&head, "X-Request-Id"), None);
        assert_eq!(body, b"");
    }
}

#[test]
fn fault_response_precedes_authentication() {
    let mock = MockService::start().unwrap();
    let id = "no-such-report-id";
    let error = json!({"error_code": "APIG.0308"});
    mock.fault(
        id,
        Fault::response_json(429, error.clone())
            .header("Retry-After", "1")
            .once(),
    )
    .unwrap();
    let after_auth = Fault {
        after_auth: true,
        ..Fault::response(500)
    };
    mock.fault(id, after_auth).unwrap();
    let path = common::path(&mock, id);
    let ask = |headers: &str| {
        let mut stream = connect(mock.http_url());
        write!(stream, "GET {path} HTTP/1.1\r\n{headers}\r\n").unwrap();
        read_answer(&mut stream)
    };
    let (head, body) = ask("");
    assert!(head.starts_with("HTTP/1.1 429 Too Many Requests\r\n"));
    assert_eq!(header(&head, "Retry-After"), Some("1"));
    assert_eq!(header(&head, "Content-Type"), Some("application/json"));
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), error);
    assert!(ask("").0.starts_with("HTTP/1.1 401 "));
    assert!(
        ask(&format!("X-Auth-Token: {}\r\n", mock.token()))
            .0
            .starts_with("HTTP/1.1 500 ")
    );
}

#[test]
fn raw_fault_replaces_response() {
    let case = Case::new(json!({"times": 1}));
    case.mock.clear_faults();
    case.mock
        .fault(&case.report.id, Fault::raw(b"\x00nonsense\xff"))
        .unwrap();
    assert_eq!(case.all(), (b"\x00nonsense\xff".to_vec(), End::Orderly));
}

#[test]
fn endless_header_fault_sends_lines() {
    let case = Case::new(json!({"endless_header": true}));
    let mut stream = connect(case.mock.http_url());
    stream
        .write_all(request(&case.mock, &case.report).as_bytes())
        .unwrap();
    let mut bytes = vec![0; 2 << 20];
    stream.read_exact(&mut bytes).unwrap();
    assert!(!bytes.windows(4).any(|four| four == b"\r\n\r\n"));
}

#[test]
fn gzip_fault_compresses_body() {
    let case = Case::new(json!({"gzip": true, "fill": {"size": 5_000_000}}));
    let mut stream = connect(case.mock.http_url());
    stream
        .write_all(request(&case.mock, &case.report).as_bytes())
        .unwrap();
    let (head, body) = read_answer(&mut stream);
    assert_eq!(header(&head, "Content-Encoding"), Some("gzip"));
    assert!(body.len() < 100_000);
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&body[..])
        .read_to_end(&mut plain)
        .unwrap();
    assert_eq!(plain, vec![0; 5_000_000]);
}

#[test]
fn drip_fault_sends_pieces() {
    let case = Case::new(json!({"drip": {"bytes": 400_000, "every_ms": 20}, "delay_ms": 20}));
    let began = std::time::Instant::now();
    let mut stream = connect(case.mock.http_url());
    stream
        .write_all(request(&case.mock, &case.report).as_bytes())
        .unwrap();
    assert_eq!(read_answer(&mut stream).1, case.bytes);
    assert!(began.elapsed().as_millis() >= 60);
}

#[test]
fn listener_faults_apply_before_request() {
    let mock = MockService::start().unwrap();
    let set = |listener, mode: &str| {
        let fault = json!({"listener": listener, "mode": mode, "times": 1});
        mock.listener_fault(serde_json::from_value(fault).unwrap())
            .unwrap();
    };
    set("https", "accept_close");
    assert!(connect_tls(&mock, mock.https_url()).is_err());
    assert!(connect_tls(&mock, mock.https_url()).is_ok());
    set("http", "handshake_stall");
    let text = request(&mock, &mock.pdf());
    let mut stream = connect(mock.http_url());
    stream.write_all(text.as_bytes()).unwrap();
    stream.set_read_timeout(Some(QUIET)).unwrap();
    assert_eq!(read_to_end(&mut stream), (Vec::new(), End::Silent));
    assert_eq!(mock.connections().on(Listener::Https), 2);
    assert_eq!(mock.requests().len(), 0);
}

#[test]
fn drop_ends_all_waits() {
    let case = Case::new(json!({"no_answer": true, "times": 1}));
    let faults = [
        json!({"stall_after": 1, "times": 1}),
        json!({"delay_ms": 3_600_000, "times": 1}),
        json!({"drip": {"bytes": 1, "every_ms": 3_600_000}, "times": 1}),
        json!({"fill": {"size": 1u64 << 40}, "times": 1}),
        json!({"endless_header": true, "times": 1}),
    ];
    let mut streams = vec![connect(case.mock.http_url()), connect(case.mock.https_url())];
    let count = faults.len() + 1;
    for fault in faults {
        case.mock.fault_json(&case.report.id, fault).unwrap();
    }
    for _ in 0..count {
        let mut stream = connect(case.mock.http_url());
        stream
            .write_all(request(&case.mock, &case.report).as_bytes())
            .unwrap();
        streams.push(stream);
    }
    let deadline = std::time::Instant::now() + PATIENCE;
    while case.mock.requests().len() < count {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    let ca_file = case.mock.ca_file().to_owned();
    drop(case.mock);
    assert!(!ca_file.exists());
}
