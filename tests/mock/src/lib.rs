//! A mock service for the Database Security Service, for tests.
//!
//! It speaks the service's protocol over real loopback sockets, plain and TLS: it checks tokens
//! and signatures, serves PDF and ZIP reports of any size, misbehaves on command, and keeps a
//! request log of what it received. Rust tests start it in-process with [`MockService::start`]; tests in
//! other languages start the program `dbss-mock` and talk to its control address.

#![forbid(unsafe_code)]

mod calls;
mod content;
mod control;
mod credentials;
mod exchange;
mod fault;
mod http;
mod iam;
mod management;
mod metadata;
mod net;
mod proxy;
mod range;
mod report;
mod request_log;
mod service;
mod signature;
mod store;
mod tls;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::ServerConfig;
use serde_json::{Value, json};
use socket2::SockRef;
use strum::VariantArray;
use tempfile::TempDir;

pub use report::{Format, Locale, ReportInfo};
pub use request_log::Recorded;

use credentials::{Keys, Tokens};
use fault::{Fault, Faults, Instead, ListenerFaults, ListenerMode};
use http::{Request, RequestError, Requests, Response};
use iam::{IamSettings, Project};
use metadata::MetadataSettings;
use net::{CloseKind, NeverAccepts, Stop, Transport, lock};
use request_log::{Listener, RequestLog, Sent};
use service::Reply;
use store::Store;

const RETRY_ACCEPT: Duration = Duration::from_millis(10);

/// A running mock service. Dropping it ends its connections, threads and files.
pub struct MockService {
    shared: Arc<Shared>,
    listeners: Vec<(Arc<TcpListener>, SocketAddr, Option<Arc<ServerConfig>>)>,
    threads: Vec<JoinHandle<()>>,
    never_accepts: Option<NeverAccepts>,
    ready: Value,
    _files: TempDir,
}

/// What the service does where its documents say nothing.
#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Undocumented {
    long_headers: bool,
}

pub(crate) struct Shared {
    /// Who and what there is, by the names of the ready line.
    pub(crate) identity: BTreeMap<&'static str, String>,
    pub(crate) tokens: Tokens,
    pub(crate) keys: Keys,
    pub(crate) projects: Mutex<Vec<Project>>,
    pub(crate) iam_settings: Mutex<IamSettings>,
    pub(crate) sessions: Mutex<metadata::Sessions>,
    pub(crate) metadata_settings: Mutex<MetadataSettings>,
    pub(crate) faults: Mutex<Faults>,
    pub(crate) listener_faults: Mutex<ListenerFaults>,
    pub(crate) request_log: RequestLog,
    pub(crate) store: Mutex<Store>,
    pub(crate) undocumented: Mutex<Undocumented>,
    pub(crate) urls: BTreeMap<Listener, String>,
    control_url: String,
    never_accepts_url: String,
    ca_file: PathBuf,
    stop: Stop,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

impl MockService {
    /// Starts every listener, each on its own port.
    pub fn start() -> io::Result<Self> {
        let certificates = tls::certificates()?;
        let files = tempfile::Builder::new().prefix("dbss-mock-").tempdir()?;
        let ca_file = files.path().join("ca.pem");
        std::fs::write(&ca_file, &certificates.ca_pem)?;

        let config = |listener| match listener {
            Listener::Https | Listener::HttpsOther | Listener::IamHttps => Some(&certificates.good),
            Listener::HttpsSelfSigned => Some(&certificates.self_signed),
            Listener::HttpsExpired => Some(&certificates.expired),
            Listener::HttpsWrongName => Some(&certificates.wrong_name),
            _ => None,
        };
        let mut listeners = Vec::new();
        let mut urls = BTreeMap::new();
        for name in Listener::VARIANTS {
            let (listener, address) = bind()?;
            let config = config(*name).cloned();
            let (scheme, host) = match config {
                Some(_) => ("https", "localhost"),
                None => ("http", "127.0.0.1"),
            };
            urls.insert(*name, format!("{scheme}://{host}:{}", address.port()));
            listeners.push((listener, address, config));
        }
        let (control, control_address) = bind()?;
        listeners.push((control, control_address, None));

        let never_accepts = NeverAccepts::new()?;

        let identity = identity();
        let tokens = Tokens::default();
        tokens.add(&identity["token"]);
        let project = Project {
            id: identity["project_id"].clone(),
            name: identity["region"].clone(),
        };
        let store = Store::new(&identity["region"], &identity["instance_id"]).map_err(io::Error::other)?;
        let shared = Arc::new(Shared {
            tokens,
            keys: Keys::default(),
            projects: Mutex::new(vec![project]),
            iam_settings: Mutex::default(),
            sessions: Mutex::default(),
            metadata_settings: Mutex::default(),
            store: Mutex::new(store),
            identity,
            faults: Mutex::default(),
            listener_faults: Mutex::default(),
            undocumented: Mutex::default(),
            request_log: RequestLog::default(),
            urls,
            control_url: format!("http://{control_address}"),
            never_accepts_url: format!("http://{}", never_accepts.address()?),
            ca_file,
            stop: Stop::default(),
            workers: Mutex::default(),
        });

        let mut mock = MockService {
            ready: shared.state(),
            shared,
            listeners,
            threads: Vec::new(),
            never_accepts: Some(never_accepts),
            _files: files,
        };
        // The last one is the control address.
        let names = Listener::VARIANTS.iter().copied().map(Some).chain([None]);
        for (name, (listener, _, config)) in names.zip(&mock.listeners) {
            let (listener, config) = (Arc::clone(listener), config.clone());
            let shared = Arc::clone(&mock.shared);
            let thread = std::thread::Builder::new()
                .name("mock-accept".to_owned())
                .spawn(move || accept(&shared, &listener, name, config.as_ref()))?;
            mock.threads.push(thread);
        }
        Ok(mock)
    }

    /// A text of the ready line, such as the address `http` or the `token`.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn value(&self, name: &str) -> &str {
        match self.ready[name].as_str() {
            Some(value) => value,
            None => panic!("the ready line has no {name}"),
        }
    }

    /// The object that the program prints when it is ready.
    pub fn ready(&self) -> &Value {
        &self.ready
    }

    /// Does what the control address does for a request.
    pub fn control(&self, method: &str, target: &str, body: &Value) -> Result<Value, String> {
        control::act(&self.shared, method, target, body)
    }

    /// The report of this id.
    pub fn report(&self, id: &str) -> Option<ReportInfo> {
        lock(&self.shared.store).report(id)
    }

    /// Every request received, in order; or those for one report, or of the call of this name.
    pub fn requests(&self, of: Option<&str>) -> Vec<Recorded> {
        self.shared.request_log.requests(of)
    }

    /// The number of connections accepted so far, those of the control address apart.
    pub fn connections(&self) -> u64 {
        self.shared.request_log.total()
    }
}

impl Drop for MockService {
    fn drop(&mut self) {
        self.shared.stop.set();
        // Whoever still waits to get in there is refused: the proxy may be one of them.
        self.never_accepts.take();
        for (listener, address, _) in &self.listeners {
            // On some systems the one wakes a blocked accept, on others, where it fails, the other.
            // Not both: after the one the port is free, and maybe already another process's.
            if SockRef::from(&**listener).shutdown(Shutdown::Both).is_err() {
                let _ = TcpStream::connect(address);
            }
        }
        let workers = || std::mem::take(&mut *lock(&self.shared.workers));
        for thread in self.threads.drain(..).chain(workers()) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
        for thread in workers() {
            let _ = thread.join();
        }
    }
}

fn identity() -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        // Real tokens are CMS messages in base64, well over a kilobyte long.
        ("token", format!("MIIT{}", random_hex(700))),
        ("access_key", random_hex(10).to_uppercase()),
        ("secret_key", random_hex(20)),
        ("user", format!("user-{}", random_hex(6))),
        ("user_id", random_hex(16)),
        // Whatever takes it must neither trim, nor quote, nor escape it wrongly.
        ("password", format!("p4 ss\"'\\n%00&=<é密> {}", random_hex(6))),
        ("domain", format!("domain-{}", random_hex(6))),
        ("domain_id", random_hex(16)),
        ("region", "cn-north-4".to_owned()),
        ("project_id", random_hex(16)),
        ("instance_id", store::random_uuid()),
        ("id_token", exchange::random_id_token()),
        ("idp_id", format!("idp-{}", random_hex(6))),
        (
            "provider_urn",
            format!("iam::{}:oidcProvider:cluster", random_hex(16)),
        ),
        ("agency_urn", format!("iam::{}:agency:audit", random_hex(16))),
        ("agency", format!("agency-{}", random_hex(6))),
        ("agency_domain", format!("partner-{}", random_hex(6))),
        ("agency_domain_id", random_hex(16)),
        ("pod_token", exchange::random_id_token()),
    ])
}

impl Shared {
    pub(crate) fn add_project(&self, name: String, id: Option<String>) -> Project {
        let id = id.unwrap_or_else(|| random_hex(16));
        let project = Project { id, name };
        lock(&self.projects).push(project.clone());
        project
    }

    pub(crate) fn state(&self) -> Value {
        let (reports, templates) = {
            let store = lock(&self.store);
            (store.described(), store.templates.clone())
        };
        let template = |one: &store::Template| json!({"id": one.id, "name": one.name, "type": one.kind});
        let mut state = json!(self.identity);
        for (listener, url) in &self.urls {
            state[json!(listener).as_str().unwrap_or_default()] = json!(url);
        }
        state["control"] = json!(self.control_url);
        state["never_accepts"] = json!(self.never_accepts_url);
        state["ca_file"] = json!(self.ca_file);
        state["reports"] = reports.iter().map(ReportInfo::to_json).collect();
        state["templates"] = templates.iter().map(template).collect();
        state
    }
}

/// Random bytes in hexadecimal, two digits each.
pub(crate) fn random_hex(bytes: usize) -> String {
    let mut buf = vec![0; bytes];
    random(&mut buf);
    hex::encode(buf)
}

pub(crate) fn random(buf: &mut [u8]) {
    if let Err(error) = getrandom::fill(buf) {
        panic!("no randomness: {error}");
    }
}

fn bind() -> io::Result<(Arc<TcpListener>, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    Ok((Arc::new(listener), address))
}

/// Serves each connection of a listener, or of the control address, on a thread of its own.
fn accept(
    shared: &Arc<Shared>,
    listener: &TcpListener,
    name: Option<Listener>,
    config: Option<&Arc<ServerConfig>>,
) {
    loop {
        let accepted = listener.accept();
        if shared.stop.is_set() {
            return;
        }
        let Ok((tcp, _)) = accepted else {
            // Out of descriptors, most likely: some connection has to end first.
            if shared.stop.pause(RETRY_ACCEPT).is_err() {
                return;
            }
            continue;
        };
        let tcp = Arc::new(tcp);
        if let Some(name) = name {
            shared.request_log.accepted(name);
        }
        if tcp.set_nodelay(true).is_err() || !shared.stop.register(&tcp) {
            continue;
        }
        let (own, config) = (Arc::clone(shared), config.cloned());
        let worker = std::thread::Builder::new().name("mock-connection".to_owned());
        let worker = worker.spawn(move || match name {
            Some(name) => serve_connection(&own, name, tcp, config),
            None => serve_control(&own, tcp),
        });
        if let Ok(worker) = worker {
            let mut workers = lock(&shared.workers);
            workers.retain(|known| !known.is_finished());
            workers.push(worker);
        }
    }
}

/// Serves one connection of a service until it ends.
fn serve_connection(
    shared: &Shared,
    listener: Listener,
    tcp: Arc<TcpStream>,
    config: Option<Arc<ServerConfig>>,
) {
    let fault = lock(&shared.listener_faults).take(listener);
    match fault {
        Some(ListenerMode::AcceptClose) => return Transport::plain(tcp).end(CloseKind::Close),
        Some(ListenerMode::HandshakeStall) => return Transport::plain(tcp).end(CloseKind::Stall),
        Some(ListenerMode::ProxyAuth) | None => {}
    }
    if listener == Listener::Proxy {
        let login = fault == Some(ListenerMode::ProxyAuth);
        return proxy::serve(shared, tcp, login);
    }
    let mut conn = match config {
        None => Transport::plain(tcp),
        Some(config) => match Transport::tls(tcp, config) {
            Ok(conn) => conn,
            Err(_) => return,
        },
    };
    let mut requests = Requests::default();
    loop {
        let request = match requests.next(&mut conn) {
            Ok(request) => request,
            Err(error) => return refuse(shared, conn, error),
        };
        if let Some((status, message)) = request.too_long()
            && !lock(&shared.undocumented).long_headers
        {
            return refuse(shared, conn, RequestError::Refused(status, message));
        }
        let reply = service::respond(shared, listener, &request);
        match send(shared, &mut conn, &request, reply) {
            Ok(None) => {}
            Ok(Some(ending)) => return conn.end(ending),
            // The client has closed the connection, or the mock service stops.
            Err(_) => return,
        }
    }
}

fn send(
    shared: &Shared,
    conn: &mut Transport,
    request: &Request,
    reply: Reply,
) -> io::Result<Option<CloseKind>> {
    let Reply {
        response,
        fault,
        sent,
    } = reply;
    if fault.delay_ms > 0 {
        let delay = Duration::from_millis(fault.delay_ms);
        shared
            .stop
            .pause_while(delay, || lock(&shared.faults).delays(&fault))?;
    }
    if let Some(response) = response {
        return http::deliver(conn, &shared.stop, request, &response, &fault, &sent);
    }
    match fault.instead() {
        Some(Instead::Raw(bytes)) => {
            sent.add(bytes.len() as u64);
            conn.write_all(&bytes)?;
            conn.flush()?;
        }
        Some(Instead::EndlessHeader) => http::endless_header(conn)?,
        Some(Instead::End(ending)) => return Ok(Some(ending)),
        None => {}
    }
    Ok(Some(CloseKind::Close))
}

fn refuse(shared: &Shared, conn: Transport, error: RequestError) {
    if let RequestError::Refused(status, message) = error {
        let response = service::gateway_error(status, "APIG.0201", message);
        send_last(shared, conn, &Request::default(), response);
    }
}

fn send_last(shared: &Shared, mut conn: Transport, request: &Request, mut response: Response) {
    response.close = true;
    let (fault, sent) = (Fault::default(), Sent::default());
    if http::deliver(&mut conn, &shared.stop, request, &response, &fault, &sent).is_ok() {
        conn.end(CloseKind::Close);
    }
}

/// Serves one request of the control address.
fn serve_control(shared: &Shared, tcp: Arc<TcpStream>) {
    let mut conn = Transport::plain(tcp);
    match Requests::default().next(&mut conn) {
        Ok(request) => {
            let response = control::respond(shared, &request);
            send_last(shared, conn, &request, response);
        }
        Err(error) => refuse(shared, conn, error),
    }
}
