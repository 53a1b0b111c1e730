//! What the version before levels refused and this one may accept: changes to copies, to
//! keys that nothing uses, to MRCONFIGID's form, to boot events, to logs and to GPUs.

use fake_tee::Spec;
use fake_tee::compose_file::compose_text;
use fake_tee::deployment::{action, compose_up};
use fake_tee::event_log::{DigestForm, Event};
use fake_tee::gpu::field;
use serde_json::{Value, json};

use crate::support::NOW;
use crate::tampering::{Case, case, flip, set};

/// The rows of that version's docs/tamperings.md that today's table does not have.
pub(super) const REMOVED: &[Case] = &[
    row("one digit of signing_public_key", |s| {
        flip(s, "/signing_public_key");
    }),
    row("one digit of info.app_id", |s| flip(s, "/info/app_id")),
    row("one digit of info.instance_id", |s| {
        flip(s, "/info/instance_id");
    }),
    row("one digit of info.os_image_hash", |s| {
        flip(s, "/info/os_image_hash");
    }),
    row("one digit of info.device_id", |s| {
        flip(s, "/info/device_id");
    }),
    row("another info.key_provider_info", |s| {
        let other = json!(r#"{"name":"kms","id":"00"}"#);
        set(s, "/info/key_provider_info", other);
    }),
    row("one digit of info.tcb_info.mrtd", |s| {
        flip(s, "/info/tcb_info/mrtd");
    }),
    row("one digit of info.tcb_info.rtmr0", |s| {
        flip(s, "/info/tcb_info/rtmr0");
    }),
    row("one digit of info.tcb_info.rtmr1", |s| {
        flip(s, "/info/tcb_info/rtmr1");
    }),
    row("one digit of info.tcb_info.rtmr2", |s| {
        flip(s, "/info/tcb_info/rtmr2");
    }),
    row("one digit of info.tcb_info.rtmr3", |s| {
        flip(s, "/info/tcb_info/rtmr3");
    }),
    row("one digit of info.tcb_info.os_image_hash", |s| {
        flip(s, "/info/tcb_info/os_image_hash");
    }),
    row("one digit of info.tcb_info.device_id", |s| {
        flip(s, "/info/tcb_info/device_id");
    }),
    row("another info.tcb_info.event_log", |s| {
        set(s, "/info/tcb_info/event_log", json!([]));
    }),
    row("one digit of info.compose_hash", |s| {
        flip(s, "/info/compose_hash");
    }),
    row("one digit of info.tcb_info.compose_hash", |s| {
        flip(s, "/info/tcb_info/compose_hash");
    }),
    row("MRCONFIGID of zeros, signed", |s| {
        s.overrides.mr_config_id = Some([0; 48]);
    }),
    row("MRCONFIGID of another version, signed", |s| {
        let mut id = [0; 48];
        id[0] = 2;
        id[1..33].copy_from_slice(&s.app.compose_hash());
        s.overrides.mr_config_id = Some(id);
    }),
    row("an unknown event before system-ready, signed", |s| {
        s.hooks.events.push(|events| {
            let ready = |event: &Event| event.event == "system-ready";
            let at = events.iter().position(ready).unwrap();
            events.insert(at, Event::runtime("unknown", b"", DigestForm::V1));
        });
    }),
    row("vm_config.num_gpus is a text", |s| {
        s.hooks.report.push(|report| {
            let config = report["info"]["vm_config"].as_str().unwrap();
            let text = config.replace("\"num_gpus\":8", "\"num_gpus\":\"8\"");
            assert_ne!(config, text);
            report["info"]["vm_config"] = text.into();
        });
    }),
];

/// What its table did not have, of the same kinds, and files that break a rule.
pub(super) const MORE: &[Case] = &[
    row("nothing", |_| {}),
    row("vm_config.num_gpus is another number", |s| {
        s.vm_config.num_gpus = 3;
    }),
    row("ohttp_key_config with another digit", |s| {
        flip(s, "/ohttp_key_config");
    }),
    row("one GPU with another driver, signed", |s| {
        let gpu = &mut s.gpus.as_mut().unwrap().gpus[5];
        gpu.message
            .push(|m| *m.field(field::DRIVER) = b"570.172.09\0".to_vec());
    }),
    row("one GPU with another VBIOS, signed", |s| {
        let gpu = &mut s.gpus.as_mut().unwrap().gpus[5];
        gpu.message.push(|m| m.field(field::VBIOS)[3] = 0x95);
    }),
    row("other report data beside the log's quote", |s| {
        set(
            s,
            "/compose_manager_attestation/report_data",
            "0".repeat(128).into(),
        );
    }),
    row("an event fewer beside the log's quote", |s| {
        s.hooks.report.push(|report| {
            let block = &mut report["compose_manager_attestation"];
            let mut events: Vec<Value> =
                serde_json::from_str(block["event_log"].as_str().unwrap()).unwrap();
            events.pop();
            block["event_log"] = serde_json::to_string(&events).unwrap().into();
        });
    }),
    row("an event log of words beside the log's quote", |s| {
        set(
            s,
            "/compose_manager_attestation/event_log",
            "[\"x\"]".into(),
        );
    }),
    row("a number for the vm_config beside the log's quote", |s| {
        set(s, "/compose_manager_attestation/vm_config", 1.into());
    }),
    row("a log whose times go back, signed", |s| {
        log(s, compose_up(NOW - 90 * 3600, "v0.0.2", &[]));
    }),
    row("a log with a time to come, signed", |s| {
        log(s, compose_up(NOW + 301, "v0.0.2", &[]));
    }),
    row("a log with two digests of one file, signed", |s| {
        let mut again = compose_up(NOW - 3600, "v0.0.2", &[]);
        let digest = again.iter_mut().find(|(key, _)| key == "file_sha256");
        digest.unwrap().1 = "00".repeat(32).into();
        log(s, again);
    }),
    row("a log with an action that nobody knows, signed", |s| {
        log(s, action(NOW - 60, "swarm_up", &[]));
    }),
    row("a file that mounts Docker's socket, signed", |s| {
        let service = "\nservices:\n  autoheal:\n    image: willfarrell/autoheal:1\n    volumes: [\"/var/run/docker.sock:/var/run/docker.sock\"]\n";
        publish(s, "\nservices:\n", service);
    }),
    row("a file with an engine of another repository, signed", |s| {
        publish(s, "lmsysorg/sglang", "example/sglang");
    }),
    row(
        "a file that Compose and this program read otherwise, signed",
        |s| {
            publish(s, "\nservices:\n", "\nservices: &a\n  <<: *a\n");
        },
    ),
];

const fn row(what: &'static str, change: fn(&mut Spec)) -> Case {
    case("", what, "", change)
}

fn log(spec: &mut Spec, action: Vec<(String, Value)>) {
    let manager = spec.compose_manager.as_mut().unwrap();
    manager.actions.push(action);
}

fn publish(spec: &mut Spec, from: &str, to: &str) {
    let text = compose_text("v0.0.1");
    let changed = text.replacen(from, to, 1);
    assert_ne!(text, changed);
    let manager = spec.compose_manager.as_mut().unwrap();
    manager.publish("v0.0.1", &changed);
}
