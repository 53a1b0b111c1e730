//! A throw-away TLS CA and the server certificates under it.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider, sign::any_ecdsa_type};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::Error;
use crate::hash::sha256;
use crate::keys::P256Key;

/// What a TLS server offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transport {
    /// HTTP/2 by ALPN, as well as HTTP/1.1.
    pub http2: bool,
    /// TLS 1.2 only; else 1.2 and 1.3.
    pub tls12_only: bool,
    /// Session tickets that any instance takes back; else those of a connection's own instance.
    pub shared_tickets: bool,
}

impl Default for Transport {
    /// As a real backend: HTTP/2 and HTTP/1.1, TLS 1.2 and 1.3.
    fn default() -> Self {
        Self {
            http2: true,
            tls12_only: false,
            shared_tickets: false,
        }
    }
}

/// The CA and the names that it certifies.
#[derive(Debug)]
pub(super) struct Authority {
    pub(super) ca_pem: String,
    ca: CertificateParams,
    key: P256Key,
    domains: Vec<String>,
    now: u64,
    transport: Transport,
    ticketer: Arc<dyn rustls::server::ProducesTickets>,
}

impl Authority {
    pub(super) fn new(domains: Vec<String>, now: u64, transport: Transport) -> Result<Self, Error> {
        let key = P256Key::generate()?;
        let mut ca = CertificateParams::default();
        ca.distinguished_name = name("fake-tee TLS CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid(&mut ca, now, 365);
        Ok(Self {
            ca_pem: ca.self_signed(key.certificate_key())?.pem(),
            ca,
            key,
            domains,
            now,
            transport,
            ticketer: Ticketer::new()?,
        })
    }

    /// A new key and its certificate.
    pub(super) fn issue(&self) -> Result<Identity, Error> {
        let key = P256Key::generate()?;
        let mut leaf = CertificateParams::new(self.domains.clone())?;
        leaf.distinguished_name = name(self.domains.first().map_or("", String::as_str));
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Python's ssl module insists on it since 3.13.
        leaf.use_authority_key_identifier_extension = true;
        valid(&mut leaf, self.now, 90);
        let leaf = leaf.signed_by(
            key.certificate_key(),
            &Issuer::from_params(&self.ca, self.key.certificate_key()),
        )?;
        self.identity(leaf.der().clone(), sha256(&key.spki_der()), &key)
    }

    /// The certificate of `owner` in front of a key that is not its own.
    pub(super) fn stolen(&self, owner: &Identity) -> Result<Identity, Error> {
        let key = P256Key::generate()?;
        self.identity(owner.certificate.clone(), owner.spki_sha256, &key)
    }

    fn identity(
        &self,
        certificate: CertificateDer<'static>,
        spki_sha256: [u8; 32],
        key: &P256Key,
    ) -> Result<Identity, Error> {
        let key = PrivatePkcs8KeyDer::from(key.certificate_key().serialize_der());
        // Not with_single_cert, which refuses a certificate that is another key's.
        let resolver = SingleCertAndKey::from(CertifiedKey::new(
            vec![certificate.clone()],
            any_ecdsa_type(&PrivateKeyDer::Pkcs8(key))?,
        ));
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = if self.transport.tls12_only {
            builder.with_protocol_versions(&[&rustls::version::TLS12])?
        } else {
            builder.with_safe_default_protocol_versions()?
        };
        let mut config = builder
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        if self.transport.http2 {
            config.alpn_protocols.push(b"h2".to_vec());
        }
        config.alpn_protocols.push(b"http/1.1".to_vec());
        if self.transport.shared_tickets {
            config.ticketer = self.ticketer.clone();
        }
        Ok(Identity {
            config: Arc::new(config),
            spki_sha256,
            certificate,
        })
    }
}

/// One TLS key at work.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) config: Arc<ServerConfig>,
    /// Of the certificate.
    pub(super) spki_sha256: [u8; 32],
    certificate: CertificateDer<'static>,
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
