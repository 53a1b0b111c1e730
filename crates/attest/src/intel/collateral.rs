//! Intel's documents about a platform (collateral), and how new they have to be.

pub(crate) mod documents;
mod editions;
mod floors;

use dcap_qvl::QuoteCollateralV3;

pub use self::editions::{Editions, EditionsParts};
pub(crate) use self::floors::{Admitted, Seen};
pub use self::floors::{Floor, FloorKey, FloorSeen, Floors, Issued};
use crate::base::identifiers::{Fmspc, UnixTime};
use crate::base::{json, x509};
use crate::refusals::Rejected;

/// Real collateral has 34 KB; a PCS answer with every TCB level ever published
/// stays far below this.
pub const MAX_COLLATERAL_BYTES: usize = 1 << 20;

/// The slack for a slow clock, by which a document that Intel has just signed lies in
/// the future. Ends have no slack. The deployment log has the same slack.
const CLOCK_SLACK_SECONDS: u64 = 300;

/// The latest beginning of a validity that counts as begun.
pub(crate) fn begun_by(now: UnixTime) -> UnixTime {
    now.plus(CLOCK_SLACK_SECONDS)
}

/// Checks that `now` is from `from` until before `until`, the validity of `what`.
pub(crate) fn current(
    what: &'static str,
    from: UnixTime,
    until: UnixTime,
    now: UnixTime,
) -> Result<(), Rejected> {
    if begun_by(now) < from {
        return Err(Rejected::CollateralNotYetValid {
            what,
            from: from.to_string(),
            now: now.to_string(),
        });
    }
    if now >= until {
        return Err(Rejected::CollateralExpired {
            what,
            until: until.to_string(),
            now: now.to_string(),
        });
    }
    Ok(())
}

/// The certificate authority of a platform's PCK certificate, as the PCS names
/// it in `pckcrl?ca=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PckCa {
    /// Multi-package platforms; all TDX hosts.
    Platform,
    /// Single-package platforms.
    Processor,
}

impl PckCa {
    /// The PCS's name for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Processor => "processor",
        }
    }
}

/// What to ask a PCS for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CollateralKey {
    /// The platform family.
    pub fmspc: Fmspc,
    /// The issuer of its PCK certificate.
    pub ca: PckCa,
}

/// The parts of collateral as a PCS serves them: documents kept byte for byte,
/// since signatures cover bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollateralParts {
    /// PEM chain: the PCK CRL's issuer, then the root.
    pub pck_crl_issuer_chain: String,
    /// DER.
    pub root_ca_crl: Vec<u8>,
    /// DER.
    pub pck_crl: Vec<u8>,
    /// PEM chain: the TCB signer, then the root.
    pub tcb_info_issuer_chain: String,
    /// The JSON object under `tcbInfo`.
    pub tcb_info: String,
    /// r and s, 64 bytes.
    pub tcb_info_signature: Vec<u8>,
    /// PEM chain: the TCB signer, then the root.
    pub qe_identity_issuer_chain: String,
    /// The JSON object under `enclaveIdentity`.
    pub qe_identity: String,
    /// r and s, 64 bytes.
    pub qe_identity_signature: Vec<u8>,
}

/// Intel's documents about one platform family. Untrusted until they have been
/// verified together with a quote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collateral {
    pub(crate) documents: QuoteCollateralV3,
}

impl Collateral {
    /// Puts the parts together.
    ///
    /// # Errors
    /// [`Rejected::CollateralFormat`] if they exceed [`MAX_COLLATERAL_BYTES`].
    pub fn from_parts(parts: CollateralParts) -> Result<Self, Rejected> {
        Self::bounded(QuoteCollateralV3 {
            pck_crl_issuer_chain: parts.pck_crl_issuer_chain,
            root_ca_crl: parts.root_ca_crl,
            pck_crl: parts.pck_crl,
            tcb_info_issuer_chain: parts.tcb_info_issuer_chain,
            tcb_info: parts.tcb_info,
            tcb_info_signature: parts.tcb_info_signature,
            qe_identity_issuer_chain: parts.qe_identity_issuer_chain,
            qe_identity: parts.qe_identity,
            qe_identity_signature: parts.qe_identity_signature,
            pck_certificate_chain: None,
        })
    }

    fn bounded(documents: QuoteCollateralV3) -> Result<Self, Rejected> {
        let size = [
            documents.pck_crl_issuer_chain.len(),
            documents.root_ca_crl.len(),
            documents.pck_crl.len(),
            documents.tcb_info_issuer_chain.len(),
            documents.tcb_info.len(),
            documents.qe_identity_issuer_chain.len(),
            documents.qe_identity.len(),
        ]
        .into_iter()
        .fold(0_usize, usize::saturating_add);
        if size > MAX_COLLATERAL_BYTES {
            return Err(too_large(size));
        }
        Ok(Self { documents })
    }

    /// Reads dcap-qvl's `QuoteCollateralV3` JSON, with byte fields in hex. A
    /// `pck_certificate_chain` in it is left out: it would take the place of
    /// the chain that the quote carries.
    ///
    /// # Errors
    /// [`Rejected::CollateralFormat`], naming what is wrong.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Rejected> {
        if bytes.len() > MAX_COLLATERAL_BYTES.saturating_mul(2) {
            return Err(too_large(bytes.len()));
        }
        let mut documents: QuoteCollateralV3 = json::parse_object(bytes, &json::COLLATERAL)
            .map_err(|error| Rejected::CollateralFormat {
                detail: error.to_string(),
            })?;
        documents.pck_certificate_chain = None;
        Self::bounded(documents)
    }

    /// Writes what [`Collateral::from_json`] reads, for a cache.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Texts only: it cannot fail.
        serde_json::to_string(&self.documents).unwrap_or_default()
    }

    /// The earliest `nextUpdate` that the four documents state, to know how long they
    /// may be kept; `None` if they cannot be read. Nothing is verified here: the
    /// documents' author can state any time, also one in the past.
    #[must_use]
    pub fn next_update(&self) -> Option<UnixTime> {
        let documents = &self.documents;
        // RFC 5280 §5.1.2.5 demands a nextUpdate; a list without it sets no limit here.
        let of_crl = |der: &[u8]| {
            let list = x509::crl(der).ok()?.tbs_cert_list;
            Some(list.next_update.map_or(UnixTime(u64::MAX), x509::unix))
        };
        let dates = [
            documents::next_update(&documents.tcb_info)?,
            documents::next_update(&documents.qe_identity)?,
            of_crl(&documents.pck_crl)?,
            of_crl(&documents.root_ca_crl)?,
        ];
        dates.into_iter().min()
    }

    /// The latest moment at which one of the four documents says that it was issued: a
    /// clock that shows less is slow. As in [`Collateral::next_update`], nothing is
    /// verified.
    #[must_use]
    pub fn issued(&self) -> Option<UnixTime> {
        let documents = &self.documents;
        let of_crl = |der: &[u8]| Some(x509::unix(x509::crl(der).ok()?.tbs_cert_list.this_update));
        let dates = [
            documents::issued(&documents.tcb_info)?,
            documents::issued(&documents.qe_identity)?,
            of_crl(&documents.pck_crl)?,
            of_crl(&documents.root_ca_crl)?,
        ];
        dates.into_iter().max()
    }
}

fn too_large(size: usize) -> Rejected {
    Rejected::CollateralFormat {
        detail: format!("{size} bytes, at most {MAX_COLLATERAL_BYTES} are read"),
    }
}
