//! Writes evidence of single GPUs with this crate's verdict on each, for another
//! implementation to judge: `cargo run --example gpu_verdicts -- FILE`, one case a
//! line. See `scripts/second-opinion-gpu`.
//!
//! Evidence comes from recordings (`VERIFIED_PROXY_CAPTURES`), from NVIDIA's sample
//! (`VERIFIED_PROXY_SHARED`), and from fake-tee: as it is, and with one thing changed.
//! What is changed in a fake is signed afterwards.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test program that cannot go on should stop"
)]

use std::path::{Path, PathBuf};

use attest::{GpuAnchors, IssuerCache, Nonce, Stated, UnixTime, appraise_gpus};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use fake_tee::Signer;
use fake_tee::gpu::{Gpu, GpuKeys, GpuPki, GpuSpec, field};
use fake_tee::rcgen::{BasicConstraints, DnType, IsCa, KeyUsagePurpose, date_time_ymd};
use serde_json::{Value, json};

/// What is compared.
#[derive(Clone, Copy)]
enum Scope {
    /// Both implementations look at this: they must agree.
    Both,
    /// The other one does not look at this, for the reason given. Ours refuses.
    OursOnly(&'static str),
    /// This crate does not look at this, for the reason given. Theirs refuses.
    TheirsOnly(&'static str),
}

use Scope::{Both, OursOnly, TheirsOnly};

const HEADER: &str =
    "it does not look at versions, codes, parameters and slots of the SPDM messages";
const BLOCKS: &str = "it takes any number of measurements, and the last one of an index";
const FIELDS: &str = "it takes the last of two fields of one type";
const STATES: &str = "it does not look at whether NVDEC0 and Protected PCIe are on or off";
const NAMES: &str = "it does not look at the names in certificates";
const DICE: &str =
    "it does not compare the device key in the firmware's certificate with the device's";
const ROOT: &str = "it puts its own root in the place of the last certificate, whatever that is";
const PEM: &str = "it skips text around certificates";
const UNKNOWN: &str =
    "fields of an unknown type are kept: newer drivers send more, and all are signed";

/// The evidence of one GPU, and what it has to fit.
#[derive(Clone)]
struct Subject {
    /// PEM, leaf first.
    certificates: Vec<u8>,
    evidence: Vec<u8>,
    nonce: Nonce,
    at: UnixTime,
    /// DER; `None`: NVIDIA's.
    root: Option<Vec<u8>>,
    /// What the host says of itself, with which NVIDIA's verifier compares.
    driver: &'static str,
    vbios: &'static str,
}

type Edit = (&'static str, Scope, fn(&mut Vec<u8>));

/// Changes that nobody can sign.
const EVIDENCE: &[Edit] = &[
    ("request version", Both, |b| b[0] = 0x10),
    ("nonce bit", Both, |b| b[4] ^= 1),
    ("slot", Both, |b| b[36] = 1),
    ("response code", Both, |b| b[38] ^= 1),
    ("63 blocks stated", Both, |b| b[41] = 63),
    ("record length + 1", Both, |b| b[42] += 1),
    ("record length ffffff", Both, |b| b[42..45].fill(0xff)),
    ("measurement bit", Both, |b| b[RECORD + 7] ^= 1),
    ("last measurement bit", Both, |b| {
        let at = fields(b) - 2 - 32 - 1;
        b[at] ^= 1;
    }),
    ("index twice", Both, |b| b[RECORD + 55] = 1),
    ("block format", Both, |b| b[RECORD + 1] = 2),
    ("value size 47", Both, |b| b[RECORD + 5] = 47),
    ("block size ffff", Both, |b| {
        b[RECORD + 2..RECORD + 4].fill(0xff)
    }),
    ("responder nonce bit", Both, |b| {
        let at = fields(b) - 2 - 32;
        b[at] ^= 1;
    }),
    ("length of fields - 1", Both, |b| {
        let at = fields(b) - 2;
        b[at] -= 1;
    }),
    ("length of fields ffff", Both, |b| {
        let at = fields(b);
        b[at - 2..at].fill(0xff);
    }),
    ("driver", Both, |b| {
        let at = field_at(b, field::DRIVER);
        b[at] ^= 1;
    }),
    ("VBIOS", Both, |b| {
        let at = field_at(b, field::VBIOS);
        b[at] ^= 1;
    }),
    ("NVDEC0", Both, |b| {
        let at = field_at(b, field::NVDEC0);
        b[at] = 0xaa;
    }),
    ("FWID bit", Both, |b| {
        let at = field_at(b, field::FWID);
        b[at] ^= 1;
    }),
    ("signature bit in r", Both, |b| {
        let at = signature(b);
        b[at] ^= 1;
    }),
    ("signature bit in s", Both, |b| {
        *b.last_mut().unwrap() ^= 1;
    }),
    ("signature halves swapped", Both, |b| {
        let at = signature(b);
        b[at..].rotate_left(48);
    }),
    ("signature of zeros", Both, |b| {
        let at = signature(b);
        b[at..].fill(0);
    }),
    ("signature little-endian", Both, |b| {
        let at = signature(b);
        b[at..at + 48].reverse();
        b[at + 48..].reverse();
    }),
    ("the other form of the signature", Both, |b| other_form(b)),
    ("byte cut", Both, |b| b.truncate(b.len() - 1)),
    ("byte appended", Both, |b| b.push(0)),
    ("byte in front", Both, |b| b.insert(0, 0x11)),
    ("request stripped", Both, |b| drop(b.drain(..37))),
];

type Rewrite = (&'static str, Scope, fn(&mut Vec<String>));

const CHAINS: &[Rewrite] = &[
    ("chain reversed", Both, |c| c.reverse()),
    ("root missing", Both, |c| drop(c.pop())),
    ("provisioner missing", Both, |c| drop(c.remove(2))),
    ("device missing, root twice", Both, |c| {
        c.remove(1);
        c.push(c[3].clone());
    }),
    ("leaf missing", Both, |c| drop(c.remove(0))),
    ("root twice", Both, |c| c.push(c[4].clone())),
    ("leaf signature bit", Both, |c| spoil(c, 0)),
    ("device signature bit", Both, |c| spoil(c, 1)),
    ("provisioner signature bit", Both, |c| spoil(c, 2)),
    ("family signature bit", Both, |c| spoil(c, 3)),
    ("leaf FWID bit", Both, |c| {
        edit(c, 0, |der| {
            // TCG's 2.23.133.5.4.1, whose value ends with the FWID.
            let oid = [0x67, 0x81, 0x05, 0x05, 0x04, 0x01];
            let at = der.windows(6).position(|part| part == oid);
            // The longest part of the value, the device's key, has 120 bytes.
            der[at.expect("the extension") + 150] ^= 1;
        })
    }),
    ("root signature bit", OursOnly(ROOT), |c| spoil(c, 4)),
    ("text between certificates", OursOnly(PEM), |c| {
        c.insert(1, "subject=somebody\n".to_owned())
    }),
];

/// Which certificates of another GPU stand in the place of this one's.
const OTHERS: &[(&str, &[usize])] = &[
    ("leaf of another GPU", &[0]),
    ("device certificate of another GPU", &[1]),
    ("leaf and device certificate of another GPU", &[0, 1]),
    ("shared certificates from another GPU", &[2, 3, 4]),
];

type Forgery = (&'static str, Scope, fn(&mut GpuSpec));

/// Changes that are signed, in the first GPU of a fake machine.
const FORGED: &[Forgery] = &[
    ("nonce", Both, |s| {
        message(s, |m| m.nonce[31] ^= 1);
    }),
    ("request version", OursOnly(HEADER), |s| {
        message(s, |m| m.request[0] = 0x12);
    }),
    ("request code", OursOnly(HEADER), |s| {
        message(s, |m| m.request[1] = 0xe1);
    }),
    ("response slot", OursOnly(HEADER), |s| {
        message(s, |m| m.response[3] = 1);
    }),
    ("63 blocks stated", Both, |s| {
        message(s, |m| m.block_count = 63);
    }),
    ("63 blocks", OursOnly(BLOCKS), |s| {
        message(s, |m| {
            m.block_count = 63;
            m.blocks.pop();
        });
    }),
    ("a block more than stated", Both, |s| {
        message(s, |m| m.blocks.push(m.blocks[63].clone()));
    }),
    ("two blocks swapped", OursOnly(BLOCKS), |s| {
        message(s, |m| m.blocks.swap(10, 11));
    }),
    ("index twice", Both, |s| {
        message(s, |m| m.blocks[10].index = 10);
    }),
    ("block format", Both, |s| {
        message(s, |m| m.blocks[5].specification = 2);
    }),
    ("block size ffff", Both, |s| {
        message(s, |m| m.blocks[5].size = 0xffff);
    }),
    ("record length + 1", Both, |s| {
        message(s, |m| m.record_len = Some(64 * 55 + 1));
    }),
    ("length of fields ffff", Both, |s| {
        message(s, |m| m.fields_len = Some(0xffff));
    }),
    ("a field twice", OursOnly(FIELDS), |s| {
        message(s, |m| m.fields.push(m.fields[5].clone()));
    }),
    ("a field of an unknown type", TheirsOnly(UNKNOWN), |s| {
        message(s, |m| m.fields.push((200, vec![1])));
    }),
    ("NVDEC0 neither on nor off", OursOnly(STATES), |s| {
        message(s, |m| *m.field(field::NVDEC0) = vec![0]);
    }),
    ("reported FWID", Both, |s| {
        message(s, |m| m.field(field::FWID)[0] ^= 1);
    }),
    ("FWID of the certificate", Both, |s| {
        let mut spoilt = s.gpus[0].fwid;
        spoilt[47] ^= 1;
        let genuine = std::mem::replace(&mut s.gpus[0].fwid, spoilt);
        s.gpus[0]
            .message
            .push(move |m| *m.field(field::FWID) = genuine.to_vec());
    }),
    ("no FWID in the certificate", Both, |s| {
        s.gpus[0].leaf.push(|leaf| leaf.custom_extensions.clear())
    }),
    ("no FWID reported", Both, |s| {
        message(s, |m| m.fields.retain(|(kind, _)| *kind != field::FWID));
    }),
    ("leaf of another architecture", OursOnly(NAMES), |s| {
        s.gpus[0].leaf.push(|leaf| {
            leaf.distinguished_name
                .push(DnType::CommonName, "GB100 A01 GSP FMC LF");
        })
    }),
    ("a switch in place of a GPU", OursOnly(NAMES), |s| {
        s.gpus[0].chip = "LS_10".to_owned();
        s.gpus[0].kind = 0x50;
    }),
    ("leaf of another device's key", OursOnly(DICE), |s| {
        let other = GpuKeys::generate().unwrap();
        s.gpus[0].leaf_origin = Some(other.device.spki_der());
    }),
    ("leaf expired", Both, |s| {
        s.gpus[0]
            .leaf
            .push(|leaf| leaf.not_after = date_time_ymd(2021, 1, 1))
    }),
    ("leaf not yet valid", Both, |s| {
        s.gpus[0]
            .leaf
            .push(|leaf| leaf.not_before = date_time_ymd(9000, 1, 1))
    }),
    ("provisioner expired", Both, |s| {
        s.gpus[0]
            .provisioner
            .push(|ca| ca.not_after = date_time_ymd(2021, 1, 1))
    }),
    ("leaf signed by a stranger", Both, |s| {
        s.gpus[0].leaf_signer = Signer::Stranger
    }),
    ("device is no CA", Both, |s| {
        s.gpus[0]
            .device
            .push(|device| device.is_ca = IsCa::ExplicitNoCa)
    }),
    ("device may not sign certificates", Both, |s| {
        s.gpus[0]
            .device
            .push(|device| device.key_usages = vec![KeyUsagePurpose::CrlSign])
    }),
    ("provisioner's chain is too long", Both, |s| {
        s.gpus[0]
            .provisioner
            .push(|ca| ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)))
    }),
    ("everything of another root", Both, |s| {
        s.pki = GpuPki::other().unwrap()
    }),
    ("everything of another root, then the root", Both, |s| {
        s.pki = GpuPki::other().unwrap();
        s.gpus[0].chain.push(|chain| {
            *chain.last_mut().unwrap() = GpuPki::shared().unwrap().root_der().to_vec()
        });
    }),
    ("signed by another GPU", Both, |s| {
        let keys = s.gpus[1].keys.clone();
        s.gpus[0].evidence.push(move |bytes| {
            let at = signature(bytes);
            let signed = keys.firmware.sign_fixed(&bytes[..at]).unwrap();
            bytes[at..].copy_from_slice(&signed);
        });
    }),
];

fn main() {
    let path = std::env::args_os()
        .nth(1)
        .expect("expected a file to write to");
    let mut cases = Vec::new();
    if let Some(folder) = std::env::var_os("VERIFIED_PROXY_CAPTURES").map(PathBuf::from) {
        for day in ["20260424", "20260610"] {
            let gpus = recording(&folder.join(day));
            for (index, gpu) in gpus.iter().enumerate() {
                cases.push(case("recording", &format!("{day}, GPU {index}"), Both, gpu));
            }
            let (gpu, donor) = (&gpus[2], &gpus[5]);
            changed(&mut cases, "changed recording", day, gpu);
            for (name, places) in OTHERS {
                let mut chain = pems(&gpu.certificates);
                let other = pems(&donor.certificates);
                for at in *places {
                    chain[*at].clone_from(&other[*at]);
                }
                let certificates = chain.concat().into_bytes();
                let gpu = Subject {
                    certificates,
                    ..gpu.clone()
                };
                cases.push(case(
                    "changed recording",
                    &format!("{day}, {name}"),
                    Both,
                    &gpu,
                ));
            }
            let evidence = donor.evidence.clone();
            let gpu = Subject {
                evidence,
                ..gpu.clone()
            };
            let name = format!("{day}, evidence of another GPU");
            cases.push(case("changed recording", &name, Both, &gpu));
        }
    }
    if let Some(folder) = std::env::var_os("VERIFIED_PROXY_SHARED").map(PathBuf::from) {
        let gpu = sample(&folder.join("nvidia"));
        cases.push(case("sample", "H100", Both, &gpu));
        changed(&mut cases, "changed sample", "H100", &gpu);
        // The nonce that NVIDIA's own test mode expects is not the one in the sample.
        let nonce = "4cff7f5380ead8fad8ec2c531c110aca4302a88f603792801a8ca29ee151af2e";
        let nonce = nonce.parse().unwrap();
        let gpu = Subject { nonce, ..gpu };
        cases.push(case("changed sample", "H100, another nonce", Both, &gpu));
    }
    cases.push(case("genuine fake", "H100", Both, &fake(|_| {})));
    for (name, scope, change) in FORGED {
        cases.push(case("changed fake", name, *scope, &fake(change)));
    }
    // Somebody else's certificates, to whoever trusts NVIDIA.
    let gpu = Subject {
        root: None,
        ..fake(|_| {})
    };
    cases.push(case("changed fake", "under NVIDIA's root", Both, &gpu));
    let lines: String = cases.iter().map(|case| format!("{case}\n")).collect();
    std::fs::write(&path, lines).expect("the file can be written");
}

/// Everything in [`EVIDENCE`] and [`CHAINS`].
fn changed(cases: &mut Vec<Value>, kind: &str, whose: &str, gpu: &Subject) {
    for (name, scope, edit) in EVIDENCE {
        let mut gpu = gpu.clone();
        edit(&mut gpu.evidence);
        cases.push(case(kind, &format!("{whose}, {name}"), *scope, &gpu));
    }
    for (name, scope, rewrite) in CHAINS {
        let mut chain = pems(&gpu.certificates);
        rewrite(&mut chain);
        let certificates = chain.concat().into_bytes();
        let gpu = Subject {
            certificates,
            ..gpu.clone()
        };
        cases.push(case(kind, &format!("{whose}, {name}"), *scope, &gpu));
    }
}

fn recording(folder: &Path) -> Vec<Subject> {
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).expect(name);
    let report: Value = serde_json::from_str(&text("attestation_report.json")).expect("JSON");
    let payload = report["nvidia_payload"].as_str().expect("a payload");
    let payload: Value = serde_json::from_str(payload).expect("JSON");
    let list = payload["evidence_list"].as_array().expect("a list");
    list.iter()
        .map(|item| Subject {
            certificates: blob(&item["certificate"]),
            evidence: blob(&item["evidence"]),
            nonce: text("nonce.hex").trim().parse().expect("a nonce"),
            at: UnixTime(text("verify_at_unix").trim().parse().expect("seconds")),
            root: None,
            driver: "570.172.08",
            vbios: "96.00.CF.00.02",
        })
        .collect()
}

fn sample(folder: &Path) -> Subject {
    let read = |name: &str| std::fs::read(folder.join(name)).expect(name);
    let nonce = "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb";
    Subject {
        certificates: read("hopperCertChain.txt"),
        evidence: hex::decode(read("hopperAttestationReport.txt")).expect("hex"),
        nonce: nonce.parse().unwrap(),
        at: UnixTime(1_781_000_000),
        root: None,
        driver: "550.90.07",
        vbios: "96.00.9F.00.01",
    }
}

/// The first GPU of a machine.
fn fake(change: impl Fn(&mut GpuSpec)) -> Subject {
    let nonce = [7; 32];
    let mut spec = GpuSpec::new(2).unwrap();
    change(&mut spec);
    let payload: Value = serde_json::from_str(&spec.forge(&nonce).unwrap()).unwrap();
    let item = &payload["evidence_list"][0];
    Subject {
        certificates: blob(&item["certificate"]),
        evidence: blob(&item["evidence"]),
        nonce: Nonce::from_bytes(nonce),
        at: UnixTime(1_800_000_000),
        root: Some(GpuPki::shared().unwrap().root_der().to_vec()),
        driver: "570.172.08",
        vbios: "96.00.CF.00.02",
    }
}

fn case(kind: &str, name: &str, scope: Scope, gpu: &Subject) -> Value {
    let (ours_only, theirs_only) = match scope {
        Both => (None, None),
        OursOnly(reason) => (Some(reason), None),
        TheirsOnly(reason) => (None, Some(reason)),
    };
    json!({
        "kind": kind,
        "name": name,
        "ours_only": ours_only,
        "theirs_only": theirs_only,
        "certificate": hex::encode(&gpu.certificates),
        "evidence": hex::encode(&gpu.evidence),
        "nonce": gpu.nonce.to_string(),
        "root": gpu.root.as_ref().map(hex::encode),
        "driver": gpu.driver,
        "vbios": gpu.vbios,
        "ours": verdict(gpu),
    })
}

/// This crate's verdict on a machine with this one GPU.
fn verdict(gpu: &Subject) -> Value {
    let payload = json!({
        "arch": "HOPPER",
        "nonce": gpu.nonce.to_string(),
        "evidence_list": [{
            "arch": "HOPPER",
            "certificate": BASE64_STANDARD.encode(&gpu.certificates),
            "evidence": BASE64_STANDARD.encode(&gpu.evidence),
        }],
    });
    let anchors = gpu
        .root
        .clone()
        .map_or_else(GpuAnchors::nvidia, GpuAnchors::danger_gpu_root);
    let report = match appraise_gpus(
        &payload.to_string(),
        gpu.nonce,
        &anchors,
        gpu.at,
        &IssuerCache::new(),
    ) {
        Ok(report) => report,
        Err(rejected) => return json!({ "accepted": false, "why": rejected.code() }),
    };
    let [finding] = report.gpus() else {
        return json!({ "accepted": false, "why": "not one GPU" });
    };
    let switches: Vec<_> = match &finding.switches {
        Stated::Value(switches) => switches.iter().map(ToString::to_string).collect(),
        Stated::Absent(_) => Vec::new(),
    };
    json!({
        "accepted": true,
        "driver": finding.driver,
        "vbios": finding.vbios,
        "fwid": hex::encode(finding.fwid),
        "ueid": finding.ueid.to_string(),
        "measurements": hex::encode(finding.measurements.concat()),
        "switches": switches,
    })
}

/// Where the record begins in evidence.
const RECORD: usize = 45;

/// Where the fields begin: after the record, the responder's nonce and a length.
fn fields(evidence: &[u8]) -> usize {
    let record = u32::from_le_bytes([evidence[42], evidence[43], evidence[44], 0]);
    RECORD + usize::try_from(record).unwrap() + 32 + 2
}

fn signature(evidence: &[u8]) -> usize {
    evidence.len() - 96
}

/// The place of a field's data.
fn field_at(evidence: &[u8], kind: u16) -> usize {
    let mut at = fields(evidence);
    loop {
        let of = |at: usize| u16::from_le_bytes([evidence[at], evidence[at + 1]]);
        if of(at) == kind {
            return at + 4;
        }
        at += 4 + usize::from(of(at + 2));
    }
}

/// With (r, s) also (r, n - s) is a signature.
fn other_form(evidence: &mut [u8]) {
    const N: &str = "ffffffffffffffffffffffffffffffffffffffffffffffff\
                     c7634d81f4372ddf581a0db248b0a77aecec196accc52973";
    let mut borrow = 0;
    let half = signature(evidence) + 48;
    let n = hex::decode(N).unwrap();
    for (s, n) in evidence[half..].iter_mut().zip(n).rev() {
        let difference = i16::from(n) - i16::from(*s) - borrow;
        borrow = i16::from(difference < 0);
        *s = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
}

/// A change to what the first GPU signs.
fn message(spec: &mut GpuSpec, change: fn(&mut fake_tee::gpu::Message)) {
    let gpu: &mut Gpu = &mut spec.gpus[0];
    gpu.message.push(change);
}

/// The certificates of a PEM text, one text each. NUL bytes may follow the last.
fn pems(bytes: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(bytes).unwrap();
    let end = "-----END CERTIFICATE-----";
    text.split_inclusive(end)
        .filter(|pem| pem.ends_with(end))
        .map(|pem| format!("{}\n", pem.trim_start()))
        .collect()
}

fn edit(chain: &mut [String], at: usize, change: fn(&mut Vec<u8>)) {
    let lines = chain[at].lines();
    let body: String = lines.filter(|line| !line.starts_with('-')).collect();
    let mut der = BASE64_STANDARD.decode(&body).unwrap();
    change(&mut der);
    chain[at] = fake_tee::encode::pem_chain(&[der]);
}

/// The last bit of a certificate is one of its signature's.
fn spoil(chain: &mut [String], at: usize) {
    edit(chain, at, |der| *der.last_mut().unwrap() ^= 1);
}

fn blob(text: &Value) -> Vec<u8> {
    BASE64_STANDARD
        .decode(text.as_str().expect("base64"))
        .expect("base64")
}
