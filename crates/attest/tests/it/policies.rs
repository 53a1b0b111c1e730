//! Policy files: what can be said, what is refused, and how it is put.

use attest::{AcceptTcb, Policy};

use crate::support::{spec, whole_policy_text};

/// What every exception of a policy says.
const EXCEPTION: &str =
    "exception = { until = \"2027-02-20\", reason = \"a test\", by = \"a test\" }";
const HEAD: &str = "name = \"mine\"\ndate = \"2026-11-22\"\n";

fn refusal(text: &str) -> String {
    Policy::from_toml(text).expect_err(text).to_string()
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
        Policy::near_strict(),
        Policy::hardware(),
        Policy::from_toml(&whole_policy_text()).unwrap(),
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
    let whole = whole_policy_text();
    for (line, expected) in [
        ("name = ", "missing field `name`"),
        ("date = ", "missing field `date`"),
        ("software = ", "expected software = \"expected\""),
        ("tcb.accept = ", "tcb.accept names no status"),
        ("td.attributes = ", "td.attributes allows nothing"),
        ("td.xfam = ", "td.xfam allows nothing"),
        (
            "os_image = ",
            "os_image allows nothing, but the policy asks for least.boot",
        ),
        (
            "firmware = ",
            "firmware allows nothing, but the policy asks for least.boot",
        ),
        (
            "identity = ",
            "identity allows nothing, but the policy asks for least.identity",
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
    // A machine row is needed only where nothing else accepts tables.
    let rows_only = whole.replace("acpi = \"recompute\"", "acpi = \"require\"");
    let refused = refusal(&rows_only);
    assert!(refused.contains("machine allows nothing"), "{refused}");
    let reported = whole.replace("acpi = \"recompute\"", "acpi = \"report\"");
    assert!(Policy::from_toml(&reported).is_ok());
}

#[test]
fn what_a_policy_must_not_say_is_refused() {
    let any = format!(
        "{HEAD}software = \"any\"\ntcb.accept = [\"UpToDate\"]\ntd.attributes = [\"0000001000000000\"]\ntd.xfam = [\"e702060000000000\"]\ndeployment.mode = \"off\"\ngpu = {{ mode = \"if-present\", protected_pcie = \"report\" }}\n"
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
            "only \"near\", \"near-strict\", \"hardware\" can be extended",
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
                "{near}tcb.accept_advisories = [{{ status = \"Revoked\", advisories = [], {EXCEPTION} }}]\n"
            ),
            "no policy can accept Revoked",
        ),
        (
            format!(
                "{near}tcb.accept_advisories = [{{ status = \"OutOfDate\", advisories = [\"a b\"], {EXCEPTION} }}]\n"
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
            format!(
                "{any}machine = [{{ name = \"x\", acpi_loader = \"{0}\", acpi_rsdp = \"{0}\", acpi_tables = \"{0}\" }}]\n",
                "00".repeat(48)
            ),
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
        let alone =
            whole_policy_text().replace("name = \"fake\"", &format!("name = \"{built_in}\""));
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
    assert_eq!(with("acpi = \"recompute\"").digest(), near.digest());
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
        "OutOfDate:INTEL-SA-01036@2027-02-28",
        "OutOfDate:@2027-02-28",
        "ConfigurationNeeded:A-1, B-2@2027-02-28",
    ] {
        assert!(good.parse::<AcceptTcb>().is_ok(), "{good}");
    }
    for (text, expected) in [
        ("OutOfDate", "expected STATUS:ADVISORY"),
        (
            "OutOfDate:INTEL-SA-01036",
            "expected STATUS:ADVISORY,...@LAST-DAY",
        ),
        ("OutOfDate:X@soon", "expected a day such as"),
        ("OutOfDate:X@2027-02-30", "expected a day such as"),
        (
            "Outdated:X@2027-02-28",
            "is not a TCB status; known are UpToDate, SWHardeningNeeded",
        ),
        ("Revoked:@2027-02-28", "no policy can accept Revoked"),
        ("OutOfDate:intel-sa-1@2027-02-28", "expected an advisory"),
        ("OutOfDate:A_1@2027-02-28", "expected an advisory"),
    ] {
        let refused = text.parse::<AcceptTcb>().unwrap_err();
        assert!(refused.contains(expected), "{text}: {refused}");
    }
    let long = format!("OutOfDate:{}", "A".repeat(64));
    assert!(format!("{long}@2027-02-28").parse::<AcceptTcb>().is_ok());
    let refused = format!("{long}A@2027-02-28")
        .parse::<AcceptTcb>()
        .unwrap_err();
    assert!(refused.contains("expected an advisory"), "{refused}");
}

/// The general form of "no weaker than meant": what a policy asks for rests on what it
/// asks for too.
#[test]
fn no_policy_asks_for_more_than_it_rests_on() {
    let near = format!("{HEAD}extends = \"near\"\n");
    let hardware = format!("{HEAD}extends = \"hardware\"\n");
    let hex = |bytes: usize| "42".repeat(bytes);
    for (base, line, expected) in [
        (&hardware, "least.gpu = \"genuine\"".to_owned(), "least.gpu = \"genuine\" is above its cap"),
        (&hardware, "least.identity = \"expected\"".to_owned(), "least.identity = \"expected\" is above its cap"),
        (&hardware, "least.deployment = \"declared\"".to_owned(), "least.deployment = \"declared\" is above its cap"),
        (&hardware, "gpu.mode = \"required\"".to_owned(), "least.gpu = \"genuine\" is above its cap"),
        (&near, "least.identity = \"any\"".to_owned(), "least.deployment = \"declared\" is above its cap"),
        (&near, "least.boot = \"any\"".to_owned(), "least.identity = \"expected\" is above its cap"),
        (&near, "acpi = \"report\"\nleast.boot = \"named\"".to_owned(), "acpi = \"report\" has no effect"),
        (
            &near,
            format!("least.hardware = \"current\"\ntcb.accept_advisories = [{{ status = \"OutOfDate\", advisories = [], {EXCEPTION} }}]"),
            "tcb.accept_advisories has no effect",
        ),
        (
            &near,
            format!("least.boot = \"named\"\nmachine = [{{ name = \"m\", acpi_loader = \"{0}\", acpi_rsdp = \"{0}\", acpi_tables = \"{0}\", {EXCEPTION} }}]", hex(48)),
            "the exception of machine has no effect",
        ),
        (
            &near,
            "findings.refuse = [\"compose_logs_prompts\"]".to_owned(),
            "[\"compose_logs_prompts\"] has no effect",
        ),
        (
            &near,
            "deployment.sources = \"required\"\nfindings.refuse = [\"compose_logs_prompts\"]".to_owned(),
            "expected deployment.sources = \"required\", and deployment.files = \"refuse\"",
        ),
        (
            &near,
            "findings.refuse = [\"copy_differs\"]".to_owned(),
            "a machine may leave the copy out",
        ),
        (
            &near,
            "findings.refuse = [\"deployment_untagged\"]".to_owned(),
            "expected deployment.sources = \"required\"",
        ),
        (
            &hardware,
            "findings.refuse = [\"mr_config_id_unset\"]".to_owned(),
            "expected least.boot above \"any\"",
        ),
        (
            &near,
            "findings.refuse = [\"gpu_copies_differ\"]\ngpu = { mode = \"off\" }".to_owned(),
            "\"gpu_copies_differ\"] has no effect",
        ),
        (
            &near,
            "findings.refuse = [\"deployment_file\"]\nleast.deployment = \"none\"".to_owned(),
            "\"deployment_file\"] has no effect",
        ),
        (
            &hardware,
            "findings.refuse = [\"app_docker_socket\"]".to_owned(),
            "\"app_docker_socket\"] has no effect",
        ),
        (
            &near,
            format!("deployment = {{ images = [\"sha256:{}\"], sources = \"required\" }}", hex(32)),
            "deployment.images has no effect, because the policy only reports a file that breaks a rule",
        ),
        (&near, "least.gpu = \"genuine\"\ngpu.mode = \"if-present\"".to_owned(), "lets a machine leave out"),
        (&near, "least.deployment = \"none\"\ndeployment.mode = \"required\"".to_owned(), "contradict each other"),
        (&hardware, format!("pins.compose_hashes = [\"{}\"]", hex(32)), "pins.compose_hashes: under software"),
        (&hardware, format!("pins.instance_ids = [\"{}\"]", hex(20)), "pins.instance_ids: under software"),
        (&hardware, format!("pins.mr_kms = [\"{}\"]", hex(32)), "pins.mr_kms: under software"),
        (&hardware, format!("pins.rtmr0 = [\"{}\"]", hex(48)), "pins.rtmr0: under software"),
        (&hardware, format!("pins.signing_keys = [\"ecdsa:{}\"]", hex(20)), "pins.signing_keys: under software"),
        (&hardware, format!("pins.device_ids = [\"{}\"]", hex(32)), "nobody measures"),
        (&near, format!("pins.device_ids = [\"{}\"]", hex(32)), "nobody measures"),
        (
            &near,
            "tcb.accept_advisories = [{ status = \"OutOfDate\", advisories = [\"INTEL-SA-1\"] }]".to_owned(),
            "add exception = { until = ",
        ),
        (
            &near,
            "tcb.accept_advisories = [{ status = \"OutOfDate\", advisories = [\"INTEL-SA-1\"], exception = { until = \"2027-02-20\", reason = \"\", by = \"x\" } }]".to_owned(),
            "expected exception.reason",
        ),
    ] {
        let refused = refusal(&format!("{base}{line}\n"));
        assert!(refused.contains(expected), "{line}: {refused}");
    }
    for (base, line) in [
        (&hardware, format!("pins.ppids = [\"{}\"]", hex(16))),
        (&hardware, format!("pins.mrseam = [\"{}\"]", hex(48))),
        (&near, "least.gpu = \"none\"".to_owned()),
        (&near, "least.deployment = \"none\"".to_owned()),
        (
            &near,
            "least.deployment = \"tagged\"\ndeployment.sources = \"required\"".to_owned(),
        ),
        (&near, "acpi = \"report\"".to_owned()),
        (
            &near,
            "deployment = { sources = \"required\", files = \"refuse\" }\nfindings.refuse = [\"compose_logs_prompts=danger\"]"
                .to_owned(),
        ),
        (&near, "findings.refuse = [\"app_docker_socket\"]".to_owned()),
        (&near, format!("pins.compose_hashes = [\"{}\"]", hex(32))),
    ] {
        assert!(
            Policy::from_toml(&format!("{base}{line}\n")).is_ok(),
            "{line}"
        );
    }
}

/// An application that nobody knows can state anybody's keys.
#[test]
fn under_any_identity_nothing_is_pinned_that_the_application_chooses() {
    let own = spec().policy_toml().replace("extends = \"near\"\n", "");
    let identity = own.lines().find(|line| line.starts_with("identity = "));
    let rest = own.replace(identity.unwrap(), "");
    let base = format!(
        "{rest}acpi = \"recompute\"\nsoftware = \"expected\"\nleast.identity = \"any\"\nleast.deployment = \"none\"\ntcb.accept = [\"UpToDate\"]\ntd.attributes = [\"0000001000000000\"]\ntd.xfam = [\"e702060000000000\"]\n"
    );
    Policy::from_toml(&base).unwrap();
    for (pin, value) in [
        ("signing_keys", format!("ecdsa:{}", "42".repeat(20))),
        ("instance_ids", "42".repeat(20)),
        ("mr_kms", "42".repeat(32)),
    ] {
        let refused = refusal(&format!("{base}pins.{pin} = [\"{value}\"]\n"));
        assert!(refused.contains("any application can show"), "{refused}");
    }
    for (software, boot) in [("expected", "any"), ("any", "named")] {
        let text = whole_policy_text().replace(
            "software = \"expected\"",
            &format!("software = \"{software}\"\nleast.boot = \"{boot}\""),
        );
        assert!(refusal(&text).contains("contradict each other"));
    }
}

#[test]
fn an_exception_lowers_the_level_to_the_one_that_it_gives() {
    let near = format!("{HEAD}extends = \"near\"\n");
    let least = |line: &str| {
        let policy = Policy::from_toml(&format!("{near}{line}\n")).unwrap();
        policy.least().to_string()
    };
    let whole = "hardware=current, boot=named, identity=expected, deployment=declared, gpu=genuine";
    assert_eq!(Policy::near().least().to_string(), whole);
    assert_eq!(least(""), whole);
    assert_eq!(
        least("acpi = \"report\""),
        whole.replace("named", "accepted-by-you")
    );
    assert_eq!(
        least(&format!(
            "tcb.accept_advisories = [{{ status = \"OutOfDate\", advisories = [], {EXCEPTION} }}]"
        )),
        whole.replace("current", "outdated")
    );
    assert_eq!(
        least("gpu.mode = \"off\""),
        whole.replace("genuine", "none")
    );
    assert_eq!(
        Policy::near_strict().least().to_string(),
        whole.replace("declared", "tagged")
    );
    assert_eq!(
        Policy::hardware().least().to_string(),
        "hardware=current, boot=any, identity=any, deployment=none, gpu=none"
    );
}

#[test]
fn a_policy_shown_says_where_each_rule_comes_from() {
    let text = format!(
        "{HEAD}extends = \"near\"\ngpu.count = 4\npins.ppids = [\"{}\"]\nos_image = [{{ name = \"mine\", mrtd = \"{1}\", rtmr1 = \"{1}\", rtmr2 = \"{1}\", os_image_hash = \"{2}\" }}]\n",
        "42".repeat(16),
        "42".repeat(48),
        "42".repeat(32)
    );
    let shown = Policy::from_toml(&text).unwrap().to_toml();
    for line in [
        "boot = \"named\"  # near".to_owned(),
        "min_evaluation_number = 19  # near".to_owned(),
        "count = 4  # mine; near says otherwise".to_owned(),
        "name = \"dstack-nvidia-0.5.11\"  # near".to_owned(),
        "name = \"mine\"  # mine".to_owned(),
        format!("mrtd = \"{}\"  # mine", "42".repeat(48)),
    ] {
        assert!(shown.contains(&format!("{line}\n")), "{line}\n{shown}");
    }
    let strict = Policy::near_strict().to_toml();
    assert!(
        strict.contains("deployment = \"tagged\"  # near-strict; near says otherwise\n"),
        "{strict}"
    );
    assert!(!Policy::near().to_toml().contains("# near-strict"));
}
