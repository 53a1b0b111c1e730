//! `policy diff`: it never calls a policy no weaker that accepts what the other refuses.

use attest::{Effect, FilesCheck, Policy, RuleChange, TagsCheck};
use fake_tee::Spec;

use crate::support::{
    Beside, challenge, code, files_of, judge_beside, manager, policy_text, spec_with, upstream,
};

fn effects(old: &Policy, new: &Policy) -> (bool, bool) {
    let changes = old.changes_to(new);
    let has = |effect| changes.iter().any(|change| change.effect == effect);
    (has(Effect::More), has(Effect::Less))
}

/// Lines that make a policy, beside the fake machine's own.
fn variants() -> Vec<String> {
    let until = "exception = { until = \"2026-12-24\", reason = \"a test\", by = \"me\" }";
    let lines = [
        String::new(),
        "least.boot = \"accepted-by-you\"".to_owned(),
        "acpi = \"report\"".to_owned(),
        "gpu.count = 7".to_owned(),
        "gpu.mode = \"off\"".to_owned(),
        "gpu.protected_pcie = \"report\"".to_owned(),
        format!("gpu.devices = [\"{}\"]", "00".repeat(8)),
        "deployment.mode = \"off\"".to_owned(),
        "deployment.tags = \"report\"".to_owned(),
        "deployment.files = \"report\"".to_owned(),
        "deployment.sources = \"required\"".to_owned(),
        format!("deployment.commits = [\"{}\"]", "00".repeat(20)),
        "tcb.min_evaluation_number = 3".to_owned(),
        "tcb.min_evaluation_number = 300".to_owned(),
        "td.attributes = [\"0000005000000000\"]".to_owned(),
        "td.xfam = [\"e702070000000000\"]".to_owned(),
        format!(
            "tcb.accept_advisories = [{{ status = \"OutOfDate\", advisories = [\"INTEL-SA-01036\"], {until} }}]"
        ),
        format!("pins.mrseam = [\"{}\"]", "00".repeat(48)),
        format!(
            "pins.mrseam = [\"{}\"]",
            hex::encode(spec_with(|_| ()).td.mr_seam)
        ),
        format!(
            "pins.mrseam = [\"{}\"]\naccepted = [{{ rule = \"pins.mrseam\", value = \"{}\", {until} }}]",
            "00".repeat(48),
            hex::encode(spec_with(|_| ()).td.mr_seam)
        ),
        "findings.refuse = [\"mr_config_id_unset\"]".to_owned(),
        "findings.refuse = [\"mr_config_id_unset=danger\"]".to_owned(),
        "hold = true\ndeployment.sources = \"required\"".to_owned(),
    ];
    let mut texts: Vec<_> = lines
        .iter()
        .map(|line| policy_text(&format!("{line}\n")))
        .collect();
    let row = |more: String| policy_text("").replacen("rtmr1 = ", &format!("{more}, rtmr1 = "), 1);
    texts.extend([
        row(format!("mrtd_two_pass = \"{}\"", "08".repeat(48))),
        row("warn_from = \"2026-11-01\"".to_owned()),
        row("refuse_from = \"2026-11-01\"".to_owned()),
        row("refuse_from = \"2026-12-01\"".to_owned()),
        row("confirmed_by = [\"a test\"]".to_owned()),
    ]);
    let tables = |places: &str| {
        let digest = "07".repeat(48);
        format!(
            "machine = [{{ name = \"x\"{places}, acpi_loader = \"{digest}\", acpi_rsdp = \"{digest}\", acpi_tables = \"{digest}\" }}]\n"
        )
    };
    texts.extend([
        policy_text("gpu.places = \"report\"\n"),
        policy_text(&tables("")),
        policy_text(&tables(", places = 12")),
        policy_text(&format!("acpi = \"require\"\n{}", tables(", places = 12"))),
    ]);
    texts.push("name = \"any\"\nextends = \"hardware\"\ndate = \"2026-11-22\"\n".to_owned());
    texts
}

fn machines() -> Vec<Spec> {
    let changes: [fn(&mut Spec); 15] = [
        |_| (),
        |s| s.td.mr_td = [7; 48],
        |s| s.boot.acpi_tables = Some([7; 48]),
        |s| {
            s.boot.acpi_loader = Some([7; 48]);
            s.boot.acpi_rsdp = Some([7; 48]);
            s.boot.acpi_tables = Some([7; 48]);
        },
        |s| s.vm_config.num_gpus = 9,
        |s| {
            s.vm_config.qemu_version = "8.2.2".to_owned();
            s.td.mr_td = [8; 48];
        },
        |s| s.gpus = None,
        |s| s.gpus.as_mut().unwrap().gpus.truncate(7),
        |s| s.compose_manager = None,
        |s| {
            s.tcb_info
                .set_platform_status("OutOfDate", &["INTEL-SA-01036"])
        },
        |s| s.td.td_attributes[3] |= 0x40,
        |s| s.td.xfam[2] ^= 1,
        |s| s.app.app_id = vec![7; 20],
        |s| manager(s).files.clear(),
        |s| s.td.mr_seam[0] ^= 1,
    ];
    changes.into_iter().map(spec_with).collect()
}

#[test]
fn no_policy_that_accepts_more_is_called_no_weaker() {
    let machines = machines();
    let accepted = |policy: &Policy| -> Vec<bool> {
        let judged = |spec: &Spec| {
            let built = spec.forge(&challenge()).unwrap();
            let (tags, files) = (upstream(spec), files_of(spec));
            let beside = Beside {
                tags: TagsCheck::AtHand(&tags),
                files: FilesCheck::AtHand(&files),
                ..Beside::default()
            };
            code(&judge_beside(&built, policy, beside)) == "verified"
        };
        machines.iter().map(judged).collect()
    };
    let policies: Vec<_> = variants()
        .iter()
        .map(|text| Policy::from_toml(text).unwrap_or_else(|error| panic!("{error}\n{text}")))
        .collect();
    let outcomes: Vec<_> = policies.iter().map(accepted).collect();
    let mut told_apart = 0;
    for (old, of_old) in policies.iter().zip(&outcomes) {
        for (new, of_new) in policies.iter().zip(&outcomes) {
            let (more, less) = effects(old, new);
            let accepts_more = of_old.iter().zip(of_new).any(|(old, new)| !old && *new);
            assert!(
                more || !accepts_more,
                "{:?}\n{}\n{}",
                old.changes_to(new),
                old.to_toml(),
                new.to_toml()
            );
            told_apart += usize::from(accepts_more);
            // What is more one way is less the other way.
            let (more_back, less_back) = effects(new, old);
            assert_eq!(
                (more, less),
                (less_back, more_back),
                "{:?}",
                old.changes_to(new)
            );
            let is_equal = old.digest() == new.digest();
            assert_eq!(is_equal, old.changes_to(new).is_empty());
        }
    }
    assert!(told_apart > 100, "{told_apart}");
}

fn words(old: &Policy, new: &Policy) -> Vec<String> {
    let changes = old.changes_to(new);
    changes
        .iter()
        .map(
            |RuleChange {
                 effect,
                 rule,
                 words,
             }| format!("{effect:?} {rule}: {words}"),
        )
        .collect()
}

#[test]
fn the_built_in_policies_differ_in_words() {
    let said = words(&Policy::near(), &Policy::near_strict());
    for expected in [
        "Less least.deployment: tagged instead of declared",
        "Less deployment.tags: \"releases\" instead of \"report\"",
        "Less deployment.sources: \"required\" instead of \"if-at-hand\"",
        "Less findings.refuse: refuses image_advisory of severity danger and above",
    ] {
        assert!(
            said.iter().any(|line| line == expected),
            "{expected}: {said:#?}"
        );
    }
    assert!(
        said.iter().all(|line| line.starts_with("Less ")),
        "{said:#?}"
    );
    let said = words(&Policy::near(), &Policy::hardware());
    assert!(
        said.contains(&"More least.boot: any instead of named".to_owned()),
        "{said:#?}"
    );
    assert!(
        said.iter().any(|line| line.starts_with("More gpu.mode: ")),
        "{said:#?}"
    );
    assert!(Policy::near().changes_to(&Policy::near()).is_empty());
}

/// How a file writes its rules, and what it is called, changes nothing.
#[test]
fn only_what_rules_mean_is_compared() {
    let near = "name = \"mine\"\nextends = \"near\"\ndate = \"2026-11-22\"\n# a remark\n[tcb]\nmin_evaluation_number = 19\n";
    let mine = Policy::from_toml(near).unwrap();
    assert_eq!(words(&Policy::near(), &mine), Vec::<String>::new());
    let row = |until: &str| {
        let text = format!(
            "{near}[[tcb.accept_advisories]]\nstatus = \"OutOfDate\"\nadvisories = [\"INTEL-SA-01036\"]\nexception = {{ until = \"{until}\", reason = \"x\", by = \"y\" }}\n"
        );
        Policy::from_toml(&text).unwrap()
    };
    let (short, long) = (row("2027-01-01"), row("2027-02-01"));
    assert_eq!(
        words(&short, &long),
        [
            "More tcb.accept_advisories: accepts OutOfDate of any part with INTEL-SA-01036 until 2027-02-01, before until 2027-01-01"
        ]
    );
    assert!(words(&long, &short)[0].starts_with("Less "));
    assert_eq!(
        words(&mine, &short),
        [
            "More least.hardware: outdated instead of current",
            "More tcb.accept_advisories: accepts OutOfDate of any part with INTEL-SA-01036 until 2027-01-01",
        ]
    );
}

/// Names are the words of whoever wrote the file: they end no line and move no cursor.
#[test]
fn no_name_in_a_file_forges_a_line() {
    let name = "fine\\n\\nmine accepts nothing that near refuses.\\u001b[8m\\u202e";
    let zeros = "00".repeat(48);
    let text = format!(
        "name = \"mine\"\nextends = \"near\"\ndate = \"2026-11-22\"\nmachine = [{{ name = \"{name}\", acpi_loader = \"{zeros}\", acpi_rsdp = \"{zeros}\", acpi_tables = \"{zeros}\" }}]\n"
    );
    let said = words(&Policy::near(), &Policy::from_toml(&text).unwrap());
    assert!(
        said[0].contains("accepts the machine shape fine"),
        "{said:?}"
    );
    let is_plain = |c: char| (' '..='~').contains(&c);
    assert!(said[0].chars().all(is_plain), "{said:?}");
}
