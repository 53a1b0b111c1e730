//! `verified-proxy verify` and `policy`, as a script calls them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fake_tee::{Built, Challenge, Spec, refusing};
use serde_json::Value;

const NOW: u64 = 1_795_348_800;
const NONCE: [u8; 32] = [0x5a; 32];
const LIVE: [u8; 32] = [0xc3; 32];

/// A folder of this test's own, with a forged report and all that belongs to it.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str, change: impl FnOnce(&mut Spec)) -> Self {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("verify-{name}"));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let mut spec = Spec::new(NOW).unwrap();
        let policy = refusing(&spec.policy_toml(), "");
        change(&mut spec);
        let Built {
            report_bytes,
            collateral_json,
            tdx_root_der,
            gpu_root_der,
            ..
        } = spec
            .forge(&Challenge {
                nonce: NONCE,
                spki_sha256: LIVE,
            })
            .unwrap();
        let folder = Self(dir);
        folder.write("report.json", &report_bytes);
        folder.write("collateral.json", collateral_json.as_bytes());
        folder.write("root.der", &tdx_root_der);
        folder.write("gpu-root.der", &gpu_root_der);
        folder.write("policy.toml", policy.as_bytes());
        folder
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.0.join(name), bytes).unwrap();
    }

    pub(crate) fn verify(&self, more: &[&str]) -> Output {
        self.run(&["verify"], more)
    }

    /// A command that judges the recorded report.
    pub(crate) fn run(&self, command: &[&str], more: &[&str]) -> Output {
        let path = |name: &str| self.0.join(name).display().to_string();
        Command::new(env!("CARGO_BIN_EXE_verified-proxy"))
            .args(command)
            .args(["--evidence", &path("report.json")])
            .args(["--collateral", &path("collateral.json")])
            .args(["--danger-tdx-root", &path("root.der")])
            .args(["--danger-gpu-root", &path("gpu-root.der")])
            .args(["--policy", &path("policy.toml")])
            .args(["--nonce", &"5a".repeat(32), "--spki", &"c3".repeat(32)])
            .args(more)
            .output()
            .unwrap()
    }
}

pub(crate) const AT: [&str; 2] = ["--at", "1795348800"];

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_good_report_exits_0_and_ends_with_what_is_not_proved() {
    let folder = Folder::new("good", |_| ());
    let output = folder.verify(&AT);
    let out = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{out}{}",
        text(&output.stderr)
    );
    assert!(out.starts_with("VERIFIED at 2026-11-22T12:00:00Z"), "{out}");
    assert!(out.contains("DANGER: judged under a root that is not Intel's"));
    assert!(out.contains("pass  the expected OS image: fake image"));
    let last = out.split("\n\n").last().unwrap();
    assert!(last.starts_with("Not proved\n"), "{last}");
    assert!(last.contains("the model asked for: the report says \"fake/llama\"; offline"));
    assert!(!out.contains('\u{1b}'), "no colour into a pipe");
}

#[test]
fn a_time_may_be_rfc_3339() {
    let folder = Folder::new("rfc3339", |_| ());
    let output = folder.verify(&["--at", "2026-11-22T12:00:00Z"]);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_refused_report_exits_1_with_code_and_hint() {
    let folder = Folder::new("refused", |spec| spec.td.mr_td = [7; 48]);
    let output = folder.verify(&AT);
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{out}");
    assert!(out.starts_with("REFUSED"), "{out}");
    assert!(
        out.contains("\nrejected_os_image: the OS image is not among the 3"),
        "{out}"
    );
    assert!(out.contains("\nhint: "), "{out}");
    assert!(out.contains("FAIL  the expected OS image"), "{out}");
    assert!(
        out.split("\n\n")
            .last()
            .unwrap()
            .starts_with("Not proved\n")
    );
}

/// The pages of verdicts hold the JSON.
#[test]
fn json_reads_in_the_same_words() {
    let good = Folder::new("words-good", |_| ());
    let refused = Folder::new("words-refused", |spec| spec.td.mr_td = [7; 48]);
    for folder in [good, refused] {
        let said = text(&folder.verify(&AT).stdout);
        let explained = text(&folder.verify(&[AT[0], AT[1], "--explain"]).stdout);
        let json = folder.verify(&[AT[0], AT[1], "--json"]).stdout;
        let read = verified_proxy::cli::verdict_text(&json, false).unwrap();
        assert_eq!(read, said);
        let read = verified_proxy::cli::verdict_explained(&json, false).unwrap();
        assert_eq!(read, explained);
        assert_ne!(said, explained);
    }
    let no_report = verified_proxy::cli::verdict_text(b"{}", false).unwrap_err();
    assert!(
        no_report.to_string().contains("missing field"),
        "{no_report}"
    );
}

const HEADINGS: [&str; 10] = [
    "Evidence",
    "Hardware",
    "Boot chain",
    "Software",
    "Identity",
    "Deployment",
    "GPUs",
    "Channel",
    "Seen besides",
    "Not proved",
];

/// Lines that begin at the margin, without those of the verdict itself.
fn headings(explained: &str) -> Vec<&str> {
    explained
        .split("\n\n")
        .skip(1)
        .filter_map(|block| block.lines().next())
        .filter(|line| !line.contains(": "))
        .collect()
}

#[test]
fn explained_it_says_what_was_compared_and_what_runs() {
    let folder = Folder::new("explained", |_| ());
    let output = folder.verify(&[AT[0], AT[1], "--explain"]);
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{out}");
    assert_eq!(headings(&out), HEADINGS, "{out}");
    for group in attest::Group::ALL {
        let is_judged = group != attest::Group::Beyond;
        assert_eq!(out.contains(group.proves()), is_judged, "{group:?}");
    }
    for check in attest::CheckId::ALL {
        let is_judged = check.group() != attest::Group::Beyond;
        let compared = format!("compares {}\n", check.compared());
        assert_eq!(out.contains(&compared), is_judged, "{check:?}");
    }
    for words in [
        "platform instance (PIID): ",
        "TDX module: TDX_",
        "  Manager: ",
        "  Log: 4 actions from ",
        "  Booted: 2026-11-19T11:50:00Z, by the identity certificate",
        "  Continuity: offline there is no memory of what",
        "fake.yaml@v",
        "  8 x GH100, driver ",
        "findings about the measured description",
        "-  the deployment log is written by software inside the machine",
    ] {
        assert!(out.contains(words), "{words}\n{out}");
    }
    // Eight GPUs that are alike are said once, with each device.
    assert_eq!(out.matches("GH100, driver").count(), 1, "{out}");
    let devices = out.lines().find(|line| line.contains("devices: "));
    assert_eq!(devices.unwrap().split_whitespace().count(), 1 + 8);

    let short = text(&folder.verify(&AT).stdout);
    assert!(short.contains(": see --explain\n"), "{short}");
    assert!(short.contains("; 8 GPUs; "), "{short}");
    for absent in ["compares ", "Manager: ", " x GH100, driver "] {
        assert!(!short.contains(absent), "{absent}\n{short}");
    }
    assert!(short.lines().count() < out.lines().count() / 2, "{short}");
}

#[test]
fn a_refusal_is_explained_as_far_as_it_came() {
    let folder = Folder::new("explained-refused", |spec| spec.td.mr_td = [7; 48]);
    let output = folder.verify(&[AT[0], AT[1], "--explain"]);
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{out}");
    assert!(out.contains("FAIL  the expected OS image\n"), "{out}");
    let block = |title: &str| {
        let start = format!("{title}\n");
        let mut blocks = out.split("\n\n");
        blocks.find(|block| block.starts_with(&start)).unwrap()
    };
    for unreached in ["Identity", "Deployment", "GPUs"] {
        assert_eq!(
            block(unreached).lines().nth(1).unwrap().trim(),
            "not reached, as the refusal came first"
        );
    }
    assert!(block("Channel").contains("pass  "), "{out}");
    assert!(block("Not proved").contains("Not reached, as the refusal came first: "));
}

/// What a policy does not look at is open in its own part, too.
#[test]
fn what_is_not_looked_at_is_open_in_its_part_and_at_the_end() {
    let folder = Folder::new("explained-off", |_| ());
    let policy = Spec::new(NOW).unwrap().policy_toml() + "gpu.mode = \"off\"\n";
    folder.write("policy.toml", policy.as_bytes());
    let out = text(&folder.verify(&[AT[0], AT[1], "--explain"]).stdout);
    let reason = "the policy does not look at them (gpu.mode = \"off\")";
    let (gpus, end) = out.rsplit_once("\n\nNot proved\n").unwrap();
    assert_eq!(gpus.matches(&format!("not proved: {reason}")).count(), 5);
    assert_eq!(end.matches(reason).count(), 5, "{end}");
    assert!(!gpus.contains(" x GH100"), "{out}");
}

#[test]
fn long_lists_are_cut_and_say_so() {
    let folder = Folder::new("explained-long", |_| ());
    let json = folder.verify(&[AT[0], AT[1], "--json"]).stdout;
    let mut json: Value = serde_json::from_slice(&json).unwrap();
    let finding = |severity: &str, n: usize| serde_json::json!({ "severity": severity, "topic": "a_topic", "detail": format!("number {n}.") });
    let mut findings: Vec<_> = (0..40).map(|n| finding("notice", n)).collect();
    findings.push(finding("danger", 99));
    findings.push(finding("warning", 98));
    json["findings"] = findings.into();
    let up = json["deployment"]["up"][0].clone();
    json["deployment"]["up"] = vec![up; 70].into();
    let json = serde_json::to_vec(&json).unwrap();
    let out = verified_proxy::cli::verdict_explained(&json, false).unwrap();
    assert!(out.contains("number 11."), "{out}");
    assert!(!out.contains("number 12."), "{out}");
    assert!(out.contains("... and 28 more: see --json"), "{out}");
    assert!(out.contains("... and 10 more: see --json"), "{out}");
    let place = |words: &str| out.find(words).unwrap();
    assert!(
        place("number 99.") < place("number 98."),
        "the gravest first"
    );
    assert!(place("number 98.") < place("number 0."));
    let short = verified_proxy::cli::verdict_text(&json, false).unwrap();
    assert!(
        short.contains("\n42 findings, of them 1 danger and 1 warning; 70 up by the log; 8 GPUs; "),
        "{short}"
    );
    assert!(!short.contains("number 99."), "{short}");
}

#[test]
fn json_lists_every_check() {
    let folder = Folder::new("json", |spec| spec.td.td_attributes[0] = 1);
    let output = folder.verify(&["--at", "1795348800", "--json", "--domain", "a.example"]);
    assert_eq!(output.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["verdict"], "rejected");
    assert_eq!(json["code"], "rejected_td_debug");
    assert_eq!(json["policy"]["name"], "fake");
    assert_eq!(json["domain"], "a.example");
    let checks = json["checks"].as_array().unwrap();
    assert_eq!(checks.len(), attest::CheckId::ALL.len());
    for check in checks {
        let status = check["status"].as_str().unwrap();
        assert!(["pass", "fail", "not_proved"].contains(&status));
        assert_ne!(check["detail"], "");
    }
}

#[test]
fn tags_are_what_git_ls_remote_says() {
    let folder = Folder::new("tags", |_| {});
    let path = folder.0.join("tags.txt");
    let file = path.display().to_string();
    let said = |more: &[&str]| {
        let output = folder.verify(&[&AT, more].concat());
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        (output.status.code(), out, err)
    };
    let with = ["--compose-tags", &file];
    let (code, out, _) = said(&[]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("no --compose-tags was given"), "{out}");
    let now = 1_795_348_800;
    let mut tags = fake_tee::ComposeManager::new(now).published_tags();
    std::fs::write(&path, fake_tee::tags::ls_remote(&tags)).unwrap();
    let (code, out, _) = said(&with);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("all 2 files, by the 2 tags"), "{out}");
    tags[0].commit = "42".repeat(20);
    std::fs::write(&path, fake_tee::tags::ls_remote(&tags)).unwrap();
    let (code, out, _) = said(&with);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("\nrejected_deployment_tag_moved: "), "{out}");
    // A list that cannot be read is not as good as none.
    for bad in ["", "x", "<html>"] {
        std::fs::write(&path, bad).unwrap();
        let (code, _, err) = said(&with);
        assert_eq!(code, Some(3), "{err}");
        assert!(
            err.contains("no list of references as git makes it"),
            "{err}"
        );
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(said(&with).0, Some(3));
}

#[test]
fn compose_files_are_found_in_a_folder_by_their_hashes() {
    let publish = |spec: &mut Spec, text: &str| {
        let manager = spec.compose_manager.as_mut().unwrap();
        manager.publish("v0.0.1", text);
    };
    let evil = "services: {a: {image: alpine, network_mode: host}}\n";
    let honest = |tag| fake_tee::compose_file::compose_text(tag);
    let folder = Folder::new("compose", |spec| publish(spec, evil));
    let files = folder.0.join("compose");
    std::fs::create_dir_all(files.join("prod")).unwrap();
    let path = files.display().to_string();
    let said = |more: &[&str]| {
        let output = folder.verify(&[&AT, more].concat());
        (output.status.code(), text(&output.stdout))
    };
    let with = ["--compose-files", &path];

    let (code, out) = said(&[]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("no --compose-files was given"), "{out}");
    // One that the log does not name, and one that it does.
    std::fs::write(files.join("one.yaml"), honest("v0.0.1")).unwrap();
    std::fs::write(files.join("prod/two"), honest("v0.0.2")).unwrap();
    let (code, out) = said(&with);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("1 of 2 files were not fetched"), "{out}");
    std::fs::write(files.join("prod/three.txt"), evil).unwrap();
    let (code, out) = said(&with);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("\nrejected_compose_namespace: "), "{out}");

    std::fs::remove_dir_all(&files).unwrap();
    assert_eq!(said(&with).0, Some(3));
}

#[test]
fn malformed_evidence_and_collateral_are_refusals() {
    let folder = Folder::new("malformed", |_| ());
    folder.write("report.json", b"<html>");
    let output = folder.verify(&AT);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("evidence_not_json"));
    let folder = Folder::new("malformed-collateral", |_| ());
    folder.write("collateral.json", b"{}");
    let output = folder.verify(&AT);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("rejected_collateral_format"));
}

#[test]
fn wrong_usage_exits_2_and_a_missing_file_3() {
    let folder = Folder::new("usage", |_| ());
    for wrong in [
        &["--at", "yesterday"][..],
        &["--at", "0", "--accept-tcb", "Revoked:"],
        &["--at", "0", "--accept-tcb", "OutOfDate"],
        &["--at", "0", "--domain", "10.0.0.1"],
        &["--unknown"],
    ] {
        assert_eq!(folder.verify(wrong).status.code(), Some(2), "{wrong:?}");
    }
    folder.write("policy.toml", b"name = \"x\"");
    let output = folder.verify(&AT);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("missing field `date`"),
        "{}",
        text(&output.stderr)
    );
    std::fs::remove_file(folder.0.join("collateral.json")).unwrap();
    std::fs::write(
        folder.0.join("policy.toml"),
        Spec::new(NOW).unwrap().policy_toml(),
    )
    .unwrap();
    assert_eq!(folder.verify(&AT).status.code(), Some(3));
}

#[test]
fn a_policy_is_written_once_and_accepts_what_it_was_written_from() {
    let folder = Folder::new("write-policy", |spec| spec.td.mr_td = [7; 48]);
    let written = folder.0.join("written.toml");
    let path = written.display().to_string();
    let write = ["--at", "1795348800", "--write-policy", &path];
    assert_eq!(folder.verify(&write).status.code(), Some(1));
    // Never over a file.
    assert_eq!(folder.verify(&write).status.code(), Some(3));
    std::fs::copy(&written, folder.0.join("policy.toml")).unwrap();
    assert_eq!(folder.verify(&AT).status.code(), Some(0));
}

fn policy(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_verified-proxy"))
        .arg("policy")
        .args(args)
        .output()
        .unwrap()
}

#[test]
fn policies_are_shown_and_checked() {
    for name in ["near", "hardware"] {
        let shown = policy(&["show", name]);
        assert_eq!(shown.status.code(), Some(0));
        assert!(text(&shown.stdout).starts_with(&format!("name = \"{name}\"\n")));
        assert_eq!(policy(&["check", name]).status.code(), Some(0));
    }
    assert!(text(&policy(&["check", "hardware"]).stdout).contains("HARDWARE ONLY"));
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let broken = dir.join("broken-policy.toml");
    std::fs::write(
        &broken,
        "name = \"x\"\ndate = \"2026-11-22\"\nextends = \"near\"\nunknown = 1\n",
    )
    .unwrap();
    let output = policy(&["check", &broken.display().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("unknown field `unknown`"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(
        policy(&["check", "no-such-file.toml"]).status.code(),
        Some(3)
    );
}

/// The recordings are not part of the project: `VERIFIED_PROXY_CAPTURES` names their folder.
#[test]
fn the_recordings_verify_at_their_own_time_and_expire() {
    let Some(captures) = std::env::var_os("VERIFIED_PROXY_CAPTURES") else {
        assert!(std::env::var_os("VERIFIED_PROXY_CAPTURES_REQUIRED").is_none());
        eprintln!("skipped: VERIFIED_PROXY_CAPTURES is not set");
        return;
    };
    let own = tempfile::tempdir().unwrap();
    let own = own.path().join("then.toml");
    // Intel's standard edition until May 2026.
    let then = "name = \"then\"\nextends = \"near\"\ndate = \"2026-04-24\"\ntcb.min_evaluation_number = 18\n";
    std::fs::write(&own, then).unwrap();
    for (day, name) in [("20260424", "then"), ("20260610", "near")] {
        let dir = Path::new(&captures).join(day);
        let policy = if name == "near" {
            Path::new(name)
        } else {
            &own
        };
        let read = |name: &str| {
            std::fs::read_to_string(dir.join(name))
                .unwrap()
                .trim()
                .to_owned()
        };
        let report: Value = serde_json::from_str(&read("attestation_report.json")).unwrap();
        let at: u64 = read("verify_at_unix").parse().unwrap();
        let run_under = |policy: &Path, at: u64| {
            Command::new(env!("CARGO_BIN_EXE_verified-proxy"))
                .arg("verify")
                .arg("--evidence")
                .arg(dir.join("attestation_report.json"))
                .arg("--collateral")
                .arg(dir.join("collateral.json"))
                .args(["--nonce", &read("nonce.hex")])
                .args(["--spki", report["tls_cert_fingerprint"].as_str().unwrap()])
                .args(["--at", &at.to_string(), "--json"])
                .arg("--policy")
                .arg(policy)
                .output()
                .unwrap()
        };
        let run = |at: u64| run_under(policy, at);
        if name == "then" {
            let refused = run_under(Path::new("near"), at);
            assert_eq!(refused.status.code(), Some(1));
            let json: Value = serde_json::from_slice(&refused.stdout).unwrap();
            assert_eq!(json["code"], "rejected_tcb_evaluation");
        }
        let verified = run(at);
        assert_eq!(
            verified.status.code(),
            Some(0),
            "{}",
            text(&verified.stdout)
        );
        let json: Value = serde_json::from_slice(&verified.stdout).unwrap();
        assert_eq!(json["verdict"], "verified");
        assert_eq!(json["policy"]["name"], name);
        assert_eq!(json["trust_root"], "intel");
        // Without the files and tags of its log.
        assert_eq!(
            json["levels"],
            serde_json::json!({
                "hardware": "current",
                "boot": "named",
                "identity": "expected",
                "deployment": "declared",
                "gpu": "genuine",
            })
        );
        for (at, code) in [
            (at + 31 * 86_400, "rejected_collateral_expired"),
            (at - 31 * 86_400, "rejected_collateral_not_yet_valid"),
        ] {
            let refused = run(at);
            assert_eq!(refused.status.code(), Some(1));
            let json: Value = serde_json::from_slice(&refused.stdout).unwrap();
            assert_eq!(json["code"], code);
        }
    }
}
