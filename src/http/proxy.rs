//! HTTP proxies. Requests always use a tunnel (CONNECT), so a proxy sees only the host
//! and the port.

use std::fmt;
use std::io::{Read, Write};
use std::net::IpAddr;

use ::http::{HeaderMap, Uri};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::endpoint::Endpoint;
use super::inspector::HEADER_LIMIT;
use super::secrets::{LastToken, Secrets};
use crate::error::{Error, Status};

#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The value of Proxy-Authorization, with `Basic`.
    authorization: Option<Zeroizing<String>>,
    /// The password, in the forms in which the proxy could echo it.
    secrets: Vec<Zeroizing<String>>,
    bypass: Vec<BypassRule>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({}:{})", self.host, self.port)
    }
}

/// One entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum BypassRule {
    All,
    /// A host, and every host of its domain.
    Domain(String),
    /// The addresses that share this many leading bits with this one.
    Network(IpAddr, u32),
}

impl BypassRule {
    fn parse(entry: &str) -> Option<BypassRule> {
        let (address, bits) = match entry.split_once('/') {
            Some((address, bits)) => (address, bits.parse().unwrap_or(0)),
            None => (entry, 0),
        };
        if let Ok(address) = without_brackets(address).parse::<IpAddr>() {
            let all = if address.is_ipv4() { 32 } else { 128 };
            // As in curl, 0 means all bits.
            let bits = if bits == 0 { all } else { bits };
            return (bits <= all).then_some(BypassRule::Network(address, bits));
        }
        let domain = entry.strip_prefix('.').unwrap_or(entry).trim_end_matches('.');
        (!domain.is_empty()).then(|| BypassRule::Domain(domain.to_ascii_lowercase()))
    }

    fn covers(&self, host: &str) -> bool {
        let address = without_brackets(host).parse::<IpAddr>().ok();
        match (self, address) {
            (BypassRule::All, _) => true,
            (BypassRule::Domain(domain), None) => host
                .to_ascii_lowercase()
                .strip_suffix(domain.as_str())
                .is_some_and(|before| before.is_empty() || before.ends_with('.')),
            (BypassRule::Network(IpAddr::V4(network), bits), Some(IpAddr::V4(address))) => {
                (network.to_bits() ^ address.to_bits()).leading_zeros() >= *bits
            }
            (BypassRule::Network(IpAddr::V6(network), bits), Some(IpAddr::V6(address))) => {
                (network.to_bits() ^ address.to_bits()).leading_zeros() >= *bits
            }
            _ => false,
        }
    }
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

impl Proxy {
    /// Parses a URL such as `http://user:password@proxy.example.com:3128`.
    pub(crate) fn parse(url: &str, parameter: &'static str) -> Result<Proxy, Error> {
        let invalid = |what: &str| Error::argument(Status::InvalidEndpoint, parameter, what);
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(invalid(
                "must be an http URL; other kinds of proxies are not supported",
            ));
        }
        let rest = rest.trim_end_matches('/');
        let (login, address) = match rest.rsplit_once('@') {
            Some((login, address)) => (Some(login), address),
            None => (None, rest),
        };
        // Other parsers would use the part before such a character as the host.
        if login.is_some_and(|login| login.contains(['/', '?', '#'])) {
            return Err(invalid(
                "has a '/', '?' or '#' in its user or password, which must be percent-encoded there",
            ));
        }
        let endpoint = Endpoint::parse(&format!("http://{address}"), parameter)?;
        let uri: Uri = endpoint.origin().parse().map_err(|_| invalid("is not a URL"))?;
        let mut authorization = None;
        let mut secrets = Vec::new();
        if let Some(login) = login {
            let login = Zeroizing::new(percent_decode_str(login).collect::<Vec<u8>>());
            let encoded = Zeroizing::new(STANDARD.encode(&*login));
            authorization = Some(Zeroizing::new(format!("Basic {}", encoded.as_str())));
            let password = login.splitn(2, |b| *b == b':').last().unwrap_or_default();
            let password = Zeroizing::new(String::from_utf8_lossy(password).into_owned());
            secrets.extend([encoded, password]);
        }
        Ok(Proxy {
            host: uri.host().unwrap_or_default().to_owned(),
            port: uri.port_u16().unwrap_or(80),
            authorization,
            secrets,
            bypass: Vec::new(),
        })
    }

    /// Reads the proxy for this scheme, and the hosts without proxy, from the environment,
    /// as curl does. It ignores `HTTP_PROXY` in upper case, which a web server may set from
    /// a request's header.
    pub(crate) fn from_environment(
        https: bool,
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Proxy>, Error> {
        let names: &[&str] = if https {
            &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
        } else {
            &["http_proxy", "all_proxy", "ALL_PROXY"]
        };
        let Some(url) = names.iter().find_map(|name| get(name).filter(|v| !v.is_empty())) else {
            return Ok(None);
        };
        let mut proxy = Proxy::parse(&url, "proxy_from_environment")?;
        let list = ["no_proxy", "NO_PROXY"]
            .iter()
            .find_map(|name| get(name).filter(|list| !list.is_empty()))
            .unwrap_or_default();
        proxy.bypass = match list.as_str() {
            "*" => vec![BypassRule::All],
            list => list
                .split([',', ' ', '\t'])
                .filter_map(BypassRule::parse)
                .collect(),
        };
        Ok(Some(proxy))
    }

    /// Whether requests to this host do not use the proxy.
    pub(super) fn bypasses(&self, host: &str) -> bool {
        self.bypass.iter().any(|rule| rule.covers(host))
    }

    /// Opens a tunnel to a host, over a connection to the proxy.
    pub(super) fn tunnel(
        &self,
        stream: &mut (impl Read + Write),
        host: &str,
        port: u16,
    ) -> Result<(), Error> {
        let failed = |why: &str| {
            Error::new(
                Status::Connect,
                format!(
                    "the proxy {}:{} opened no tunnel to {host}: {why}",
                    self.host, self.port
                ),
            )
        };
        let mut request = Zeroizing::new(format!(
            "CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n"
        ));
        if let Some(authorization) = &self.authorization {
            request.push_str(&format!("Proxy-Authorization: {}\r\n", authorization.as_str()));
        }
        request.push_str("\r\n");
        stream
            .write_all(request.as_bytes())
            .map_err(super::io_error::from_io)?;

        // Read byte by byte: data after the header belongs to the tunnel.
        let mut header = Vec::new();
        // A line may end without its CR (RFC 9112, 2.2).
        while !header.ends_with(b"\n\r\n") && !header.ends_with(b"\n\n") {
            let mut byte = [0];
            if header.len() >= HEADER_LIMIT {
                return Err(failed("the header of its response is too long"));
            }
            if stream.read(&mut byte).map_err(super::io_error::from_io)? == 0 {
                return Err(failed("it closed the connection"));
            }
            header.push(byte[0]);
        }
        let line = String::from_utf8_lossy(&header);
        let secrets = Secrets::of(&HeaderMap::new(), &self.secrets, &LastToken::default());
        let line = secrets.redact(line.lines().next().unwrap_or_default().to_owned());
        let mut words = line.split(' ');
        let is_valid = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
        match words.next() {
            Some("200") if is_valid => Ok(()),
            Some("407") if is_valid => {
                Err(failed("it requires a user and password, or different ones (HTTP 407)").permanent())
            }
            Some(status) if is_valid && status.starts_with('4') => {
                Err(failed(&format!("it refused, \"{line}\"")).permanent())
            }
            _ => Err(failed(&format!("it responded \"{line}\""))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_sets_proxy_and_bypassed_hosts() {
        let environment = |pairs: &'static [(&str, &str)], https| {
            Proxy::from_environment(https, |name| {
                pairs
                    .iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, v)| (*v).to_owned())
            })
            .expect("valid values")
        };
        assert!(environment(&[("HTTP_PROXY", "http://evil:1")], false).is_none());
        assert!(environment(&[("https_proxy", "")], true).is_none());
        let proxy = environment(
            &[
                ("HTTPS_PROXY", "http://u%40x:p@proxy.example:3128/"),
                ("no_proxy", ".internal, example.com,10.0.0.1"),
            ],
            true,
        )
        .expect("a proxy");
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.example", 3128));
        assert_eq!(
            proxy.authorization.as_ref().map(|a| a.as_str()),
            Some("Basic dUB4OnA=")
        );
        assert!(!format!("{proxy:?}").contains("Basic"));
        for (host, is_bypassed) in [
            ("a.internal", true),
            ("internal", true),
            ("example.com", true),
            ("dbss.example.com", true),
            ("notexample.com", false),
            ("10.0.0.1", true),
            ("dbss.cn-north-4.myhuaweicloud.com", false),
        ] {
            assert_eq!(proxy.bypasses(host), is_bypassed, "{host}");
        }
        assert!(
            environment(&[("https_proxy", "proxy:1"), ("NO_PROXY", "*")], true)
                .is_some_and(|p| p.bypasses("x"))
        );
    }

    /// As in curl, except that curl accepts no brackets there.
    #[test]
    fn no_proxy_is_read_as_in_curl() {
        for (list, host, is_bypassed) in [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("10.0.0.0/8", "a.10.0.0.0", false),
            ("192.168.4.0/22", "192.168.7.255", true),
            ("192.168.4.0/22", "192.168.8.0", false),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("10.0.0.0/33", "10.1.2.3", false),
            ("10.0.0.0/0", "10.1.2.3", false),
            ("0.1", "127.0.0.1", false),
            (".0.0.1", "127.0.0.1", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "a.127.0.0.1", false),
            ("::1", "[::1]", true),
            ("[::1]", "[::1]", true),
            ("0:0::1", "[::1]", true),
            ("2001:db8::/32", "[2001:db8:1::1]", true),
            ("2001:db8::/32", "[2001:db9::1]", false),
            ("1", "[::1]", false),
            ("localhost.", "localhost", true),
            ("a.example b.example\tc.example", "b.example", true),
            ("a.example , c.example", "x.c.example", true),
            ("EXAMPLE.com", "www.example.COM", true),
            ("..example.com", "example.com", false),
            ("a,*", "b", false),
            ("*", "b", true),
            ("*", "127.0.0.1", true),
            ("*.example.com", "www.example.com", false),
            (".", "b", false),
            ("", "b", false),
        ] {
            let get = |name: &str| {
                let value = match name {
                    "https_proxy" => "http://proxy.example:1",
                    "no_proxy" => list,
                    _ => return None,
                };
                Some(value.to_owned())
            };
            let proxy = Proxy::from_environment(true, get)
                .expect("valid")
                .expect("a proxy");
            assert_eq!(proxy.bypasses(host), is_bypassed, "{list:?} {host}");
        }
        let get = |name: &str| {
            let value = match name {
                "https_proxy" => "http://proxy.example:1",
                "no_proxy" => "",
                "NO_PROXY" => "b.example",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let proxy = Proxy::from_environment(true, get)
            .expect("valid")
            .expect("a proxy");
        assert!(proxy.bypasses("b.example"));
    }

    /// A proxy that sends a fixed response.
    struct FixedResponse(&'static [u8]);

    impl Read for FixedResponse {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buf)
        }
    }

    impl Write for FixedResponse {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            Ok(buf.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn tunnel_begins_after_the_response_header() {
        let proxy = Proxy::parse("http://proxy.example:3128", "proxy").expect("a proxy");
        for response in [
            "HTTP/1.1 200 OK\r\nVia: x\r\n\r\ntunnel",
            "HTTP/1.1 200 OK\n\ntunnel",
            "HTTP/1.1 200 OK\n\r\ntunnel",
        ] {
            let mut stream = FixedResponse(response.as_bytes());
            proxy
                .tunnel(&mut stream, "dbss.example.com", 443)
                .expect(response);
            assert_eq!(stream.0, b"tunnel");
        }
        for response in ["HTTP/1.1 200 OK\r\n", "HTTP/1.1 403 no\r\n\r\n", "\r\n\r\n", ""] {
            let mut stream = FixedResponse(response.as_bytes());
            let error = proxy
                .tunnel(&mut stream, "dbss.example.com", 443)
                .expect_err("no tunnel");
            assert_eq!(error.status(), Status::Connect, "{response:?}");
        }
    }

    #[test]
    fn unsupported_proxy_is_refused_without_showing_password() {
        for url in [
            "socks5://u:hunter2@p:1",
            "http://u:hunter2@:1",
            "http://u:hunter2@p:0",
            "http://elsewhere/hunter2@p:1",
            "elsewhere#hunter2@p:1",
            "http://u:hunter2?@p:1",
        ] {
            let error = Proxy::parse(url, "proxy").expect_err(url);
            assert!(!error.message().contains("hunter2"), "{error}");
        }
    }
}
