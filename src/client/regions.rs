use crate::error::Error;
use crate::http::Endpoint;
use std::ffi::OsString;
pub(crate) fn endpoints(
    region: &str,
    _: &dyn Fn(&str) -> Option<OsString>,
) -> Result<(Vec<Endpoint>, String), Error> {
    Ok((
        vec![Endpoint::parse(
            &format!("https://dbss.{region}.myhuaweicloud.com"),
            "region",
        )?],
        String::new(),
    ))
}
