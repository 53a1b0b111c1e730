//! What holds for every input of a kind, where tables hold for one of each.
//!
//! Cases are chosen so that all of this takes seconds; `fuzz/` looks longer.

use std::net::IpAddr;
use std::sync::OnceLock;

use attest::{
    Appraisal, Appraise, Attested, Channel, Collateral, Domain, Evidence, FilesCheck, FloorCheck,
    FloorKey, Floors, IssuerCache, LogCheck, Nonce, NrasCheck, Policy, PolicyDigest, RecallError,
    Record, Spki, UnixTime, appraise,
};
use fake_tee::Built;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::meaning::differences;
use crate::support::{
    DOMAIN, LIVE, NONCE, NOW, anchors, challenge, code, policy_of_the_machine_alone as policy,
    spec, subject,
};

const TTL: u64 = 3600;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// The valid machine, forged once.
fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| spec().forge(&challenge()).unwrap())
}

/// Its report without what nobody reads, so that a random byte means something.
fn report() -> &'static Value {
    static REPORT: OnceLock<Value> = OnceLock::new();
    REPORT.get_or_init(|| {
        let mut report = built().report.clone();
        let top = report.as_object_mut().unwrap();
        for unread in [
            "all_attestations",
            "nvidia_payload",
            "compose_manager_attestation",
        ] {
            top.remove(unread);
        }
        report
    })
}

fn collateral() -> &'static Collateral {
    static COLLATERAL: OnceLock<Collateral> = OnceLock::new();
    COLLATERAL.get_or_init(|| Collateral::from_json(built().collateral_json.as_bytes()).unwrap())
}

fn judge_evidence(
    evidence: &Evidence,
    collateral: &Collateral,
    floor: FloorCheck<'_>,
) -> Appraisal {
    appraise(&Appraise {
        evidence,
        subject: &subject(),
        live_spki: Spki::from_bytes(LIVE),
        nonce: Nonce::from_bytes(NONCE),
        collateral,
        floor,
        policy: policy(),
        trust_anchors: &anchors(),
        issuers: &IssuerCache::new(),
        logs: LogCheck::NotKept("a test"),
        files: FilesCheck::NotFetched("a test"),
        nras: NrasCheck::NotAsked("a test"),
        now: UnixTime(NOW),
    })
}

/// `None` if the report cannot be read.
fn judge_bytes(report: &[u8]) -> Option<Appraisal> {
    let evidence = Evidence::parse(report).ok()?;
    Some(judge_evidence(
        &evidence,
        collateral(),
        FloorCheck::NotKept("a test"),
    ))
}

fn verifies(report: &[u8]) -> bool {
    judge_bytes(report).is_some_and(|appraisal| appraisal.outcome.is_ok())
}

/// One change to a text or to bytes. Positions wrap around.
#[derive(Debug, Clone, Copy)]
enum Edit {
    Flip { at: usize, bit: u8 },
    Delete { at: usize },
    Insert { at: usize, byte: u8 },
}

impl Edit {
    fn flip() -> impl Strategy<Value = Self> {
        (any::<usize>(), 0..8_u8).prop_map(|(at, bit)| Self::Flip { at, bit })
    }

    fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            Self::flip(),
            any::<usize>().prop_map(|at| Self::Delete { at }),
            (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Self::Insert { at, byte }),
            // Bytes that JSON gives a meaning to.
            (
                any::<usize>(),
                prop::sample::select(b" \t\n,:\"[]{}\\0e-".to_vec())
            )
                .prop_map(|(at, byte)| Self::Insert { at, byte }),
        ]
    }

    fn apply(self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        match self {
            Self::Flip { at, bit } => bytes[at % len] ^= 1 << bit,
            Self::Delete { at } => drop(bytes.remove(at % len)),
            Self::Insert { at, byte } => bytes.insert(at % (len + 1), byte),
        }
    }
}

fn is_bounded_and_printable(message: &str) -> bool {
    message.len() < 8192 && message.chars().all(|c| (' '..='~').contains(&c))
}

/// Text that terminals, logs and pages would like to misunderstand.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[\u{0}-\u{1f}\u{7f}-\u{9f}\u{200b}-\u{202e}\u{2066}-\u{2069}\"\\\\<>&%{}]{1,40}",
        "(\u{1b}\\[2J|\u{202e}|\r\n|\u{1f4a9}){1,400}",
        "[0-9a-f]{0,3000}",
    ]
}

/// Places of the report that a message might repeat.
const REPEATED: [&str; 24] = [
    "/model_name",
    "/signing_algo",
    "/signing_address",
    "/signing_public_key",
    "/request_nonce",
    "/intel_quote",
    "/tls_cert_fingerprint",
    "/event_log",
    "/event_log/0/digest",
    "/event_log/0/event",
    "/event_log/0/event_payload",
    "/event_log/24/event",
    "/event_log/24/event_payload",
    "/info",
    "/info/app_cert",
    "/info/app_id",
    "/info/compose_hash",
    "/info/instance_id",
    "/info/key_provider_info",
    "/info/os_image_hash",
    "/info/vm_config",
    "/info/tcb_info/app_compose",
    "/info/tcb_info/mrtd",
    "/info/tcb_info/device_id",
];

proptest! {
    #![proptest_config(cases(160))]

    #[test]
    fn foreign_text_is_shown_bounded_and_escaped(
        place in prop::sample::select(REPEATED.to_vec()),
        text in hostile(),
        as_key in any::<bool>(),
    ) {
        let mut changed = report().clone();
        let value = changed.pointer_mut(place).unwrap();
        *value = if as_key { json!({ text: 1 }) } else { json!(text) };
        match Evidence::parse(changed.to_string().as_bytes()) {
            Err(rejected) => {
                prop_assert!(is_bounded_and_printable(&rejected.to_string()), "{rejected}");
                prop_assert!(is_bounded_and_printable(&rejected.hint()), "{}", rejected.hint());
            }
            Ok(evidence) => {
                let appraisal = judge_evidence(&evidence, collateral(), FloorCheck::NotKept("a test"));
                for check in &appraisal.report.checks {
                    prop_assert!(is_bounded_and_printable(&check.detail), "{}", check.detail);
                }
                for fact in &appraisal.report.facts {
                    prop_assert!(is_bounded_and_printable(&fact.value), "{}", fact.value);
                }
                if let Some(rejected) = &appraisal.report.rejected {
                    prop_assert!(is_bounded_and_printable(&rejected.hint()), "{}", rejected.hint());
                }
            }
        }
    }

    #[test]
    fn a_duplicate_key_is_named_bounded_and_escaped(key in hostile()) {
        let key = Value::from(key);
        let text = format!("{{{key}:1,{key}:2}}");
        let rejected = Evidence::parse(text.as_bytes()).unwrap_err();
        prop_assert!(is_bounded_and_printable(&rejected.to_string()), "{rejected}");
        prop_assert_eq!(rejected.code(), "evidence_duplicate_key");
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn an_edited_report_verifies_only_if_it_means_the_same(edits in prop::collection::vec(Edit::any(), 1..3)) {
        let mut bytes = report().to_string().into_bytes();
        for edit in edits {
            edit.apply(&mut bytes);
        }
        if verifies(&bytes) {
            let edited: Value = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(differences(report(), &edited), Vec::<String>::new());
        }
    }
}

/// The report with another quote.
fn with_quote(quote: &[u8]) -> Vec<u8> {
    let mut report = report().clone();
    report["intel_quote"] = hex::encode(quote).into();
    report.to_string().into_bytes()
}

/// The bytes of a quote of version 4 by what they are for, where nobody signs
/// them. A flip there may verify; anywhere else it must not.
fn is_framing(quote: &[u8], at: usize) -> bool {
    let begin = |nth: usize| {
        let starts = quote
            .windows(10)
            .enumerate()
            .filter(|(_, window)| window == b"-----BEGIN");
        starts.map(|(start, _)| start).nth(nth).unwrap()
    };
    let size: [u8; 4] = quote[begin(0) - 4..begin(0)].try_into().unwrap();
    let end = begin(0) + u32::from_le_bytes(size) as usize;
    // Length of the signature data: shorter by some of the zeros after the chain.
    (632..636).contains(&at)
        // Size of the chain: a shorter one may lose its root.
        || (begin(0) - 4..begin(0)).contains(&at)
        // Line ends of PEM.
        || (begin(0)..end).contains(&at) && quote[at].is_ascii_whitespace()
        // The copy of the root, and the zero that ends the chain: trust comes from
        // the root that is passed in.
        || (begin(2)..end).contains(&at)
}

fn flipped_quote_is_refused(at: usize, bit: u8) -> Result<(), String> {
    let mut quote = built().quote.clone();
    quote[at] ^= 1 << bit;
    if verifies(&with_quote(&quote)) && !is_framing(&built().quote, at) {
        return Err(format!("bit {bit} of byte {at} can be flipped"));
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_flipped_bit_of_the_quote_never_verifies(at in 0..built().quote.len(), bit in 0..8_u8) {
        flipped_quote_is_refused(at, bit).map_err(TestCaseError::fail)?;
    }
}

#[test]
#[ignore = "a minute: ./check --all runs it"]
fn no_byte_of_the_quote_can_be_flipped() {
    for at in 0..built().quote.len() {
        flipped_quote_is_refused(at, (at % 8) as u8).unwrap();
    }
}

/// A document of the collateral, decoded.
fn document(name: &str) -> Vec<u8> {
    let json: Value = serde_json::from_str(&built().collateral_json).unwrap();
    let text = json[name].as_str().unwrap();
    if IS_HEX.contains(&name) {
        hex::decode(text).unwrap()
    } else {
        text.into()
    }
}

const IS_HEX: [&str; 4] = [
    "root_ca_crl",
    "pck_crl",
    "tcb_info_signature",
    "qe_identity_signature",
];

const DOCUMENTS: [&str; 9] = [
    "pck_crl_issuer_chain",
    "root_ca_crl",
    "pck_crl",
    "tcb_info_issuer_chain",
    "tcb_info",
    "tcb_info_signature",
    "qe_identity_issuer_chain",
    "qe_identity",
    "qe_identity_signature",
];

/// The collateral with one document replaced; `None` if it cannot be read.
fn with_document(name: &str, bytes: Vec<u8>) -> Option<Collateral> {
    let mut json: Value = serde_json::from_str(&built().collateral_json).unwrap();
    json[name] = if IS_HEX.contains(&name) {
        hex::encode(bytes).into()
    } else {
        String::from_utf8(bytes).ok()?.into()
    };
    Collateral::from_json(json.to_string().as_bytes()).ok()
}

fn base_evidence() -> &'static Evidence {
    static EVIDENCE: OnceLock<Evidence> = OnceLock::new();
    EVIDENCE.get_or_init(|| Evidence::parse(report().to_string().as_bytes()).unwrap())
}

fn flipped_document_is_refused(name: &str, at: usize, bit: u8) -> Result<(), String> {
    let mut bytes = document(name);
    let at = at % bytes.len();
    let before = bytes[at];
    bytes[at] ^= 1 << bit;
    let Some(collateral) = with_document(name, bytes.clone()) else {
        return Ok(());
    };
    let appraisal = judge_evidence(base_evidence(), &collateral, FloorCheck::NotKept("a test"));
    if appraisal.outcome.is_err() {
        return Ok(());
    }
    // In PEM chains: line ends, and whatever follows the first certificate,
    // which is a copy of the root. The PCK CRL's issuer chain decides nothing:
    // the CRL's issuer is the one in the quote's chain.
    let first = bytes
        .windows(8)
        .position(|window| window == b"-----END")
        .unwrap_or(bytes.len());
    let is_framing = name.ends_with("_chain") && (before.is_ascii_whitespace() || at >= first);
    if is_framing || name == "pck_crl_issuer_chain" {
        return Ok(());
    }
    Err(format!("{name}: bit {bit} of byte {at} can be flipped"))
}

proptest! {
    #![proptest_config(cases(384))]

    #[test]
    fn a_flipped_bit_of_the_collateral_never_verifies(
        name in prop::sample::select(DOCUMENTS.to_vec()),
        at in any::<usize>(),
        bit in 0..8_u8,
    ) {
        flipped_document_is_refused(name, at, bit).map_err(TestCaseError::fail)?;
    }
}

#[test]
#[ignore = "a minute: ./check --all runs it"]
fn no_byte_of_the_collateral_can_be_flipped() {
    for name in DOCUMENTS {
        for at in 0..document(name).len() {
            flipped_document_is_refused(name, at, (at % 8) as u8).unwrap();
        }
    }
}

/// Floors as a file may hold them.
fn floors_json() -> impl Strategy<Value = Value> {
    let numbers = (0..300_u32, 0..300_u32, 0..300_u32, 0..300_u32);
    let key = (any::<[u8; 32]>(), any::<[u8; 6]>(), any::<bool>());
    prop::collection::vec((key, numbers), 0..4).prop_map(|entries| {
        entries
            .into_iter()
            .map(
                |((root, fmspc, early), (tcb_info, qe_identity, pck_crl, root_crl))| {
                    let channel = if early { "early" } else { "standard" };
                    let key = format!("{}/{}/{channel}", hex::encode(root), hex::encode(fmspc));
                    let floor = json!({
                        "tcb_info": tcb_info, "qe_identity": qe_identity,
                        "pck_crl": pck_crl, "root_crl": root_crl,
                    });
                    (key, floor)
                },
            )
            .collect::<serde_json::Map<_, _>>()
            .into()
    })
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn floors_survive_a_file_and_never_sink(
        file in floors_json(),
        editions in prop::collection::vec([1..200_u32, 1..200_u32, 1..200_u32, 1..200_u32], 1..4),
    ) {
        let mut floors = Floors::from_json(file.to_string().as_bytes()).unwrap();
        prop_assert_eq!(&Floors::from_json(floors.to_json().as_bytes()).unwrap(), &floors);
        let mut highest = [0; 4];
        for edition in editions {
            let mut spec = spec();
            spec.tcb_info.tcb_evaluation_data_number = edition[0];
            spec.qe_identity.tcb_evaluation_data_number = edition[1];
            // Days before now, so that each step is past the slack of a week.
            let issued = |step: u32| NOW - 86_400 * u64::from(8 * (200 - step));
            spec.crls.pck.this_update = issued(edition[2]);
            spec.crls.root.this_update = issued(edition[3]);
            let built = spec.forge(&challenge()).unwrap();
            let evidence = Evidence::parse(&built.report_bytes).unwrap();
            let collateral = Collateral::from_json(built.collateral_json.as_bytes()).unwrap();
            let kept = FloorCheck::Kept { floors: &floors, channel: Channel::Standard };
            let appraisal = judge_evidence(&evidence, &collateral, kept);
            let sinks = edition.iter().zip(highest).any(|(got, floor)| *got < floor);
            if sinks {
                prop_assert_eq!(code(&appraisal), "rejected_collateral_rollback");
                continue;
            }
            prop_assert_eq!(code(&appraisal), "verified");
            let before = floors.clone();
            let changed = floors.raise(&appraisal.floor_seen.unwrap());
            prop_assert_eq!(changed, floors != before);
            for (floor, got) in highest.iter_mut().zip(edition) {
                *floor = got.max(*floor);
            }
            let key = FloorKey::new(&anchors(), evidence.collateral_key().unwrap().fmspc, Channel::Standard);
            let floor = floors.get(&key);
            prop_assert_eq!([floor.tcb_info, floor.qe_identity], [highest[0], highest[1]]);
            prop_assert_eq!([floor.pck_crl, floor.root_crl], [highest[2], highest[3]].map(|step| UnixTime(issued(step))));
            let read = Floors::from_json(floors.to_json().as_bytes()).unwrap();
            prop_assert_eq!(&read, &floors);
        }
    }
}

proptest! {
    #![proptest_config(cases(2048))]

    #[test]
    fn what_parses_as_a_domain_is_a_plain_dns_name(
        text in prop_oneof![
            any::<String>(),
            "[a-zA-Z0-9.:@/\\[\\]%_-]{0,40}",
            "([0-9]{1,3}\\.){1,4}[0-9]{0,3}",
            "(0x)?[0-9a-f]{1,8}(\\.(0x)?[0-9a-f]{1,8}){0,4}\\.?",
            "([a-z0-9-]{1,70}\\.){1,8}[a-z0-9-]{1,70}",
        ],
    ) {
        let Ok(domain) = text.parse::<Domain>() else {
            return Ok(());
        };
        let name = domain.as_str();
        prop_assert!((3..=253).contains(&name.len()));
        prop_assert!(name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.')));
        prop_assert!(name.split('.').count() >= 2);
        prop_assert!(name.split('.').all(|label| (1..=63).contains(&label.len())));
        prop_assert!(name.parse::<IpAddr>().is_err());
        let last = name.rsplit('.').next().unwrap();
        prop_assert!(!last.bytes().next().unwrap().is_ascii_digit(), "an IPv4 literal in disguise: {name}");
        prop_assert_eq!(name, text.to_ascii_lowercase());
        prop_assert_eq!(&name.parse::<Domain>().unwrap(), &domain);
    }

    #[test]
    fn nothing_but_a_name_is_a_domain(
        name in "[a-z][a-z0-9]{0,10}\\.[a-z]{2,6}",
        port in any::<u16>(),
        v4 in any::<[u8; 4]>(),
        v6 in any::<[u8; 16]>(),
    ) {
        prop_assert!(name.parse::<Domain>().is_ok());
        let (v4, v6) = (IpAddr::from(v4), IpAddr::from(v6));
        for text in [
            format!("{name}:{port}"),
            format!("user@{name}"),
            format!("https://{name}"),
            format!("{name}/"),
            format!("{name}."),
            format!(".{name}"),
            format!(" {name}"),
            format!("{name}\n"),
            format!("{name}\0"),
            format!("*.{name}"),
            v4.to_string(),
            format!("{v4}:{port}"),
            v6.to_string(),
            format!("[{v6}]"),
            format!("[{v6}]:{port}"),
            format!("{}.{name}", "a".repeat(64)),
            format!("{}{name}", "a.".repeat(127)),
        ] {
            prop_assert!(text.parse::<Domain>().is_err(), "{text}");
        }
    }
}

/// A policy in which every list has several entries, so that they have an order.
const LISTS: [(&str, [&str; 3]); 6] = [
    (
        "tcb.accept",
        ["\"UpToDate\"", "\"SWHardeningNeeded\"", "\"UpToDate\""],
    ),
    (
        "tcb.accept_advisories",
        [
            "{ status = \"OutOfDate\", advisories = [\"INTEL-SA-1\", \"INTEL-SA-2\"] }",
            "{ status = \"OutOfDate\", advisories = [\"INTEL-SA-3\"] }",
            "{ status = \"ConfigurationNeeded\", advisories = [] }",
        ],
    ),
    (
        "td.attributes",
        [
            "\"0000001000000000\"",
            "\"0000005000000000\"",
            "\"0x0000001000000080\"",
        ],
    ),
    (
        "td.xfam",
        [
            "\"e702060000000000\"",
            "\"e718060000000000\"",
            "\"E71A060000000000\"",
        ],
    ),
    (
        "pins.instance_ids",
        ["\"00112233\"", "\"aabbccdd\"", "\"0xFFEEDDCC\""],
    ),
    (
        "pins.signing_keys",
        [
            "\"ecdsa:0000000000000000000000000000000000000001\"",
            "\"ecdsa:0000000000000000000000000000000000000002\"",
            "\"ecdsa:0000000000000000000000000000000000000003\"",
        ],
    ),
];

/// The policy as text: lists in this order, lines in that, with this between.
fn written(orders: &[[usize; 3]], lines: &[usize], between: &str, name: &str) -> String {
    let mut rules: Vec<String> = LISTS
        .iter()
        .zip(orders)
        .map(|((name, entries), order)| {
            format!("{name} = [{}]", order.map(|i| entries[i]).join(", "))
        })
        .collect();
    rules.push("software = \"any\"".to_owned());
    rules.push("tcb.min_evaluation_number = 17".to_owned());
    rules.push("deployment.mode = \"off\"".to_owned());
    let mut text = format!("name = \"{name}\"\ndate = \"2026-11-22\"\n");
    for line in lines {
        text.push_str(between);
        text.push_str(&rules[*line]);
        text.push('\n');
    }
    text
}

fn order() -> impl Strategy<Value = [usize; 3]> {
    Just([0, 1, 2]).prop_shuffle()
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn a_policys_digest_does_not_depend_on_how_it_is_written(
        orders in prop::collection::vec(order(), LISTS.len()),
        lines in Just((0..LISTS.len() + 3).collect::<Vec<_>>()).prop_shuffle(),
        between in prop::sample::select(vec!["", "\n", "  ", "\t# a word\n", "# \u{1f4a9}\r\n\r\n"]),
        name in "[a-z]{1,8} [A-Z]",
    ) {
        let plain = written(&[[0, 1, 2]; LISTS.len()], &(0..LISTS.len() + 3).collect::<Vec<_>>(), "", "x");
        let plain = Policy::from_toml(&plain).unwrap();
        let other = Policy::from_toml(&written(&orders, &lines, between, &name)).unwrap();
        prop_assert_eq!(plain.digest(), other.digest());
        prop_assert_eq!(other.name(), name);
        let reread = Policy::from_toml(&other.to_toml()).unwrap();
        prop_assert_eq!(reread.digest(), plain.digest());
    }

    #[test]
    fn a_policys_digest_changes_with_every_digit_of_every_rule(at in any::<usize>(), to in 1..16_u32) {
        let text = policy().to_toml();
        // Everything after the digest's own line is a rule.
        let start = text.match_indices('\n').nth(2).unwrap().0;
        let digits: Vec<usize> = text
            .match_indices(|c: char| c.is_ascii_hexdigit())
            .map(|(index, _)| index)
            .filter(|index| *index > start)
            .collect();
        let at = digits[at % digits.len()];
        let old = char::from(text.as_bytes()[at]).to_digit(16).unwrap();
        let new = char::from_digit((old + to) % 16, 16).unwrap();
        let mut changed = text.clone();
        changed.replace_range(at..=at, &new.to_string());
        // A letter of a key or of a word is no digit of a rule: that does not parse.
        if let Ok(changed) = Policy::from_toml(&changed) {
            prop_assert_ne!(changed.digest(), policy().digest(), "at byte {}", at);
        }
    }
}

#[test]
fn a_policys_digest_changes_with_every_rule() {
    let base = "name = \"x\"\nextends = \"near\"\ndate = \"2026-11-22\"\n";
    let hex = |digits: usize| "42".repeat(digits / 2);
    let rules = [
        "acpi = \"report\"".to_owned(),
        "tcb.accept = [\"UpToDate\"]".to_owned(),
        "tcb.accept_advisories = [{ status = \"OutOfDate\", advisories = [] }]".to_owned(),
        "tcb.accept_advisories = [{ status = \"OutOfDate\", advisories = [\"INTEL-SA-1\"] }]"
            .to_owned(),
        "tcb.accept_advisories = [{ status = \"ConfigurationNeeded\", advisories = [] }]"
            .to_owned(),
        "tcb.min_evaluation_number = 0".to_owned(),
        "tcb.min_evaluation_number = 1".to_owned(),
        "td.attributes = [\"0042001000000000\"]".to_owned(),
        format!("td.xfam = [\"{}\"]", hex(16)),
        format!(
            "identity = [{{ name = \"x\", app_id = \"{}\", kms_root = \"{}\" }}]",
            hex(40),
            hex(40)
        ),
        format!("pins.mr_kms = [\"{}\"]", hex(64)),
        format!("pins.mrseam = [\"{}\"]", hex(96)),
        format!("pins.instance_ids = [\"{}\"]", hex(40)),
        format!("pins.device_ids = [\"{}\"]", hex(64)),
        format!("pins.ppids = [\"{}\"]", hex(32)),
        format!("pins.rtmr0 = [\"{}\"]", hex(96)),
        format!("pins.compose_hashes = [\"{}\"]", hex(64)),
        format!("pins.signing_keys = [\"ecdsa:{}\"]", hex(40)),
        format!("pins.signing_keys = [\"ed25519:{}\"]", hex(64)),
        format!(
            "machine = [{{ name = \"m\", acpi_loader = \"{0}\", acpi_rsdp = \"{0}\", acpi_tables = \"{0}\" }}]",
            hex(96)
        ),
    ];
    let mut digests = vec![Policy::from_toml(base).unwrap().digest()];
    assert_eq!(digests[0], Policy::near().digest());
    for rule in rules {
        let policy = Policy::from_toml(&format!("{base}{rule}\n"))
            .unwrap_or_else(|error| panic!("{rule}: {error}"));
        assert!(!digests.contains(&policy.digest()), "{rule}");
        digests.push(policy.digest());
    }
}

fn attested() -> &'static Attested {
    static ATTESTED: OnceLock<Attested> = OnceLock::new();
    ATTESTED.get_or_init(|| {
        let appraisal =
            judge_evidence(base_evidence(), collateral(), FloorCheck::NotKept("a test"));
        appraisal.outcome.unwrap()
    })
}

fn record() -> &'static Record {
    static RECORD: OnceLock<Record> = OnceLock::new();
    RECORD.get_or_init(|| attested().record(UnixTime(NOW), TTL).unwrap())
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn a_record_stands_for_its_own_domain_key_policy_and_time_only(
        domain in prop_oneof![Just(DOMAIN.to_owned()), "[a-z]{1,5}\\.near\\.ai", Just(format!("a{DOMAIN}"))],
        key_bit in prop::option::of(0..256_usize),
        policy_bit in prop::option::of(0..256_usize),
        now in prop_oneof![
            Just(NOW), Just(NOW - 1), Just(NOW + TTL - 1), Just(NOW + TTL), NOW - 9..NOW + TTL + 9, any::<u64>(),
        ],
    ) {
        let flip = |bytes: &[u8; 32], bit: Option<usize>| {
            let mut bytes = *bytes;
            if let Some(bit) = bit {
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            bytes
        };
        let key = Spki::from_bytes(flip(&LIVE, key_bit));
        let digest = PolicyDigest::from_bytes(flip(policy().digest().as_bytes(), policy_bit));
        let expected = if domain != DOMAIN {
            Err(RecallError::OtherDomain)
        } else if key_bit.is_some() {
            Err(RecallError::OtherKey)
        } else if policy_bit.is_some() {
            Err(RecallError::OtherPolicy)
        } else if now < NOW {
            Err(RecallError::ClockWentBack)
        } else if now >= NOW + TTL {
            Err(RecallError::Expired)
        } else {
            Ok(UnixTime(NOW + TTL))
        };
        let recalled = record().recall(&domain.parse().unwrap(), key, digest, UnixTime(now));
        prop_assert_eq!(recalled.map(|attested| attested.valid_until()), expected);
    }

    #[test]
    fn a_record_never_outlives_its_proof(made in any::<u64>(), ttl in any::<u64>()) {
        let attested = attested();
        let record = attested.record(UnixTime(made), ttl).unwrap();
        prop_assert!(record.valid_until() <= attested.valid_until());
        prop_assert!(record.valid_until() <= UnixTime(made.saturating_add(ttl)));
    }
}
