//! The HTTP client of a context: its connections, and sending one request.

use std::borrow::Cow;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ::http::Method;
use ::http::header::{HeaderName, HeaderValue, LOCATION};
use ::http::uri::Scheme;
use arc_swap::ArcSwapOption;
use rustls::RootCertStore;
use ureq::{Agent, Body};

use super::call::{Call, Limits};
use super::connection::{NoResolver, SocketConnector};
use super::inspector::HEADER_LIMIT;
use super::proxy::Proxy;
use super::request::{Request, Sign};
use super::response::{self, Response};
use super::secrets::{LastToken, Secrets};
use super::{redirect, tls};
use crate::error::{CancelledBy, Error, Status};
use crate::fork::PerProcess;
use crate::memory;
use crate::message::{name, object};
use crate::operation::{Operation, Overrides, cancelled};
use crate::sys::IdleWakes;

/// The most idle connections and idle operations that are kept: as many as a program
/// may reasonably have threads.
const MAX_IDLE: usize = 64;

/// The largest buffer that is kept for another call.
const MAX_REUSED_BUFFER: usize = 32 * 1024;

const SHARDS: usize = 16;

/// The header that contains the time of a signature.
pub(crate) const SDK_DATE: HeaderName = HeaderName::from_static("x-sdk-date");

/// The HTTP client of a context. Any number of threads may use it.
#[derive(Debug)]
pub(crate) struct Http {
    settings: Settings,
    limits: Limits,
    closed: AtomicBool,
    states: PerProcess<ProcessState>,
}

/// Settings that do not change. They are behind no lock, so a child of `fork` may read
/// them.
#[derive(Debug)]
struct Settings {
    /// `None` if no request uses https.
    roots: Option<Arc<RootCertStore>>,
    user_agent: String,
    allow_plaintext: bool,
    plaintext_address: Option<IpAddr>,
    allow_close_delimited: bool,
    follow_redirects: bool,
    proxy: Option<Proxy>,
}

/// The connections and calls of one process.
#[derive(Debug)]
struct ProcessState {
    /// `None` once it is closed; running calls hold it until they end.
    agent: ArcSwapOption<Agent>,
    /// Threads are distributed over these, so they rarely wait for each other.
    shards: [Mutex<Shard>; SHARDS],
    /// For the waits of calls.
    wakes: Arc<IdleWakes>,
    last_token: LastToken,
}

/// The calls and reusable objects of some threads.
#[derive(Debug, Default)]
struct Shard {
    /// The running calls, to cancel them together.
    active: Vec<Weak<Call>>,
    /// Idle operations, for calls without an operation of the caller's.
    operations: Vec<Arc<Operation>>,
    /// A small buffer of a finished call, for the next one.
    buffer: Vec<u8>,
}

impl Shard {
    /// Removes what is kept for the next calls. The caller must drop the operations outside
    /// of the lock.
    fn take_idle(&mut self) -> Vec<Arc<Operation>> {
        self.buffer = Vec::new();
        std::mem::take(&mut self.operations)
    }
}

impl ProcessState {
    fn new(settings: &Settings) -> Result<ProcessState, Error> {
        let connector = SocketConnector {
            tls: settings.roots.as_ref().map(tls::client_config).transpose()?,
            allow_plaintext: settings.allow_plaintext,
            plaintext_address: settings.plaintext_address,
            proxy: settings.proxy.clone(),
        };
        let config = Agent::config_builder()
            // The body of an error response must still be read.
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // By default ureq would use a proxy from the environment.
            .proxy(None)
            .user_agent(&settings.user_agent)
            .accept("*/*")
            .accept_encoding("identity")
            .max_response_header_size(HEADER_LIMIT)
            .max_idle_connections(MAX_IDLE)
            .max_idle_connections_per_host(MAX_IDLE)
            .build();
        Ok(ProcessState {
            agent: ArcSwapOption::from_pointee(Agent::with_parts(config, connector, NoResolver)),
            shards: Default::default(),
            wakes: IdleWakes::new(),
            last_token: LastToken::default(),
        })
    }

    fn register(&self, call: &Arc<Call>) {
        let active = &mut self.shard().active;
        // Finished calls are removed only before the list would grow, which keeps this cheap.
        if active.len() == active.capacity() {
            active.retain(|call| call.strong_count() > 0);
            let additional = active.len().max(16);
            active.reserve(additional);
        }
        active.push(Arc::downgrade(call));
    }

    fn cancel_all(&self, by: CancelledBy) {
        for shard in &self.shards {
            // This may drop the last reference to a call, and with it values of the caller: not
            // under the lock.
            let calls: Vec<_> = lock(shard).active.iter().filter_map(Weak::upgrade).collect();
            calls.iter().for_each(|call| call.cancel(by));
        }
    }

    fn drop_idle(&self) {
        for shard in &self.shards {
            let idle = lock(shard).take_idle();
            drop(idle);
        }
        self.wakes.clear();
    }

    /// Locks the shard of this thread.
    fn shard(&self) -> MutexGuard<'_, Shard> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static SHARD_INDEX: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
        }
        lock(&self.shards[SHARD_INDEX.with(|index| *index)])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The arguments of [`Http::new`].
pub(crate) struct Setup<'a> {
    pub(crate) limits: Limits,
    pub(crate) ca_file: Option<&'a Path>,
    pub(crate) user_agent_suffix: Option<&'a str>,
    pub(crate) allow_plaintext: bool,
    /// An address that plain http may go to even without `allow_plaintext`.
    pub(crate) plaintext_address: Option<IpAddr>,
    pub(crate) allow_close_delimited: bool,
    pub(crate) follow_redirects: bool,
    pub(crate) proxy: Option<Proxy>,
}

impl Http {
    /// Makes a client. `https` says whether any request may use https.
    pub(crate) fn new(https: bool, setup: Setup<'_>) -> Result<Http, Error> {
        let Setup { limits, ca_file, .. } = setup;
        // Plain http needs no trusted certificates, but a wrong CA file is reported now.
        let roots = (https || ca_file.is_some() || setup.follow_redirects)
            .then(|| tls::load_roots(ca_file))
            .transpose()?;
        let mut user_agent = concat!("libdbss/", env!("CARGO_PKG_VERSION")).to_owned();
        if let Some(suffix) = setup.user_agent_suffix {
            user_agent.push(' ');
            user_agent.push_str(suffix);
        }
        let settings = Settings {
            roots,
            user_agent,
            allow_plaintext: setup.allow_plaintext,
            plaintext_address: setup.plaintext_address,
            allow_close_delimited: setup.allow_close_delimited,
            follow_redirects: setup.follow_redirects,
            proxy: setup.proxy,
        };
        let states = PerProcess::new(ProcessState::new(&settings)?);
        Ok(Http {
            settings,
            limits,
            closed: AtomicBool::new(false),
            states,
        })
    }

    /// Returns the state of this process.
    fn state(&self) -> Result<&ProcessState, Error> {
        self.states.get_or_try_init(|| ProcessState::new(&self.settings))
    }

    /// Begins a call; its limits count from now. Its operation can cancel it, and so can
    /// [`Http::cancel_all`].
    pub(crate) fn call(&self, overrides: &Overrides, operation: &Arc<Operation>) -> Result<Arc<Call>, Error> {
        let limits = Limits {
            connect: overrides.connect_timeout.unwrap_or(self.limits.connect),
            stall: overrides.stall_timeout.unwrap_or(self.limits.stall),
            total: overrides.total_timeout.unwrap_or(self.limits.total),
        };
        let state = self.state()?;
        let call = Call::new(limits, Arc::clone(operation), Arc::clone(&state.wakes));
        state.register(&call);
        // Only after it is registered: a concurrent close then finds it.
        self.check_open()?;
        Ok(call)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Returns an error if it was closed.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if !self.is_closed() {
            return Ok(());
        }
        Err(Error::argument(
            Status::Closed,
            "ctx",
            format_args!("is closed; make another {} for further calls", object("context")),
        ))
    }

    /// Ends the running calls, refuses later ones, and closes idle connections.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        // This fails only if the state of a child process cannot be made, which then has no
        // calls.
        if let Ok(state) = self.state() {
            state.cancel_all(CancelledBy::Close);
            state.agent.store(None);
            state.last_token.forget();
            state.drop_idle();
            state.wakes.close();
        }
    }

    /// Drops what is kept of the last token that was sent.
    pub(crate) fn forget_token(&self) {
        if let Ok(state) = self.state() {
            state.last_token.forget();
        }
    }

    /// Closes idle connections and other idle descriptors: a new agent takes over, and the
    /// old one closes its connections when the calls that use it have ended.
    pub(crate) fn release_idle(&self) {
        let Ok(state) = self.state() else { return };
        let agent = state.agent.load();
        if let Some(new) = agent
            .as_ref()
            .and_then(|_| ProcessState::new(&self.settings).ok())
        {
            // Has no effect if the client was closed meanwhile.
            state.agent.compare_and_swap(&agent, new.agent.load_full());
        }
        state.drop_idle();
    }

    /// Returns an operation for a call without one of the caller's.
    pub(crate) fn operation(&self) -> Result<Arc<Operation>, Error> {
        let idle = self.state()?.shard().operations.pop();
        Ok(idle.unwrap_or_else(Operation::new))
    }

    /// Keeps such an operation for another call, unless something still refers to it.
    pub(crate) fn reuse(&self, mut operation: Arc<Operation>) {
        if Arc::get_mut(&mut operation).is_none() || operation.check().is_err() {
            // For example, a stream still uses it.
            return;
        }
        if let Ok(state) = self.state() {
            let operations = &mut state.shard().operations;
            // Checked under the lock: `close` removes the operations after it sets the flag.
            if operations.len() < MAX_IDLE / SHARDS && !self.is_closed() {
                operations.push(operation);
            }
        }
    }

    /// Returns a buffer of `size` bytes, not necessarily zeros.
    pub(crate) fn buffer(&self, size: usize) -> Result<Vec<u8>, Error> {
        let mut buffer = std::mem::take(&mut self.state()?.shard().buffer);
        let more = size.saturating_sub(buffer.len());
        memory::reserve(&mut buffer, more)?;
        buffer.resize(size, 0);
        Ok(buffer)
    }

    /// Keeps a small buffer for another call: allocating one is the largest cost of a
    /// small report.
    pub(crate) fn reuse_buffer(&self, buffer: Vec<u8>) {
        if (1..=MAX_REUSED_BUFFER).contains(&buffer.capacity())
            && let Ok(state) = self.state()
        {
            let shard = &mut state.shard();
            if !self.is_closed() {
                shard.buffer = buffer;
            }
        }
    }

    /// Cancels all running calls of this process.
    pub(crate) fn cancel_all(&self) -> Result<(), Error> {
        self.state()?.cancel_all(CancelledBy::Client);
        Ok(())
    }

    /// Sends a request and waits for the header of its response. `sign` adds the credentials
    /// to each request to the URL's origin.
    pub(crate) fn send(
        &self,
        call: &Arc<Call>,
        request: &Request<'_>,
        sign: &Sign<'_>,
    ) -> Result<Response, Error> {
        call.check()?;
        let state = self.state()?;
        let Some(agent) = state.agent.load_full() else {
            return Err(cancelled(CancelledBy::Close));
        };
        let origin = redirect::origin(&request.url);
        let mut signed = request.at(request.url.clone());
        sign(&mut signed)?;
        let mut secrets = Secrets::of(signed.headers(), request.secrets, &state.last_token);
        let mut redirects = 0;
        let mut at_origin = true;
        let (response, redirect_failure) = loop {
            let response = self.try_send(&agent, call, &signed, request.idempotent, &secrets)?;
            if !response.status().is_redirection() {
                break (response, Cow::Borrowed(""));
            }
            if !self.settings.follow_redirects {
                let option = name("follow_redirects");
                let what = format!("redirects are not followed without {option}");
                break (response, what.into());
            }
            if request.method != Method::GET {
                break (
                    response,
                    "redirects of this kind of request are not followed".into(),
                );
            }
            if response.headers().get(LOCATION).is_none_or(HeaderValue::is_empty) {
                break (response, "it has no Location".into());
            }
            if response
                .headers()
                .get(LOCATION)
                .is_some_and(|to| to.len() > redirect::LOCATION_LIMIT)
            {
                break (response, "its Location is longer than 16 KiB".into());
            }
            let Some(next) = redirect::target(signed.uri(), response.headers()) else {
                break (response, "its Location is not an http or https URL".into());
            };
            redirects += 1;
            redirect::check(&next, signed.uri(), redirects, self.settings.allow_plaintext)
                .map_err(|e| e.map_text(|text| secrets.redact(text)))?;
            signed = request.at(next);
            // Credentials for one origin must not go to another.
            at_origin = redirect::origin(signed.uri()) == origin;
            if at_origin {
                sign(&mut signed)?;
                // A signature is another one each time.
                secrets.add(signed.headers());
            }
        };
        let https = signed.uri().scheme() == Some(&Scheme::HTTPS);
        let allow_close_delimited = https || self.settings.allow_close_delimited;
        Ok(Response::new(call, response, allow_close_delimited, secrets)?
            .with_same_origin(at_origin)
            .with_signed_date(signed.headers().contains_key(SDK_DATE))
            .with_redirect_failure(redirect_failure))
    }

    fn try_send(
        &self,
        agent: &Agent,
        call: &Arc<Call>,
        request: &::http::Request<&[u8]>,
        idempotent: bool,
        secrets: &Secrets,
    ) -> Result<::http::Response<Body>, Error> {
        let _entered = call.enter();
        loop {
            call.check()?;
            if *request.method() != Method::GET {
                // The progress callback gets its last chance to cancel before something changes.
                call.operation().tick()?;
            }
            call.begin_request();
            let sent = match *request.method() {
                // These must have no body, not even an empty one.
                Method::GET | Method::DELETE => agent.run(request.clone().map(drop)),
                _ => agent.run(request.clone()),
            };
            let error = match sent {
                Ok(response) => return Ok(response),
                Err(e) => response::header_error(e),
            };
            // Each such failure removes a connection from the pool, so this loop ends with a
            // new connection.
            let resend = call.is_unsent() || idempotent && call.is_stale_connection();
            if error.status() != Status::ConnectionLost || !resend {
                return Err(error.map_text(|text| secrets.redact(text)));
            }
        }
    }
}
