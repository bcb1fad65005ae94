//! What the fuzz targets share.

pub mod answer;
pub mod server;

use std::net::Ipv6Addr;

use url::{Host, ParseError, Url};

/// The token that the library is given. The service may echo it; nobody may
/// read it.
pub const TOKEN: &str = "fuzz-token-0123456789";

/// The longest message, and the mark that it was cut.
const MESSAGE_LIMIT: usize = 1024 + '…'.len_utf8();

/// What holds for the words of every error.
pub fn check_error(message: &str) {
    assert!(!message.trim().is_empty(), "an error without words");
    assert!(
        message.len() <= 4 * MESSAGE_LIMIT,
        "{} bytes of message",
        message.len()
    );
}

/// What holds for the message of every error that a caller gets.
pub fn check_message(message: &str) {
    assert!(!message.trim().is_empty(), "an error without a message");
    assert!(
        message.len() <= MESSAGE_LIMIT,
        "{} bytes of message",
        message.len()
    );
    assert!(
        !message.chars().any(char::is_control),
        "{message:?} is more than a line"
    );
}

/// A URL as another parser reads it; none where only that one cares: for the
/// form of an international name.
pub fn another_reading(url: &str) -> Option<Url> {
    match Url::parse(url) {
        Ok(url) => Some(url),
        Err(ParseError::IdnaError) if url.to_ascii_lowercase().contains("xn--") => None,
        Err(e) => panic!("{url:?} was taken: {e}"),
    }
}

/// Where requests to a URL go.
pub fn host_and_port(url: &Url) -> (String, u16) {
    let port = url.port_or_known_default().expect("a port");
    (host(url.host_str().expect("a host")), port)
}

/// A host in the one form that it has here.
pub fn host(text: &str) -> String {
    let address = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    match address.and_then(|a| a.parse::<Ipv6Addr>().ok()) {
        Some(address) => format!("[{address}]"),
        None => text.to_owned(),
    }
}

/// Whether requests to a URL stay on this machine, by the host's name alone.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}
