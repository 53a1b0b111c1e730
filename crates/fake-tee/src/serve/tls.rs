//! A throw-away TLS CA and one server certificate under it.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::Error;
use crate::keys::P256Key;

/// The backend's TLS identity.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) ca_pem: String,
    pub(super) spki_der: Vec<u8>,
    chain: Vec<CertificateDer<'static>>,
    key: P256Key,
}

impl Identity {
    pub(super) fn new(domain: &str, now: u64) -> Result<Self, Error> {
        let ca_key = P256Key::generate()?;
        let mut ca = CertificateParams::default();
        ca.distinguished_name = name("fake-tee TLS CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid(&mut ca, now, 365);
        let ca_certificate = ca.self_signed(ca_key.certificate_key())?;

        let key = P256Key::generate()?;
        let mut leaf = CertificateParams::new(vec![domain.to_owned()])?;
        leaf.distinguished_name = name(domain);
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Python's ssl module insists on it since 3.13.
        leaf.use_authority_key_identifier_extension = true;
        valid(&mut leaf, now, 90);
        let leaf_certificate = leaf.signed_by(
            key.certificate_key(),
            &Issuer::from_params(&ca, ca_key.certificate_key()),
        )?;
        Ok(Self {
            ca_pem: ca_certificate.pem(),
            spki_der: key.spki_der(),
            chain: vec![leaf_certificate.der().clone()],
            key,
        })
    }

    /// HTTP/1.1 only; TLS 1.2 and 1.3; session tickets as rustls gives them.
    pub(super) fn server_config(&self) -> Result<Arc<ServerConfig>, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivatePkcs8KeyDer::from(self.key.certificate_key().serialize_der());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), PrivateKeyDer::Pkcs8(key))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn valid(params: &mut CertificateParams, now: u64, days: u64) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now.saturating_sub(86_400));
    params.not_after = epoch + Duration::from_secs(now + days * 86_400);
}
