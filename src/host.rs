//! Code of the host: callbacks, and what is dropped with them. It runs on threads
//! of the host alone; a thread of this library hands it to the call that made it.

use std::cell::RefCell;
use std::sync::{Arc, mpsc};

use crate::sys::{SignalScope, Wake};

/// Something that the calling thread is to do for a worker.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// So many jobs wait for the calling thread; a worker with one more waits itself.
const QUEUE: usize = 64;

thread_local! {
    /// Set on threads of this library alone.
    static CALLER: RefCell<Option<Caller>> = const { RefCell::new(None) };
}

/// A worker's way to the thread of the call that it works for.
#[derive(Clone)]
pub(crate) struct Caller {
    jobs: mpsc::SyncSender<Job>,
    wake: Arc<Wake>,
}

/// The jobs of a call's workers. It ends when the last [`Caller`] is gone.
pub(crate) struct Jobs(mpsc::Receiver<Job>);

/// The two ends of a queue of jobs; `wake` is signalled with each job.
pub(crate) fn queue(wake: Arc<Wake>) -> (Caller, Jobs) {
    let (jobs, receiver) = mpsc::sync_channel(QUEUE);
    (Caller { jobs, wake }, Jobs(receiver))
}

impl Caller {
    /// Has the calling thread do something, in the order in which it is asked.
    pub(crate) fn run(&self, job: Job) {
        // The calling thread serves the queue until its workers have ended.
        if self.jobs.send(job).is_ok() {
            self.wake.signal();
        }
    }

    /// Makes this thread one that runs no code of the host.
    pub(crate) fn attach(self) -> Attached {
        CALLER.set(Some(self));
        Attached
    }
}

/// Ends [`Caller::attach`] when dropped.
pub(crate) struct Attached;

impl Drop for Attached {
    fn drop(&mut self) {
        CALLER.set(None);
    }
}

impl Jobs {
    fn run_all(&self, jobs: impl Iterator<Item = Job>) {
        jobs.for_each(|job| {
            let _host = SignalScope::suspend();
            job();
        });
    }

    /// Does what waits.
    pub(crate) fn run_waiting(&self) {
        self.run_all(self.0.try_iter());
    }

    /// Does what comes until all workers have ended.
    pub(crate) fn run_to_end(&self) {
        self.run_all(self.0.iter());
    }
}

/// Makes what the thread has of its own here.
pub(crate) fn prepare_thread() {
    CALLER.with(|_| ());
}

/// Runs something on a thread of the host: here, or, on a thread of this library,
/// later on that of the call.
pub(crate) fn run(job: impl FnOnce() + Send + 'static) {
    // A thread that is ending is one of the host: ours have ended their calls.
    match CALLER.try_with(|caller| caller.borrow().clone()) {
        Ok(Some(caller)) => caller.run(Box::new(job)),
        _ => {
            let _host = SignalScope::suspend();
            job();
        }
    }
}

/// A callback of the host, of which the last is dropped on a thread of the host.
pub(crate) struct Hosted<T: ?Sized + Send + Sync + 'static>(Option<Arc<T>>);

impl<T: ?Sized + Send + Sync + 'static> Hosted<T> {
    pub(crate) fn new(callback: Arc<T>) -> Hosted<T> {
        Hosted(Some(callback))
    }

    /// Has the callback do something, on a thread of the host.
    pub(crate) fn run(&self, job: impl FnOnce(&T) + Send + 'static) {
        if let Some(callback) = self.0.clone() {
            run(move || job(&callback));
        }
    }
}

impl<T: ?Sized + Send + Sync + 'static> Drop for Hosted<T> {
    fn drop(&mut self) {
        let callback = self.0.take();
        run(move || drop(callback));
    }
}
