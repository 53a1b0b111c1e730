//! A policy that looks at no software verifies a machine of any: what is missing or
//! unknown is not proved, what contradicts a register is refused.

use std::path::PathBuf;

use attest::{CheckId, Policy, Status};
use fake_tee::{CertForm, MrConfig, Spec};
use serde_json::{Value, json};

use super::formats::{fact, verified};
use super::judge_under;
use crate::support::{code, judge, spec, spec_with, status};
use crate::tampering::{remove, set};

/// A machine, and what is said of its log, its boot events and its description.
type Verified = (&'static str, fn(&mut Spec), [Status; 3]);
/// A machine, and the code of its refusal.
type Refused = (&'static str, fn(&mut Spec), &'static str);

#[test]
fn the_hardware_policy_verifies_any_software() {
    const BOOT: [CheckId; 3] = [CheckId::Rtmrs, CheckId::BootEvents, CheckId::Compose];
    let changes: [Verified; 15] = {
        use Status::{NotProved, Pass};
        [
            ("nothing", |_| {}, [Pass; 3]),
            (
                "no events of RTMR3",
                |s| {
                    s.hooks
                        .events
                        .push(|events| events.retain(|event| event.imr != 3));
                },
                [Pass, NotProved, NotProved],
            ),
            (
                "17 events of RTMR0",
                |s| {
                    s.hooks.events.push(|events| {
                        let event = events[0].clone();
                        events.splice(..0, vec![event; 4]);
                    });
                },
                [Pass; 3],
            ),
            (
                "other names in RTMR3",
                |s| {
                    s.hooks.events.push(|events| {
                        for event in events.iter_mut().filter(|event| event.imr == 3) {
                            event.event = "x".to_owned();
                        }
                    });
                },
                [Pass, NotProved, NotProved],
            ),
            (
                "digests of another formula",
                |s| {
                    s.hooks.events.push(|events| {
                        for event in events.iter_mut().filter(|event| event.imr == 3) {
                            event.digest = vec![7; 48];
                        }
                    });
                },
                [Pass, NotProved, NotProved],
            ),
            ("no event_log", |s| remove(s, "/event_log"), [NotProved; 3]),
            (
                "an event_log of another layout",
                |s| {
                    set(s, "/event_log", json!("SPEC ID Event03"));
                },
                [NotProved; 3],
            ),
            ("no info", |s| remove(s, "/info"), [Pass, Pass, NotProved]),
            (
                "an info of another layout",
                |s| set(s, "/info", json!("x")),
                [Pass, Pass, NotProved],
            ),
            (
                "no tcb_info",
                |s| remove(s, "/info/tcb_info"),
                [Pass, Pass, NotProved],
            ),
            (
                "no app_compose",
                |s| {
                    remove(s, "/info/tcb_info/app_compose");
                },
                [Pass, Pass, NotProved],
            ),
            (
                "an app_compose that is no text",
                |s| {
                    set(s, "/info/tcb_info/app_compose", json!({}));
                },
                [Pass, Pass, NotProved],
            ),
            ("no vm_config", |s| remove(s, "/info/vm_config"), [Pass; 3]),
            (
                "a vm_config of another layout",
                |s| {
                    set(s, "/info/vm_config", json!("memory: 1T"));
                },
                [Pass; 3],
            ),
            (
                "an app_cert of another layout",
                |s| set(s, "/info/app_cert", json!(7)),
                [Pass; 3],
            ),
        ]
    };
    for (what, change, expected) in changes {
        let mut spec = spec();
        spec.td.mr_td = [0xee; 48];
        change(&mut spec);
        let appraisal = verified(what, judge_under(&spec, &Policy::hardware()));
        let got = BOOT.map(|check| status(&appraisal, check));
        assert_eq!(got, expected, "{what}: {:#?}", appraisal.report.checks);
        // What unknown software says of itself goes by no name of something proved.
        for name in [
            "app_id",
            "compose_hash",
            "os_image_hash",
            "instance_id",
            "mr_kms",
        ] {
            assert_eq!(fact(&appraisal, name), None, "{what}: {name}");
            let unmeasured = fact(&appraisal, &format!("{name}_unmeasured"));
            let is_noted = expected[1] == Status::Pass;
            assert_eq!(unmeasured.is_some(), is_noted, "{what}: {name}");
        }
    }
}

#[test]
fn the_hardware_policy_refuses_what_contradicts_a_register() {
    let changes: [Refused; 5] = [
        (
            "a log cut short",
            |s| {
                s.hooks.events_after.push(|events| {
                    events.pop();
                });
            },
            "rejected_rtmr_replay",
        ),
        (
            "an empty log",
            |s| set(s, "/event_log", json!([])),
            "rejected_rtmr_replay",
        ),
        (
            "a payload exchanged, its digest left out",
            |s| {
                s.strip_digests = true;
                s.hooks.events_after.push(|events| {
                    events.last_mut().unwrap().event_payload.push(1);
                });
            },
            "rejected_rtmr_replay",
        ),
        (
            "another description than RTMR3 names",
            |s| {
                set(s, "/info/tcb_info/app_compose", json!("{}"));
            },
            "rejected_compose_hash",
        ),
        (
            "MRCONFIGID of form 2 for another application",
            |s| {
                let mut other = s.clone();
                other.app.app_id[0] ^= 1;
                s.overrides.mr_config_id = Some(MrConfig::V2.id(&other));
            },
            "rejected_mr_config_id",
        ),
    ];
    for (what, change, expected) in changes {
        let got = judge_under(&spec_with(change), &Policy::hardware());
        assert_eq!(code(&got), expected, "{what}");
    }
}

/// What upstream recorded of real guests, or none with a word about it.
fn recorded(name: &str) -> Option<Value> {
    let Some(folder) = std::env::var_os("VERIFIED_PROXY_SHARED").map(PathBuf::from) else {
        eprintln!("skipped: VERIFIED_PROXY_SHARED is not set");
        return None;
    };
    let text = std::fs::read(folder.join("dstack").join(name)).expect(name);
    Some(serde_json::from_slice(&text).unwrap())
}

/// The four registers of a TDX quote of version 4.
fn registers(quote: &[u8]) -> [Option<[u8; 48]>; 4] {
    [0, 1, 2, 3].map(|index| {
        let at = 48 + 328 + index * 48;
        Some(quote[at..at + 48].try_into().unwrap())
    })
}

#[test]
fn logs_of_real_guests_replay_and_are_read() {
    for (name, boot_events) in [
        ("tdx-lite-getquote.json", Status::Pass),
        // A guest without a KMS notes no os-image-hash.
        ("quote-report.json", Status::NotProved),
    ] {
        let Some(recorded) = recorded(name) else {
            return;
        };
        let quote = hex::decode(recorded["quote"].as_str().unwrap()).unwrap();
        let mut spec = spec();
        spec.overrides.rt_mr = registers(&quote);
        let log = recorded["event_log"].clone();
        spec.hooks
            .report
            .push(move |report| report["event_log"] = log.clone());
        remove(&mut spec, "/info");
        let appraisal = verified(name, judge_under(&spec, &Policy::hardware()));
        assert_eq!(status(&appraisal, CheckId::Rtmrs), Status::Pass);
        assert_eq!(
            status(&appraisal, CheckId::BootEvents),
            boot_events,
            "{name}"
        );
    }
}

#[test]
fn the_attestation_of_a_real_guest_is_read() {
    let Some(recorded) = recorded("tdx-lite-attestation.json") else {
        return;
    };
    let document = hex::decode(recorded["attestation"].as_str().unwrap()).unwrap();
    let mut spec = spec();
    spec.cert_form = CertForm::AttestationV0;
    spec.hooks
        .app_leaf
        .push(move |leaf| leaf.attestation = Some(document.clone()));
    // Its quote is found, and is another machine's.
    assert_eq!(code(&judge(&spec)), "rejected_app_cert_quote");
}
