//! A policy's digest is of its rules: all of them, and nothing else.

use attest::Policy;
use proptest::prelude::*;

use crate::support::{cases, policy};

/// A policy in which every list has several entries, so that they have an order.
const LISTS: [(&str, [&str; 3]); 6] = [
    (
        "tcb.accept",
        ["\"UpToDate\"", "\"SWHardeningNeeded\"", "\"UpToDate\""],
    ),
    (
        "tcb.accept_advisories",
        [
            "{ status = \"OutOfDate\", advisories = [\"INTEL-SA-1\", \"INTEL-SA-2\"], exception = { until = \"2027-02-20\", reason = \"a test\", by = \"a test\" } }",
            "{ status = \"OutOfDate\", advisories = [\"INTEL-SA-3\"], exception = { until = \"2027-02-20\", reason = \"a test\", by = \"a test\" } }",
            "{ status = \"ConfigurationNeeded\", advisories = [], exception = { until = \"2027-02-20\", reason = \"a test\", by = \"a test\" } }",
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
        "pins.fmspcs",
        ["\"001122334455\"", "\"aabbccddeeff\"", "\"0xFFEEDDCCBBAA\""],
    ),
    (
        "pins.piids",
        [
            "\"00000000000000000000000000000001\"",
            "\"00000000000000000000000000000002\"",
            "\"00000000000000000000000000000003\"",
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
    rules.push("least = { gpu = \"none\", deployment = \"none\" }".to_owned());
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
        // What follows a rule says where it comes from.
        let is_rule = |index: usize| {
            let line = text[..index].rfind('\n').map_or(0, |end| end + 1);
            !text[line..index].contains("  # ")
        };
        let digits: Vec<usize> = text
            .match_indices(|c: char| c.is_ascii_hexdigit())
            .map(|(index, _)| index)
            .filter(|index| *index > start && is_rule(*index))
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
        "tcb.accept_advisories = [{ status = \"OutOfDate\", advisories = [], exception = { until = \"2027-02-20\", reason = \"a test\", by = \"a test\" } }]".to_owned(),
        "tcb.accept_advisories = [{ status = \"OutOfDate\", advisories = [\"INTEL-SA-1\"], exception = { until = \"2027-02-20\", reason = \"a test\", by = \"a test\" } }]"
            .to_owned(),
        "tcb.accept_advisories = [{ status = \"ConfigurationNeeded\", advisories = [], exception = { until = \"2027-02-20\", reason = \"a test\", by = \"a test\" } }]"
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
        "least.deployment = \"tagged\"\ndeployment.sources = \"required\"".to_owned(),
        "deployment.tags = \"any\"".to_owned(),
        "deployment.sources = \"required\"".to_owned(),
        format!("pins.mr_kms = [\"{}\"]", hex(64)),
        format!("pins.mrseam = [\"{}\"]", hex(96)),
        format!("pins.instance_ids = [\"{}\"]", hex(40)),
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
