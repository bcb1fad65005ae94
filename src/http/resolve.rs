//! Looking up a host's addresses, within the call's limits.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::thread;

use super::call::Call;
use crate::error::{Error, Status};
use crate::memory;
use crate::sys::{Interest, Wake, with_signals_blocked};

/// The system's resolver runs name service modules on this stack.
const STACK: usize = 512 * 1024;

/// The addresses of `host`, at least one.
pub(super) fn resolve(host: &str, port: u16, call: &Call) -> Result<Vec<SocketAddr>, Error> {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = literal.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }

    // getaddrinfo cannot be interrupted, and may take a minute for a dead
    // server. So it runs on a thread of its own, which an impatient caller
    // leaves behind: it owns all that it touches, and ends by itself.
    let no_thread = |e| Error::os(Status::Resource, "cannot start a thread to look up a name", &e);
    let done = Arc::new(Wake::new().map_err(no_thread)?);
    let (sender, receiver) = mpsc::sync_channel(1);
    memory::probe_thread(STACK)?;
    let name = host.to_owned();
    let finished = Arc::clone(&done);
    let lookup = move || {
        let found = (name.as_str(), port).to_socket_addrs();
        let _ = sender.send(found.map(|all| all.collect::<Vec<_>>()));
        finished.signal();
    };
    with_signals_blocked(|| {
        thread::Builder::new()
            .name("dbss-resolve".into())
            .stack_size(STACK)
            .spawn(lookup)
    })
    .map_err(no_thread)?;

    call.wait(done.as_fd(), Interest::Readable)?;
    match receiver.try_recv() {
        Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Ok(Ok(_)) => Err(unknown(host, "it has no address")),
        Ok(Err(e)) => Err(unknown(host, &e.to_string())),
        Err(_) => Err(unknown(host, "the resolver failed")),
    }
}

fn unknown(host: &str, why: &str) -> Error {
    Error::new(
        Status::Resolve,
        format!("cannot look up the host {host}: {why}; check the region or endpoint"),
    )
}
