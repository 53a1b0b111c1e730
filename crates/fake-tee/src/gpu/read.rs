//! What an NRAS reads of a GPU's evidence. It believes what it reads.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::field;

/// One GPU as its evidence names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuClaims {
    /// The serial number of its firmware's certificate, in decimal.
    pub ueid: String,
    /// Such as `570.172.08`.
    pub driver: String,
    /// Such as `96.00.CF.00.02`.
    pub vbios: String,
    /// The nonce that it signed.
    pub nonce: [u8; 32],
}

impl GpuClaims {
    /// Reads a PEM chain and SPDM evidence; `None` if they have another layout.
    #[must_use]
    pub fn read(pem: &[u8], evidence: &[u8]) -> Option<Self> {
        let leaf = CertificateDer::pem_slice_iter(pem).next()?.ok()?;
        let length = |at: usize| Some(usize::from(*evidence.get(at)?));
        // Request (37), response header (5), the record and its length (3).
        let record = length(42)? | length(43)? << 8 | length(44)? << 16;
        // The responder's nonce (32), then the fields and their length (2).
        let at = 45 + record + 32;
        let fields = length(at)? | length(at + 1)? << 8;
        let mut rest = evidence.get(at + 2..at + 2 + fields)?;
        let (mut driver, mut vbios) = (None, None);
        while let [k0, k1, l0, l1, tail @ ..] = rest {
            let size = usize::from(u16::from_le_bytes([*l0, *l1]));
            let data = tail.get(..size)?;
            match u16::from_le_bytes([*k0, *k1]) {
                field::DRIVER => driver = Some(text(data)),
                field::VBIOS => vbios = Some(version(data)?),
                _ => {}
            }
            rest = &tail[size..];
        }
        Some(Self {
            ueid: decimal(&serial(&leaf)?),
            driver: driver?,
            vbios: vbios?,
            nonce: evidence.get(4..36)?.try_into().ok()?,
        })
    }
}

fn text(data: &[u8]) -> String {
    let end = data.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&data[..end.unwrap_or(data.len())]).into_owned()
}

/// Four bytes backwards and a fifth.
fn version(data: &[u8]) -> Option<String> {
    let order = [3, 2, 1, 0, 4].map(|at| data.get(at).map(|byte| format!("{byte:02X}")));
    let parts: Option<Vec<_>> = order.into_iter().collect();
    Some(parts?.join("."))
}

/// `Certificate { TBSCertificate { [0] version, INTEGER serialNumber, … } … }`.
fn serial(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, outer, _) = value(certificate)?;
    let (_, tbs, _) = value(outer)?;
    let (_, _, rest) = value(tbs)?;
    match value(rest)? {
        (2, serial, _) => Some(serial.to_vec()),
        _ => None,
    }
}

/// Tag, content and what follows of the first DER value.
fn value(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [tag, first, rest @ ..] = der else {
        return None;
    };
    let (len, rest) = match first {
        0..0x80 => (usize::from(*first), rest),
        _ => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let len = digits
                .iter()
                .fold(0, |len, digit| len << 8 | usize::from(*digit));
            (len, rest)
        }
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((*tag, content, rest))
}

/// A big-endian number: the remainders of repeated division by ten.
fn decimal(number: &[u8]) -> String {
    let mut number = number.to_vec();
    let mut digits = Vec::new();
    while digits.is_empty() || number.iter().any(|byte| *byte != 0) {
        let mut remainder = 0_u16;
        for byte in &mut number {
            let dividend = remainder << 8 | u16::from(*byte);
            *byte = (dividend / 10) as u8;
            remainder = dividend % 10;
        }
        digits.push(char::from(b'0' + remainder as u8));
    }
    digits.into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn numbers_are_written_in_decimal() {
        assert_eq!(decimal(&[0]), "0");
        assert_eq!(decimal(&[1, 0]), "256");
        assert_eq!(decimal(&u128::MAX.to_be_bytes()), u128::MAX.to_string());
    }
}
