//! The proxy: only CONNECT, and only to this machine.

use std::io::{self, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::fault::Fault;
use crate::http::{self, Request, Requests, Response};
use crate::net::{CloseKind, Stop, Transport};
use crate::request_log::{Listener, Recorded};
use crate::{Shared, refuse};

/// The user that the proxy accepts.
pub(crate) const PROXY_USER: &str = "proxy-user";
/// The password of that user.
pub(crate) const PROXY_PASSWORD: &str = "proxy-pass";

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);

/// Serves one connection of the proxy until it ends.
pub(crate) fn serve(shared: &Shared, tcp: Arc<TcpStream>, login: bool) {
    let mut conn = Transport::plain(Arc::clone(&tcp));
    let mut requests = Requests::default();
    loop {
        let request = match requests.next(&mut conn) {
            Ok(request) => request,
            Err(error) => return refuse(shared, conn, error),
        };
        let outcome = check_request(&shared.stop, &request, login);
        let status = outcome.as_ref().map_or_else(|response| response.status, |_| 200);
        let recorded = Recorded::new(Listener::Proxy, &request, Some(status), None);
        let sent = shared.request_log.record(recorded);
        let response = match outcome {
            Ok(upstream) => {
                let open = conn.write_all(ESTABLISHED).is_ok();
                if open && !tunnel(&requests.rest(), &tcp, &upstream) && !shared.stop.is_set() {
                    Transport::plain(upstream).end(CloseKind::Reset);
                    conn.end(CloseKind::Reset);
                }
                return;
            }
            Err(response) => response,
        };
        let fault = Fault::default();
        match http::deliver(&mut conn, &shared.stop, &request, &response, &fault, &sent) {
            Ok(None) => {}
            Ok(Some(ending)) => return conn.end(ending),
            Err(_) => return,
        }
    }
}

fn check_request(stop: &Stop, request: &Request, login: bool) -> Result<Arc<TcpStream>, Box<Response>> {
    let refused = |status| Box::new(Response::new(status));
    if request.method != "CONNECT" {
        return Err(Box::new(Response::new(405).header("Allow", "CONNECT")));
    }
    if login && !is_authenticated(request) {
        let demand = "Basic realm=\"dbss-mock\"";
        return Err(Box::new(Response::new(407).header("Proxy-Authenticate", demand)));
    }
    let port = port(&request.target).ok_or_else(|| refused(400))?;
    connect(stop, port).map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => refused(504),
        _ => refused(502),
    })
}

fn is_authenticated(request: &Request) -> bool {
    let given = request.header("Proxy-Authorization");
    let credentials = given
        .and_then(|value| std::str::from_utf8(value).ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Basic"))
        .and_then(|(_, encoded)| STANDARD.decode(encoded.trim()).ok());
    credentials.is_some_and(|given| given == format!("{PROXY_USER}:{PROXY_PASSWORD}").into_bytes())
}

/// The port of an authority, whose host may be any but not missing.
fn port(target: &str) -> Option<u16> {
    let (host, port) = target.rsplit_once(':')?;
    port.parse().ok().filter(|port| *port != 0 && !host.is_empty())
}

/// Known to `stop` before it connects: some addresses here leave a client waiting.
fn connect(stop: &Stop, port: u16) -> io::Result<Arc<TcpStream>> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    let upstream = Arc::new(TcpStream::from(socket));
    if !stop.register(&upstream) {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    SockRef::from(&*upstream).connect_timeout(&address.into(), CONNECTED_WITHIN)?;
    upstream.set_nodelay(true)?;
    Ok(upstream)
}

/// Copies both ways until both sides have ended; false when one of them broke.
fn tunnel(early: &[u8], client: &TcpStream, upstream: &TcpStream) -> bool {
    std::thread::scope(|scope| {
        let back = std::thread::Builder::new()
            .name("mock-tunnel".to_owned())
            .spawn_scoped(scope, || pump(&[], upstream, client));
        let Ok(back) = back else {
            return false;
        };
        let there = pump(early, client, upstream);
        back.join().unwrap_or(false) && there
    })
}

fn pump(early: &[u8], mut from: &TcpStream, mut to: &TcpStream) -> bool {
    let copied = to.write_all(early).and_then(|()| io::copy(&mut from, &mut to));
    // What fails here has ended already.
    if copied.is_ok() {
        let _ = to.shutdown(Shutdown::Write);
    } else {
        // Wakes the other direction without a FIN, which the side that is still there would take
        // for an end in good order.
        let _ = from.shutdown(Shutdown::Read);
        let _ = to.shutdown(Shutdown::Read);
    }
    copied.is_ok()
}
