//! `verified-proxy verify MODEL|DOMAIN`: what it says, and what backends see.

use fake_tee::serve::{Options, Running};
use serde_json::{Value, json};

use crate::harness::*;
use crate::program::{Said, command};

async fn verify(fake: &Running, more: &[&str]) -> Said {
    command(fake, "verify", more).await
}

fn json(said: &Said) -> Value {
    said.json()
}

#[tokio::test]
async fn a_model_and_a_domain_are_verified_with_one_probe_each() {
    let fake = fake().await;
    for target in [MODEL, DOMAIN] {
        fake.clear();
        let said = verify(&fake, &[target]).await;
        let Said(code, out, err) = &said;
        assert_eq!(*code, Some(0), "{out}{err}");
        assert!(
            out.starts_with(&format!("backend {DOMAIN}\nTLS key ")),
            "{out}"
        );
        assert!(out.contains(&hex::encode(fake.spki_sha256())), "{out}");
        assert!(out.contains("\nCA chain required\n"), "{out}");
        assert!(out.contains("\nVERIFIED at 20"), "{out}");
        assert!(
            out.contains("DANGER: judged under a root that is not Intel's"),
            "{out}"
        );
        let last = out.split("\n\n").last().unwrap();
        assert!(last.starts_with("Not proved\n"), "{last}");
        let received = fake.received();
        assert_only_probes(&received);
        assert_eq!(probes(&received), 1);
    }
}

#[tokio::test]
async fn a_refused_backend_exits_1_and_got_a_probe_only() {
    let fake = fake().await;
    fake.tamper("other-os-image").unwrap();
    let Said(code, out, _) = verify(&fake, &[MODEL]).await;
    assert_eq!(code, Some(1));
    assert!(out.contains("\nREFUSED at 20"), "{out}");
    assert!(out.contains("\nrejected_os_image: "), "{out}");
    assert!(out.contains("\nhint: "), "{out}");
    let received = fake.received();
    assert_only_probes(&received);
    assert_eq!(probes(&received), 1);
}

#[tokio::test]
async fn json_is_the_verdicts_page_for_each_key() {
    let fake = fake().await;
    let said = verify(
        &fake,
        &[MODEL, "--json", "--connections", "3", "--webpki", "off"],
    )
    .await;
    assert_eq!(said.0, Some(0), "{}", said.2);
    let json = json(&said);
    let [report] = json.as_array().unwrap().as_slice() else {
        panic!("one key, one report: {json}");
    };
    assert_eq!(report["verdict"], "verified");
    assert_eq!(report["domain"], DOMAIN);
    assert_eq!(report["spki"], hex::encode(fake.spki_sha256()));
    assert_eq!(report["ca_chain"], "not required");
    assert_eq!(report["connections"], 3);
    assert_eq!(
        report["checks"].as_array().unwrap().len(),
        attest::CheckId::ALL.len()
    );
    assert!(!report["id"].as_str().unwrap().is_empty());
    assert_eq!(probes(&fake.received()), 3);
    assert_only_probes(&fake.received());
}

#[tokio::test]
async fn every_domain_of_a_model_is_asked_and_a_refusal_counts_most() {
    let fake = fake_with(Options {
        domain: "a.completions.near.ai".to_owned(),
        ..Options::default()
    })
    .await;
    // The second is not there at all.
    let list = endpoint_list(json!({"endpoints": [
        {"domain": "a.completions.near.ai", "models": [MODEL]},
        {"domain": "b.completions.near.ai", "models": [MODEL]},
    ]}))
    .await;
    let gone = format!("b.completions.near.ai:443:127.0.0.1:{}", dead_port().await);
    let more = [MODEL, "--json", "--endpoints-url", &list];
    let connect_to = format!("{},{gone}", fake.connect_to());
    let more = [&more[..], &["--connect-to", &connect_to]].concat();
    let said = verify(&fake, &more).await;
    assert_eq!(said.0, Some(3), "{}", said.2);
    let found = json(&said);
    assert_eq!(found[0]["verdict"], "verified");
    assert_eq!(found[1]["verdict"], "unavailable");
    assert_eq!(found[1]["domain"], "b.completions.near.ai");
    assert_eq!(found[1]["code"], "backend_unreachable");

    fake.tamper("debug-td").unwrap();
    let said = verify(&fake, &more).await;
    assert_eq!(said.0, Some(1), "{}", said.2);
    assert_eq!(json(&said)[0]["code"], "rejected_td_debug");
    let text: Vec<_> = more
        .iter()
        .copied()
        .filter(|word| *word != "--json")
        .collect();
    let Said(_, out, _) = verify(&fake, &text).await;
    assert!(
        out.ends_with("\n0 verified, 1 refused, 1 unavailable\n"),
        "{out}"
    );
    assert!(
        out.contains("backend b.completions.near.ai\nUNAVAILABLE\n\nbackend_unreachable: "),
        "{out}"
    );
}

#[tokio::test]
async fn what_cannot_be_asked_is_said_with_a_hint() {
    let fake = fake().await;
    for (target, code, hint) in [
        (
            "fake/lama",
            "error: model_not_found: ",
            "close matches: fake/llama",
        ),
        (
            "example.org",
            "error: backend_not_allowed: ",
            "--allow-domain",
        ),
        ("10.0.0.1", "error: model_not_found: ", "hint: "),
    ] {
        let Said(exit, out, err) = verify(&fake, &[target]).await;
        assert_eq!((exit, out.as_str()), (Some(2), ""), "{target}");
        assert!(err.contains(code) && err.contains(hint), "{err}");
    }
    let list = format!("http://127.0.0.1:{}/", dead_port().await);
    let Said(exit, _, err) = verify(&fake, &[MODEL, "--endpoints-url", &list]).await;
    assert_eq!(exit, Some(3));
    assert!(err.contains("error: endpoints_unavailable: "), "{err}");
    assert_eq!(fake.received().len(), 0, "nobody was dialled");

    let pccs = format!("http://127.0.0.1:{}/", dead_port().await);
    let Said(exit, out, _) = verify(&fake, &[MODEL, "--pccs-url", &pccs]).await;
    assert_eq!(exit, Some(3));
    assert!(out.contains("\ncollateral_unavailable: "), "{out}");
}

#[tokio::test]
async fn a_certificate_of_nobody_is_not_asked_anything() {
    let fake = fake().await;
    // An authority, but not the backend's.
    let other = fake.dir.join("other-ca.pem");
    let certificate = rcgen::generate_simple_self_signed(Vec::new()).unwrap();
    std::fs::write(&other, certificate.cert.pem()).unwrap();
    let said = verify(
        &fake,
        &[MODEL, "--json", "--extra-ca", &other.display().to_string()],
    )
    .await;
    assert_eq!(said.0, Some(1), "{}", said.2);
    assert_eq!(json(&said)[0]["verdict"], "rejected");
    assert_eq!(json(&said)[0]["code"], "backend_certificate");
    assert_eq!(probes(&fake.received()), 0);
}

#[tokio::test]
async fn a_policy_is_written_from_one_live_report() {
    let fake = fake().await;
    let file = fake.dir.join("written.toml");
    let _ = std::fs::remove_file(&file);
    let path = file.display().to_string();
    fake.tamper("other-os-image").unwrap();
    let said = verify(
        &fake,
        &[MODEL, "--write-policy", &path, "--connections", "2"],
    )
    .await;
    assert_eq!(said.0, Some(2));
    assert!(
        said.2.contains("--write-policy needs exactly one report"),
        "{}",
        said.2
    );
    assert_eq!(probes(&fake.received()), 0, "said before anybody is asked");
    let write = [MODEL, "--write-policy", &path];
    assert_eq!(verify(&fake, &write).await.0, Some(1));
    assert_eq!(verify(&fake, &write).await.0, Some(3), "never over a file");
    assert_eq!(verify(&fake, &[MODEL, "--policy", &path]).await.0, Some(0));
}

#[tokio::test]
async fn live_and_recorded_do_not_mix() {
    let fake = fake().await;
    for wrong in [
        &[][..],
        &[MODEL, "--evidence", "report.json"],
        &[MODEL, "--at", "0"],
        &[MODEL, "--spki", &"00".repeat(32)],
        &[MODEL, "--connections", "0"],
        &[MODEL, "--connections", "17"],
        &["--evidence", "report.json"],
    ] {
        assert_eq!(verify(&fake, wrong).await.0, Some(2), "{wrong:?}");
    }
    assert_eq!(fake.received().len(), 0);
}

/// However many roots are not the real ones.
#[tokio::test]
async fn other_roots_are_one_line_on_the_log() {
    let fake = fake().await;
    let Said(code, out, err) = verify(&fake, &[MODEL, "--log", "warn"]).await;
    assert_eq!(code, Some(0), "{out}{err}");
    let lines: Vec<_> = err.lines().filter(|line| line.contains("DANGER")).collect();
    let [line] = lines[..] else {
        panic!("{err}");
    };
    let words = "DANGER: roots of trust are not Intel's for machines, not NVIDIA's for GPUs; verdicts say nothing about real hardware";
    assert!(line.ends_with(words), "{line}");
}
