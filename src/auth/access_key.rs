//! An access key (AK and SK), permanent or temporary: each request is signed.

use std::fmt;
use std::time::SystemTime;

use ::http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName};
use ::http::{HeaderValue, Request};
use time::OffsetDateTime;
use time::macros::format_description;
use zeroize::Zeroizing;

use super::{Credential, secret, signature};
use crate::error::{Error, Status};

const SDK_DATE: HeaderName = HeaderName::from_static("x-sdk-date");
const PROJECT_ID: HeaderName = HeaderName::from_static("x-project-id");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-security-token");

/// Far more than any key has.
const LONGEST_KEY: usize = 1024;

pub(crate) struct AccessKey {
    id: String,
    secret: Zeroizing<Vec<u8>>,
    security_token: Option<HeaderValue>,
}

impl AccessKey {
    pub(crate) fn new(id: &[u8], key: &[u8], security_token: Option<&[u8]>) -> Result<AccessKey, Error> {
        secret::check(id, Status::InvalidAccessKey, "access_key", LONGEST_KEY)?;
        secret::check(key, Status::InvalidAccessKey, "secret_key", LONGEST_KEY)?;
        if id.contains(&b',') {
            return Err(Error::argument(
                Status::InvalidAccessKey,
                "access_key",
                "holds a comma, which none has",
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

    fn authorize_at(&self, request: &mut Request<()>, project: &str, now: SystemTime) -> Result<(), Error> {
        let internal = |what: &str| Error::new(Status::Internal, what);
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        let date = OffsetDateTime::from(now)
            .format(&format)
            .map_err(|_| internal("the clock shows a time that cannot be written"))?;
        let host = request
            .uri()
            .authority()
            .ok_or_else(|| internal("a request without a host"))?
            .as_str();

        let value =
            |text: &str| HeaderValue::from_str(text).map_err(|_| internal("a header that cannot be written"));
        // These are signed, and nothing else: what is on the way may change the
        // rest.
        let mut signed = HeaderMap::new();
        signed.insert(HOST, value(host)?);
        signed.insert(SDK_DATE, value(&date)?);
        signed.insert(PROJECT_ID, value(project)?);
        if let Some(token) = &self.security_token {
            signed.insert(SECURITY_TOKEN, token.clone());
        }
        let authorization = signature::authorization(
            &self.id,
            &self.secret,
            request.method(),
            request.uri(),
            &signed,
            b"",
            &date,
        );
        let mut authorization = value(&authorization)?;
        authorization.set_sensitive(true);
        signed.insert(AUTHORIZATION, authorization);
        request.headers_mut().extend(signed);
        Ok(())
    }
}

impl Credential for AccessKey {
    fn authorize(&self, request: &mut Request<()>, project: &str) -> Result<(), Error> {
        self.authorize_at(request, project, SystemTime::now())
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessKey(***)")
    }
}
