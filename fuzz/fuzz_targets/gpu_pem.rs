//! Any text as the certificates of a GPU, or its valid certificates with changes.

#![no_main]

use attest::IssuerCache;
use attest_fuzz::gpu::{Machine, filled, payload, pem_content, words, write_seeds};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use libfuzzer_sys::{Corpus, fuzz_target};

/// The input is a text. @0 to @4 stand for the base64 of a certificate, @b and @e
/// for the lines around it.
const TEXT: u8 = b'P';

const NAMES: [&str; 5] = ["@0", "@1", "@2", "@3", "@4"];
const BEGIN: &str = "-----BEGIN CERTIFICATE-----\n";
const END: &str = "-----END CERTIFICATE-----\n";

/// The bodies of the valid chain, one line each.
fn bodies(machine: &Machine) -> Vec<String> {
    let text = std::str::from_utf8(&machine.chains[0]).expect("PEM is text");
    let ends = text.split_inclusive(END);
    ends.map(|pem| pem.replace(BEGIN, "").replace(END, "").replace('\n', ""))
        .collect()
}

fn chain(bodies: &[String]) -> String {
    bodies
        .iter()
        .map(|body| format!("{BEGIN}{body}\n{END}"))
        .collect()
}

/// Changes the certificate at a place: where (two bytes), how many bytes go, how
/// many come, those; and again.
fn spliced(mut der: Vec<u8>, mut changes: &[u8]) -> Vec<u8> {
    while let Some((&[high, low, out, new], rest)) = changes.split_first_chunk() {
        let at = usize::from(u16::from_be_bytes([high, low])).min(der.len());
        let end = (at + usize::from(out)).min(der.len());
        let (new, rest) = rest.split_at(usize::from(new).min(rest.len()));
        der.splice(at..end, new.iter().copied());
        changes = rest;
    }
    der
}

fuzz_target!(
    init: write_seeds(|machine| {
        let pem = |names: &[&str]| -> Vec<u8> {
            let all: String = names.iter().map(|name| format!("@b{name}\n@e")).collect();
            [&[TEXT], all.as_bytes()].concat()
        };
        let mut seeds = vec![
            pem(&NAMES),
            [pem(&NAMES), b"\0\0".to_vec()].concat(),
            pem(&NAMES[..4]),
            pem(&NAMES[1..]),
            pem(&["@0", "@1", "@3", "@2", "@4"]),
            [&[TEXT], &machine.chains[0][..]].concat(),
        ];
        for place in 0..5 {
            seeds.push(vec![place]);
            // The same byte, and another one.
            seeds.push(vec![place, 0, 0, 1, 1, 0x30]);
            seeds.push(vec![place, 0, 40, 1, 1, 0]);
            seeds.push(vec![place, 1, 40, 2, 3, 0, 1, 2]);
        }
        seeds
    }),
    |data: &[u8]| -> Corpus {
        let Some((place, data)) = data.split_first() else {
            return Corpus::Reject;
        };
        let machine = Machine::get();
        let mut bodies = bodies(machine);
        let pem = match *place {
            place @ 0..=4 => {
                let body = &mut bodies[usize::from(place)];
                let der = BASE64_STANDARD.decode(body.as_str()).expect("base64");
                *body = BASE64_STANDARD.encode(&spliced(der, data));
                chain(&bodies)
            }
            TEXT => {
                let Ok(text) = std::str::from_utf8(data) else {
                    return Corpus::Reject;
                };
                let mut names = vec![("@b", BEGIN), ("@e", END)];
                names.extend(NAMES.into_iter().zip(bodies.iter().map(String::as_str)));
                match filled(text, &names) {
                    Some(pem) => pem,
                    None => return Corpus::Reject,
                }
            }
            _ => return Corpus::Reject,
        };
        let payload = payload([(pem.as_bytes(), &*machine.evidence[0])]);
        let judged = machine.judge(&payload);
        // What is kept of issuers decides nothing.
        let fresh = machine.judge_with(&payload, &IssuerCache::new());
        let [kept, fresh] = [judged, fresh].map(|judged| match judged {
            Ok(report) => Ok(words(&report.gpus()[0])),
            Err(rejected) => Err(rejected.to_string()),
        });
        assert_eq!(kept, fresh);
        if let Ok(words) = kept {
            assert_eq!(words, machine.finding(0));
            let [got, expected] = [pem.as_bytes(), &machine.chains[0]].map(pem_content);
            assert_eq!(got, expected, "another chain verifies");
        }
        Corpus::Keep
    }
);
