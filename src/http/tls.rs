//! Which servers are trusted.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, WebPkiSupportedAlgorithms, ring,
};
use rustls::sign::SigningKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use webpki::ring as webpki;

use super::clock;
use crate::error::{Error, Status};
use crate::memory;
use crate::sys::{open_to_read, with_signals_blocked};

/// Far more than any bundle of certificates has; a device or a log file named
/// by mistake is not read to its end.
const CA_FILE_LIMIT: u64 = 16 * 1024 * 1024;

/// More than the certificates of any system take.
const ROOTS_MEMORY: usize = 2 * 1024 * 1024;

/// The certificates to trust: those of `ca_file` where there is one, else the
/// system's, else the ones built in.
pub(super) fn trusted(ca_file: Option<&Path>) -> Result<Arc<RootCertStore>, Error> {
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
    // A system's store may have single entries that do not parse; the others
    // are as good as before.
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Ok(Arc::new(roots))
}

fn read_ca_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let cannot_read = |e: io::Error| {
        Error::os(
            Status::File,
            format_args!("ca_file: cannot read {}", path.display()),
            &e,
        )
    };
    // Opening a named pipe would wait for its writer.
    if !path.metadata().map_err(cannot_read)?.is_file() {
        return Err(invalid_ca_file(path, format_args!("is not a regular file")));
    }
    let mut pem = Vec::new();
    open_to_read(path)
        .and_then(|file| file.take(CA_FILE_LIMIT).read_to_end(&mut pem))
        .map_err(cannot_read)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|e| invalid_ca_file(path, format_args!("is not sound PEM ({e})")))?;
    if certificates.is_empty() {
        return Err(invalid_ca_file(
            path,
            format_args!("holds no certificate in PEM form"),
        ));
    }
    Ok(certificates)
}

fn invalid_ca_file(path: &Path, what: std::fmt::Arguments<'_>) -> Error {
    Error::argument(
        Status::InvalidValue,
        "ca_file",
        format_args!("{} {what}", path.display()),
    )
}

/// What ring can do, but for what only makes the library larger: signing with a
/// client's own key, which there is none of; and Ed25519 in certificates, which no
/// public authority may issue.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: ring::DEFAULT_CIPHER_SUITES.to_vec(),
        kx_groups: ring::DEFAULT_KX_GROUPS.to_vec(),
        signature_verification_algorithms: SIGNATURES,
        secure_random: &Own,
        key_provider: &Own,
    }
}

/// The signatures that are taken, in certificates and in handshakes.
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
    // TLS 1.2 leaves the curve open.
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

/// The parts of a provider that are not ring's.
#[derive(Debug)]
struct Own;

impl SecureRandom for Own {
    fn fill(&self, buf: &mut [u8]) -> Result<(), GetRandomFailed> {
        getrandom::fill(buf).map_err(|_| GetRandomFailed)
    }
}

impl KeyProvider for Own {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General(
            "client certificates are not supported".into(),
        ))
    }
}

/// webpki follows a chain by recursion, with 3 KiB of stack for each certificate.
/// A public server sends one certificate beside its own, or two.
const SHORT_CHAIN: usize = 2;

/// Enough for the longest chain that webpki follows.
const CHAIN_STACK: usize = 256 * 1024;

/// rustls's own verifier, which follows a long chain on a thread of its own: the
/// stack of the calling one may be small.
#[derive(Debug)]
struct Verifier(Arc<WebPkiServerVerifier>);

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
            self.0
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
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
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// This machine's clock. rustls's own panics before 1970.
#[derive(Debug)]
struct Clock;

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.ok().map(UnixTime::since_unix_epoch)
    }
}

/// TLS 1.2 and 1.3 with server authentication. A new one for each process: it
/// holds the cache of sessions, which is behind a lock.
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
        .with_custom_certificate_verifier(Arc::new(Verifier(verifier)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A failure of the TLS layer in the library's terms.
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
            "no certificate can be checked, since this machine's clock is before 1970; set it",
        ),
        rustls::Error::InvalidCertificate(reason) => Error::new(
            Status::Certificate,
            format!(
                "the server's certificate was refused: {reason}; for a private authority, give its \
                 certificate with ca_file"
            ),
        ),
        _ => Error::new(Status::Tls, format!("the TLS session failed: {error}")),
    }
}
