//! The JSON around the evidence, which nobody signs.
//! Numbers are those of the project's list of GPU tamperings.

use serde_json::json;

use super::{code, forged};

#[test]
fn the_payload_must_agree_with_what_was_signed() {
    type Edit = fn(&mut serde_json::Value);
    let cases: [(&str, &str, Edit); 6] = [
        ("43 nonce", "rejected_gpu_payload_nonce", |p| {
            p["nonce"] = json!("00".repeat(32))
        }),
        ("43 nonce in capitals", "rejected_gpu_payload_nonce", |p| {
            p["nonce"] = json!(p["nonce"].as_str().unwrap().to_uppercase())
        }),
        ("43 item nonce", "rejected_gpu_payload_nonce", |p| {
            p["evidence_list"][1]["nonce"] = json!("00".repeat(32))
        }),
        ("43 no nonce", "evidence_gpu_payload", |p| {
            drop(p.as_object_mut().unwrap().remove("nonce"))
        }),
        ("44 arch is no text", "evidence_gpu_payload", |p| {
            p["arch"] = json!(["HOPPER"])
        }),
        ("a field of a newer tool", "verified", |p| {
            p["claims_version"] = json!("3.0")
        }),
    ];
    for (name, expected, change) in cases {
        let outcome = forged(|spec| spec.payload.push(change));
        assert_eq!(code(&outcome), expected, "{name}: {outcome:?}");
    }
}

/// What the JSON calls the architecture is signed by nobody: a finding, if it differs.
#[test]
fn the_payloads_word_for_the_architecture_is_a_copy() {
    type Edit = fn(&mut serde_json::Value);
    let certified = "the certificate says HOPPER";
    let cases: [(Edit, Option<&str>); 6] = [
        (|_| {}, None),
        (
            |p| p["arch"] = json!("BLACKWELL"),
            Some("nvidia_payload is \"BLACKWELL\""),
        ),
        (
            |p| p["evidence_list"][1]["arch"] = json!("LS10\u{1b}[2J"),
            Some("a GPU of nvidia_payload is \"LS10\\\\u{1b}[2J\""),
        ),
        (
            |p| p["evidence_list"][1]["arch"] = json!(""),
            Some("a GPU of nvidia_payload is \"\""),
        ),
        (|p| drop(p.as_object_mut().unwrap().remove("arch")), None),
        (
            |p| {
                drop(
                    p["evidence_list"][2]
                        .as_object_mut()
                        .unwrap()
                        .remove("arch"),
                )
            },
            None,
        ),
    ];
    for (change, expected) in cases {
        let report = forged(|spec| spec.payload.push(change)).unwrap();
        let said: Vec<_> = report
            .findings()
            .iter()
            .map(|finding| {
                assert_eq!(finding.topic, "gpu_copies_differ");
                finding.detail.clone()
            })
            .collect();
        let expected = expected.map(|said| format!("arch of {said}, {certified}"));
        assert_eq!(said, expected.into_iter().collect::<Vec<_>>());
    }
}
