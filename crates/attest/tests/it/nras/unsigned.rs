//! Changes to what was signed, and to what is around it.

use attest::{MAX_NRAS_ANSWER_BYTES, MAX_NRAS_KEY_SET_BYTES};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use fake_tee::nras::NrasSpec;
use serde_json::{Value, json};

use super::{Row, assert_refused, code, judge_bytes, machine, spec};

/// A token's claims, believed.
pub(super) fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

pub(super) fn encoded(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Replaces one of a token's three parts.
fn part(compact: &mut String, place: usize, change: impl FnOnce(&mut Vec<u8>)) {
    let mut parts: Vec<_> = compact.split('.').map(str::to_owned).collect();
    let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(&parts[place]).unwrap();
    change(&mut bytes);
    parts[place] = encoded(&bytes);
    *compact = parts.join(".");
}

/// r and s in DER, as certificates have them.
fn der_signature(fixed: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| {
        let mut value: Vec<u8> = bytes
            .iter()
            .copied()
            .skip_while(|byte| *byte == 0)
            .collect();
        if value[0] >= 0x80 {
            value.insert(0, 0);
        }
        [vec![2, value.len() as u8], value].concat()
    };
    let both = [integer(&fixed[..48]), integer(&fixed[48..])].concat();
    [vec![0x30, both.len() as u8], both].concat()
}

macro_rules! compact {
    ($name:literal, $code:literal, $change:expr) => {
        ($name, $code, |s: &mut NrasSpec| {
            s.overall.compact.push(|compact: &mut String| {
                let change: fn(&mut String) = $change;
                change(compact)
            })
        })
    };
}

pub(super) const REFUSED: &[Row] = &[
    compact!("a claim edited", "rejected_nras_signature", |t| part(
        t,
        1,
        |p| {
            let text = String::from_utf8(p.clone()).unwrap();
            *p = text
                .replace("\"x-nvidia-ver\"", "\"x-nvidia-Ver\"")
                .into_bytes();
        }
    )),
    // Verified before it is read: this payload is no JSON.
    compact!("a payload of words", "rejected_nras_signature", |t| part(
        t,
        1,
        |p| *p = b"no".to_vec()
    )),
    compact!("no payload", "rejected_nras_signature", |t| part(
        t,
        1,
        Vec::clear
    )),
    compact!(
        "a payload that is not base64url",
        "rejected_nras_signature",
        |t| {
            let parts: Vec<_> = t.split('.').collect();
            *t = format!("{}.!!!.{}", parts[0], parts[2]);
        }
    ),
    compact!("r", "rejected_nras_signature", |t| part(t, 2, |s| s[5] ^=
        1)),
    compact!("s", "rejected_nras_signature", |t| part(t, 2, |s| s[90] ^=
        1)),
    compact!("r and s exchanged", "rejected_nras_signature", |t| part(
        t,
        2,
        |s| s.rotate_left(48)
    )),
    compact!("a signature of zeros", "rejected_nras_signature", |t| part(
        t,
        2,
        |s| s.fill(0)
    )),
    compact!("no signature", "rejected_nras_signature", |t| part(
        t,
        2,
        Vec::clear
    )),
    compact!("a longer signature", "rejected_nras_signature", |t| part(
        t,
        2,
        |s| s.push(0)
    )),
    compact!("a shorter signature", "rejected_nras_signature", |t| part(
        t,
        2,
        |s| s.truncate(95)
    )),
    compact!("a signature in DER", "rejected_nras_signature", |t| part(
        t,
        2,
        |s| *s = der_signature(s)
    )),
    compact!("a header of other bytes", "rejected_nras_signature", |t| {
        part(t, 0, |h| h.push(b' '))
    }),
    compact!("a header of words", "evidence_nras_token", |t| part(
        t,
        0,
        |h| *h = b"no".to_vec()
    )),
    compact!("no header", "evidence_nras_token", |t| part(
        t,
        0,
        Vec::clear
    )),
    compact!("padding", "evidence_nras_token", |t| t.push('=')),
    compact!("a newline", "evidence_nras_token", |t| t.push('\n')),
    compact!("base64", "evidence_nras_token", |t| t.push_str("++//")),
    compact!("four parts", "evidence_nras_token", |t| t.push('.')),
    compact!("five parts, encrypted", "evidence_nras_token", |t| t
        .insert_str(0, "e30.e30.")),
    compact!("two parts", "evidence_nras_token", |t| *t =
        t.rsplit_once('.').unwrap().0.to_owned()),
    compact!("no token", "evidence_nras_token", |t| t.clear()),
    ("a GPU's token edited", "rejected_nras_digest", |s| {
        s.answer.push(|answer| {
            let mut token = answer[1]["GPU-1"].as_str().unwrap().to_owned();
            part(&mut token, 2, |signature| signature[0] ^= 1);
            answer[1]["GPU-1"] = token.into();
        })
    }),
    ("a GPU's signature", "rejected_nras_signature", |s| {
        s.gpu(1).signature.push(|signature| signature[0] ^= 1)
    }),
    ("two tokens exchanged", "rejected_nras_digest", |s| {
        s.answer.push(|answer| {
            let first = answer[1]["GPU-0"].take();
            answer[1]["GPU-0"] = answer[1]["GPU-1"].take();
            answer[1]["GPU-1"] = first;
        })
    }),
    // Their digests too, as NVIDIA would sign another order.
    ("two GPUs exchanged", "rejected_nras_device", |s| {
        s.tokens.push(|tokens| tokens.swap(0, 1))
    }),
    ("one GPU twice", "rejected_nras_device", |s| {
        s.tokens.push(|tokens| tokens[1] = tokens[0].clone())
    }),
    (
        "the overall token as a GPU's",
        "rejected_nras_digest",
        |s| {
            s.answer
                .push(|answer| answer[1]["GPU-1"] = answer[0][1].clone())
        },
    ),
    ("a token missing", "rejected_nras_gpus", |s| {
        s.answer.push(|answer| {
            answer[1].as_object_mut().unwrap().remove("GPU-1");
        })
    }),
    ("a token more", "rejected_nras_gpus", |s| {
        s.answer
            .push(|answer| answer[1]["GPU-3"] = answer[1]["GPU-2"].clone())
    }),
    ("a GPU missing everywhere", "rejected_nras_gpus", |s| {
        s.tokens.push(|tokens| tokens.truncate(2))
    }),
    ("a GPU more everywhere", "rejected_nras_gpus", |s| {
        s.tokens.push(|tokens| tokens.push(tokens[2].clone()))
    }),
    ("another kind of token", "evidence_nras_answer", |s| {
        s.answer.push(|answer| answer[0][0] = json!("CWT"))
    }),
    ("an overall token alone", "evidence_nras_answer", |s| {
        s.answer
            .push(|answer| answer.as_array_mut().unwrap().truncate(1))
    }),
    ("a third part", "evidence_nras_answer", |s| {
        s.answer
            .push(|answer| answer.as_array_mut().unwrap().push(json!(1)))
    }),
    ("two overall tokens", "evidence_nras_answer", |s| {
        s.answer.push(|answer| {
            let token = answer[0][1].clone();
            answer[0].as_array_mut().unwrap().push(token);
        })
    }),
    ("tokens in a list", "evidence_nras_answer", |s| {
        s.answer
            .push(|answer| answer[1] = json!([answer[1]["GPU-0"]]))
    }),
    ("an object", "evidence_nras_answer", |s| {
        s.answer
            .push(|answer| *answer = json!({"0": answer[0], "1": answer[1]}))
    }),
    ("a token that is a number", "evidence_nras_answer", |s| {
        s.answer.push(|answer| answer[1]["GPU-1"] = json!(1))
    }),
    ("an error instead", "evidence_nras_answer", |s| {
        s.answer
            .push(|answer| *answer = json!({"errorCode": 4003, "message": "NONCE"}))
    }),
];

#[test]
fn changes_after_signing_are_refused() {
    assert_refused(REFUSED);
}

/// A name that stands twice reads in two ways.
#[test]
fn a_gpu_that_stands_twice_is_refused() {
    let spec = spec();
    let key_set = spec.key_set().unwrap().to_string();
    let answer = spec.answer(&machine().payload).unwrap();
    let text = answer.to_string();
    let twice = text.replacen(
        "\"GPU-0\":",
        &format!("\"GPU-0\":{},\"GPU-0\":", answer[1]["GPU-0"]),
        1,
    );
    let of = |answer: &str| judge_bytes(answer.as_bytes(), key_set.as_bytes(), &machine().gpus);
    assert_eq!(code(&of(&text)), "verified");
    assert_eq!(code(&of(&twice)), "evidence_nras_answer");
    assert_eq!(code(&of(&format!("{text}{text}"))), "evidence_nras_answer");
    let long = format!("[{}1]", "1,".repeat(300));
    assert_eq!(code(&of(&long)), "evidence_nras_answer");
}

#[test]
fn sizes_are_bounded() {
    let spec = spec();
    let key_set = spec.key_set().unwrap().to_string();
    let answer = spec.answer(&machine().payload).unwrap();
    let sized = |text: &str, len: usize| format!("{text}{}", " ".repeat(len - text.len()));
    let of = |answer: &str, keys: &str| {
        code(&judge_bytes(
            answer.as_bytes(),
            keys.as_bytes(),
            &machine().gpus,
        ))
    };
    let text = answer.to_string();
    for (more, expected) in [(0, "verified"), (1, "evidence_nras_too_large")] {
        let long = sized(&text, MAX_NRAS_ANSWER_BYTES + more);
        assert_eq!(of(&long, &key_set), expected);
        let long = sized(&key_set, MAX_NRAS_KEY_SET_BYTES + more);
        assert_eq!(of(&text, &long), expected);
    }
    let mut long = answer;
    let token = long[0][1].as_str().unwrap();
    for (len, expected) in [
        (16 << 10, "rejected_nras_signature"),
        ((16 << 10) + 1, "evidence_nras_too_large"),
    ] {
        // Payload of any length, before the signature.
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let fill = "A".repeat(len - token.len());
        let mut long = long.clone();
        long[0][1] = format!("{signed}{fill}.{signature}").into();
        assert_eq!(of(&long.to_string(), &key_set), expected, "{len}");
    }
    long[0][1] = json!("A".repeat(20_000));
    assert_eq!(of(&long.to_string(), &key_set), "evidence_nras_too_large");
}
