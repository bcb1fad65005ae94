//! Which servers are trusted.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{
    CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, WebPkiSupportedAlgorithms, ring,
};
use rustls::sign::SigningKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use webpki::ring as webpki;

use crate::error::{Error, Status};
use crate::memory;

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
    File::open(path)
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

/// TLS 1.2 and 1.3 with server authentication. A new one for each process: it
/// holds the cache of sessions, which is behind a lock.
pub(super) fn client_config(roots: &Arc<RootCertStore>) -> Result<Arc<ClientConfig>, Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::new(Status::Internal, format!("TLS cannot be set up: {e}")))?
        .with_root_certificates(Arc::clone(roots))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A failure of the TLS layer in the library's terms.
pub(super) fn failure(error: &rustls::Error) -> Error {
    match error {
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
