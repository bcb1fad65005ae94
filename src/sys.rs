//! System calls that std does not offer. With `ffi`, the only place with
//! `unsafe`.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{CString, OsString};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek};
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use once_cell::race::OnceNonZeroUsize;
use socket2::{Domain, Protocol, Socket, Type};

/// Bytes of a mapping of their own, zero at first, of which only those that are
/// touched become resident. The system has them back when it is dropped, which
/// allocators do not promise: they may keep them, or fill them with zeros.
#[derive(Debug)]
pub(crate) struct Pages {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it owns its bytes, as a box does.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// None where there is no memory for so many.
    pub(crate) fn new(len: usize) -> Option<Pages> {
        // SAFETY: a new mapping, of which nothing else knows.
        let start = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANON;
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            )
        };
        let start = NonNull::new(start.cast()).filter(|_| start != libc::MAP_FAILED)?;
        Some(Pages { start, len })
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping is ours, has so many bytes, and begins as zeros.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and nobody else has it.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made, which nobody uses any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Whether so many bytes of new pages can be had.
pub(crate) fn can_map(len: usize) -> bool {
    Pages::new(len).is_some()
}

/// Tells this process from those that it was forked from: each has another
/// number here. Its id cannot: in PID namespaces a child may have its parent's. It
/// is asked for several times in each call, so it is a system call only the first
/// time in each process. Async-signal-safe, but for that.
pub(crate) fn process() -> usize {
    /// As inherited, no less than what any process before this one got.
    static LAST: AtomicUsize = AtomicUsize::new(0);
    let Some(known) = zeroed_by_fork() else {
        return std::process::id() as usize;
    };
    match known.load(Ordering::SeqCst) {
        0 => {
            let next = LAST.fetch_add(1, Ordering::SeqCst) + 1;
            match known.compare_exchange(0, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => next,
                Err(another_threads) => another_threads,
            }
        }
        number => number,
    }
}

/// A number that is 0 again in a child of `fork`; none where the system refuses
/// to see to it.
fn zeroed_by_fork() -> Option<&'static AtomicUsize> {
    // An address; 1 is none's.
    static NUMBER: OnceNonZeroUsize = OnceNonZeroUsize::new();
    const NONE: NonZeroUsize = NonZeroUsize::MIN;
    let number = NUMBER.get_or_init(|| {
        new_page_wiped_on_fork()
            .or_else(new_number_zeroed_by_handler)
            .unwrap_or(NONE)
    });
    // SAFETY: a page that is never unmapped, is aligned and zeroed, and is used
    // as this one number alone; or a static.
    (number != NONE).then(|| unsafe { &*(number.get() as *const AtomicUsize) })
}

#[cfg(target_os = "linux")]
fn new_page_wiped_on_fork() -> Option<NonZeroUsize> {
    const LENGTH: usize = 4096;
    // SAFETY: a new mapping, of which nothing else knows; the advice is about it
    // alone.
    unsafe {
        let page = libc::mmap(
            std::ptr::null_mut(),
            LENGTH,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if page == libc::MAP_FAILED {
            return None;
        }
        // An emulator may say yes to whatever it is advised, so it is asked for
        // what does not exist, too.
        if libc::madvise(page, LENGTH, -1) != 0 && libc::madvise(page, LENGTH, libc::MADV_WIPEONFORK) == 0 {
            return NonZeroUsize::new(page as usize);
        }
        libc::munmap(page, LENGTH);
    }
    None
}

#[cfg(not(target_os = "linux"))]
fn new_page_wiped_on_fork() -> Option<NonZeroUsize> {
    None
}

/// For systems that cannot wipe a page.
fn new_number_zeroed_by_handler() -> Option<NonZeroUsize> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    unsafe extern "C" fn zero() {
        NUMBER.store(0, Ordering::SeqCst);
    }
    // SAFETY: the function is async-signal-safe, and the system forgets it with
    // this library.
    let refused = unsafe { libc::pthread_atfork(None, None, Some(zero)) } != 0;
    NonZeroUsize::new(NUMBER.as_ptr() as usize).filter(|_| !refused)
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    Readable,
    Writable,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// A descriptor is ready, or broken, which the next call on it will tell.
    Ready,
    /// Somebody signalled the wake-up.
    Woken,
    /// The time has come.
    TimedOut,
    /// A signal was handled, inside a [`SignalScope`].
    Interrupted,
}

/// How many descriptors one wait can be for.
pub(crate) const MAX_WAITED: usize = 8;

/// Waits for any of some descriptors, a wake-up, and a time. A signal ends the
/// wait inside a [`SignalScope`]; elsewhere it neither ends nor lengthens it.
pub(crate) fn wait(
    fds: &[(BorrowedFd<'_>, Interest)],
    wake: Option<BorrowedFd<'_>>,
    until: Option<Instant>,
) -> io::Result<Ended> {
    // A negative descriptor is one that poll passes over.
    let entry = |fd: Option<BorrowedFd<'_>>, interest| libc::pollfd {
        fd: fd.map_or(-1, |fd| fd.as_raw_fd()),
        events: match interest {
            Interest::Writable => libc::POLLOUT,
            Interest::Readable => libc::POLLIN,
        },
        revents: 0,
    };
    let mut entries = [entry(wake, Interest::Readable); MAX_WAITED + 1];
    let count = fds.len().min(MAX_WAITED);
    for (place, (fd, interest)) in entries[1..].iter_mut().zip(fds) {
        *place = entry(Some(*fd), *interest);
    }
    let entries = &mut entries[..=count];
    let scope = SignalScope::mask();
    loop {
        let ready = match &scope {
            None => poll(entries, until),
            Some(mask) => poll_with_signals(entries, until, mask),
        };
        match ready {
            0 if until.is_some_and(|until| until <= Instant::now()) => return Ok(Ended::TimedOut),
            // The timeout was cut to what poll can express.
            0 => {}
            n if n > 0 && entries[0].revents != 0 => return Ok(Ended::Woken),
            n if n > 0 => return Ok(Ended::Ready),
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
                if scope.is_some() {
                    return Ok(Ended::Interrupted);
                }
            }
        }
    }
}

fn poll(entries: &mut [libc::pollfd], until: Option<Instant>) -> libc::c_int {
    let timeout = match until {
        None => -1,
        Some(until) => {
            let left = until.saturating_duration_since(Instant::now());
            // Rounded up, or the last fraction of a millisecond would spin.
            let ms = left.saturating_add(Duration::from_micros(999)).as_millis();
            libc::c_int::try_from(ms).unwrap_or(libc::c_int::MAX)
        }
    };
    // SAFETY: valid entries, alive and ours alone during the call.
    unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, timeout) }
}

/// The same with this signal mask while it waits. The kernel changes the mask
/// and begins to wait in one step, so no signal falls between the two.
#[cfg(not(any(target_os = "macos", target_os = "ios")))]
fn poll_with_signals(
    entries: &mut [libc::pollfd],
    until: Option<Instant>,
    mask: &libc::sigset_t,
) -> libc::c_int {
    const LONGEST: Duration = Duration::from_secs(1 << 20);
    let timeout = until.map(|until| {
        let left = until.saturating_duration_since(Instant::now()).min(LONGEST);
        libc::timespec {
            tv_sec: left.as_secs() as libc::time_t,
            tv_nsec: left.subsec_nanos() as libc::c_long,
        }
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: valid entries, ours alone during the call; the time, where there is
    // one, and the mask live during it.
    unsafe { libc::ppoll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, timeout, mask) }
}

/// These systems have no ppoll: the mask is changed before, and the wait is cut
/// short, so that a signal that falls between is noticed soon.
#[cfg(any(target_os = "macos", target_os = "ios"))]
fn poll_with_signals(
    entries: &mut [libc::pollfd],
    until: Option<Instant>,
    mask: &libc::sigset_t,
) -> libc::c_int {
    let soon = Instant::now() + Duration::from_millis(50);
    let _mask = SignalMask::set(mask);
    poll(entries, Some(until.map_or(soon, |until| until.min(soon))))
}

/// While it lives, this thread's signals are blocked but where [`wait`] waits:
/// each that the host handles ends a wait, however it falls.
///
/// What faults raise is never blocked, nor are signals inside of the C library.
pub(crate) struct SignalScope {
    _mask: SignalMask,
    /// That of a call within a callback of the call.
    outer: Option<libc::sigset_t>,
}

thread_local! {
    static SCOPE: Cell<Option<libc::sigset_t>> = const { Cell::new(None) };
    static SUSPENDED: Cell<bool> = const { Cell::new(false) };
}

/// See [`SignalScope::suspend`].
pub(crate) struct Suspended {
    mask: libc::sigset_t,
    /// Blocks signals again when it is dropped.
    blocked: Option<SignalMask>,
}

impl Drop for Suspended {
    fn drop(&mut self) {
        self.blocked = None;
        SCOPE.set(Some(self.mask));
        SUSPENDED.set(true);
    }
}

/// Raised by a fault of the thread itself: blocked, they would end the process.
const FAULTS: [libc::c_int; 7] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGABRT,
];

impl SignalScope {
    pub(crate) fn enter() -> SignalScope {
        let mut blocked = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset initialises the set, and sigdelset takes numbers of
        // signals.
        let blocked = unsafe {
            libc::sigfillset(blocked.as_mut_ptr());
            for fault in FAULTS {
                libc::sigdelset(blocked.as_mut_ptr(), fault);
            }
            blocked.assume_init()
        };
        let outer = SCOPE.get();
        let mask = SignalMask::set(&blocked);
        // Inside another scope the host's mask is the one that this found.
        SCOPE.set(Some(outer.unwrap_or(mask.0)));
        SignalScope { _mask: mask, outer }
    }

    /// Leaves the scope until the value is dropped, for code of the host: it runs
    /// with the host's own mask, and its calls are none of this scope.
    pub(crate) fn suspend() -> Option<Suspended> {
        let mask = SCOPE.take()?;
        Some(Suspended {
            mask,
            blocked: Some(SignalMask::set(&mask)),
        })
    }

    /// Whether it was left since this was last asked.
    pub(crate) fn was_suspended() -> bool {
        SUSPENDED.take()
    }

    /// The mask to wait with; none outside of a scope.
    fn mask() -> Option<libc::sigset_t> {
        SCOPE.get()
    }

    /// Lets signals that wait be handled now: true where one was. Always false
    /// outside of a scope.
    pub(crate) fn deliver() -> bool {
        Self::mask().is_some_and(|mask| {
            poll_with_signals(&mut [], Some(Instant::now()), &mask) < 0
                && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
        })
    }
}

impl Drop for SignalScope {
    fn drop(&mut self) {
        SCOPE.set(self.outer);
    }
}

/// Sets a signal mask, and the one before when it is dropped.
struct SignalMask(libc::sigset_t);

impl SignalMask {
    fn set(mask: &libc::sigset_t) -> SignalMask {
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: it can fail only for a wrong first argument, so it initialises
        // `before`.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, mask, before.as_mut_ptr());
            SignalMask(before.assume_init())
        }
    }
}

impl Drop for SignalMask {
    fn drop(&mut self) {
        // SAFETY: a mask that pthread_sigmask itself filled in.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

/// The same descriptor with a number above those of the standard streams: what a
/// host that closed them writes to them must not end in a file of ours. Every
/// descriptor that the library makes comes through here; 0 is also that of no
/// wake-up.
pub(crate) fn beyond_standard<T: AsRawFd + From<OwnedFd>>(made: T) -> io::Result<T> {
    if made.as_raw_fd() > 2 {
        return Ok(made);
    }
    // SAFETY: no pointers; the result is checked before it is owned.
    let higher = unsafe { libc::fcntl(made.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) };
    if higher < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just made and that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(higher) }.into())
}

/// The same file once more.
pub(crate) fn duplicate(file: &File) -> io::Result<File> {
    file.try_clone().and_then(beyond_standard)
}

/// Closes a file, and says what was wrong with it, which dropping it does not.
pub(crate) fn close(file: File) -> io::Result<()> {
    // SAFETY: a descriptor that is this function's alone.
    if unsafe { libc::close(file.into_raw_fd()) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        // It is closed all the same.
        e if e.kind() == io::ErrorKind::Interrupted => Ok(()),
        e => Err(e),
    }
}

/// What is in a directory, as far as it can be read. Its descriptor is the number
/// that it gets, but nothing can be written to it.
pub(crate) fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let found = directory.read_dir().into_iter().flatten();
    found.flatten().map(|entry| entry.path())
}

/// Opens a file; see [`beyond_standard`].
pub(crate) fn open(path: &Path, options: &OpenOptions) -> io::Result<File> {
    options.open(path).and_then(beyond_standard)
}

/// Opens a file to read it.
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    open(path, File::options().read(true))
}

/// A new socket.
pub(crate) fn socket(domain: Domain, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    Socket::new(domain, kind, Some(protocol)).and_then(beyond_standard)
}

/// A descriptor that ends a [`wait`] from another thread or a signal handler.
#[derive(Debug)]
pub(crate) struct Wake {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    event: OwnedFd,
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pair: (std::os::unix::net::UnixStream, std::os::unix::net::UnixStream),
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Wake {
    pub(crate) fn new() -> io::Result<Wake> {
        // SAFETY: no pointers; the result is checked before it is owned.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was just made and that nobody else owns.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Wake {
            event: beyond_standard(event)?,
        })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    fn sending(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Wake {
    pub(crate) fn new() -> io::Result<Wake> {
        let (one, other) = std::os::unix::net::UnixStream::pair()?;
        let pair = (beyond_standard(one)?, beyond_standard(other)?);
        pair.0.set_nonblocking(true)?;
        pair.1.set_nonblocking(true)?;
        Ok(Wake { pair })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.pair.0.as_fd()
    }

    fn sending(&self) -> BorrowedFd<'_> {
        self.pair.1.as_fd()
    }
}

impl Wake {
    /// Ends the present and the future waits, until [`Wake::clear`].
    /// Async-signal-safe: one system call that does not block, errno kept.
    pub(crate) fn signal(&self) {
        signal_descriptor(self.sending().as_raw_fd());
    }

    /// Lets waits wait again.
    pub(crate) fn clear(&self) {
        let mut bytes = [0u8; 64];
        // SAFETY: the bytes are ours and writable; the descriptor does not block.
        while unsafe { libc::read(self.as_fd().as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) } == 64 {}
    }
}

/// Makes the other end of a wake-up readable. Not by write(2), where a thread
/// could be cancelled (pthread_cancel).
fn signal_descriptor(fd: libc::c_int) {
    let one = 1u64.to_ne_bytes();
    let errno = errno();
    // SAFETY: errno's place is this thread's; the eight bytes live during the
    // call. A full counter or pipe wakes as well, so the result says nothing.
    unsafe {
        let kept = *errno;
        #[cfg(target_os = "linux")]
        libc::syscall(libc::SYS_write, fd, one.as_ptr(), one.len());
        #[cfg(not(target_os = "linux"))]
        libc::write(fd, one.as_ptr().cast(), one.len());
        *errno = kept;
    }
}

/// A [`Wake`] that is made when somebody first waits and let go when nobody does
/// any more, so that it costs no descriptor otherwise. A signal that comes earlier
/// is not kept: whoever waits looks at the reason after [`LazyWake::get`] and
/// before the wait.
#[derive(Debug, Default)]
pub(crate) struct LazyWake {
    made: Mutex<Option<Arc<Wake>>>,
    /// Where to signal it, or 0; readable in a signal handler.
    sending: AtomicI32,
    /// How many are about to signal it.
    signalling: AtomicU32,
}

impl LazyWake {
    fn made(&self) -> MutexGuard<'_, Option<Arc<Wake>>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self) -> io::Result<Arc<Wake>> {
        let mut made = self.made();
        let wake = match &*made {
            Some(wake) => Arc::clone(wake),
            None => Arc::clone(made.insert(Arc::new(Wake::new()?))),
        };
        self.sending.store(wake.sending().as_raw_fd(), Ordering::SeqCst);
        Ok(wake)
    }

    /// Async-signal-safe.
    pub(crate) fn signal(&self) {
        self.signalling.fetch_add(1, Ordering::SeqCst);
        match self.sending.load(Ordering::SeqCst) {
            0 => {}
            fd => signal_descriptor(fd),
        }
        self.signalling.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn clear(&self) {
        if let Some(wake) = &*self.made() {
            wake.clear();
        }
    }

    /// Closes its descriptor, as nobody waits. Not while somebody is about to
    /// signal it: the number could be another's by then, and it is kept.
    pub(crate) fn release(&self) {
        self.sending.store(0, Ordering::SeqCst);
        if self.signalling.load(Ordering::SeqCst) == 0 {
            self.made().take();
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "emscripten"))]
fn errno() -> *mut libc::c_int {
    // SAFETY: gives the address of this thread's errno; touches nothing.
    unsafe { libc::__errno_location() }
}

#[cfg(any(target_os = "android", target_os = "netbsd", target_os = "openbsd"))]
fn errno() -> *mut libc::c_int {
    // SAFETY: gives the address of this thread's errno; touches nothing.
    unsafe { libc::__errno() }
}

#[cfg(any(target_os = "macos", target_os = "ios", target_os = "freebsd"))]
fn errno() -> *mut libc::c_int {
    // SAFETY: gives the address of this thread's errno; touches nothing.
    unsafe { libc::__error() }
}

/// What kind of descriptor a caller passed.
pub(crate) struct DescriptorMode {
    pub(crate) regular: bool,
    pub(crate) socket: bool,
    pub(crate) writable: bool,
    pub(crate) nonblocking: bool,
}

pub(crate) fn descriptor(fd: BorrowedFd<'_>) -> io::Result<DescriptorMode> {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat fills in the structure when it returns 0, and only then is
    // it read; fcntl takes no pointer here.
    let (flags, mode) = unsafe {
        let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        if flags < 0 || libc::fstat(fd.as_raw_fd(), status.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        (flags, status.assume_init().st_mode)
    };
    Ok(DescriptorMode {
        regular: mode & libc::S_IFMT == libc::S_IFREG,
        socket: mode & libc::S_IFMT == libc::S_IFSOCK,
        writable: flags & libc::O_ACCMODE != libc::O_RDONLY,
        nonblocking: flags & libc::O_NONBLOCK != 0,
    })
}

/// A file that was read whole.
pub(crate) struct SmallFile {
    pub(crate) bytes: Vec<u8>,
    pub(crate) mode: u32,
}

/// Reads a file of at most so many bytes. Only regular ones: a pipe would make
/// it wait.
pub(crate) fn read_small_file(path: &Path, limit: u64) -> io::Result<SmallFile> {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let mut file = open(path, &options)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if about.len() > limit {
        return Err(io::Error::other(format!("it is larger than {limit} bytes")));
    }
    // Room for all of it at once: a vector that grows leaves copies.
    let mut bytes = Vec::with_capacity(about.len() as usize + 1);
    file.by_ref().take(limit).read_to_end(&mut bytes)?;
    Ok(SmallFile {
        bytes,
        mode: about.mode(),
    })
}

/// A file of the official SDKs: the one that a variable names, which is told, or
/// the one of this name in the user's directory for them.
pub(crate) fn file_of_the_user(
    environment: &dyn Fn(&str) -> Option<OsString>,
    variable: &str,
    name: &str,
) -> Option<(PathBuf, bool)> {
    if let Some(path) = environment(variable).filter(|path| !path.is_empty()) {
        return Some((path.into(), true));
    }
    let home = environment("HOME").filter(|home| !home.is_empty())?;
    Some((Path::new(&home).join(".huaweicloud").join(name), false))
}

/// A file in a directory that has no name, mode 0600; none where the system or
/// the file system has no such files, or could not give it a name later.
pub(crate) fn unnamed_file(directory: &Path) -> Option<File> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = File::options();
        options
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_TMPFILE);
        let file = open(directory, &options).ok()?;
        Path::new(&place_of(file.as_fd())).exists().then_some(file)
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = directory;
        None
    }
}

fn place_of(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The file behind a descriptor, opened for writing once more, so as not to
/// block; the caller's descriptor keeps its mode.
pub(crate) fn reopen_nonblocking(fd: BorrowedFd<'_>) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    open(Path::new(&place_of(fd)), &options)
}

/// Gives a file of [`unnamed_file`] its name; an error if a file has it.
pub(crate) fn name_file(file: &File, path: &Path) -> io::Result<()> {
    let from = CString::new(place_of(file.as_fd()))?;
    let to = CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: two strings that live during the call.
    let result = unsafe {
        libc::linkat(
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            libc::AT_SYMLINK_FOLLOW,
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// write(2) that never sends the host a signal: neither SIGPIPE for a reader
/// that has gone nor SIGXFSZ for a file at its size limit, both of which end a
/// process by default.
pub(crate) fn write_quietly(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the bytes live during the call.
    quietly(bytes.len(), || unsafe {
        libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len())
    })
}

/// The same for a socket, which takes at once what it can, whatever its mode.
pub(crate) fn send_quietly(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the bytes live during the call.
    quietly(bytes.len(), || unsafe {
        libc::send(
            socket.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_DONTWAIT,
        )
    })
}

/// The same for what else can take at once what it can; ErrorKind::Unsupported
/// where it, or the system, has no such thing.
pub(crate) fn write_quietly_at_once(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    {
        let part = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        // The position of the descriptor itself, in two halves.
        let here: libc::c_long = -1;
        // SAFETY: the part and the bytes live during the call, which only reads
        // them.
        let written = quietly(bytes.len(), || unsafe {
            libc::syscall(
                libc::SYS_pwritev2,
                libc::c_long::from(fd.as_raw_fd()),
                &raw const part,
                1usize,
                here,
                here,
                libc::c_long::from(libc::RWF_NOWAIT),
            ) as isize
        });
        match written {
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::EPERM)
                ) => {}
            written => return written,
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (fd, bytes);
    Err(io::ErrorKind::Unsupported.into())
}

/// Calls what writes so many bytes, without the signals that it may raise.
fn quietly(len: usize, write: impl FnOnce() -> isize) -> io::Result<usize> {
    let blocked = Blocked::these(&[libc::SIGPIPE, libc::SIGXFSZ]);
    let n = write();
    let error = io::Error::last_os_error();
    // What was taken whole raised nothing.
    if n < 0 || (n as usize) < len {
        blocked.take_back();
    }
    if n >= 0 {
        return Ok(n as usize);
    }
    Err(error)
}

/// The same for all of the bytes, to a descriptor that blocks.
pub(crate) fn write_all_quietly(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match write_quietly(fd, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// A lock of a file by flock(2), which dies with this process even where children
/// of `fork` live on.
///
/// A lock of flock(2) belongs to the open file, which a child shares. Those of fcntl(2)
/// would not do: one of a process is lost as soon as anything in it opens and closes
/// the file, such as a backup of the archive, and does not keep its threads apart; one
/// of an open file is inherited as well. So each child lets go of the file when it
/// begins. One that was made without `fork`, by a bare clone(2), does not.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: File,
    process: usize,
    slot: Option<&'static AtomicI32>,
}

/// The descriptors of locked files, or 0; more locks than these at a time are
/// inherited. A child reads them before it does anything else.
static LOCKED: [AtomicI32; 64] = [const { AtomicI32::new(0) }; 64];

/// Puts another file in the place of each that is locked, so that its number stays
/// taken: it is closed with what holds it.
extern "C" fn let_go_of_locks() {
    for locked in &LOCKED {
        let fd = locked.swap(0, Ordering::Relaxed);
        if fd == 0 {
            continue;
        }
        // SAFETY: async-signal-safe calls on a constant text and on a descriptor that
        // a lock owns.
        unsafe {
            let other = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
            if other < 0 {
                libc::close(fd);
            } else {
                libc::dup2(other, fd);
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
                libc::close(other);
            }
        }
    }
}

impl FileLock {
    /// Does not wait; none where somebody else has it.
    pub(crate) fn try_new(file: File) -> io::Result<Option<FileLock>> {
        static PREPARED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        // SAFETY: a function that lives as long as this library, of which the C
        // library forgets it when it is unloaded.
        let prepared =
            *PREPARED.get_or_init(|| unsafe { libc::pthread_atfork(None, None, Some(let_go_of_locks)) == 0 });
        let fd = file.as_raw_fd();
        let is_free = |slot: &&AtomicI32| {
            slot.compare_exchange(0, fd, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
        };
        // Before it is locked: a child may be made at any moment.
        let slot = LOCKED.iter().filter(|_| prepared).find(is_free);
        let lock = FileLock {
            file,
            process: process(),
            slot,
        };
        match lock.file.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // In a child it was let go of.
        if self.process != process() {
            return;
        }
        // Closing is not enough: a child may have the descriptor all the same.
        let _ = self.file.unlock();
        if let Some(slot) = self.slot {
            slot.store(0, Ordering::SeqCst);
        }
    }
}

/// Has what was written to a file on the disk, where its file system can do that.
pub(crate) fn sync_data(file: &File) -> io::Result<()> {
    file.sync_data().or_else(|e| match is_unsupported(&e) {
        true => Ok(()),
        false => Err(e),
    })
}

/// Whether a file system never does what was asked for, rather than that something
/// is wrong now.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EPERM | libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP | libc::EMLINK)
    )
}

/// Copies all that a file has to another, which is empty.
pub(crate) fn copy(mut from: &File, to: &File) -> io::Result<()> {
    let mut buf = Pages::new(64 * 1024).ok_or(io::ErrorKind::OutOfMemory)?;
    from.rewind()?;
    loop {
        match from.read(&mut buf) {
            Ok(0) => return Ok(()),
            Ok(n) => write_all_quietly(to.as_fd(), &buf[..n])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Signals blocked in this thread.
struct Blocked {
    signals: libc::sigset_t,
    before: libc::sigset_t,
    /// Whether one was pending already: then it is the host's, and stays.
    pending: bool,
}

impl Blocked {
    fn these(numbers: &[libc::c_int]) -> Blocked {
        let mut signals = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        let mut pending = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: each set is initialised by the call that takes it first, and
        // none of the calls can fail with these arguments.
        unsafe {
            libc::sigemptyset(signals.as_mut_ptr());
            for number in numbers {
                libc::sigaddset(signals.as_mut_ptr(), *number);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, signals.as_ptr(), before.as_mut_ptr());
            let is_in = |set: &MaybeUninit<libc::sigset_t>| {
                numbers.iter().any(|n| libc::sigismember(set.as_ptr(), *n) == 1)
            };
            // Only what is blocked can be pending.
            let pending = is_in(&before) && {
                libc::sigpending(pending.as_mut_ptr());
                is_in(&pending)
            };
            Blocked {
                signals: signals.assume_init(),
                before: before.assume_init(),
                pending,
            }
        }
    }

    /// Takes those back that arose meanwhile.
    fn take_back(&self) {
        let none = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: a set that `these` initialised. Both signals are sent to the
        // thread that wrote, so they are here.
        while !self.pending && unsafe { libc::sigtimedwait(&self.signals, std::ptr::null_mut(), &none) } > 0 {
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: a set that `these` initialised.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut()) };
    }
}

/// Runs `start` with all signals blocked in this thread. A thread that it
/// starts inherits that, so no handler of the host ever runs there.
pub(crate) fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset initialises the set.
    let all = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        all.assume_init()
    };
    let _mask = SignalMask::set(&all);
    start()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_wait_ends_at_its_time_or_when_the_descriptor_is_ready() {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let waiting = |interest, until| wait(&[(ours.as_fd(), interest)], None, until).expect("poll works");
        let until = Instant::now() + Duration::from_millis(30);
        assert_eq!(waiting(Interest::Readable, Some(until)), Ended::TimedOut);
        assert!(Instant::now() >= until);
        assert_eq!(waiting(Interest::Writable, None), Ended::Ready);
        drop(theirs);
        assert_eq!(waiting(Interest::Readable, None), Ended::Ready);
    }

    #[test]
    fn a_wake_up_ends_waits_until_it_is_cleared() {
        let wake = Wake::new().expect("a descriptor");
        let soon = || Some(Instant::now() + Duration::from_millis(1));
        assert_eq!(
            wait(&[], Some(wake.as_fd()), soon()).expect("poll works"),
            Ended::TimedOut
        );
        wake.signal();
        wake.signal();
        assert_eq!(
            wait(&[], Some(wake.as_fd()), None).expect("poll works"),
            Ended::Woken
        );
        assert_eq!(
            wait(&[], Some(wake.as_fd()), None).expect("poll works"),
            Ended::Woken
        );
        wake.clear();
        assert_eq!(
            wait(&[], Some(wake.as_fd()), soon()).expect("poll works"),
            Ended::TimedOut
        );
    }

    #[test]
    fn a_thread_started_with_signals_blocked_has_them_blocked() {
        let blocked = || {
            let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
            // SAFETY: with no new mask, the call only fills in the old one.
            unsafe {
                libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), mask.as_mut_ptr());
                libc::sigismember(mask.as_ptr(), libc::SIGTERM)
            }
        };
        let before = blocked();
        let inside = with_signals_blocked(|| std::thread::spawn(blocked).join().expect("no panic"));
        assert_eq!((inside, blocked()), (1, before));
    }
}
