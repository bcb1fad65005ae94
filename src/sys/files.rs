//! Files and directories.

use super::descriptors::{hold_standard_streams, open, proc_path};
use super::pages::Pages;
use super::write::write_all_quietly;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Lists the entries of a directory, as far as it can be read. Its descriptor may have
/// the number of a standard stream, but nobody can write to it.
pub(crate) fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    hold_standard_streams();
    let found = directory.read_dir().into_iter().flatten();
    found.flatten().map(|entry| entry.path())
}

/// A file that was read completely.
pub(crate) struct SmallFile {
    pub(crate) bytes: Vec<u8>,
    pub(crate) mode: u32,
}

/// Reads a file of at most `limit` bytes. Only regular ones: reading a pipe would block.
pub(crate) fn read_small_file(path: &Path, limit: u64) -> io::Result<SmallFile> {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let mut file = open(path, &options)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.len() > limit {
        return Err(io::Error::other(format!("it is larger than {limit} bytes")));
    }
    // Reserve all of it at once: a vector that grows leaves copies in freed memory.
    let mut bytes = Vec::with_capacity(metadata.len() as usize + 1);
    file.by_ref().take(limit).read_to_end(&mut bytes)?;
    Ok(SmallFile {
        bytes,
        mode: metadata.mode(),
    })
}

/// Returns the path of a configuration file of the official SDKs, and whether the
/// environment variable names it. Otherwise it is `~/.huaweicloud/name`.
pub(crate) fn sdk_file(
    environment: &dyn Fn(&str) -> Option<OsString>,
    variable: &str,
    name: &str,
) -> Option<(PathBuf, bool)> {
    if let Some(path) = environment(variable).filter(|path| !path.is_empty()) {
        return Some((path.into(), true));
    }
    let home = environment("HOME").filter(|home| !home.is_empty())?;
    Some((Path::new(&home).join(".huaweicloud").join(name), false))
}

/// Makes a file without a name in a directory, with mode 0600. `None` if the system or
/// the file system does not support such files, or could not name it later.
pub(crate) fn unnamed_file(directory: &Path) -> Option<File> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = File::options();
        options
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_TMPFILE);
        let file = open(directory, &options).ok()?;
        Path::new(&proc_path(file.as_fd())).exists().then_some(file)
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = directory;
        None
    }
}

/// Gives a file of [`unnamed_file`] its name; fails if the name exists.
pub(crate) fn name_file(file: &File, path: &Path) -> io::Result<()> {
    let from = CString::new(proc_path(file.as_fd()))?;
    let to = CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: both strings live during the call.
    let result = unsafe {
        libc::linkat(
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            libc::AT_SYMLINK_FOLLOW,
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Syncs the data of a file to the disk, if its file system supports that.
pub(crate) fn sync_data(file: &File) -> io::Result<()> {
    file.sync_data().or_else(|e| match is_unsupported(&e) {
        true => Ok(()),
        false => Err(e),
    })
}

/// Whether an error means that the file system does not support an operation.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EPERM | libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP | libc::EMLINK)
    )
}

/// Copies the complete content of a file to an empty one.
pub(crate) fn copy(mut from: &File, to: &File) -> io::Result<()> {
    let mut buf = Pages::new(64 * 1024).ok_or(io::ErrorKind::OutOfMemory)?;
    from.rewind()?;
    loop {
        match from.read(&mut buf) {
            Ok(0) => return Ok(()),
            Ok(n) => write_all_quietly(to.as_fd(), &buf[..n])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
