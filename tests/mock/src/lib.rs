//! A mock service for the Database Security Service, for tests.
//!
//! It speaks the service's protocol over real loopback sockets, plain and TLS: it checks tokens
//! and signatures, serves PDF and ZIP reports of any size, misbehaves on command, and keeps a
//! request log of what it received. Rust tests start it in-process with [`MockService::start`]; tests in
//! other languages start the program `dbss-mock` and talk to its control address.
//!
//! ```
//! use dbss_mock::{Fault, Locale, MockService};
//!
//! let mock = MockService::start()?;
//! let report = mock.pdf();
//! assert!(report.bytes(Locale::EnUs).starts_with(b"%PDF-"));
//! let fault = Fault { cut_after: Some(100), ..Fault::default() };
//! mock.fault(&report.id, fault.once())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]

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
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::ServerConfig;
use serde_json::{Value, json};
use socket2::SockRef;
use tempfile::TempDir;

pub use fault::{
    CALLS, CutKind, CutRandom, Drip, EVERY_REPORT, Fault, Fill, Framing, InvalidFault, ListenerFault,
    ListenerMode,
};
pub use iam::{IamSettings, Project};
pub use metadata::MetadataSettings;
pub use proxy::{PROXY_PASSWORD, PROXY_USER};
pub use report::{Format, Locale, ReportInfo, TooSmall, UnknownLocale};
pub use request_log::{Connections, Listener, Recorded};
pub use service::{Etag, Undocumented, Unfinished};
pub use store::{Generation, InstanceList, InstancesVersion, Paging, ReportRefused, Shapes, UnknownTemplate};

use credentials::{Keys, Tokens};
use fault::{Action, Faults, ListenerFaults, Script};
use http::{Delivery, RequestError, Requests};
use net::{CloseKind, NeverAccepts, Stop, Transport, lock};
use request_log::{RequestLog, Sent};
use store::{NewInstances, NewReports, Store};

const RETRY_ACCEPT: Duration = Duration::from_millis(10);

/// A running mock service. Dropping it ends its connections, threads and files.
pub struct MockService {
    shared: Arc<Shared>,
    listeners: Vec<(Arc<TcpListener>, SocketAddr)>,
    threads: Vec<JoinHandle<()>>,
    never_accepts: Option<NeverAccepts>,
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
    defaults: [String; 2],
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
            defaults: defaults.map(|report| report.id),
            urls,
            control_url: format!("http://{control_address}"),
            never_accepts_url: format!("http://{}", never_accepts.address()?),
            ca_file,
            stop: Stop::default(),
            workers: Mutex::default(),
        });

        let mut mock = MockService {
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

    /// The address of a listener.
    pub fn url(&self, listener: Listener) -> &str {
        &self.shared.urls[&listener]
    }

    /// The plain address.
    pub fn http_url(&self) -> &str {
        self.url(Listener::Http)
    }

    /// The TLS address with a good certificate.
    pub fn https_url(&self) -> &str {
        self.url(Listener::Https)
    }

    /// Another plain address of the same service: another origin.
    pub fn http_other_url(&self) -> &str {
        self.url(Listener::HttpOther)
    }

    /// Another TLS address of the same service, with a good certificate: another origin.
    pub fn https_other_url(&self) -> &str {
        self.url(Listener::HttpsOther)
    }

    /// The TLS address with a self-signed certificate.
    pub fn https_self_signed_url(&self) -> &str {
        self.url(Listener::HttpsSelfSigned)
    }

    /// The TLS address with an expired certificate.
    pub fn https_expired_url(&self) -> &str {
        self.url(Listener::HttpsExpired)
    }

    /// The TLS address whose certificate is for another name.
    pub fn https_wrong_name_url(&self) -> &str {
        self.url(Listener::HttpsWrongName)
    }

    /// The proxy's address. It connects only to this machine, whatever the host.
    pub fn proxy_url(&self) -> &str {
        self.url(Listener::Proxy)
    }

    /// The plain address of IAM.
    pub fn iam_url(&self) -> &str {
        self.url(Listener::Iam)
    }

    /// The TLS address of IAM, with a good certificate.
    pub fn iam_https_url(&self) -> &str {
        self.url(Listener::IamHttps)
    }

    /// The address of the instance metadata service.
    pub fn metadata_url(&self) -> &str {
        self.url(Listener::Metadata)
    }

    /// A plain address where connecting neither succeeds nor fails.
    pub fn never_accepts_url(&self) -> &str {
        &self.shared.never_accepts_url
    }

    /// The address of the control interface.
    pub fn control_url(&self) -> &str {
        &self.shared.control_url
    }

    /// The certificate of the authority, in PEM; removed when the mock service is dropped.
    pub fn ca_file(&self) -> &Path {
        &self.shared.ca_file
    }

    /// A valid token.
    pub fn token(&self) -> &str {
        &self.shared.identity.token
    }

    /// The access key.
    pub fn access_key(&self) -> &str {
        &self.shared.identity.access_key
    }

    /// The secret key that belongs to the access key.
    pub fn secret_key(&self) -> &str {
        &self.shared.identity.secret_key
    }

    /// The name of the only IAM user.
    pub fn user(&self) -> &str {
        &self.shared.identity.user
    }

    /// The user's password; not a text that needs no escaping.
    pub fn password(&self) -> &str {
        &self.shared.identity.password
    }

    /// The name of the user's domain.
    pub fn domain(&self) -> &str {
        &self.shared.identity.domain
    }

    /// The name of the project, which is that of its region.
    pub fn region(&self) -> &str {
        &self.shared.identity.region
    }

    /// The project that has instances.
    pub fn project_id(&self) -> &str {
        &self.shared.identity.project_id
    }

    /// The instance that exists from the start.
    pub fn instance_id(&self) -> &str {
        &self.shared.identity.instance_id
    }

    /// The PDF report that exists from the start.
    ///
    /// # Panics
    /// If it was deleted.
    pub fn pdf(&self) -> ReportInfo {
        self.shared.default_report(0)
    }

    /// The ZIP report that exists from the start.
    ///
    /// # Panics
    /// If it was deleted.
    pub fn zip(&self) -> ReportInfo {
        self.shared.default_report(1)
    }

    /// Adds a report with an id of its own; with a size it is exactly that large.
    ///
    /// # Panics
    /// When the format cannot be made that small.
    pub fn add_report(&self, format: Format, size: Option<u64>) -> ReportInfo {
        let new = NewReports {
            size,
            ..NewReports::of(format)
        };
        match self.shared.add_report(&new) {
            Ok(report) => report,
            Err(error) => panic!("{error}"),
        }
    }

    /// Adds a report with a given id.
    pub fn add_report_as(
        &self,
        id: &str,
        format: Format,
        size: Option<u64>,
    ) -> Result<ReportInfo, ReportRefused> {
        let new = NewReports {
            id: Some(id.to_owned()),
            size,
            ..NewReports::of(format)
        };
        self.shared.add_report(&new)
    }

    /// Adds so many reports to an instance at once, and returns their ids, the oldest first.
    pub fn add_reports(&self, instance_id: &str, count: u64) -> Result<Vec<String>, ReportRefused> {
        let new = NewReports {
            instance: Some(instance_id.to_owned()),
            count: Some(count),
            ..NewReports::of(Format::Pdf)
        };
        let added = lock(&self.shared.store).add(&new)?;
        Ok(added.into_iter().map(|report| report.id).collect())
    }

    /// Removes a report; returns whether there was one.
    pub fn remove_report(&self, report_id: &str) -> bool {
        lock(&self.shared.store).remove(report_id)
    }

    /// Adds an instance without reports, and returns its id.
    pub fn add_instance(&self, name: &str) -> String {
        let new = NewInstances {
            name: Some(name.to_owned()),
            ..NewInstances::default()
        };
        match lock(&self.shared.store).add_instances(&new) {
            Ok(ids) => ids.concat(),
            Err(error) => panic!("{error}"),
        }
    }

    /// Removes an instance; returns whether there was one.
    pub fn remove_instance(&self, instance_id: &str) -> bool {
        lock(&self.shared.store).remove_instance(instance_id)
    }

    /// Sets how reports that clients create are made from now on.
    pub fn set_generation(&self, generation: Generation) -> Result<(), TooSmall> {
        lock(&self.shared.store).set_generation(generation)
    }

    /// Sets the formats of responses from now on.
    pub fn set_shapes(&self, shapes: Shapes) {
        lock(&self.shared.store).set_shapes(shapes);
    }

    /// Sets what happens to the pages of lists from now on.
    pub fn set_paging(&self, paging: Paging) {
        lock(&self.shared.store).set_paging(paging);
    }

    /// Sets what the service does where its documents say nothing.
    pub fn set_undocumented(&self, undocumented: Undocumented) {
        *lock(&self.shared.undocumented) = undocumented;
    }

    /// The ids of the reports that clients created, in order.
    pub fn made(&self) -> Vec<String> {
        lock(&self.shared.store).made().0.to_vec()
    }

    /// Does what the control address does for a request: whatever has no function of its own.
    pub fn control(&self, method: &str, target: &str, body: &Value) -> Result<Value, String> {
        control::act(&self.shared, method, target, body)
    }

    /// Changes a report: from now on other bytes are sent, as many of them, under another `ETag`.
    /// Running responses and existing handles keep their bytes.
    ///
    /// # Panics
    /// When there is no report of this id.
    pub fn new_version(&self, report_id: &str) -> ReportInfo {
        match self.shared.new_version(report_id) {
            Some(report) => report,
            None => panic!("there is no report {report_id}"),
        }
    }

    /// Makes a token valid.
    pub fn add_token(&self, token: &str) {
        self.shared.tokens.add(token);
    }

    /// Makes a token invalid; returns whether it was valid.
    pub fn revoke_token(&self, token: &str) -> bool {
        self.shared.tokens.revoke(token).is_some()
    }

    /// Makes every token that IAM has issued invalid.
    pub fn revoke_issued_tokens(&self) {
        self.shared.tokens.revoke_issued();
    }

    /// Sets the lifetime of tokens that IAM issues from now on.
    pub fn set_iam(&self, settings: IamSettings) {
        *lock(&self.shared.iam_settings) = settings;
    }

    /// Adds a project without instances; there may be one of this name.
    pub fn add_project(&self, name: &str) -> Project {
        self.shared.add_project(name, None)
    }

    /// Removes the projects added.
    pub fn clear_projects(&self) {
        lock(&self.shared.projects).truncate(1);
    }

    /// Sets the behaviour of the metadata service from now on.
    pub fn set_metadata(&self, settings: MetadataSettings) {
        *lock(&self.shared.metadata_settings) = settings;
    }

    /// Makes every key that the metadata service has issued invalid.
    pub fn revoke_metadata_keys(&self) {
        self.shared.keys.revoke();
    }

    /// Makes every session token of the metadata service invalid.
    pub fn revoke_metadata_tokens(&self) {
        lock(&self.shared.sessions).clear();
    }

    /// Sets a fault for the requests for one report, for [`EVERY_REPORT`], or for a call that is
    /// not a download, by its name in [`CALLS`].
    ///
    /// Faults for the same report are used in the order set, each until it is used up; those for
    /// every report only where none waits for the report itself.
    pub fn fault(&self, report_id: &str, fault: Fault) -> Result<(), InvalidFault> {
        self.shared.add_fault(report_id, fault)
    }

    /// The same for a fault in JSON, as the control address takes it.
    pub fn fault_json(&self, report_id: &str, fault: Value) -> Result<(), InvalidFault> {
        self.fault(report_id, Fault::from_json(fault)?)
    }

    /// Removes every fault of reports.
    pub fn clear_faults(&self) {
        lock(&self.shared.faults).clear(None);
    }

    /// Sets a fault of a listener.
    pub fn listener_fault(&self, fault: ListenerFault) -> Result<(), InvalidFault> {
        self.shared.add_listener_fault(fault)
    }

    /// Removes every fault of listeners.
    pub fn clear_listener_faults(&self) {
        lock(&self.shared.listener_faults).clear();
    }

    /// Every request received, in order.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.request_log.requests(None)
    }

    /// Every request received for one report, or of the call of this name, in order.
    pub fn requests_for(&self, report_id: &str) -> Vec<Recorded> {
        self.shared.request_log.requests(Some(report_id))
    }

    /// Clears the requests received so far.
    pub fn clear_requests(&self) {
        self.shared.request_log.clear();
    }

    /// The connections accepted so far, those of the control address apart.
    pub fn connections(&self) -> Connections {
        self.shared.request_log.connections()
    }

    /// The object that the program prints when it is ready.
    pub fn to_json(&self) -> Value {
        self.shared.state()
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

    pub(crate) fn add_report(&self, new: &NewReports) -> Result<ReportInfo, ReportRefused> {
        let added = lock(&self.store).add(new)?;
        match added.into_iter().next() {
            Some(report) => Ok(report),
            None => unreachable!("without a count it is one"),
        }
    }

    fn default_report(&self, number: usize) -> ReportInfo {
        match self.report(&self.defaults[number]) {
            Some(report) => report,
            None => panic!("the report was deleted"),
        }
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

    pub(crate) fn add_fault(&self, report: &str, fault: Fault) -> Result<(), InvalidFault> {
        fault.check_for(report)?;
        lock(&self.faults).add(report.to_owned(), fault);
        Ok(())
    }

    pub(crate) fn add_listener_fault(&self, fault: ListenerFault) -> Result<(), InvalidFault> {
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
