//! Keeps what was sent in confidence out of what is said about it.

use ::http::HeaderValue;
use ::http::header::HeaderMap;
use zeroize::Zeroizing;

use super::content::{safe_filename, safe_name};

/// Below this, a text is no secret, and blotting it out would only destroy the
/// text around it.
const SHORTEST: usize = 8;

const BLOT: &str = "***";

/// The values that a request carried in headers marked as sensitive, and those
/// in its body. A server may echo them, and its words end in errors and logs.
pub(crate) struct Secrets {
    headers: Vec<HeaderValue>,
    others: Vec<Zeroizing<String>>,
}

impl Secrets {
    pub(crate) fn of(headers: &HeaderMap, others: &[Zeroizing<String>]) -> Secrets {
        Secrets {
            headers: headers.values().filter(|v| v.is_sensitive()).cloned().collect(),
            others: others.to_vec(),
        }
    }

    /// `text` without the secrets, also where the text was cut in the middle of
    /// one.
    pub(crate) fn blot(&self, mut text: String) -> String {
        let headers = self.headers.iter().map(HeaderValue::as_bytes);
        for secret in headers.chain(self.others.iter().map(|s| s.as_bytes())) {
            // Where not even its beginning is, nothing of it is.
            let begins = |start: &[u8]| {
                let mut parts = text.as_bytes().windows(SHORTEST);
                parts.any(|part| part[0] == start[0] && part == start)
            };
            if !secret.get(..SHORTEST).is_some_and(begins) {
                continue;
            }
            let Ok(secret) = std::str::from_utf8(secret) else {
                continue;
            };
            if text.contains(secret) {
                text = text.replace(secret, BLOT);
            }
            let longest = secret.len().min(text.len());
            if let Some(cut) = (SHORTEST..=longest)
                .rev()
                .find(|n| secret.is_char_boundary(*n) && text.ends_with(&secret[..*n]))
            {
                text.truncate(text.len() - cut);
                text.push_str(BLOT);
            }
        }
        text
    }

    /// The file name in a `Content-Disposition`. A secret that is encoded there
    /// shows in the name alone.
    pub(super) fn filename(&self, disposition: &str) -> Option<String> {
        safe_name(&self.blot(safe_filename(disposition)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(values: &[&'static str]) -> Secrets {
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_static("not-a-secret"));
        for value in values {
            let mut value = HeaderValue::from_static(value);
            value.set_sensitive(true);
            headers.append("x-auth-token", value);
        }
        Secrets::of(&headers, &[Zeroizing::new("pässwörd one".to_owned())])
    }

    #[test]
    fn each_secret_goes_wherever_it_stands_and_nothing_else_does() {
        let secrets = secrets(&["MIIabc+/=token", "another-secret"]);
        let blot = |text: &str| secrets.blot(text.to_owned());
        assert_eq!(blot("bad MIIabc+/=token, MIIabc+/=token!"), "bad ***, ***!");
        assert_eq!(blot("another-secretMIIabc+/=token"), "******");
        assert_eq!(blot("not-a-secret é"), "not-a-secret é");
        assert_eq!(blot("wrong: pässwörd one, pässwörd"), "wrong: ***, ***");
    }

    #[test]
    fn a_text_that_was_cut_inside_a_secret_shows_no_part_of_it() {
        let secrets = secrets(&["MIIabc+/=token"]);
        let blot = |text: &str| secrets.blot(text.to_owned());
        assert_eq!(blot("bad MIIabc+/=toke"), "bad ***");
        assert_eq!(blot("bad MIIabc+/"), "bad ***");
        assert_eq!(
            blot("bad MIIabc"),
            "bad MIIabc",
            "too short to be told from chance"
        );
        assert_eq!(blot(""), "");
    }

    #[test]
    fn a_file_name_shows_no_secret_however_it_is_encoded() {
        let secrets = secrets(&["MIIabc-token"]);
        for disposition in [
            "attachment; filename=a-MIIabc-token.pdf",
            "attachment; filename*=UTF-8''a-%4DIIabc%2Dtoken.pdf",
            "attachment; filename=\"a-MIIabc\\-token.pdf\"",
            "attachment; filename=\"a-MII\u{200b}abc-token.pdf\"",
        ] {
            assert_eq!(secrets.filename(disposition).as_deref(), Some("a-___.pdf"));
        }
    }
}
