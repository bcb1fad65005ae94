//! Connections: sockets that obey the call that uses them, plain or under TLS,
//! as ureq's transports.

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
use crate::sys::{self, Interest, MAX_WAITED};

/// Does nothing. ureq resolves before it looks in its pool, so a look-up here
/// would be made for each request; the connector makes it for each connection.
#[derive(Debug)]
pub(super) struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(
        &self,
        _: &::http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut addresses: ResolvedSocketAddrs = ArrayVec::from_fn(|_| nowhere);
        addresses.push(nowhere);
        Ok(addresses)
    }
}

/// Opens connections, directly or through a proxy.
pub(super) struct SocketConnector {
    /// None where no request is https.
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) allow_plaintext: bool,
    /// The one address beside this machine's own that plain http may go to.
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
        let call = Call::current().map_err(opaque)?;
        call.connecting();
        let transport = self.open(details, &call);
        call.connected();
        transport.map(Some).map_err(opaque)
    }
}

// A step is a function of its own where its values are large: the next one runs
// on the same stack, below ureq's own frames.
impl SocketConnector {
    fn open(&self, details: &ConnectionDetails, call: &Call) -> Result<Box<dyn Transport>, Error> {
        let missing = || Error::new(Status::Internal, "a request without a host");
        let authority = details.uri.authority().ok_or_else(missing)?;
        let tls = details.needs_tls();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let host = authority.host();
        let socket = self.send_with_failover(host, port, tls, call)?;
        if !tls {
            return Ok(Box::new(Connection::new(socket)?));
        }
        let mut connection = self.session(host, socket)?;
        shake_hands(&mut connection.stream, host, port)?;
        Ok(connection)
    }

    /// A socket that leads to a host, through the proxy or not.
    #[inline(never)]
    fn send_with_failover(&self, host: &str, port: u16, tls: bool, call: &Call) -> Result<Socket, Error> {
        // What may be plain text because it does not leave this machine must not
        // leave it for a proxy either.
        let exempt = !tls && !self.allow_plaintext;
        let proxy = self
            .proxy
            .as_ref()
            .filter(|proxy| !exempt && !proxy.excepts(host));
        let (next_host, next_port) = proxy.map_or((host, port), |proxy| (proxy.host.as_str(), proxy.port));
        let mut addresses = resolve(next_host, next_port, call)?;
        if exempt {
            // Its name must not lead elsewhere.
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
        let mut socket = Socket(connect_any(next_host, &addresses, call)?);
        if let Some(proxy) = proxy {
            proxy.tunnel(&mut socket, host, port)?;
        }
        Ok(socket)
    }

    /// A connection whose handshake is to come.
    #[inline(never)]
    fn session(&self, host: &str, socket: Socket) -> Result<Box<Connection<TlsStream>>, Error> {
        let config = self
            .tls
            .clone()
            .ok_or_else(|| Error::new(Status::Internal, "an https request on a context without TLS"))?;
        memory::probe(TLS_MEMORY)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|_| Error::new(Status::Tls, format!("no certificate can name the host {host}")))?;
        let session = ClientConnection::new(config, name).map_err(|e| tls::failure(&e))?;
        Ok(Box::new(Connection::new(StreamOwned::new(session, socket))?))
    }
}

/// What a TLS session takes for its records, keys and the server's certificates.
const TLS_MEMORY: usize = 256 * 1024;

type TlsStream = StreamOwned<ClientConnection, Socket>;

/// After this time without a response the next address is tried beside the others
/// (RFC 8305).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Connects to the first address that answers. One that does not is given a start
/// over the next, at most a fair part of the time that is left.
fn connect_any(host: &str, addresses: &[SocketAddr], call: &Call) -> Result<TcpStream, Error> {
    let (until, expired) = call.next_limit();
    let mut failure = None;
    let mut failed = |address: SocketAddr, e: &io::Error| {
        let what = format_args!("cannot connect to {host} ({address})");
        failure = Some(Error::os(read_error(e), what, e));
    };
    let mut addresses = alternating(addresses).into_iter();
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
                    if pending.len() == MAX_WAITED {
                        pending.remove(0);
                    }
                    pending.push((socket, address));
                    let fair =
                        |until: Instant| until.saturating_duration_since(now) / (addresses.len() as u32 + 1);
                    next_at = Some(now + until.map_or(NEXT_ADDRESS, fair).min(NEXT_ADDRESS));
                }
                Err(e) => failed(address, &e),
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
            match outcome(socket, pending.len() == 1) {
                Ok(true) => return Ok(pending.swap_remove(index).0.into()),
                Ok(false) => index += 1,
                Err(e) => {
                    failed(*address, &e);
                    pending.remove(index);
                    // The next one need not wait.
                    next_at = None;
                }
            }
        }
    }
    // Where time ran out for one address and another refused, the refusal is
    // the more telling.
    Err(failure.unwrap_or_else(expired))
}

/// The addresses in their order, but the two families in turn.
fn alternating(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
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

/// Whether it is the other side or this process that cannot.
fn read_error(error: &io::Error) -> Status {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Status::Resource,
        _ => Status::Connect,
    }
}

/// A non-blocking socket, and whether it is connected already.
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

/// Whether a socket is connected, after a wait for it, `alone` or with others.
fn outcome(socket: &RawSocket, alone: bool) -> io::Result<bool> {
    if let Some(e) = socket.take_error()? {
        return Err(e);
    }
    // Of several, others may still be on the way.
    Ok(alone || socket.peer_addr().is_ok())
}

fn in_progress(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted || error.raw_os_error() == Some(libc::EINPROGRESS)
}

/// A non-blocking socket that waits as the thread's call allows.
#[derive(Debug)]
struct Socket(TcpStream);

impl Socket {
    fn wait(&self, interest: Interest) -> io::Result<()> {
        Call::current()
            .and_then(|call| call.wait(self.0.as_fd(), interest))
            .map_err(io::Error::other)
    }

    fn retrying(
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
                // ureq takes some kinds of errors for the end of a body; this
                // one it hands on as it is.
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
        let n = self.retrying(Interest::Readable, |mut stream| stream.read(buf))?;
        Call::current()
            .and_then(|call| call.received(n))
            .map_err(io::Error::other)?;
        Ok(n)
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.retrying(Interest::Writable, |mut stream| stream.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a connection's bytes go through.
trait Stream: Read + Write + fmt::Debug + Send + Sync + 'static {
    const TLS: bool;

    /// Whether nothing came that belongs to no response, the end included.
    fn is_quiet(&mut self) -> bool;

    /// Waits until something comes, where nothing is here.
    fn wait_for_response(&self) -> io::Result<()>;
}

impl Stream for Socket {
    const TLS: bool = false;

    fn is_quiet(&mut self) -> bool {
        matches!(self.0.peek(&mut [0]), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    fn wait_for_response(&self) -> io::Result<()> {
        self.wait(Interest::Readable)
    }
}

impl Stream for TlsStream {
    const TLS: bool = true;

    fn is_quiet(&mut self) -> bool {
        let left = self
            .conn
            .process_new_packets()
            .map(|state| state.plaintext_bytes_to_read());
        matches!(left, Ok(0)) && self.sock.is_quiet()
    }

    fn wait_for_response(&self) -> io::Result<()> {
        // One that speaks first may have sent it with the end of the handshake.
        if !self.conn.wants_read() {
            return Ok(());
        }
        self.sock.wait_for_response()
    }
}

#[inline(never)]
fn shake_hands(stream: &mut TlsStream, host: &str, port: u16) -> Result<(), Error> {
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
    /// Whether a request went out since anything came in.
    asked: bool,
    /// Whether it served a request that is answered.
    kept: bool,
}

impl<S: Stream> Connection<S> {
    fn new(stream: S) -> Result<Connection<S>, Error> {
        Ok(Connection {
            stream,
            buffers: ConnectionBuffers::new()?,
            inspector: Inspector::default(),
            asked: false,
            kept: false,
        })
    }
}

impl<S: Stream> Transport for Connection<S> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        let output = &mut self.buffers.output()[..amount];
        let sent = if std::mem::take(&mut self.kept) && !self.stream.is_quiet() {
            Call::current().map(|call| call.found_closed()).map_err(opaque)?;
            Err(io::Error::other(Error::new(
                Status::ConnectionLost,
                "the server had closed the connection",
            )))
        } else {
            self.stream.write_all(output).and_then(|()| self.stream.flush())
        };
        // The request had the token in it, and this buffer lives on.
        output.zeroize();
        self.asked = true;
        self.inspector.expect_response();
        sent.map_err(|e| opaque(from_io(e)))
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        if std::mem::take(&mut self.asked) {
            // No response is there yet, so to look for it would be in vain.
            self.stream.wait_for_response().map_err(|e| opaque(from_io(e)))?;
        }
        let input = self.buffers.input_append_buf();
        if input.is_empty() {
            return Err(opaque(inspector::malformed("a line of it is too long")));
        }
        let n = self.stream.read(input).map_err(|e| opaque(from_io(e)))?;
        self.buffers.input_appended(n);
        if n == 0 {
            return self.inspector.check_end().map(|()| false).map_err(opaque);
        }
        let bytes = self.buffers.input_end(self.inspector.pending() + n);
        let came = bytes.len();
        let kept = self.inspector.inspect(bytes).map_err(opaque)?;
        self.buffers.shorten_input(came - kept);
        Ok(true)
    }

    /// ureq asks when it puts a connection away and when it takes it out again,
    /// then under the lock of all its connections. The socket is looked at when
    /// the next request is about to be sent.
    fn is_open(&mut self) -> bool {
        self.kept = true;
        true
    }

    fn is_tls(&self) -> bool {
        S::TLS
    }
}

/// Our errors travel through ureq as they are.
fn opaque(error: Error) -> ureq::Error {
    ureq::Error::Other(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_keep_their_order() {
        let parse = |list: &str| -> Vec<SocketAddr> {
            list.split(' ').map(|a| a.parse().expect("an address")).collect()
        };
        let ordered = alternating(&parse("[::1]:1 [::2]:1 [::3]:1 1.0.0.1:1 1.0.0.2:1"));
        assert_eq!(ordered, parse("[::1]:1 1.0.0.1:1 [::2]:1 1.0.0.2:1 [::3]:1"));
        let one = parse("1.0.0.1:1");
        assert_eq!(alternating(&one), one);
    }
}
