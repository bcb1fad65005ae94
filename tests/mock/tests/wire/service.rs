//! What the service answers to requests good and bad.

use std::io::Write;

use dbss_mock::{Format, Locale, MockService, Undocumented};
use serde_json::Value;

use crate::common::{self, connect, connect_tls, exchange, header, path, read_answer, request, split};

fn ask(mock: &MockService, method: &str, target: &str, headers: &str) -> (String, Vec<u8>) {
    let text = format!("{method} {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n");
    split(&exchange(mock.http_url(), &text).0)
}

fn error(mock: &MockService, method: &str, target: &str, headers: &str) -> (u16, String) {
    let (head, body) = ask(mock, method, target, headers);
    let json: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(header(&head, "X-Request-Id").unwrap().len(), 32);
    assert!(header(&head, "Date").unwrap().ends_with(" GMT"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, json["error_code"].as_str().unwrap().to_owned())
}

#[test]
fn reports_have_both_languages_and_headers() {
    let mock = MockService::start().unwrap();
    let token = format!("X-Auth-Token: {}\r\n", mock.token());
    let kinds = [(mock.pdf(), "application/pdf"), (mock.zip(), "application/zip")];
    for (report, kind) in kinds {
        let path = path(&mock, &report.id);
        let queries = [
            ("", Locale::EnUs),
            ("?local=en-us", Locale::EnUs),
            ("?local=zh-cn", Locale::ZhCn),
        ];
        for (query, locale) in queries {
            let (head, body) = ask(&mock, "GET", &format!("{path}{query}"), &token);
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
            assert_eq!(body, report.bytes(locale));
            assert_eq!(header(&head, "Content-Type"), Some(kind));
            assert_eq!(header(&head, "ETag"), Some(report.etag(locale)));
            let disposition = header(&head, "Content-Disposition").unwrap();
            assert_eq!(
                disposition.contains("filename*=UTF-8''%E5"),
                locale == Locale::ZhCn
            );
        }
    }
}

#[test]
fn errors_follow_documented_order() {
    let mock = MockService::start().unwrap();
    let id = mock.pdf().id;
    let good = path(&mock, &id);
    let token = format!("X-Auth-Token: {}\r\n", mock.token());
    let check = |method: &str, target: &str, headers: &str, status: u16, code: &str| {
        let got = error(&mock, method, target, headers);
        assert_eq!(got, (status, code.to_owned()), "{method} {target}");
    };
    let project = mock.project_id();
    check("GET", &good, "", 401, "APIG.0301");
    check("GET", &good, "X-Auth-Token: other\r\n", 401, "APIG.0301");
    check(
        "GET",
        &good,
        "Authorization: SDK-HMAC-SHA256 Access=x\r\n",
        401,
        "APIG.0301",
    );
    check("GET", "/v1/x", &token, 404, "APIG.0101");
    check("POST", &good, &token, 404, "APIG.0101");
    check("GET", &good.replace(&id, "short"), &token, 400, "DBSS.10020021");
    check(
        "GET",
        &good.replace(&id, "0123456789abcde%2F"),
        &token,
        400,
        "DBSS.10020021",
    );
    check("GET", &good.replace(project, "p"), &token, 400, "DBSS.10020021");
    check(
        "GET",
        &format!("{good}?local=fr-fr"),
        &token,
        400,
        "DBSS.10000001",
    );
    mock.set_undocumented(Undocumented {
        forbidden_code: Some("X.1".to_owned()),
        ..Undocumented::default()
    });
    check("GET", &good.replace(project, &"0".repeat(32)), &token, 403, "X.1");
    check(
        "GET",
        &good.replace(mock.instance_id(), &"0".repeat(36)),
        &token,
        404,
        "DBSS.10021004",
    );
    check(
        "GET",
        &good.replace(&id, &"0".repeat(32)),
        &token,
        404,
        "DBSS.10021004",
    );
}

#[test]
fn tokens_are_added_and_revoked() {
    let mock = MockService::start().unwrap();
    let path = path(&mock, &mock.pdf().id);
    let token = "t".repeat(30_000);
    let status = || {
        let (head, _) = ask(&mock, "GET", &path, &format!("X-Auth-Token: {token}\r\n"));
        head.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(status(), "401");
    mock.add_token(&token);
    assert_eq!(status(), "200");
    assert!(mock.revoke_token(&token));
    assert_eq!(status(), "401");
}

#[test]
fn connection_serves_several_requests() {
    let mock = MockService::start().unwrap();
    let (pdf, zip) = (mock.pdf(), mock.zip());
    let both = request(&mock, &pdf) + &request(&mock, &zip);
    let mut plain = connect(mock.http_url());
    plain.write_all(both.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut plain).1, pdf.bytes(Locale::EnUs));
    assert_eq!(read_answer(&mut plain).1, zip.bytes(Locale::EnUs));
    let mut tls = connect_tls(&mock, mock.https_url()).unwrap();
    tls.write_all(both.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut tls).1, pdf.bytes(Locale::EnUs));
    assert_eq!(read_answer(&mut tls).1, zip.bytes(Locale::EnUs));

    let numbers: Vec<u64> = mock.requests().iter().map(|one| one.connection).collect();
    assert_eq!(numbers, [1, 1, 2, 2]);
    let recorded = &mock.requests_for(&zip.id)[1];
    assert_eq!(recorded.listener.as_str(), "https");
    assert_eq!(recorded.status, Some(200));
    assert_eq!(recorded.path, path(&mock, &zip.id));
    assert_eq!(recorded.header("x-auth-token"), Some(mock.token()));
}

#[test]
fn large_report_is_complete() {
    let mock = MockService::start().unwrap();
    for format in [Format::Pdf, Format::Zip, Format::Bytes] {
        let report = mock.add_report(format, Some(5_000_001));
        let mut stream = connect(mock.http_url());
        stream.write_all(request(&mock, &report).as_bytes()).unwrap();
        let (_, body) = read_answer(&mut stream);
        assert_eq!(body.len(), 5_000_001);
        assert_eq!(body, report.bytes(Locale::EnUs));
    }
}

#[test]
fn bad_certificates_fail_and_count_as_tls_failures() {
    let mock = MockService::start().unwrap();
    let bad = [
        mock.https_self_signed_url(),
        mock.https_expired_url(),
        mock.https_wrong_name_url(),
    ];
    for url in bad {
        assert!(connect_tls(&mock, url).is_err());
    }
    assert!(connect_tls(&mock, mock.https_url()).is_ok());
    let deadline = std::time::Instant::now() + common::PATIENCE;
    while mock.connections().tls_failures < 3 {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    assert_eq!(mock.connections().total, 4);
}
