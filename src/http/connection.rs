//! Connections as ureq's transports: sockets, plain or with TLS, whose waits obey the
//! current call.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use ureq::unversioned::resolver::{ArrayVec, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};
use zeroize::Zeroize;

use super::call::Call;
use super::connection_buffers::ConnectionBuffers;
use super::inspector::{self, Inspector};
use super::io_error::from_io;
use super::proxy::Proxy;
use super::resolve::resolve;
use super::tls;
use crate::error::{Error, Status};
use crate::memory;
use crate::sys::{self, Interest, MAX_WAIT_FDS};

/// Resolves nothing. ureq resolves before it looks in its pool, so it would look up the
/// host for each request; the connector does so for each connection.
#[derive(Debug)]
pub(super) struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(
        &self,
        _: &::http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut addresses: ResolvedSocketAddrs = ArrayVec::from_fn(|_| unspecified);
        addresses.push(unspecified);
        Ok(addresses)
    }
}

/// Opens connections, directly or through a proxy.
pub(super) struct SocketConnector {
    /// `None` if no request uses https.
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) allow_plaintext: bool,
    /// An address that plain http may go to besides this machine.
    pub(super) plaintext_address: Option<IpAddr>,
    pub(super) proxy: Option<Proxy>,
}

impl fmt::Debug for SocketConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SocketConnector")
    }
}

impl Connector<()> for SocketConnector {
    type Out = Box<dyn Transport>;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Self::Out>, ureq::Error> {
        let call = Call::current().map_err(to_ureq)?;
        call.begin_connecting();
        let transport = self.open(details, &call);
        call.end_connecting();
        transport.map(Some).map_err(to_ureq)
    }
}

// Steps with large local variables are separate functions: a caller's stack may be
// small, and ureq's frames are already on it.
impl SocketConnector {
    fn open(&self, details: &ConnectionDetails, call: &Call) -> Result<Box<dyn Transport>, Error> {
        let missing = || Error::new(Status::Internal, "a request without a host");
        let authority = details.uri.authority().ok_or_else(missing)?;
        let tls = details.needs_tls();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let host = authority.host();
        let socket = self.open_socket(host, port, tls, call)?;
        if !tls {
            return Ok(Box::new(Connection::new(socket)?));
        }
        let mut connection = self.start_session(host, socket)?;
        complete_handshake(&mut connection.stream, host, port)?;
        Ok(connection)
    }

    /// Opens a socket to a host, through the proxy if there is one.
    #[inline(never)]
    fn open_socket(&self, host: &str, port: u16, tls: bool, call: &Call) -> Result<Socket, Error> {
        // Plain text that is allowed only because it stays on this machine must not go to
        // a proxy either.
        let exempt = !tls && !self.allow_plaintext;
        let proxy = self
            .proxy
            .as_ref()
            .filter(|proxy| !exempt && !proxy.bypasses(host));
        let (next_host, next_port) = proxy.map_or((host, port), |proxy| (proxy.host.as_str(), proxy.port));
        let advise = |error: Error| match (proxy, error.status()) {
            (Some(_), Status::Resolve | Status::Connect | Status::ConnectTimeout) => {
                error.map_message(|text| format!("the proxy cannot be reached: {text}"))
            }
            (None, Status::Resolve) => {
                error.map_message(|text| format!("{text}; check the region or endpoint"))
            }
            _ => error,
        };
        let mut addresses = resolve(next_host, next_port, call).map_err(advise)?;
        if exempt {
            // The name must not resolve to another machine.
            addresses
                .retain(|a| a.ip().to_canonical().is_loopback() || Some(a.ip()) == self.plaintext_address);
            if addresses.is_empty() {
                return Err(Error::argument(
                    Status::PlaintextRefused,
                    "endpoint",
                    format_args!("is plain http, and {host} is not this machine"),
                ));
            }
        }
        let mut socket = Socket(connect_any(next_host, &addresses, call).map_err(advise)?);
        if let Some(proxy) = proxy {
            proxy.tunnel(&mut socket, host, port)?;
        }
        Ok(socket)
    }

    /// Makes a TLS connection, before its handshake.
    #[inline(never)]
    fn start_session(&self, host: &str, socket: Socket) -> Result<Box<Connection<TlsStream>>, Error> {
        let config = self
            .tls
            .clone()
            .ok_or_else(|| Error::new(Status::Internal, "an https request on a context without TLS"))?;
        memory::probe(TLS_MEMORY)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|_| Error::new(Status::Tls, format!("no certificate can name the host {host}")))?;
        let start_session = ClientConnection::new(config, name).map_err(|e| tls::failure(&e))?;
        Ok(Box::new(Connection::new(StreamOwned::new(
            start_session,
            socket,
        ))?))
    }
}

/// The memory of a TLS session, for records, keys and certificates.
const TLS_MEMORY: usize = 256 * 1024;

type TlsStream = StreamOwned<ClientConnection, Socket>;

/// How long to wait for one address before the next is tried in parallel (RFC 8305).
const NEXT_ADDRESS_DELAY: Duration = Duration::from_millis(250);

/// Connects to the first address that accepts. Each address gets a head start before
/// the next one, at most an equal share of the remaining time.
fn connect_any(host: &str, addresses: &[SocketAddr], call: &Call) -> Result<TcpStream, Error> {
    let (until, expired) = call.next_limit();
    let mut failure = None;
    let mut record_failure = |address: SocketAddr, e: &io::Error| {
        let what = format_args!("cannot connect to {host} ({address})");
        failure = Some(Error::os(connect_status(e), what, e));
    };
    let mut addresses = interleave_families(addresses).into_iter();
    let mut pending: Vec<(RawSocket, SocketAddr)> = Vec::new();
    let mut next_at = None;
    loop {
        let now = Instant::now();
        if next_at.is_none_or(|at| at <= now)
            && let Some(address) = addresses.next()
        {
            match begin_connect(address) {
                Ok((socket, true)) => return Ok(socket.into()),
                Ok((socket, false)) => {
                    if pending.len() == MAX_WAIT_FDS {
                        pending.remove(0);
                    }
                    pending.push((socket, address));
                    let fair_share =
                        |until: Instant| until.saturating_duration_since(now) / (addresses.len() as u32 + 1);
                    next_at = Some(
                        now + until
                            .map_or(NEXT_ADDRESS_DELAY, fair_share)
                            .min(NEXT_ADDRESS_DELAY),
                    );
                }
                Err(e) => record_failure(address, &e),
            }
            continue;
        }
        if pending.is_empty() {
            break;
        }
        let waited: Vec<_> = pending
            .iter()
            .map(|(socket, _)| (socket.as_fd(), Interest::Writable))
            .collect();
        let next = next_at.filter(|_| addresses.len() > 0);
        let wait_until = [until, next].into_iter().flatten().min();
        if !call.wait_until(&waited, wait_until)? {
            if until.is_some_and(|until| until <= Instant::now()) {
                break;
            }
            continue;
        }
        let mut index = 0;
        while let Some((socket, address)) = pending.get(index) {
            match is_connected(socket, pending.len() == 1) {
                Ok(true) => return Ok(pending.swap_remove(index).0.into()),
                Ok(false) => index += 1,
                Err(e) => {
                    record_failure(*address, &e);
                    pending.remove(index);
                    // Try the next address at once.
                    next_at = None;
                }
            }
        }
    }
    // If one address timed out and another refused, the refusal says more.
    Err(failure.unwrap_or_else(expired))
}

/// Alternates between the two address families, and keeps the order within each.
fn interleave_families(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let of_first = |a: &&SocketAddr| a.is_ipv4() == addresses[0].is_ipv4();
    let (mut first, mut other) = (
        addresses.iter().filter(of_first),
        addresses.iter().filter(|a| !of_first(a)),
    );
    let mut ordered = Vec::with_capacity(addresses.len());
    while ordered.len() < addresses.len() {
        ordered.extend(first.next());
        ordered.extend(other.next());
    }
    ordered
}

/// Whether the peer or a limit of this process is at fault.
fn connect_status(error: &io::Error) -> Status {
    match error.raw_os_error() {
        Some(libc::ENOBUFS) => Status::Resource,
        _ => Status::Connect,
    }
}

/// Begins to connect; returns the socket, and whether it is already connected.
fn begin_connect(address: SocketAddr) -> io::Result<(RawSocket, bool)> {
    let socket = sys::socket(Domain::for_address(address), Type::STREAM, Protocol::TCP)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&address.into()) {
        Ok(()) => Ok((socket, true)),
        Err(e) if in_progress(&e) => Ok((socket, false)),
        Err(e) => Err(e),
    }
}

/// Whether a socket is connected, after a wait for it and maybe for others.
fn is_connected(socket: &RawSocket, is_only: bool) -> io::Result<bool> {
    if let Some(e) = socket.take_error()? {
        return Err(e);
    }
    // If there are several, this one may still be pending.
    Ok(is_only || socket.peer_addr().is_ok())
}

fn in_progress(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted || error.raw_os_error() == Some(libc::EINPROGRESS)
}

/// A non-blocking socket whose waits obey the thread's current call.
#[derive(Debug)]
struct Socket(TcpStream);

impl Socket {
    fn wait(&self, interest: Interest) -> io::Result<()> {
        Call::current()
            .and_then(|call| call.wait(self.0.as_fd(), interest))
            .map_err(io::Error::other)
    }

    fn retry_when_ready(
        &self,
        interest: Interest,
        mut attempt: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            match attempt(&self.0) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(interest)?;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // ureq treats some kinds of errors as the end of a body; it passes this
                // one on.
                Err(e) => {
                    return Err(io::Error::other(Error::os(
                        Status::ConnectionLost,
                        "the connection broke",
                        &e,
                    )));
                }
                Ok(n) => return Ok(n),
            }
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.retry_when_ready(Interest::Readable, |mut stream| stream.read(buf))?;
        Call::current()
            .and_then(|call| call.count_received(n))
            .map_err(io::Error::other)?;
        Ok(n)
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.retry_when_ready(Interest::Writable, |mut stream| stream.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The byte stream of a connection: a socket, or TLS over one.
trait Stream: Read + Write + fmt::Debug + Send + Sync + 'static {
    const TLS: bool;

    /// Whether no unexpected data or end of the stream has arrived.
    fn is_idle(&mut self) -> bool;

    /// Waits until data arrives, unless some is already buffered.
    fn wait_for_response(&self) -> io::Result<()>;
}

impl Stream for Socket {
    const TLS: bool = false;

    fn is_idle(&mut self) -> bool {
        matches!(self.0.peek(&mut [0]), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    fn wait_for_response(&self) -> io::Result<()> {
        self.wait(Interest::Readable)
    }
}

impl Stream for TlsStream {
    const TLS: bool = true;

    fn is_idle(&mut self) -> bool {
        let buffered = self
            .conn
            .process_new_packets()
            .map(|state| state.plaintext_bytes_to_read());
        matches!(buffered, Ok(0)) && self.sock.is_idle()
    }

    fn wait_for_response(&self) -> io::Result<()> {
        // It may have arrived together with the end of the handshake.
        if !self.conn.wants_read() {
            return Ok(());
        }
        self.sock.wait_for_response()
    }
}

#[inline(never)]
fn complete_handshake(stream: &mut TlsStream, host: &str, port: u16) -> Result<(), Error> {
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).map_err(|e| {
            if e.kind() == io::ErrorKind::UnexpectedEof {
                return Error::new(
                    Status::Tls,
                    format!("{host}:{port} closed the connection in the TLS handshake; does it speak TLS?"),
                );
            }
            from_io(e)
        })?;
    }
    Ok(())
}

/// A stream with its buffers.
#[derive(Debug)]
struct Connection<S> {
    stream: S,
    buffers: ConnectionBuffers,
    inspector: Inspector,
    /// Whether a request was sent and nothing has arrived since.
    awaits_response: bool,
    /// Whether some of the response has arrived.
    has_response: bool,
    /// Whether it has already served a request.
    is_reused: bool,
}

impl<S: Stream> Connection<S> {
    fn new(stream: S) -> Result<Connection<S>, Error> {
        Ok(Connection {
            stream,
            buffers: ConnectionBuffers::new()?,
            inspector: Inspector::default(),
            awaits_response: false,
            has_response: false,
            is_reused: false,
        })
    }
}

impl<S: Stream> Transport for Connection<S> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        let output = &mut self.buffers.output()[..amount];
        let sent = if std::mem::take(&mut self.is_reused) && !self.stream.is_idle() {
            Call::current().map(|call| call.mark_unsent()).map_err(to_ureq)?;
            Err(io::Error::other(Error::new(
                Status::ConnectionLost,
                "the server had closed the connection",
            )))
        } else {
            self.stream.write_all(output).and_then(|()| self.stream.flush())
        };
        // The request contained the token, and the buffer is reused.
        output.zeroize();
        self.awaits_response = true;
        self.has_response = false;
        self.inspector.expect_response();
        if sent.is_err() {
            self.note_end();
        }
        sent.map_err(|e| to_ureq(from_io(e)))
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let received = self.receive();
        match received {
            Ok(true) => self.has_response = true,
            _ => self.note_end(),
        }
        received
    }

    /// Always true: ureq calls this when it puts a connection into its pool and, under the
    /// pool's lock, when it takes it out. The socket is checked before the next request.
    fn is_open(&mut self) -> bool {
        self.is_reused = true;
        true
    }

    fn is_tls(&self) -> bool {
        S::TLS
    }
}

impl<S: Stream> Connection<S> {
    /// Tells the call that the connection ended, if it did so before any of the response. What
    /// TLS says for itself, such as that the server closes, is no part of one.
    fn note_end(&self) {
        if !self.has_response
            && let Ok(call) = Call::current()
        {
            call.mark_without_response();
        }
    }

    fn receive(&mut self) -> Result<bool, ureq::Error> {
        if std::mem::take(&mut self.awaits_response) {
            // The response cannot be there yet: wait, instead of a read that would fail.
            self.stream.wait_for_response().map_err(|e| to_ureq(from_io(e)))?;
        }
        let input = self.buffers.input_append_buf();
        if input.is_empty() {
            return Err(to_ureq(inspector::malformed("a line of its header is too long")));
        }
        let n = self.stream.read(input).map_err(|e| to_ureq(from_io(e)))?;
        self.buffers.input_appended(n);
        if n == 0 {
            return self.inspector.check_end().map(|()| false).map_err(to_ureq);
        }
        let bytes = self.buffers.input_end(self.inspector.pending() + n);
        let received = bytes.len();
        let is_reused = self.inspector.inspect(bytes).map_err(to_ureq)?;
        self.buffers.shorten_input(received - is_reused);
        Ok(true)
    }
}

/// Wraps an error of the library for ureq, which passes it on.
fn to_ureq(error: Error) -> ureq::Error {
    ureq::Error::Other(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate_and_keep_their_order() {
        let parse = |list: &str| -> Vec<SocketAddr> {
            list.split(' ').map(|a| a.parse().expect("an address")).collect()
        };
        let ordered = interleave_families(&parse("[::1]:1 [::2]:1 [::3]:1 1.0.0.1:1 1.0.0.2:1"));
        assert_eq!(ordered, parse("[::1]:1 1.0.0.1:1 [::2]:1 1.0.0.2:1 [::3]:1"));
        let one = parse("1.0.0.1:1");
        assert_eq!(interleave_families(&one), one);
    }
}
