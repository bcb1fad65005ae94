//! Locks on files.

use super::process::process;
use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicI32, Ordering};

/// A lock of a file by flock(2), which ends with this process even if children of
/// `fork` are still running.
///
/// A flock(2) lock belongs to the open file, which a child shares. Locks of fcntl(2) do
/// not help. Those of a process are lost when anything in it opens and closes the file,
/// and they do not exclude its own threads. Those of an open file are inherited, too. So
/// each child of `fork` closes the file when it starts. A child of a bare clone(2) does
/// not.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: File,
    process: usize,
    slot: Option<&'static AtomicI32>,
}

/// The descriptors of locked files, or 0, which a child reads when it starts. If there
/// are more locks at a time, the others are inherited.
static LOCKED: [AtomicI32; 64] = [const { AtomicI32::new(0) }; 64];

/// Replaces each locked file in a child by another one, so that its descriptor stays
/// valid until its owner closes it.
extern "C" fn release_locks_in_child() {
    for locked in &LOCKED {
        let fd = locked.swap(0, Ordering::Relaxed);
        if fd == 0 {
            continue;
        }
        // SAFETY: async-signal-safe calls, on a constant string and on a descriptor that a
        // lock owns.
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
    /// Tries to lock a file, without waiting; `None` if it is locked already.
    pub(crate) fn try_new(file: File) -> io::Result<Option<FileLock>> {
        static PREPARED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        // SAFETY: the function lives as long as this library, and the C library removes it
        // when this library is unloaded.
        let has_handler = *PREPARED
            .get_or_init(|| unsafe { libc::pthread_atfork(None, None, Some(release_locks_in_child)) == 0 });
        let fd = file.as_raw_fd();
        let is_free = |slot: &&AtomicI32| {
            slot.compare_exchange(0, fd, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
        };
        // Before it is locked: another thread may fork at any moment.
        let slot = LOCKED.iter().filter(|_| has_handler).find(is_free);
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
        // A child has closed it already.
        if self.process != process() {
            return;
        }
        // Closing is not enough: a child may still have the descriptor.
        let _ = self.file.unlock();
        if let Some(slot) = self.slot {
            slot.store(0, Ordering::SeqCst);
        }
    }
}
