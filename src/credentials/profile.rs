//! The profile file of the official SDKs: an INI file with a section `[basic]`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::AccessKey;
use crate::error::{Error, Status};
use crate::sys;

/// Far more than any has.
const LIMIT: u64 = 64 * 1024;

const SECTION: &str = "basic";

pub(crate) struct Profile {
    pub(crate) access_key: String,
    pub(crate) secret_key: Zeroizing<String>,
    pub(crate) security_token: Option<Zeroizing<String>>,
    pub(crate) project_id: Option<String>,
    pub(crate) iam_endpoint: Option<String>,
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Profile(***)")
    }
}

/// A profile, and whether others on this machine can read its file.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(super) profile: Profile,
    pub(super) readable_by_others: bool,
}

/// Where the profile is, and whether a variable names it; none without a home.
pub(super) fn path(environment: &dyn Fn(&str) -> Option<OsString>) -> Option<(PathBuf, bool)> {
    sys::sdk_file(environment, "HUAWEICLOUD_SDK_CREDENTIALS_FILE", "credentials")
}

/// Reads a profile; none where there is no such file. What is wrong with one is
/// said by line and key, never with what stands there.
pub(super) fn read(path: &Path) -> Result<Option<Loaded>, Error> {
    let file = match sys::read_small_file(path, LIMIT) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => {
            return Err(Error::os(
                Status::File,
                format_args!("cannot read the profile {}", path.display()),
                &e,
            )
            .with_path(path));
        }
    };
    let bytes = Zeroizing::new(file.bytes);
    let profile = parse(&bytes).map_err(|what| {
        Error::argument(
            Status::InvalidCredentials,
            "credentials",
            format_args!("the profile {} {what}", path.display()),
        )
        .with_path(path)
    })?;
    Ok(Some(Loaded {
        profile,
        readable_by_others: file.mode & 0o077 != 0,
    }))
}

/// The values of the section by their keys, in small letters, and whether it has
/// lines that are none. Where they stand in the text: copies would have to be wiped.
fn section(text: &str) -> Result<(HashMap<String, &str>, bool), String> {
    let mut values = HashMap::new();
    let (mut inside, mut found, mut stray) = (false, false, false);
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        // What would begin a comment elsewhere in a line may be a part of a key.
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            let (name, _) = name.split_once(']').ok_or_else(|| {
                format!(
                    "is not a sound INI file: no bracket ends the section's name in line {}",
                    number + 1
                )
            })?;
            inside = name.trim().eq_ignore_ascii_case(SECTION);
            found |= inside;
        } else if inside {
            match line.split_once(['=', ':']) {
                Some((key, value)) => {
                    values.insert(key.trim().to_ascii_lowercase(), value.trim());
                }
                None => stray = true,
            }
        }
    }
    if !found {
        return Err(format!("has no section [{SECTION}]"));
    }
    Ok((values, stray))
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Profile, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|e| format!("is not UTF-8 at byte {}", e.valid_up_to()))?;
    let (values, stray) = section(text)?;
    if stray {
        return Err(format!(
            "has a line in the section [{SECTION}] that is no key = value"
        ));
    }
    // Empty counts as absent, as for the SDKs.
    let open = |key: &str| values.get(key).copied().filter(|value| !value.is_empty());
    let secret = |key: &str| open(key).map(|value| Zeroizing::new(value.to_owned()));
    let (access_key, secret_key) = (open("ak"), secret("sk"));
    let security_token = secret("security_token");
    let (access_key, secret_key) = match (access_key, secret_key) {
        (Some(ak), Some(sk)) => (ak, sk),
        (None, None) => return Err("has neither ak nor sk in its section [basic]".into()),
        (Some(_), None) => return Err("has an ak, and no sk; one is nothing without the other".into()),
        (None, Some(_)) => return Err("has an sk, and no ak; one is nothing without the other".into()),
    };
    let token = security_token.as_ref().map(|token| token.as_bytes());
    AccessKey::new(access_key.as_bytes(), secret_key.as_bytes(), token).map_err(|e| {
        let what = e.message().split_once(": ").map_or("", |(_, what)| what);
        let key = match e.parameter() {
            Some("access_key") => "ak",
            Some("secret_key") => "sk",
            _ => "security_token",
        };
        format!("has an {key} that {what}")
    })?;
    Ok(Profile {
        access_key: access_key.to_owned(),
        secret_key,
        security_token,
        project_id: open("project_id").map(str::to_owned),
        iam_endpoint: open("iam_endpoint").map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_as_users_write_them() {
        for text in [
            "[basic]\nak = AKID\nsk = a#b;c%d\n",
            "\u{feff}# mine\r\n[basic]\r\nak=AKID\r\nsk=a#b;c%d\r\n",
            "[other]\nak = no\n; comment\n[BASIC]\nAK: AKID\nSK : a#b;c%d",
        ] {
            let profile = parse(text.as_bytes()).expect(text);
            assert_eq!(profile.access_key, "AKID");
            assert_eq!(profile.secret_key.as_str(), "a#b;c%d");
            assert!(profile.security_token.is_none() && profile.project_id.is_none());
        }
        let text = "[basic]\nak=A\nsk=S\nsecurity_token=T\nproject_id=P\niam_endpoint=https://iam.example\n";
        let profile = parse(text.as_bytes()).expect(text);
        assert_eq!(profile.security_token.as_deref().map(String::as_str), Some("T"));
        assert_eq!(profile.project_id.as_deref(), Some("P"));
        assert_eq!(profile.iam_endpoint.as_deref(), Some("https://iam.example"));
        assert_eq!(format!("{profile:?}"), "Profile(***)");
    }

    #[test]
    fn what_is_wrong_with_a_profile_is_told_without_its_keys() {
        for (text, says) in [
            (&b""[..], "no section [basic]"),
            (b"ak = very-secret\nsk = very-secret\n", "no section [basic]"),
            (b"[basic\nak = very-secret", "line 1"),
            (b"[basic]\nak = very-secret\n", "no sk"),
            (b"[basic]\nsk = very-secret\nak =\n", "no ak"),
            (b"[basic]\n", "neither"),
            (
                b"[basic]\nak = very-secret\nsk = very secret\n",
                "sk that holds a space",
            ),
            (b"[basic]\nak = AK\nvery-secret\nsk = S\n", "no key = value"),
            (b"[basic]\nak = \xff\n", "not UTF-8 at byte 13"),
        ] {
            let what = parse(text).expect_err(says);
            assert!(what.contains(says), "{what}");
            assert!(!what.contains("secret"), "{what}");
        }
    }
}
