//! Compose files in an appraisal: every start of a log is held against its file.

use attest::{
    Appraisal, CheckId, ComposeDocument, FileDigest, FilesAtHand, FilesCheck, Policy, Status,
};
use fake_tee::deployment::compose_up;
use serde_json::Value;

use crate::compose::{deployed, digest};
use crate::support::{
    Beside, NOW, challenge, code, cpu_time, judge_beside, manager, policy_with, spec,
};

/// A start of `text` at a tag, so many minutes ago.
fn start(minutes: u64, tag: &str, services: &[&str], text: &str) -> Vec<(String, Value)> {
    start_of(sha256(text), minutes, tag, services)
}

fn sha256(text: &str) -> FileDigest {
    FilesAtHand::default().insert("x", text.as_bytes())
}

fn start_of(
    sha256: FileDigest,
    minutes: u64,
    tag: &str,
    services: &[&str],
) -> Vec<(String, Value)> {
    let mut action = compose_up(NOW - minutes * 60, tag, services);
    let (_, value) = action
        .iter_mut()
        .find(|(key, _)| key == "file_sha256")
        .unwrap();
    *value = sha256.to_string().into();
    action
}

fn judge(log: Vec<Vec<(String, Value)>>, files: FilesCheck<'_>, more: &str) -> Appraisal {
    let mut spec = spec();
    manager(&mut spec).actions = log;
    let built = spec.forge(&challenge()).unwrap();
    let policy = policy_with(more);
    let beside = Beside {
        files,
        ..Beside::default()
    };
    judge_beside(&built, &policy, beside)
}

/// With these files at hand, under the machine's policy.
fn with(log: Vec<Vec<(String, Value)>>, texts: &[&str]) -> Appraisal {
    let mut files = FilesAtHand::default();
    for text in texts {
        files.insert("fake.yaml", text.as_bytes());
    }
    judge(log, FilesCheck::AtHand(&files), "")
}

fn line(appraisal: &Appraisal) -> (Status, &str) {
    let check = appraisal.report.check(CheckId::DeploymentFiles).unwrap();
    (check.status, &check.detail)
}

/// A helper that mounts Docker's socket, which no service may.
fn with_socket() -> String {
    let service = "\nservices:\n  autoheal:\n    image: willfarrell/autoheal:1\n    volumes: [\"/var/run/docker.sock:/var/run/docker.sock\"]\n";
    deployed().replacen("\nservices:\n", service, 1)
}

#[test]
fn a_file_is_kept_under_the_digest_of_its_bytes() {
    let mut files = FilesAtHand::default();
    assert!(files.is_empty());
    let digest = files.insert("x", b"services: {}");
    // printf 'services: {}' | sha256sum
    let known = "d4fd3af6d6ccdaeefeec3b0c2fe3ae2d5dde874cc4ed1b7acbb2cec4dfdfe032";
    assert_eq!(digest, known.parse::<FileDigest>().unwrap());
    assert!(files.contains(&digest) && !files.is_empty());
    assert!(!files.contains(&sha256("services: {} ")));
    assert_eq!(files.insert("another name", b"services: {}"), digest);
    assert_eq!(files.len(), 1);
    files.insert("x", b"services: {} ");
    assert_eq!(files.len(), 2);
    files.retain(|one| *one == digest);
    assert_eq!(files.len(), 1);
}

#[test]
fn files_at_hand_name_every_service_and_its_image() {
    let text = deployed();
    let log = vec![
        start(60, "v1.0.0", &[], &text),
        start(30, "v1.0.1", &["proxy"], &text),
    ];
    let appraisal = with(log, &[&text]);
    assert_eq!(code(&appraisal), "verified", "{:?}", appraisal.report);
    assert_eq!(line(&appraisal), (Status::Pass, "all 2 files"));
    assert!(appraisal.files_wanted().is_empty());
    let up = appraisal.report.deployment.as_ref().unwrap().up.clone();
    let services = ComposeDocument::read("x", text.as_bytes()).unwrap();
    assert_eq!(up.len(), services.services().count());
    let of = |name: &str| up.iter().find(|one| one.service == name).unwrap();
    assert_eq!(
        of("proxy").image.as_deref(),
        Some(&*format!(
            "docker.io/nearaidev/vllm-proxy-rs@{}",
            digest('b')
        ))
    );
    // The proxy's start started what it depends on as well.
    assert_eq!(of("proxy").tag, "v1.0.1");
    assert_eq!(of("model-1").tag, "v1.0.1");
    assert_eq!(of("nginx").tag, "v1.0.0");
    let topics: Vec<_> = appraisal.report.findings.iter().map(|f| f.topic).collect();
    assert!(topics.iter().any(|topic| topic.starts_with("compose_")));
    let severities: Vec<_> = appraisal
        .report
        .findings
        .iter()
        .map(|finding| finding.severity)
        .collect();
    assert!(severities.is_sorted_by(|a, b| a >= b), "the gravest first");
}

#[test]
fn what_is_not_at_hand_is_asked_for_and_not_passed() {
    let text = deployed();
    let other = text.replace("max-file: \"10\"", "max-file: \"9\"");
    assert_ne!(text, other);
    let log = || {
        vec![
            start(60, "v1.0.0", &[], &other),
            start(50, "v1.0.0", &[], &other),
            start(30, "v1.0.1", &[], &text),
        ]
    };
    let appraisal = with(log(), &[&text]);
    assert_eq!(code(&appraisal), "verified");
    let (status, detail) = line(&appraisal);
    assert_eq!(status, Status::NotProved);
    assert!(
        detail.starts_with("1 of 2 files were not fetched"),
        "{detail}"
    );
    let wanted = appraisal.files_wanted();
    assert_eq!(wanted.len(), 1);
    assert_eq!(wanted[0].tag, "v1.0.0");
    // None of a log that is refused.
    let mut log = log();
    log.push(start(9, "main", &[], &text));
    let appraisal = with(log, &[]);
    assert_eq!(code(&appraisal), "rejected_deployment_tag");
    assert!(appraisal.files_wanted().is_empty());

    let none = judge(
        vec![start(30, "v1.0.1", &[], &text)],
        FilesCheck::NotFetched("offline"),
        "",
    );
    assert_eq!(line(&none), (Status::NotProved, "offline"));
    assert_eq!(code(&none), "verified");
}

/// Keys and volumes outlive containers: a later, better file undoes nothing.
#[test]
fn every_start_of_the_log_counts() {
    let (good, bad) = (deployed(), with_socket());
    let both = [&*good, &*bad];
    let code_of = |log| code(&with(log, &both));
    let refused = "rejected_compose_docker_socket";
    assert_eq!(code_of(vec![start(9, "v1.0.0", &[], &good)]), "verified");
    assert_eq!(code_of(vec![start(9, "v1.0.0", &[], &bad)]), refused);
    assert_eq!(
        code_of(vec![
            start(9, "v1.0.0", &[], &bad),
            start(8, "v1.0.1", &[], &good)
        ]),
        refused
    );
    // Only what was started counts, and what it depends on.
    let only = |services: &[&str]| code_of(vec![start(9, "v1.0.0", services, &bad)]);
    assert_eq!(only(&["nginx"]), "verified");
    assert_eq!(only(&["nginx", "autoheal"]), refused);
    let depends = bad.replace("depends_on: [nginx]", "depends_on: [nginx, autoheal]");
    let log = vec![start(9, "v1.0.0", &["registrar"], &depends)];
    assert_eq!(code(&with(log, &[&depends])), refused);
    // A start that names what the file lacks failed before it did anything.
    let log = vec![
        start(9, "v1.0.0", &["autoheal", "nobody"], &bad),
        start(8, "v1.0.1", &[], &good),
    ];
    assert_eq!(code_of(log), "verified");
}

/// Managers put the names behind `docker compose up`, which takes `--` for the end of
/// its options: with nothing behind it, all of the file is started.
#[test]
fn an_option_is_no_service() {
    let bad = with_socket();
    for services in [&["--"][..], &["--", "autoheal"], &["-V"], &["nginx", "-"]] {
        let appraisal = with(vec![start(9, "v1.0.0", services, &bad)], &[&bad]);
        assert_eq!(
            code(&appraisal),
            "evidence_deployment_action",
            "{services:?}"
        );
    }
}

/// A log records attempts. Where none can have started anything, nothing was judged.
#[test]
fn starts_that_all_failed_are_no_files_that_hold() {
    let (good, bad) = (deployed(), with_socket());
    let in_vain = |minutes| start(minutes, "v1.0.0", &["autoheal", "nobody"], &bad);
    let log = vec![in_vain(9), in_vain(8)];
    // A machine that answers runs something.
    let refused = with(log.clone(), &[&bad]);
    assert_eq!(code(&refused), "rejected_deployment_empty");
    assert_eq!(line(&refused).0, Status::Fail);
    let mut files = FilesAtHand::default();
    files.insert("fake.yaml", bad.as_bytes());
    let appraisal = judge(
        log,
        FilesCheck::AtHand(&files),
        "deployment.mode = \"if-present\"\n",
    );
    assert_eq!(code(&appraisal), "verified");
    let nothing =
        "nothing to judge: each start of the log asks for services that its file does not define";
    assert_eq!(line(&appraisal), (Status::NotProved, nothing));
    assert!(appraisal.report.deployment.as_ref().unwrap().up.is_empty());

    let log = vec![in_vain(9), start(8, "v1.0.1", &[], &good)];
    let appraisal = with(log, &[&good, &bad]);
    let of_one = "all 2 files; 1 of them started nothing, because they lack the services that each start names";
    assert_eq!(line(&appraisal), (Status::Pass, of_one));
    // One start that may have succeeded is enough.
    let log = vec![in_vain(9), start(8, "v1.0.0", &["nginx"], &bad)];
    let appraisal = with(log, &[&bad]);
    assert_eq!(line(&appraisal), (Status::Pass, "all 1 files"));
    let log = vec![in_vain(9), start(8, "v1.0.1", &[], &good)];
    let appraisal = with(log, &[&bad]);
    let (status, detail) = line(&appraisal);
    assert_eq!(status, Status::NotProved);
    assert!(detail.starts_with("1 of 2 files were not"), "{detail}");
}

/// What is started in two steps is no better than in one.
#[test]
fn a_helper_that_is_started_apart_is_sent_no_prompts() {
    let text = deployed().replace("http://proxy:8000", "http://registrar:8000");
    let text = text.replace("depends_on: [nginx]", "");
    let log = vec![
        start(9, "v1.0.0", &["registrar"], &text),
        start(8, "v1.0.0", &["nginx"], &text),
    ];
    let refused = "rejected_compose_sidecar_serves";
    assert_eq!(code(&with(log, &[&text])), refused);
    let log = vec![start(8, "v1.0.0", &["nginx"], &text)];
    assert_eq!(code(&with(log, &[&text])), refused);
}

/// All files share a network, and what one started may still run.
#[test]
fn a_helper_of_another_file_is_sent_no_prompts() {
    let text = deployed().replace("http://proxy:8000", "http://sink:8000");
    let other = "services: {sink: {image: alpine}, idle: {image: busybox}}";
    let judged = |services: &[&str]| {
        let log = vec![
            start(9, "v1.0.0", services, other),
            start(8, "v1.0.1", &[], &text),
        ];
        code(&with(log, &[&text, other]))
    };
    assert_eq!(judged(&["idle"]), "verified");
    assert_eq!(judged(&["sink"]), "rejected_compose_sidecar_serves");
}

/// The costliest log: every start names others of a large file's services.
#[test]
fn many_starts_of_a_large_file_cost_little() {
    let mut text = deployed();
    let word = "x ".repeat(80_000);
    text = text.replace("location /", &format!("# {word}\n        location /"));
    let names = [
        "model-1",
        "model-2",
        "proxy",
        "nginx",
        "registrar",
        "otelcol",
    ];
    let file = sha256(&text);
    let log = (0..1500_u64)
        .map(|start_number| {
            let picked: Vec<_> = (0..10)
                .filter(|bit| start_number >> bit & 1 == 1)
                .map(|bit| names[bit % names.len()])
                .chain(["nginx"])
                .collect();
            start_of(file, 3000 - start_number, "v1.0.0", &picked)
        })
        .collect();
    let before = cpu_time();
    assert_eq!(code(&with(log, &[&text])), "verified");
    let took = cpu_time() - before;
    assert!(took.as_secs() < 10, "{took:?}");
}

/// Many services that depend on many others, started over and over.
#[test]
fn many_starts_of_many_services_cost_little() {
    let file_of = |dependents: usize| {
        let names: Vec<_> = (0..500).map(|number| format!("s{number}")).collect();
        let mut text = format!("x-all: &all [{}]\nservices:\n", names.join(", "));
        for (number, name) in names.iter().enumerate() {
            let image = format!("nginx@{}", digest('a'));
            let depends = if number < dependents {
                ", depends_on: *all"
            } else {
                ""
            };
            text += &format!("  {name}: {{image: \"{image}\"{depends}}}\n");
        }
        text
    };
    let judged = |text: &str, starts: u64| {
        let file = sha256(text);
        let log = (0..starts)
            .map(|number| start_of(file, 4000 - number, "v1.0.0", &["s0"]))
            .collect();
        code(&with(log, &[text]))
    };
    let before = cpu_time();
    assert_eq!(judged(&file_of(2), 1500), "verified");
    let took = cpu_time() - before;
    assert!(took.as_secs() < 20, "{took:?}");
    assert_eq!(judged(&file_of(3), 1), "evidence_compose_too_complex");
}

/// However many files are up, each with much to say.
#[test]
fn findings_of_many_files_are_bounded() {
    let files: Vec<_> = (0..12)
        .map(|file| {
            let image = format!("nginx@{}", digest('a'));
            let services: String = (0..12)
                .map(|name| format!("  s{name}: {{image: \"{image}\"}}\n"))
                .collect();
            let configs: String = (0..200)
                .map(|name| format!("  c{file}-{name}: {{content: \"${{A}}\"}}\n"))
                .collect();
            format!("services:\n{services}configs:\n{configs}")
        })
        .collect();
    let log = (0..12_u64)
        .zip(&files)
        .map(|(number, text)| {
            let tag = format!("v1.0.{number}");
            start(60 - number, &tag, &[&format!("s{number}")], text)
        })
        .collect();
    let texts: Vec<_> = files.iter().map(String::as_str).collect();
    let appraisal = with(log, &texts);
    assert_eq!(code(&appraisal), "verified");
    let findings = &appraisal.report.findings;
    let of_files = findings
        .iter()
        .filter(|finding| finding.topic.starts_with("compose_"));
    assert_eq!(of_files.count(), 1000);
    assert!(findings.iter().any(|f| f.topic == "findings_left_out"));
}

#[test]
fn a_file_that_cannot_be_judged_refuses() {
    let text = "services: {x: {image: nginx, use_api_socket: true}}";
    let appraisal = with(vec![start(9, "v1.0.0", &[], text)], &[text]);
    assert_eq!(code(&appraisal), "evidence_compose_setting");
    assert_eq!(line(&appraisal).0, Status::Fail);
}

#[test]
fn repositories_and_images_are_the_policys() {
    let text = deployed();
    let judged = |text: &str, more: &str| {
        let mut files = FilesAtHand::default();
        files.insert("fake.yaml", text.as_bytes());
        let log = vec![start(9, "v1.0.0", &[], text)];
        let required = "deployment.tags = \"any\"\ndeployment.sources = \"required\"\n";
        let more = format!("{required}{more}");
        code(&judge(log, FilesCheck::AtHand(&files), &more))
    };
    let other = text.replace("lmsysorg/sglang", "example/engine");
    assert_eq!(judged(&other, ""), "rejected_compose_repository");
    assert_eq!(
        judged(
            &other,
            "deployment.repositories.engines = [\"example/engine\"]\n"
        ),
        "verified"
    );
    let images = |letters: &[char]| {
        let list: Vec<_> = letters.iter().map(|letter| digest(*letter)).collect();
        format!("deployment.images = {list:?}\n")
    };
    assert_eq!(judged(&text, &images(&['a', 'b', 'c'])), "verified");
    assert_eq!(
        judged(&text, &images(&['a', 'b'])),
        "rejected_compose_digest"
    );
    for (more, error) in [
        ("deployment.images = [\"sha256:00\"]\n", "64 hex digits"),
        (
            "deployment.repositories.engines = [\"x:latest\"]\n",
            "without tag or digest",
        ),
        ("deployment.repositories.other = []\n", "unknown field"),
    ] {
        let refused = Policy::from_toml(&(spec().policy_toml() + more)).unwrap_err();
        assert!(refused.to_string().contains(error), "{refused}");
    }
}

#[test]
fn a_report_says_how_much_is_up_that_it_does_not_list() {
    let service = |number| format!("  h{number}:\n    image: willfarrell/autoheal:1\n");
    let services: String = (0..300).map(service).collect();
    let text = format!("services:\n{services}");
    let appraisal = with(vec![start(60, "v1.0.0", &[], &text)], &[&text]);
    assert_eq!(code(&appraisal), "verified", "{:?}", appraisal.outcome);
    let deployment = appraisal.report.deployment.unwrap();
    assert_eq!((deployment.up.len(), deployment.left_out), (200, 100));
}
