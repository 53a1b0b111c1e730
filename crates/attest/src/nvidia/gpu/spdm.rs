//! One GPU's evidence: a GET_MEASUREMENTS request of SPDM 1.1 (DMTF DSP0274)
//! and the response to it, with the signature over both at the end.

use super::opaque::Opaque;
use super::reader::Reader;
use super::report::Measurement;
use crate::base::hash;
use crate::refusals::gpu::GpuRejected;

/// SPDM 1.1; GET_MEASUREMENTS with signature, of all blocks.
const REQUEST: [u8; 4] = [0x11, 0xe0, 0x01, 0xff];
/// SPDM 1.1; MEASUREMENTS without further parameters.
const RESPONSE: [u8; 4] = [0x11, 0x60, 0x00, 0x00];
/// Certificates are those of slot 0.
const SLOT: u8 = 0;
const NONCE_LEN: usize = 32;
/// r and s of a P-384 signature.
const SIGNATURE_LEN: usize = 96;

/// A GPU has 64 measurements in all evidence seen; a switch has 31.
pub(super) const BLOCKS: u8 = 64;
/// DMTF's measurement format.
const DMTF: u8 = 1;
/// Type and size of a value.
const VALUE_HEADER_LEN: u16 = 3;
/// The hash of mutable firmware, the only type seen.
const FIRMWARE: u8 = 1;
/// SHA-384.
const VALUE_LEN: u16 = 48;

/// Evidence with the right layout; not verified.
pub(super) struct Spdm<'a> {
    /// Every byte before the signature: the signed message.
    pub(super) message: &'a [u8],
    /// r and s, big-endian.
    pub(super) signature: &'a [u8],
    pub(super) nonce: [u8; NONCE_LEN],
    /// In the order of their indices, 1 to 64.
    pub(super) measurements: Vec<Measurement>,
    /// SHA-384 of the whole record.
    pub(super) record_sha384: [u8; 48],
    pub(super) opaque: Opaque,
}

/// Cuts the message by the lengths inside; the contents are checked afterwards.
struct Frame<'a> {
    request: [u8; 4],
    nonce: [u8; NONCE_LEN],
    slot: u8,
    response: [u8; 4],
    blocks: u8,
    record: &'a [u8],
    opaque: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Frame<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let frame = Self {
            request: reader.array()?,
            nonce: reader.array()?,
            slot: reader.u8()?,
            response: reader.array()?,
            blocks: reader.u8()?,
            record: {
                let len = reader.u24()?;
                reader.bytes(len)?
            },
            opaque: {
                // The responder's nonce is random and binds nothing.
                reader.bytes(NONCE_LEN)?;
                let len = reader.u16()?;
                reader.bytes(usize::from(len))?
            },
            signature: reader.bytes(SIGNATURE_LEN)?,
        };
        reader.is_empty().then_some(frame)
    }
}

impl<'a> Spdm<'a> {
    /// # Errors
    /// `evidence_gpu_structure`, `_header`, `_blocks`, `_opaque`.
    pub(super) fn parse(gpu: usize, bytes: &'a [u8]) -> Result<Self, GpuRejected> {
        let structure = |detail: String| GpuRejected::Structure { gpu, detail };
        let frame = Frame::read(bytes).ok_or_else(|| {
            structure(format!(
                "the lengths inside do not add up to its {} bytes",
                bytes.len()
            ))
        })?;
        for (field, got, expected) in [
            ("the SPDM request", &frame.request[..], &REQUEST[..]),
            ("the slot", &[frame.slot][..], &[SLOT][..]),
            ("the SPDM response", &frame.response[..], &RESPONSE[..]),
        ] {
            if got != expected {
                return Err(GpuRejected::Header {
                    gpu,
                    field,
                    got: hex::encode(got),
                    expected: hex::encode(expected),
                });
            }
        }
        let message = bytes
            .len()
            .checked_sub(SIGNATURE_LEN)
            .and_then(|len| bytes.get(..len))
            .ok_or_else(|| structure("it has no signature".to_owned()))?;
        Ok(Self {
            message,
            signature: frame.signature,
            nonce: frame.nonce,
            measurements: blocks(frame.blocks, frame.record)
                .map_err(|detail| GpuRejected::Blocks { gpu, detail })?,
            record_sha384: hash::sha384(&[frame.record]),
            opaque: Opaque::parse(frame.opaque)
                .map_err(|detail| GpuRejected::Opaque { gpu, detail })?,
        })
    }
}

/// The measurement blocks: every index once, ascending, each one SHA-384 digest.
fn blocks(count: u8, record: &[u8]) -> Result<Vec<Measurement>, String> {
    if count != BLOCKS {
        return Err(format!("{count} blocks, expected {BLOCKS}"));
    }
    let mut reader = Reader::new(record);
    let mut measurements = Vec::with_capacity(usize::from(count));
    for expected in 1..=count {
        let (index, value) =
            block(&mut reader).ok_or_else(|| format!("block {expected} is malformed"))?;
        if index != expected {
            return Err(format!("index {index} in place of {expected}"));
        }
        measurements.push(value);
    }
    if !reader.is_empty() {
        return Err("more bytes than blocks".to_owned());
    }
    Ok(measurements)
}

fn block(reader: &mut Reader<'_>) -> Option<(u8, Measurement)> {
    let index = reader.u8()?;
    let is_dmtf = reader.u8()? == DMTF;
    let size = reader.u16()?;
    let kind = reader.u8()?;
    let value_size = reader.u16()?;
    let holds = is_dmtf
        && kind == FIRMWARE
        && value_size == VALUE_LEN
        && Some(size) == VALUE_HEADER_LEN.checked_add(value_size);
    holds.then_some((index, reader.array()?))
}
