//! The threads that download, and the thread that waits for them.

use std::collections::VecDeque;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use sha2::{Digest, Sha256};

use crate::client::download::format::Document;
use crate::client::download::report::ReportRequest;
use crate::client::inner::ClientInner;
use crate::client::value::parse_locale;
use crate::error::{CancelledBy, Error, Status};
use crate::host;
use crate::http::Call;
use crate::memory;
use crate::operation::{Operation, cancelled};
use crate::sink::{FileOptions, FileSink, Hashing};
use crate::sys::{Interest, Wake, open_to_read, with_signals_blocked};
use crate::tables::MAX_NAME_LENGTH;
use crate::text::shorten;
use crate::thread::prepare_thread;

use super::archive::{Archive, Record, make_directory};
use super::options::MirrorOptions;
use super::plan::{Job, JobKind, is_fatal};
use super::result::MirrorResult;

const HASH_BUFFER: usize = 256 * 1024;

/// The stack size of a worker. A call needs 64 KiB.
const WORKER_STACK: usize = 256 * 1024;

/// The outcome of a job.
enum JobOutcome {
    Downloaded(Record),
    Present(Option<Record>),
    Repaired(Record),
    Failed(Record, Error),
}

/// The remaining jobs, and the number of threads.
struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
}

/// The state that the threads of a run share.
struct MirrorRun {
    client: Arc<ClientInner>,
    project: String,
    directory: PathBuf,
    wake: Arc<Wake>,
    queue: Mutex<Queue>,
    stop: AtomicBool,
    /// The received bytes of each thread's download, and of the finished downloads.
    received: Vec<AtomicU64>,
    finished: AtomicU64,
    /// Locked while these are added up, or while a download becomes finished.
    counting: Mutex<()>,
    operation: Arc<Operation>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends the outcomes of jobs to the calling thread. Also wakes that thread when the
/// worker thread ends, even by a panic.
struct OutcomeSender {
    sender: Option<mpsc::Sender<JobOutcome>>,
    wake: Arc<Wake>,
}

impl OutcomeSender {
    fn send(&self, outcome: JobOutcome) {
        if let Some(sender) = &self.sender {
            let _ = sender.send(outcome);
        }
        self.wake.signal();
    }
}

impl Drop for OutcomeSender {
    fn drop(&mut self) {
        // Before the signal, so that the woken thread sees that the sender is gone.
        self.sender = None;
        self.wake.signal();
    }
}

/// The properties of an existing file at a report's path.
struct Inspected {
    size: u64,
    sha256: String,
    /// Whether it can be a report: older versions of libdbss also saved web pages and
    /// texts.
    is_report: bool,
}

/// Reports the progress of one thread's downloads to the run.
struct WorkerProgress {
    run: Arc<MirrorRun>,
    index: usize,
}

impl WorkerProgress {
    fn tick(&self, own: &Operation) -> bool {
        self.run.received[self.index].store(own.received(), Ordering::Relaxed);
        self.run.report();
        !self.run.stop.load(Ordering::Relaxed)
    }
}

impl MirrorRun {
    fn report(&self) {
        let _counted = lock(&self.counting);
        let running: u64 = self.received.iter().map(|n| n.load(Ordering::Relaxed)).sum();
        let finished = self.finished.load(Ordering::Relaxed);
        self.operation.set_received(finished.saturating_add(running));
    }

    /// Counts the received bytes of a thread as finished, or discards them after a
    /// failure.
    fn finish_job(&self, index: usize, outcome: &JobOutcome) {
        let _counted = lock(&self.counting);
        self.received[index].store(0, Ordering::Relaxed);
        if let JobOutcome::Downloaded(record) | JobOutcome::Repaired(record) = outcome {
            self.finished.fetch_add(record.size, Ordering::Relaxed);
        }
    }

    fn path(&self, record: &Record) -> PathBuf {
        self.directory.join(&record.path)
    }

    /// Takes the next job. None if the thread should end.
    fn next(&self) -> Option<Job> {
        let mut queue = lock(&self.queue);
        let next = queue
            .jobs
            .pop_front()
            .filter(|_| !self.stop.load(Ordering::Relaxed));
        if next.is_none() {
            queue.threads -= 1;
        }
        next
    }

    /// Processes jobs until none are left or the run stops. If resources are not
    /// sufficient for all threads, returns its job to the queue and ends.
    fn work(&self, index: usize, own: &Arc<Operation>, file_mode: u32, outcomes: &OutcomeSender) {
        while let Some(job) = self.next() {
            let mut released = false;
            let outcome = loop {
                let threads = lock(&self.queue).threads;
                let outcome = self.process_report(&job, own, file_mode);
                let lacks_resources =
                    matches!(&outcome, JobOutcome::Failed(_, e) if e.status() == Status::Resource);
                if !lacks_resources || self.stop.load(Ordering::Relaxed) || threads == 1 && released {
                    break outcome;
                }
                // The resources of the other threads may suffice for the job.
                let mut queue = lock(&self.queue);
                if queue.threads > 1 {
                    queue.jobs.push_front(job);
                    queue.threads -= 1;
                    return;
                }
                drop(queue);
                released = true;
                self.client.release_idle();
            };
            let is_fatal = matches!(&outcome, JobOutcome::Failed(_, e) if is_fatal(e));
            self.finish_job(index, &outcome);
            self.operation.add_counts(own);
            outcomes.send(outcome);
            // After sending, so that the cause arrives before the jobs that it cancels; but
            // not only when the calling thread processes the outcome.
            if is_fatal {
                self.stop.store(true, Ordering::Relaxed);
            }
        }
    }

    fn process_report(&self, job: &Job, own: &Arc<Operation>, file_mode: u32) -> JobOutcome {
        let Job {
            record,
            kind,
            separate_path,
        } = job;
        let repair = || match &separate_path {
            None => self.download(record, true, own, file_mode),
            Some(path) => {
                let moved = Record {
                    path: path.clone(),
                    ..record.clone()
                };
                self.download(&moved, true, own, file_mode)
            }
        };
        let outcome = match kind {
            JobKind::Download if separate_path.is_some() => repair().map(JobOutcome::Repaired),
            JobKind::Download => self
                .download(record, false, own, file_mode)
                .map(JobOutcome::Downloaded),
            JobKind::Adopt | JobKind::Verify => match self.inspect(record, own) {
                Ok(found) if found.is_report && matches!(kind, JobKind::Adopt) => {
                    Ok(JobOutcome::Present(Some(Record {
                        size: found.size,
                        sha256: found.sha256,
                        ..record.clone()
                    })))
                }
                Ok(found)
                    if found.is_report && found.size == record.size && found.sha256 == record.sha256 =>
                {
                    Ok(JobOutcome::Present(None))
                }
                Ok(_) => repair().map(JobOutcome::Repaired),
                Err(e) => Err(e),
            },
        };
        outcome.unwrap_or_else(|error| JobOutcome::Failed(record.clone(), error))
    }

    fn download(
        &self,
        record: &Record,
        replace: bool,
        own: &Arc<Operation>,
        mode: u32,
    ) -> Result<Record, Error> {
        let name = record.name.as_deref().filter(|name| !name.is_empty());
        self.operation
            .set_report_name(shorten(name.unwrap_or(&record.id), MAX_NAME_LENGTH).to_owned());
        let request = ReportRequest::new(
            Some(&self.project),
            &record.instance,
            &record.id,
            record.locale.as_deref().map(parse_locale).transpose()?,
        )?
        .of_known_format(record.has_known_format());
        let path = self.path(record);
        if let Some(parent) = path.parent() {
            make_directory(parent)?;
        }
        let active = own.begin()?;
        own.check()?;
        let file = FileSink::at(&path, FileOptions { replace, mode })?;
        let mut sink = Hashing::new(file);
        let info = self.client.pump(active, request, &mut sink).map_err(|e| {
            // To the caller, the run was cancelled by closing the client.
            if e.status() == Status::Closed {
                cancelled(CancelledBy::Close)
            } else {
                e
            }
        })?;
        let size = own.received();
        Ok(Record {
            size,
            sha256: sink.sha256(),
            request_id: info.request_id,
            date: info.date,
            ..record.clone()
        })
    }

    /// Reads the existing file at a report's path.
    fn inspect(&self, record: &Record, own: &Operation) -> Result<Inspected, Error> {
        let path = self.path(record);
        let cannot = |e| crate::sink::failure(format_args!("cannot read {}", path.display()), &e);
        let mut file = open_to_read(&path).map_err(cannot)?;
        let mut hash = Sha256::new();
        let mut size = 0;
        let mut is_report = true;
        let mut buf = memory::pages(HASH_BUFFER)?;
        loop {
            own.check()?;
            match file.read(&mut buf).map_err(cannot)? {
                0 => {
                    return Ok(Inspected {
                        size,
                        sha256: hex::encode(hash.finalize()),
                        is_report: is_report && size > 0,
                    });
                }
                n => {
                    if size == 0 {
                        is_report = Document::of(&buf[..n], None, record.has_known_format()).is_none();
                    }
                    size += n as u64;
                    hash.update(&buf[..n]);
                }
            }
        }
    }
}

/// The threads of a run. They have all ended when this is dropped.
struct Workers {
    run: Arc<MirrorRun>,
    threads: Vec<Worker>,
    outcomes: mpsc::Receiver<JobOutcome>,
    host_jobs: host::Jobs,
}

struct Worker {
    thread: thread::JoinHandle<()>,
    /// The operation of its downloads.
    operation: Arc<Operation>,
}

impl Workers {
    fn start(
        client: &Arc<ClientInner>,
        operation: &Arc<Operation>,
        project: &str,
        directory: &Path,
        options: &MirrorOptions,
        jobs: VecDeque<Job>,
    ) -> Result<Workers, Error> {
        let no_thread = |e| Error::os(Status::Resource, "cannot start a thread to download", &e);
        let count = options.parallel.min(jobs.len());
        let wake = Arc::new(Wake::new().map_err(no_thread)?);
        let run = Arc::new(MirrorRun {
            client: Arc::clone(client),
            project: project.to_owned(),
            directory: directory.to_owned(),
            wake: Arc::clone(&wake),
            queue: Mutex::new(Queue { jobs, threads: 0 }),
            stop: AtomicBool::new(false),
            received: (0..count).map(|_| AtomicU64::new(0)).collect(),
            finished: AtomicU64::new(0),
            counting: Mutex::new(()),
            operation: Arc::clone(operation),
        });
        let file_mode = operation.overrides().file_mode.unwrap_or(client.file_mode);
        let (caller, host_jobs) = host::queue(wake);
        let (sender, outcomes) = mpsc::channel();
        let mut workers = Workers {
            run,
            threads: Vec::new(),
            outcomes,
            host_jobs,
        };
        prepare_thread();
        // Locks the queue, so that no thread uses memory for a job before all threads
        // have started.
        let shared = Arc::clone(&workers.run);
        let mut queue = lock(&shared.queue);
        for index in 0..count {
            let own = Operation::new();
            own.change_overrides(|overrides| {
                *overrides = operation.overrides();
                // The calling thread enforces the total timeout and handles signals.
                overrides.total_timeout = Some(None);
                overrides.interruptible = Some(false);
                Ok(())
            })?;
            let progress = WorkerProgress {
                run: Arc::clone(&workers.run),
                index,
            };
            own.replace_progress(Some(Arc::new(move |own: &Operation| progress.tick(own))))?;
            let (run, thread_operation) = (Arc::clone(&workers.run), Arc::clone(&own));
            let caller = caller.clone();
            let outcomes = OutcomeSender {
                sender: Some(sender.clone()),
                wake: Arc::clone(&workers.run.wake),
            };
            let ready = Arc::new(Barrier::new(2));
            let is_ready = Arc::clone(&ready);
            let body = move || {
                prepare_thread();
                is_ready.wait();
                let _host = caller.attach();
                run.work(index, &thread_operation, file_mode, &outcomes);
                // Breaks the reference cycle of the progress function and the run.
                let _ = thread_operation.replace_progress(None);
            };
            let started = memory::probe_thread(WORKER_STACK).and_then(|()| {
                with_signals_blocked(|| {
                    thread::Builder::new()
                        .name("dbss-mirror".into())
                        .stack_size(WORKER_STACK)
                        .spawn(body)
                        .map_err(no_thread)
                })
            });
            match started {
                Ok(thread) => {
                    workers.threads.push(Worker {
                        thread,
                        operation: own,
                    });
                    queue.threads += 1;
                    // The thread has its memory before the next one is started.
                    ready.wait();
                }
                // Fewer threads are sufficient.
                Err(_) if !workers.threads.is_empty() => break,
                Err(e) => return Err(e),
            }
        }
        Ok(workers)
    }

    /// Ends the threads and waits for them. Runs their remaining callbacks on the calling
    /// thread.
    fn stop(&mut self) -> Result<(), Error> {
        self.run.stop.store(true, Ordering::Relaxed);
        for worker in &self.threads {
            worker.operation.cancel();
        }
        if !self.threads.is_empty() {
            self.host_jobs.run_until_workers_end();
        }
        let mut outcome = Ok(());
        for worker in self.threads.drain(..) {
            if worker.thread.join().is_err() {
                outcome = Err(thread_failed());
            }
        }
        outcome
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

impl ClientInner {
    /// Processes the jobs on worker threads, and records their outcomes.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn work(
        self: &Arc<ClientInner>,
        call: &Arc<Call>,
        operation: &Arc<Operation>,
        project: &str,
        archive: &mut Archive,
        options: &MirrorOptions,
        jobs: VecDeque<Job>,
        result: &mut MirrorResult,
    ) -> Result<(), Error> {
        let total = jobs.len();
        if total == 0 {
            return Ok(());
        }
        operation.set_percent(0);
        operation.set_reports(0, total as u64);
        let mut workers = Workers::start(self, operation, project, archive.directory(), options, jobs)?;
        let mut outcome = Ok(());
        let mut completed = 0;
        while completed < total && outcome.is_ok() {
            outcome = call.wait_for_sink(workers.run.wake.as_fd(), Interest::Readable);
            workers.run.wake.clear();
            workers.host_jobs.run_queued();
            let missing = loop {
                match workers.outcomes.try_recv() {
                    Ok(job) => {
                        completed += 1;
                        workers.run.report();
                        operation.set_percent(u32::try_from(completed * 100 / total).unwrap_or(100));
                        operation.set_reports(completed as u64, total as u64);
                        let recorded = record_outcome(archive, job, result);
                        outcome = outcome.and(recorded);
                    }
                    Err(mpsc::TryRecvError::Empty) => break false,
                    Err(mpsc::TryRecvError::Disconnected) => break completed < total,
                }
            };
            if missing {
                outcome = outcome.and(Err(thread_failed()));
            }
        }
        outcome = outcome.and(workers.stop());
        // Records the reports that were completed before the end.
        while let Ok(job) = workers.outcomes.try_recv() {
            if !matches!(&job, JobOutcome::Failed(_, e) if e.status() == Status::Cancelled) {
                let recorded = record_outcome(archive, job, result);
                outcome = outcome.and(recorded);
            }
        }
        outcome
    }
}

fn thread_failed() -> Error {
    Error::new(Status::Internal, "a thread of the mirror failed")
}

/// Records the outcome of a job. An error ends the run.
fn record_outcome(
    archive: &mut Archive,
    outcome: JobOutcome,
    result: &mut MirrorResult,
) -> Result<(), Error> {
    let counts = &mut result.counts;
    match outcome {
        JobOutcome::Downloaded(record) => {
            archive.add(record)?;
            counts.downloaded += 1;
        }
        JobOutcome::Repaired(record) => {
            archive.add(record)?;
            counts.repaired += 1;
        }
        JobOutcome::Present(record) => {
            if let Some(record) = record {
                archive.add(record)?;
            }
            counts.present += 1;
        }
        JobOutcome::Failed(_, error) if error.status() == Status::NotFound => counts.vanished += 1,
        JobOutcome::Failed(record, error) => {
            let is_fatal = is_fatal(&error);
            if error.status() != Status::Cancelled {
                result.fail(record.instance, record.id, error.clone());
            }
            if is_fatal {
                return Err(error);
            }
        }
    }
    Ok(())
}
