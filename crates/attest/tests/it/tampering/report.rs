//! The JSON around the evidence.

use serde_json::json;

use super::{Case, case, flip, remove, set};

pub(super) const CASES: &[Case] = &[
    case("A15", "empty answer", "evidence_not_json", |s| {
        s.hooks.report_bytes.push(|bytes| bytes.clear());
    }),
    case("A15", "an HTML page", "evidence_not_json", |s| {
        s.hooks
            .report_bytes
            .push(|bytes| *bytes = b"<html>502</html>".to_vec());
    }),
    case("A15", "bytes after the report", "evidence_not_json", |s| {
        s.hooks.report_bytes.push(|bytes| bytes.extend(b"{}"));
    }),
    case("A15", "a truncated report", "evidence_not_json", |s| {
        s.hooks
            .report_bytes
            .push(|bytes| bytes.truncate(bytes.len() - 1));
    }),
    case(
        "A15",
        "bytes that are not UTF-8",
        "evidence_not_json",
        |s| {
            s.hooks.report_bytes.push(|bytes| {
                let at = bytes.windows(9).position(|w| w == b"fake/llam").unwrap();
                bytes[at] = 0xff;
            });
        },
    ),
    case(
        "A15",
        "an array in place of the report",
        "evidence_not_json",
        |s| {
            s.hooks
                .report_bytes
                .push(|bytes| *bytes = b"[null,null,null,null,null,null,null,null,null]".to_vec());
        },
    ),
    case("A15", "more than 2 MiB", "evidence_too_large", |s| {
        s.hooks
            .report_bytes
            .push(|bytes| bytes.resize((2 << 20) + 1, b' '));
    }),
    case(
        "A15",
        "an unknown field 100 levels deep",
        "evidence_too_complex",
        |s| {
            s.hooks.report_bytes.push(|bytes| {
                let deep = format!(r#"{{"unknown":{}{},"#, "[".repeat(100), "]".repeat(100));
                bytes.splice(..1, deep.bytes());
            });
        },
    ),
    case(
        "A15",
        "an unknown field with 200,000 values",
        "evidence_too_complex",
        |s| {
            set(s, "/all_attestations", json!(vec![0; 200_000]));
        },
    ),
    case(
        "A15",
        "the key request_nonce twice",
        "evidence_duplicate_key",
        |s| {
            s.hooks.report_bytes.push(|bytes| {
                bytes.splice(..1, br#"{"request_nonce":"00","#.iter().copied());
            });
        },
    ),
    case(
        "A15",
        "a key twice in an unknown object",
        "evidence_duplicate_key",
        |s| {
            s.hooks.report_bytes.push(|bytes| {
                bytes.splice(..1, br#"{"unknown":[{"a":1,"a":1}],"#.iter().copied());
            });
        },
    ),
    case(
        "A15",
        "a key twice, once with an escape",
        "evidence_duplicate_key",
        |s| {
            s.hooks.report_bytes.push(|bytes| {
                bytes.splice(..1, br#"{"model\u005fname":"x","#.iter().copied());
            });
        },
    ),
    case(
        "A15",
        "a key of serde_json's own",
        "evidence_too_complex",
        |s| {
            set(
                s,
                "/all_attestations",
                json!({ "$serde_json::private::RawValue": "[[[[" }),
            );
        },
    ),
    case("A15", "no model_name", "evidence_missing_field", |s| {
        remove(s, "/model_name")
    }),
    case("A13", "no signing_address", "evidence_missing_field", |s| {
        remove(s, "/signing_address")
    }),
    case("A13", "no signing_algo", "evidence_missing_field", |s| {
        remove(s, "/signing_algo")
    }),
    case("A10", "no request_nonce", "evidence_missing_field", |s| {
        remove(s, "/request_nonce")
    }),
    case("A15", "no intel_quote", "evidence_missing_field", |s| {
        remove(s, "/intel_quote")
    }),
    case("A4", "no event_log", "evidence_missing_field", |s| {
        remove(s, "/event_log")
    }),
    case("A15", "no info", "evidence_missing_field", |s| {
        remove(s, "/info")
    }),
    case("A15", "no info.tcb_info", "evidence_missing_field", |s| {
        remove(s, "/info/tcb_info")
    }),
    case("A5", "no app_compose", "evidence_missing_field", |s| {
        remove(s, "/info/tcb_info/app_compose");
    }),
    case(
        "A15",
        "intel_quote is null",
        "evidence_missing_field",
        |s| {
            set(s, "/intel_quote", json!(null));
        },
    ),
    case("A15", "model_name is a number", "evidence_bad_field", |s| {
        set(s, "/model_name", json!(7))
    }),
    case(
        "A14",
        "model_name of 600 bytes",
        "evidence_bad_field",
        |s| {
            set(s, "/model_name", json!("x".repeat(600)));
        },
    ),
    case(
        "A15",
        "intel_quote is an array",
        "evidence_bad_field",
        |s| set(s, "/intel_quote", json!([])),
    ),
    case(
        "A15",
        "intel_quote with a digit that is none",
        "evidence_bad_field",
        |s| {
            s.hooks.report.push(|report| {
                let text = report["intel_quote"]
                    .as_str()
                    .unwrap()
                    .replacen('0', "g", 1);
                report["intel_quote"] = text.into();
            });
        },
    ),
    case("A15", "info is an array", "evidence_bad_field", |s| {
        set(s, "/info", json!([1, 2, 3]))
    }),
    case(
        "A15",
        "info.tcb_info is an array",
        "evidence_bad_field",
        |s| {
            set(s, "/info/tcb_info", json!(["a", "b"]));
        },
    ),
    case(
        "A15",
        "app_compose is an object",
        "evidence_bad_field",
        |s| {
            set(s, "/info/tcb_info/app_compose", json!({}));
        },
    ),
    case(
        "A11",
        "no tls_cert_fingerprint, and the layout that binds none, signed",
        "evidence_no_tls_fingerprint",
        |s| {
            s.include_tls_fingerprint = false;
        },
    ),
    case(
        "A11",
        "tls_cert_fingerprint left out",
        "evidence_no_tls_fingerprint",
        |s| {
            remove(s, "/tls_cert_fingerprint");
        },
    ),
    case(
        "A11",
        "tls_cert_fingerprint is null",
        "evidence_no_tls_fingerprint",
        |s| {
            set(s, "/tls_cert_fingerprint", json!(null));
        },
    ),
    case(
        "A11",
        "tls_cert_fingerprint is empty",
        "evidence_no_tls_fingerprint",
        |s| {
            set(s, "/tls_cert_fingerprint", json!(""));
        },
    ),
    case(
        "A11",
        "the layout that binds no key, signed, with the right fingerprint beside it",
        "rejected_report_data",
        |s| {
            s.include_tls_fingerprint = false;
            s.hooks
                .report
                .push(|report| report["tls_cert_fingerprint"] = "c3".repeat(32).into());
        },
    ),
    case(
        "A12",
        "tls_cert_fingerprint of 31 bytes",
        "evidence_bad_field",
        |s| {
            set(s, "/tls_cert_fingerprint", json!("c3".repeat(31)));
        },
    ),
    case(
        "A12",
        "tls_cert_fingerprint is a number",
        "evidence_bad_field",
        |s| {
            set(s, "/tls_cert_fingerprint", json!(3));
        },
    ),
    case(
        "A12",
        "one digit of tls_cert_fingerprint",
        "rejected_spki_mismatch",
        |s| {
            flip(s, "/tls_cert_fingerprint");
        },
    ),
    case(
        "A12",
        "a whole report for another TLS key, signed",
        "rejected_spki_mismatch",
        |s| {
            s.hooks
                .challenge
                .push(|challenge| challenge.spki_sha256 = [0x77; 32]);
        },
    ),
    case(
        "A12",
        "another TLS key in report_data, signed, the live one in the report",
        "rejected_report_data",
        |s| {
            s.hooks
                .challenge
                .push(|challenge| challenge.spki_sha256 = [0x77; 32]);
            s.hooks
                .report
                .push(|report| report["tls_cert_fingerprint"] = "c3".repeat(32).into());
        },
    ),
    case(
        "A13",
        "an unknown signing_algo",
        "evidence_bad_field",
        |s| set(s, "/signing_algo", json!("rsa")),
    ),
    case(
        "A13",
        "signing_algo in capitals",
        "evidence_bad_field",
        |s| {
            set(s, "/signing_algo", json!("ED25519"));
        },
    ),
    case(
        "A13",
        "an Ed25519 address called ecdsa",
        "evidence_address_length",
        |s| {
            set(s, "/signing_algo", json!("ecdsa"));
        },
    ),
    case(
        "A13",
        "an ECDSA address called ed25519",
        "evidence_address_length",
        |s| {
            s.signing = fake_tee::Signing::ecdsa();
            set(s, "/signing_algo", json!("ed25519"));
        },
    ),
    case(
        "A13",
        "a signing_address one byte short",
        "evidence_address_length",
        |s| {
            s.hooks.report.push(|report| {
                let text = report["signing_address"].as_str().unwrap();
                report["signing_address"] = text[2..].to_owned().into();
            });
        },
    ),
    case(
        "A13",
        "a signing_address that is not hex",
        "evidence_bad_field",
        |s| {
            set(s, "/signing_address", json!("z".repeat(64)));
        },
    ),
    case(
        "A13",
        "one digit of signing_address",
        "rejected_report_data",
        |s| flip(s, "/signing_address"),
    ),
    case(
        "A13",
        "one digit of an ECDSA address",
        "rejected_report_data",
        |s| {
            s.signing = fake_tee::Signing::ecdsa();
            flip(s, "/signing_address");
        },
    ),
    case(
        "A13",
        "another Ed25519 key in both fields",
        "rejected_report_data",
        |s| {
            set(s, "/signing_address", json!("11".repeat(32)));
            set(s, "/signing_public_key", json!("11".repeat(32)));
        },
    ),
    case("A10", "one digit of request_nonce", "rejected_nonce", |s| {
        flip(s, "/request_nonce")
    }),
    case("A10", "request_nonce in capitals", "rejected_nonce", |s| {
        set(s, "/request_nonce", json!("5A".repeat(32)));
    }),
    case("A10", "request_nonce with 0x", "rejected_nonce", |s| {
        set(s, "/request_nonce", json!(format!("0x{}", "5a".repeat(32))));
    }),
    case("A10", "request_nonce of 31 bytes", "rejected_nonce", |s| {
        set(s, "/request_nonce", json!("5a".repeat(31)));
    }),
    case("A10", "an empty request_nonce", "rejected_nonce", |s| {
        set(s, "/request_nonce", json!(""))
    }),
    case(
        "A10",
        "a whole report for another nonce, signed",
        "rejected_nonce",
        |s| {
            s.hooks
                .challenge
                .push(|challenge| challenge.nonce = [9; 32]);
        },
    ),
    case(
        "A10",
        "another nonce in the quote, signed, the right one in the report",
        "rejected_nonce",
        |s| {
            s.hooks.td_report.push(|td| td.report_data[63] ^= 1);
        },
    ),
    case(
        "A12",
        "another digest in report_data, signed",
        "rejected_report_data",
        |s| {
            s.hooks.td_report.push(|td| td.report_data[0] ^= 1);
        },
    ),
    case(
        "A12",
        "report_data of zeros, signed",
        "rejected_nonce",
        |s| {
            s.overrides.report_data = Some([0; 64]);
        },
    ),
    case("A14", "another model", "rejected_model", |s| {
        s.model_name = "fake/other".to_owned()
    }),
    case(
        "A14",
        "the model in other capitals",
        "rejected_model",
        |s| {
            s.model_name = "Fake/Llama".to_owned();
        },
    ),
    case(
        "A14",
        "the model with a space behind it",
        "rejected_model",
        |s| {
            s.model_name = "fake/llama ".to_owned();
        },
    ),
    case("A14", "an empty model", "rejected_model", |s| {
        s.model_name.clear()
    }),
];
