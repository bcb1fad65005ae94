//! Other origins, the proxy, and the address that lets nobody in.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use dbss_mock::{Format, Listener, Locale, MockService, PROXY_PASSWORD, PROXY_USER};
use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::common::{
    self, End, PATIENCE, QUIET, connect, connect_tls, exchange, header, read_answer, read_to_end, request,
    split, tls_over,
};

fn port(url: &str) -> u16 {
    url.rsplit(':').next().unwrap().parse().unwrap()
}

/// Asks for a tunnel and gives the connection, the response's head taken off.
fn tunnel(mock: &MockService, target: &str, headers: &str) -> (TcpStream, String) {
    let mut stream = connect(mock.proxy_url());
    let text = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{headers}\r\n");
    stream.write_all(text.as_bytes()).unwrap();
    let head = common::read_head(&mut stream);
    (stream, head)
}

#[test]
fn redirect_to_other_origin_of_same_service() {
    let mock = MockService::start().unwrap();
    let report = mock.pdf();
    let origins = [
        mock.http_url(),
        mock.https_url(),
        mock.http_other_url(),
        mock.https_other_url(),
    ];
    assert_eq!(std::collections::HashSet::from(origins.map(port)).len(), 4);
    let elsewhere = mock.http_other_url().to_owned() + &common::path(&mock, &report.id);
    mock.fault_json(
        &report.id,
        json!({"status": 302, "headers": [["Location", elsewhere]], "times": 1}),
    )
    .unwrap();
    let text = request(&mock, &report);
    let mut tls = connect_tls(&mock, mock.https_url()).unwrap();
    tls.write_all(text.as_bytes()).unwrap();
    let (head, _) = read_answer(&mut tls);
    assert_eq!(header(&head, "Location"), Some(&elsewhere[..]));
    let mut plain = connect(mock.http_other_url());
    plain.write_all(text.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut plain).1, report.bytes(Locale::EnUs));
    let mut tls = connect_tls(&mock, mock.https_other_url()).unwrap();
    tls.write_all(text.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut tls).1, report.bytes(Locale::EnUs));
    let seen: Vec<_> = mock.requests().iter().map(|one| one.listener).collect();
    assert_eq!(seen, [Listener::Https, Listener::HttpOther, Listener::HttpsOther]);
}

#[test]
fn connect_to_never_accepts_stays_pending() {
    let mock = MockService::start().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port(mock.never_accepts_url())));
    // Several at once, as a client does that tries again: none may slip in.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let error = TcpStream::connect_timeout(&address, QUIET).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::TimedOut);
            });
        }
    });
}

#[test]
fn proxy_connects_to_this_machine_for_any_host() {
    let mock = MockService::start().unwrap();
    let report = mock.add_report(Format::Bytes, Some(1_000_000));
    let text = request(&mock, &report);
    let target = format!("dbss.example:{}", port(mock.https_url()));
    let (stream, head) = tunnel(&mock, &target, "X-Mark: 1\r\n");
    assert_eq!(head, "HTTP/1.1 200 Connection established\r\n\r\n");
    let mut tls = tls_over(&mock, stream).unwrap();
    for _ in 0..2 {
        tls.write_all(text.as_bytes()).unwrap();
        assert_eq!(read_answer(&mut tls).1, report.bytes(Locale::EnUs));
    }
    let (mut plain, _) = tunnel(&mock, &format!("[::1]:{}", port(mock.http_url())), "");
    plain.write_all(text.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut plain).1, report.bytes(Locale::EnUs));

    let requests = mock.requests();
    let seen: Vec<_> = requests.iter().map(|one| one.listener).collect();
    let https = Listener::Https;
    assert_eq!(
        seen,
        [Listener::Proxy, https, https, Listener::Proxy, Listener::Http]
    );
    assert_eq!(
        (requests[0].method.as_str(), requests[0].target.as_str()),
        ("CONNECT", &target[..])
    );
    assert_eq!(
        (requests[0].header("x-mark"), requests[0].status),
        (Some("1"), Some(200))
    );
    assert_eq!((requests[0].report.as_deref(), requests[0].sent), (None, 0));
    assert_eq!(mock.connections().on(Listener::Proxy), 2);
}

#[test]
fn tunnel_forwards_closes_and_resets() {
    let mock = MockService::start().unwrap();
    let report = mock.add_report(Format::Bytes, Some(1_000_000));
    let target = format!("h:{}", port(mock.http_url()));
    for (fault, length, end) in [
        (json!({"cut_after": 300_000, "times": 1}), 300_000, End::Orderly),
        (json!({"reset_after": 300_001, "times": 1}), 300_001, End::Reset),
    ] {
        mock.fault_json(&report.id, fault).unwrap();
        // All at once: what comes with the request for the tunnel must get through it too.
        let text = format!("CONNECT {target} HTTP/1.1\r\n\r\n{}", request(&mock, &report));
        let (all, ended) = exchange(mock.proxy_url(), &text);
        let (_, response) = split(&all);
        let (_, body) = split(&response);
        assert_eq!((body.len(), ended), (length, end));
    }
    // A client that leaves takes the other side with it.
    let idle = TcpListener::bind("127.0.0.1:0").unwrap();
    let (client, _) = tunnel(&mock, &format!("h:{}", idle.local_addr().unwrap().port()), "");
    let (mut server, _) = idle.accept().unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    drop(client);
    assert_eq!(read_to_end(&mut server), (Vec::new(), End::Orderly));
}

#[test]
fn proxy_auth_fault_requires_credentials() {
    use base64::Engine;
    let mock = MockService::start().unwrap();
    let fault = json!({"listener": "proxy", "mode": "proxy_auth"});
    mock.listener_fault(serde_json::from_value(fault).unwrap())
        .unwrap();
    let target = format!("h:{}", port(mock.http_url()));
    let encoded = |text: &str| {
        let encoded = base64::engine::general_purpose::STANDARD.encode(text);
        format!("Proxy-Authorization: Basic {encoded}\r\n")
    };
    let mut stream = connect(mock.proxy_url());
    let right = encoded(&format!("{PROXY_USER}:{PROXY_PASSWORD}"));
    let wrong = [
        "",
        "Proxy-Authorization: Basic ?\r\n",
        &encoded("proxy-user:other"),
    ];
    for headers in wrong {
        write!(stream, "CONNECT {target} HTTP/1.1\r\n{headers}\r\n").unwrap();
        let (head, _) = read_answer(&mut stream);
        assert!(head.starts_with("HTTP/1.1 407 Proxy Authentication Required\r\n"));
        assert!(header(&head, "Proxy-Authenticate").unwrap().starts_with("Basic "));
    }
    write!(stream, "CONNECT {target} HTTP/1.1\r\n{right}\r\n").unwrap();
    assert!(common::read_head(&mut stream).starts_with("HTTP/1.1 200 "));
    mock.clear_listener_faults();
    assert!(tunnel(&mock, &target, "").1.starts_with("HTTP/1.1 200 "));
    let statuses: Vec<_> = mock.requests().iter().map(|one| one.status.unwrap()).collect();
    assert_eq!(statuses, [407, 407, 407, 200, 200]);
    let elsewhere = json!({"listener": "http", "mode": "proxy_auth"});
    let refused = mock.listener_fault(serde_json::from_value(elsewhere).unwrap());
    assert!(refused.unwrap_err().to_string().contains("proxy_auth"));
}

#[test]
fn proxy_refuses_other_requests() {
    let mock = MockService::start().unwrap();
    // Bound, so that nobody else gets the port, and not listening.
    let unused = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    unused
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let port = unused.local_addr().unwrap().as_socket().unwrap().port();
    for (line, status) in [
        (format!("GET http://h:{port}/"), "405"),
        ("CONNECT h".to_owned(), "400"),
        ("CONNECT h:0".to_owned(), "400"),
        ("CONNECT :80".to_owned(), "400"),
        ("CONNECT h:65536".to_owned(), "400"),
        (format!("CONNECT h:{port}"), "502"),
    ] {
        let (all, _) = exchange(mock.proxy_url(), &format!("{line} HTTP/1.0\r\n\r\n"));
        assert_eq!(split(&all).0.split(' ').nth(1), Some(status), "{line}");
    }
}

#[test]
fn drop_ends_open_and_pending_tunnels() {
    let mock = MockService::start().unwrap();
    let idle = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_open, _) = tunnel(&mock, &format!("h:{}", idle.local_addr().unwrap().port()), "");
    let mut waiting = connect(mock.proxy_url());
    let never = port(mock.never_accepts_url());
    write!(waiting, "CONNECT h:{never} HTTP/1.1\r\n\r\n").unwrap();
    common::wait_until(|| mock.connections().on(Listener::Proxy) == 2);
    let began = std::time::Instant::now();
    drop(mock);
    assert!(began.elapsed().as_secs() < 5);
}
