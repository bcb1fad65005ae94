//! A body in a file that appears under its name only when it is whole.

use std::ffi::OsString;
use std::fmt;
use std::fs::{File, Permissions};
use std::io::{self, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use super::{Info, Sink};
use crate::error::{Error, Status};
use crate::http::Call;
use crate::sys;

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
}

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
        // Opened here, since `tempfile` would hide the system's error code.
        let create = |path: &Path| {
            let mut options = File::options();
            options.write(true).create_new(true).mode(0o600);
            sys::open(path, &options)
        };
        named().make_in(directory, create).map(Part::Named)
    }

    fn file(&self) -> &File {
        match self {
            Part::Unnamed(file) => file,
            Part::Named(file) => file.as_file(),
        }
    }

    /// Gives the file its name, in one step.
    fn save(self, path: &Path, directory: &Path, replace: bool) -> io::Result<()> {
        match self {
            Part::Named(file) if replace => file.persist(path).map(drop).map_err(|e| e.error),
            // Fails where a file has appeared since the check.
            Part::Named(file) => file.persist_noclobber(path).map(drop).map_err(|e| e.error),
            Part::Unnamed(file) if !replace => sys::name_file(&file, path),
            // A name can be given to a file only where there is none yet, so one
            // to replace needs another name first.
            Part::Unnamed(file) => {
                let linked = named().make_in(directory, |name| sys::name_file(&file, name))?;
                linked.persist(path).map(drop).map_err(|e| e.error)
            }
        }
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
            let name = OsString::from(info.filename);
            let path = self.directory.join(&name);
            check_target(&path, self.options.replace).map_err(|e| e.with_path(self.given.join(&name)))?;
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
        part.file()
            .set_permissions(Permissions::from_mode(self.options.mode))
            .and_then(|()| part.file().sync_all())
            .map_err(|e| cannot(&e))?;
        check_target(&path, self.options.replace).map_err(|e| e.with_path(&given))?;
        part.save(&path, &self.directory, self.options.replace)
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
