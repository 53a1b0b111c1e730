//! The statements of a GPU beside its measurements: NVIDIA's "opaque data", a list of
//! fields with type and size, under the same signature.

use std::collections::{BTreeMap, BTreeSet};

use super::reader::Reader;
use super::report::{Pdi, Stated};
use crate::base::text::quoted;

const DRIVER: u16 = 3;
const VBIOS: u16 = 6;
const NVDEC0: u16 = 11;
const CHIP_SKU: u16 = 15;
const PROJECT: u16 = 17;
const PROJECT_SKU: u16 = 18;
const FWID: u16 = 20;
const PROTECTED_PCIE: u16 = 21;
const SWITCHES: u16 = 22;
const FEATURE: u16 = 36;

/// The byte of a setting that is on; 0x55 means off.
const ON: u8 = 0xaa;
const OFF: u8 = 0x55;

/// Versions and part numbers have at most 11 bytes in all evidence seen.
const MAX_TEXT_BYTES: usize = 64;

/// Why a field may be absent from genuine evidence.
const OLDER: &str = "this driver does not report it";

/// The fields that are understood. Of the others only the size was checked.
#[derive(Debug)]
pub(super) struct Opaque {
    pub(super) driver: String,
    pub(super) vbios: String,
    pub(super) project: Stated<String>,
    pub(super) project_sku: Stated<String>,
    pub(super) chip_sku: Stated<String>,
    pub(super) fwid: Stated<[u8; 48]>,
    pub(super) nvdec0: Stated<bool>,
    pub(super) protected_pcie: Stated<bool>,
    pub(super) switches: Stated<BTreeSet<Pdi>>,
    pub(super) feature: Stated<u16>,
}

impl Opaque {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let fields = fields(bytes)?;
        let text_of = |kind: u16, name: &str| -> Result<Stated<String>, String> {
            field(&fields, kind, text).ok_or_else(|| format!("{name} is not a short text"))
        };
        let switched = |kind: u16, name: &str| -> Result<Stated<bool>, String> {
            field(&fields, kind, |bytes| match bytes {
                [ON] => Some(true),
                [OFF] => Some(false),
                _ => None,
            })
            .ok_or_else(|| format!("{name} is neither on (aa) nor off (55)"))
        };
        let Stated::Value(driver) = text_of(DRIVER, "the driver's version")? else {
            return Err("no version of the driver".to_owned());
        };
        if !driver.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(format!("the driver's version is {}", quoted(&driver)));
        }
        let Stated::Value(vbios) =
            field(&fields, VBIOS, vbios).ok_or("the VBIOS version has another size")?
        else {
            return Err("no version of the VBIOS".to_owned());
        };
        Ok(Self {
            driver,
            vbios,
            project: text_of(PROJECT, "the project")?,
            project_sku: text_of(PROJECT_SKU, "the project's SKU")?,
            chip_sku: text_of(CHIP_SKU, "the chip's SKU")?,
            fwid: field(&fields, FWID, |bytes| bytes.try_into().ok())
                .ok_or("the FWID is not a SHA-384")?,
            nvdec0: switched(NVDEC0, "NVDEC0")?,
            protected_pcie: switched(PROTECTED_PCIE, "Protected PCIe")?,
            switches: field(&fields, SWITCHES, switches)
                .ok_or("the list of switches has another size")?,
            feature: field(&fields, FEATURE, |bytes| {
                bytes.try_into().ok().map(u16::from_le_bytes)
            })
            .ok_or("the feature flag has another size")?,
        })
    }
}

/// Type, size, data, up to the last byte. No type twice, so that no two readers use
/// different ones.
fn fields(bytes: &[u8]) -> Result<BTreeMap<u16, &[u8]>, String> {
    let mut reader = Reader::new(bytes);
    let mut fields = BTreeMap::new();
    while !reader.is_empty() {
        let (kind, data) = next(&mut reader).ok_or("a field leads outside")?;
        if fields.insert(kind, data).is_some() {
            return Err(format!("two fields of type {kind}"));
        }
    }
    Ok(fields)
}

fn next<'a>(reader: &mut Reader<'a>) -> Option<(u16, &'a [u8])> {
    let kind = reader.u16()?;
    let len = reader.u16()?;
    Some((kind, reader.bytes(usize::from(len))?))
}

/// `None` if the field is there and cannot be read.
fn field<T>(
    fields: &BTreeMap<u16, &[u8]>,
    kind: u16,
    read: impl FnOnce(&[u8]) -> Option<T>,
) -> Option<Stated<T>> {
    match fields.get(&kind) {
        None => Some(Stated::Absent(OLDER)),
        Some(bytes) => read(bytes).map(Stated::Value),
    }
}

/// Printable ASCII, padded with NUL at its end.
fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end_matches('\0');
    let fits = (1..=MAX_TEXT_BYTES).contains(&text.len());
    (fits && text.bytes().all(|b| b.is_ascii_graphic())).then(|| text.to_owned())
}

/// Five of eight bytes, in NVIDIA's order: `96.00.CF.00.02`.
fn vbios(bytes: &[u8]) -> Option<String> {
    let [d, c, b, a, e, ..] = <[u8; 8]>::try_from(bytes).ok()?;
    Some(format!("{a:02X}.{b:02X}.{c:02X}.{d:02X}.{e:02X}"))
}

/// The switch at the other end of each NVLink, eight bytes each, in reverse; a
/// link that leads nowhere has zeros.
fn switches(bytes: &[u8]) -> Option<BTreeSet<Pdi>> {
    let (entries, []) = bytes.as_chunks::<8>() else {
        return None;
    };
    Some(
        entries
            .iter()
            .filter(|entry| **entry != [0; 8])
            .map(|entry| {
                let mut pdi = *entry;
                pdi.reverse();
                Pdi(pdi)
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(kind: u16, data: &[u8]) -> Vec<u8> {
        let mut out = kind.to_le_bytes().to_vec();
        out.extend((data.len() as u16).to_le_bytes());
        out.extend(data);
        out
    }

    fn smallest() -> Vec<u8> {
        [
            tlv(VBIOS, &[0, 0xcf, 0, 0x96, 2, 0, 0, 0]),
            tlv(DRIVER, b"570.172.08\0"),
        ]
        .concat()
    }

    #[test]
    fn versions_are_read_and_what_is_not_there_has_a_reason() {
        let opaque = Opaque::parse(&smallest()).unwrap();
        assert_eq!(opaque.driver, "570.172.08");
        assert_eq!(opaque.vbios, "96.00.CF.00.02");
        assert_eq!(opaque.fwid, Stated::Absent(OLDER));
        assert_eq!(opaque.switches, Stated::Absent(OLDER));
    }

    #[test]
    fn unknown_fields_are_kept_out_and_known_ones_have_their_size() {
        let with = |extra: Vec<u8>| Opaque::parse(&[smallest(), extra].concat()).map(|_| ());
        assert_eq!(with(tlv(4711, &[1, 2, 3])), Ok(()));
        for (extra, problem) in [
            (tlv(VBIOS, &[0; 8]), "two fields of type 6"),
            (tlv(4711, b"xyz")[..6].to_vec(), "a field leads outside"),
            (vec![1, 0, 0], "a field leads outside"),
            (tlv(NVDEC0, &[0]), "NVDEC0 is neither on (aa) nor off (55)"),
            (tlv(FWID, &[0; 47]), "the FWID is not a SHA-384"),
            (
                tlv(SWITCHES, &[0; 9]),
                "the list of switches has another size",
            ),
            (tlv(PROJECT, b"G5\0 20"), "the project is not a short text"),
            (tlv(PROJECT, &[b'x'; 65]), "the project is not a short text"),
            (tlv(FEATURE, &[0; 3]), "the feature flag has another size"),
        ] {
            assert_eq!(with(extra), Err(problem.to_owned()));
        }
        assert_eq!(
            Opaque::parse(&tlv(DRIVER, b"1.2")).map(|_| ()),
            Err("no version of the VBIOS".to_owned())
        );
        assert_eq!(
            Opaque::parse(&tlv(VBIOS, &[0; 8])).map(|_| ()),
            Err("no version of the driver".to_owned())
        );
    }

    #[test]
    fn links_that_lead_nowhere_name_no_switch() {
        let list = [[0; 8], [1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 8]].concat();
        let opaque = Opaque::parse(&[smallest(), tlv(SWITCHES, &list)].concat()).unwrap();
        let expected = BTreeSet::from([Pdi([8, 7, 6, 5, 4, 3, 2, 1])]);
        assert_eq!(opaque.switches, Stated::Value(expected));
    }
}
