//! dstack's "versioned attestation": the quote with its event logs and configuration.
//!
//! It has two layouts: SCALE after the byte 0, and MessagePack with version 1. Only the
//! quote is used: the rest repeats what the quote's registers hold, and the registers
//! are compared. The whole document has to be well-formed, so that nothing after the
//! quote can make another reader see another quote.

use std::ops::RangeInclusive;

/// An honest document has 30 events.
const MAX_ITEMS: usize = 4096;

/// An honest document nests 5 deep.
const MAX_DEPTH: usize = 16;

/// `None` for every other layout, version, kind of TEE, and for bytes left over.
pub(super) fn tdx_quote(document: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader(document);
    let quote = match document.first()? {
        0 => scale(&mut reader)?,
        _ => msgpack(&mut reader)?,
    };
    reader.0.is_empty().then_some(quote)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn big_endian(&mut self, length: usize) -> Option<u64> {
        let bytes = self.take(length)?;
        Some(
            bytes
                .iter()
                .fold(0, |value, byte| value << 8 | u64::from(*byte)),
        )
    }

    fn length(&mut self, bytes: usize) -> Option<usize> {
        usize::try_from(self.big_endian(bytes)?).ok()
    }
}

/// Version 0: `quote: { 0 (TDX), quote, events }, runtime events, report data, config`.
fn scale(reader: &mut Reader<'_>) -> Option<Vec<u8>> {
    if reader.take(2)? != [0, 0] {
        return None;
    }
    let quote = scale_bytes(reader)?.to_vec();
    for _ in 0..scale_items(reader)? {
        reader.take(8)?; // register and type
        scale_bytes(reader)?; // digest
        scale_bytes(reader)?; // name
        scale_bytes(reader)?; // payload
    }
    for _ in 0..scale_items(reader)? {
        scale_bytes(reader)?; // name
        scale_bytes(reader)?; // payload
    }
    reader.take(64)?; // report data
    scale_bytes(reader)?; // config
    Some(quote)
}

fn scale_bytes<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = scale_length(reader)?;
    reader.take(length)
}

fn scale_items(reader: &mut Reader<'_>) -> Option<usize> {
    scale_length(reader).filter(|count| *count <= MAX_ITEMS)
}

/// A compact integer of one, two or four bytes, little-endian; the low two bits say
/// which. Longer ones would count more bytes than any certificate has.
fn scale_length(reader: &mut Reader<'_>) -> Option<usize> {
    let first = reader.byte()?;
    let more = match first & 3 {
        0 => 0,
        1 => 1,
        2 => 3,
        _ => return None,
    };
    let rest = reader.take(more)?;
    let value = rest.iter().rev().chain([&first]);
    let value = value.fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
    usize::try_from(value >> 2).ok()
}

/// Version 1: `{version: 1, platform: {kind: "tdx", data: {quote: [bytes], …}}, stack}`.
fn msgpack(reader: &mut Reader<'_>) -> Option<Vec<u8>> {
    let (mut version, mut quote) = (None, None);
    for _ in 0..map(reader)? {
        match text(reader)? {
            b"version" => once(&mut version, unsigned(reader)?)?,
            b"platform" => once(&mut quote, platform(reader)?)?,
            _ => skip(reader, MAX_DEPTH)?,
        }
    }
    quote.filter(|_| version == Some(1))
}

fn platform(reader: &mut Reader<'_>) -> Option<Vec<u8>> {
    let (mut kind, mut quote) = (None, None);
    for _ in 0..map(reader)? {
        match text(reader)? {
            b"kind" => once(&mut kind, text(reader)?)?,
            b"data" => once(&mut quote, data(reader)?)?,
            _ => skip(reader, MAX_DEPTH)?,
        }
    }
    quote.filter(|_| kind == Some(&b"tdx"[..]))
}

fn data(reader: &mut Reader<'_>) -> Option<Vec<u8>> {
    let mut quote = None;
    for _ in 0..map(reader)? {
        match text(reader)? {
            b"quote" => {
                let length = array(reader)?;
                let bytes = (0..length).map(|_| u8::try_from(unsigned(reader)?).ok());
                once(&mut quote, bytes.collect::<Option<Vec<u8>>>()?)?;
            }
            _ => skip(reader, MAX_DEPTH)?,
        }
    }
    quote
}

/// Of a duplicate key, readers could take either value.
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

fn map(reader: &mut Reader<'_>) -> Option<usize> {
    stated_length(reader, 0x80..=0x8f, &[(0xde, 2), (0xdf, 4)])
}

fn array(reader: &mut Reader<'_>) -> Option<usize> {
    stated_length(reader, 0x90..=0x9f, &[(0xdc, 2), (0xdd, 4)])
}

fn text<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = stated_length(reader, 0xa0..=0xbf, &[(0xd9, 1), (0xda, 2), (0xdb, 4)])?;
    reader.take(length)
}

/// A length: within a first byte of `fixed`, or after one of `wide` in so many bytes.
fn stated_length(
    reader: &mut Reader<'_>,
    fixed: RangeInclusive<u8>,
    wide: &[(u8, usize)],
) -> Option<usize> {
    let first = reader.byte()?;
    if fixed.contains(&first) {
        return first.checked_sub(*fixed.start()).map(usize::from);
    }
    let (_, bytes) = wide.iter().find(|(kind, _)| *kind == first)?;
    reader.length(*bytes)
}

fn unsigned(reader: &mut Reader<'_>) -> Option<u64> {
    match reader.byte()? {
        fixed @ 0..=0x7f => Some(u64::from(fixed)),
        0xcc => reader.big_endian(1),
        0xcd => reader.big_endian(2),
        0xce => reader.big_endian(4),
        0xcf => reader.big_endian(8),
        _ => None,
    }
}

/// Skips any value. Each item has at least one byte, so a stated number of items costs
/// no more than the bytes of the document.
fn skip(reader: &mut Reader<'_>, depth: usize) -> Option<()> {
    let below = depth.checked_sub(1)?;
    let (items, bytes) = match reader.byte()? {
        0..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (0, 0),
        fixed @ 0x80..=0x8f => (usize::from(fixed & 0xf).checked_mul(2)?, 0),
        fixed @ 0x90..=0x9f => (usize::from(fixed & 0xf), 0),
        fixed @ 0xa0..=0xbf => (0, usize::from(fixed & 0x1f)),
        0xc4 | 0xd9 => (0, reader.length(1)?),
        0xc5 | 0xda => (0, reader.length(2)?),
        0xc6 | 0xdb => (0, reader.length(4)?),
        0xcc | 0xd0 => (0, 1),
        0xcd | 0xd1 => (0, 2),
        0xca | 0xce | 0xd2 => (0, 4),
        0xcb | 0xcf | 0xd3 => (0, 8),
        0xdc => (reader.length(2)?, 0),
        0xdd => (reader.length(4)?, 0),
        0xde => (reader.length(2)?.checked_mul(2)?, 0),
        0xdf => (reader.length(4)?.checked_mul(2)?, 0),
        // Extensions and the reserved byte, which dstack does not use.
        0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => return None,
    };
    reader.take(bytes)?;
    for _ in 0..items {
        skip(reader, below)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::tdx_quote;

    const QUOTE: &[u8] = &[1, 2, 127, 128, 255];

    /// Written by parity-scale-codec 3.7 and rmp-serde 1.3 from structs of dstack's
    /// shape: so these tests do not rest on our own writers alone.
    fn documents() -> [Vec<u8>; 2] {
        let report_data = "07".repeat(64);
        [
            format!(
                "00001401027f80ff04030000000100000800186170702d69640809090418\
                 6170702d6964080909{report_data}087b7d"
            ),
            format!(
                "83a776657273696f6e01a8706c6174666f726d82a46b696e64a3746478a46461746182a5717\
                 56f74659501027fcc80ccffa96576656e745f6c6f679185a3696d7203aa6576656e745f7479\
                 7065ce08000001a6646967657374c400a56576656e74a66170702d6964ad6576656e745f706\
                 1796c6f6164c4020909a5737461636b82a46b696e64a664737461636ba46461746183ab7265\
                 706f72745f64617461dc0040{report_data}ae72756e74696d655f6576656e74739182a565\
                 76656e74a66170702d6964a77061796c6f6164a443516b3da6636f6e666967a27b7d"
            ),
        ]
        .map(|text| hex::decode(text).expect("hex"))
    }

    #[test]
    fn both_layouts_hold_the_quote() {
        for document in documents() {
            assert_eq!(tdx_quote(&document).as_deref(), Some(QUOTE));
        }
    }

    #[test]
    fn a_document_counts_as_a_whole_or_not_at_all() {
        for document in documents() {
            for length in 0..document.len() {
                assert_eq!(tdx_quote(document.get(..length).unwrap_or_default()), None);
            }
            assert_eq!(tdx_quote(&[&document[..], &[0]].concat()), None);
        }
    }

    #[test]
    fn other_versions_and_kinds_are_not_understood() {
        let [scale, msgpack] = documents();
        for (document, at, byte) in [
            (&scale, 0, 1),       // a version above
            (&scale, 1, 1),       // TDX with a TPM
            (&msgpack, 9, 2),     // a version above
            (&msgpack, 29, b'x'), // kind "xdx"
            (&msgpack, 0, 0x84),
        ] {
            let mut changed = document.clone();
            if let Some(place) = changed.get_mut(at) {
                *place = byte;
            }
            assert_eq!(tdx_quote(&changed), None, "byte {at}");
        }
    }

    #[test]
    fn a_member_that_stands_twice_is_not_understood() {
        // {"version": 1, "version": 1}
        let twice = hex::decode("82a776657273696f6e01a776657273696f6e01").expect("hex");
        assert_eq!(tdx_quote(&twice), None);
    }

    #[test]
    fn lengths_beyond_the_bytes_and_deep_nesting_cost_nothing() {
        for text in [
            "0000feffffff",
            "000003ffffffff",
            "dfffffffff",
            "81a161ddffffffff",
        ] {
            assert_eq!(tdx_quote(&hex::decode(text).expect("hex")), None);
        }
        let mut deep = hex::decode("81a161").expect("hex");
        deep.extend([0x91; 100_000]);
        assert_eq!(tdx_quote(&deep), None);
    }
}
