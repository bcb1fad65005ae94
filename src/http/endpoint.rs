//! The base URL of a service.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ::http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::{Error, Status};

/// The characters to encode: all but RFC 3986's unreserved ones.
pub(crate) const ENCODE_SET: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A checked URL: scheme, host, and optionally a port and a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    https: bool,
    host: Host,
    port: Option<u16>,
    /// The origin and the path, without a trailing `/`.
    prefix: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Name(String),
    Address(IpAddr),
}

impl Endpoint {
    /// Checks the URL of a service of the cloud, which is https without a scheme, as in the
    /// official SDKs.
    pub(crate) fn parse_service(url: &str, parameter: &'static str) -> Result<Endpoint, Error> {
        match url.contains("://") {
            true => Endpoint::parse(url, parameter),
            false => Endpoint::parse(&format!("https://{url}"), parameter),
        }
    }

    pub(crate) fn parse(url: &str, parameter: &'static str) -> Result<Endpoint, Error> {
        let invalid = |what: &str| Error::argument(Status::InvalidEndpoint, parameter, what);
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| invalid("must be a URL with its scheme, such as https://dbss.example.com"))?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(invalid("must be an https (or http) URL")),
        };
        // The part before an '@' may be a password, so no message shows it.
        if rest.contains('@') {
            return Err(invalid("must have no user or password"));
        }
        if rest.contains(['?', '#']) {
            return Err(invalid("must have no query and no fragment"));
        }
        let uri: Uri = url
            .parse()
            .map_err(|_| invalid("is not a URL (host names and paths must be ASCII)"))?;
        let authority = uri.authority().ok_or_else(|| invalid("has no host"))?;
        let host = Host::parse(authority.host()).ok_or_else(|| {
            invalid("has a host that is neither a name (letters, digits, '-', '_', '.') nor an IP address")
        })?;
        // `port_u16` also returns `None` for `host:`, `host:99999` and `[::1]x`.
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => None,
            after_host => Some(
                after_host
                    .and_then(|after_host| after_host.strip_prefix(':'))
                    .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
                    .and_then(|digits| digits.parse().ok())
                    .filter(|port| *port != 0)
                    .ok_or_else(|| invalid("has a port that is not a number from 1 to 65535"))?,
            ),
        };
        let base = uri.path().trim_end_matches('/');
        let is_valid =
            |s: &str| !s.is_empty() && s != "." && s != ".." && utf8_percent_encode(s, ENCODE_SET).eq([s]);
        if !base.is_empty() && !base[1..].split('/').all(is_valid) {
            return Err(invalid(
                "has a path with characters other than letters, digits, '-', '.', '_' and '~'",
            ));
        }
        let mut endpoint = Endpoint {
            https,
            host,
            port,
            prefix: String::new(),
        };
        endpoint.prefix = endpoint.origin() + base;
        Ok(endpoint)
    }

    pub(crate) fn is_https(&self) -> bool {
        self.https
    }

    /// Whether the host's name or address is always this machine, so that requests do not
    /// leave it.
    pub(crate) fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Name(name) => name == "localhost",
            Host::Address(address) => address.to_canonical().is_loopback(),
        }
    }

    /// Returns the address of a host on the same link, which no router forwards to.
    pub(crate) fn link_local_address(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Address(address @ IpAddr::V4(v4)) if v4.is_link_local() => Some(*address),
            Host::Address(address @ IpAddr::V6(v6)) if v6.is_unicast_link_local() => Some(*address),
            _ => None,
        }
    }

    /// Returns the address of a host in a private network.
    pub(crate) fn private_address(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Address(address @ IpAddr::V4(v4)) if v4.is_private() => Some(*address),
            Host::Address(address @ IpAddr::V6(v6)) if v6.is_unique_local() => Some(*address),
            _ => None,
        }
    }

    /// Returns scheme, host and port.
    pub(crate) fn origin(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        match self.port {
            Some(port) => format!("{scheme}://{}:{port}", self.host),
            None => format!("{scheme}://{}", self.host),
        }
    }

    /// Builds the URL of a resource; it percent-encodes each segment and value.
    pub(crate) fn url(&self, segments: &[&str], query: &[(&str, &str)]) -> Result<Uri, Error> {
        let mut url = String::with_capacity(256);
        url += &self.prefix;
        for segment in segments {
            url.push('/');
            url.extend(utf8_percent_encode(segment, ENCODE_SET));
        }
        for (i, (name, value)) in query.iter().enumerate() {
            url.push(if i == 0 { '?' } else { '&' });
            url.extend(utf8_percent_encode(name, ENCODE_SET));
            url.push('=');
            url.extend(utf8_percent_encode(value, ENCODE_SET));
        }
        Uri::try_from(url)
            .map_err(|e| Error::new(Status::Internal, format!("libdbss built an invalid URL: {e}")))
    }
}

impl Host {
    fn parse(host: &str) -> Option<Host> {
        if let Some(address) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            return address.parse::<Ipv6Addr>().ok().map(|a| Host::Address(a.into()));
        }
        if host.is_empty() || host.len() > 253 {
            return None;
        }
        let is_valid = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if !host.split('.').all(is_valid) {
            return None;
        }
        // The system would accept 127.1 or 0x7f.1 as an address. Here, a host that ends in
        // a number must be a complete address.
        let last = host.rsplit('.').next()?;
        let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
        if last.bytes().all(|b| b.is_ascii_digit())
            || hexadecimal.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return host.parse::<Ipv4Addr>().ok().map(|a| Host::Address(a.into()));
        }
        Some(Host::Name(host.to_ascii_lowercase()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Endpoint, Error> {
        Endpoint::parse(url, "endpoint")
    }

    #[test]
    fn valid_endpoints_are_accepted() {
        for (url, built) in [
            (
                "https://dbss.example.com",
                "https://dbss.example.com/v1/a?local=en-us",
            ),
            (
                "HTTPS://DBSS.Example.com/",
                "https://dbss.example.com/v1/a?local=en-us",
            ),
            (
                "https://gw.example:8443/cloud/dbss/",
                "https://gw.example:8443/cloud/dbss/v1/a?local=en-us",
            ),
            ("http://127.0.0.1:80", "http://127.0.0.1:80/v1/a?local=en-us"),
            ("http://[::1]:8080", "http://[::1]:8080/v1/a?local=en-us"),
            ("https://[2001:db8::1]", "https://[2001:db8::1]/v1/a?local=en-us"),
            ("https://my_host", "https://my_host/v1/a?local=en-us"),
        ] {
            let endpoint = parse(url).expect(url);
            let uri = endpoint.url(&["v1", "a"], &[("local", "en-us")]).expect(url);
            assert_eq!(uri.to_string(), built);
        }
    }

    #[test]
    fn invalid_endpoint_is_refused_without_showing_password() {
        for url in [
            "",
            "dbss.example.com",
            "ftp://dbss.example.com",
            "file:///etc/passwd",
            "https://",
            "https:///v1",
            "https://user:hunter2@dbss.example.com",
            "https://dbss.example.com?x=1",
            "https://dbss.example.com/#f",
            "https://dbss.example.com:0",
            "https://dbss.example.com:",
            "https://dbss.example.com:65536",
            "https://dbss.example.com:+80",
            "https://dbss..example.com",
            "https://db ss.example.com",
            "https://dbss.example.com/a b",
            "https://dbss.example.com/a%2F..",
            "https://dbss.example.com/../x",
            "https://dbss.example.com//x",
            "https://dbss.example.com\r\nX: y",
            "https://dbs\u{e9}.example.com",
            "https://127.1",
            "https://0x7f.0.0.1",
            "https://0x7f000001",
            "https://0X7F000001",
            "https://a.0x",
            "https://1.2.3.4.5",
            "https://[::1]x",
            "https://[::1]=8060",
            "https://[::1",
            "https://[::g]",
        ] {
            let error = parse(url).expect_err(url);
            assert_eq!(error.status(), Status::InvalidEndpoint, "{url}");
            assert!(error.message().starts_with("endpoint: "), "{error}");
            assert!(!error.message().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn loopback_depends_only_on_the_name() {
        for (url, loopback) in [
            ("http://localhost:1", true),
            ("http://LOCALHOST:1", true),
            ("http://127.8.9.1", true),
            ("http://[::1]", true),
            ("http://[::ffff:127.0.0.1]", true),
            ("http://localhost.example.com", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(parse(url).expect(url).is_loopback(), loopback, "{url}");
        }
    }

    #[test]
    fn addresses_near_this_machine_are_told_from_others() {
        for (url, link_local, private) in [
            ("http://169.254.169.254", true, false),
            ("http://169.254.170.23:80/v1", true, false),
            ("http://[fe80::1]", true, false),
            ("http://10.1.2.3", false, true),
            ("http://192.168.0.1", false, true),
            ("http://[fd00::1]", false, true),
            ("http://[::ffff:169.254.169.254]", false, false),
            ("http://169.255.0.1", false, false),
            ("http://192.0.2.1", false, false),
            ("http://[2001:db8::1]", false, false),
            ("http://metadata.example", false, false),
        ] {
            let endpoint = parse(url).expect(url);
            assert_eq!(endpoint.link_local_address().is_some(), link_local, "{url}");
            assert_eq!(endpoint.private_address().is_some(), private, "{url}");
        }
    }
}
