//! A mock service for the Database Security Service, for tests.
//!
//! It speaks the service's protocol over real loopback sockets, plain and TLS: it checks tokens
//! and signatures, serves PDF and ZIP reports of any size, misbehaves on command, and keeps a
//! request log of what it received. Rust tests start it in-process with [`MockService::start`]; tests in
//! other languages start the program `dbss-mock` and talk to its control address.

#![forbid(unsafe_code)]

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
use tempfile::TempDir;

pub use report::{Format, Locale, ReportInfo};
pub use request_log::{Connections, Recorded};

use credentials::{Keys, Tokens};
use fault::{Action, Fault, Faults, ListenerFault, ListenerFaults, ListenerMode, Script};
use http::{Delivery, RequestError, Requests};
use iam::{IamSettings, Project};
use metadata::MetadataSettings;
use net::{CloseKind, NeverAccepts, Stop, Transport, lock};
use request_log::{Listener, RequestLog, Sent};
use service::Undocumented;
use store::Store;

const RETRY_ACCEPT: Duration = Duration::from_millis(10);

/// A running mock service. Dropping it ends its connections, threads and files.
pub struct MockService {
    shared: Arc<Shared>,
    listeners: Vec<(Arc<TcpListener>, SocketAddr)>,
    threads: Vec<JoinHandle<()>>,
    never_accepts: Option<NeverAccepts>,
    ready: Value,
    _files: TempDir,
}

pub(crate) struct Identity {
    token: String,
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    pub(crate) user: String,
    pub(crate) user_id: String,
    pub(crate) password: String,
    pub(crate) domain: String,
    pub(crate) domain_id: String,
    pub(crate) region: String,
    pub(crate) project_id: String,
    pub(crate) instance_id: String,
    pub(crate) id_token: String,
    pub(crate) idp_id: String,
    pub(crate) provider_urn: String,
    pub(crate) agency_urn: String,
    pub(crate) agency: String,
    pub(crate) agency_domain: String,
    pub(crate) agency_domain_id: String,
    pub(crate) pod_token: String,
}

pub(crate) struct Shared {
    pub(crate) identity: Identity,
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

        let configs: [Option<Arc<ServerConfig>>; Listener::ALL.len()] = [
            None,
            Some(Arc::clone(&certificates.good)),
            None,
            Some(Arc::clone(&certificates.good)),
            Some(certificates.self_signed),
            Some(certificates.expired),
            Some(certificates.wrong_name),
            None,
            None,
            Some(certificates.good),
            None,
        ];
        let mut listeners = Vec::new();
        let mut urls = BTreeMap::new();
        for (name, config) in Listener::ALL.into_iter().zip(&configs) {
            let (listener, address) = bind()?;
            let (scheme, host) = match config {
                Some(_) => ("https", "localhost"),
                None => ("http", "127.0.0.1"),
            };
            urls.insert(name, format!("{scheme}://{host}:{}", address.port()));
            listeners.push((listener, address));
        }
        let (control, control_address) = bind()?;
        listeners.push((Arc::clone(&control), control_address));

        let never_accepts = NeverAccepts::new()?;

        let default = |name: &str, format| {
            ReportInfo::new(random_hex(16), name, format, None).map_err(io::Error::other)
        };
        let defaults = [
            default("Daily audit report", Format::Pdf)?,
            default("Daily audit report data", Format::Zip)?,
        ];
        let identity = Identity::random();
        let tokens = Tokens::default();
        tokens.add(&identity.token);
        let project = Project {
            id: identity.project_id.clone(),
            name: identity.region.clone(),
        };
        let shared = Arc::new(Shared {
            tokens,
            keys: Keys::default(),
            projects: Mutex::new(vec![project]),
            iam_settings: Mutex::default(),
            sessions: Mutex::default(),
            metadata_settings: Mutex::default(),
            store: Mutex::new(Store::new(&identity.region, &identity.instance_id, &defaults)),
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
        for (at, (name, config)) in Listener::ALL.into_iter().zip(configs).enumerate() {
            let listener = Arc::clone(&mock.listeners[at].0);
            mock.spawn(move |shared| {
                accept(shared, &listener, |tcp| {
                    let shared = Arc::clone(shared);
                    let config = config.clone();
                    let connection = shared.request_log.accepted(name);
                    Box::new(move || serve_connection(&shared, name, connection, tcp, config))
                });
            })?;
        }
        mock.spawn(move |shared| {
            accept(shared, &control, |tcp| {
                let shared = Arc::clone(shared);
                Box::new(move || serve_control(&shared, tcp))
            });
        })?;
        Ok(mock)
    }

    fn spawn(&mut self, run: impl FnOnce(&Arc<Shared>) + Send + 'static) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new()
            .name("mock-accept".to_owned())
            .spawn(move || run(&shared))?;
        self.threads.push(thread);
        Ok(())
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

    /// The connections accepted so far, those of the control address apart.
    pub fn connections(&self) -> Connections {
        self.shared.request_log.connections()
    }
}

impl Drop for MockService {
    fn drop(&mut self) {
        self.shared.stop.set();
        // Whoever still waits to get in there is refused: the proxy may be one of them.
        self.never_accepts.take();
        for (listener, address) in &self.listeners {
            // On some systems only the one wakes a blocked accept, on others only the other.
            let _ = SockRef::from(&**listener).shutdown(Shutdown::Both);
            let _ = TcpStream::connect(address);
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

impl Identity {
    fn random() -> Self {
        Identity {
            // Real tokens are CMS messages in base64, well over a kilobyte long.
            token: format!("MIIT{}", random_hex(700)),
            access_key: random_hex(10).to_uppercase(),
            secret_key: random_hex(20),
            user: format!("user-{}", random_hex(6)),
            user_id: random_hex(16),
            // Whatever takes it must neither trim, nor quote, nor escape it wrongly.
            password: format!("p4 ss\"'\\n%00&=<é密> {}", random_hex(6)),
            domain: format!("domain-{}", random_hex(6)),
            domain_id: random_hex(16),
            region: "cn-north-4".to_owned(),
            project_id: random_hex(16),
            instance_id: store::random_uuid(),
            id_token: exchange::random_id_token(),
            idp_id: format!("idp-{}", random_hex(6)),
            provider_urn: format!("iam::{}:oidcProvider:cluster", random_hex(16)),
            agency_urn: format!("iam::{}:agency:audit", random_hex(16)),
            agency: format!("agency-{}", random_hex(6)),
            agency_domain: format!("partner-{}", random_hex(6)),
            agency_domain_id: random_hex(16),
            pod_token: exchange::random_id_token(),
        }
    }
}

impl Shared {
    pub(crate) fn report(&self, id: &str) -> Option<ReportInfo> {
        lock(&self.store).report(id)
    }

    pub(crate) fn new_version(&self, id: &str) -> Option<ReportInfo> {
        lock(&self.store).new_version(id)
    }

    pub(crate) fn add_project(&self, name: &str, id: Option<String>) -> Project {
        let project = Project {
            id: id.unwrap_or_else(|| random_hex(16)),
            name: name.to_owned(),
        };
        lock(&self.projects).push(project.clone());
        project
    }

    pub(crate) fn add_fault(&self, report: &str, fault: Fault) -> Result<(), String> {
        fault.check_for(report)?;
        lock(&self.faults).add(report.to_owned(), fault);
        Ok(())
    }

    pub(crate) fn add_listener_fault(&self, fault: ListenerFault) -> Result<(), String> {
        fault.check()?;
        lock(&self.listener_faults).add(fault);
        Ok(())
    }

    pub(crate) fn state(&self) -> Value {
        let (reports, templates) = {
            let store = lock(&self.store);
            (store.described(), store.templates().to_vec())
        };
        let described = |template: &store::Template| json!({"id": template.id, "name": template.name, "type": template.kind});
        let mut state = json!({
            "control": self.control_url,
            "never_accepts": self.never_accepts_url,
            "ca_file": self.ca_file,
            "token": self.identity.token,
            "access_key": self.identity.access_key,
            "secret_key": self.identity.secret_key,
            "user": self.identity.user,
            "password": self.identity.password,
            "domain": self.identity.domain,
            "user_id": self.identity.user_id,
            "id_token": self.identity.id_token,
            "idp_id": self.identity.idp_id,
            "provider_urn": self.identity.provider_urn,
            "agency_urn": self.identity.agency_urn,
            "agency": self.identity.agency,
            "agency_domain": self.identity.agency_domain,
            "agency_domain_id": self.identity.agency_domain_id,
            "pod_token": self.identity.pod_token,
            "region": self.identity.region,
            "project_id": self.identity.project_id,
            "instance_id": self.identity.instance_id,
            "reports": reports.iter().map(ReportInfo::to_json).collect::<Vec<_>>(),
            "templates": templates.iter().map(described).collect::<Vec<_>>(),
        });
        for (listener, url) in &self.urls {
            state[listener.as_str()] = json!(url);
        }
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

fn accept(
    shared: &Arc<Shared>,
    listener: &TcpListener,
    serve: impl Fn(Arc<TcpStream>) -> Box<dyn FnOnce() + Send>,
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
        let run = serve(Arc::clone(&tcp));
        if tcp.set_nodelay(true).is_err() || !shared.stop.register(&tcp) {
            continue;
        }
        drop(tcp);
        let worker = std::thread::Builder::new()
            .name("mock-connection".to_owned())
            .spawn(run);
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
    connection: u64,
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
        return proxy::serve(shared, connection, tcp, login);
    }
    let mut conn = match config {
        None => Transport::plain(tcp),
        Some(config) => match Transport::tls(tcp, config) {
            Ok(conn) => conn,
            Err(_) => return shared.request_log.tls_failed(),
        },
    };
    let mut requests = Requests::default();
    loop {
        let request = match requests.next(&mut conn) {
            Ok(request) => request,
            Err(RequestError::Gone) => return,
            Err(RequestError::Refused(status, message)) => return refuse(shared, conn, status, message),
        };
        if let Some((status, message)) = request.too_long()
            && !lock(&shared.undocumented).long_headers
        {
            return refuse(shared, conn, status, message);
        }
        let (script, sent) = service::respond(shared, listener, connection, &request);
        match serve_request(shared, &mut conn, &request, script, &sent) {
            Ok(None) => {}
            Ok(Some(ending)) => return conn.end(ending),
            // The client has closed the connection, or the mock service stops.
            Err(_) => return,
        }
    }
}

fn serve_request(
    shared: &Shared,
    conn: &mut Transport,
    request: &http::Request,
    script: Script,
    sent: &Sent,
) -> io::Result<Option<CloseKind>> {
    if !script.delay.is_zero() {
        shared.stop.pause(script.delay)?;
    }
    match script.act {
        Action::Response(response) => {
            let (response, delivery) = *response;
            http::deliver(conn, &shared.stop, request, &response, &delivery, sent)
        }
        Action::Raw(bytes) => {
            sent.add(bytes.len() as u64);
            conn.write_all(&bytes)?;
            conn.flush()?;
            Ok(Some(CloseKind::Close))
        }
        Action::EndlessHeader => {
            http::endless_header(conn)?;
            Ok(Some(CloseKind::Close))
        }
        Action::End(ending) => Ok(Some(ending)),
    }
}

fn refuse(shared: &Shared, mut conn: Transport, status: u16, message: &str) {
    let response = service::gateway_error(status, "APIG.0201", message);
    let delivery = Delivery {
        close: true,
        ..Delivery::default()
    };
    let request = http::Request::default();
    if http::deliver(
        &mut conn,
        &shared.stop,
        &request,
        &response,
        &delivery,
        &Sent::default(),
    )
    .is_ok()
    {
        conn.end(CloseKind::Close);
    }
}

/// Serves one request of the control address.
fn serve_control(shared: &Shared, tcp: Arc<TcpStream>) {
    let mut conn = Transport::plain(tcp);
    match Requests::default().next(&mut conn) {
        Ok(request) => {
            let response = control::respond(shared, &request);
            let delivery = Delivery {
                close: true,
                ..Delivery::default()
            };
            if http::deliver(
                &mut conn,
                &shared.stop,
                &request,
                &response,
                &delivery,
                &Sent::default(),
            )
            .is_ok()
            {
                conn.end(CloseKind::Close);
            }
        }
        Err(RequestError::Gone) => {}
        Err(RequestError::Refused(status, message)) => refuse(shared, conn, status, message),
    }
}
