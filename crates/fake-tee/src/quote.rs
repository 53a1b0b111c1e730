//! DCAP quotes, encoded by hand: TDX v4 and v5, SGX v3 and v4.
//!
//! Layouts: Intel TDX DCAP Quoting Library API, appendix A.3 (v4) and A.4 (v5);
//! Intel SGX ECDSA QuoteLibReference, appendix A.4 (v3). All integers are little-endian.

use crate::Error;
use crate::encode::pem_chain;
use crate::hash::{label, label256, label384, sha256};
use crate::keys::P256Key;

/// Which quote structure is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum QuoteFormat {
    /// Version 4 with a TDX 1.0 report: what every recorded backend sends.
    #[default]
    TdxV4,
    /// Version 5 with a TDX 1.0 report.
    TdxV5Td10,
    /// Version 5 with a TDX 1.5 report.
    TdxV5Td15,
    /// Version 3 with an SGX enclave report, never a TD.
    SgxV3,
    /// Version 4 with an SGX enclave report.
    SgxV4,
}

impl QuoteFormat {
    fn is_tdx(self) -> bool {
        !matches!(self, Self::SgxV3 | Self::SgxV4)
    }

    fn version(self) -> u16 {
        match self {
            Self::SgxV3 => 3,
            Self::TdxV4 | Self::SgxV4 => 4,
            Self::TdxV5Td10 | Self::TdxV5Td15 => 5,
        }
    }
}

/// How quotes look, apart from the reports in them.
#[derive(Debug, Clone)]
pub struct QuoteShape {
    /// Structure.
    pub format: QuoteFormat,
    /// Attestation key type; 2 = ECDSA P-256.
    pub attestation_key_type: u16,
    /// QE SVN in the header (v3) or zero.
    pub qe_svn: u16,
    /// PCE SVN in the header (v3) or zero.
    pub pce_svn: u16,
    /// Intel's quoting enclave.
    pub qe_vendor_id: [u8; 16],
    /// Header user data.
    pub user_data: [u8; 20],
    /// Authentication data of the QE; verifiers want 32 bytes.
    pub qe_auth_data: Vec<u8>,
    /// Certification data type of the PCK chain; 5 = PEM chain.
    pub certification_type: u16,
    /// Bytes after the quote. Recorded quotes carry 71 zero bytes there.
    pub trailing: Vec<u8>,
}

impl QuoteShape {
    pub(crate) fn new() -> Self {
        Self {
            format: QuoteFormat::default(),
            attestation_key_type: 2,
            qe_svn: 0,
            pce_svn: 0,
            qe_vendor_id: [
                0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f,
                0x06, 0x07,
            ],
            user_data: label("quote user data"),
            qe_auth_data: (0..32).collect(),
            certification_type: 5,
            trailing: vec![0; 71],
        }
    }
}

/// A TD report body; the last two fields exist in TDX 1.5 only.
#[derive(Debug, Clone)]
#[expect(
    missing_docs,
    reason = "the names are those of the TDX module specification"
)]
pub struct TdReport {
    pub tee_tcb_svn: [u8; 16],
    pub mr_seam: [u8; 48],
    pub mr_signer_seam: [u8; 48],
    pub seam_attributes: [u8; 8],
    pub td_attributes: [u8; 8],
    pub xfam: [u8; 8],
    pub mr_td: [u8; 48],
    pub mr_config_id: [u8; 48],
    pub mr_owner: [u8; 48],
    pub mr_owner_config: [u8; 48],
    pub rt_mr: [[u8; 48]; 4],
    pub report_data: [u8; 64],
    pub tee_tcb_svn2: [u8; 16],
    pub mr_service_td: [u8; 48],
}

impl TdReport {
    pub(crate) fn new() -> Self {
        let tee_tcb_svn = [6, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        Self {
            tee_tcb_svn,
            mr_seam: label384("TDX module"),
            mr_signer_seam: [0; 48],
            seam_attributes: [0; 8],
            // SEPT_VE_DISABLE and nothing else.
            td_attributes: [0, 0, 0, 0x10, 0, 0, 0, 0],
            xfam: [0xe7, 0x02, 0x06, 0, 0, 0, 0, 0],
            mr_td: label384("firmware"),
            mr_config_id: [0; 48],
            mr_owner: [0; 48],
            mr_owner_config: [0; 48],
            rt_mr: [[0; 48]; 4],
            report_data: [0; 64],
            tee_tcb_svn2: tee_tcb_svn,
            mr_service_td: [0; 48],
        }
    }

    /// 584 bytes, or 648 with the fields of TDX 1.5.
    pub fn encode(&self, tdx15: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(648);
        out.extend(self.tee_tcb_svn);
        out.extend(self.mr_seam);
        out.extend(self.mr_signer_seam);
        out.extend(self.seam_attributes);
        out.extend(self.td_attributes);
        out.extend(self.xfam);
        out.extend(self.mr_td);
        out.extend(self.mr_config_id);
        out.extend(self.mr_owner);
        out.extend(self.mr_owner_config);
        out.extend(self.rt_mr.concat());
        out.extend(self.report_data);
        if tdx15 {
            out.extend(self.tee_tcb_svn2);
            out.extend(self.mr_service_td);
        }
        out
    }
}

/// An SGX enclave report: the quoting enclave's, or the subject of an SGX quote.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names are those of the SGX report body")]
pub struct EnclaveReport {
    pub cpu_svn: [u8; 16],
    pub misc_select: u32,
    pub attributes: [u8; 16],
    pub mr_enclave: [u8; 32],
    pub mr_signer: [u8; 32],
    pub isv_prod_id: u16,
    pub isv_svn: u16,
    pub report_data: [u8; 64],
}

impl EnclaveReport {
    /// The TD quoting enclave as [`QeIdentity`](crate::collateral::QeIdentity) describes it.
    pub(crate) fn quoting_enclave(cpu_svn: [u8; 16]) -> Self {
        let mut attributes = [0; 16];
        attributes[0] = 0x11;
        attributes[8] = 0xe7;
        Self {
            cpu_svn,
            misc_select: 0,
            attributes,
            mr_enclave: label256("quoting enclave"),
            mr_signer: label256("QE signer"),
            isv_prod_id: 2,
            isv_svn: 4,
            report_data: [0; 64],
        }
    }

    /// 384 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(384);
        out.extend(self.cpu_svn);
        out.extend(self.misc_select.to_le_bytes());
        out.extend([0; 28]);
        out.extend(self.attributes);
        out.extend(self.mr_enclave);
        out.extend([0; 32]);
        out.extend(self.mr_signer);
        out.extend([0; 96]);
        out.extend(self.isv_prod_id.to_le_bytes());
        out.extend(self.isv_svn.to_le_bytes());
        out.extend([0; 60]);
        out.extend(self.report_data);
        out
    }
}

/// What the attestation key signs, in bytes.
#[derive(Debug, Clone)]
pub struct UnsignedQuote {
    /// 48 bytes.
    pub header: Vec<u8>,
    /// The report body; for v5 with its type and size in front.
    pub body: Vec<u8>,
}

/// All parts of a quote, after all signatures.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names are those of the quote structure")]
pub struct SignedQuote {
    pub header: Vec<u8>,
    pub body: Vec<u8>,
    pub signature: [u8; 64],
    pub attestation_key: [u8; 64],
    pub qe_report: Vec<u8>,
    pub qe_report_signature: [u8; 64],
    pub qe_auth_data: Vec<u8>,
    /// Outer certification data type, 6 (QE report); not written in v3.
    pub outer_certification_type: u16,
    pub certification_type: u16,
    /// PCK certificate, platform CA, root, in DER.
    pub pck_chain: Vec<Vec<u8>>,
    /// Replaces the PEM chain when present.
    pub certification_data: Option<Vec<u8>>,
    pub trailing: Vec<u8>,
    nested: bool,
}

impl SignedQuote {
    /// The quote's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let chain = self.certification_data.clone().unwrap_or_else(|| {
            // Recorded quotes end the chain with a zero byte.
            let mut pem = pem_chain(&self.pck_chain).into_bytes();
            pem.push(0);
            pem
        });
        let mut qe = self.qe_report.clone();
        qe.extend(self.qe_report_signature);
        qe.extend((self.qe_auth_data.len() as u16).to_le_bytes());
        qe.extend(&self.qe_auth_data);
        qe.extend(self.certification_type.to_le_bytes());
        qe.extend((chain.len() as u32).to_le_bytes());
        qe.extend(chain);

        let mut auth = self.signature.to_vec();
        auth.extend(self.attestation_key);
        if self.nested {
            auth.extend(self.outer_certification_type.to_le_bytes());
            auth.extend((qe.len() as u32).to_le_bytes());
        }
        auth.extend(qe);

        let mut out = self.header.clone();
        out.extend(&self.body);
        out.extend((auth.len() as u32).to_le_bytes());
        out.extend(auth);
        out.extend(&self.trailing);
        out
    }
}

/// The keys of a quote.
pub(crate) struct QuoteKeys<'a> {
    /// The one named in the quote.
    pub(crate) attestation: &'a P256Key,
    /// The one that signs; another one for a tampering.
    pub(crate) signer: &'a P256Key,
    pub(crate) pck: &'a P256Key,
}

/// Header and body of a quote over `td` (or, for the SGX formats, over an
/// enclave that claims the same report data).
pub(crate) fn unsigned(shape: &QuoteShape, td: &TdReport, cpu_svn: [u8; 16]) -> UnsignedQuote {
    let format = shape.format;
    let mut header = Vec::with_capacity(48);
    header.extend(format.version().to_le_bytes());
    header.extend(shape.attestation_key_type.to_le_bytes());
    header.extend(if format.is_tdx() { 0x81u32 } else { 0 }.to_le_bytes());
    header.extend(shape.qe_svn.to_le_bytes());
    header.extend(shape.pce_svn.to_le_bytes());
    header.extend(shape.qe_vendor_id);
    header.extend(shape.user_data);

    let typed = |kind: u16, body: Vec<u8>| {
        let mut out = kind.to_le_bytes().to_vec();
        out.extend((body.len() as u32).to_le_bytes());
        out.extend(body);
        out
    };
    let body = match format {
        QuoteFormat::TdxV4 => td.encode(false),
        QuoteFormat::TdxV5Td10 => typed(2, td.encode(false)),
        QuoteFormat::TdxV5Td15 => typed(3, td.encode(true)),
        QuoteFormat::SgxV3 | QuoteFormat::SgxV4 => {
            let mut enclave = EnclaveReport::quoting_enclave(cpu_svn);
            enclave.mr_enclave = label256("an application enclave");
            enclave.mr_signer = label256("an application signer");
            enclave.report_data = td.report_data;
            enclave.encode()
        }
    };
    UnsignedQuote { header, body }
}

/// Signs both reports. `change_qe` runs before the PCK signs the QE's report.
pub(crate) fn sign(
    shape: &QuoteShape,
    unsigned: UnsignedQuote,
    qe: &EnclaveReport,
    change_qe: impl Fn(&mut EnclaveReport),
    keys: &QuoteKeys<'_>,
    pck_chain: Vec<Vec<u8>>,
) -> Result<SignedQuote, Error> {
    let attestation_key = keys.attestation.public_point()?;
    let mut qe = qe.clone();
    let bound = sha256(&[&attestation_key[..], &shape.qe_auth_data].concat());
    qe.report_data[..32].copy_from_slice(&bound);
    change_qe(&mut qe);
    let qe_report = qe.encode();
    let signed = [&unsigned.header[..], &unsigned.body].concat();
    Ok(SignedQuote {
        signature: keys.signer.sign_fixed(&signed)?,
        qe_report_signature: keys.pck.sign_fixed(&qe_report)?,
        header: unsigned.header,
        body: unsigned.body,
        attestation_key,
        qe_report,
        qe_auth_data: shape.qe_auth_data.clone(),
        outer_certification_type: 6,
        certification_type: shape.certification_type,
        pck_chain,
        certification_data: None,
        trailing: shape.trailing.clone(),
        nested: shape.format != QuoteFormat::SgxV3,
    })
}
