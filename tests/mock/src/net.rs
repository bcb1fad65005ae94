//! Connections: plain or TLS, with every way of ending one, and how all of them stop at once.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

const LINGER: Duration = Duration::from_secs(2);
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(20);
const QUEUED_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(1);

/// Locks a mutex, even if it is poisoned.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends every wait and every connection when the mock service is dropped.
#[derive(Default)]
pub(crate) struct Stop {
    flag: AtomicBool,
    waiting: Mutex<()>,
    wake: Condvar,
    // Weak, because a socket is closed only when nobody holds it any more.
    sockets: Mutex<Vec<Weak<TcpStream>>>,
}

impl Stop {
    pub(crate) fn is_set(&self) -> bool {
        self.flag.load(Ordering::Acquire)
    }

    /// Remembers a connection; false when it came too late to be served.
    pub(crate) fn register(&self, socket: &Arc<TcpStream>) -> bool {
        let mut sockets = lock(&self.sockets);
        if self.is_set() {
            return false;
        }
        sockets.retain(|known| known.strong_count() > 0);
        sockets.push(Arc::downgrade(socket));
        true
    }

    /// Waits; an error when the mock service stopped meanwhile.
    pub(crate) fn pause(&self, time: Duration) -> io::Result<()> {
        self.pause_while(time, || true)
    }

    /// The same, and no longer than something is so. Whoever changes that calls [`Stop::wake`].
    pub(crate) fn pause_while(&self, time: Duration, is_so: impl Fn() -> bool) -> io::Result<()> {
        let waiting = lock(&self.waiting);
        let goes_on = |(): &mut ()| !self.is_set() && is_so();
        let result = self.wake.wait_timeout_while(waiting, time, goes_on);
        drop(result);
        if self.is_set() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    pub(crate) fn wake(&self) {
        let _waiting = lock(&self.waiting);
        self.wake.notify_all();
    }

    pub(crate) fn set(&self) {
        let sockets = {
            let mut sockets = lock(&self.sockets);
            let _waiting = lock(&self.waiting);
            self.flag.store(true, Ordering::Release);
            std::mem::take(&mut *sockets)
        };
        self.wake.notify_all();
        for socket in sockets.iter().filter_map(Weak::upgrade) {
            // Fails only for a connection that has already ended.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseKind {
    /// Orderly: over TLS with `close_notify`, then FIN.
    Close,
    /// FIN without `close_notify`.
    Truncate,
    /// RST, after the client's side has received all that was sent.
    Reset,
    /// Open and silent until the client closes.
    Stall,
}

/// One connection.
pub(crate) struct Transport {
    tcp: Arc<TcpStream>,
    tls: Option<Box<ServerConnection>>,
}

impl Transport {
    pub(crate) fn plain(tcp: Arc<TcpStream>) -> Self {
        Transport { tcp, tls: None }
    }

    /// Shakes hands; an error when the client would not.
    pub(crate) fn tls(tcp: Arc<TcpStream>, config: Arc<ServerConfig>) -> io::Result<Self> {
        let mut tls = Box::new(ServerConnection::new(config).map_err(io::Error::other)?);
        while tls.is_handshaking() {
            tls.complete_io(&mut &*tcp)?;
        }
        let tls = Some(tls);
        Ok(Transport { tcp, tls })
    }

    pub(crate) fn end(mut self, ending: CloseKind) {
        match ending {
            CloseKind::Close => {
                if let Some(tls) = &mut self.tls {
                    tls.send_close_notify();
                }
                if self.flush().is_ok() {
                    self.finish();
                }
            }
            CloseKind::Truncate => self.finish(),
            CloseKind::Reset => {
                wait_until_acknowledged(&self.tcp);
                // Should it fail, the connection still ends, with FIN.
                let _ = SockRef::from(&*self.tcp).set_linger(Some(Duration::ZERO));
            }
            CloseKind::Stall => self.drain(None),
        }
    }

    /// A socket closed while something unread waits in it is reset, and the client may lose the
    /// end of the response: so what it still sends is read first.
    fn finish(&self) {
        if self.tcp.shutdown(Shutdown::Write).is_ok() {
            self.drain(Some(Instant::now() + LINGER));
        }
    }

    fn drain(&self, until: Option<Instant>) {
        let mut sink = [0; 4096];
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero())
                || self.tcp.set_read_timeout(left).is_err()
                || matches!((&*self.tcp).read(&mut sink), Ok(0) | Err(_))
            {
                return;
            }
        }
    }
}

impl Read for Transport {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut tcp = &*self.tcp;
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut tcp).read(buf),
            None => tcp.read(buf),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut tcp = &*self.tcp;
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut tcp).write(buf),
            None => tcp.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut tcp = &*self.tcp;
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut tcp).flush(),
            None => tcp.flush(),
        }
    }
}

/// An address where connecting neither succeeds nor fails: the queue of connections to accept is
/// full, and the kernel drops what comes then without a word.
pub(crate) struct NeverAccepts {
    listener: TcpListener,
    // They fill the queue as long as they are open.
    _waiting: Vec<TcpStream>,
}

impl NeverAccepts {
    pub(crate) fn new() -> io::Result<Self> {
        // Not 0: a kernel with SYN cookies then takes every client for connected, and one without
        // them lets not even the first in.
        const BACKLOG: u8 = 1;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        socket.listen(BACKLOG.into())?;
        let listener = TcpListener::from(socket);
        let address = listener.local_addr()?;
        let mut waiting = Vec::new();
        // Linux takes one more than the backlog says.
        for number in 1..=u64::from(BACKLOG) + 1 {
            waiting.push(TcpStream::connect_timeout(&address, QUEUED_WITHIN)?);
            wait_until_queued(address, number);
        }
        Ok(NeverAccepts {
            listener,
            _waiting: waiting,
        })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A client counts itself connected before it is in the queue, and meanwhile one too many could
/// come to think so.
fn wait_until_queued(listener: SocketAddr, number: u64) {
    let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let deadline = Instant::now() + QUEUED_WITHIN;
    while Instant::now() < deadline && queues(listener, nobody).is_some_and(|queues| queues.1 < number) {
        std::thread::sleep(POLL);
    }
}

/// A reset throws away what is still on its way, so the exact number of bytes arrives only if
/// the kernel's send queue is empty first. The queue's length has no safe interface but this file.
fn wait_until_acknowledged(tcp: &TcpStream) {
    let (Ok(local), Ok(peer)) = (tcp.local_addr(), tcp.peer_addr()) else {
        return;
    };
    let deadline = Instant::now() + ACKNOWLEDGED_WITHIN;
    let mut unseen = 0;
    while Instant::now() < deadline && unseen < 50 {
        match unacknowledged(local, peer) {
            Some(0) => return,
            Some(_) => {}
            // The table may leave one out while it changes, so once is not enough.
            None => unseen += 1,
        }
        std::thread::sleep(POLL);
    }
}

fn unacknowledged(local: SocketAddr, peer: SocketAddr) -> Option<u64> {
    queues(local, peer).map(|queues| queues.0)
}

/// The kernel's queues for sending and receiving; a listener's second is that of the connections
/// to accept.
fn queues(local: SocketAddr, peer: SocketAddr) -> Option<(u64, u64)> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let (local, peer) = (kernel_name(local)?, kernel_name(peer)?);
    let line = table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        (fields.next() == Some(&local) && fields.next() == Some(&peer)).then_some(fields)
    });
    let (send, receive) = line?.nth(1)?.split_once(':')?;
    let number = |digits| u64::from_str_radix(digits, 16).ok();
    Some((number(send)?, number(receive)?))
}

fn kernel_name(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else {
        return None;
    };
    let ip = u32::from_ne_bytes(address.ip().octets());
    Some(format!("{ip:08X}:{:04X}", address.port()))
}
