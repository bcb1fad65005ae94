//! The directory of a mirror: its lock, its manifest and its checksums.

use std::collections::{HashMap, HashSet};
use std::fs::DirBuilder;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::options::MirrorOptions;
use crate::client::arguments::{REPORT_ID, check_id};
use crate::client::reports::page::Item;
use crate::client::time::date;
use crate::client::value::locales;
use crate::error::{Error, Status};
use crate::http::safe_name;
use crate::memory;
use crate::sink::{FileOptions, FileSink, SHORT_NAME_LIMIT};
use crate::sys::{self, FileLock};
use crate::text::shorten;

/// The lock file. The lock is released when its process ends.
const LOCK: &str = ".dbss-mirror.lock";

/// The manifest: a line of JSON for each report, in the order of download.
const MANIFEST: &str = "manifest.jsonl";

/// The checksums, in the format of `sha256sum -c`.
const CHECKSUMS: &str = "SHA256SUMS";

/// The maximum length of a name component from the service, in bytes.
const MAX_COMPONENT: usize = 120;

/// The same for file systems with short names. With the id, the language and the unique
/// suffix, a file name is then shorter than [`SHORT_NAME_LIMIT`].
const MAX_SHORT_COMPONENT: usize = 40;

/// The maximum length of a manifest line, in bytes.
const MAX_LINE: u64 = 1024 * 1024;

/// The beginning of each manifest line, as [`Record`] is serialized.
const LINE_START: &[u8] = br#"{"id":""#;

/// More reports than any real archive has.
const MAX_PATHS: usize = 4_000_000;

/// A report of the archive: a line of the manifest.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Record {
    pub(super) id: String,
    #[serde(default)]
    pub(super) name: Option<String>,
    pub(super) instance: String,
    #[serde(default)]
    pub(super) locale: Option<String>,
    #[serde(default)]
    pub(super) format: Option<String>,
    #[serde(default, rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) start_time: Option<String>,
    #[serde(default)]
    pub(super) end_time: Option<String>,
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) sha256: String,
    #[serde(default)]
    pub(super) request_id: Option<String>,
    #[serde(default)]
    pub(super) date: Option<String>,
}

impl Record {
    /// Makes the record of a report that is not downloaded yet.
    pub(super) fn of(instance: &str, item: &Item, options: &MirrorOptions) -> Record {
        let locale = options.locale;
        let text = |field| item.get(field).map(str::to_owned);
        Record {
            id: item.id().to_owned(),
            name: text("name"),
            instance: instance.to_owned(),
            locale: locale.map(str::to_owned),
            format: text("format"),
            kind: text("type"),
            start_time: text("start_time"),
            end_time: text("end_time"),
            path: path_of(instance, item, options),
            ..Record::default()
        }
    }

    /// Whether the service listed it as a PDF or a ZIP archive.
    pub(super) fn has_known_format(&self) -> bool {
        self.format.as_deref().is_some_and(|format| {
            ["pdf", "zip"]
                .iter()
                .any(|known| format.eq_ignore_ascii_case(known))
        })
    }

    /// Estimates how much memory it uses.
    pub(super) fn bytes(&self) -> usize {
        let name = self.name.as_ref().map_or(0, String::len);
        size_of::<Record>() + 2 * self.id.len() + name + self.instance.len() + self.path.len() + 256
    }

    fn key(&self) -> Key {
        (self.instance.clone(), self.id.clone(), self.locale.clone())
    }

    /// Whether its file was downloaded, and not adopted.
    pub(super) fn was_downloaded(&self) -> bool {
        self.request_id.is_some() || self.date.is_some()
    }

    /// Whether the path stays inside the archive, and the hash is well-formed.
    fn is_valid(&self) -> bool {
        let path = Path::new(&self.path);
        let inside = path.components().all(|c| matches!(c, Component::Normal(_)));
        let hash = self.sha256.len() == 64 && self.sha256.bytes().all(|b| b.is_ascii_hexdigit());
        inside && hash && !self.path.is_empty() && !self.path.contains(['\n', '\r'])
    }
}

type Key = (String, String, Option<String>);

/// The archive, locked for this run.
#[derive(Debug)]
pub(super) struct Archive {
    directory: PathBuf,
    /// Held while the archive is open.
    _lock: FileLock,
    manifest: File,
    /// The manifest's length up to its last complete line.
    length: u64,
    records: HashMap<Key, Record>,
    /// Keys in the order of the manifest.
    order: Vec<Key>,
    /// The owner of each path, both as hashes. Includes the paths in the manifest, and
    /// those for the reports in the service's lists.
    owners: HashMap<u64, u64>,
    hasher: RandomState,
    /// The devices and inodes of the files of records and of adopted files. Filled when
    /// first needed.
    files: Option<HashSet<(u64, u64)>>,
    /// A log message, if an incomplete line was removed from the manifest's end.
    pub(super) repair_message: Option<String>,
}

/// Whether a report shares its file with other reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    None,
    /// It does, and it is the first report whose file is known to be downloaded to that
    /// path.
    First,
    Others,
}

/// Marks a path that several reports have.
const SEVERAL: u64 = 0;

/// Folds a path for comparison as on file systems that ignore case and Unicode normal
/// forms. Parts that are not ASCII are removed, since the ids distinguish reports.
fn folded(path: &str) -> String {
    let path = path.to_lowercase().to_uppercase();
    path.split_inclusive(['/', '_'])
        .filter(|part| part.is_ascii())
        .collect()
}

/// Makes a safe path component from a text of the service.
fn safe_component(text: &str) -> String {
    let name = safe_name(&text.replace(['/', '\\'], "_")).unwrap_or_else(|| "report".to_owned());
    shorten(&name, MAX_COMPONENT).to_owned()
}

/// Returns a report's path in the archive: instance, year, and a file name with the
/// report's name and its unique id.
fn path_of(instance: &str, item: &Item, options: &MirrorOptions) -> String {
    let locale = options.locale;
    let times = ["start_time", "finish_time", "end_time"].map(|field| item.get(field));
    let year = times.iter().flatten().find_map(|time| {
        let (year, _, _) = date(options.day(time)?);
        Some(format!("{year:04}"))
    });
    let year = year.as_deref().unwrap_or("undated");
    let name = safe_component(item.get("name").unwrap_or("report"));
    let locale = locale.map_or(String::new(), |locale| format!("_{locale}"));
    let extension = match item.get("format").map(str::to_ascii_lowercase).as_deref() {
        Some("pdf") => "pdf",
        Some("zip") => "zip",
        _ => "bin",
    };
    let id = safe_component(item.id());
    format!("{instance}/{year}/{name}_{id}{locale}.{extension}")
}

impl Record {
    /// Shortens the report's name in the file name, for file systems with short names.
    pub(super) fn shorten(&mut self) {
        let (directory, file) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let Some(at) = file.rfind(&format!("_{}", safe_component(&self.id))) else {
            return;
        };
        let beginning = shorten(file, at.min(MAX_SHORT_COMPONENT));
        self.path = format!("{directory}/{beginning}{}", &file[at..]);
    }
}

/// Whether the path could also belong to a report with another id. This can happen
/// because an underscore separates the parts of a file name, and ids may contain
/// underscores too.
pub(super) fn is_ambiguous(record: &Record) -> bool {
    let stem = record.path.rsplit_once('.').map_or("", |(stem, _)| stem);
    let name = stem.rsplit_once('/').map_or(stem, |(_, name)| name);
    let without_locale =
        locales().find_map(|locale| name.strip_suffix(locale).and_then(|name| name.strip_suffix('_')));
    let is_another = |id: &str| id != record.id && check_id(id, "id", REPORT_ID).is_ok();
    [Some(name), without_locale]
        .into_iter()
        .flatten()
        .any(|name| name.match_indices('_').any(|(at, _)| is_another(&name[at + 1..])))
}

/// Whether a last line without a line feed is the beginning of a manifest line.
fn is_cut_line(line: &[u8]) -> bool {
    let begins = line.starts_with(LINE_START) || LINE_START.starts_with(line);
    begins && serde_json::from_slice::<IgnoredAny>(line).is_err_and(|e| e.is_eof())
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Error {
    crate::sink::failure(format_args!("cannot {what} {}", path.display()), error).with_path(path)
}

fn register_owner(owners: &mut HashMap<u64, u64>, path: u64, key: u64) {
    let owner = owners.entry(path).or_insert(key);
    if *owner != key {
        *owner = SEVERAL;
    }
}

impl Archive {
    /// Opens an archive: locks it and reads the manifest.
    pub(super) fn open(directory: &Path) -> Result<Archive, Error> {
        let open = |name: &str| {
            let path = directory.join(name);
            let mut options = File::options();
            options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                // Refuses symbolic links and does not block on pipes.
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
            sys::open(&path, &options).map_err(|e| cannot("open", &path, &e))
        };
        let lock = FileLock::try_new(open(LOCK)?)
            .map_err(|e| cannot("lock", &directory.join(LOCK), &e))?
            .ok_or_else(|| {
                Error::argument(
                    Status::MirrorLocked,
                    "directory",
                    format_args!(
                        "another mirror is using {}; try again when it has ended",
                        directory.display()
                    ),
                )
                .with_path(directory)
            })?;
        let mut archive = Archive {
            directory: directory.to_owned(),
            _lock: lock,
            manifest: open(MANIFEST)?,
            length: 0,
            records: HashMap::new(),
            order: Vec::new(),
            owners: HashMap::new(),
            hasher: RandomState::new(),
            files: None,
            repair_message: None,
        };
        archive.read_manifest()?;
        let mut owners = HashMap::new();
        if owners.try_reserve(archive.records.len()).is_err() {
            return Err(memory::out_of_memory());
        }
        for (key, record) in &archive.records {
            register_owner(
                &mut owners,
                archive.path_hash(&record.path),
                archive.key_hash(key),
            );
        }
        archive.owners = owners;
        Ok(archive)
    }

    fn read_manifest(&mut self) -> Result<(), Error> {
        let path = self.directory.join(MANIFEST);
        let manifest = sys::duplicate(&self.manifest);
        let mut reader = BufReader::new(manifest.map_err(|e| cannot("read", &path, &e))?);
        let mut line = Vec::new();
        for number in 1_u64.. {
            let invalid = |what: &str| {
                let what = format!("line {number} of {} {what}", path.display());
                Error::new(Status::File, what).with_path(&path)
            };
            line.clear();
            memory::reserve(&mut line, 1024)?;
            let length = (&mut reader)
                .take(MAX_LINE + 1)
                .read_until(b'\n', &mut line)
                .map_err(|e| cannot("read", &path, &e))? as u64;
            if length > MAX_LINE {
                return Err(invalid(
                    "is longer than 1 MiB, so it is not a line of a manifest; fix it, remove it or move the file away",
                ));
            }
            let is_whole = line.ends_with(b"\n");
            if line.trim_ascii().is_empty() {
                self.length += length;
                if !is_whole {
                    break;
                }
                continue;
            }
            match serde_json::from_slice::<Record>(&line) {
                Ok(record) if record.is_valid() => self.insert(record)?,
                _ if !is_whole && is_cut_line(&line) => {
                    // The process was killed while it wrote the line. The report's file
                    // is adopted again.
                    self.manifest
                        .set_len(self.length)
                        .map_err(|e| cannot("repair", &path, &e))?;
                    self.repair_message = Some(format!(
                        "removed the last line of {}, number {number}, which was incomplete ({length} bytes)",
                        path.display()
                    ));
                    break;
                }
                _ if is_whole => return Err(invalid("is not a line of a manifest; fix or remove it")),
                _ => {
                    return Err(invalid(
                        "is incomplete and is not the beginning of a line of a manifest; fix it, remove it or move the file away",
                    ));
                }
            }
            self.length += length;
            if !is_whole {
                // The line is complete except for its line feed.
                let mut manifest = &self.manifest;
                manifest
                    .seek(SeekFrom::Start(self.length))
                    .and_then(|_| sys::write_all_quietly(manifest.as_fd(), b"\n"))
                    .map_err(|e| cannot("repair", &path, &e))?;
                self.length += 1;
                break;
            }
        }
        Ok(())
    }

    fn insert(&mut self, record: Record) -> Result<(), Error> {
        memory::check()?;
        memory::reserve(&mut self.order, 1)?;
        if self.records.try_reserve(1).is_err() {
            return Err(memory::out_of_memory());
        }
        let key = record.key();
        if self.records.insert(key.clone(), record).is_none() {
            self.order.push(key);
        }
        Ok(())
    }

    fn path_hash(&self, path: &str) -> u64 {
        self.hasher.hash_one(folded(path))
    }

    fn key_hash(&self, key: &Key) -> u64 {
        self.hasher.hash_one(key).max(SEVERAL + 1)
    }

    /// Registers the path of a report, even if the options exclude the report. A path
    /// that two reports would have belongs to neither.
    pub(super) fn register_path(&mut self, record: &Record) -> Result<(), Error> {
        let (path, key) = (self.path_hash(&record.path), self.key_hash(&record.key()));
        if self.owners.len() >= MAX_PATHS {
            return Err(too_many("reports"));
        }
        if self.owners.try_reserve(1).is_err() {
            return Err(memory::out_of_memory());
        }
        register_owner(&mut self.owners, path, key);
        Ok(())
    }

    /// Whether no other report has or would have this path.
    pub(super) fn owns(&self, record: &Record) -> bool {
        let owner = self.owners.get(&self.path_hash(&record.path));
        owner.is_none_or(|owner| *owner == self.key_hash(&record.key()))
    }

    /// Whether the manifest has other reports with the same file.
    pub(super) fn sharing(&self, record: &Record) -> Sharing {
        if self.owns(record) {
            return Sharing::None;
        }
        let path = folded(&record.path);
        let own_file = self.file(record);
        let key = record.key();
        let mut is_shared = false;
        let mut first = None;
        for other in self.order.iter().filter_map(|key| self.records.get(key)) {
            let same_file =
                || other.path == record.path || own_file.is_some() && self.file(other) == own_file;
            if folded(&other.path) != path || !same_file() {
                continue;
            }
            is_shared |= other.key() != key;
            if first.is_none() && other.was_downloaded() {
                first = Some(other.key());
            }
        }
        match first {
            _ if !is_shared => Sharing::None,
            Some(first) if first == key => Sharing::First,
            _ => Sharing::Others,
        }
    }

    /// Returns a path that no other report has or would have: its own path with a hash of
    /// its id.
    pub(super) fn unique_path(&mut self, record: &Record) -> Result<String, Error> {
        let (stem, extension) = record.path.rsplit_once('.').unwrap_or((&record.path, "bin"));
        let mut candidate = record.clone();
        let mut text = format!("{:?}", record.key());
        loop {
            let hash = hex::encode(Sha256::digest(&text));
            candidate.path = format!("{stem}-{}.{extension}", &hash[..16]);
            if self.owns(&candidate) {
                self.register_path(&candidate)?;
                return Ok(candidate.path);
            }
            text = hash;
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns a report's record in the manifest.
    pub(super) fn find(&self, record: &Record) -> Option<&Record> {
        self.records.get(&record.key())
    }

    /// Reserves the existing file at a report's path for that report. Returns false if
    /// the file belongs to another report, which can happen on file systems where several
    /// names mean one file.
    pub(super) fn reserve_file(&mut self, record: &Record) -> Result<bool, Error> {
        if self.files.is_none() {
            let mut files = HashSet::new();
            if files.try_reserve(self.records.len() + 1).is_err() {
                return Err(memory::out_of_memory());
            }
            files.extend(self.records.values().filter_map(|record| self.file(record)));
            self.files = Some(files);
        }
        let file = self.file(record);
        let Some((files, file)) = self.files.as_mut().zip(file) else {
            return Ok(false);
        };
        if files.try_reserve(1).is_err() {
            return Err(memory::out_of_memory());
        }
        Ok(files.insert(file))
    }

    /// Returns the device and inode of a record's file.
    fn file(&self, record: &Record) -> Option<(u64, u64)> {
        let found = self.directory.join(&record.path).symlink_metadata().ok()?;
        Some((found.dev(), found.ino()))
    }

    /// Whether a report in the manifest has its own file with the right size.
    pub(super) fn has_own_file(&self, record: &Record) -> bool {
        self.find(record).is_some_and(|known| {
            self.owns(known) && matches!(self.size(known), Ok(Some(size)) if size == known.size)
        })
    }

    /// Returns the size of a report's file. None if the file is missing.
    pub(super) fn size(&self, record: &Record) -> Result<Option<u64>, Error> {
        let path = self.directory.join(&record.path);
        match path.symlink_metadata() {
            Ok(found) if found.is_file() => Ok(Some(found.len())),
            Ok(_) => Err(Error::new(
                Status::NotRegularFile,
                format!(
                    "{} is not a regular file, but the archive needs a report there",
                    path.display()
                ),
            )),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // If the directory is missing too, only this check detects a file name
                // that is too long.
                let name = path.file_name().filter(|name| name.len() > SHORT_NAME_LIMIT);
                match name.map(|name| self.directory.join(name).symlink_metadata()) {
                    Some(Err(e)) if e.raw_os_error() == Some(libc::ENAMETOOLONG) => {
                        Err(cannot("inspect", &path, &e))
                    }
                    _ => Ok(None),
                }
            }
            Err(e) => Err(cannot("inspect", &path, &e)),
        }
    }

    /// Adds a report to the manifest, after its file is complete and on the disk.
    pub(super) fn add(&mut self, record: Record) -> Result<(), Error> {
        let path = self.directory.join(MANIFEST);
        let mut line = serde_json::to_vec(&record)
            .map_err(|e| Error::new(Status::Internal, format!("failed to serialize a record: {e}")))?;
        line.push(b'\n');
        // Always after the last complete line, to overwrite what a full disk left of
        // another.
        let mut manifest = &self.manifest;
        let written = manifest
            .set_len(self.length)
            .and_then(|()| manifest.seek(SeekFrom::Start(self.length)))
            .and_then(|_| sys::write_all_quietly(manifest.as_fd(), &line))
            .and_then(|()| sys::sync_data(manifest));
        if let Err(e) = written {
            let _ = manifest.set_len(self.length);
            let what = format!("cannot write {}", path.display());
            return Err(crate::sink::failure(what, &e));
        }
        self.length += line.len() as u64;
        self.insert(record)
    }

    /// Closes the manifest, and atomically writes the checksums of its files.
    pub(super) fn finish(self) -> Result<(), Error> {
        let path = self.directory.join(MANIFEST);
        let closed = sys::close(self.manifest).map_err(|e| cannot("write", &path, &e));
        let path = self.directory.join(CHECKSUMS);
        let mut text = String::new();
        let lines = self.records.values().map(|record| record.path.len() + 67);
        text.try_reserve(lines.sum())
            .map_err(|_| memory::out_of_memory())?;
        for record in self.order.iter().filter_map(|key| self.records.get(key)) {
            text += &format!("{}  {}\n", record.sha256, record.path);
        }
        let options = FileOptions {
            replace: true,
            mode: 0o600,
        };
        closed.and(FileSink::save(&path, text.as_bytes(), options))
    }
}
/// Creates a directory of the archive and its parents, accessible only to the owner.
pub(super) fn make_directory(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| {
            // The existing entry may be a directory that cannot be accessed.
            let metadata_error = path.metadata().err();
            let e = metadata_error
                .filter(|metadata_error| {
                    e.kind() == ErrorKind::AlreadyExists && metadata_error.kind() != ErrorKind::NotFound
                })
                .unwrap_or(e);
            let e = match e.kind() {
                ErrorKind::AlreadyExists => io::Error::from_raw_os_error(libc::ENOTDIR),
                _ => e,
            };
            let what = format_args!("cannot create the directory {}", path.display());
            Error::os(Status::File, what, &e).with_path(path)
        })
}

/// Returns the error for lists that are too long for one run.
pub(super) fn too_many(what: &str) -> Error {
    Error::new(
        Status::UnexpectedResponse,
        format!(
            "the service's lists have more {what} than one run can process; if that is correct, limit the run with instance, since or until"
        ),
    )
}
