//! The connections of a context, and one exchange over them.

use std::path::Path;
use std::process;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ::http::header::{HeaderName, HeaderValue};
use ::http::uri::Scheme;
use ::http::{Request, Response, Uri};
use once_cell::race::OnceBox;
use rustls::RootCertStore;
use ureq::{Agent, Body};

use super::answer::Answer;
use super::call::{Call, Limits};
use super::connect::{NoResolver, SocketConnector};
use super::endpoint::Endpoint;
use super::proxy::Proxy;
use super::secrets::Secrets;
use super::{answer, redirect, tls};
use crate::error::{Error, Status};
use crate::operation::{Operation, Overrides};

/// As many idle connections as threads that a program may reasonably run.
const MAX_IDLE: usize = 64;

/// All that is needed to talk to one origin. Any number of threads may use it.
#[derive(Debug)]
pub(crate) struct Http {
    settings: Settings,
    limits: Limits,
    /// The agent of the process that made the context; see [`Home`].
    home: Home,
}

/// What does not change and is behind no lock, so that a child of `fork` may
/// read it.
#[derive(Debug)]
struct Settings {
    /// None where no server will ever be asked for a certificate.
    roots: Option<Arc<RootCertStore>>,
    user_agent: String,
    allow_plaintext: bool,
    allow_unframed: bool,
    follow_redirects: bool,
    proxy: Option<Proxy>,
}

/// The agent of one process, and that of its child, where `fork` made one.
///
/// A child must not touch the agent that it inherited: its locks may be held
/// by threads that do not exist there, and its connections are the parent's.
/// So each process finds the home with its own id in this chain, or appends
/// it; nothing here blocks. An id can return only when the process that had it
/// is gone, and then its connections are nobody's.
#[derive(Debug)]
struct Home {
    process: u32,
    agent: Option<Agent>,
    /// The calls under way, to be cancelled together.
    active: Mutex<Vec<Weak<Call>>>,
    child: OnceBox<Home>,
}

impl Home {
    fn new(settings: &Settings) -> Result<Home, Error> {
        let connector = SocketConnector {
            tls: settings.roots.as_ref().map(tls::client_config).transpose()?,
            allow_plaintext: settings.allow_plaintext,
            proxy: settings.proxy.clone(),
        };
        let config = Agent::config_builder()
            // An error's body must still be read.
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // By default ureq would take one from the environment.
            .proxy(None)
            .user_agent(&settings.user_agent)
            .accept("*/*")
            .accept_encoding("identity")
            .max_idle_connections(MAX_IDLE)
            .max_idle_connections_per_host(MAX_IDLE)
            .build();
        Ok(Home {
            process: process::id(),
            agent: Some(Agent::with_parts(config, connector, NoResolver)),
            active: Mutex::new(Vec::new()),
            child: OnceBox::new(),
        })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.process != process::id() {
            std::mem::forget(self.agent.take());
        }
    }
}

/// What an [`Http`] is made from.
pub(crate) struct Setup<'a> {
    pub(crate) limits: Limits,
    pub(crate) ca_file: Option<&'a Path>,
    pub(crate) user_agent_suffix: Option<&'a str>,
    pub(crate) allow_plaintext: bool,
    pub(crate) allow_unframed: bool,
    pub(crate) follow_redirects: bool,
    pub(crate) proxy: Option<Proxy>,
}

impl Http {
    pub(crate) fn new(endpoint: &Endpoint, setup: Setup<'_>) -> Result<Http, Error> {
        let Setup { limits, ca_file, .. } = setup;
        // Plain http needs no trust, but a CA file that is wrong is told now.
        let roots = (endpoint.is_https() || ca_file.is_some() || setup.follow_redirects)
            .then(|| tls::trusted(ca_file))
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
            allow_unframed: setup.allow_unframed,
            follow_redirects: setup.follow_redirects,
            proxy: setup.proxy,
        };
        let home = Home::new(&settings)?;
        Ok(Http {
            settings,
            limits,
            home,
        })
    }

    /// The home of this process.
    fn home(&self) -> Result<&Home, Error> {
        let process = process::id();
        let mut home = &self.home;
        while home.process != process {
            home = home
                .child
                .get_or_try_init(|| Home::new(&self.settings).map(Box::new))?;
        }
        Ok(home)
    }

    /// Begins a call: its limits count from now. It is cancelled through its
    /// operation, or with all the others.
    pub(crate) fn call(&self, overrides: &Overrides, operation: &Arc<Operation>) -> Result<Arc<Call>, Error> {
        let home = self.home()?;
        let mut active = home.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.retain(|call| call.strong_count() > 0);
        let limits = Limits {
            connect: overrides.connect_timeout.unwrap_or(self.limits.connect),
            stall: overrides.stall_timeout.unwrap_or(self.limits.stall),
            total: overrides.total_timeout.unwrap_or(self.limits.total),
        };
        let call = Call::new(limits, Arc::clone(operation));
        active.push(Arc::downgrade(&call));
        Ok(call)
    }

    /// Cancels all calls of this process that are under way.
    pub(crate) fn cancel_all(&self) -> Result<(), Error> {
        let home = self.home()?;
        let active = home.active.lock().unwrap_or_else(PoisonError::into_inner);
        for call in active.iter().filter_map(Weak::upgrade) {
            call.operation().cancel();
        }
        Ok(())
    }

    /// Sends a GET request and waits for the header of its answer. `authorize`
    /// adds the credentials, for each request that goes to the URL's origin.
    pub(crate) fn get(
        &self,
        call: &Arc<Call>,
        url: Uri,
        headers: &[(HeaderName, HeaderValue)],
        authorize: &dyn Fn(&mut Request<()>) -> Result<(), Error>,
    ) -> Result<Answer, Error> {
        let agent = &self.home()?.agent;
        let agent = agent.as_ref().ok_or_else(gone)?;
        let plain = |url: Uri| {
            let mut request = Request::new(());
            *request.uri_mut() = url;
            request.headers_mut().extend(headers.iter().cloned());
            request
        };
        let origin = redirect::origin(&url);
        let mut request = plain(url);
        authorize(&mut request)?;
        let secrets = Secrets::of(request.headers());
        let mut redirects = 0;
        let response = loop {
            let response = self.send(agent, call, &request, &secrets)?;
            if !self.settings.follow_redirects || !response.status().is_redirection() {
                break response;
            }
            let Some(next) = redirect::target(request.uri(), response.headers()) else {
                break response;
            };
            redirects += 1;
            redirect::check(&next, request.uri(), redirects, self.settings.allow_plaintext)
                .map_err(|e| e.map_text(|text| secrets.blot(text)))?;
            request = plain(next);
            // What is sent in confidence to one origin does not go to another.
            if redirect::origin(request.uri()) == origin {
                authorize(&mut request)?;
            }
        };
        let https = request.uri().scheme() == Some(&Scheme::HTTPS);
        Answer::new(call, response, https, secrets, self.settings.allow_unframed)
    }

    fn send(
        &self,
        agent: &Agent,
        call: &Arc<Call>,
        request: &Request<()>,
        secrets: &Secrets,
    ) -> Result<Response<Body>, Error> {
        let _entered = call.enter();
        loop {
            call.operation().check()?;
            call.requesting();
            let error = match agent.run(request.clone()) {
                Ok(response) => return Ok(response),
                Err(e) => answer::failed_before_body(e),
            };
            // Each such failure takes a connection out of the pool, so this ends
            // with a new one. A GET is safe to send again.
            if error.status() != Status::ConnectionLost || !call.met_a_closed_connection() {
                return Err(error.map_text(|text| secrets.blot(text)));
            }
        }
    }
}

fn gone() -> Error {
    Error::new(Status::Internal, "the connections of this process are gone")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_has_a_home_of_its_own() {
        let endpoint = Endpoint::parse("http://127.0.0.1:9", "endpoint").expect("a URL");
        let setup = Setup {
            limits: Limits::default(),
            ca_file: None,
            user_agent_suffix: None,
            allow_plaintext: false,
            allow_unframed: false,
            follow_redirects: false,
            proxy: None,
        };
        let mut http = Http::new(&endpoint, setup).expect("no files to read");
        let own: *const Home = http.home().expect("the first");
        assert_eq!(own, http.home().expect("the same"));
        // As in a child of the process that made it.
        http.home.process ^= 1;
        let childs: *const Home = http.home().expect("a new one");
        assert_ne!(own, childs);
        assert_eq!(childs, http.home().expect("the same"));
    }
}
