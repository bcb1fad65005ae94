//! TLS: trusted certificates, their verification, and messages about failures.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use std::{env, fmt, io, thread};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, WebPkiSupportedAlgorithms, ring,
};
use rustls::server::ParsedCertificate;
use rustls::sign::SigningKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};
use rustls_native_certs::ErrorKind;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use webpki::ring as webpki;

use super::clock;
use crate::error::{Error, Status, exhausted};
use crate::memory;
use crate::message::name;
use crate::sys::{entries, hold_standard_streams, read_small_file, with_signals_blocked};

/// The largest CA file that is read, far more than any bundle has. A log file that was
/// named by mistake is not read completely.
const CA_FILE_LIMIT: u64 = 16 * 1024 * 1024;

/// How many entries of the directories in SSL_CERT_DIR are read.
const CA_DIRECTORY_LIMIT: usize = 10_000;

const FILE_VARIABLE: &str = "SSL_CERT_FILE";
const DIRECTORY_VARIABLE: &str = "SSL_CERT_DIR";

/// The memory that is checked before loading certificates: more than any system's take.
const ROOTS_MEMORY: usize = 2 * 1024 * 1024;

/// Loads the trusted certificates: those of `ca_file` if it is set, else the system's,
/// else the built-in ones.
pub(super) fn load_roots(ca_file: Option<&Path>) -> Result<Arc<RootCertStore>, Error> {
    memory::probe(ROOTS_MEMORY)?;
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        for certificate in read_ca_file(path)? {
            roots.add(certificate).map_err(|e| {
                invalid_ca_file(path, format_args!("holds a certificate that is malformed ({e})"))
            })?;
        }
        return Ok(Arc::new(roots));
    }
    // A system's store may have a few invalid entries, which are skipped.
    roots.add_parsable_certificates(system_certificates()?);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Ok(Arc::new(roots))
}

/// Reads the certificates of the system, or those that OpenSSL's environment variables name
/// in their place. It fails if there are none where the variables say, or if the process has
/// no descriptor left: other certificates must not be trusted in their place.
fn system_certificates() -> Result<Vec<CertificateDer<'static>>, Error> {
    let value = |variable| env::var_os(variable).unwrap_or_default();
    let (file, directories) = (value(FILE_VARIABLE), value(DIRECTORY_VARIABLE));
    if file.is_empty() && directories.is_empty() {
        hold_standard_streams();
        let loaded = rustls_native_certs::load_native_certs();
        for failure in loaded.errors {
            match failure.kind {
                ErrorKind::Io { inner, path } if exhausted(&inner).is_some() => {
                    let what = format_args!("cannot read the system's certificates in {}", path.display());
                    return Err(Error::os(Status::Resource, what, &inner));
                }
                _ => {}
            }
        }
        return Ok(loaded.certs);
    }
    let (certificates, failure) = read_from_environment(&file, &directories);
    let variable = if file.is_empty() {
        DIRECTORY_VARIABLE
    } else {
        FILE_VARIABLE
    };
    match failure {
        Some((path, e)) if certificates.is_empty() || exhausted(&e).is_some() => {
            let what = format_args!("cannot read {}", path.display());
            Err(Error::os_argument(Status::File, variable, what, &e).with_path(path))
        }
        _ if certificates.is_empty() => Err(Error::argument(
            Status::File,
            variable,
            "names no certificate in PEM form; correct it or remove it from the environment",
        )),
        _ => Ok(certificates),
    }
}

/// Reads what these variables name, and returns the first failure, or the gravest. They may be set by
/// mistake, so the size is limited and only regular files are read: a device has no end, and
/// a named pipe waits for its writer.
fn read_from_environment(
    file: &OsStr,
    directories: &OsStr,
) -> (Vec<CertificateDer<'static>>, Option<(PathBuf, io::Error)>) {
    let file = (!file.is_empty()).then(|| PathBuf::from(file));
    let paths = env::split_paths(directories)
        .filter(|path| !path.as_os_str().is_empty())
        .flat_map(|directory| entries(&directory))
        .take(CA_DIRECTORY_LIMIT);
    let mut remaining = CA_FILE_LIMIT;
    let mut certificates = Vec::new();
    let mut failure = None;
    for path in file.into_iter().chain(paths) {
        match read_small_file(&path, remaining) {
            Ok(pem) => {
                remaining -= pem.bytes.len() as u64;
                certificates.extend(CertificateDer::pem_slice_iter(&pem.bytes).flatten());
            }
            Err(e) if failure.is_none() || exhausted(&e).is_some() => failure = Some((path, e)),
            Err(_) => {}
        }
    }
    // Such directories also contain links to the same files.
    certificates.sort_unstable_by(|one, other| one.as_ref().cmp(other));
    certificates.dedup();
    (certificates, failure)
}

fn read_ca_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read_small_file(path, CA_FILE_LIMIT).map_err(|e| match e.raw_os_error() {
        Some(_) => Error::os_argument(
            Status::File,
            "ca_file",
            format_args!("cannot read {}", path.display()),
            &e,
        )
        .with_path(path),
        None => invalid_ca_file(path, format_args!("cannot be used: {e}")),
    })?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem.bytes)
        .collect::<Result<_, _>>()
        .map_err(|e| invalid_ca_file(path, format_args!("is not valid PEM: {}", pem_problem(&e))))?;
    if certificates.is_empty() {
        return Err(invalid_ca_file(
            path,
            format_args!("holds no certificate in PEM form"),
        ));
    }
    Ok(certificates)
}

/// Describes a PEM error without quoting the file, which may contain keys. The parser's
/// own messages quote lines.
fn pem_problem(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a BEGIN line has no END line of its kind after it",
        pem::Error::IllegalSectionStart { .. } => {
            "a BEGIN line does not end with five hyphens; are the line ends lost?"
        }
        pem::Error::Base64Decode(_) => "the text between a BEGIN and an END line is not Base64",
        _ => "it cannot be read",
    }
}

fn invalid_ca_file(path: &Path, what: std::fmt::Arguments<'_>) -> Error {
    Error::argument(
        Status::InvalidValue,
        "ca_file",
        format_args!("{} {what}", path.display()),
    )
    .with_path(path)
}

/// Returns ring's algorithms without two unused ones, which would make the library
/// larger: client certificates, and Ed25519, which public authorities may not issue.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: ring::DEFAULT_CIPHER_SUITES.to_vec(),
        kx_groups: ring::DEFAULT_KX_GROUPS.to_vec(),
        signature_verification_algorithms: SIGNATURES,
        secure_random: &OwnProvider,
        key_provider: &OwnProvider,
    }
}

/// The accepted signature algorithms, in certificates and in handshakes.
static SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        webpki::ECDSA_P256_SHA256,
        webpki::ECDSA_P256_SHA384,
        webpki::ECDSA_P384_SHA256,
        webpki::ECDSA_P384_SHA384,
        webpki::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        webpki::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        webpki::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        webpki::RSA_PKCS1_2048_8192_SHA256,
        webpki::RSA_PKCS1_2048_8192_SHA384,
        webpki::RSA_PKCS1_2048_8192_SHA512,
        webpki::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
        webpki::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
        webpki::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    ],
    // TLS 1.2 does not fix the curve.
    mapping: &[
        (
            SignatureScheme::ECDSA_NISTP384_SHA384,
            &[webpki::ECDSA_P384_SHA384, webpki::ECDSA_P256_SHA384],
        ),
        (
            SignatureScheme::ECDSA_NISTP256_SHA256,
            &[webpki::ECDSA_P256_SHA256, webpki::ECDSA_P384_SHA256],
        ),
        (
            SignatureScheme::RSA_PSS_SHA512,
            &[webpki::RSA_PSS_2048_8192_SHA512_LEGACY_KEY],
        ),
        (
            SignatureScheme::RSA_PSS_SHA384,
            &[webpki::RSA_PSS_2048_8192_SHA384_LEGACY_KEY],
        ),
        (
            SignatureScheme::RSA_PSS_SHA256,
            &[webpki::RSA_PSS_2048_8192_SHA256_LEGACY_KEY],
        ),
        (
            SignatureScheme::RSA_PKCS1_SHA512,
            &[webpki::RSA_PKCS1_2048_8192_SHA512],
        ),
        (
            SignatureScheme::RSA_PKCS1_SHA384,
            &[webpki::RSA_PKCS1_2048_8192_SHA384],
        ),
        (
            SignatureScheme::RSA_PKCS1_SHA256,
            &[webpki::RSA_PKCS1_2048_8192_SHA256],
        ),
    ],
};

/// The parts of the crypto provider that are not ring's.
#[derive(Debug)]
struct OwnProvider;

impl SecureRandom for OwnProvider {
    fn fill(&self, buf: &mut [u8]) -> Result<(), GetRandomFailed> {
        getrandom::fill(buf).map_err(|_| GetRandomFailed)
    }
}

impl KeyProvider for OwnProvider {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General(
            "client certificates are not supported".into(),
        ))
    }
}

/// The longest chain that is verified on the calling thread. webpki recurses, with 3 KiB
/// of stack for each certificate. A public server sends one or two besides its own.
const SHORT_CHAIN: usize = 2;

/// The stack of a verifying thread: enough for the longest chain that webpki accepts.
const CHAIN_STACK: usize = 256 * 1024;

/// rustls's verifier, which runs on a separate thread for a long chain: the caller's
/// stack may be small.
#[derive(Debug)]
struct Verifier {
    verifier: Arc<WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
}

/// Whether the only error is that the certificate is a CA's, as self-signed ones often
/// are.
fn is_ca_as_server_error(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) = error else {
        return false;
    };
    matches!(inner.downcast_ref(), Some(::webpki::Error::CaUsedAsEndEntity))
}

impl Verifier {
    /// Accepts a CA certificate as a server's if it is itself a trusted root and is valid
    /// otherwise.
    fn verify_self_signed_ca(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
        refused: rustls::Error,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let anchor = ::webpki::anchor_from_trusted_cert(certificate);
        if !anchor.is_ok_and(|anchor| self.roots.roots.contains(&anchor)) {
            return Err(refused);
        }
        let copy = without_ca_flag(certificate).ok_or(refused)?;
        // Only the signature of the copy is wrong, and webpki checks it last but for the
        // name. So after a bad signature only the name remains to be checked.
        match self
            .verifier
            .verify_server_cert(&copy.into(), &[], name, &[], now)
        {
            Err(rustls::Error::InvalidCertificate(CertificateError::BadSignature)) => {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }
}

/// Returns a copy of a CA certificate with cA FALSE in its basic constraints.
fn without_ca_flag(certificate: &[u8]) -> Option<Vec<u8>> {
    const BASIC_CONSTRAINTS: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x13];
    const CRITICAL: [u8; 3] = [0x01, 0x01, 0xff];
    let at = certificate
        .windows(BASIC_CONSTRAINTS.len())
        .position(|bytes| bytes == BASIC_CONSTRAINTS)?;
    let mut value = at + BASIC_CONSTRAINTS.len();
    if certificate[value..].starts_with(&CRITICAL) {
        value += CRITICAL.len();
    }
    // OCTET STRING, SEQUENCE, BOOLEAN
    let [0x04, _, 0x30, _, 0x01, 0x01, 0xff, ..] = certificate[value..] else {
        return None;
    };
    let mut copy = certificate.to_vec();
    copy[value + 6] = 0;
    Some(copy)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verify = || {
            let verified =
                self.verifier
                    .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
            match verified {
                Err(e) if is_ca_as_server_error(&e) => {
                    self.verify_self_signed_ca(end_entity, server_name, now, e)
                }
                verified => verified,
            }
        };
        if intermediates.len() <= SHORT_CHAIN {
            return verify();
        }
        let cannot = |error| rustls::Error::Other(OtherError(Arc::new(error)));
        memory::probe_thread(CHAIN_STACK).map_err(cannot)?;
        thread::scope(|scope| {
            let thread = with_signals_blocked(|| {
                thread::Builder::new()
                    .name("dbss-verify".into())
                    .stack_size(CHAIN_STACK)
                    .spawn_scoped(scope, verify)
            });
            let thread = thread.map_err(|e| {
                cannot(Error::os(
                    Status::Resource,
                    "cannot start a thread to verify a chain of certificates",
                    &e,
                ))
            })?;
            let failed = |_| Err(cannot(Error::new(Status::Internal, "a verifying thread failed")));
            thread.join().unwrap_or_else(failed)
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// This machine's clock. rustls's own clock panics before 1970.
#[derive(Debug)]
struct Clock;

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.ok().map(UnixTime::since_unix_epoch)
    }
}

/// Makes a configuration for TLS 1.2 and 1.3. Each process needs its own, since it
/// contains the session cache, which is behind a lock.
pub(super) fn client_config(roots: &Arc<RootCertStore>) -> Result<Arc<ClientConfig>, Error> {
    let cannot = |e: &dyn fmt::Display| Error::new(Status::Internal, format!("TLS cannot be set up: {e}"));
    let provider = Arc::new(provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(&provider))
        .build()
        .map_err(|e| cannot(&e))?;
    let config = ClientConfig::builder_with_details(provider, Arc::new(Clock))
        .with_safe_default_protocol_versions()
        .map_err(|e| cannot(&e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier {
            verifier,
            roots: Arc::clone(roots),
        }))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Converts an error of the TLS layer.
pub(super) fn failure(error: &rustls::Error) -> Error {
    if let rustls::Error::Other(OtherError(inner)) = error
        && let Some(ours) = inner.downcast_ref::<Error>()
    {
        return ours.clone();
    }
    let with_clock = |what: String| {
        Error::new(
            Status::Certificate,
            format!("the server's certificate {what}; if this machine's clock is wrong, set it"),
        )
    };
    match error {
        rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => {
            let (now, end) = (time.as_secs(), not_after.as_secs());
            with_clock(format!(
                "has expired: it was valid until {}, and here it is {}, {} later",
                clock::date(end),
                clock::date(now),
                clock::span(now.saturating_sub(end))
            ))
        }
        rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }) => {
            let (now, begin) = (time.as_secs(), not_before.as_secs());
            with_clock(format!(
                "is not valid yet: it is valid from {}, and here it is {}, {} earlier",
                clock::date(begin),
                clock::date(now),
                clock::span(begin.saturating_sub(now))
            ))
        }
        rustls::Error::FailedToGetCurrentTime => Error::new(
            Status::Certificate,
            "certificates cannot be checked, since this machine's clock is before 1970; set it",
        ),
        rustls::Error::InvalidCertificate(reason) => Error::new(
            Status::Certificate,
            format!(
                "the server's certificate was refused: {}",
                certificate_problem(reason)
            ),
        ),
        _ => Error::new(
            Status::Tls,
            format!("the TLS session failed: {}", session_problem(error)),
        ),
    }
}

/// Describes why a certificate was refused and what to do, with the code of rustls or
/// webpki.
fn certificate_problem(reason: &CertificateError) -> String {
    use CertificateError as E;
    let (what, code) = match reason {
        E::UnknownIssuer => (
            format!(
                "it is issued by an authority that is not trusted here; for a private authority, give its \
                 certificate with {}",
                name("ca_file")
            ),
            "UnknownIssuer",
        ),
        E::NotValidForName | E::NotValidForNameContext { .. } => (
            format!(
                "{}; use a host name of its certificate, or have it issued for this one",
                host_mismatch(reason)
            ),
            "NotValidForName",
        ),
        E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => (
            "it, or that of an authority above it, is signed in a way that is not accepted, such as with \
             SHA-1 or the curve P-521; have it issued with SHA-256 or SHA-384 and an RSA key of 2048 to 8192 \
             bits or one of P-256 or P-384"
                .into(),
            "UnsupportedSignatureAlgorithm",
        ),
        E::BadSignature => (
            "its signature, or one above it, is wrong; is an old certificate of the same authority in \
             ca_file?"
                .into(),
            "BadSignature",
        ),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => (
            "it is not for servers; have it issued with the purpose serverAuth".into(),
            "InvalidPurpose",
        ),
        E::BadEncoding => (
            "it is malformed; the server needs a new one".into(),
            "BadEncoding",
        ),
        E::UnhandledCriticalExtension => (
            "it demands something that is not supported here; the server needs one without".into(),
            "UnhandledCriticalExtension",
        ),
        other => {
            let inner = match other {
                E::Other(OtherError(inner)) => inner.downcast_ref::<::webpki::Error>(),
                _ => None,
            };
            return match inner {
                Some(::webpki::Error::CaUsedAsEndEntity) => {
                    "it is that of an authority, and not of a server; have one issued for the server, or, where it \
                     signs itself, give it with ca_file (CaUsedAsEndEntity)"
                        .into()
                }
                Some(inner) => format!("it is not acceptable; the server needs another one ({inner:?})"),
                None => format!("it is not acceptable; the server needs another one ({other:?})"),
            };
        }
    };
    format!("{what} ({code})")
}

/// How much of a host name a message shows, in characters.
const MAX_NAME_CHARS: usize = 100;

/// Describes for which hosts a certificate is, and for which it is not.
fn host_mismatch(reason: &CertificateError) -> String {
    let CertificateError::NotValidForNameContext { expected, presented } = reason else {
        return "it is for another host".into();
    };
    if presented.is_empty() {
        return format!(
            "it names no host in its subject alternative names, where {} should be",
            expected.to_str()
        );
    }
    // As webpki writes them: DnsName("a.example"), IpAddress(10.0.0.1).
    let names: Vec<String> = presented
        .iter()
        .take(3)
        .map(|name| name.split_once('(').map_or(name.as_str(), |(_, name)| name))
        .map(|name| name.trim_end_matches(')').trim_matches('"'))
        .map(|name| name.chars().take(MAX_NAME_CHARS).collect())
        .collect();
    let more = if presented.len() > names.len() {
        " and others"
    } else {
        ""
    };
    format!(
        "it is for {}{more}, and not for {}",
        names.join(", "),
        expected.to_str()
    )
}

/// Describes why a session failed, with rustls's message.
fn session_problem(error: &rustls::Error) -> String {
    let what = match error {
        rustls::Error::InvalidMessage(_)
        | rustls::Error::DecryptError
        | rustls::Error::PeerSentOversizedRecord => {
            "the data is not TLS, or was changed on the way; is this the server's port for https?"
        }
        rustls::Error::PeerIncompatible(_)
        | rustls::Error::AlertReceived(
            AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion,
        ) => {
            "the server offers nothing that is supported here; it needs TLS 1.2 or 1.3 with AES-GCM or \
             ChaCha20-Poly1305, and a certificate with an RSA key or one of P-256 or P-384, and not P-521"
        }
        rustls::Error::AlertReceived(_) => "the server ended it",
        rustls::Error::NoCertificatesPresented => "the server sent no certificate",
        rustls::Error::PeerMisbehaved(_)
        | rustls::Error::InappropriateMessage { .. }
        | rustls::Error::InappropriateHandshakeMessage { .. } => "the server violates the TLS protocol",
        _ => "it is not supported here",
    };
    format!("{what} ({error})")
}
