//! A client that shows what is on the wire, nothing more.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dbss_mock::{MockService, ReportInfo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// How the server's side of a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// FIN; over TLS after `close_notify`.
    Orderly,
    /// FIN without `close_notify`.
    Truncated,
    /// RST.
    Reset,
    /// Not at all: nothing came for a while.
    Silent,
}

/// Long enough for a loaded machine; only a test that is about to fail waits for it.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long a server must be quiet to be called silent.
pub const QUIET: Duration = Duration::from_millis(100);

pub fn connect(url: &str) -> TcpStream {
    let port = url.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

pub fn connect_tls(mock: &MockService, url: &str) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    tls_over(mock, connect(url))
}

/// Shakes hands on a connection that is there.
pub fn tls_over(
    mock: &MockService,
    stream: TcpStream,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(mock.ca_file()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(client, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

pub fn path(mock: &MockService, id: &str) -> String {
    let (project, instance) = (mock.project_id(), mock.instance_id());
    format!("/v1/{project}/audit/{instance}/reports/{id}/download")
}

pub fn request(mock: &MockService, report: &ReportInfo) -> String {
    let path = path(mock, &report.id);
    let token = mock.token();
    format!("GET {path} HTTP/1.1\r\nHost: h\r\nX-Auth-Token: {token}\r\n\r\n")
}

/// The same with more header lines.
pub fn request_with(mock: &MockService, report: &ReportInfo, headers: &str) -> String {
    request(mock, report).replace("Host: h\r\n", &format!("Host: h\r\n{headers}"))
}

/// Waits for something that is bound to happen soon.
pub fn wait_until(mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain");
        std::thread::yield_now();
    }
}

/// Everything until the end, and what end it was.
pub fn read_to_end(stream: &mut impl Read) -> (Vec<u8>, End) {
    let mut all = Vec::new();
    let mut buf = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buf) {
            Ok(0) => return (all, End::Orderly),
            Ok(n) => all.extend(&buf[..n]),
            Err(error) => {
                let end = match error.kind() {
                    ErrorKind::UnexpectedEof => End::Truncated,
                    ErrorKind::ConnectionReset => End::Reset,
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => End::Silent,
                    kind => panic!("{kind:?}"),
                };
                return (all, end);
            }
        }
    }
}

/// The head of a response and not a byte more.
pub fn read_head(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let mut one = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut one).unwrap();
        bytes.push(one[0]);
    }
    String::from_utf8(bytes).unwrap()
}

/// One answer whose body is framed by its length, off a connection that stays open.
pub fn read_answer(stream: &mut impl Read) -> (String, Vec<u8>) {
    let head = read_head(stream);
    let length = header(&head, "Content-Length").unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

pub fn split(response: &[u8]) -> (String, Vec<u8>) {
    let at = response.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    (
        String::from_utf8(response[..at].to_vec()).unwrap(),
        response[at..].to_vec(),
    )
}

pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (given, value) = line.split_once(':')?;
        given.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// Undoes chunked framing; says whether the last chunk was there.
pub fn unchunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&rest[..at]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        rest = &rest[at + 2..];
        if size == 0 {
            return (body, rest == b"\r\n");
        }
        let there = size.min(rest.len());
        body.extend(&rest[..there]);
        rest = rest.get(there + 2..).unwrap_or_default();
    }
    (body, false)
}

/// Sends one request on a connection of its own and reads all there is.
pub fn exchange(url: &str, request: &str) -> (Vec<u8>, End) {
    let mut stream = connect(url);
    stream.write_all(request.as_bytes()).unwrap();
    read_to_end(&mut stream)
}

/// A request that tests put together, sign and spoil.
#[derive(Debug, Clone, Default)]
pub struct Call {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Call {
    pub fn new(method: &str, target: &str) -> Self {
        Call {
            method: method.to_owned(),
            target: target.to_owned(),
            ..Call::default()
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = body.to_string();
        self.header("Content-Type", "application/json;charset=utf-8")
    }

    /// Signs all there is so far, as of `ago` seconds before now.
    pub fn signed(self, access: &str, secret: &str, ago: i64) -> Self {
        use hmac::{Hmac, KeyInit, Mac};
        use sha2::{Digest, Sha256};
        let at = time::OffsetDateTime::now_utc() - time::Duration::seconds(ago);
        let (day, hour) = (at.date().to_string().replace('-', ""), at.hour());
        let date = format!("{day}T{hour:02}{:02}{:02}Z", at.minute(), at.second());
        let call = self.header("Host", "h").header("X-Sdk-Date", &date);
        let mut sorted: Vec<_> = call
            .headers
            .iter()
            .map(|(name, value)| (name.to_lowercase(), value))
            .collect();
        sorted.sort();
        let names: Vec<&str> = sorted.iter().map(|header| &*header.0).collect();
        let lines: String = sorted
            .iter()
            .map(|(name, value)| format!("{name}:{value}\n"))
            .collect();
        // None of the targets here needs to be encoded or sorted.
        let (path, query) = call.target.split_once('?').unwrap_or((&call.target, ""));
        let (method, names, hash) = (&call.method, names.join(";"), Sha256::digest(&call.body));
        let canonical = format!(
            "{method}\n{path}/\n{query}\n{lines}\n{names}\n{}",
            hex::encode(hash)
        );
        let digest = hex::encode(Sha256::digest(canonical));
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("SDK-HMAC-SHA256\n{date}\n{digest}").as_bytes());
        let signature = hex::encode(mac.finalize().into_bytes());
        call.header(
            "Authorization",
            &format!("SDK-HMAC-SHA256 Access={access}, SignedHeaders={names}, Signature={signature}"),
        )
    }

    pub fn send(&self, url: &str) -> Reply {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("Content-Length: {}\r\nConnection: close\r\n\r\n", self.body.len());
        let (all, end) = exchange(url, &(text + &self.body));
        assert_eq!(end, End::Orderly);
        let (head, body) = split(&all);
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, head, body }
    }
}

impl Reply {
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(header(&self.head, "Content-Type"), Some("application/json"));
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// How far a time as the services write it lies ahead, in seconds.
pub fn ahead(timestamp: &serde_json::Value) -> f64 {
    let text = timestamp.as_str().unwrap();
    let format = time::macros::format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z"
    );
    let time = time::PrimitiveDateTime::parse(text, format).unwrap().assume_utc();
    (time - time::OffsetDateTime::now_utc()).as_seconds_f64()
}
