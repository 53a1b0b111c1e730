//! Tamperings of recorded evidence, which nobody can sign anew: the sample that
//! NVIDIA publishes and the recordings of a real backend.

use attest::{GpuAnchors, IssuerCache, Nonce, UnixTime, appraise_gpus};
use serde_json::{Value, json};

use super::recorded::{Recorded, recorded, sample};
use super::{blob, code, set_blob};

/// Both recordings, or none.
fn payloads() -> Option<[Recorded; 2]> {
    recorded().try_into().ok()
}

fn judged(recorded: &Recorded, payload: &Value) -> &'static str {
    code(&appraise_gpus(
        &payload.to_string(),
        recorded.nonce,
        &GpuAnchors::nvidia(),
        recorded.at,
        &IssuerCache::new(),
    ))
}

/// The code after a change to the third GPU's field.
fn changed(recorded: &Recorded, field: &str, change: impl FnOnce(&mut Vec<u8>)) -> &'static str {
    let mut payload = recorded.payload.clone();
    let mut bytes = blob(&payload, 2, field);
    change(&mut bytes);
    set_blob(&mut payload, 2, field, &bytes);
    judged(recorded, &payload)
}

/// Where things stand in evidence of 4266 bytes.
const RECORD: usize = 45;
const FIELDS: usize = 3599;
const SIGNATURE: usize = 4170;

/// The place of a field's data.
fn field_at(bytes: &[u8], kind: u16) -> usize {
    let mut at = FIELDS;
    loop {
        let of = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        if of(at) == kind {
            return at + 4;
        }
        at += 4 + usize::from(of(at + 2));
    }
}

type Edit = fn(&mut Vec<u8>);

const EVIDENCE: &[(&str, &str, Edit)] = &[
    ("1 nonce", "rejected_gpu_signature", |b| b[4] ^= 1),
    ("2 version", "evidence_gpu_header", |b| b[0] = 0x10),
    ("2 code", "evidence_gpu_header", |b| b[1] ^= 1),
    ("2 parameter", "evidence_gpu_header", |b| b[2] = 0),
    ("2 parameter", "evidence_gpu_header", |b| b[3] = 1),
    ("2 slot", "evidence_gpu_header", |b| b[36] = 1),
    ("3 version", "evidence_gpu_header", |b| b[37] = 0x12),
    ("3 code", "evidence_gpu_header", |b| b[38] ^= 1),
    ("3 slot", "evidence_gpu_header", |b| b[40] = 1),
    ("4 count", "evidence_gpu_blocks", |b| b[41] = 63),
    ("5 length + 1", "evidence_gpu_structure", |b| b[42] += 1),
    ("5 length ffffff", "evidence_gpu_structure", |b| {
        b[42..45].fill(0xff)
    }),
    ("6 measurement", "rejected_gpu_signature", |b| {
        b[RECORD + 7] ^= 1
    }),
    ("7 index twice", "evidence_gpu_blocks", |b| {
        b[RECORD + 55] = 1
    }),
    ("8 format", "evidence_gpu_blocks", |b| b[RECORD + 1] = 2),
    ("8 value size", "evidence_gpu_blocks", |b| {
        b[RECORD + 5] = 47
    }),
    ("9 block size", "evidence_gpu_blocks", |b| {
        b[RECORD + 2..RECORD + 4].fill(0xff)
    }),
    ("10 responder nonce", "rejected_gpu_signature", |b| {
        b[3565] ^= 1
    }),
    ("11 length - 1", "evidence_gpu_structure", |b| b[3597] -= 1),
    ("11 length ffff", "evidence_gpu_structure", |b| {
        b[3597..3599].fill(0xff)
    }),
    ("12 field leads outside", "evidence_gpu_opaque", |b| {
        let at = field_at(b, 22);
        b[at - 2] += 1;
    }),
    ("13 type twice", "evidence_gpu_opaque", |b| {
        let at = field_at(b, 14);
        b[at - 4] = 6;
    }),
    ("14 driver", "rejected_gpu_signature", |b| {
        let at = field_at(b, 3);
        b[at] = b'6';
    }),
    ("14 VBIOS", "rejected_gpu_signature", |b| {
        let at = field_at(b, 6);
        b[at] ^= 1;
    }),
    ("15 NVDEC", "rejected_gpu_signature", |b| {
        let at = field_at(b, 11);
        b[at] = 0xaa;
    }),
    ("16 FWID", "rejected_gpu_signature", |b| {
        let at = field_at(b, 20);
        b[at] ^= 1;
    }),
    ("17 PPCIE", "rejected_gpu_signature", |b| {
        let at = field_at(b, 21);
        b[at] = 0x55;
    }),
    ("17 switch", "rejected_gpu_signature", |b| {
        let at = field_at(b, 22);
        b[at] ^= 1;
    }),
    ("18 r", "rejected_gpu_signature", |b| b[SIGNATURE] ^= 1),
    ("18 s", "rejected_gpu_signature", |b| b[SIGNATURE + 95] ^= 1),
    ("18 halves swapped", "rejected_gpu_signature", |b| {
        b[SIGNATURE..].rotate_left(48)
    }),
    ("18 zeros", "rejected_gpu_signature", |b| {
        b[SIGNATURE..].fill(0)
    }),
    ("18 little-endian", "rejected_gpu_signature", |b| {
        b[SIGNATURE..SIGNATURE + 48].reverse();
        b[SIGNATURE + 48..].reverse();
    }),
    ("20 cut", "evidence_gpu_structure", |b| b.truncate(4265)),
    ("20 appended", "evidence_gpu_structure", |b| b.push(0)),
    ("20 a byte in front", "evidence_gpu_structure", |b| {
        b.insert(0, 0x11)
    }),
    ("21 request stripped", "evidence_gpu_structure", |b| {
        drop(b.drain(..37))
    }),
];

#[test]
fn recorded_evidence_that_was_changed_is_refused() {
    for recorded in recorded() {
        for (name, expected, edit) in EVIDENCE {
            assert_eq!(changed(&recorded, "evidence", *edit), *expected, "{name}");
        }
    }
}

/// 19: with (r, s) also (r, n - s) is a signature, so evidence is no unique id.
#[test]
fn the_other_form_of_a_signature_is_taken() {
    const N: &str = "ffffffffffffffffffffffffffffffffffffffffffffffff\
                     c7634d81f4372ddf581a0db248b0a77aecec196accc52973";
    for recorded in recorded() {
        let got = changed(&recorded, "evidence", |bytes| {
            let mut borrow = 0;
            let n = hex::decode(N).unwrap();
            for (s, n) in bytes[SIGNATURE + 48..].iter_mut().zip(n).rev() {
                let difference = i16::from(n) - i16::from(*s) - borrow;
                borrow = i16::from(difference < 0);
                *s = difference.rem_euclid(256) as u8;
            }
        });
        assert_eq!(got, "verified");
    }
}

/// The certificates of a PEM text, one text each.
fn pems(bytes: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(bytes).unwrap();
    let end = "-----END CERTIFICATE-----\n";
    let all = text.split_inclusive(end);
    all.filter(|pem| pem.ends_with(end))
        .map(str::to_owned)
        .collect()
}

type Rewrite = fn(&mut Vec<String>);

const CHAINS: &[(&str, &str, Rewrite)] = &[
    ("22 reversed", "rejected_gpu_root", |c| c.reverse()),
    ("23 root missing", "rejected_gpu_chain_length", |c| {
        drop(c.pop())
    }),
    ("24 provisioner missing", "rejected_gpu_chain_length", |c| {
        drop(c.remove(2))
    }),
    ("24 device missing, root twice", "rejected_gpu_chain", |c| {
        c.remove(1);
        c.push(c[3].clone());
    }),
    ("25 leaf missing", "rejected_gpu_chain_length", |c| {
        drop(c.remove(0))
    }),
    ("26 root twice", "rejected_gpu_chain_length", |c| {
        c.push(c[4].clone())
    }),
    ("35 text between", "evidence_gpu_certificates", |c| {
        c.insert(1, "subject=somebody\n".to_owned())
    }),
    ("35 text in front", "evidence_gpu_certificates", |c| {
        c.insert(0, "\n".to_owned())
    }),
    ("35 a key between", "evidence_gpu_certificates", |c| {
        c.insert(1, c[0].replace("CERTIFICATE", "PRIVATE KEY"))
    }),
    ("a NUL between", "evidence_gpu_certificates", |c| {
        c.insert(1, "\0".to_owned())
    }),
];

#[test]
fn recorded_chains_that_were_changed_are_refused() {
    for recorded in recorded() {
        for (name, expected, rewrite) in CHAINS {
            let got = changed(&recorded, "certificate", |bytes| {
                let mut chain = pems(bytes);
                rewrite(&mut chain);
                *bytes = chain.concat().into_bytes();
            });
            assert_eq!(got, *expected, "{name}");
        }
    }
}

/// 30, 31, 32, 34: whatever is changed inside a certificate breaks its signature.
#[test]
fn recorded_certificates_that_were_changed_are_refused() {
    for recorded in recorded() {
        let edit = |at: usize, find: &[u8], change: fn(&mut u8)| {
            changed(&recorded, "certificate", |bytes| {
                let mut chain = pems(bytes);
                let mut der = der(&chain[at]);
                let found = der.windows(find.len()).rposition(|window| window == find);
                let place = found.expect("what is changed") + find.len() - 1;
                change(&mut der[place]);
                chain[at] = fake_tee::encode::pem_chain(&[der]);
                *bytes = chain.concat().into_bytes();
            })
        };
        let flip = |byte: &mut u8| *byte ^= 1;
        assert_eq!(
            edit(0, b"GH100 A01 GSP FMC LF", flip),
            "rejected_gpu_chain",
            "30"
        );
        let fwid = blob(&recorded.payload, 2, "evidence");
        let fwid = &fwid[field_at(&fwid, 20)..][..48];
        assert_eq!(edit(0, fwid, flip), "rejected_gpu_chain", "31");
        assert_eq!(edit(0, b"NVIDIA:GH100:4", flip), "rejected_gpu_chain", "32");
        assert_eq!(
            edit(0, b"99991231235959", |b| *b = b'8'),
            "rejected_gpu_chain",
            "33"
        );
        for at in 1..4 {
            let all = recorded_der(&recorded, at);
            assert_eq!(
                edit(at, &all, flip),
                "rejected_gpu_chain",
                "34, certificate {at}"
            );
        }
        let root = recorded_der(&recorded, 4);
        assert_eq!(edit(4, &root, flip), "rejected_gpu_root");
    }
}

fn der(pem: &str) -> Vec<u8> {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    BASE64_STANDARD.decode(&body).unwrap()
}

fn recorded_der(recorded: &Recorded, at: usize) -> Vec<u8> {
    der(&pems(&blob(&recorded.payload, 2, "certificate"))[at])
}

/// The first `count` certificates of GPU 5 in the chain of GPU 2.
#[test]
fn certificates_of_another_gpu_are_refused() {
    for recorded in recorded() {
        let donor = pems(&blob(&recorded.payload, 5, "certificate"));
        let with = |places: &[usize]| {
            changed(&recorded, "certificate", |bytes| {
                let mut chain = pems(bytes);
                for at in places {
                    chain[*at] = donor[*at].clone();
                }
                *bytes = chain.concat().into_bytes();
            })
        };
        assert_eq!(with(&[0]), "rejected_gpu_chain", "27");
        assert_eq!(with(&[0, 1]), "rejected_gpu_signature", "28");
        assert_eq!(with(&[1]), "rejected_gpu_chain", "29");
        assert_eq!(with(&[2, 3, 4]), "verified", "these are the same for all");
    }
}

#[test]
fn lists_that_were_changed_are_refused() {
    for recorded in recorded() {
        let with = |change: fn(&mut Vec<Value>)| {
            let mut payload = recorded.payload.clone();
            change(payload["evidence_list"].as_array_mut().unwrap());
            judged(&recorded, &payload)
        };
        assert_eq!(
            with(|list| drop(list.pop())),
            "verified",
            "39: a policy counts"
        );
        assert_eq!(with(Vec::clear), "rejected_gpu_missing", "39");
        assert_eq!(
            with(|list| list[3] = list[0].clone()),
            "rejected_gpu_duplicate",
            "40"
        );
        assert_eq!(
            with(|list| {
                let first = list[0]["evidence"].take();
                list[0]["evidence"] = list[1]["evidence"].take();
                list[1]["evidence"] = first;
            }),
            "rejected_gpu_signature",
            "41"
        );
        assert_eq!(with(|list| list.rotate_left(3)), "verified", "42");
        assert_eq!(
            with(|list| list[7]["nonce"] = json!("00".repeat(32))),
            "rejected_gpu_payload_nonce",
            "43"
        );
        assert_eq!(
            with(|list| list[7]["arch"] = json!("BLACKWELL")),
            "verified",
            "44: a copy"
        );
    }
}

#[test]
fn evidence_of_another_day_is_refused() {
    let Some([april, june]) = payloads() else {
        return;
    };
    let mut payload = june.payload.clone();
    payload["evidence_list"][2] = april.payload["evidence_list"][2].clone();
    assert_eq!(judged(&june, &payload), "rejected_gpu_nonce", "45");
    let mut payload = april.payload.clone();
    assert_eq!(judged(&june, &payload), "rejected_gpu_payload_nonce");
    payload["nonce"] = june.payload["nonce"].clone();
    assert_eq!(judged(&june, &payload), "rejected_gpu_nonce", "46");
}

#[test]
fn a_genuine_gpu_from_elsewhere_is_refused() {
    let (Some(sample), Some([_, june])) = (sample(), payloads()) else {
        return;
    };
    let mut payload = june.payload.clone();
    payload["evidence_list"][7] = sample.payload["evidence_list"][0].clone();
    payload["evidence_list"][7]["nonce"] = payload["nonce"].clone();
    assert_eq!(judged(&june, &payload), "rejected_gpu_nonce", "47");
}

#[test]
fn outside_their_validity_certificates_are_refused() {
    for recorded in recorded() {
        for (at, expected) in [
            (UnixTime(0), "rejected_gpu_chain"),
            // The family's certificate is of 2022-01-12, the provisioner's of 2022-03-01.
            (UnixTime(1_646_092_799), "rejected_gpu_chain"),
            (UnixTime(1_646_092_800), "verified"),
            (UnixTime(253_402_300_799), "verified"),
            (UnixTime(253_402_300_800), "rejected_gpu_chain"),
        ] {
            let recorded = Recorded {
                at,
                ..recorded.clone()
            };
            assert_eq!(judged(&recorded, &recorded.payload), expected, "at {at}");
        }
    }
}

/// The sample's canned nonce is not the one that it signed.
#[test]
fn the_samples_wrong_nonce_is_refused() {
    let Some(sample) = sample() else { return };
    let wrong: Nonce = "4cff7f5380ead8fad8ec2c531c110aca4302a88f603792801a8ca29ee151af2e"
        .parse()
        .unwrap();
    let mut payload = sample.payload.clone();
    payload["nonce"] = json!(wrong.to_string());
    let other = Recorded {
        nonce: wrong,
        ..sample
    };
    assert_eq!(judged(&other, &payload), "rejected_gpu_nonce");
}
