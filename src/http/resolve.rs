//! Looks up a host's addresses, within the call's limits.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::thread;

use super::call::Call;
use crate::error::{Error, Status};
use crate::memory;
use crate::sys::{Interest, Wake, hold_standard_streams, with_signals_blocked};

/// The stack of the resolver thread: the system's name service modules run on it.
const RESOLVER_STACK: usize = 512 * 1024;

/// Returns the addresses of `host`, at least one.
pub(super) fn resolve(host: &str, port: u16, call: &Call) -> Result<Vec<SocketAddr>, Error> {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = literal.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }

    // getaddrinfo cannot be interrupted, and may take a minute if a name server does not
    // respond. So it runs on its own thread. If the call ends first, that thread is left
    // running: it owns all its data and ends by itself.
    let no_thread = |e| Error::os(Status::Resource, "cannot start a thread to look up a name", &e);
    let done = Arc::new(Wake::new().map_err(no_thread)?);
    let (sender, receiver) = mpsc::sync_channel(1);
    memory::probe_thread(RESOLVER_STACK)?;
    let name = host.to_owned();
    let finished = Arc::clone(&done);
    // The system's resolver opens descriptors, too.
    hold_standard_streams();
    let lookup = move || {
        let result = (name.as_str(), port).to_socket_addrs();
        let _ = sender.send(result.map(|all| all.collect::<Vec<_>>()));
        finished.signal();
    };
    with_signals_blocked(|| {
        thread::Builder::new()
            .name("dbss-resolve".into())
            .stack_size(RESOLVER_STACK)
            .spawn(lookup)
    })
    .map_err(no_thread)?;

    call.wait(done.as_fd(), Interest::Readable)?;
    match receiver.try_recv() {
        Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Ok(Ok(_)) => Err(lookup_error(host, "it has no address")),
        Ok(Err(e)) => Err(lookup_error(host, &e.to_string())),
        Err(_) => Err(lookup_error(host, "the resolver failed")),
    }
}

fn lookup_error(host: &str, why: &str) -> Error {
    Error::new(Status::Resolve, format!("cannot look up the host {host}: {why}"))
}
