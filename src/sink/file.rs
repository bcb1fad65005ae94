//! A body in a file that appears under its name only when it is whole.
//!
//! What is asked of the file system of a directory, and what happens where it
//! does not have that, or refuses it always:
//!
//! | asked for | where it is missing |
//! | --- | --- |
//! | files without a name (O_TMPFILE) | a hidden file, `.dbss-*.part`, which a process that is killed leaves |
//! | rename within the directory | an error before any request |
//! | hard links (of a file without a name) | the bytes are copied to a hidden file, which is renamed |
//! | rename that replaces nothing (RENAME_NOREPLACE), or hard links in its place | the name is looked at once more, then the file is renamed; a warning |
//! | modes of files (fchmod) | the file has the mode that the file system gives it; a warning |
//! | fsync | the file is saved without it; a warning |
//! | fsync of a directory | saved without it |
//! | names of 255 bytes | a name of the service's choice is shortened; one of the caller's is an error |
//!
//! Where there are only files with a name, the file is closed before it gets its own:
//! some file systems tell only then that they could not store it.
//!
//! A mirror also asks for flock(2), and cannot work without it.

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
use crate::http::{Call, shortened};
use crate::sys::{self, is_unsupported};

/// What every file system takes, in bytes; eCryptfs takes no more.
pub(crate) const SHORT_NAME: usize = 143;

#[derive(Clone, Copy, Debug)]
pub(crate) struct FileOptions {
    pub(crate) replace: bool,
    pub(crate) mode: u32,
}

#[derive(Debug)]
pub(crate) struct FileSink {
    /// As the caller named it.
    given: PathBuf,
    /// The same, wherever the process goes meanwhile.
    directory: PathBuf,
    /// None until the body's own name is known.
    name: Option<OsString>,
    options: FileOptions,
    part: Option<Part>,
    /// What the file system could not do.
    given_up: Vec<&'static str>,
}

const NO_MODE: &str = "it has not the mode that was asked for";
const NO_SYNC: &str = "it may not be on the disk yet";
const NO_EXCLUSION: &str = "another writer of that name at the same moment would have gone unnoticed";

/// The body while it arrives.
#[derive(Debug)]
enum Part {
    /// A file without a name, which is gone with the process that has it open.
    Unnamed(File),
    /// A hidden file, where the file system or the machine has no others.
    Named(NamedTempFile),
}

impl Part {
    /// In the target's own directory, so that giving it its name is one step.
    fn new(directory: &Path) -> io::Result<Part> {
        if let Some(file) = sys::unnamed_file(directory) {
            return Ok(Part::Unnamed(file));
        }
        Part::with_name(directory).map(Part::Named)
    }

    fn with_name(directory: &Path) -> io::Result<NamedTempFile> {
        // Opened here, since `tempfile` would hide the system's error code.
        let create = |path: &Path| {
            let mut options = File::options();
            options.write(true).create_new(true).mode(0o600);
            sys::open(path, &options)
        };
        let (file, first) = named().make_in(directory, create)?.into_parts();
        // It will have to be renamed when it is whole, so whether it can be is
        // seen before there is any traffic.
        let path = named().make_in(directory, |path| std::fs::rename(&first, path))?;
        Ok(NamedTempFile::from_parts(file, path.into_temp_path()))
    }

    fn file(&self) -> &File {
        match self {
            Part::Unnamed(file) => file,
            Part::Named(file) => file.as_file(),
        }
    }

    /// Sets its mode and has it written to the disk, as far as the file system can.
    fn settle(&self, mode: u32, given_up: &mut Vec<&'static str>) -> io::Result<()> {
        let mut give_up = |done: io::Result<()>, what| match done {
            Err(e) if is_unsupported(&e) => {
                given_up.push(what);
                Ok(())
            }
            done => done,
        };
        give_up(self.file().set_permissions(Permissions::from_mode(mode)), NO_MODE)?;
        give_up(self.file().sync_all(), NO_SYNC)
    }

    /// Gives the file its name, in one step.
    fn save(
        self,
        path: &Path,
        directory: &Path,
        options: FileOptions,
        given_up: &mut Vec<&'static str>,
    ) -> io::Result<()> {
        let file = match self {
            Part::Named(file) => {
                let (file, part) = file.into_parts();
                sys::close(file)?;
                return rename(part, path, options.replace, given_up);
            }
            Part::Unnamed(file) => file,
        };
        let linked = if options.replace {
            // A name can be given to a file only where there is none yet, so one
            // to replace needs another name first.
            named()
                .make_in(directory, |name| sys::name_file(&file, name))
                .and_then(|linked| linked.persist(path).map_err(|e| e.error))
        } else {
            sys::name_file(&file, path)
        };
        // What keeps links away may let a file be renamed.
        let has_no_links =
            |e: &io::Error| is_unsupported(e) || matches!(e.raw_os_error(), Some(libc::EACCES | libc::EXDEV));
        match linked {
            Err(e) if has_no_links(&e) => {
                let copy = Part::Named(Part::with_name(directory)?);
                sys::copy(&file, copy.file())?;
                // What it could not do was noted before.
                copy.settle(options.mode, &mut Vec::new())?;
                copy.save(path, directory, options, given_up)
            }
            linked => linked,
        }
    }
}

fn rename(part: TempPath, path: &Path, replace: bool, given_up: &mut Vec<&'static str>) -> io::Result<()> {
    if replace {
        return part.persist(path).map_err(|e| e.error);
    }
    // Fails where a file has appeared since the check.
    match part.persist_noclobber(path) {
        Err(e) if is_unsupported(&e.error) => {
            if path.symlink_metadata().is_ok() {
                return Err(io::Error::from_raw_os_error(libc::EEXIST));
            }
            given_up.push(NO_EXCLUSION);
            e.path.persist(path).map_err(|e| e.error)
        }
        saved => saved.map_err(|e| e.error),
    }
}

/// How a part is called that must have a name: hidden, and saying what it is.
fn named() -> Builder<'static, 'static> {
    let mut builder = Builder::new();
    builder.prefix(".dbss-").suffix(".part");
    builder
}

impl FileSink {
    /// A file of this name. All that can be refused is refused now.
    pub(crate) fn at(path: &Path, options: FileOptions) -> Result<FileSink, Error> {
        let name = path
            .file_name()
            .ok_or_else(|| Error::argument(Status::NotRegularFile, "path", "must name a file"))?;
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // A trailing slash means a directory, and Path hides it.
        if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(not_regular(path).with_path(path));
        }
        check_target(path, options.replace)?;
        FileSink::begin_part(directory, Some(name.to_owned()), options)
    }

    /// A file in this directory, under the body's own name.
    pub(crate) fn inside(directory: &Path, options: FileOptions) -> Result<FileSink, Error> {
        FileSink::begin_part(directory, None, options)
    }

    /// Saves a file of these bytes at once.
    pub(crate) fn save(path: &Path, bytes: &[u8], options: FileOptions) -> Result<(), Error> {
        let mut sink = FileSink::at(path, options)?;
        sink.put(bytes)?;
        sink.finish()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        sys::write_all_quietly(self.part()?.as_fd(), bytes).map_err(|e| {
            let place = self.directory.display();
            failure(format_args!("cannot write in {place}"), &e).with_path(&self.given)
        })
    }

    fn begin_part(directory: &Path, name: Option<OsString>, options: FileOptions) -> Result<FileSink, Error> {
        let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        let part = Part::new(&absolute).map_err(|e| {
            failure(
                format_args!("cannot create a file in {}", directory.display()),
                &e,
            )
            .with_path(directory)
        })?;
        Ok(FileSink {
            given: directory.to_owned(),
            directory: absolute,
            name,
            options,
            part: Some(part),
            given_up: Vec::new(),
        })
    }

    fn part(&self) -> Result<&File, Error> {
        self.part
            .as_ref()
            .map(Part::file)
            .ok_or_else(|| Error::new(Status::Internal, "a finished file was written to"))
    }
}

impl Sink for FileSink {
    fn begin(&mut self, info: Info<'_>) -> Result<(), Error> {
        if self.name.is_none() {
            let check = |name: &OsString| {
                check_target(&self.directory.join(name), self.options.replace)
                    .map_err(|e| e.with_path(self.given.join(name)))
            };
            let mut name = OsString::from(info.filename);
            let mut checked = check(&name);
            if matches!(&checked, Err(e) if e.os_code() == Some(libc::ENAMETOOLONG)) {
                name = shortened(info.filename, SHORT_NAME).into();
                checked = check(&name);
            }
            checked?;
            self.name = Some(name);
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], _: &Call) -> Result<(), Error> {
        self.put(bytes)
    }

    fn can_restart(&self) -> bool {
        true
    }

    fn restart(&mut self) -> Result<(), Error> {
        let file = self.part()?;
        let mut place = file;
        file.set_len(0)
            .and_then(|()| place.rewind())
            .map_err(|e| failure("cannot begin the file again", &e))
    }

    fn finish(&mut self) -> Result<(), Error> {
        let name = self
            .name
            .as_ref()
            .ok_or_else(|| Error::new(Status::Internal, "a file without a name"))?;
        let path = self.directory.join(name);
        let part = self
            .part
            .take()
            .ok_or_else(|| Error::new(Status::Internal, "a file was finished twice"))?;
        let given = self.path().unwrap_or_else(|| path.clone());
        let cannot =
            |e: &io::Error| failure(format_args!("cannot save {}", path.display()), e).with_path(&given);
        let given_up = &mut self.given_up;
        part.settle(self.options.mode, given_up).map_err(|e| cannot(&e))?;
        check_target(&path, self.options.replace).map_err(|e| e.with_path(&given))?;
        part.save(&path, &self.directory, self.options, given_up)
            .map_err(|e| cannot(&e))?;
        // The file has its name: what fails from here on undoes nothing. A file
        // system that cannot sync a directory is not a reason to report a loss.
        let _ = sys::open_to_read(&self.directory).and_then(|directory| directory.sync_all());
        Ok(())
    }

    fn path(&self) -> Option<PathBuf> {
        let name = self.name.as_ref()?;
        // "." is how no directory at all was written down.
        Some(if self.given == Path::new(".") {
            PathBuf::from(name)
        } else {
            self.given.join(name)
        })
    }

    fn given_up(&self) -> &[&'static str] {
        &self.given_up
    }
}

/// An error if a file cannot get this name.
fn check_target(path: &Path, replace: bool) -> Result<(), Error> {
    let refused = match path.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => failure(format_args!("cannot look at {}", path.display()), &e),
        Ok(found) if !found.is_file() => not_regular(path),
        Ok(_) if !replace => exists(path.display()),
        Ok(_) => return Ok(()),
    };
    Err(refused.with_path(path))
}

fn not_regular(path: &Path) -> Error {
    Error::new(
        Status::NotRegularFile,
        format!(
            "{} is not a regular file (a directory, a link or a device); nothing was written",
            path.display()
        ),
    )
}

fn exists(what: impl fmt::Display) -> Error {
    Error::new(
        Status::FileExists,
        format!("{what} exists already; allow replacing it, or choose another name"),
    )
    .with_os_code(libc::EEXIST)
}

pub(crate) fn failure(context: impl fmt::Display, cause: &io::Error) -> Error {
    let status = match cause.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => Status::DiskFull,
        Some(libc::EEXIST) => Status::FileExists,
        Some(libc::EPIPE | libc::ECONNRESET) => Status::BrokenPipe,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => Status::Resource,
        _ if cause.kind() == io::ErrorKind::AlreadyExists => Status::FileExists,
        _ => Status::File,
    };
    Error::os(status, context, cause)
}
