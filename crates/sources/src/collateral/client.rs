//! The requests to one source: the four documents of Intel's PCS API, version 4, in parallel.
//!
//! Intel publishes editions in two channels; the request names the standard one, since a
//! source's default may differ. Intel's service has no route for the root CRL: it lies, in DER,
//! at the address in the root certificate. A PCCS serves it itself, in hex.

use std::sync::Arc;

use attest::{Collateral, CollateralKey, CollateralParts, EditionsParts, Rejected, TrustAnchors};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::CrlDistributionPoints;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};

use crate::fetch::{FetchError, FetchUrl, Fetched as Answer, Fetcher};

/// One document. The largest real one has 30 KB.
const MAX_DOCUMENT_BYTES: usize = 512 << 10;
/// Real chains have 3 KB.
const MAX_CHAIN_BYTES: usize = 64 << 10;

const QE_IDENTITY: &str = "/tdx/certification/v4/qe/identity?update=standard";
const EDITIONS: &str = "/tdx/certification/v4/tcbevaluationdatanumbers";

/// Why a source gave no documents.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SourceError {
    #[error("{document}: {source}")]
    Fetch {
        document: &'static str,
        source: FetchError,
    },
    #[error("{document}: status {status}")]
    Status { document: &'static str, status: u16 },
    #[error("{document}: {detail}")]
    Format {
        document: &'static str,
        detail: String,
    },
    #[error("{0}")]
    Parts(Box<Rejected>),
}

/// Asks sources for documents.
#[derive(Debug)]
pub(super) struct Client {
    fetcher: Arc<Fetcher>,
    /// The address of the revocation list in the trust anchor. A source's own certificates
    /// cannot name another: they are not verified yet when the list is fetched.
    root_crl: Result<FetchUrl, String>,
}

impl Client {
    pub(super) fn new(fetcher: Arc<Fetcher>, trust_anchors: &TrustAnchors) -> Self {
        let root_crl = crl_address(trust_anchors.tdx_root_der())
            .ok_or_else(|| "the root certificate names no address for it".to_owned())
            .and_then(|address| address.parse());
        Self { fetcher, root_crl }
    }

    pub(super) async fn fetch(
        &self,
        base: &FetchUrl,
        key: CollateralKey,
    ) -> Result<Collateral, SourceError> {
        let tcb_path = format!(
            "/tdx/certification/v4/tcb?fmspc={}&update=standard",
            key.fmspc.to_string().to_uppercase()
        );
        let crl_path = format!(
            "/sgx/certification/v4/pckcrl?ca={}&encoding=der",
            key.ca.as_str()
        );
        let (tcb, qe, pck_crl, root_crl) = tokio::join!(
            self.document("TCB info", base.join(&tcb_path)),
            self.document("QE identity", base.join(QE_IDENTITY)),
            self.document("PCK CRL", base.join(&crl_path)),
            self.document("root CRL", base.join("/sgx/certification/v4/rootcacrl")),
        );
        let (tcb, qe, pck_crl) = (tcb?, qe?, pck_crl?);
        let (tcb_info, tcb_info_signature) = signed(&tcb.body, "TCB info", "tcbInfo")?;
        let (qe_identity, qe_identity_signature) =
            signed(&qe.body, "QE identity", "enclaveIdentity")?;
        let tcb_info_issuer_chain = chain(
            &tcb.headers,
            "TCB info",
            &["tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain"],
        )?;
        let root_ca_crl = match root_crl {
            Ok(answer) => der_or_hex(&answer.body, "root CRL")?,
            // Intel's own service has no such route.
            Err(SourceError::Status { status: 404, .. }) => self.root_crl_by_anchor(base).await?,
            Err(error) => return Err(error),
        };
        let parts = CollateralParts {
            pck_crl_issuer_chain: chain(
                &pck_crl.headers,
                "PCK CRL",
                &["sgx-pck-crl-issuer-chain"],
            )?,
            root_ca_crl,
            pck_crl: der_or_hex(&pck_crl.body, "PCK CRL")?,
            tcb_info_issuer_chain,
            tcb_info,
            tcb_info_signature,
            qe_identity_issuer_chain: chain(
                &qe.headers,
                "QE identity",
                &["sgx-enclave-identity-issuer-chain"],
            )?,
            qe_identity,
            qe_identity_signature,
        };
        Collateral::from_parts(parts).map_err(|rejected| SourceError::Parts(Box::new(rejected)))
    }

    /// The list of editions, and which one is standard. An older PCCS does not serve it.
    pub(super) async fn editions(&self, base: &FetchUrl) -> Result<EditionsParts, SourceError> {
        const DOCUMENT: &str = "list of editions";
        let answer = self.document(DOCUMENT, base.join(EDITIONS)).await?;
        let (list, signature) = signed(&answer.body, DOCUMENT, "tcbEvaluationDataNumbers")?;
        Ok(EditionsParts {
            issuer_chain: chain(
                &answer.headers,
                DOCUMENT,
                &["tcb-evaluation-data-numbers-issuer-chain"],
            )?,
            list,
            signature,
        })
    }

    /// Fails if the source does not serve the one document that is the same for all platforms.
    pub(super) async fn answers(&self, base: &FetchUrl) -> Result<(), SourceError> {
        let url = base.join(QE_IDENTITY);
        let answer = self.document("QE identity", url).await?;
        signed(&answer.body, "QE identity", "enclaveIdentity").map(|_| ())
    }

    pub(super) fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    async fn document(&self, document: &'static str, url: FetchUrl) -> Result<Answer, SourceError> {
        let answer = self
            .fetcher
            .get(&url, MAX_DOCUMENT_BYTES)
            .await
            .map_err(|source| SourceError::Fetch { document, source })?;
        if answer.status != StatusCode::OK {
            return Err(SourceError::Status {
                document,
                status: answer.status.as_u16(),
            });
        }
        Ok(answer)
    }

    /// Fetches the root CRL from the address that the trust anchor names.
    async fn root_crl_by_anchor(&self, base: &FetchUrl) -> Result<Vec<u8>, SourceError> {
        const DOCUMENT: &str = "root CRL";
        let refused = |detail: String| SourceError::Format {
            document: DOCUMENT,
            detail,
        };
        let url = self.root_crl.clone().map_err(refused)?;
        // A remote source must not cause requests to services on this machine.
        if url.is_loopback() && !base.is_loopback() {
            return Err(refused(format!("{url} is on loopback, the source is not")));
        }
        let answer = self.document(DOCUMENT, url).await?;
        der_or_hex(&answer.body, DOCUMENT)
    }
}

/// The object under `field`, byte for byte, and its signature.
fn signed(
    body: &[u8],
    document: &'static str,
    field: &str,
) -> Result<(String, Vec<u8>), SourceError> {
    #[derive(Deserialize)]
    struct Wire<'a> {
        #[serde(
            borrow,
            alias = "tcbInfo",
            alias = "tcbEvaluationDataNumbers",
            rename = "enclaveIdentity"
        )]
        object: &'a RawValue,
        signature: String,
    }
    let format = |detail: String| SourceError::Format { document, detail };
    let wire: Wire<'_> = serde_json::from_slice(body)
        .map_err(|error| format(format!("expected {field} and signature: {error}")))?;
    let signature =
        hex::decode(&wire.signature).map_err(|_| format("the signature is not hex".to_owned()))?;
    Ok((wire.object.get().to_owned(), signature))
}

/// A PEM chain from a header, URL-encoded as the API specifies.
fn chain(
    headers: &HeaderMap,
    document: &'static str,
    names: &[&str],
) -> Result<String, SourceError> {
    let format = |detail: String| SourceError::Format { document, detail };
    let value = names
        .iter()
        .find_map(|name| headers.get(*name))
        .ok_or_else(|| format(format!("the header {} is missing", names.join(" or "))))?;
    if value.len() > MAX_CHAIN_BYTES {
        return Err(format(format!(
            "the issuer chain has more than {MAX_CHAIN_BYTES} bytes"
        )));
    }
    percent_encoding::percent_decode(value.as_bytes())
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| format("the issuer chain is not text".to_owned()))
}

/// DER begins with a SEQUENCE (0x30), which cannot be all of a text in hex. A PCCS answers in
/// hex.
fn der_or_hex(body: &[u8], document: &'static str) -> Result<Vec<u8>, SourceError> {
    let is_hex = body.len() > 2 && body.trim_ascii().iter().all(u8::is_ascii_hexdigit);
    if !is_hex {
        return Ok(body.to_vec());
    }
    hex::decode(body.trim_ascii()).map_err(|_| SourceError::Format {
        document,
        detail: "an odd number of hex digits".to_owned(),
    })
}

/// The first URL in the CRL distribution points (RFC 5280 §4.2.1.13) of a root certificate.
fn crl_address(root_der: &[u8]) -> Option<String> {
    let root = x509_cert::Certificate::from_der(root_der).ok()?;
    let (_, points) = root
        .tbs_certificate()
        .get_extension::<CrlDistributionPoints>()
        .ok()??;
    points
        .0
        .iter()
        .find_map(|point| match &point.distribution_point {
            Some(DistributionPointName::FullName(names)) => {
                names.iter().find_map(|name| match name {
                    GeneralName::UniformResourceIdentifier(uri) => Some(uri.to_string()),
                    _ => None,
                })
            }
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_json_is_kept_byte_for_byte() {
        let body = br#"{ "tcbInfo" : {"b": 1,  "a":[ 2 ]} , "signature":"00ff"}"#;
        let (object, signature) = signed(body, "TCB info", "tcbInfo").unwrap();
        assert_eq!(object, r#"{"b": 1,  "a":[ 2 ]}"#);
        assert_eq!(signature, [0, 0xff]);
        assert!(signed(b"<html>", "TCB info", "tcbInfo").is_err());
    }

    #[test]
    fn intels_root_names_its_revocation_list() {
        assert_eq!(
            crl_address(TrustAnchors::intel().tdx_root_der()).unwrap(),
            "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
        );
    }

    #[tokio::test]
    async fn a_distant_source_leads_to_nothing_on_loopback() {
        use rcgen::{CertificateParams, CrlDistributionPoint, KeyPair};
        let mut params = CertificateParams::default();
        params.crl_distribution_points = vec![CrlDistributionPoint {
            uris: vec!["http://127.0.0.1:9/crl".to_owned()],
        }];
        let root = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let webpki = crate::tls::webpki(&[root.der().clone()]).unwrap();
        let clock = crate::clock::Clock::system();
        let routes = crate::net::Routes::default();
        let network = crate::net::Network::new(routes, webpki.clone()).unwrap();
        let fetcher = Fetcher::new(webpki, network, clock).unwrap();
        let anchors = TrustAnchors::danger_tdx_root(root.der().to_vec());
        let client = Client::new(Arc::new(fetcher), &anchors);
        let from = async |source: &str| {
            let source = source.parse().unwrap();
            client.root_crl_by_anchor(&source).await.unwrap_err()
        };
        assert!(matches!(
            from("https://pccs.example").await,
            SourceError::Format { .. }
        ));
        // A local source may name a local address. No service listens on the discard port.
        assert!(matches!(
            from("http://127.0.0.1:9").await,
            SourceError::Fetch { .. }
        ));
    }

    #[test]
    fn revocation_lists_come_in_der_or_hex() {
        assert_eq!(
            der_or_hex(b"3003020101\n", "root CRL").unwrap(),
            [0x30, 3, 2, 1, 1]
        );
        assert_eq!(
            der_or_hex(&[0x30, 3, 2, 1, 1], "root CRL").unwrap(),
            [0x30, 3, 2, 1, 1]
        );
        assert!(der_or_hex(b"300", "root CRL").is_err());
    }
}
