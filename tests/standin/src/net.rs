//! Connections: plain or TLS, with every way of ending one, and how all of them stop at once.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection};
use socket2::SockRef;

const LINGER: Duration = Duration::from_secs(2);
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(1);

/// Locks, whatever became of the thread that held the lock before.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends every wait and every connection when the stand-in is dropped.
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

    /// Waits; an error when the stand-in stopped meanwhile.
    pub(crate) fn pause(&self, time: Duration) -> io::Result<()> {
        let waiting = lock(&self.waiting);
        let result = self.wake.wait_timeout_while(waiting, time, |()| !self.is_set());
        drop(result);
        if self.is_set() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
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
pub(crate) enum Ending {
    /// In good order: over TLS with `close_notify`, then FIN.
    Close,
    /// FIN without `close_notify`.
    Truncate,
    /// RST, after the client's side has received all that was sent.
    Reset,
    /// Open and silent until the client leaves.
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

    pub(crate) fn end(mut self, ending: Ending) {
        match ending {
            Ending::Close => {
                if let Some(tls) = &mut self.tls {
                    tls.send_close_notify();
                }
                if self.flush().is_ok() {
                    self.finish();
                }
            }
            Ending::Truncate => self.finish(),
            Ending::Reset => {
                wait_until_acknowledged(&self.tcp);
                // Should it fail, the connection still ends, with FIN.
                let _ = SockRef::from(&*self.tcp).set_linger(Some(Duration::ZERO));
            }
            Ending::Stall => self.drain(None),
        }
    }

    /// A socket closed while something unread waits in it is reset, and the client may lose the
    /// end of the answer: so what it still sends is read first.
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

/// A reset throws away what is still on its way, so the exact number of bytes arrives only if
/// the kernel's send queue is empty first. The queue's length has no safe interface but this file.
fn wait_until_acknowledged(tcp: &TcpStream) {
    let (Ok(local), Ok(peer)) = (tcp.local_addr(), tcp.peer_addr()) else {
        return;
    };
    let deadline = Instant::now() + ACKNOWLEDGED_WITHIN;
    while Instant::now() < deadline {
        match unacknowledged(local, peer) {
            Some(0) => return,
            Some(_) => std::thread::sleep(POLL),
            None => return std::thread::sleep(POLL * 50),
        }
    }
}

fn unacknowledged(local: SocketAddr, peer: SocketAddr) -> Option<u64> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let (local, peer) = (kernel_name(local)?, kernel_name(peer)?);
    let line = table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        (fields.next() == Some(&local) && fields.next() == Some(&peer)).then_some(fields)
    });
    let queues = line?.nth(1)?;
    u64::from_str_radix(queues.split_once(':')?.0, 16).ok()
}

fn kernel_name(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else {
        return None;
    };
    let ip = u32::from_ne_bytes(address.ip().octets());
    Some(format!("{ip:08X}:{:04X}", address.port()))
}
