//! Intel's collateral: which platforms are trustworthy, from Intel's PCS or a
//! cache of it (a PCCS). Format: Intel SGX and TDX Provisioning Certification
//! Service API, version 4.
//!
//! Nothing here is trusted: signatures and validity are judged together with a
//! quote, by `attest`. So the signed JSON is kept byte for byte.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attest::{Collateral, CollateralKey, CollateralParts, Rejected, TrustAnchors};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Mutex;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::CrlDistributionPoints;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};

use crate::fetch::{FetchError, FetchUrl, Fetched as Answer, Fetcher};

/// One document; the largest real one has 30 KB.
const MAX_DOCUMENT_BYTES: usize = 512 << 10;
/// Real chains have 3 KB.
const MAX_CHAIN_BYTES: usize = 64 << 10;
/// Collateral is valid for 30 days; a day bounds how long a newly published
/// weakness stays unknown.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a failure is answered for, so that those who waited for one attempt
/// do not repeat it one after another.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// Families of machines behind one set of domains: a handful.
const MAX_KEYS: usize = 64;

/// Why one source gave none.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum SourceError {
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

/// No source gave any.
#[derive(Debug, Clone)]
pub(crate) struct CollateralError {
    pub(crate) failures: Vec<(String, SourceError)>,
}

impl fmt::Display for CollateralError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no source gave Intel's collateral")?;
        for (index, (source, error)) in self.failures.iter().enumerate() {
            let separator = if index == 0 { ": " } else { "; " };
            write!(f, "{separator}{source}: {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for CollateralError {}

/// Collateral and where it came from.
#[derive(Debug)]
pub(crate) struct Fetched {
    collateral: Collateral,
    source: FetchUrl,
    index: usize,
    at: Instant,
}

impl Fetched {
    pub(crate) fn collateral(&self) -> &Collateral {
        &self.collateral
    }

    pub(crate) fn source(&self) -> &FetchUrl {
        &self.source
    }

    /// Fetched a moment ago: its source would give the same again.
    fn is_new(&self) -> bool {
        self.at.elapsed() < Duration::from_secs(60)
    }
}

type Slot = Arc<Mutex<State>>;

#[derive(Debug, Default)]
struct State {
    good: Option<Arc<Fetched>>,
    failed: Option<(CollateralError, Instant)>,
}

/// The sources and what they gave.
#[derive(Debug)]
pub(crate) struct Collaterals {
    fetcher: Arc<Fetcher>,
    sources: Vec<FetchUrl>,
    /// Where the trust anchor says its revocation list is. What a source sends
    /// has no say: nothing is verified yet when the list is fetched.
    root_crl: Result<FetchUrl, String>,
    slots: std::sync::Mutex<HashMap<CollateralKey, Slot>>,
}

impl Collaterals {
    pub(crate) fn new(
        fetcher: Arc<Fetcher>,
        sources: Vec<FetchUrl>,
        trust_anchors: &TrustAnchors,
    ) -> Self {
        let root_crl = crl_address(trust_anchors.tdx_root_der())
            .ok_or_else(|| "the root certificate names no address for it".to_owned())
            .and_then(|address| address.parse());
        Self {
            fetcher,
            sources,
            root_crl,
            slots: std::sync::Mutex::default(),
        }
    }

    /// All of them, for people.
    pub(crate) fn sources(&self) -> String {
        let sources: Vec<_> = self.sources.iter().map(ToString::to_string).collect();
        sources.join(", ")
    }

    /// Cached, or fetched from the first source that answers. One fetch a key
    /// at a time; who waits finds what it brought, or why it failed.
    pub(crate) async fn get(&self, key: CollateralKey) -> Result<Arc<Fetched>, CollateralError> {
        let slot = self.slot(key);
        let mut slot = slot.lock().await;
        if let Some(cached) = &slot.good
            && cached.at.elapsed() < MAX_AGE
        {
            return Ok(Arc::clone(cached));
        }
        if let Some((error, since)) = &slot.failed
            && since.elapsed() < RETRY_PAUSE
        {
            return Err(error.clone());
        }
        let order: Vec<usize> = (0..self.sources.len()).collect();
        match self.fetch(key, &order).await {
            Ok(fetched) => {
                *slot = State {
                    good: Some(Arc::clone(&fetched)),
                    failed: None,
                };
                Ok(fetched)
            }
            Err(error) => {
                slot.failed = Some((error.clone(), Instant::now()));
                Err(error)
            }
        }
    }

    /// Other collateral than `bad`, which an appraisal blamed: first from the
    /// sources after its own; from its own if that one's was kept for long.
    pub(crate) async fn instead_of(
        &self,
        key: CollateralKey,
        bad: &Fetched,
    ) -> Result<Arc<Fetched>, CollateralError> {
        let slot = self.slot(key);
        let mut slot = slot.lock().await;
        match &slot.good {
            // Somebody else was faster.
            Some(current) if current.at > bad.at => return Ok(Arc::clone(current)),
            _ => slot.good = None,
        }
        let count = self.sources.len();
        let others = (1..count).map(|step| (bad.index + step) % count);
        let own = (!bad.is_new()).then_some(bad.index);
        let order: Vec<usize> = own.into_iter().chain(others).collect();
        let fetched = self.fetch(key, &order).await?;
        slot.good = Some(Arc::clone(&fetched));
        Ok(fetched)
    }

    fn slot(&self, key: CollateralKey) -> Slot {
        let mut slots = self
            .slots
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if slots.len() >= MAX_KEYS && !slots.contains_key(&key) {
            slots.clear();
        }
        Arc::clone(slots.entry(key).or_default())
    }

    async fn fetch(
        &self,
        key: CollateralKey,
        order: &[usize],
    ) -> Result<Arc<Fetched>, CollateralError> {
        let mut failures = Vec::new();
        for &index in order {
            let Some(source) = self.sources.get(index) else {
                continue;
            };
            match self.fetch_from(source, key).await {
                Ok(collateral) => {
                    return Ok(Arc::new(Fetched {
                        collateral,
                        source: source.clone(),
                        index,
                        at: Instant::now(),
                    }));
                }
                Err(error) => {
                    tracing::warn!(%source, %error, "collateral not fetched");
                    failures.push((source.to_string(), error));
                }
            }
        }
        Err(CollateralError { failures })
    }

    async fn fetch_from(
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
            self.document(
                "QE identity",
                base.join("/tdx/certification/v4/qe/identity?update=standard")
            ),
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

    /// From the address that the trust anchor itself names.
    async fn root_crl_by_anchor(&self, base: &FetchUrl) -> Result<Vec<u8>, SourceError> {
        const DOCUMENT: &str = "root CRL";
        let refused = |detail: String| SourceError::Format {
            document: DOCUMENT,
            detail,
        };
        let url = self.root_crl.clone().map_err(refused)?;
        // A distant source is no reason to knock on this machine's own doors.
        if url.is_loopback() && !base.is_loopback() {
            return Err(refused(format!("{url} is on loopback, the source is not")));
        }
        let answer = self.document(DOCUMENT, url).await?;
        der_or_hex(&answer.body, DOCUMENT)
    }
}

/// The object under `field`, byte for byte, and the signature over it.
fn signed(
    body: &[u8],
    document: &'static str,
    field: &str,
) -> Result<(String, Vec<u8>), SourceError> {
    #[derive(Deserialize)]
    struct Wire<'a> {
        #[serde(borrow, alias = "tcbInfo", rename = "enclaveIdentity")]
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

/// A PEM chain out of a header, URL-encoded as the API specifies.
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

/// DER begins with a SEQUENCE (0x30, which is no complete hex text here); a
/// PCCS answers in hex.
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

/// The first URL in the CRL distribution points (RFC 5280 §4.2.1.13) of a
/// root certificate.
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
        let fetcher = Fetcher::new(webpki, crate::net::ConnectMap::default()).unwrap();
        let anchors = TrustAnchors::danger_tdx_root(root.der().to_vec());
        let collaterals = Collaterals::new(Arc::new(fetcher), Vec::new(), &anchors);
        let from = async |source: &str| {
            let source = source.parse().unwrap();
            collaterals.root_crl_by_anchor(&source).await.unwrap_err()
        };
        assert!(matches!(
            from("https://pccs.example").await,
            SourceError::Format { .. }
        ));
        // From here it is tried; nobody listens on the discard port.
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
