//! Initialises thread-local data of the library.

use std::sync::mpsc;
use std::time::Duration;

use arc_swap::ArcSwapOption;

/// Initialises this thread's thread-local data: the C library aborts if there is no
/// memory for it later.
pub fn prepare_thread() {
    static ANY: ArcSwapOption<()> = ArcSwapOption::const_empty();
    let _ = ANY.load();
    // A waiting receiver has thread-local data, too.
    let (_sender, receiver) = mpsc::sync_channel::<()>(0);
    let _ = receiver.recv_timeout(Duration::ZERO);
}
