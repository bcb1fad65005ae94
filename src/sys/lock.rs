//! Locks on files.

use super::process::process;
use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicI32, Ordering};

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
