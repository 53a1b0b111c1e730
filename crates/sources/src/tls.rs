//! What all outgoing TLS connections have in common.
//!
//! TLS 1.3 and 1.2 with aws-lc-rs, X25519MLKEM768 offered first. No resumption: a resumed
//! session shows no certificate and signs nothing anew (RFC 8446 §2.2). No early data: it can
//! be replayed and is sent before the server has answered (RFC 8446 §8).

use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, ClientConfig, RootCertStore};

/// Why outgoing TLS cannot be set up. Occurs at the start only.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// A certificate of `--extra-ca` does not belong to a certificate authority.
    #[error("a certificate of --extra-ca cannot be used")]
    ExtraCa(#[source] rustls::Error),
    /// Neither the system nor `--extra-ca` names an authority.
    #[error(
        "no certificate authorities found on this system; install them or name some with --extra-ca"
    )]
    NoRoots,
    /// The verifier cannot be built.
    #[error("the certificate verifier cannot be set up")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
    /// The provider lacks a protocol version.
    #[error("the TLS library cannot be set up")]
    Library(#[from] rustls::Error),
}

/// The crypto library, named: rustls panics when it has to choose between two that are linked.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Verifies chain and host name by the system's authorities and `extra_ca`.
pub fn webpki(
    extra_ca: &[CertificateDer<'static>],
) -> Result<Arc<WebPkiServerVerifier>, TlsSetupError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!(%error, "a system certificate was not read");
    }
    roots.add_parsable_certificates(system.certs);
    for certificate in extra_ca {
        roots
            .add(certificate.clone())
            .map_err(TlsSetupError::ExtraCa)?;
    }
    if roots.is_empty() {
        return Err(TlsSetupError::NoRoots);
    }
    Ok(WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()?)
}

/// True if a certificate is not valid at the time that this machine's clock shows.
pub fn is_about_time(error: &rustls::Error) -> bool {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    matches!(
        error,
        rustls::Error::InvalidCertificate(
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }
        )
    )
}

/// A client configuration that lets `verifier` judge certificates.
pub fn client_config(verifier: Arc<dyn ServerCertVerifier>) -> Result<ClientConfig, TlsSetupError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
