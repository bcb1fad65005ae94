//! The connections of a context, and one exchange over them.

use std::path::Path;
use std::process;
use std::sync::Arc;

use ::http::header::{HeaderName, HeaderValue};
use ::http::{Request, Uri};
use once_cell::race::OnceBox;
use rustls::RootCertStore;
use ureq::Agent;

use super::answer::Answer;
use super::call::{Call, Entered, Limits};
use super::connect::{NoResolver, SocketConnector};
use super::endpoint::Endpoint;
use super::secrets::Secrets;
use super::{answer, tls};
use crate::error::{Error, Status};

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
    https: bool,
    loopback_only: bool,
    roots: Arc<RootCertStore>,
    user_agent: String,
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
    child: OnceBox<Home>,
}

impl Home {
    fn new(settings: &Settings) -> Result<Home, Error> {
        let connector = SocketConnector {
            tls: settings
                .https
                .then(|| tls::client_config(&settings.roots))
                .transpose()?,
            loopback_only: settings.loopback_only,
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

impl Http {
    pub(crate) fn new(
        endpoint: &Endpoint,
        limits: Limits,
        ca_file: Option<&Path>,
        user_agent_suffix: Option<&str>,
    ) -> Result<Http, Error> {
        // Plain http needs no trust, but a CA file that is wrong is told now.
        let roots = if endpoint.is_https() || ca_file.is_some() {
            tls::trusted(ca_file)?
        } else {
            Arc::new(RootCertStore::empty())
        };
        let mut user_agent = concat!("libdbss/", env!("CARGO_PKG_VERSION")).to_owned();
        if let Some(suffix) = user_agent_suffix {
            user_agent.push(' ');
            user_agent.push_str(suffix);
        }
        let settings = Settings {
            https: endpoint.is_https(),
            loopback_only: !endpoint.is_https() && endpoint.is_loopback(),
            roots,
            user_agent,
        };
        let home = Home::new(&settings)?;
        Ok(Http {
            settings,
            limits,
            home,
        })
    }

    /// The agent of this process.
    fn agent(&self) -> Result<&Agent, Error> {
        let process = process::id();
        let mut home = &self.home;
        loop {
            match &home.agent {
                Some(agent) if home.process == process => return Ok(agent),
                _ => {
                    home = home
                        .child
                        .get_or_try_init(|| Home::new(&self.settings).map(Box::new))?;
                }
            }
        }
    }

    /// Begins a call: its limits count from now until the exchange is dropped.
    pub(crate) fn exchange(&self) -> Result<Exchange<'_>, Error> {
        Ok(Exchange {
            agent: self.agent()?,
            call: Call::enter(self.limits),
        })
    }
}

/// One call's use of the connections, on its own thread.
pub(crate) struct Exchange<'a> {
    agent: &'a Agent,
    call: Entered,
}

impl Exchange<'_> {
    /// How many requests this exchange has made.
    pub(crate) fn requests(&self) -> u32 {
        self.call.requests()
    }

    /// Sends a GET request and waits for the header of its answer.
    pub(crate) fn get(&self, url: Uri, headers: Vec<(HeaderName, HeaderValue)>) -> Result<Answer<'_>, Error> {
        let https = url.scheme() == Some(&::http::uri::Scheme::HTTPS);
        let mut request = Request::new(());
        *request.uri_mut() = url;
        request.headers_mut().extend(headers);
        let secrets = Secrets::of(request.headers());
        loop {
            self.call.requesting();
            let error = match self.agent.run(request.clone()) {
                Ok(response) => return Answer::new(&self.call, response, https, secrets),
                Err(e) => answer::failed_before_body(e),
            };
            // Each such failure takes a connection out of the pool, so this ends
            // with a new one. A GET is safe to send again.
            if error.status() != Status::ConnectionLost || !self.call.met_a_closed_connection() {
                return Err(error.map_text(|text| secrets.blot(text)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_has_an_agent_of_its_own() {
        let endpoint = Endpoint::parse("http://127.0.0.1:9", "endpoint").expect("a URL");
        let mut http = Http::new(&endpoint, Limits::default(), None, None).expect("no files to read");
        let own: *const Agent = http.agent().expect("the first");
        assert_eq!(own, http.agent().expect("the same"));
        // As in a child of the process that made it.
        http.home.process ^= 1;
        let childs: *const Agent = http.agent().expect("a new one");
        assert_ne!(own, childs);
        assert_eq!(childs, http.agent().expect("the same"));
    }
}
