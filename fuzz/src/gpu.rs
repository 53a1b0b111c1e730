//! Two GPUs of one machine, and what it means that a change of their evidence
//! verifies.
//!
//! Inputs hold no key and no signature, so that a corpus is worth something in
//! the next process too, where the keys are others.

use std::sync::OnceLock;

use attest::{
    GpuAnchors, GpuFinding, GpuRejected, GpuReport, IssuerCache, Nonce, Stated, UnixTime,
    appraise_gpus,
};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use fake_tee::gpu::GpuSpec;
use serde_json::{Value, json};

use crate::{NONCE, NOW, memory, must_be_printable, write_seed_files};

/// r and s.
pub const SIGNATURE: usize = 96;

/// The largest payload that is read, and a little more.
const MAX_TEXT: usize = 520 << 10;

/// Of all that an appraisal allocates: 16 GPUs with chains of five certificates.
const FIXED_BYTES: usize = 1 << 20;
const BYTES_PER_BYTE: usize = 16;

/// A valid machine.
#[derive(Debug)]
pub struct Machine {
    spec: GpuSpec,
    anchors: GpuAnchors,
    findings: Vec<String>,
    /// PEM, leaf first, of each GPU.
    pub chains: Vec<Vec<u8>>,
    /// Message and signature of each GPU.
    pub evidence: Vec<Vec<u8>>,
}

impl Machine {
    /// The machine of this process.
    pub fn get() -> &'static Self {
        static MACHINE: OnceLock<Machine> = OnceLock::new();
        MACHINE.get_or_init(|| {
            let spec = GpuSpec::new(2).expect("keys can be made");
            let payload = spec.forge(&NONCE).expect("GPUs can be forged");
            let value: Value = serde_json::from_str(&payload).expect("the payload is JSON");
            let blobs = |field: &str| {
                let list = value["evidence_list"].as_array().expect("a list");
                let text = list.iter().map(|item| item[field].as_str().expect("text"));
                text.map(|text| BASE64_STANDARD.decode(text).expect("base64"))
                    .collect()
            };
            let mut machine = Self {
                anchors: GpuAnchors::danger_gpu_root(spec.pki.root_der().to_vec()),
                findings: Vec::new(),
                chains: blobs("certificate"),
                evidence: blobs("evidence"),
                spec,
            };
            let report = machine.judge(&payload).expect("the machine verifies");
            machine.findings = report.gpus().iter().map(words).collect();
            machine
        })
    }

    /// The finding about a GPU that nobody changed.
    pub fn finding(&self, gpu: usize) -> &str {
        &self.findings[gpu]
    }

    /// A signature of a GPU's firmware.
    pub fn sign(&self, gpu: usize, message: &[u8]) -> Vec<u8> {
        let key = &self.spec.gpus[gpu].keys.firmware;
        key.sign_fixed(message).expect("signing works")
    }

    /// Judges a payload, with issuers that are kept from one to the next.
    pub fn judge(&self, payload: &str) -> Result<GpuReport, GpuRejected> {
        static CACHE: OnceLock<IssuerCache> = OnceLock::new();
        let cache = CACHE.get_or_init(IssuerCache::new);
        let judged = self.judge_with(payload, cache);
        assert!(cache.len() <= 1024, "{} issuers are kept", cache.len());
        judged
    }

    /// The same with the issuers of the caller.
    pub fn judge_with(&self, payload: &str, cache: &IssuerCache) -> Result<GpuReport, GpuRejected> {
        let judged = memory::bounded(payload.len(), FIXED_BYTES, BYTES_PER_BYTE, || {
            let nonce = Nonce::from_bytes(NONCE);
            appraise_gpus(payload, nonce, &self.anchors, UnixTime(NOW), cache)
        });
        if let Err(rejected) = &judged {
            must_be_printable(&rejected.to_string());
        }
        judged
    }
}

/// The nonce that all evidence answers.
pub fn nonce() -> String {
    hex::encode(NONCE)
}

/// Everything that is found out about a GPU.
pub fn words(finding: &GpuFinding) -> String {
    format!("{finding:?}")
}

/// The payload with these chains and this evidence.
pub fn payload<'a>(gpus: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> String {
    let list: Vec<_> = gpus
        .into_iter()
        .map(|(chain, evidence)| {
            json!({
                "arch": "HOPPER",
                "certificate": BASE64_STANDARD.encode(chain),
                "evidence": BASE64_STANDARD.encode(evidence),
                "nonce": nonce(),
            })
        })
        .collect();
    json!({ "arch": "HOPPER", "evidence_list": list, "nonce": nonce() }).to_string()
}

/// Writes the value of each name in its place. `None` if that makes it too long.
pub fn filled(text: &str, names: &[(&str, &str)]) -> Option<String> {
    let mut text = text.to_owned();
    for (name, value) in names {
        let places = text.matches(name).count();
        if text.len() + places * value.len() > MAX_TEXT {
            return None;
        }
        text = text.replace(name, value);
    }
    Some(text)
}

/// What a chain in PEM says. Newlines may stand between its lines and after
/// its certificates, and NUL at the end; nothing else is free.
pub fn pem_content(pem: &[u8]) -> Vec<u8> {
    let end = pem.iter().rposition(|byte| !matches!(byte, b'\n' | 0));
    let text = &pem[..end.map_or(0, |last| last + 1)];
    text.iter().copied().filter(|byte| *byte != b'\n').collect()
}

/// A signature in the smaller of its two forms: with (r, s) also (r, n - s) is one.
pub fn smaller_form(signature: &[u8]) -> Vec<u8> {
    const N: &str = "ffffffffffffffffffffffffffffffffffffffffffffffff\
                     c7634d81f4372ddf581a0db248b0a77aecec196accc52973";
    let n = hex::decode(N).expect("hex");
    let (r, s) = signature.split_at(SIGNATURE / 2);
    let mut other = n;
    let mut borrow = 0;
    for (digit, s) in other.iter_mut().zip(s).rev() {
        let difference = i16::from(*digit) - i16::from(*s) - borrow;
        borrow = i16::from(difference < 0);
        *digit = difference.rem_euclid(256) as u8;
    }
    [r, other.as_slice().min(s)].concat()
}

/// Compares a finding with the message that it is about, which is read here a
/// second time: the request's header and nonce, the response's header, 64
/// measurements of 55 bytes from byte 45, fields from byte 3599.
pub fn must_be_as_signed(finding: &GpuFinding, message: &[u8]) {
    assert_eq!(message[..4], [0x11, 0xe0, 1, 0xff]);
    assert_eq!(message[4..36], NONCE);
    assert_eq!(message[36..42], [0, 0x11, 0x60, 0, 0, 64]);
    assert_eq!(message[42..45], (64_u32 * 55).to_le_bytes()[..3]);
    assert_eq!(finding.measurements.len(), 64);
    for (index, measurement) in (1..).zip(&finding.measurements) {
        let block = &message[45 + 55 * (usize::from(index) - 1)..][..55];
        assert_eq!(block[..7], [index, 1, 51, 0, 1, 48, 0]);
        assert_eq!(block[7..], measurement[..]);
    }
    let mut rest = &message[3599..];
    assert_eq!(message[3597..3599], (rest.len() as u16).to_le_bytes());
    let mut fields = std::collections::BTreeMap::new();
    while !rest.is_empty() {
        let len = usize::from(u16::from_le_bytes([rest[2], rest[3]]));
        let kind = u16::from_le_bytes([rest[0], rest[1]]);
        let before = fields.insert(kind, &rest[4..4 + len]);
        assert!(before.is_none(), "the field {kind} stands twice");
        rest = &rest[4 + len..];
    }
    let text = |kind: u16| {
        let text = fields.get(&kind).copied().map(String::from_utf8_lossy);
        text.map(|text| text.trim_end_matches('\0').to_owned())
    };
    let flag = |kind: u16| fields.get(&kind).map(|data| *data == [0xaa]);
    assert_eq!(Some(&finding.driver), text(3).as_ref());
    let [d, c, b, a, e, _, _, _] = fields[&6] else {
        panic!("the VBIOS version has another size");
    };
    let vbios = format!("{a:02X}.{b:02X}.{c:02X}.{d:02X}.{e:02X}");
    assert_eq!(finding.vbios, vbios);
    assert_eq!(stated(&finding.nvdec0), flag(11).as_ref());
    assert_eq!(stated(&finding.protected_pcie), flag(21).as_ref());
    if let Some(board) = stated(&finding.board) {
        assert_eq!(Some(&board.project), text(17).as_ref());
        assert_eq!(Some(&board.project_sku), text(18).as_ref());
        assert_eq!(Some(&board.chip_sku), text(15).as_ref());
    } else {
        assert!([15, 17, 18].iter().any(|kind| !fields.contains_key(kind)));
    }
    let fwid = stated(&finding.reported_fwid).map(|fwid| &fwid[..]);
    assert_eq!(fwid, fields.get(&20).copied());
    assert!(fwid.is_none_or(|fwid| *fwid == finding.fwid));
    let feature = stated(&finding.feature).map(|feature| feature.to_le_bytes());
    assert_eq!(
        feature.as_ref().map(|feature| &feature[..]),
        fields.get(&36).copied()
    );
    let switches = stated(&finding.switches).map(|switches| {
        let names = switches.iter().map(ToString::to_string);
        names.collect::<std::collections::BTreeSet<_>>()
    });
    let named = fields.get(&22).map(|data| {
        assert_eq!(data.len() % 8, 0);
        let links = data.chunks(8).filter(|link| **link != [0; 8]);
        let names =
            links.map(|link| hex::encode_upper(link.iter().rev().copied().collect::<Vec<_>>()));
        names.collect()
    });
    assert_eq!(switches, named);
}

/// What two GPUs of a machine that verifies both state is the same.
pub fn must_agree<T: PartialEq + std::fmt::Debug>(first: &Stated<T>, second: &Stated<T>) {
    if let (Some(first), Some(second)) = (stated(first), stated(second)) {
        assert_eq!(first, second);
    }
}

fn stated<T>(stated: &Stated<T>) -> Option<&T> {
    match stated {
        Stated::Value(value) => Some(value),
        Stated::Absent(_) => None,
    }
}

/// As [`write_seeds`](crate::write_seeds).
pub fn write_seeds(seeds: impl FnOnce(&'static Machine) -> Vec<Vec<u8>>) {
    let machine = Machine::get();
    write_seed_files(|| seeds(machine));
}
