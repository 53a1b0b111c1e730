//! A GET_MEASUREMENTS request and the response to it, as Hopper GPUs send them.

use crate::hash::{label, label384};

/// Types of the fields beside the measurements.
pub mod field {
    /// The driver's version.
    pub const DRIVER: u16 = 3;
    /// The VBIOS version.
    pub const VBIOS: u16 = 6;
    /// Whether NVDEC0 can be used.
    pub const NVDEC0: u16 = 11;
    /// The chip's SKU.
    pub const CHIP_SKU: u16 = 15;
    /// The board's project.
    pub const PROJECT: u16 = 17;
    /// The board's SKU.
    pub const PROJECT_SKU: u16 = 18;
    /// The firmware's own digest.
    pub const FWID: u16 = 20;
    /// Protected PCIe mode.
    pub const PROTECTED_PCIE: u16 = 21;
    /// The switches behind the links.
    pub const SWITCHES: u16 = 22;
    /// How the driver was set up.
    pub const FEATURE: u16 = 36;
}

/// NVLinks of a Hopper GPU.
const LINKS: usize = 18;

/// One measurement block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// From 1.
    pub index: u8,
    /// 1 for DMTF's format.
    pub specification: u8,
    /// Of what follows.
    pub size: u16,
    /// 1 for mutable firmware.
    pub kind: u8,
    /// Of the value.
    pub value_size: u16,
    /// SHA-384.
    pub value: Vec<u8>,
}

/// What a GPU signs.
#[derive(Debug, Clone)]
pub struct Message {
    /// Version, code, two parameters.
    pub request: [u8; 4],
    /// The requester's.
    pub nonce: [u8; 32],
    /// Of the certificate chain.
    pub slot: u8,
    /// Version, code, two parameters.
    pub response: [u8; 4],
    /// As stated; `blocks` may be another number.
    pub block_count: u8,
    /// The record.
    pub blocks: Vec<Block>,
    /// The record's length, if another one is stated.
    pub record_len: Option<u32>,
    /// The responder's.
    pub responder_nonce: [u8; 32],
    /// Type and data.
    pub fields: Vec<(u16, Vec<u8>)>,
    /// The length of the fields, if another one is stated.
    pub fields_len: Option<u16>,
}

impl Message {
    pub(super) fn new(nonce: &[u8; 32], fwid: &[u8; 48], switches: &[[u8; 8]]) -> Self {
        let blocks = (1..=64)
            .map(|index| Block {
                index,
                specification: 1,
                size: 51,
                kind: 1,
                value_size: 48,
                value: label384(&format!("GPU measurement {index}")).to_vec(),
            })
            .collect();
        // The links are spread over the switches; without a switch none is used.
        let links: Vec<_> = (0..LINKS)
            .map(|link| switches.get(link * switches.len() / LINKS))
            .map(|switch| switch.copied().unwrap_or_default())
            .collect();
        Self {
            request: [0x11, 0xe0, 1, 0xff],
            nonce: *nonce,
            slot: 0,
            response: [0x11, 0x60, 0, 0],
            block_count: 64,
            blocks,
            record_len: None,
            responder_nonce: label("GPU responder nonce"),
            fields: vec![
                (field::VBIOS, vec![0, 0xcf, 0, 0x96, 2, 0, 0, 0]),
                (14, vec![0x3c, 5, 0, 0]),
                (field::CHIP_SKU, b"895\0\0\0\0\0\0".to_vec()),
                (field::PROJECT, b"G520\0".to_vec()),
                (field::PROJECT_SKU, b"0280\0".to_vec()),
                (field::DRIVER, b"570.172.08\0".to_vec()),
                (4, vec![0x80, 1, 0, 0, 0, 0, 0, 0]),
                (field::NVDEC0, vec![0x55]),
                (field::FWID, fwid.to_vec()),
                (field::PROTECTED_PCIE, vec![0xaa]),
                (field::SWITCHES, links.concat()),
            ],
            fields_len: None,
        }
    }

    /// The data of the field of this type.
    ///
    /// # Panics
    /// If there is none.
    #[allow(
        clippy::expect_used,
        reason = "a test that changes what is not there should stop"
    )]
    pub fn field(&mut self, kind: u16) -> &mut Vec<u8> {
        let found = self.fields.iter_mut().find(|(other, _)| *other == kind);
        &mut found.expect("a field of this type").1
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut record = Vec::new();
        for block in &self.blocks {
            record.extend([block.index, block.specification]);
            record.extend(block.size.to_le_bytes());
            record.push(block.kind);
            record.extend(block.value_size.to_le_bytes());
            record.extend(&block.value);
        }
        let mut fields = Vec::new();
        for (kind, data) in &self.fields {
            fields.extend(kind.to_le_bytes());
            fields.extend((data.len() as u16).to_le_bytes());
            fields.extend(data);
        }
        let record_len = self.record_len.unwrap_or(record.len() as u32);
        let fields_len = self.fields_len.unwrap_or(fields.len() as u16);
        let mut out = self.request.to_vec();
        out.extend(self.nonce);
        out.push(self.slot);
        out.extend(self.response);
        out.push(self.block_count);
        out.extend(&record_len.to_le_bytes()[..3]);
        out.extend(record);
        out.extend(self.responder_nonce);
        out.extend(fields_len.to_le_bytes());
        out.extend(fields);
        out
    }
}
