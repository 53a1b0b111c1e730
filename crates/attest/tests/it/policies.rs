//! Policy files: what can be said, what is refused, and how it is put.

use attest::{AcceptTcb, Policy};

use crate::support::spec;

const HEAD: &str = "name = \"mine\"\ndate = \"2026-11-22\"\n";

fn refusal(text: &str) -> String {
    Policy::from_toml(text).expect_err(text).to_string()
}

/// A policy that stands alone and can be used.
fn whole() -> String {
    let own = spec().policy_toml().replace("extends = \"near\"\n", "");
    format!(
        "{own}software = \"expected\"\ntcb.accept = [\"UpToDate\"]\ntd.attributes = [\"0000001000000000\"]\ntd.xfam = [\"e702060000000000\"]\n"
    )
}

#[test]
fn the_built_in_policies_are_what_they_say() {
    let (near, hardware) = (Policy::near(), Policy::hardware());
    assert_eq!(
        (near.name(), near.date(), near.hardware_only()),
        ("near", "2026-10-01", false)
    );
    assert_eq!(
        (hardware.name(), hardware.hardware_only()),
        ("hardware", true)
    );
    assert_ne!(near.digest(), hardware.digest());
    assert_eq!(Policy::built_in("near"), Some(near));
    assert_eq!(Policy::built_in("hardware"), Some(hardware));
    assert_eq!(Policy::built_in("Near"), None);
}

#[test]
fn a_policy_shown_is_a_policy_again() {
    for policy in [
        Policy::near(),
        Policy::hardware(),
        Policy::from_toml(&whole()).unwrap(),
    ] {
        let name = format!("name = \"{}\"", policy.name());
        let shown = policy.to_toml();
        assert!(shown.contains(&policy.digest().to_string()));
        let again = Policy::from_toml(&shown.replace(&name, "name = \"again\"")).unwrap();
        assert_eq!(again.digest(), policy.digest());
    }
}

#[test]
fn what_a_policy_needs_is_asked_for_by_name() {
    let whole = whole();
    for (line, expected) in [
        ("name = ", "missing field `name`"),
        ("date = ", "missing field `date`"),
        ("software = ", "expected software = \"expected\""),
        ("tcb.accept = ", "tcb.accept names no status"),
        ("td.attributes = ", "td.attributes allows nothing"),
        ("td.xfam = ", "td.xfam allows nothing"),
        (
            "os_image = ",
            "software = \"expected\", but os_image allows nothing",
        ),
        (
            "firmware = ",
            "software = \"expected\", but firmware allows nothing",
        ),
        (
            "machine = ",
            "software = \"expected\", but machine allows nothing",
        ),
        (
            "identity = ",
            "software = \"expected\", but identity allows nothing",
        ),
    ] {
        let without: String = whole
            .lines()
            .filter(|own| !own.starts_with(line))
            .map(|own| format!("{own}\n"))
            .collect();
        assert_ne!(without, whole, "{line}");
        let refused = refusal(&without);
        assert!(refused.contains(expected), "{line}: {refused}");
    }
    // No machine shape is needed where none is required.
    let reported: String = whole
        .lines()
        .filter(|own| !own.starts_with("machine = "))
        .map(|own| format!("{own}\n"))
        .collect();
    assert!(Policy::from_toml(&format!("{reported}acpi = \"report\"\n")).is_ok());
}

#[test]
fn what_a_policy_must_not_say_is_refused() {
    let any = format!(
        "{HEAD}software = \"any\"\ntcb.accept = [\"UpToDate\"]\ntd.attributes = [\"0000001000000000\"]\ntd.xfam = [\"e702060000000000\"]\ndeployment.mode = \"off\"\n"
    );
    assert!(Policy::from_toml(&any).unwrap().hardware_only());
    let near = format!("{HEAD}extends = \"near\"\n");
    assert!(Policy::from_toml(&near).is_ok());
    let line = |key: &str| {
        let policy = spec().policy_toml();
        policy
            .lines()
            .find(|own| own.starts_with(key))
            .unwrap()
            .to_owned()
    };
    for (text, expected) in [
        (format!("{near}unknown = 1\n"), "unknown field `unknown`"),
        (
            format!("{near}tcb.unknown = 1\n"),
            "unknown field `unknown`",
        ),
        (
            format!("{near}pins.unknown = []\n"),
            "unknown field `unknown`",
        ),
        (
            format!("{near}software = \"any\"\n"),
            "software cannot be changed",
        ),
        (
            format!("{HEAD}extends = \"other\"\n"),
            "only \"near\" and \"hardware\" can be extended",
        ),
        (
            near.replace("mine", "near"),
            "is the name of a built-in policy",
        ),
        (
            near.replace("mine", "hardware"),
            "is the name of a built-in policy",
        ),
        (near.replace("mine", ""), "1 to 64 printable characters"),
        (
            near.replace("mine", &"m".repeat(65)),
            "1 to 64 printable characters",
        ),
        (
            near.replace("mine", "\\u001b[2J"),
            "1 to 64 printable characters",
        ),
        (
            near.replace("\"mine\"", "'mi\"ne'"),
            "1 to 64 printable characters",
        ),
        (
            near.replace("\"mine\"", "'mi\\ne'"),
            "1 to 64 printable characters",
        ),
        (
            near.replace("2026-11-22", "yesterday"),
            "expected a day such as",
        ),
        (
            near.replace("2026-11-22", "2026-02-30"),
            "expected a day such as",
        ),
        (
            format!("{near}tcb.accept = [\"OutOfDate\"]\n"),
            "accept it by its advisories",
        ),
        (
            format!("{near}tcb.accept = [\"Revoked\"]\n"),
            "accept it by its advisories",
        ),
        (
            format!("{near}tcb.accept = [\"Splendid\"]\n"),
            "unknown variant",
        ),
        (format!("{near}tcb.accept = []\n"), "names no status"),
        (
            format!(
                "{near}tcb.accept_advisories = [{{ status = \"Revoked\", advisories = [] }}]\n"
            ),
            "no policy can accept Revoked",
        ),
        (
            format!(
                "{near}tcb.accept_advisories = [{{ status = \"OutOfDate\", advisories = [\"a b\"] }}]\n"
            ),
            "expected an advisory such as",
        ),
        (
            format!("{near}td.attributes = [\"0100001000000000\"]\n"),
            "allows debugging",
        ),
        (
            format!("{near}td.attributes = [\"00\"]\n"),
            "expected 8 bytes in hex",
        ),
        (
            format!("{near}pins.signing_keys = [\"rsa:00\"]\n"),
            "expected ecdsa:<40 hex>",
        ),
        (
            format!("{near}pins.signing_keys = [\"ecdsa:{}\"]\n", "0".repeat(64)),
            "expected ecdsa:<40 hex>",
        ),
        (
            format!(
                "{near}pins.signing_keys = [\"ed25519:{}\"]\n",
                "A".repeat(64)
            ),
            "expected ecdsa:<40 hex>",
        ),
        (
            format!("{near}pins.instance_ids = [\"\"]\n"),
            "expected hex",
        ),
        (
            format!("{near}os_image = [{{ name = \"x\" }}]\n"),
            "missing field `mrtd`",
        ),
        (
            format!("{any}{}\n", line("os_image")),
            "looks at no image, machine or identity",
        ),
        (
            format!("{any}{}\n", line("firmware")),
            "looks at no image, machine or identity",
        ),
        (
            format!("{any}{}\n", line("machine")),
            "looks at no image, machine or identity",
        ),
        (
            format!("{any}{}\n", line("identity")),
            "looks at no image, machine or identity",
        ),
        ("x".repeat((256 << 10) + 1), "at most 262144 are read"),
    ] {
        let refused = refusal(&text);
        assert!(refused.contains(expected), "{text}: {refused}");
    }
    for built_in in ["near", "hardware"] {
        let alone = whole().replace("name = \"fake\"", &format!("name = \"{built_in}\""));
        assert!(refusal(&alone).contains("is the name of a built-in policy"));
    }
    for good in [
        format!(
            "{near}pins.signing_keys = [\"ecdsa:{}\", \"ed25519:{}\"]\n",
            "0".repeat(40),
            "a".repeat(64)
        ),
        near.replace("mine", &"m".repeat(64)),
        format!("{near}{}", "#".repeat((256 << 10) - near.len())),
    ] {
        assert!(Policy::from_toml(&good).is_ok(), "{good}");
    }
}

#[test]
fn the_words_of_a_refusal_are_bounded_and_printable() {
    let refused = refusal(&format!(
        "name = \"\u{202e}\u{1b}[2J{}",
        "x".repeat(200_000)
    ));
    assert!(refused.len() < 4000, "{}", refused.len());
    assert!(
        refused
            .chars()
            .all(|c| c == '\n' || (' '..='~').contains(&c)),
        "{refused:?}"
    );
}

#[test]
fn extending_adds_lists_and_replaces_single_values() {
    let near = Policy::near();
    let with =
        |line: &str| Policy::from_toml(&format!("{HEAD}extends = \"near\"\n{line}\n")).unwrap();
    // Nothing added: the same rules, under another name.
    assert_eq!(with("").digest(), near.digest());
    assert_eq!(with("acpi = \"require\"").digest(), near.digest());
    assert_eq!(
        with("tcb.accept = [\"SWHardeningNeeded\", \"UpToDate\"]").digest(),
        near.digest()
    );
    assert_eq!(
        with("td.xfam = [\"E702060000000000\"]").digest(),
        near.digest()
    );
    for line in [
        "acpi = \"report\"",
        "tcb.accept = [\"UpToDate\"]",
        "tcb.min_evaluation_number = 18",
        "td.xfam = [\"e702060000000001\"]",
        "pins.rtmr0 = [\"000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\"]",
    ] {
        assert_ne!(with(line).digest(), near.digest(), "{line}");
    }
    let shown = with("tcb.accept = [\"UpToDate\"]").to_toml();
    assert!(shown.contains("accept = [\"UpToDate\"]"), "{shown}");
    let shown = with("td.xfam = [\"e702060000000001\"]").to_toml();
    assert!(
        shown.contains("xfam = [\"e702060000000000\", \"e702060000000001\"]"),
        "{shown}"
    );
}

#[test]
fn an_accepted_status_is_written_as_text() {
    for good in [
        "OutOfDate:INTEL-SA-01036",
        "OutOfDate:",
        "ConfigurationNeeded:A-1, B-2",
    ] {
        assert!(good.parse::<AcceptTcb>().is_ok(), "{good}");
    }
    for (text, expected) in [
        ("OutOfDate", "expected STATUS:ADVISORY"),
        (
            "Outdated:X",
            "is no TCB status; known are UpToDate, SWHardeningNeeded",
        ),
        ("Revoked:", "no policy can accept Revoked"),
        ("OutOfDate:intel-sa-1", "expected an advisory"),
        ("OutOfDate:A_1", "expected an advisory"),
    ] {
        let refused = text.parse::<AcceptTcb>().unwrap_err();
        assert!(refused.contains(expected), "{text}: {refused}");
    }
    let long = format!("OutOfDate:{}", "A".repeat(64));
    assert!(long.parse::<AcceptTcb>().is_ok());
    assert!(format!("{long}A").parse::<AcceptTcb>().is_err());
}
