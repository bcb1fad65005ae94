//! Going through an HTTP proxy, always by a tunnel (CONNECT), so that a proxy
//! sees no more of a request than the host and port that it goes to.

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
    /// `Basic` and the rest of the header's value.
    authorization: Option<Zeroizing<String>>,
    /// What it holds, in the forms in which the proxy could repeat it.
    confided: Vec<Zeroizing<String>>,
    except: Vec<Exception>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({}:{})", self.host, self.port)
    }
}

/// One entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    All,
    /// A host, and every host of its domain.
    Domain(String),
    /// The addresses that have so many bits in common with this one.
    Network(IpAddr, u32),
}

impl Exception {
    fn parse(entry: &str) -> Option<Exception> {
        let (address, bits) = match entry.split_once('/') {
            Some((address, bits)) => (address, bits.parse().unwrap_or(0)),
            None => (entry, 0),
        };
        if let Ok(address) = without_brackets(address).parse::<IpAddr>() {
            let all = if address.is_ipv4() { 32 } else { 128 };
            // As for curl, 0 bits are all of them.
            let bits = if bits == 0 { all } else { bits };
            return (bits <= all).then_some(Exception::Network(address, bits));
        }
        let domain = entry.strip_prefix('.').unwrap_or(entry).trim_end_matches('.');
        (!domain.is_empty()).then(|| Exception::Domain(domain.to_ascii_lowercase()))
    }

    fn covers(&self, host: &str) -> bool {
        let address = without_brackets(host).parse::<IpAddr>().ok();
        match (self, address) {
            (Exception::All, _) => true,
            (Exception::Domain(domain), None) => host
                .to_ascii_lowercase()
                .strip_suffix(domain.as_str())
                .is_some_and(|before| before.is_empty() || before.ends_with('.')),
            (Exception::Network(IpAddr::V4(network), bits), Some(IpAddr::V4(address))) => {
                (network.to_bits() ^ address.to_bits()).leading_zeros() >= *bits
            }
            (Exception::Network(IpAddr::V6(network), bits), Some(IpAddr::V6(address))) => {
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
    /// A URL such as `http://user:password@proxy.example.com:3128`.
    pub(crate) fn parse(url: &str, parameter: &'static str) -> Result<Proxy, Error> {
        let invalid = |what: &str| Error::argument(Status::InvalidEndpoint, parameter, what);
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(invalid(
                "must be an http URL; other kinds of proxies are not supported",
            ));
        }
        let rest = rest.trim_end_matches('/');
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        // Other parsers would take what stands before it for the host.
        if login.is_some_and(|login| login.contains(['/', '?', '#'])) {
            return Err(invalid(
                "has a '/', '?' or '#' in its user or password, which must be percent-encoded there",
            ));
        }
        let endpoint = Endpoint::parse(&format!("http://{place}"), parameter)?;
        let uri: Uri = endpoint.origin().parse().map_err(|_| invalid("is not a URL"))?;
        let mut authorization = None;
        let mut confided = Vec::new();
        if let Some(login) = login {
            let login = Zeroizing::new(percent_decode_str(login).collect::<Vec<u8>>());
            let encoded = Zeroizing::new(STANDARD.encode(&*login));
            authorization = Some(Zeroizing::new(format!("Basic {}", encoded.as_str())));
            let password = login.splitn(2, |b| *b == b':').last().unwrap_or_default();
            let password = Zeroizing::new(String::from_utf8_lossy(password).into_owned());
            confided.extend([encoded, password]);
        }
        Ok(Proxy {
            host: uri.host().unwrap_or_default().to_owned(),
            port: uri.port_u16().unwrap_or(80),
            authorization,
            confided,
            except: Vec::new(),
        })
    }

    /// The proxy that the environment names for requests of this scheme, and
    /// the hosts that it excepts, as curl reads them: `HTTP_PROXY` in upper case
    /// is left alone, since a web server sets it from a request's header.
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
        proxy.except = match list.as_str() {
            "*" => vec![Exception::All],
            list => list
                .split([',', ' ', '\t'])
                .filter_map(Exception::parse)
                .collect(),
        };
        Ok(Some(proxy))
    }

    /// Whether requests to this host go past the proxy.
    pub(super) fn excepts(&self, host: &str) -> bool {
        self.except.iter().any(|exception| exception.covers(host))
    }

    /// Asks for a tunnel to a host, over a connection to the proxy.
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
                    "the proxy {}:{} gave no tunnel to {host}: {why}",
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

        // One byte at a time: what follows the header belongs to the tunnel.
        let mut header = Vec::new();
        // A line may end without its CR (RFC 9112, 2.2).
        while !header.ends_with(b"\n\r\n") && !header.ends_with(b"\n\n") {
            let mut byte = [0];
            if header.len() >= HEADER_LIMIT {
                return Err(failed("its response has no end"));
            }
            if stream.read(&mut byte).map_err(super::io_error::from_io)? == 0 {
                return Err(failed("it closed the connection"));
            }
            header.push(byte[0]);
        }
        let line = String::from_utf8_lossy(&header);
        let secrets = Secrets::of(&HeaderMap::new(), &self.confided, &LastToken::default());
        let line = secrets.redact(line.lines().next().unwrap_or_default().to_owned());
        let mut words = line.split(' ');
        let sound = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
        match words.next() {
            Some("200") if sound => Ok(()),
            Some("407") if sound => {
                Err(failed("it wants a user and a password, or others (HTTP 407)").permanent())
            }
            Some(refusal) if sound && refusal.starts_with('4') => {
                Err(failed(&format!("it refused, \"{line}\"")).permanent())
            }
            _ => Err(failed(&format!("it answered \"{line}\""))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_the_proxy_and_its_exceptions() {
        let environment = |pairs: &'static [(&str, &str)], https| {
            Proxy::from_environment(https, |name| {
                pairs
                    .iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, v)| (*v).to_owned())
            })
            .expect("sound values")
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
        for (host, past) in [
            ("a.internal", true),
            ("internal", true),
            ("example.com", true),
            ("dbss.example.com", true),
            ("notexample.com", false),
            ("10.0.0.1", true),
            ("dbss.cn-north-4.myhuaweicloud.com", false),
        ] {
            assert_eq!(proxy.excepts(host), past, "{host}");
        }
        assert!(
            environment(&[("https_proxy", "proxy:1"), ("NO_PROXY", "*")], true)
                .is_some_and(|p| p.excepts("x"))
        );
    }

    /// As curl takes them; it has no brackets there.
    #[test]
    fn exceptions_are_as_curl_has_them() {
        for (list, host, past) in [
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
                .expect("sound")
                .expect("a proxy");
            assert_eq!(proxy.excepts(host), past, "{list:?} {host}");
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
            .expect("sound")
            .expect("a proxy");
        assert!(proxy.excepts("b.example"));
    }

    /// A proxy that sends this response.
    struct Answering(&'static [u8]);

    impl Read for Answering {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buf)
        }
    }

    impl Write for Answering {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            Ok(buf.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_tunnel_begins_behind_the_empty_line_of_the_answer() {
        let proxy = Proxy::parse("http://proxy.example:3128", "proxy").expect("a proxy");
        for response in [
            "HTTP/1.1 200 OK\r\nVia: x\r\n\r\ntunnel",
            "HTTP/1.1 200 OK\n\ntunnel",
            "HTTP/1.1 200 OK\n\r\ntunnel",
        ] {
            let mut stream = Answering(response.as_bytes());
            proxy
                .tunnel(&mut stream, "dbss.example.com", 443)
                .expect(response);
            assert_eq!(stream.0, b"tunnel");
        }
        for response in ["HTTP/1.1 200 OK\r\n", "HTTP/1.1 403 no\r\n\r\n", "\r\n\r\n", ""] {
            let mut stream = Answering(response.as_bytes());
            let error = proxy
                .tunnel(&mut stream, "dbss.example.com", 443)
                .expect_err("no tunnel");
            assert_eq!(error.status(), Status::Connect, "{response:?}");
        }
    }

    #[test]
    fn a_proxy_of_another_kind_is_refused_without_showing_its_password() {
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
