//! Policy files of the last version that had no levels, under today's code: each is
//! refused with its key and what to write instead, or it refuses what it refused then,
//! but for what CHANGELOG.md says.
//!
//! The texts and outcomes.tsv are what commit d31c286 had and said, and stay as they
//! are. KMS_ROOT stands for the forged KMS's root key, which each run makes anew, and the
//! digests of a forged machine's tables of then for those of today's.

mod accepted;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use attest::{Appraisal, FilesAtHand, FilesCheck, Policy, TagsCheck, UpstreamTags};
use fake_tee::{Built, ComposeManager, Spec};

use self::accepted::{ACCEPTED, ANY_SOFTWARE, FILES, TAGS, by_hardware};
use crate::support::{Beside, challenge, code, judge_beside, spec, upstream};
use crate::tampering::cases;

macro_rules! text {
    ($name:literal) => {
        ($name, include_str!(concat!($name, ".toml")))
    };
}

/// Every whole policy of its documents, its tests and its `policy show`.
const TEXTS: [(&str, &str); 15] = [
    text!("near"),
    text!("hardware"),
    text!("shown_near"),
    text!("shown_hardware"),
    text!("readme_advisories"),
    text!("readme_pins"),
    text!("extends_near"),
    text!("extends_hardware"),
    text!("advisories_hardware"),
    text!("any_software"),
    // What a forged machine is judged by, and further lines.
    text!("fake"),
    text!("fake_tags"),
    text!("fake_shown"),
    text!("fake_if_present"),
    text!("fake_off"),
];

/// What [`TEXTS`] has that loads and that a forged machine can satisfy.
const JUDGED: [&str; 5] = [
    "fake",
    "fake_tags",
    "fake_shown",
    "fake_off",
    "extends_hardware",
];

fn text(name: &str) -> String {
    let found = TEXTS.into_iter().find(|(own, _)| *own == name);
    let (_, text) = found.unwrap_or_else(|| panic!("no text {name}"));
    let tables = fake_tee::acpi::digests(&spec().vm_config);
    let mut text = text.replace("KMS_ROOT", &spec().kms.root_spki_hex());
    for (then, now) in [
        ("ACPI loader", tables.loader),
        ("ACPI RSDP", tables.rsdp),
        ("ACPI tables", tables.tables),
    ] {
        let then = hex::encode(fake_tee::hash::label384(then));
        text = text.replace(&then, &hex::encode(now));
    }
    text
}

/// Words of a refusal, and the change to the text that they ask for.
type Mend = (&'static [&'static str], &'static str, &'static str);

const BUILT_IN: Mend = (
    &[
        "name = \"",
        "is the name of a built-in policy; choose another",
    ],
    "name = \"",
    "name = \"my ",
);
const NO_END: Mend = (
    &[
        "tcb.accept_advisories = [{",
        "what is accepted has an end, a reason and a name",
        "add exception = { until = \"2027-02-28\", reason = \"say why\", by = \"your name\" }",
    ],
    "\"INTEL-SA-01036\"] }",
    "\"INTEL-SA-01036\"], exception = { until = \"2027-02-28\", reason = \"say why\", by = \"your name\" } }",
);
const PIN: Mend = (
    &["pins.signing_keys", "or pin hardware (pins.ppids"],
    "pins.signing_keys = [\"ecdsa:0000000000000000000000000000000000000000\"]",
    "pins.ppids = [\"00000000000000000000000000000000\"]",
);
const PCIE: Mend = (
    &["gpu.protected_pcie", "or gpu.protected_pcie = \"report\""],
    "mode = \"if-present\"",
    "mode = \"if-present\"\nprotected_pcie = \"report\"",
);
const GPU_LEVEL: Mend = (
    &["least.gpu = \"genuine\"", "or set least.gpu = \"none\""],
    "software",
    "least.gpu = \"none\"\nsoftware",
);
const GPU_COUNT: Mend = (
    &["gpu.count", "expected gpu.mode = \"required\""],
    "gpu.mode = \"if-present\"",
    "gpu.mode = \"required\"",
);

#[test]
fn an_old_text_loads_or_its_refusal_says_how_to_mend_it() {
    let refused: BTreeMap<_, &[Mend]> = BTreeMap::from([
        ("near", &[BUILT_IN][..]),
        ("shown_near", &[BUILT_IN]),
        ("hardware", &[BUILT_IN, PCIE]),
        ("shown_hardware", &[BUILT_IN, PCIE]),
        ("readme_advisories", &[NO_END]),
        ("advisories_hardware", &[NO_END, PIN]),
        ("any_software", &[GPU_LEVEL]),
        ("fake_if_present", &[GPU_COUNT]),
    ]);
    for (name, _) in TEXTS {
        let mut text = text(name);
        for (words, from, to) in refused.get(name).copied().unwrap_or_default() {
            let said = Policy::from_toml(&text).expect_err(name).to_string();
            for words in *words {
                assert!(said.contains(words), "{name}: {said}");
            }
            assert!(text.contains(from), "{name}: {from}");
            text = text.replacen(from, to, 1);
        }
        if let Err(error) = Policy::from_toml(&text) {
            panic!("{name}: {error}");
        }
    }
}

/// What was said then of each tampering, by the name of the policy.
fn outcomes() -> Vec<(&'static str, BTreeMap<&'static str, &'static str>)> {
    let mut lines = include_str!("outcomes.tsv").lines();
    let names: Vec<_> = lines.next().unwrap().split('\t').collect();
    let row = |line: &'static str| {
        let mut codes: BTreeMap<_, _> = names.iter().copied().zip(line.split('\t')).collect();
        // The lines that this text has beside "fake" said what "near" said then.
        codes.insert("fake_tags", codes["fake"]);
        (codes["tampering"], codes)
    };
    lines.map(row).collect()
}

/// A forged machine, the tags of its own repository, and its files where a change is in
/// them: reading files costs as much as all the rest.
struct Machine {
    built: Built,
    tags: UpstreamTags,
    files: FilesAtHand,
}

impl Machine {
    fn new(spec: &Spec) -> Self {
        let unchanged = ComposeManager::new(spec.now).files;
        let own = spec.compose_manager.iter().flat_map(|own| &own.files);
        let mut files = FilesAtHand::default();
        if !own.clone().eq(&unchanged) {
            for file in own {
                files.insert(&file.file, file.text.as_bytes());
            }
        }
        Self {
            built: spec.forge(&challenge()).unwrap(),
            tags: upstream(spec),
            files,
        }
    }

    /// After a change of today's table or of [`rows`].
    fn tampered(what: &str) -> Self {
        let mut known = cases().chain(rows::REMOVED).chain(rows::MORE);
        let case = known.find(|case| case.what == what);
        let mut spec = spec();
        (case.unwrap_or_else(|| panic!("no tampering {what}")).change)(&mut spec);
        Self::new(&spec)
    }

    fn judge(&self, policy: &Policy) -> Appraisal {
        let beside = Beside {
            tags: TagsCheck::AtHand(&self.tags),
            files: FilesCheck::AtHand(&self.files),
            ..Beside::default()
        };
        judge_beside(&self.built, policy, beside)
    }

    fn code(&self, policy: &Policy) -> &'static str {
        code(&self.judge(policy))
    }
}

fn policies() -> [(&'static str, Policy); 5] {
    JUDGED.map(|name| (name, Policy::from_toml(&text(name)).unwrap()))
}

/// What was refused then and is accepted now: policy, tampering, and its findings.
fn accepted() -> BTreeMap<(&'static str, &'static str), BTreeSet<&'static str>> {
    let (outcomes, policies) = (outcomes(), policies());
    let mut accepted = BTreeMap::new();
    let of_some = |rows: &[(&'static str, BTreeMap<&str, &str>)]| {
        let mut accepted = BTreeMap::new();
        for (what, then) in rows {
            let machine = Machine::tampered(what);
            for (name, policy) in &policies {
                // Its text is that of "fake" and lines that only demand.
                let is_asked = *name != "fake_tags" || accepted.contains_key(&("fake", *what));
                if !is_asked || then[name] == "verified" {
                    continue;
                }
                let now = machine.judge(policy);
                if code(&now) == "verified" {
                    let findings = now.report.findings.iter().map(|finding| finding.topic);
                    accepted.insert((*name, *what), findings.collect());
                }
            }
        }
        accepted
    };
    std::thread::scope(|scope| {
        let parts = outcomes.chunks(outcomes.len().div_ceil(4));
        let threads: Vec<_> = parts.map(|rows| scope.spawn(|| of_some(rows))).collect();
        for thread in threads {
            accepted.extend(thread.join().unwrap());
        }
    });
    accepted
}

#[test]
fn an_old_text_refuses_what_it_refused_but_for_what_the_changelog_says() {
    let mut accepted = accepted();
    let mut wrong = String::new();
    let mut expect = |policy, what, finding: Option<&str>| match accepted.remove(&(policy, what)) {
        None => {
            let _ = writeln!(wrong, "{policy} refuses, or accepted then: {what}");
        }
        Some(findings) => {
            if finding.is_some_and(|finding| !findings.contains(finding)) {
                let _ = writeln!(wrong, "{policy}: {what}: no finding {finding:?}");
            }
        }
    };
    for row in ACCEPTED {
        for policy in row.policies {
            for (what, _) in row.changes {
                expect(*policy, *what, row.finding);
            }
        }
    }
    for what in by_hardware() {
        expect("extends_hardware", what, None);
    }
    for (policy, what) in accepted.into_keys() {
        let _ = writeln!(wrong, "{policy} accepts what it refused: {what}");
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn the_real_value_of_an_accepted_copy_is_refused() {
    let policies = policies();
    for row in ACCEPTED {
        let asked = |name: &str| name != "extends_hardware" && row.policies.contains(&name);
        let own: Vec<_> = policies.iter().filter(|(name, _)| asked(name)).collect();
        let real: BTreeSet<_> = row.changes.iter().filter_map(|(_, real)| *real).collect();
        for what in real {
            let machine = Machine::tampered(what);
            for (name, policy) in &own {
                assert_ne!(machine.code(policy), "verified", "{name}: {what}");
            }
        }
    }
}

/// The two lines that the changelog names.
#[test]
fn two_lines_refuse_again_what_near_reports() {
    let more = "deployment.tags = \"releases\"\ndeployment.files = \"refuse\"\n";
    let policy = Policy::from_toml(&(text("fake") + more)).unwrap();
    for (what, _) in TAGS.iter().chain(FILES) {
        assert_ne!(Machine::tampered(what).code(&policy), "verified", "{what}");
    }
    assert_eq!(Machine::new(&spec()).code(&policy), "verified");
}

#[test]
fn the_machine_itself_verifies_under_each_old_text() {
    let machine = Machine::new(&spec());
    for (name, policy) in policies() {
        assert_eq!(machine.code(&policy), "verified", "{name}");
    }
}

#[test]
fn each_sentence_stands_in_the_changelog() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../CHANGELOG.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, text) = text.split_once("### Accepted now, refused before").unwrap();
    let (text, _) = text.split_once("###").unwrap();
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let sentences = ACCEPTED.iter().map(|row| row.sentence);
    for sentence in sentences.chain([ANY_SOFTWARE]) {
        assert!(words(text).contains(&words(sentence)), "{sentence}");
    }
}
