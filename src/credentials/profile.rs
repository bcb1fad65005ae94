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

/// Far larger than any real profile.
const LIMIT: u64 = 64 * 1024;

const SECTION: &str = "basic";

/// The section for global services, which a file may have alone.
const GLOBAL_SECTION: &str = "global";

pub(crate) struct Profile {
    pub(crate) identity: Identity,
    pub(crate) project_id: Option<String>,
    pub(crate) iam_endpoint: Option<String>,
}

/// What a profile has of a user. A federated identity takes precedence, as in the SDKs.
pub(crate) enum Identity {
    Federation {
        idp_id: String,
        id_token_file: String,
    },
    Key {
        access_key: String,
        secret_key: Zeroizing<String>,
        security_token: Option<Zeroizing<String>>,
    },
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Profile(***)")
    }
}

/// What a profile file has.
pub(super) enum Found {
    /// There is no file.
    Nothing,
    /// It is for global services alone.
    OnlyGlobal,
    Profile(Loaded),
}

/// A profile, and whether others on this machine can read its file.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(super) profile: Profile,
    pub(super) readable_by_others: bool,
}

/// Returns the path of the profile, and whether a variable names it. None without a home
/// directory.
pub(super) fn path(environment: &dyn Fn(&str) -> Option<OsString>) -> Option<(PathBuf, bool)> {
    sys::sdk_file(environment, "HUAWEICLOUD_SDK_CREDENTIALS_FILE", "credentials")
}

/// Reads a profile. Errors name the line or key, but never quote the file.
pub(super) fn read(path: &Path) -> Result<Found, Error> {
    let file = match sys::read_small_file(path, LIMIT) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
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
    if has_section(&bytes, GLOBAL_SECTION) && !has_section(&bytes, SECTION) {
        return Ok(Found::OnlyGlobal);
    }
    let profile = parse(&bytes).map_err(|what| {
        Error::argument(
            Status::InvalidCredentials,
            "credentials",
            format_args!("the profile {} {what}", path.display()),
        )
        .with_path(path)
    })?;
    Ok(Found::Profile(Loaded {
        profile,
        readable_by_others: file.mode & 0o077 != 0,
    }))
}

fn has_section(bytes: &[u8], wanted: &str) -> bool {
    bytes.split(|byte| *byte == b'\n').any(|line| {
        let name = line.trim_ascii().strip_prefix(b"[");
        let name = name.and_then(|rest| rest.split(|byte| *byte == b']').next());
        name.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()))
    })
}

/// Returns the section's values by lower-case key, and whether it has malformed lines.
/// The values are borrowed, because copies would have to be wiped.
fn section(text: &str) -> Result<(HashMap<String, &str>, bool), String> {
    let mut values = HashMap::new();
    let (mut inside, mut found, mut malformed) = (false, false, false);
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        // Only whole lines are comments: '#' and ';' may be part of a key.
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            let (name, _) = name.split_once(']').ok_or_else(|| {
                format!(
                    "is not a valid INI file: the section name in line {} has no closing bracket",
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
                None => malformed = true,
            }
        }
    }
    if !found {
        return Err(format!("has no section [{SECTION}]"));
    }
    Ok((values, malformed))
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Profile, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text =
        std::str::from_utf8(bytes).map_err(|e| format!("is not UTF-8 at byte {}", e.valid_up_to() + 1))?;
    let (values, malformed) = section(text)?;
    if malformed {
        return Err(format!(
            "has a line in the section [{SECTION}] that is not key = value"
        ));
    }
    // An empty value counts as missing, as in the SDKs.
    let value_of = |key: &str| values.get(key).copied().filter(|value| !value.is_empty());
    let secret = |key: &str| value_of(key).map(|value| Zeroizing::new(value.to_owned()));
    let (access_key, secret_key) = (value_of("ak"), secret("sk"));
    let security_token = secret("security_token");
    let (idp_id, id_token_file) = (value_of("idp_id"), value_of("id_token_file"));
    let with_identity = |identity| Profile {
        identity,
        project_id: value_of("project_id").map(str::to_owned),
        iam_endpoint: value_of("iam_endpoint").map(str::to_owned),
    };
    let (access_key, secret_key) = match (access_key, secret_key) {
        _ if idp_id.is_some() && id_token_file.is_some() => {
            return Ok(with_identity(Identity::Federation {
                idp_id: idp_id.unwrap_or_default().to_owned(),
                id_token_file: id_token_file.unwrap_or_default().to_owned(),
            }));
        }
        (Some(ak), Some(sk)) => (ak, sk),
        (None, None) if idp_id.is_some() => return Err("has an idp_id but no id_token_file; set both".into()),
        (None, None) if id_token_file.is_some() => {
            return Err("has an id_token_file but no idp_id; set both".into());
        }
        (None, None) => return Err("has neither ak nor sk in its section [basic]".into()),
        (Some(_), None) => return Err("has an ak but no sk; set both".into()),
        (None, Some(_)) => return Err("has an sk but no ak; set both".into()),
    };
    let token = security_token.as_ref().map(|token| token.as_bytes());
    AccessKey::new(access_key.as_bytes(), secret_key.as_bytes(), token).map_err(|e| {
        let what = e.problem();
        let key = match e.parameter() {
            Some("access_key") => "ak",
            Some("secret_key") => "sk",
            _ => "security_token",
        };
        format!("has an {key} that {what}")
    })?;
    Ok(with_identity(Identity::Key {
        access_key: access_key.to_owned(),
        secret_key,
        security_token,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_profile_variants_are_parsed() {
        for text in [
            "[basic]\nak = AKID\nsk = a#b;c%d\n",
            "\u{feff}# mine\r\n[basic]\r\nak=AKID\r\nsk=a#b;c%d\r\n",
            "[other]\nak = no\n; comment\n[BASIC]\nAK: AKID\nSK : a#b;c%d",
        ] {
            let profile = parse(text.as_bytes()).expect(text);
            assert!(matches!(
                &profile.identity,
                Identity::Key { access_key, secret_key, security_token: None }
                    if access_key == "AKID" && secret_key.as_str() == "a#b;c%d"
            ));
            assert!(profile.project_id.is_none());
        }
        let text = "[basic]\nak=A\nsk=S\nidp_id = my-idp\nid_token_file = /run/token\n";
        assert!(matches!(
            &parse(text.as_bytes()).expect(text).identity,
            Identity::Federation { idp_id, id_token_file } if idp_id == "my-idp" && id_token_file == "/run/token"
        ));
        let text = "[basic]\nak=A\nsk=S\nsecurity_token=T\nproject_id=P\niam_endpoint=https://iam.example\n";
        let profile = parse(text.as_bytes()).expect(text);
        assert!(matches!(
            &profile.identity,
            Identity::Key { security_token: Some(token), .. } if token.as_str() == "T"
        ));
        assert_eq!(profile.project_id.as_deref(), Some("P"));
        assert_eq!(profile.iam_endpoint.as_deref(), Some("https://iam.example"));
        assert_eq!(format!("{profile:?}"), "Profile(***)");
    }

    #[test]
    fn invalid_profile_error_does_not_quote_file() {
        for (text, expected) in [
            (&b""[..], "no section [basic]"),
            (b"ak = very-secret\nsk = very-secret\n", "no section [basic]"),
            (b"[basic\nak = very-secret", "line 1"),
            (b"[basic]\nak = very-secret\n", "no sk"),
            (b"[basic]\nsk = very-secret\nak =\n", "no ak"),
            (b"[basic]\n", "neither"),
            (b"[basic]\nidp_id = very-secret\n", "no id_token_file"),
            (b"[basic]\nid_token_file = very-secret\n", "no idp_id"),
            (
                b"[basic]\nak = very-secret\nsk = very secret\n",
                "sk that contains a space",
            ),
            (b"[basic]\nak = AK\nvery-secret\nsk = S\n", "not key = value"),
            (b"[basic]\nak = \xff\n", "not UTF-8 at byte 14"),
        ] {
            let what = parse(text).expect_err(expected);
            assert!(what.contains(expected), "{what}");
            assert!(!what.contains("secret"), "{what}");
        }
    }
}
