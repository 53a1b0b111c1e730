//! The host's description of the machine: only the memory size is measured.

use serde_json::json;

use super::{Case, case, remove, set};

pub(super) const CASES: &[Case] = &[
    case("A2", "one byte of memory more", "rejected_td_hob", |s| {
        let size = s.vm_config.memory_size + 1;
        memory(s, size);
    }),
    case("A2", "half the memory", "rejected_td_hob", |s| {
        let size = s.vm_config.memory_size / 2;
        memory(s, size);
    }),
    case("A2", "no memory", "rejected_td_hob", |s| memory(s, 0)),
    case("A2", "all the memory there is", "rejected_td_hob", |s| {
        memory(s, u64::MAX)
    }),
    case(
        "A2",
        "memory just below the PCI hole",
        "rejected_td_hob",
        |s| memory(s, 0xafff_ffff),
    ),
    case("A2", "no vm_config", "evidence_missing_field", |s| {
        remove(s, "/info/vm_config")
    }),
    case("A2", "no memory_size", "evidence_missing_field", |s| {
        set(s, "/info/vm_config", json!("{}"))
    }),
    case("A2", "memory_size is null", "evidence_missing_field", |s| {
        set(s, "/info/vm_config", json!(r#"{"memory_size":null}"#));
    }),
    case(
        "A15",
        "memory_size as a string",
        "evidence_bad_field",
        |s| {
            set(
                s,
                "/info/vm_config",
                json!(r#"{"memory_size":"1099511627776"}"#),
            );
        },
    ),
    case("A15", "a negative memory_size", "evidence_bad_field", |s| {
        set(s, "/info/vm_config", json!(r#"{"memory_size":-1}"#));
    }),
    case(
        "A15",
        "memory_size with a fraction",
        "evidence_bad_field",
        |s| {
            set(
                s,
                "/info/vm_config",
                json!(r#"{"memory_size":1099511627776.0}"#),
            );
        },
    ),
    case("A15", "memory_size of 2^64", "evidence_bad_field", |s| {
        set(
            s,
            "/info/vm_config",
            json!(r#"{"memory_size":18446744073709551616}"#),
        );
    }),
    case(
        "A15",
        "a key of serde_json's own, which makes it parse strings as JSON",
        "evidence_too_complex",
        |s| {
            set(
                s,
                "/info/vm_config",
                json!(r#"{"memory_size":{"$serde_json::private::RawValue":"1099511627776"}}"#),
            );
        },
    ),
    case("A15", "memory_size twice", "evidence_duplicate_key", |s| {
        set(
            s,
            "/info/vm_config",
            json!(r#"{"memory_size":1099511627776,"memory_size":1}"#),
        );
    }),
    case(
        "A15",
        "vm_config that is no JSON",
        "evidence_bad_field",
        |s| set(s, "/info/vm_config", json!("no")),
    ),
    case("A15", "vm_config as an object", "evidence_bad_field", |s| {
        set(s, "/info/vm_config", json!({"memory_size": 1}));
    }),
    case(
        "A15",
        "vm_config as an array in a string",
        "evidence_bad_field",
        |s| {
            set(s, "/info/vm_config", json!("[1]"));
        },
    ),
    case(
        "A15",
        "vm_config 50 levels deep",
        "evidence_too_complex",
        |s| {
            set(s, "/info/vm_config", json!("[".repeat(50)));
        },
    ),
];

fn memory(spec: &mut fake_tee::Spec, size: u64) {
    spec.hooks.report.push(move |report| {
        let mut config: serde_json::Value =
            serde_json::from_str(report["info"]["vm_config"].as_str().unwrap()).unwrap();
        config["memory_size"] = size.into();
        report["info"]["vm_config"] = config.to_string().into();
    });
}
