//! Writes a body to a file that gets its name only when it is complete.
//!
//! Features that are used of the directory's file system, and what happens if it does
//! not support them:
//!
//! | feature | if it is missing |
//! | --- | --- |
//! | files without a name (O_TMPFILE) | a hidden file, `.dbss-*.part`, which remains if the process is killed |
//! | rename within the directory | an error before any request |
//! | hard links to a file without a name | the bytes are copied to a hidden file, which is renamed |
//! | rename that replaces nothing (RENAME_NOREPLACE), or hard links instead | the name is checked again, then the file is renamed; a warning |
//! | file modes (fchmod) | the file system chooses the mode; a warning |
//! | fsync | the file is saved without it; a warning |
//! | fsync of a directory | saved without it |
//! | names of 255 bytes | a name from the service is shortened; one from the caller is an error |
//!
//! A hidden file is closed before it is renamed: some file systems report only then that
//! they could not store it.
//!
//! A mirror also needs flock(2), and fails without it.

use std::ffi::OsString;
use std::fmt;
use std::fs::{File, Permissions};
use std::io::{self, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile, TempPath};

use super::{Info, Sink};
use crate::error::{Error, Status};
use crate::http::{Call, shorten_filename};
use crate::message::{Part, PartKind};
use crate::sys::{self, is_unsupported};
use crate::text::subject;

/// The longest name that every file system accepts, in bytes: the limit of eCryptfs.
pub(crate) const SHORT_NAME_LIMIT: usize = 143;

#[derive(Clone, Copy, Debug)]
pub(crate) struct FileOptions {
    pub(crate) replace: bool,
    pub(crate) mode: u32,
}

#[derive(Debug)]
pub(crate) struct FileSink {
    /// The directory as the caller named it.
    named_directory: PathBuf,
    /// The same as an absolute path: the process may change its working directory.
    directory: PathBuf,
    /// `None` until the body's own name is known.
    name: Option<OsString>,
    options: FileOptions,
    pending: Option<PendingFile>,
    /// What the file system does not support, for warnings.
    limitations: Vec<&'static str>,
}

const NO_MODE: &str = "it does not have the requested mode";
const NO_SYNC: &str = "it may not be on the disk yet";
const NO_EXCLUSION: &str = "another file of that name, created at the same moment, may have been replaced";

/// The file while the body arrives.
#[derive(Debug)]
enum PendingFile {
    /// A file without a name, which disappears with the process.
    Unnamed(File),
    /// A hidden file, if the system or the file system does not support unnamed ones.
    Named(NamedTempFile),
}

impl PendingFile {
    /// Makes the file in the target's directory, so that naming it is atomic.
    fn new(directory: &Path) -> io::Result<PendingFile> {
        if let Some(file) = sys::unnamed_file(directory) {
            return Ok(PendingFile::Unnamed(file));
        }
        PendingFile::with_name(directory).map(PendingFile::Named)
    }

    fn with_name(directory: &Path) -> io::Result<NamedTempFile> {
        // Opened here, since `tempfile` hides the system's error code.
        let create = |path: &Path| {
            let mut options = File::options();
            options.write(true).create_new(true).mode(0o600);
            sys::open(path, &options)
        };
        let (file, first) = hidden_name().make_in(directory, create)?.into_parts();
        // It must be renamed when it is complete, so test that before any request.
        let path = hidden_name().make_in(directory, |path| std::fs::rename(&first, path))?;
        Ok(NamedTempFile::from_parts(file, path.into_temp_path()))
    }

    fn file(&self) -> &File {
        match self {
            PendingFile::Unnamed(file) => file,
            PendingFile::Named(file) => file.as_file(),
        }
    }

    /// Sets its mode and syncs it to the disk, as far as the file system supports that.
    fn set_mode_and_sync(&self, mode: u32, limitations: &mut Vec<&'static str>) -> io::Result<()> {
        let mut allow_unsupported = |result: io::Result<()>, what| match result {
            Err(e) if is_unsupported(&e) => {
                limitations.push(what);
                Ok(())
            }
            result => result,
        };
        allow_unsupported(self.file().set_permissions(Permissions::from_mode(mode)), NO_MODE)?;
        allow_unsupported(self.file().sync_all(), NO_SYNC)
    }

    /// Gives the file its name, atomically.
    fn save(
        self,
        path: &Path,
        directory: &Path,
        options: FileOptions,
        limitations: &mut Vec<&'static str>,
    ) -> io::Result<()> {
        let file = match self {
            PendingFile::Named(file) => {
                let (file, pending) = file.into_parts();
                sys::close(file)?;
                return rename(pending, path, options.replace, limitations);
            }
            PendingFile::Unnamed(file) => file,
        };
        let linked = if options.replace {
            // A link cannot replace a file. So link it under a temporary name, and rename.
            hidden_name()
                .make_in(directory, |name| sys::name_file(&file, name))
                .and_then(|linked| linked.persist(path).map_err(|e| e.error))
        } else {
            sys::name_file(&file, path)
        };
        // A system that refuses links may still allow a rename.
        let has_no_links =
            |e: &io::Error| is_unsupported(e) || matches!(e.raw_os_error(), Some(libc::EACCES | libc::EXDEV));
        match linked {
            Err(e) if has_no_links(&e) => {
                let copy = PendingFile::Named(PendingFile::with_name(directory)?);
                sys::copy(&file, copy.file())?;
                // Missing features were already recorded.
                copy.set_mode_and_sync(options.mode, &mut Vec::new())?;
                copy.save(path, directory, options, limitations)
            }
            linked => linked,
        }
    }
}

fn rename(
    pending: TempPath,
    path: &Path,
    replace: bool,
    limitations: &mut Vec<&'static str>,
) -> io::Result<()> {
    if replace {
        return pending.persist(path).map_err(|e| e.error);
    }
    // Fails if a file has appeared since the check.
    match pending.persist_noclobber(path) {
        Err(e) if is_unsupported(&e.error) => {
            if path.symlink_metadata().is_ok() {
                return Err(io::Error::from_raw_os_error(libc::EEXIST));
            }
            limitations.push(NO_EXCLUSION);
            e.path.persist(path).map_err(|e| e.error)
        }
        saved => saved.map_err(|e| e.error),
    }
}

/// Builds the name of a hidden file: `.dbss-*.part`.
fn hidden_name() -> Builder<'static, 'static> {
    let mut builder = Builder::new();
    builder.prefix(".dbss-").suffix(".part");
    builder
}

impl FileSink {
    /// Makes a sink for a file of this name. Checks the name before any request.
    pub(crate) fn at(path: &Path, options: FileOptions) -> Result<FileSink, Error> {
        let name = path
            .file_name()
            .ok_or_else(|| Error::argument(Status::NotRegularFile, "path", "must name a file"))?;
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // A trailing slash means a directory, but Path hides it.
        if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(not_regular(path).with_path(path));
        }
        check_target(path, path, options.replace)?;
        FileSink::create(directory, Some(name.to_owned()), options)
    }

    /// Makes a sink for a file in this directory, under the body's own name.
    pub(crate) fn inside(directory: &Path, options: FileOptions) -> Result<FileSink, Error> {
        FileSink::create(directory, None, options)
    }

    /// Saves these bytes as a file.
    pub(crate) fn save(path: &Path, bytes: &[u8], options: FileOptions) -> Result<(), Error> {
        let mut sink = FileSink::at(path, options)?;
        sink.write_bytes(bytes)?;
        sink.finish()
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        sys::write_all_quietly(self.pending()?.as_fd(), bytes).map_err(|e| {
            let place = self.directory.display();
            failure(format_args!("cannot write in {place}"), &e).with_path(&self.named_directory)
        })
    }

    fn create(directory: &Path, name: Option<OsString>, options: FileOptions) -> Result<FileSink, Error> {
        let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        let pending = PendingFile::new(&absolute).map_err(|e| {
            failure(
                format_args!("cannot create a file in {}", directory.display()),
                &e,
            )
            .with_path(directory)
        })?;
        Ok(FileSink {
            named_directory: directory.to_owned(),
            directory: absolute,
            name,
            options,
            pending: Some(pending),
            limitations: Vec::new(),
        })
    }

    fn pending(&self) -> Result<&File, Error> {
        self.pending
            .as_ref()
            .map(PendingFile::file)
            .ok_or_else(|| Error::new(Status::Internal, "a finished file was written to"))
    }
}

impl Sink for FileSink {
    fn begin(&mut self, info: Info<'_>) -> Result<(), Error> {
        if self.name.is_none() {
            let check = |name: &OsString| {
                let shown = self.named_directory.join(name);
                check_target(&self.directory.join(name), &shown, self.options.replace)
            };
            let mut name = OsString::from(info.filename);
            let mut checked = check(&name);
            if matches!(&checked, Err(e) if e.os_code() == Some(libc::ENAMETOOLONG)) {
                name = shorten_filename(info.filename, SHORT_NAME_LIMIT).into();
                checked = check(&name);
            }
            checked?;
            self.name = Some(name);
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], _: &Call) -> Result<(), Error> {
        self.write_bytes(bytes)
    }

    fn can_restart(&self) -> bool {
        true
    }

    fn restart(&mut self) -> Result<(), Error> {
        let file = self.pending()?;
        let mut place = file;
        file.set_len(0)
            .and_then(|()| place.rewind())
            .map_err(|e| failure("cannot restart the file", &e))
    }

    fn finish(&mut self) -> Result<(), Error> {
        let name = self
            .name
            .as_ref()
            .ok_or_else(|| Error::new(Status::Internal, "a file without a name"))?;
        let path = self.directory.join(name);
        let pending = self
            .pending
            .take()
            .ok_or_else(|| Error::new(Status::Internal, "a file was finished twice"))?;
        let shown = self.path().unwrap_or_else(|| path.clone());
        let save_error =
            |e: &io::Error| failure(format_args!("cannot save {}", shown.display()), e).with_path(&shown);
        let limitations = &mut self.limitations;
        pending
            .set_mode_and_sync(self.options.mode, limitations)
            .map_err(|e| save_error(&e))?;
        check_target(&path, &shown, self.options.replace)?;
        pending
            .save(&path, &self.directory, self.options, limitations)
            .map_err(|e| save_error(&e))?;
        // The file has its name and stays. If the directory cannot be synced, the report is
        // still saved.
        let _ = sys::open_to_read(&self.directory).and_then(|directory| directory.sync_all());
        Ok(())
    }

    fn path(&self) -> Option<PathBuf> {
        let name = self.name.as_ref()?;
        // "." means that the caller named no directory.
        Some(if self.named_directory == Path::new(".") {
            PathBuf::from(name)
        } else {
            self.named_directory.join(name)
        })
    }

    fn limitations(&self) -> &[&'static str] {
        &self.limitations
    }
}

/// Returns an error if a file cannot get this name; the error has the path that is shown.
fn check_target(path: &Path, shown: &Path, replace: bool) -> Result<(), Error> {
    let refused = match path.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => failure(format_args!("cannot look at {}", shown.display()), &e),
        Ok(existing) if !existing.is_file() => not_regular(shown),
        Ok(_) if !replace => exists(shown.display()),
        Ok(_) => return Ok(()),
    };
    Err(refused.with_path(shown))
}

fn not_regular(path: &Path) -> Error {
    Error::new(
        Status::NotRegularFile,
        format!(
            "{} is not a regular file (a directory, a link or a device); nothing was written",
            subject(path.display())
        ),
    )
}

fn exists(what: impl fmt::Display) -> Error {
    Error::new(
        Status::FileExists,
        format!(
            "{} exists already; {}, or choose another name",
            subject(what),
            Part(PartKind::Replace, "allow replacing it")
        ),
    )
    .with_os_code(libc::EEXIST)
}

pub(crate) fn failure(context: impl fmt::Display, cause: &io::Error) -> Error {
    let status = match cause.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => Status::DiskFull,
        Some(libc::EEXIST) => Status::FileExists,
        Some(libc::EPIPE | libc::ECONNRESET) => Status::BrokenPipe,
        _ if cause.kind() == io::ErrorKind::AlreadyExists => Status::FileExists,
        _ => Status::File,
    };
    Error::os(status, context, cause)
}
