//! What the library has for each thread.

use std::sync::mpsc;
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::host;
use crate::http::Call;

/// Makes what a thread has of its own here, for which the C library needs memory
/// that it cannot do without.
pub fn prepare_thread() {
    static ANY: ArcSwapOption<()> = ArcSwapOption::const_empty();
    let _ = Call::current();
    let _ = ANY.load();
    host::prepare_thread();
    // A receiver that waits has something of its own, too.
    let (_sender, receiver) = mpsc::sync_channel::<()>(0);
    let _ = receiver.recv_timeout(Duration::ZERO);
}
