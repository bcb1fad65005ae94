//! Tokens of an identity provider, from a variable or a file. A file is read anew each
//! time, because something else renews it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::secret;
use crate::error::{Error, Status};
use crate::sys;
use crate::tables::MAX_TOKEN_LENGTH;

/// With a line end or two.
const FILE_LIMIT: u64 = MAX_TOKEN_LENGTH as u64 + 16;

/// Where a token is.
pub(super) enum IdToken {
    Value(Zeroizing<String>),
    File {
        path: PathBuf,
        /// The variable or key that names the file.
        parameter: &'static str,
    },
}

impl fmt::Debug for IdToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdToken({self})")
    }
}

impl fmt::Display for IdToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdToken::Value(_) => f.write_str("the token of the environment"),
            IdToken::File { path, .. } => write!(f, "the token of the file {}", path.display()),
        }
    }
}

impl IdToken {
    /// Makes the token of a variable's value.
    pub(super) fn of_value(value: &[u8], parameter: &'static str) -> Result<IdToken, Error> {
        check(value.trim_ascii(), parameter).map(IdToken::Value)
    }

    /// Returns the token, without the white space around it.
    pub(super) fn read(&self) -> Result<Zeroizing<String>, Error> {
        let (path, parameter) = match self {
            IdToken::Value(token) => return Ok(token.clone()),
            IdToken::File { path, parameter } => (path, *parameter),
        };
        let invalid = |what: &str| {
            let shown = path.display();
            Error::argument(
                Status::InvalidCredentials,
                parameter,
                format_args!("names {shown}, which {what}"),
            )
            .with_path(path)
        };
        let bytes = match sys::read_small_file(path, FILE_LIMIT) {
            Ok(file) => Zeroizing::new(file.bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(invalid("does not exist")),
            Err(e) => {
                let shown = path.display();
                let what = format_args!("cannot read the token file {shown}");
                return Err(Error::os_argument(Status::File, parameter, what, &e).with_path(path));
            }
        };
        match bytes.trim_ascii() {
            b"" => Err(invalid("is empty")),
            token => check(token, parameter).map_err(|e| e.with_path(path)),
        }
    }
}

fn check(token: &[u8], parameter: &'static str) -> Result<Zeroizing<String>, Error> {
    secret::check(token, Status::InvalidCredentials, parameter, MAX_TOKEN_LENGTH)?;
    // It is ASCII, so nothing is replaced.
    Ok(Zeroizing::new(String::from_utf8_lossy(token).into_owned()))
}
