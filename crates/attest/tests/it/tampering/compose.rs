//! The application description and its three hashes.

use fake_tee::event_log::DigestForm;
use serde_json::json;

use super::{Case, case, flip, set};

pub(super) const CASES: &[Case] = &[
    case(
        "A5",
        "app_compose with a space more",
        "rejected_compose_hash",
        |s| {
            s.hooks.report.push(|report| {
                let text = report["info"]["tcb_info"]["app_compose"].as_str().unwrap();
                report["info"]["tcb_info"]["app_compose"] = format!("{text} ").into();
            });
        },
    ),
    case(
        "A5",
        "another image in app_compose",
        "rejected_compose_hash",
        |s| {
            s.hooks.report.push(|report| {
                let text = report["info"]["tcb_info"]["app_compose"].as_str().unwrap();
                report["info"]["tcb_info"]["app_compose"] = text.replace("engine", "spy").into();
            });
        },
    ),
    case("A5", "an empty app_compose", "rejected_compose_hash", |s| {
        set(s, "/info/tcb_info/app_compose", json!(""));
    }),
    case(
        "A5",
        "one digit of info.compose_hash",
        "rejected_compose_hash",
        |s| flip(s, "/info/compose_hash"),
    ),
    case(
        "A5",
        "one digit of info.tcb_info.compose_hash",
        "rejected_compose_hash",
        |s| {
            flip(s, "/info/tcb_info/compose_hash");
        },
    ),
    case(
        "A5",
        "another compose-hash event, signed",
        "rejected_compose_hash",
        |s| {
            s.hooks.events.push(|events| {
                let event = events
                    .iter_mut()
                    .find(|event| event.event == "compose-hash")
                    .unwrap();
                event.event_payload[0] ^= 1;
                event.rehash(DigestForm::V1);
            });
        },
    ),
    case(
        "A5",
        "a compose-hash event of 31 bytes, signed",
        "rejected_compose_hash",
        |s| {
            s.hooks.events.push(|events| {
                let event = events
                    .iter_mut()
                    .find(|event| event.event == "compose-hash")
                    .unwrap();
                event.event_payload.pop();
                event.rehash(DigestForm::V1);
            });
        },
    ),
    case(
        "A5",
        "another application in MRCONFIGID, signed",
        "rejected_mr_config_id",
        |s| {
            s.overrides.mr_config_id = Some(config_id(1, 9, 0));
        },
    ),
    case(
        "A5",
        "MRCONFIGID of zeros, signed",
        "rejected_mr_config_id",
        |s| {
            s.overrides.mr_config_id = Some([0; 48]);
        },
    ),
    case(
        "A5",
        "MRCONFIGID of another version, signed",
        "rejected_mr_config_id",
        |s| {
            let mut id = config_id(2, 0, 0);
            id[1..33].copy_from_slice(&s.app.compose_hash());
            s.overrides.mr_config_id = Some(id);
        },
    ),
    case(
        "A5",
        "MRCONFIGID with bytes behind the hash, signed",
        "rejected_mr_config_id",
        |s| {
            let mut id = config_id(1, 0, 7);
            id[1..33].copy_from_slice(&s.app.compose_hash());
            s.overrides.mr_config_id = Some(id);
        },
    ),
];

fn config_id(version: u8, hash: u8, rest: u8) -> [u8; 48] {
    let mut id = [rest; 48];
    id[0] = version;
    id[1..33].fill(hash);
    id
}
