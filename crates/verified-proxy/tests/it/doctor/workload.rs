//! Where compose files and NVIDIA's opinion come from.

use std::time::Duration;

use fake_tee::serve::NrasRoute;

use super::*;

const LET_OUT: &str =
    "check that outgoing connections to it are allowed (firewall, VPN), or name another";

#[tokio::test]
async fn the_repository_of_compose_files_is_looked_at() {
    let fake = fake().await;
    let files = format!("compose files from {}", fake.compose_files_url());
    let said = doctor(&fake, &[]).await;
    let line = format!("ok       {files}: 2 of 2 that the log of {DOMAIN} names are available");
    assert_found(&said, 0, &files, &line);

    // Nothing is refused without them, and less is proved.
    for (behaviour, why) in [
        (Behaviour::Status(404), "status 404 Not Found"),
        (Behaviour::Html, "the file has SHA-256 "),
    ] {
        fake.compose_files(behaviour);
        let said = doctor(&fake, &[]).await;
        assert_eq!(said.0, Some(0), "{}", said.1);
        let line = found(&said, &files);
        let begins = format!("warning  {files}: {why}");
        assert!(line.starts_with(&begins), "{line}");
        let ends = "; verdicts report it as not proved\nfix: check --compose-files-url: COMMIT/FILE has to be below it";
        assert!(line.ends_with(ends), "{line}");
        assert!(found(&said, "backend").starts_with("ok "), "{}", said.1);
    }
    fake.compose_files(Behaviour::Slow(Duration::from_secs(6)));
    let line = format!(
        "warning  {files}: 0 of 2 that the log of {DOMAIN} names are available; the others came too late; verdicts report it as not proved\nfix: try again; name a faster repository with --compose-files-url"
    );
    assert_found(&doctor(&fake, &[]).await, 0, &files, &line);
    let gone = format!("http://127.0.0.1:{}/", dead_port().await);
    let said = doctor(&fake, &["--compose-files-url", &gone]).await;
    let files = format!("compose files from {gone}");
    let line = format!(
        "warning  {files}: no connection to 127.0.0.1: Connection refused (os error 111); verdicts report it as not proved\nfix: {LET_OUT} repository with --compose-files-url"
    );
    assert_found(&said, 0, &files, &line);
    let said = doctor(&fake, &["--compose-files-url", "off"]).await;
    let line = "skipped  compose files: none are fetched (--compose-files-url off), so their content is not proved";
    assert_found(&said, 0, "compose files", line);
}

/// Tags are compared, and a policy may require that.
#[tokio::test]
async fn the_tags_of_the_repository_are_looked_at() {
    let fake = fake().await;
    let url = fake.compose_tags_url();
    let tags = format!("release tags from {url}");
    let said = doctor(&fake, &[]).await;
    let line = found(&said, &tags);
    assert!(line.starts_with(&format!("ok       {tags}: ")), "{line}");
    assert!(line.ends_with(" can be compared"), "{line}");

    let path = fake.dir.join("policy-required.toml");
    let text = format!("{}deployment.sources = \"required\"\n", fake.policy_toml);
    std::fs::write(&path, text).unwrap();
    let required = ["--policy", &path.display().to_string()];
    assert_eq!(doctor(&fake, &required).await.0, Some(0));

    let not_git = "check --compose-tags-url: it has to be a git repository over HTTP";
    for (behaviour, why) in [
        (Behaviour::Status(404), "status 404 Not Found"),
        (
            Behaviour::Html,
            "no list of references as git makes it: a packet has no length",
        ),
    ] {
        fake.compose_tags(behaviour);
        let line =
            format!("warning  {tags}: {why}; verdicts report it as not proved\nfix: {not_git}");
        assert_found(&doctor(&fake, &[]).await, 0, &tags, &line);
        let line = format!(
            "FAILED   {tags}: {why}; the policy requires it (deployment.sources)\nfix: {not_git}"
        );
        assert_found(&doctor(&fake, &required).await, 1, &tags, &line);
    }
    let gone = format!("http://127.0.0.1:{}/", dead_port().await);
    let said = doctor(&fake, &["--compose-tags-url", &gone]).await;
    let tags = format!("release tags from {gone}");
    let line = format!(
        "warning  {tags}: no connection to 127.0.0.1: Connection refused (os error 111); verdicts report it as not proved\nfix: {LET_OUT} repository with --compose-tags-url"
    );
    assert_found(&said, 0, &tags, &line);
    let said = doctor(&fake, &["--compose-tags-url", "off"]).await;
    let line = "skipped  release tags: none are fetched (--compose-tags-url off), so they are not compared";
    assert_found(&said, 0, "release tags", line);

    let text = format!("{}deployment.tags = \"any\"\n", fake.policy_toml);
    std::fs::write(&path, text).unwrap();
    let said = doctor(&fake, &required).await;
    assert!(!said.1.contains("release tags"), "{}", said.1);
}

/// What is on disk keeps nobody from hearing that no more will come.
#[tokio::test]
async fn the_repository_is_asked_though_files_are_on_disk() {
    let fake = fake().await;
    let state = state(&fake).display().to_string();
    let state = ["--state-dir", &state];
    assert_eq!(doctor(&fake, &state).await.0, Some(0));
    fake.compose_files(Behaviour::Status(503));
    let said = doctor(&fake, &state).await;
    let files = format!("compose files from {}", fake.compose_files_url());
    let line = found(&said, &files);
    let begins = format!("warning  {files}: status 503 Service Unavailable; ");
    assert!(line.starts_with(&begins), "{line}");
}

#[tokio::test]
async fn without_a_log_the_repository_has_to_answer() {
    let fake = fake().await;
    fake.tamper("debug-td").unwrap();
    let said = doctor(&fake, &[]).await;
    let files = format!("compose files from {}", fake.compose_files_url());
    let line = format!(
        "skipped  {files}: it answers; no deployment log was available, so no file was requested"
    );
    assert_found(&said, 1, &files, &line);
}

#[tokio::test]
async fn a_refused_backend_s_log_has_nothing_fetched() {
    let fake = fake().await;
    fake.change(|spec| spec.gpus = None).unwrap();
    let said = doctor(&fake, &[]).await;
    assert_eq!(said.0, Some(1), "{}", said.1);
    assert!(found(&said, "backend").contains("rejected_gpu_missing"));
    let files = format!("compose files from {}", fake.compose_files_url());
    let line = format!(
        "skipped  {files}: it answers; no deployment log was available, so no file was requested"
    );
    assert_found(&said, 1, &files, &line);
    assert_eq!(fake.compose_files_fetched(), Vec::<String>::new());
}

/// Where the policy asks it, its keys have to come. NVIDIA is shown what a verdict
/// shows it, and nothing more.
#[tokio::test]
async fn nvidia_is_looked_at_where_the_policy_asks_it() {
    let fake = fake().await;
    let said = doctor(&fake, &[]).await;
    assert!(!said.1.contains("NVIDIA's keys"), "{}", said.1);
    assert_eq!(fake.nras_fetches(NrasRoute::Keys), 0);

    let policy = |mode: &str| {
        let path = fake.dir.join(format!("policy-{mode}.toml"));
        let text = format!("{}gpu.nras = \"{mode}\"\n", fake.policy_toml);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let url = fake.nras_url();
    let keys = format!("NVIDIA's keys from {url}/");
    let asked = async |mode: &str, url: &str| {
        let policy = policy(mode);
        let more = ["--policy", &policy, "--nras-url", url];
        doctor(&fake, &more).await
    };
    for (mode, attest) in [("report", 1), ("off", 1)] {
        let said = asked(mode, &url).await;
        assert_eq!(said.0, Some(0), "{}", said.1);
        if mode == "report" {
            assert_eq!(
                found(&said, &keys),
                format!("ok       {keys}: they can be read")
            );
        }
        assert_eq!(fake.nras_fetches(NrasRoute::Attest), attest);
    }
    // A backend that is refused is no reason to show its GPUs.
    fake.tamper("debug-td").unwrap();
    let said = asked("require", &url).await;
    assert_eq!(
        found(&said, &keys),
        format!("ok       {keys}: they can be read")
    );
    assert_eq!(fake.nras_fetches(NrasRoute::Attest), 1);
    fake.tamper("none").unwrap();

    fake.nras(&NrasRoute::ALL[1..], &Behaviour::Status(500));
    let fix = "fix: name another address with --nras-url, or use a policy with gpu.nras = \"off\"";
    let said = asked("report", &url).await;
    let line = format!(
        "warning  {keys}: the key set: status 500; verdicts report its opinion as not proved\n{fix}"
    );
    assert_found(&said, 0, &keys, &line);
    let said = asked("require", &url).await;
    let line = format!("FAILED   {keys}: the key set: status 500\n{fix}");
    assert_found(&said, 1, &keys, &line);
    assert!(found(&said, "backend").contains("nras_unavailable"));

    let gone = format!("http://127.0.0.1:{}", dead_port().await);
    let said = asked("require", &gone).await;
    let keys = format!("NVIDIA's keys from {gone}/");
    let line = format!(
        "FAILED   {keys}: the key set: no connection to 127.0.0.1: Connection refused (os error 111)\nfix: {LET_OUT} address with --nras-url, or use a policy with gpu.nras = \"off\""
    );
    assert_found(&said, 1, &keys, &line);
}
