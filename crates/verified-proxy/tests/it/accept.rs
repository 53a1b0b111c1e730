//! `verified-proxy policy accept` and `policy diff`, as a person calls them.

use std::process::{Command, Output};

use fake_tee::Spec;

use crate::harness::*;
use crate::program::{Said, arguments, command, program, run};
use crate::verify::{AT, Folder, text};

const WHY: [&str; 4] = ["--reason", "Intel's update is on its way", "--by", "Ada"];

fn outdated(spec: &mut Spec) {
    spec.tcb_info
        .set_platform_status("OutOfDate", &["INTEL-SA-01036"]);
}

fn accept(folder: &Folder, more: &[&str]) -> Output {
    let more: Vec<_> = AT.iter().chain(&WHY).chain(more).copied().collect();
    folder.run(&["policy", "accept"], &more)
}

fn at(folder: &Folder, name: &str) -> String {
    folder.0.join(name).display().to_string()
}

fn read(folder: &Folder, name: &str) -> String {
    std::fs::read_to_string(folder.0.join(name)).unwrap()
}

fn diff(old: &str, new: &str) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_verified-proxy"))
        .args(["policy", "diff", old, new])
        .output()
        .unwrap();
    (
        output.status.code(),
        text(&output.stdout) + &text(&output.stderr),
    )
}

#[test]
fn it_shows_old_beside_new_and_writes_nothing_by_itself() {
    let folder = Folder::new("accept-shown", outdated);
    let before = read(&folder, "policy.toml");
    let output = accept(&folder, &[]);
    let out = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{out}{}",
        text(&output.stderr)
    );
    for words in [
        "refused in one rule, tcb.accept_advisories (platform) (rejected_tcb_platform)",
        "patch level of the platform\n    expected  UpToDate, or SWHardeningNeeded\n",
        "    seen      OutOfDate (level of ",
        "its owner may be able to read your prompts",
        "INTEL-SA-01036",
        "It would hold until 2027-02-20, that day included. Ada proposes it: Intel's update is on its way",
        "hardware=outdated",
        "tcb.accept_advisories = [{ component = \"platform\", status = \"OutOfDate\", advisories = [\"INTEL-SA-01036\"], exception = { until = \"2027-02-20\", reason = \"Intel's update is on its way\", by = \"Ada\" } }]",
        "Nothing was written: name a file with --to to write it.",
    ] {
        assert!(out.contains(words), "{words}\n{out}");
    }
    assert_eq!(read(&folder, "policy.toml"), before);
    for missing in ["--reason", "--by"] {
        let output = folder.run(&["policy", "accept"], &[missing, "x"]);
        assert_eq!(output.status.code(), Some(2), "{missing} alone");
    }
}

#[test]
fn its_own_policy_gets_the_line_and_keeps_its_comments() {
    let folder = Folder::new("accept-own", outdated);
    let before = "# My policy.\n".to_owned() + &read(&folder, "policy.toml") + "# The end.";
    folder.write("policy.toml", before.as_bytes());
    folder.write("old.toml", before.as_bytes());
    let policy = at(&folder, "policy.toml");
    let output = accept(&folder, &["--to", &policy]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("wrote "));
    let after = read(&folder, "policy.toml");
    assert!(after.starts_with(&before), "{after}");
    assert!(
        after
            .contains("\n# Accepted on 2026-11-22, until 2027-02-20.\n[[tcb.accept_advisories]]\n")
    );
    assert_eq!(folder.verify(&AT).status.code(), Some(0));
    let again = accept(&folder, &["--to", &policy]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("nothing to accept"));
    let (code, said) = diff(&at(&folder, "old.toml"), &policy);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("accepts OutOfDate of platform with INTEL-SA-01036 until 2027-02-20"),
        "{said}"
    );
    assert!(said.contains("WEAKER"), "{said}");
    assert_eq!(diff(&policy, &at(&folder, "old.toml")).0, Some(0));
    let files = std::fs::read_dir(&folder.0).unwrap().count();
    assert_eq!(files, 6, "nothing is left beside it");
}

#[test]
fn no_other_file_is_touched() {
    let folder = Folder::new("accept-foreign", outdated);
    folder.write("other.toml", b"mine");
    let output = accept(&folder, &["--to", &at(&folder, "other.toml")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("exists and is not the file of --policy"));
    assert_eq!(read(&folder, "other.toml"), "mine");
    let new = at(&folder, "new.toml");
    assert_eq!(accept(&folder, &["--to", &new]).status.code(), Some(0));
    assert!(read(&folder, "new.toml").starts_with(&read(&folder, "policy.toml")));
    let folder_missing = at(&folder, "no/such/file.toml");
    let output = accept(&folder, &["--to", &folder_missing]);
    assert_eq!(output.status.code(), Some(3));
}

/// Under "hardware" any software passes, so the fake machine's patch level is all.
#[test]
fn a_built_in_policy_is_extended_in_a_file_of_its_own() {
    let folder = Folder::new("accept-built-in", |spec| {
        outdated(spec);
    });
    let own = at(&folder, "mine.toml");
    let more = ["--policy", "hardware", "--to", own.as_str()];
    // The later --policy is the one of this test.
    let paths = [
        ("--evidence", "report.json"),
        ("--collateral", "collateral.json"),
        ("--danger-tdx-root", "root.der"),
        ("--danger-gpu-root", "gpu-root.der"),
    ];
    let output = Command::new(env!("CARGO_BIN_EXE_verified-proxy"))
        .args(["policy", "accept"])
        .args(
            paths
                .iter()
                .flat_map(|(option, name)| [(*option).to_owned(), at(&folder, name)]),
        )
        .args(["--nonce", &"5a".repeat(32), "--spki", &"c3".repeat(32)])
        .args(AT.iter().chain(&WHY).chain(&more))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let written = read(&folder, "mine.toml");
    assert!(written.contains("extends = \"hardware\""), "{written}");
    let (code, said) = diff("hardware", &own);
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(
        said.lines().filter(|line| line.starts_with("  ")).count(),
        2,
        "the level, and the row: {said}"
    );
}

#[test]
fn what_is_not_accepted_says_what_to_do_instead() {
    let image = Folder::new("accept-image", |spec| spec.td.mr_td = [7; 48]);
    let debug = Folder::new("accept-debug", |spec| spec.td.td_attributes[0] = 1);
    let both = Folder::new("accept-both", |spec| {
        outdated(spec);
        spec.td.mr_td = [7; 48];
    });
    let root = Folder::new("accept-root", |spec| {
        spec.kms = fake_tee::Kms::other().unwrap();
    });
    for (folder, why, instead) in [
        (
            &image,
            "in no table of this program",
            "verified-proxy image measure DIR",
        ),
        (
            &debug,
            "rejected_td_debug is never accepted",
            "Do not use this backend",
        ),
        (
            &both,
            "more than one rule: in rejected_tcb_platform, and with that accepted in rejected_os_image",
            "One change at a time",
        ),
        (&root, "not accepted from evidence", "--expect-root HEX"),
    ] {
        let to = at(folder, "mine.toml");
        let output = accept(folder, &["--to", &to]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.starts_with("not accepted: ") && said.contains("\ninstead: "),
            "{said}"
        );
        assert!(said.contains(why) && said.contains(instead), "{said}");
        assert!(!folder.0.join("mine.toml").exists());
    }
    folder_unreadable(&image);
}

fn folder_unreadable(folder: &Folder) {
    folder.write("report.json", b"{}");
    let output = accept(folder, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is never accepted"));
}

#[test]
fn the_verdict_that_was_read_has_to_be_this_one() {
    let folder = Folder::new("accept-verdict", outdated);
    let seen = folder.verify(&[AT[0], AT[1], "--json"]).stdout;
    folder.write("verdict.json", &seen);
    let verdict = at(&folder, "verdict.json");
    let output = accept(&folder, &["--verdict", &verdict]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    // Live, "verify" prints a list.
    folder.write("verdict.json", &[b"[", seen.as_slice(), b"]"].concat());
    assert_eq!(
        accept(&folder, &["--verdict", &verdict]).status.code(),
        Some(0)
    );

    let other = text(&seen).replace("rejected_tcb_platform", "rejected_tcb_qe");
    folder.write("verdict.json", other.as_bytes());
    let said = text(&accept(&folder, &["--verdict", &verdict]).stderr);
    assert!(
        said.contains("the evidence gives rejected_tcb_platform"),
        "{said}"
    );

    folder.write("verdict.json", &seen);
    let policy = read(&folder, "policy.toml") + "hold = false\ntcb.min_evaluation_number = 1\n";
    folder.write("policy.toml", policy.as_bytes());
    let output = accept(&folder, &["--verdict", &verdict]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("judged by another policy"), "{said}");
    folder.write("verdict.json", b"{}");
    let output = accept(&folder, &["--verdict", &verdict]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn policies_are_compared_by_what_they_mean() {
    let (code, said) = diff("near", "near");
    assert_eq!(
        (code, said.as_str()),
        (Some(0), "near accepts exactly what near accepts.\n")
    );
    let (code, said) = diff("near", "near-strict");
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("near-strict accepts less than near:\n"),
        "{said}"
    );
    assert!(
        said.ends_with("\nnear-strict accepts nothing that near refuses.\n"),
        "{said}"
    );
    let (code, said) = diff("near-strict", "near");
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.ends_with("WEAKER: near accepts something that near-strict refuses.\n"),
        "{said}"
    );
    assert_eq!(diff("near", "/no/such/file").0, Some(3));
    let folder = Folder::new("diff-broken", |_| ());
    folder.write("broken.toml", b"name = 1");
    assert_eq!(diff("near", &at(&folder, "broken.toml")).0, Some(2));
}

/// The same evidence is judged again: whoever answers a second time may be another
/// instance.
#[tokio::test]
async fn live_a_backend_is_asked_once() {
    let fake = fake().await;
    fake.tamper("tcb-out-of-date").unwrap();
    let to = fake.dir.join("accepted.toml");
    let _ = std::fs::remove_file(&to);
    let to = to.display().to_string();
    let run = async |more: &[&str]| {
        let mut command = program(env!("CARGO_BIN_EXE_verified-proxy"));
        command
            .args(["policy", "accept"])
            .args(arguments(&fake, more));
        run(command).await
    };
    let more = [&[DOMAIN][..], &WHY, &["--to", &to]].concat();
    let Said(code, out, err) = run(&more).await;
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("FAKE-SA-00002"), "{out}");
    assert_only_probes(&fake.received());
    assert_eq!(probes(&fake.received()), 1);
    let with = ["verify", DOMAIN, "--policy", &to];
    let Said(code, out, err) = command(&fake, with[0], &with[1..]).await;
    assert_eq!(code, Some(0), "{out}{err}");

    fake.tamper("debug-td").unwrap();
    let Said(code, _, err) = run(&[&[MODEL][..], &WHY].concat()).await;
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("rejected_td_debug is never accepted"), "{err}");
    let Said(code, _, err) = run(&[&["unknown/model"][..], &WHY].concat()).await;
    assert_eq!(code, Some(2), "{err}");
}
