//! Any bytes as the evidence of a GPU with valid certificates: beside the
//! signature of another message, or signed by the GPU itself.

#![no_main]

use attest_fuzz::gpu::{
    Machine, SIGNATURE, must_agree, must_be_as_signed, payload, smaller_form, words, write_seeds,
};
use libfuzzer_sys::{Corpus, fuzz_target};

/// The message is the input, the signature that of the valid message.
const MESSAGE: u8 = 0;
/// The message is valid, its signature is changed by the input (XOR).
const FORGED: u8 = 1;
/// The signed message is the input, of the machine's only GPU.
const ALONE: u8 = 2;
/// The same, of its second one.
const SECOND: u8 = 3;
/// Message and signature are the input.
const WHOLE: u8 = 4;

fn valid(machine: &Machine, gpu: usize) -> (&[u8], &[u8]) {
    let evidence = &machine.evidence[gpu];
    evidence.split_at(evidence.len() - SIGNATURE)
}

fuzz_target!(
    init: write_seeds(|machine| {
        let (message, signature) = valid(machine, 0);
        let mut seeds: Vec<_> = [MESSAGE, ALONE, SECOND].map(|mode| [&[mode], message].concat()).into();
        seeds.push([&[FORGED], &[0; SIGNATURE][..]].concat());
        seeds.push([&[WHOLE], message, signature].concat());
        // Beside all fields, the fewest, and one that older drivers do not know.
        let fewest = [
            &[6, 0, 8, 0, 0, 0xcf, 0, 0x96, 2, 0, 0, 0][..],
            b"\x03\0\x0b\x00570.172.08\0",
        ].concat();
        let feature = [&fewest[..], &[36, 0, 2, 0, 1, 0]].concat();
        for fields in [fewest, feature] {
            let len = (fields.len() as u16).to_le_bytes();
            seeds.push([&[ALONE], &message[..3597], &len, &fields].concat());
        }
        seeds
    }),
    |data: &[u8]| -> Corpus {
        let Some((mode, data)) = data.split_first() else {
            return Corpus::Reject;
        };
        let machine = Machine::get();
        let (message, signature) = valid(machine, 0);
        let alone = |evidence: &[u8]| payload([(&*machine.chains[0], evidence)]);
        match *mode {
            MESSAGE => {
                let evidence = [data, signature].concat();
                let judged = machine.judge(&alone(&evidence));
                assert_eq!(judged.is_ok(), data == message, "another message verifies");
            }
            FORGED => {
                let mask = data.iter().copied().chain(std::iter::repeat(0));
                let forged: Vec<_> = signature.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
                let judged = machine.judge(&alone(&[message, &forged].concat()));
                let is_valid = smaller_form(&forged) == smaller_form(signature);
                assert_eq!(judged.is_ok(), is_valid, "another signature verifies");
            }
            ALONE => {
                let evidence = [data, &machine.sign(0, data)].concat();
                if let Ok(report) = machine.judge(&alone(&evidence)) {
                    must_be_as_signed(&report.gpus()[0], data);
                }
            }
            SECOND => {
                let evidence = [data, &machine.sign(1, data)].concat();
                let text = payload([
                    (&*machine.chains[0], &*machine.evidence[0]),
                    (&machine.chains[1], &evidence),
                ]);
                if let Ok(report) = machine.judge(&text) {
                    let [first, second] = report.gpus() else {
                        panic!("two GPUs were sent");
                    };
                    must_be_as_signed(first, message);
                    must_be_as_signed(second, data);
                    assert_eq!(words(first), machine.finding(0));
                    let alike = first.driver == second.driver && first.vbios == second.vbios;
                    assert_eq!(report.findings().is_empty(), alike);
                    must_agree(&first.protected_pcie, &second.protected_pcie);
                    must_agree(&first.feature, &second.feature);
                    must_agree(&first.switches, &second.switches);
                }
            }
            WHOLE => {
                if machine.judge(&alone(data)).is_ok() {
                    let at = data.len() - SIGNATURE;
                    assert_eq!(&data[..at], message, "another message verifies");
                    assert_eq!(smaller_form(&data[at..]), smaller_form(signature));
                }
            }
            _ => return Corpus::Reject,
        }
        Corpus::Keep
    }
);
