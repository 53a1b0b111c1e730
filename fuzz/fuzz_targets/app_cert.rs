//! Any PEM, or any DER in each place of the chain, as the identity certificate
//! of a valid report.

#![no_main]

use attest_fuzz::{Base, first_certificate, write_seeds};
use libfuzzer_sys::{Corpus, fuzz_target};

const APP_CERT: &str = "/info/app_cert";

/// The bodies of the valid chain's certificates, in base64.
fn bodies(base: &Base) -> Vec<String> {
    base.text(APP_CERT)
        .split_inclusive("-----END CERTIFICATE-----")
        .map(first_certificate)
        .filter(|body| !body.is_empty())
        .collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let group = [0, 1, 2].map(|i| chunk.get(i).copied().unwrap_or_default());
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            out.push(if digit <= chunk.len() {
                char::from(DIGITS[value as usize])
            } else {
                '='
            });
        }
    }
    out
}

fn unbase64(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|c| *c != b'=').map(value).collect();
    digits
        .chunks(4)
        .flat_map(|chunk| {
            let bits = (0..4).fold(0, |bits, i| {
                bits << 6 | u32::from(chunk.get(i).copied().unwrap_or_default())
            });
            bits.to_be_bytes()[1..chunk.len()].to_vec()
        })
        .collect()
}

fn pem(bodies: &[String]) -> String {
    let mut out = String::new();
    for body in bodies {
        out.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in body.as_bytes().chunks(64) {
            out.push_str(&String::from_utf8_lossy(line));
            out.push('\n');
        }
        out.push_str("-----END CERTIFICATE-----\n");
    }
    out
}

fuzz_target!(
    init: write_seeds(|base| {
        let mut seeds = vec![[b"P", base.text(APP_CERT).as_bytes()].concat(), b"P".to_vec()];
        for (place, body) in bodies(base).iter().enumerate() {
            seeds.push([&[u8::try_from(place).unwrap_or_default()], unbase64(body).as_slice()].concat());
        }
        seeds
    }),
    |data: &[u8]| -> Corpus {
        let Some((place, data)) = data.split_first() else {
            return Corpus::Reject;
        };
        let base = Base::get();
        let text = match *place {
            place @ 0..=2 => {
                let mut bodies = bodies(base);
                bodies[usize::from(place)] = base64(data);
                pem(&bodies)
            }
            _ => match std::str::from_utf8(data) {
                Ok(text) => text.to_owned(),
                Err(_) => return Corpus::Reject,
            },
        };
        base.verifies(&base.with(APP_CERT, text.into()));
        Corpus::Keep
    }
);
