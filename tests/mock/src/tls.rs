//! A certificate authority that lives as long as the mock service, and certificates good and bad.

use std::io;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

const HERE: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const ELSEWHERE: [&str; 1] = ["wrong.example"];

/// The authority's certificate and the configurations of the TLS listeners.
pub(crate) struct Certificates {
    pub(crate) ca_pem: String,
    pub(crate) good: Arc<ServerConfig>,
    pub(crate) self_signed: Arc<ServerConfig>,
    pub(crate) expired: Arc<ServerConfig>,
    pub(crate) wrong_name: Arc<ServerConfig>,
}

pub(crate) fn certificates() -> io::Result<Certificates> {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "dbss-mock test authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - Duration::days(60);
    params.not_after = now + Duration::days(365);
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let ca = params.self_signed(&key).map_err(io::Error::other)?;
    let issuer = Issuer::new(params, key);

    let signed = |names: &[&str], from: OffsetDateTime, to: OffsetDateTime| {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let leaf = leaf(names, from, to)?
            .signed_by(&key, &issuer)
            .map_err(io::Error::other)?;
        config(leaf.der().clone(), &key)
    };
    let (past, future) = (now - Duration::days(1), now + Duration::days(365));
    let own_key = KeyPair::generate().map_err(io::Error::other)?;
    let own = leaf(&HERE, past, future)?
        .self_signed(&own_key)
        .map_err(io::Error::other)?;
    Ok(Certificates {
        ca_pem: ca.pem(),
        good: signed(&HERE, past, future)?,
        self_signed: config(own.der().clone(), &own_key)?,
        expired: signed(&HERE, now - Duration::days(30), past)?,
        wrong_name: signed(&ELSEWHERE, past, future)?,
    })
}

fn leaf(names: &[&str], from: OffsetDateTime, to: OffsetDateTime) -> io::Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names.clone()).map_err(io::Error::other)?;
    params
        .distinguished_name
        .push(DnType::CommonName, names[0].as_str());
    params.not_before = from;
    params.not_after = to;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn config(leaf: CertificateDer<'static>, key: &KeyPair) -> io::Result<Arc<ServerConfig>> {
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![leaf], key)
        .map_err(io::Error::other)?;
    Ok(Arc::new(config))
}
