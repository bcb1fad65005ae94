//! Runs code of the host (callbacks and their destructors) only on threads of the host.
//! A worker thread of this library passes it to the thread of the call.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::sync::{Arc, mpsc};

use crate::sys::{SignalScope, Wake};

/// Code that the calling thread must run for a worker.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// How many jobs may be queued; a worker with one more blocks.
const QUEUE_LENGTH: usize = 64;

thread_local! {
    /// Set only on threads of this library. Without a destructor, as [`Attached`] empties it.
    static CALLER: ManuallyDrop<RefCell<Option<Caller>>> =
        const { ManuallyDrop::new(RefCell::new(None)) };
}

/// A worker's handle to the thread of its call.
#[derive(Clone)]
pub(crate) struct Caller {
    jobs: mpsc::SyncSender<Job>,
    wake: Arc<Wake>,
}

/// The queued jobs of a call's workers. It ends when the last [`Caller`] is dropped.
pub(crate) struct Jobs(mpsc::Receiver<Job>);

/// Makes a queue of jobs; each job signals `wake`.
pub(crate) fn queue(wake: Arc<Wake>) -> (Caller, Jobs) {
    let (jobs, receiver) = mpsc::sync_channel(QUEUE_LENGTH);
    (Caller { jobs, wake }, Jobs(receiver))
}

impl Caller {
    /// Queues a job for the calling thread, which runs jobs in order.
    pub(crate) fn run(&self, job: Job) {
        // The calling thread runs jobs until its workers have ended.
        if self.jobs.send(job).is_ok() {
            self.wake.signal();
        }
    }

    /// Marks this thread as a worker, which passes the host's code to the caller.
    pub(crate) fn attach(self) -> Attached {
        CALLER.with(|caller| caller.replace(Some(self)));
        Attached
    }
}

/// Ends [`Caller::attach`] when dropped.
pub(crate) struct Attached;

impl Drop for Attached {
    fn drop(&mut self) {
        CALLER.with(|caller| caller.take());
    }
}

impl Jobs {
    fn run_all(&self, jobs: impl Iterator<Item = Job>) {
        jobs.for_each(|job| {
            let _host = SignalScope::suspend();
            job();
        });
    }

    /// Runs all queued jobs.
    pub(crate) fn run_queued(&self) {
        self.run_all(self.0.try_iter());
    }

    /// Runs jobs until all workers have ended.
    pub(crate) fn run_until_workers_end(&self) {
        self.run_all(self.0.iter());
    }
}

/// Runs a job on a thread of the host: at once, or, from a worker, later on the thread
/// of its call.
pub(crate) fn run(job: impl FnOnce() + Send + 'static) {
    match CALLER.with(|caller| caller.borrow().clone()) {
        Some(caller) => caller.run(Box::new(job)),
        None => {
            let _host = SignalScope::suspend();
            job();
        }
    }
}

/// A callback of the host. Its last reference is dropped on a thread of the host.
pub(crate) struct HostCallback<T: ?Sized + Send + Sync + 'static>(Option<Arc<T>>);

impl<T: ?Sized + Send + Sync + 'static> HostCallback<T> {
    pub(crate) fn new(callback: Arc<T>) -> HostCallback<T> {
        HostCallback(Some(callback))
    }

    /// Runs a job with the callback, on a thread of the host.
    pub(crate) fn run(&self, job: impl FnOnce(&T) + Send + 'static) {
        if let Some(callback) = self.0.clone() {
            run(move || job(&callback));
        }
    }
}

impl<T: ?Sized + Send + Sync + 'static> Drop for HostCallback<T> {
    fn drop(&mut self) {
        let callback = self.0.take();
        run(move || drop(callback));
    }
}
