//! An access key (AK and SK), permanent or temporary: each request is signed.

use std::fmt;
use std::time::SystemTime;

use ::http::HeaderValue;
use ::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{secret, signature};
use crate::error::{Error, Status};
use crate::http::SDK_DATE;
use crate::tables::MAX_KEY_LENGTH;

const PROJECT_ID: HeaderName = HeaderName::from_static("x-project-id");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-security-token");

pub(crate) struct AccessKey {
    id: String,
    secret: Zeroizing<Vec<u8>>,
    security_token: Option<HeaderValue>,
}

impl AccessKey {
    pub(crate) fn new(id: &[u8], key: &[u8], security_token: Option<&[u8]>) -> Result<AccessKey, Error> {
        secret::check(id, Status::InvalidAccessKey, "access_key", MAX_KEY_LENGTH)?;
        secret::check(key, Status::InvalidAccessKey, "secret_key", MAX_KEY_LENGTH)?;
        if id.contains(&b',') {
            return Err(Error::argument(
                Status::InvalidAccessKey,
                "access_key",
                "contains a comma, which an access key id never has",
            ));
        }
        Ok(AccessKey {
            id: String::from_utf8_lossy(id).into_owned(),
            secret: Zeroizing::new(key.to_vec()),
            security_token: security_token
                .map(|token| secret::header(token, Status::InvalidAccessKey, "security_token"))
                .transpose()?,
        })
    }

    /// Adds the key to a hash.
    pub(super) fn add_to(&self, hash: Sha256) -> Sha256 {
        let token = self
            .security_token
            .as_ref()
            .map_or(&b""[..], HeaderValue::as_bytes);
        hash.chain_update(&self.id)
            .chain_update(&*self.secret)
            .chain_update(token)
    }

    pub(super) fn sign(
        &self,
        request: &mut ::http::Request<&[u8]>,
        project: Option<&str>,
        now: SystemTime,
    ) -> Result<(), Error> {
        let internal = |what: &str| Error::new(Status::Internal, what);
        // RFC 3339 without separators. A clock before 1970 is sent as 1970, which the
        // service rejects with a clear message.
        let date: String = humantime::format_rfc3339_seconds(now.max(SystemTime::UNIX_EPOCH))
            .to_string()
            .replace(['-', ':'], "");
        let host = request
            .uri()
            .authority()
            .ok_or_else(|| internal("the request has no host"))?
            .as_str();

        let value =
            |text: &str| HeaderValue::from_str(text).map_err(|_| internal("the header value is invalid"));
        // Only these headers are signed, because proxies may change the others. The SDKs sign
        // all that they set, the type too.
        let mut signed = HeaderMap::new();
        signed.insert(HOST, value(host)?);
        signed.insert(SDK_DATE, value(&date)?);
        if let Some(kind) = request.headers().get(CONTENT_TYPE) {
            signed.insert(CONTENT_TYPE, kind.clone());
        }
        if let Some(project) = project {
            signed.insert(PROJECT_ID, value(project)?);
        }
        if let Some(token) = &self.security_token {
            signed.insert(SECURITY_TOKEN, token.clone());
        }
        let authorization = signature::authorization(
            &self.id,
            &self.secret,
            request.method(),
            request.uri(),
            &signed,
            request.body(),
            &date,
        );
        let mut authorization = value(&authorization)?;
        authorization.set_sensitive(true);
        signed.insert(AUTHORIZATION, authorization);
        request.headers_mut().extend(signed);
        Ok(())
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn signature_with_known_key_matches_official_sdk() {
        let key = AccessKey::new(b"AKEXAMPLE", b"secret-example", None).expect("a key");
        let mut request = ::http::Request::new(&b""[..]);
        *request.uri_mut() =
            "https://dbss.cn-north-4.myhuaweicloud.com/v1/p/audit/i/reports/r/download?local=zh-cn"
                .parse()
                .expect("a URI");
        // 2025-09-10 08:00:00 UTC
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_757_491_200);
        key.sign(&mut request, Some("p"), now).expect("a signature");
        let header = |name: HeaderName| request.headers()[name].to_str().expect("text").to_owned();
        assert_eq!(header(SDK_DATE), "20250910T080000Z");
        // From huaweicloudsdkcore 3.1.219.
        assert!(
            header(AUTHORIZATION)
                .ends_with("Signature=ce5b31f442e3d993c1c9b5f97f03d7a77192de475ac17066b438ab83ed2b2f89")
        );
        assert!(request.headers()[AUTHORIZATION].is_sensitive());
        assert_eq!(format!("{key:?}"), "AccessKey(***)");
    }
}
