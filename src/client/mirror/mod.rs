//! A local archive of audit reports: what is not there yet is downloaded, what
//! is there stays.
//!
//! | file | what |
//! | --- | --- |
//! | `mod.rs` | a run: the plan, the threads, the outcome |
//! | `options.rs` | what is wanted |
//! | `archive.rs` | the directory: its lock, manifest and checksums |
//! | `periods.rs` | the days, weeks and months that have no report |

mod archive;
mod options;
mod periods;

use std::collections::VecDeque;
use std::fs::DirBuilder;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::arguments::check_project;
use super::inner::ClientInner;
use super::value::parse_locale;
use crate::client::download::format::Document;
use crate::client::download::report::ReportRequest;
use crate::client::reports::list::List;
use crate::client::reports::page::Item;
use crate::error::{CancelledBy, Error, Status};
use crate::host;
use crate::http::Call;
use crate::log::Level;
use crate::memory;
use crate::operation::{ActiveOperation, Operation, cancelled};
use crate::sink::{FileOptions, FileSink, Hashing};
use crate::sys::{Interest, Wake, open_to_read, with_signals_blocked};
use crate::tables::Counts;
use crate::thread::prepare_thread;

use archive::{Archive, Record, Sharing};
pub use options::MirrorOptions;
pub use periods::Gap;

const HASH_BUFFER: usize = 256 * 1024;

/// More than a report takes while the days without one are looked for.
const BYTES_PER_DAY: usize = 256;

/// More than an id takes beside its text.
const BYTES_PER_ID: usize = 64;

/// So many bytes of ids, or of reports that are to be downloaded or looked at, are
/// kept in memory.
const MAX_PENDING: usize = 128 * 1024 * 1024;

/// A call needs 64 KiB.
const WORKER_STACK: usize = 256 * 1024;

/// A report that failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The id of its instance.
    pub instance: String,
    /// Its id; empty where it was the list of the instance's reports that failed.
    pub id: String,
    /// Why. Of each text that the service sent it has at most a kibibyte, and of its
    /// details together as much.
    pub error: Error,
}

/// How a mirror went, as far as it went.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct MirrorResult {
    /// What became of the reports.
    pub counts: Counts,
    /// The reports that failed.
    pub failures: Vec<Failure>,
    /// The days, weeks and months without a report, of those between the first and
    /// the last report of an instance and a type, or since
    /// [`since`](MirrorOptions::since) and until [`until`](MirrorOptions::until).
    pub gaps: Vec<Gap>,
}

#[derive(Serialize)]
struct FailureJson<'a> {
    instance: &'a str,
    id: &'a str,
    status: i32,
    status_name: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
struct ResultJson<'a> {
    #[serde(flatten, serialize_with = "by_name")]
    counts: &'a Counts,
    failures: Vec<FailureJson<'a>>,
    gaps: &'a [Gap],
}

fn by_name<S: Serializer>(counts: &&Counts, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(counts.named())
}

impl MirrorResult {
    fn fail(&mut self, instance: String, id: String, error: Error) {
        self.counts.failed += 1;
        let error = error.reduced();
        self.failures.push(Failure { instance, id, error });
    }

    /// The result as a JSON document: the counts by their names; "failures", each
    /// with instance, id, status, status_name, message; "gaps", each with instance,
    /// type, period.
    pub fn json(&self) -> Result<Vec<u8>, Error> {
        memory::probe(self.failures.len() * 4096)?;
        let failures = self.failures.iter().map(|failure| FailureJson {
            instance: &failure.instance,
            id: &failure.id,
            status: failure.error.status() as i32,
            status_name: failure.error.status().name(),
            message: failure.error.message(),
        });
        serde_json::to_vec(&ResultJson {
            counts: &self.counts,
            failures: failures.collect(),
            gaps: &self.gaps,
        })
        .map_err(|e| Error::new(Status::Internal, format!("a result that is no JSON: {e}")))
    }
}

/// One report to be had.
struct Job {
    record: Record,
    /// Whether a file that is there has to be looked at, instead of a download.
    look: JobKind,
    /// A path of its own, where its file is that of other reports too: what is
    /// downloaded goes there.
    elsewhere: Option<String>,
}

enum JobKind {
    No,
    /// The file is whole, as it has its name, and the manifest lacks it.
    Adopt,
    /// The file is to be compared with the manifest.
    Verify,
}

/// What became of a job.
enum JobOutcome {
    Downloaded(Record),
    Present(Option<Record>),
    Repaired(Record),
    Failed(Record, Error),
}

/// What is left to do, and how many threads do it.
struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
}

/// What the threads of a run share.
struct MirrorRun {
    client: Arc<ClientInner>,
    project: String,
    directory: PathBuf,
    wake: Arc<Wake>,
    queue: Mutex<Queue>,
    stop: AtomicBool,
    /// The bytes of each thread's download, and of those that are done.
    received: Vec<AtomicU64>,
    finished: AtomicU64,
    /// Held while these are added up or one becomes the other.
    counting: Mutex<()>,
    operation: Arc<Operation>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the calling thread what becomes of the jobs, and wakes it when its own
/// thread ends, however that does.
struct OutcomeSender {
    sender: Option<mpsc::Sender<JobOutcome>>,
    wake: Arc<Wake>,
}

impl OutcomeSender {
    fn send(&self, done: JobOutcome) {
        if let Some(sender) = &self.sender {
            let _ = sender.send(done);
        }
        self.wake.signal();
    }
}

impl Drop for OutcomeSender {
    fn drop(&mut self) {
        // Before the signal: whoever is woken sees that it is gone.
        self.sender = None;
        self.wake.signal();
    }
}

/// A file in the place of a report.
struct Inspected {
    size: u64,
    sha256: String,
    /// Whether it can be one: an older libdbss took web pages and texts too.
    is_report: bool,
}

/// Adds up what the threads have received.
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
        let under_way: u64 = self.received.iter().map(|n| n.load(Ordering::Relaxed)).sum();
        let finished = self.finished.load(Ordering::Relaxed);
        self.operation.set_received(finished.saturating_add(under_way));
    }

    /// Counts what a thread has received as finished, or as nothing.
    fn finish_job(&self, index: usize, done: &JobOutcome) {
        let _counted = lock(&self.counting);
        self.received[index].store(0, Ordering::Relaxed);
        if let JobOutcome::Downloaded(record) | JobOutcome::Repaired(record) = done {
            self.finished.fetch_add(record.size, Ordering::Relaxed);
        }
    }

    fn path(&self, record: &Record) -> PathBuf {
        self.directory.join(&record.path)
    }

    /// The next job; none where the thread is to end.
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

    /// Does jobs until there are none or the run stops, or until there is too little
    /// for so many threads: then it leaves its job to the others.
    fn work(&self, index: usize, own: &Arc<Operation>, file_mode: u32, outcomes: &OutcomeSender) {
        while let Some(job) = self.next() {
            let mut released = false;
            let done = loop {
                let threads = lock(&self.queue).threads;
                let done = self.process_report(&job, own, file_mode);
                let lacks = matches!(&done, JobOutcome::Failed(_, e) if e.status() == Status::Resource);
                if !lacks || self.stop.load(Ordering::Relaxed) || threads == 1 && released {
                    break done;
                }
                // What others hold may be all that is missing.
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
            // At once, and not when the calling thread comes to it.
            if matches!(&done, JobOutcome::Failed(_, e) if ends_all(e)) {
                self.stop.store(true, Ordering::Relaxed);
            }
            self.finish_job(index, &done);
            self.operation.add_counts(own);
            outcomes.send(done);
        }
    }

    fn process_report(&self, job: &Job, own: &Arc<Operation>, file_mode: u32) -> JobOutcome {
        let Job {
            record,
            look,
            elsewhere,
        } = job;
        let repair = || match &elsewhere {
            None => self.download(record, true, own, file_mode),
            Some(path) => {
                let moved = Record {
                    path: path.clone(),
                    ..record.clone()
                };
                self.download(&moved, true, own, file_mode)
            }
        };
        let outcome = match look {
            JobKind::No if elsewhere.is_some() => repair().map(JobOutcome::Repaired),
            JobKind::No => self
                .download(record, false, own, file_mode)
                .map(JobOutcome::Downloaded),
            JobKind::Adopt | JobKind::Verify => match self.inspect(record, own) {
                Ok(found) if found.is_report && matches!(look, JobKind::Adopt) => {
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
            // Its calls are parts of the run, which is under way.
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

    /// What is in the place of a report.
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

/// A directory of the archive, and those above it: for the owner alone, as
/// reports are.
fn make_directory(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| {
            // What is there may be a directory that cannot be looked at.
            let looked = path.metadata().err();
            let e = looked
                .filter(|looked| e.kind() == ErrorKind::AlreadyExists && looked.kind() != ErrorKind::NotFound)
                .unwrap_or(e);
            Error::os(
                Status::File,
                format_args!("cannot make the directory {}", path.display()),
                &e,
            )
        })
}

impl ClientInner {
    /// Brings an archive up to date. The result is there however it ends, once
    /// it has begun.
    pub(super) fn mirror(
        self: &Arc<ClientInner>,
        project: Option<&str>,
        directory: &Path,
        options: &MirrorOptions,
        active: Option<ActiveOperation>,
    ) -> (Option<MirrorResult>, Result<(), Error>) {
        let mut result = None;
        let outcome = self.run(active, "mirror".into(), |active| {
            super::download::check_path(directory, "directory")?;
            check_project(project)?;
            if options
                .since
                .is_some_and(|since| options.until.is_some_and(|until| until < since))
            {
                return Err(Error::argument(
                    Status::InvalidValue,
                    "until",
                    "is a day before that of since",
                ));
            }
            self.run_request(&active, |call| {
                let project = self.project(call, project)?;
                make_directory(directory)?;
                let directory = std::path::absolute(directory)
                    .map_err(|e| Error::os(Status::File, "cannot tell where the directory is", &e))?;
                let mut archive = Archive::open(&directory)?;
                if let Some(mended) = archive.mended.take() {
                    self.log(Level::Warning, || mended);
                }
                let result = result.insert(MirrorResult::default());
                let operation = active.operation();
                let outcome = self.fill(call, operation, &project, &mut archive, options, result);
                // Also after a failure: what is there can be checked.
                outcome.and(archive.finish())
            })
        });
        (result, outcome)
    }

    /// The ids of all instances.
    fn instances(self: &Arc<ClientInner>, call: &Arc<Call>, project: &str) -> Result<Vec<String>, Error> {
        let mut ids = Vec::new();
        let mut bytes = 0;
        self.each_page(call, project, List::Instances, |items| {
            memory::reserve(&mut ids, items.len())?;
            bytes += items
                .iter()
                .map(|item| item.id().len() + BYTES_PER_ID)
                .sum::<usize>();
            if bytes > MAX_PENDING {
                return Err(too_many("instances"));
            }
            ids.extend(items.iter().map(|item| item.id().to_owned()));
            Ok(())
        })?;
        Ok(ids)
    }

    fn fill(
        self: &Arc<ClientInner>,
        call: &Arc<Call>,
        operation: &Arc<Operation>,
        project: &str,
        archive: &mut Archive,
        options: &MirrorOptions,
        result: &mut MirrorResult,
    ) -> Result<(), Error> {
        let instances = match &options.instance {
            Some(instance) => vec![instance.clone()],
            None => self.instances(call, project)?,
        };
        let mut listed = Listed::default();
        for (index, instance) in instances.iter().enumerate() {
            let before = (listed.pending.len(), listed.bytes, listed.starts.len());
            let counts = result.counts.clone();
            let read = List::reports(instance, options.name.as_deref()).and_then(|list| {
                self.each_page(call, project, list, |items| {
                    items.iter().try_for_each(|item| {
                        call.check()?;
                        listed.add(archive, options, (index, instance), item, &mut result.counts)
                    })
                })
            });
            let Err(e) = read else { continue };
            // What a list says that is not whole does not count.
            listed.pending.truncate(before.0);
            listed.bytes = before.1;
            listed.starts.truncate(before.2);
            result.counts = counts;
            match e.status() {
                // It went since the instances were listed.
                Status::NotFound if options.instance.is_none() => {}
                _ if ends_all(&e) || options.instance.is_some() => return Err(e),
                _ => result.fail(instance.clone(), String::new(), e),
            }
        }
        let mut jobs = VecDeque::new();
        if jobs.try_reserve(listed.pending.len()).is_err() {
            return Err(memory::out_of_memory());
        }
        // When all paths are known that reports would have.
        for record in listed.pending {
            call.check()?;
            plan(archive, options, record, result, &mut jobs)?;
        }
        memory::probe(listed.starts.len() * BYTES_PER_DAY)?;
        result.gaps = periods::gaps(listed.starts, &instances, options);
        let total = jobs.len();
        self.work(call, operation, project, archive, options, jobs, result)?;
        self.log(Level::Info, || {
            let counts = &result.counts;
            format!(
                "mirror: {} reports listed, {total} of them to download or to look at",
                counts.listed
            )
        });
        // The last word of the progress callback.
        operation.set_percent(100);
        operation.tick()?;
        if result.counts.failed > 0 {
            return Err(Error::new(
                Status::Partial,
                format!(
                    "{} of {} reports, or lists of reports, failed to download; the result has all failures, of \
                     which the first is: {}",
                    result.counts.failed,
                    result.counts.listed,
                    result.failures[0].error.message()
                ),
            ));
        }
        Ok(())
    }

    /// Has the jobs done by some threads, and writes down what becomes of them.
    #[allow(clippy::too_many_arguments)]
    fn work(
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
        let mut workers = Workers::start(self, operation, project, archive.directory(), options, jobs)?;
        let mut outcome = Ok(());
        let mut done = 0;
        while done < total && outcome.is_ok() {
            outcome = call.wait_for_sink(workers.run.wake.as_fd(), Interest::Readable);
            workers.run.wake.clear();
            workers.host_jobs.run_waiting();
            let missing = loop {
                match workers.outcomes.try_recv() {
                    Ok(job) => {
                        done += 1;
                        workers.run.report();
                        operation.set_percent(u32::try_from(done * 100 / total).unwrap_or(100));
                        let recorded = record_outcome(archive, job, result);
                        outcome = outcome.and(recorded);
                    }
                    Err(mpsc::TryRecvError::Empty) => break false,
                    Err(mpsc::TryRecvError::Disconnected) => break done < total,
                }
            };
            if missing {
                outcome = outcome.and(Err(failed_thread()));
            }
        }
        outcome = outcome.and(workers.stop());
        // What was whole before the end came is in the archive.
        while let Ok(job) = workers.outcomes.try_recv() {
            if !matches!(&job, JobOutcome::Failed(_, e) if e.status() == Status::Cancelled) {
                let recorded = record_outcome(archive, job, result);
                outcome = outcome.and(recorded);
            }
        }
        outcome
    }
}

/// The threads of a run. None of them is left when this is dropped.
struct Workers {
    run: Arc<MirrorRun>,
    threads: Vec<Worker>,
    outcomes: mpsc::Receiver<JobOutcome>,
    host_jobs: host::Jobs,
}

struct Worker {
    thread: thread::JoinHandle<()>,
    /// That of the downloads that it makes.
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
        // None takes memory for a job before all of them have that of a thread.
        let gate = Arc::clone(&workers.run);
        let mut queue = lock(&gate.queue);
        for index in 0..count {
            let own = Operation::new();
            own.change_overrides(|overrides| {
                *overrides = operation.overrides();
                // The run's own limit is that of the whole, and its thread the one
                // that takes signals.
                overrides.total_timeout = Some(None);
                overrides.interruptible = Some(false);
                Ok(())
            })?;
            let share = WorkerProgress {
                run: Arc::clone(&workers.run),
                index,
            };
            own.replace_progress(Some(Arc::new(move |own: &Operation| share.tick(own))))?;
            let (run, theirs) = (Arc::clone(&workers.run), Arc::clone(&own));
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
                run.work(index, &theirs, file_mode, &outcomes);
                // Its progress holds the run, which would hold it.
                let _ = theirs.replace_progress(None);
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
                    // It has its memory before the next one is started.
                    ready.wait();
                }
                // With fewer it takes longer.
                Err(_) if !workers.threads.is_empty() => break,
                Err(e) => return Err(e),
            }
        }
        Ok(workers)
    }

    /// Ends the threads and waits for them; what they still have for the calling
    /// thread to do is done.
    fn stop(&mut self) -> Result<(), Error> {
        self.run.stop.store(true, Ordering::Relaxed);
        for worker in &self.threads {
            worker.operation.cancel();
        }
        if !self.threads.is_empty() {
            self.host_jobs.run_to_end();
        }
        let mut outcome = Ok(());
        for worker in self.threads.drain(..) {
            if worker.thread.join().is_err() {
                outcome = Err(failed_thread());
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

fn failed_thread() -> Error {
    Error::new(Status::Internal, "a thread of the mirror failed")
}

/// What the service's lists say, as far as a run needs it: how long they are must
/// not be seen in the memory that it takes.
#[derive(Default)]
struct Listed {
    /// The reports that may have to be downloaded or looked at.
    pending: Vec<Record>,
    /// What they take.
    bytes: usize,
    starts: Vec<periods::Start>,
}

fn too_many(what: &str) -> Error {
    Error::new(
        Status::UnexpectedResponse,
        format!(
            "the service's lists have more {what} than one run takes; where that is right, ask for less with instance, \
             since or until"
        ),
    )
}

impl Listed {
    fn add(
        &mut self,
        archive: &mut Archive,
        options: &MirrorOptions,
        (index, instance): (usize, &str),
        item: &Item,
        counts: &mut Counts,
    ) -> Result<(), Error> {
        let record = Record::of(instance, item, options);
        archive.claim(&record)?;
        if !options.wants(item) {
            return Ok(());
        }
        counts.listed += 1;
        if let Some(start) = periods::Start::of(index, item, options) {
            memory::reserve(&mut self.starts, 1)?;
            self.starts.push(start);
        }
        if item.percentum().is_some_and(|percent| percent < 100) {
            counts.not_ready += 1;
            return Ok(());
        }
        if !options.verify && archive.has_own_file(&record) {
            counts.present += 1;
            return Ok(());
        }
        self.bytes += record.bytes();
        if self.bytes > MAX_PENDING {
            return Err(too_many("reports"));
        }
        memory::reserve(&mut self.pending, 1)?;
        self.pending.push(record);
        Ok(())
    }
}

/// Decides what is to be done for a report.
fn plan(
    archive: &mut Archive,
    options: &MirrorOptions,
    record: Record,
    result: &mut MirrorResult,
    jobs: &mut VecDeque<Job>,
) -> Result<(), Error> {
    let known = archive.find(&record).cloned();
    let is_known = known.is_some();
    let mut record = known.unwrap_or(record);
    match decide(archive, options, &mut record, is_known) {
        Ok(Some((look, elsewhere))) => jobs.push_back(Job {
            record,
            look,
            elsewhere,
        }),
        Ok(None) => result.counts.present += 1,
        Err(e) if e.status() == Status::OutOfMemory => return Err(e),
        Err(e) => result.fail(record.instance, record.id, e),
    }
    Ok(())
}

/// How a report's file is got, and where it goes if not to its path; none where
/// it is there.
fn decide(
    archive: &mut Archive,
    options: &MirrorOptions,
    record: &mut Record,
    is_known: bool,
) -> Result<Option<(JobKind, Option<String>)>, Error> {
    let mut size = match archive.size(record) {
        Err(e) if !is_known && e.os_code() == Some(libc::ENAMETOOLONG) => {
            record.shorten();
            archive.claim(record)?;
            archive.size(record)?
        }
        size => size?,
    };
    if !is_known {
        // What is there may be the file of a report that the service's list lacks, as
        // it was left out or deleted.
        let doubtful = size.is_some() && (archive::is_ambiguous(record) || !archive.take_up(record)?);
        if doubtful || !archive.owns(record) {
            record.path = archive.unique_path(record)?;
            size = archive.size(record)?;
            if size.is_some() && !archive.take_up(record)? {
                return Err(Error::new(
                    Status::File,
                    format!(
                        "{} is the file of another report too; remove one of its names",
                        record.path
                    ),
                ));
            }
        }
        return Ok(Some((size.map_or(JobKind::No, |_| JobKind::Adopt), None)));
    }
    let sharing = archive.sharing(record);
    let look = match size {
        Some(_) if sharing == Sharing::Others => JobKind::No,
        None => JobKind::No,
        Some(size) if size == record.size && !options.verify => return Ok(None),
        Some(_) => JobKind::Verify,
    };
    let elsewhere = match sharing {
        Sharing::None => None,
        Sharing::First | Sharing::Others => Some(archive.unique_path(record)?),
    };
    Ok(Some((look, elsewhere)))
}

/// Whether a failure would be that of all reports: what is refused to one is
/// refused to all, and asking on would lock the key; a full disk takes none.
fn ends_all(error: &Error) -> bool {
    matches!(
        error.status(),
        Status::Unauthenticated
            | Status::NotConfigured
            | Status::NoToken
            | Status::Cancelled
            | Status::Closed
            | Status::Interrupted
            | Status::TotalTimeout
            | Status::OutOfMemory
            | Status::DiskFull
    )
}

/// Writes down what became of a job. An error ends the run.
fn record_outcome(archive: &mut Archive, done: JobOutcome, result: &mut MirrorResult) -> Result<(), Error> {
    let counts = &mut result.counts;
    match done {
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
            let ends_all = ends_all(&error);
            if error.status() != Status::Cancelled {
                result.fail(record.instance, record.id, error.clone());
            }
            if ends_all {
                return Err(error);
            }
        }
    }
    Ok(())
}
