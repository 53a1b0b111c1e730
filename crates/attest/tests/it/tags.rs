//! Tags of the repository of compose files: read in one way or not at all, and held
//! against a log.

use attest::{
    Appraisal, CheckId, CommitId, FilesAtHand, FilesCheck, MAX_TAGS_BYTES, Status, TagsCheck,
    UpstreamTags,
};
use fake_tee::Spec;
use fake_tee::compose_file::{commit, compose_text};
use fake_tee::deployment::compose_up;
use fake_tee::tags::{PublishedTag, advertisement, ls_remote, packet};
use proptest::prelude::*;

use crate::support::{
    Beside, NOW, challenge, code, judge_beside, manager, policy_with, spec, spec_with, upstream,
};

/// A tag, annotated if it has an object.
fn tag(name: &str, object: Option<&str>) -> PublishedTag {
    PublishedTag {
        name: name.to_owned(),
        commit: commit(name),
        object: object.map(commit),
    }
}

fn id(hex: &str) -> CommitId {
    hex.parse().unwrap()
}

fn read(text: &str) -> Result<UpstreamTags, String> {
    UpstreamTags::from_advertisement(text.as_bytes()).map_err(|error| error.to_string())
}

/// An advertisement of these lines.
fn listed(lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| packet(line)).collect();
    format!("{}0000{lines}0000", packet("# service=git-upload-pack\n"))
}

fn refusal(text: &str) -> String {
    let refused = read(text).expect_err(text);
    assert!(refused.len() < 2_000, "{refused}");
    assert!(
        refused.chars().all(|c| (' '..='~').contains(&c)),
        "{refused:?}"
    );
    refused
}

/// Written by `git upload-pack --http-backend-info-refs` 2.47 of a repository with one
/// commit, one plain tag and one annotated tag.
const BY_GIT: &str = include_str!("tags/advertisement");
/// By `git ls-remote`, of the same.
const BY_LS_REMOTE: &str = include_str!("tags/ls-remote");

#[test]
fn what_git_writes_is_read() {
    let tags = UpstreamTags::from_ls_remote(BY_LS_REMOTE.as_bytes()).unwrap();
    assert_eq!(tags.len(), 2);
    let head = BY_LS_REMOTE.split('\t').next().unwrap();
    for name in ["v0.0.1", "v0.0.2"] {
        assert_eq!(tags.commit(name), Some(id(head)), "{name}");
    }
    assert_eq!(tags.commit("main"), None);
    let advertised = format!("{}0000{BY_GIT}", packet("# service=git-upload-pack\n"));
    assert_eq!(read(&advertised), Ok(tags));
}

#[test]
fn an_annotated_tag_is_the_commit_that_it_is_about() {
    let list = [
        tag("v1.0.0", None),
        tag("v1.0.1", Some("an object")),
        tag("x", None),
    ];
    let tags = read(&advertisement(&list)).unwrap();
    assert_eq!(
        UpstreamTags::from_ls_remote(ls_remote(&list).as_bytes()).as_ref(),
        Ok(&tags)
    );
    assert_eq!((tags.len(), tags.is_empty()), (3, false));
    for known in &list {
        assert_eq!(tags.commit(&known.name), Some(id(&known.commit)));
    }
    // What is no tag is none: a branch, a pull request, HEAD.
    for other in ["main", "refs/heads/main", "HEAD", "1/head", ""] {
        assert_eq!(tags.commit(other), None, "{other}");
    }
    let none = read(&advertisement(&[])).unwrap();
    assert!(none.is_empty());
}

#[test]
fn what_git_does_not_write_is_refused() {
    let one = commit("one");
    let line = |name: &str| format!("{one} {name}\n");
    let good = line("refs/tags/a");
    assert!(read(&listed(&[&good])).is_ok());
    for (lines, expected) in [
        // A repository without references.
        (
            vec![format!("{} capabilities^{{}}\0a\n", "0".repeat(40))],
            "it has the line",
        ),
        (
            vec!["ERR not found\n".to_owned()],
            "it has the line \"ERR not found\"",
        ),
        (
            vec![good.clone(), good.clone()],
            "names \"refs/tags/a\" twice",
        ),
        (
            vec![good.clone(), line("refs/tags/b"), line("refs/tags/a^{}")],
            "it has the line",
        ),
        (
            vec![good.clone(), line("refs/tags/a^{}"), line("refs/tags/a^{}")],
            "it has the line",
        ),
        (vec![line("refs/tags/a^{}")], "it has the line"),
        (
            vec![good.clone(), line("refs/tags/b\0more")],
            "it has the line",
        ),
        (
            vec![format!("{} refs/tags/a\n", "A".repeat(40))],
            "it has the line",
        ),
        (
            vec![format!("{} refs/tags/a\n", "a".repeat(64))],
            "it has the line",
        ),
        (
            vec![format!("0x{} refs/tags/a\n", "a".repeat(38))],
            "it has the line",
        ),
        (vec![format!("{one}\trefs/tags/a\n")], "it has the line"),
        (vec![format!("shallow {one}\n")], "it has the line"),
        (vec![String::new()], "it has the line"),
    ] {
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let refused = refusal(&listed(&lines));
        assert!(refused.contains(expected), "{lines:?}: {refused}");
    }
    for name in [
        "",
        "refs/tags/",
        "refs//tags/a",
        "/refs/tags/a",
        "refs/tags/a/",
        "refs/tags/a b",
        "refs/tags/.a",
        "refs/tags/a..b",
        "refs/tags/a.lock",
        "refs/tags/a.",
        "refs/tags/a~1",
        "refs/tags/a^1",
        "refs/tags/a:b",
        "refs/tags/a?",
        "refs/tags/a*",
        "refs/tags/[a]",
        "refs/tags/a\\b",
        "refs/tags/a@{b",
        "@",
        "refs/tags/a\r",
        "refs/tags/a\u{7f}",
        "refs/tags/a\n",
    ] {
        refusal(&listed(&[&line(name)]));
    }
    let whole = listed(&[&good]);
    for (text, expected) in [
        (String::new(), "ends too early"),
        (
            "<!doctype html><title>fake</title>".to_owned(),
            "a packet has no length",
        ),
        ("0000".to_owned(), "does not begin with the service's name"),
        (
            format!("{}0000", packet("# service=git-receive-pack\n")),
            "the service's name",
        ),
        (
            whole.replacen("0000", "", 1),
            "something follows the service's name",
        ),
        (whole.clone() + "0000", "goes on behind its end"),
        (whole.clone() + "\n", "goes on behind its end"),
        (
            whole.replacen("001e", "0001", 1),
            "a packet has the length 1",
        ),
        (
            whole.replacen("001e", "fff1", 1),
            "a packet has the length 65521",
        ),
        (whole.replacen("001e", "fff0", 1), "ends too early"),
        (whole.replacen("001e", "+01e", 1), "a packet has no length"),
    ] {
        let refused = refusal(&text);
        assert!(refused.contains(expected), "{text:?}: {refused}");
    }
    for text in [
        "",
        "\n",
        "\n\n",
        "x",
        &good,
        &format!("{one}\trefs/tags/a\r\n"),
    ] {
        let refused = UpstreamTags::from_ls_remote(text.as_bytes()).unwrap_err();
        let refused = refused.to_string();
        assert!(
            refused.contains("it has the line \""),
            "{text:?}: {refused}"
        );
    }
}

#[test]
fn a_list_is_as_long_as_it_may_be_and_no_longer() {
    let mut text = String::new();
    let mut number = 0;
    let id = "0".repeat(40);
    while text.len() < MAX_TAGS_BYTES - 200 {
        text += &format!("{id}\trefs/tags/v{number}\n");
        number += 1;
    }
    // The last name fills it up.
    text += &format!("{id}\trefs/tags/");
    text += &"x".repeat(MAX_TAGS_BYTES - text.len());
    number += 1;
    let before = std::time::Instant::now();
    let tags = UpstreamTags::from_ls_remote(text.as_bytes()).unwrap();
    assert_eq!(tags.len(), number);
    assert!(before.elapsed().as_secs() < 5);
    let refused = UpstreamTags::from_ls_remote(&vec![b'0'; MAX_TAGS_BYTES + 1]).unwrap_err();
    assert!(
        refused.to_string().contains("at most 4194304 are read"),
        "{refused}"
    );
    let refused = UpstreamTags::from_advertisement(&vec![b'0'; MAX_TAGS_BYTES + 1]).unwrap_err();
    assert!(
        refused.to_string().contains("at most 4194304 are read"),
        "{refused}"
    );
}

fn judge(spec: &Spec, tags: TagsCheck<'_>, files: FilesCheck<'_>, more: &str) -> Appraisal {
    let built = spec.forge(&challenge()).unwrap();
    let policy = policy_with(more);
    let beside = Beside {
        files,
        tags,
        ..Beside::default()
    };
    judge_beside(&built, &policy, beside)
}

const NO_FILES: FilesCheck<'_> = FilesCheck::NotFetched("no files");
const NO_TAGS: TagsCheck<'_> = TagsCheck::NotFetched("no \u{202e}tags");

fn line(appraisal: &Appraisal) -> (Status, &str) {
    let check = appraisal.report.check(CheckId::DeploymentTags).unwrap();
    (check.status, &check.detail)
}

#[test]
fn tags_that_fit_pass_and_tags_that_are_not_there_do_not() {
    let mut spec = spec();
    manager(&mut spec).tags.push(|tags| {
        // An annotated one counts by what it is about.
        tags[0].object = Some(commit("an object"));
    });
    let tags = upstream(&spec);
    let said = |tags, more| judge(&spec, tags, NO_FILES, more);
    let fits = said(TagsCheck::AtHand(&tags), "");
    assert_eq!(code(&fits), "verified");
    assert_eq!(
        line(&fits),
        (
            Status::Pass,
            "all 2 files, by the 2 tags of their repository"
        )
    );
    assert!(!fits.tags_wanted());
    let limit = |appraisal: &Appraisal| {
        let mut limits = appraisal.report.limits.iter();
        limits.any(|limit| limit.contains("on the main branch"))
    };
    assert!(limit(&fits));

    let none = said(NO_TAGS, "");
    assert_eq!(code(&none), "verified");
    assert_eq!(
        line(&none),
        (Status::NotProved, "not compared: no \\u{202e}tags")
    );
    assert!(none.tags_wanted() && !limit(&none));

    // Whatever is at hand, a policy that takes any compares none.
    let empty = read(&advertisement(&[])).unwrap();
    for check in [TagsCheck::AtHand(&empty), NO_TAGS] {
        let any = said(check, "deployment.tags = \"any\"");
        assert_eq!(code(&any), "verified");
        let (status, detail) = line(&any);
        assert_eq!(status, Status::NotProved);
        assert!(detail.contains("deployment.tags = \"any\""), "{detail}");
        assert!(!any.tags_wanted() && !limit(&any));
    }
}

/// Keys and volumes outlive containers: what is not up any more counts as well.
#[test]
fn every_start_is_compared() {
    let mut spec = spec();
    manager(&mut spec)
        .actions
        .insert(1, compose_up(NOW - 72 * 3600, "v0.0.0", &[]));
    let mut list = spec.compose_manager.as_ref().unwrap().published_tags();
    let of = |list: &[PublishedTag]| read(&advertisement(list)).unwrap();
    let judged = |tags: &UpstreamTags| judge(&spec, TagsCheck::AtHand(tags), NO_FILES, "");
    assert_eq!(code(&judged(&of(&list))), "verified");
    for index in 0..3 {
        let mut missing = list.clone();
        let name = missing.remove(index).name;
        let refused = judged(&of(&missing));
        let rejected = refused.outcome.as_ref().unwrap_err();
        assert_eq!(rejected.code(), "rejected_deployment_tag_unknown");
        let said =
            format!("\" was started from the tag \"{name}\", which is none of the 2 tags of");
        assert!(rejected.to_string().contains(&said), "{rejected}");
        assert!(refused.tags_wanted());
        assert_eq!(line(&refused).0, Status::Fail);
        // Of a log that is refused no file is asked for.
        assert!(refused.deployment().is_none() && refused.files_wanted().is_empty());
        list[index].commit = commit("elsewhere");
        let rejected = judged(&of(&list)).outcome.unwrap_err();
        assert_eq!(rejected.code(), "rejected_deployment_tag_moved");
        let said = format!(
            "\" was started from the tag \"{name}\" at the commit {}, but in its repository that tag is {}",
            commit(&name),
            commit("elsewhere")
        );
        assert!(rejected.to_string().ends_with(&said), "{rejected}");
        list[index].commit = commit(&name);
    }
}

/// Other rules come first: a list of tags cannot excuse what they refuse.
#[test]
fn a_list_excuses_nothing() {
    let mut spec = spec();
    manager(&mut spec)
        .actions
        .push(compose_up(NOW - 60, "main", &[]));
    let tags = upstream(&spec);
    assert_eq!(tags.commit("main"), Some(id(&commit("main"))));
    let refused = judge(&spec, TagsCheck::AtHand(&tags), NO_FILES, "");
    assert_eq!(code(&refused), "rejected_deployment_tag");
    assert!(!refused.tags_wanted());
}

#[test]
fn required_sources_refuse_where_they_are_missing_and_only_there() {
    let spec = spec();
    let tags = upstream(&spec);
    let mut files = FilesAtHand::default();
    files.insert("1", compose_text("v0.0.1").as_bytes());
    let one = files.clone();
    files.insert("2", compose_text("v0.0.2").as_bytes());
    let required = "deployment.sources = \"required\"\n";
    let both = format!("{required}gpu.nras = \"require\"\n");
    let any = format!("{required}deployment.tags = \"any\"\n");
    let (at_hand, all, some) = (
        TagsCheck::AtHand(&tags),
        FilesCheck::AtHand(&files),
        FilesCheck::AtHand(&one),
    );
    let (no_tags, no_files) = (
        "deployment_tags_unavailable",
        "deployment_files_unavailable",
    );
    for (tags, files, more, expected) in [
        (at_hand, all, required, "verified"),
        (at_hand, some, required, no_files),
        (at_hand, NO_FILES, required, no_files),
        (NO_TAGS, all, required, no_tags),
        (NO_TAGS, NO_FILES, required, no_tags),
        (NO_TAGS, all, &any, "verified"),
        (NO_TAGS, some, &any, no_files),
        // NVIDIA is not asked about a machine that is refused all the same.
        (at_hand, some, &both, no_files),
        (NO_TAGS, all, &both, no_tags),
        (at_hand, all, &both, "nras_unavailable"),
        (
            NO_TAGS,
            NO_FILES,
            "deployment.sources = \"if-at-hand\"\n",
            "verified",
        ),
    ] {
        let appraisal = judge(&spec, tags, files, more);
        assert_eq!(code(&appraisal), expected, "{more}");
        let failed = |check| appraisal.report.check(check).unwrap().status == Status::Fail;
        assert_eq!(failed(CheckId::DeploymentTags), expected == no_tags);
        assert_eq!(failed(CheckId::DeploymentFiles), expected == no_files);
        // Whoever appraises learns what to get.
        assert!(appraisal.deployment().is_some());
        assert_eq!(
            appraisal.tags_wanted(),
            matches!(tags, TagsCheck::NotFetched(_)) && more != any
        );
    }
}

/// What speaks against the machine is said before what is missing: for a machine
/// that is refused nothing is fetched.
#[test]
fn what_is_missing_refuses_last() {
    let required = "deployment.sources = \"required\"\n";
    type Change = fn(&mut Spec);
    let rows: [(Change, &str); 3] = [
        (|spec| spec.gpus = None, "rejected_gpu_missing"),
        (
            |spec| spec.gpus.as_mut().unwrap().gpus.truncate(7),
            "rejected_gpu_count",
        ),
        (|spec| spec.compose_manager = None, "deployment_missing"),
    ];
    for (change, expected) in rows {
        let appraisal = judge(&spec_with(change), NO_TAGS, NO_FILES, required);
        assert_eq!(code(&appraisal), expected);
    }
    // Nothing was started, so nothing of it is missing.
    let mut spec = spec();
    manager(&mut spec).actions.clear();
    let files = FilesAtHand::default();
    for files in [FilesCheck::AtHand(&files), NO_FILES] {
        let appraisal = judge(&spec, NO_TAGS, files, required);
        assert_eq!(code(&appraisal), "rejected_deployment_empty");
        let appraisal = judge(&spec, NO_TAGS, files, "deployment.mode = \"if-present\"\n");
        assert_eq!(code(&appraisal), "verified");
        assert_eq!(line(&appraisal).0, Status::NotProved);
        assert!(!appraisal.tags_wanted());
    }
}

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9v][a-z0-9_+-]{0,6}(\\.[0-9]{1,3}){0,3}"
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = UpstreamTags::from_ls_remote(&bytes);
        prop_assert!(UpstreamTags::from_advertisement(&bytes).is_err());
        let mut list = listed(&[]).into_bytes();
        list.truncate(list.len() - 4);
        list.extend(format!("{:04x}", bytes.len() + 4).into_bytes());
        list.extend(&bytes);
        list.extend(b"0000");
        match UpstreamTags::from_advertisement(&list) {
            Ok(tags) => prop_assert!(tags.len() <= 1),
            Err(error) => {
                let text = error.to_string();
                prop_assert!(text.chars().all(|c| (' '..='~').contains(&c)), "{:?}", text);
            }
        }
    }

    /// Both forms say the same, and what was written.
    #[test]
    fn tags_are_read_as_they_were_written(
        names in proptest::collection::btree_set(name(), 0..20),
        annotated in any::<u32>(),
    ) {
        let list: Vec<_> = names
            .iter()
            .filter(|name| !name.ends_with(".lock"))
            .enumerate()
            .map(|(index, name)| tag(name, (annotated >> index & 1 == 1).then_some("object")))
            .collect();
        let tags = read(&advertisement(&list)).unwrap();
        prop_assert_eq!(UpstreamTags::from_ls_remote(ls_remote(&list).as_bytes()), Ok(tags.clone()));
        prop_assert_eq!(tags.len(), list.len());
        for known in list {
            prop_assert_eq!(tags.commit(&known.name), Some(id(&known.commit)));
        }
    }

    /// One byte changed, or the end cut off: no tag gets another commit by it unless its
    /// line says so, and what is cut off is noticed.
    #[test]
    fn what_was_cut_or_changed_is_noticed(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let list = [tag("v1.0.0", None), tag("v1.0.1", Some("object"))];
        let whole = advertisement(&list).into_bytes();
        let at = at.index(whole.len());
        prop_assert!(UpstreamTags::from_advertisement(&whole[..at]).is_err());
        let mut changed = whole.clone();
        changed[at] = byte;
        if let Ok(tags) = UpstreamTags::from_advertisement(&changed) {
            prop_assert!(tags.len() <= 3);
            let before = read(&advertisement(&list)).unwrap();
            let differing = ["v1.0.0", "v1.0.1"]
                .iter()
                .filter(|name| tags.commit(name) != before.commit(name))
                .count();
            prop_assert!(differing <= 1);
        }
    }
}
