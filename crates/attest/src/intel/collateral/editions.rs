//! Which edition of Intel's documents is the standard one.
//!
//! Intel numbers the editions of TCB info and QE identity, in step for all platforms
//! (`tcbEvaluationDataNumber`), and serves several at once, each signed anew for
//! thirty days. `update=early` gives the newest, from the day on which the
//! vulnerabilities behind it are disclosed; `update=standard` the newest that was
//! disclosed about twelve months ago (Intel PCS API v4, TCB Info). A list, signed
//! with the key of these documents, says when each was disclosed
//! (`/tdx/certification/v4/tcbevaluationdatanumbers`, `tcbRecoveryEventDate`).
//!
//! The rule, counted from the day on which Intel issued the list, so that neither a
//! source nor this machine's clock can choose it:
//!
//! * STANDARD is the newest edition that was disclosed twelve months before;
//! * newer ones are EARLY;
//! * the OLDEST that is admitted is the newest that was disclosed twelve months and
//!   thirty days before. The thirty days allow an honest mirror with documents of the
//!   edition before, and "about twelve months" that are a little more.

use serde::{Deserialize, Serialize};
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;

use super::current;
use crate::base::identifiers::UnixTime;
use crate::base::json;
use crate::base::x509::{self, Key, P256};
use crate::intel::root::TdxRoot;
use crate::refusals::Rejected;

const DAY: u64 = 86_400;
const GRACE_SECONDS: u64 = 365 * DAY;
const DOCUMENT_LIFE_SECONDS: u64 = 30 * DAY;

/// Real lists have 1 KB, chains 2 KB.
const MAX_LIST_BYTES: usize = 64 << 10;

/// The list as a PCS serves it, kept byte for byte. Untrusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditionsParts {
    /// PEM chain: the TCB signer, then the root.
    pub issuer_chain: String,
    /// The JSON object under `tcbEvaluationDataNumbers`.
    pub list: String,
    /// r and s, 64 bytes.
    pub signature: Vec<u8>,
}

/// How the list is written down for a cache: the signature in hex.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    issuer_chain: String,
    list: String,
    signature: String,
}

impl EditionsParts {
    /// Reads what [`EditionsParts::to_json`] wrote.
    ///
    /// # Errors
    /// [`Rejected::CollateralFormat`], naming what is wrong.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Rejected> {
        let kept: Kept = json::parse_object(bytes, &json::COLLATERAL)
            .map_err(|error| unreadable(&error.to_string()))?;
        Ok(Self {
            issuer_chain: kept.issuer_chain,
            list: kept.list,
            signature: hex::decode(kept.signature)
                .map_err(|_| unreadable("its signature is not hex"))?,
        })
    }

    /// For a cache.
    #[must_use]
    pub fn to_json(&self) -> String {
        let kept = Kept {
            issuer_chain: self.issuer_chain.clone(),
            list: self.list.clone(),
            signature: hex::encode(&self.signature),
        };
        // Strings only: it cannot fail.
        serde_json::to_string(&kept).unwrap_or_default()
    }
}

/// Intel's list of editions: genuine under the root that it was verified under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Editions {
    root_sha256: [u8; 32],
    signer: Certificate,
    issued: UnixTime,
    next_update: UnixTime,
    /// Number and day of disclosure.
    disclosed: Vec<(u32, UnixTime)>,
}

impl Editions {
    /// Verifies a list under the trust root.
    ///
    /// # Errors
    /// [`Rejected::CollateralFormat`], [`Rejected::CollateralUntrusted`],
    /// [`Rejected::CollateralNotYetValid`] or [`Rejected::CollateralExpired`]. None of
    /// them refuses a machine: the appraisal then runs without the list.
    pub fn verify(parts: &EditionsParts, root: &TdxRoot, now: UnixTime) -> Result<Self, Rejected> {
        let longest = parts.list.len().max(parts.issuer_chain.len());
        if longest > MAX_LIST_BYTES {
            return Err(unreadable(&format!(
                "{longest} bytes, at most {MAX_LIST_BYTES} are read"
            )));
        }
        let chain =
            x509::pem_chain(parts.issuer_chain.as_bytes()).map_err(|error| unreadable(&error))?;
        let signer = chain
            .into_iter()
            .next()
            .filter(|signer| root.tdx_root_key().is_some_and(|root| root.signed(signer)));
        let Some(signer) = signer else {
            return Err(untrusted("the trust root did not certify its signer"));
        };
        let signed = Key::of(&signer, &P256)
            .is_ok_and(|key| key.verifies_fixed(parts.list.as_bytes(), &parts.signature));
        if !signed {
            return Err(untrusted("its signature"));
        }
        let (from, until) = x509::validity(&signer);
        current("the certificate of the list's signer", from, until, now)?;
        let editions = Self::read(&parts.list, root, signer)?;
        let Self {
            issued,
            next_update,
            ..
        } = editions;
        current("the list of editions", issued, next_update, now)?;
        Ok(editions)
    }

    fn read(list: &str, root: &TdxRoot, signer: Certificate) -> Result<Self, Rejected> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct List {
            id: String,
            version: u32,
            issue_date: String,
            next_update: String,
            tcb_eval_numbers: Vec<Edition>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Edition {
            tcb_evaluation_data_number: u32,
            tcb_recovery_event_date: String,
        }
        let list: List = json::parse_object(list.as_bytes(), &json::COLLATERAL)
            .map_err(|error| unreadable(&error.to_string()))?;
        // A list for SGX, or of a later version, is signed by the same key.
        if (list.id.as_str(), list.version) != ("TDX", 1) {
            return Err(unreadable(&format!(
                "it is of {} version {}, expected TDX 1",
                crate::base::text::quoted(&list.id),
                list.version
            )));
        }
        let date = |text: &str| {
            UnixTime::from_rfc3339(text).ok_or_else(|| unreadable("a date cannot be read"))
        };
        let disclosed = list.tcb_eval_numbers.iter().map(|edition| {
            let disclosed = date(&edition.tcb_recovery_event_date)?;
            Ok::<_, Rejected>((edition.tcb_evaluation_data_number, disclosed))
        });
        Ok(Self {
            root_sha256: root.tdx_root_sha256(),
            signer,
            issued: date(&list.issue_date)?,
            next_update: date(&list.next_update)?,
            disclosed: disclosed.collect::<Result<_, _>>()?,
        })
    }

    /// When Intel will issue the next list.
    #[must_use]
    pub fn next_update(&self) -> UnixTime {
        self.next_update
    }

    /// True if it may be used at this moment: under this root, not past its end, and
    /// its signer is not on the revocation list.
    pub(crate) fn holds(&self, root: &TdxRoot, root_crl: &CertificateList, now: UnixTime) -> bool {
        self.root_sha256 == root.tdx_root_sha256()
            && current("the list", self.issued, self.next_update, now).is_ok()
            && !x509::is_revoked(root_crl, &self.signer)
    }

    /// The oldest edition that is admitted; zero if all are.
    pub(crate) fn oldest(&self) -> u32 {
        self.newest_of(GRACE_SECONDS.saturating_add(DOCUMENT_LIFE_SECONDS))
            .unwrap_or_default()
    }

    /// Whether this edition is standard, early or superseded, for people.
    pub(crate) fn word(&self, edition: u32) -> &'static str {
        match self.newest_of(GRACE_SECONDS) {
            Some(standard) if edition < standard => "superseded",
            Some(standard) if edition == standard => "standard",
            Some(_) => "early",
            None => "not known",
        }
    }

    /// The newest edition that was disclosed this long before the list was issued.
    fn newest_of(&self, seconds: u64) -> Option<u32> {
        let old_enough = self
            .disclosed
            .iter()
            .filter(|(_, disclosed)| disclosed.plus(seconds) <= self.issued);
        old_enough.map(|(edition, _)| *edition).max()
    }
}

fn unreadable(detail: &str) -> Rejected {
    Rejected::CollateralFormat {
        detail: crate::base::text::shown(&format!("list of editions: {detail}")),
    }
}

fn untrusted(detail: &str) -> Rejected {
    Rejected::CollateralUntrusted {
        detail: format!("list of editions: {detail}"),
    }
}
