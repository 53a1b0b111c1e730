//! TDX quotes: layout here, verification in [`verified`].

mod diagnosis;
mod verified;

use dcap_qvl::config::{Config, CryptoProvider};
use dcap_qvl::intel;
use dcap_qvl::quote::{AuthData, Quote, Report as QuoteReport};
use dcap_qvl::signature::DerSigEncoder;
use dcap_qvl::x509::X509CertBackend;

pub use self::verified::VerifiedQuote;
pub(crate) use self::verified::{MeasuredTd, verify};

use crate::base::hash;
use crate::base::identifiers::Fmspc;
use crate::base::text::shown;
use crate::intel::collateral::{CollateralKey, PckCa};
use crate::refusals::Rejected;

/// dcap-qvl with the one crypto library that the project uses.
pub(crate) struct AwsLcConfig;

impl Config for AwsLcConfig {
    type X509 = X509CertBackend;
    type SigEncoder = DerSigEncoder;
    type Crypto = Self;
}

impl CryptoProvider for AwsLcConfig {
    fn sig_algo() -> &'static dyn rustls_pki_types::SignatureVerificationAlgorithm {
        webpki::aws_lc_rs::ECDSA_P256_SHA256
    }

    fn sha256(data: &[u8]) -> [u8; 32] {
        hash::sha256(&[data])
    }

    fn sha384(data: &[u8]) -> [u8; 48] {
        hash::sha384(&[data])
    }
}

/// `tee_type` of a TDX quote (Intel DCAP, quote header).
const TEE_TYPE_TDX: u32 = 0x81;

/// Certification data that holds the QE report and its own certification data
/// (Intel DCAP, quote version 4).
const QE_REPORT_CERTIFICATION: u16 = 6;

/// Certification data that holds the whole PCK chain.
const PCK_CERT_CHAIN: u16 = 5;

/// The compared fields of a TD report, as an unverified quote claims them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClaimedTd {
    pub(crate) attributes: [u8; 8],
    pub(crate) xfam: [u8; 8],
    pub(crate) mr_seam: [u8; 48],
    pub(crate) mrtd: [u8; 48],
    pub(crate) mr_config_id: [u8; 48],
    pub(crate) rtmr: [[u8; 48]; 4],
    pub(crate) report_data: [u8; 64],
    pub(crate) tee_tcb_svn: [u8; 16],
}

/// A quote with the right layout; not verified.
#[derive(Debug)]
pub(crate) struct ParsedQuote {
    bytes: Vec<u8>,
    quote: Quote,
    pub(crate) td: ClaimedTd,
}

impl ParsedQuote {
    /// # Errors
    /// [`Rejected::QuoteFormat`] or [`Rejected::QuoteNotTdx`].
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, Rejected> {
        let format = |detail: String| Rejected::QuoteFormat { detail };
        let quote = Quote::parse(&bytes).map_err(|error| format(shown(&error.to_string())))?;
        let header = &quote.header;
        if header.tee_type != TEE_TYPE_TDX {
            return Err(Rejected::QuoteNotTdx {
                tee_type: header.tee_type,
            });
        }
        if !matches!(header.version, 4 | 5) {
            return Err(format(format!("version {}", header.version)));
        }
        let td = td(&quote.report).ok_or_else(|| format("no TD report".to_owned()))?;
        let outer = match &quote.auth_data {
            AuthData::V4(data) => data.certification_data.cert_type,
            AuthData::V3(_) => 0,
        };
        if outer != QE_REPORT_CERTIFICATION {
            return Err(format(format!(
                "outer certification data of type {outer}, expected {QE_REPORT_CERTIFICATION}"
            )));
        }
        if quote.inner_cert_type() != PCK_CERT_CHAIN {
            return Err(format(format!(
                "certification data of type {}, expected {PCK_CERT_CHAIN}",
                quote.inner_cert_type()
            )));
        }
        padding_is_zero(&bytes, quote.signed_length())?;
        Ok(Self { bytes, quote, td })
    }

    pub(crate) fn collateral_key(&self) -> Result<CollateralKey, Rejected> {
        let format = |detail: String| Rejected::QuoteFormat { detail };
        let unreadable = |error: &dyn std::fmt::Display| format(shown(&error.to_string()));
        let chain = self.pck_chain().map_err(format)?;
        let leaf = chain
            .first()
            .ok_or_else(|| format("Empty PCK certificate chain".to_owned()))?;
        let pck = intel::parse_pck_extension_with::<AwsLcConfig>(leaf)
            .map_err(|error| unreadable(&error))?;
        Ok(CollateralKey {
            fmspc: Fmspc::from_bytes(pck.fmspc),
            ca: match intel::pck_ca_with::<AwsLcConfig>(leaf).map_err(|error| unreadable(&error))? {
                dcap_qvl::config::PckCa::Platform => PckCa::Platform,
                dcap_qvl::config::PckCa::Processor => PckCa::Processor,
            },
        })
    }

    /// The PCK chain inside, leaf first (DER).
    pub(crate) fn pck_chain(&self) -> Result<Vec<Vec<u8>>, String> {
        intel::extract_cert_chain(&self.quote).map_err(|error| shown(&error.to_string()))
    }

    /// The service TDs that a TD 1.5 is bound to; zeros if there are none.
    pub(crate) fn service_td(&self) -> [u8; 48] {
        self.quote
            .report
            .as_td15()
            .map_or([0; 48], |td| td.mr_service_td)
    }

    /// ISV SVN of the quoting enclave (bytes 258 and 259 of an enclave report), as
    /// claimed by an unverified quote.
    pub(crate) fn claimed_qe_svn(&self) -> u16 {
        match self.quote.qe_report().get(258..260) {
            Some(&[low, high]) => u16::from_le_bytes([low, high]),
            _ => 0,
        }
    }

    /// The versions that levels are matched with, as an unverified quote claims them.
    pub(crate) fn claimed_svns(&self) -> Option<([u8; 16], u16, Vec<[u8; 16]>)> {
        let chain = self.pck_chain().ok()?;
        let pck = intel::parse_pck_extension_with::<AwsLcConfig>(chain.first()?).ok()?;
        let mut tee = vec![self.td.tee_tcb_svn];
        tee.extend(self.quote.report.as_td15().map(|td| td.tee_tcb_svn2));
        Some((pck.cpu_svn, pck.pce_svn, tee))
    }
}

fn td(report: &QuoteReport) -> Option<ClaimedTd> {
    let td = report.as_td10()?;
    Some(ClaimedTd {
        attributes: td.td_attributes,
        xfam: td.xfam,
        mr_seam: td.mr_seam,
        mrtd: td.mr_td,
        mr_config_id: td.mr_config_id,
        rtmr: [td.rt_mr0, td.rt_mr1, td.rt_mr2, td.rt_mr3],
        report_data: td.report_data,
        tee_tcb_svn: td.tee_tcb_svn,
    })
}

/// The backend pads quotes with zeros (71 in the recordings). No signature would cover
/// other bytes there. None covers the certificates' PEM either, but that is needed.
fn padding_is_zero(bytes: &[u8], signed_length: usize) -> Result<(), Rejected> {
    let format = |detail: &str| Rejected::QuoteFormat {
        detail: detail.to_owned(),
    };
    let rest = bytes
        .get(signed_length..)
        .ok_or_else(|| format("truncated"))?;
    let (length, rest) = rest
        .split_first_chunk::<4>()
        .ok_or_else(|| format("truncated"))?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| format("too long"))?;
    let padding = rest.get(length..).ok_or_else(|| format("truncated"))?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(format("bytes after the signature data"));
    }
    Ok(())
}
