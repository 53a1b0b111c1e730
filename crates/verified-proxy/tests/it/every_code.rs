//! Every code that a client can meet before a connection is verified, provoked
//! end to end, and what the wire saw of it.
//!
//! The codes are those that docs/codes.md is generated from: a new one without a
//! case here fails [`each_code_is_in_exactly_one_list`].

mod compose;
mod evidence;
mod nras;
mod workload;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use attest::{Blame, Explanation, Policy, UnixTime};
use bytes::Bytes;
use fake_tee::nras::NrasSpec;
use fake_tee::refusing;
use fake_tee::serve::{
    Act, Behaviour, Connection, Fault, Options, Point, Route, Running, unix_now,
};
use http::{HeaderName, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use proxy::Config;
use proxy::config::{ClientTokens, Clock};

use self::evidence::Row;
use crate::harness::*;
use crate::nras::asking;

/// A backend, and the proxy that is about to meet it.
struct Scene {
    fake: Running,
    config: Config,
}

impl Scene {
    async fn new() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> Self {
        let fake = fake_with(options).await;
        let config = config(&fake);
        Self { fake, config }
    }

    fn policy(&mut self, line: &str) {
        let text = refusing(&self.fake.policy_toml, &format!("{line}\n"));
        self.config.policy = Policy::from_toml(&text).unwrap();
    }

    /// The answer to a prompt with canary and credentials.
    async fn chat(&self) -> Answer {
        Proxy::start(self.config.clone()).await.chat().await
    }
}

const REPORT: &str = "/v1/attestation/report";
const ALWAYS: u64 = u64::MAX;

/// Code, status, and what brings them about.
type Event = (&'static str, u16, fn(&mut Scene));

/// Faults of the way, and settings of one's own.
const ON_THE_WAY: &[Event] = &[
    ("rejected_level", 502, |s| {
        s.policy("least.gpu = \"measured\"")
    }),
    ("rejected_finding", 502, |s| {
        s.policy("findings.refuse = [\"app_unmeasured_environment\"]");
    }),
    ("backend_unreachable", 502, |s| s.fake.stop(0).unwrap()),
    ("backend_unreachable", 502, |s| {
        let cut = Fault::Tcp(Point::Sent(100), Act::Close);
        s.fake.every_connection(move |_| cut);
    }),
    ("backend_unreachable", 502, |s| {
        let cut = Fault::Plain(Point::Sent(1_000), Act::Reset);
        s.fake.every_connection(move |_| cut);
    }),
    ("backend_timeout", 504, |s| {
        let stalled = Fault::Tcp(Point::Sent(0), Act::Stall);
        s.fake.every_connection(move |_| stalled);
        s.config.backend_timeouts.connect = Duration::from_millis(200);
    }),
    ("backend_timeout", 504, |s| {
        let stalled = Fault::Plain(Point::Sent(1_000), Act::Stall);
        s.fake.every_connection(move |_| stalled);
        s.config.attest_timeout = Duration::from_secs(1);
    }),
    ("backend_certificate", 502, |s| s.config.extra_ca.clear()),
    ("evidence_unavailable", 502, |s| {
        s.fake.order(REPORT, "status=404", ALWAYS).unwrap();
    }),
    ("evidence_unavailable", 502, |s| {
        s.fake.order(REPORT, "html=503", ALWAYS).unwrap();
    }),
    ("collateral_unavailable", 503, |s| {
        s.fake.pcs(0, &[], &Behaviour::Gone).unwrap();
    }),
    ("collateral_unavailable", 503, |s| {
        let huge = Behaviour::Huge(64 << 20);
        s.fake.pcs(0, &[Route::PckCrl], &huge).unwrap();
    }),
    ("source_timeout", 503, |s| {
        s.fake.compose_files(Behaviour::Hang);
        s.config.attest_timeout = Duration::from_secs(3);
    }),
    ("source_timeout", 503, |s| {
        s.fake.nras(&[], &Behaviour::Hang);
        s.config = asking(&s.fake, "require");
        s.config.attest_timeout = Duration::from_secs(3);
    }),
    ("rejected_pin", 502, |s| {
        let key = format!("ecdsa:{}", "9".repeat(40));
        s.policy(&format!("pins.signing_keys = [\"{key}\"]"));
    }),
    ("rejected_gpu_device", 502, |s| {
        s.policy("gpu.devices = [\"4242424242424242\"]");
    }),
    ("rejected_gpu_measurement", 502, |s| {
        let driver = "NV_GPU_DRIVER_GH100_570.172.08";
        let value = "42".repeat(48);
        s.policy(&format!(
            "[[gpu.measurements]]\nid = \"{driver}\"\nsource = \"x\"\nallowed = {{ \"1\" = [\"{value}\"] }}"
        ));
    }),
    ("rejected_gpu_no_table", 502, |s| {
        let value = "42".repeat(48);
        s.policy(&format!(
            "[[gpu.measurements]]\nid = \"NV_GPU_DRIVER_GH100_1.0\"\nsource = \"x\"\nallowed = {{ \"1\" = [\"{value}\"] }}"
        ));
    }),
    ("rejected_deployment_commit", 502, |s| {
        let commit = "42".repeat(20);
        s.policy(&format!("deployment.commits = [\"{commit}\"]"));
    }),
    ("rejected_compose_digest", 502, |s| {
        let image = "42".repeat(32);
        s.policy(&format!(
            "deployment.sources = \"required\"\ndeployment.images = [\"sha256:{image}\"]"
        ));
    }),
    ("rejected_deployment_level", 502, |s| {
        let unknown = |spec: &mut fake_tee::Spec| {
            let manager = spec.compose_manager.as_mut().unwrap();
            let run = fake_tee::deployment::action(spec.now, "docker_run", &[]);
            manager.actions.push(run);
        };
        s.fake.change(unknown).unwrap();
        s.policy("deployment.sources = \"required\"\nleast.deployment = \"tagged\"");
    }),
    ("nras_unavailable", 502, |s| {
        s.fake.nras(&[], &Behaviour::Gone);
        s.config = asking(&s.fake, "require");
    }),
    ("deployment_tags_unavailable", 502, |s| {
        s.fake.compose_tags(Behaviour::Status(500));
        s.policy("deployment.sources = \"required\"");
    }),
    ("deployment_files_unavailable", 502, |s| {
        s.fake.compose_files(Behaviour::Gone);
        s.policy("deployment.sources = \"required\"");
    }),
    ("rejected_os_image_withdrawn", 502, |s| {
        let text = refusing(&s.fake.policy_toml, "");
        let row = text.replace("rtmr1 = ", "refuse_from = \"2020-01-01\", rtmr1 = ");
        s.config.policy = Policy::from_toml(&row).unwrap();
    }),
    ("rejected_qemu_version", 502, |s| {
        // The machine's MRTD is the form of QEMU 8, which it does not state.
        let text = refusing(&s.fake.policy_toml, "");
        let row = text.replace(
            "mrtd = ",
            &format!("mrtd = \"{}\", mrtd_two_pass = ", "07".repeat(48)),
        );
        s.config.policy = Policy::from_toml(&row).unwrap();
    }),
    ("rejected_gpu_places_unknown", 502, |s| {
        let change = |spec: &mut fake_tee::Spec| spec.boot.acpi_tables = Some([7; 48]);
        s.fake.change(change).unwrap();
        s.policy("acpi = \"report\"");
    }),
    ("rejected_tcb_evaluation", 502, |s| {
        s.policy("tcb.min_evaluation_number = 1000000");
    }),
];

/// What needs a story: each has a test of its own, below, in `state` or in
/// `outgoing_proxy`.
const OF_THEIR_OWN: &[&str] = &[
    "level_not_reached",
    "outgoing_proxy_refused",
    "outgoing_proxy_unreachable",
    "rejected_collateral_rollback",
    "rejected_went_down",
];

/// On this side of every backend: [`the_local_side_connects_to_nobody`].
const LOCAL: &[&str] = &[
    "host_not_allowed",
    "origin_not_allowed",
    "client_token_required",
    "bad_request",
    "no_backend",
    "body_compressed",
    "backend_not_allowed",
    "model_not_found",
    "not_found",
    "method_not_allowed",
    "body_too_large",
    "endpoints_unavailable",
    "busy",
    "shutting_down",
];

/// And why not.
const NOT_PROVOKED: &[(&str, &str)] = &[
    (
        "no_randomness",
        "the random number generator of this machine would have to fail",
    ),
    (
        "backend_redirect",
        "said of an answer, so on a connection that is verified: see hostile.rs",
    ),
    (
        "backend_broke_off",
        "said of a request that was sent, so on a connection that is verified: see hostile.rs",
    ),
    ("evidence_nras_key_set", KEY_SET),
    ("evidence_nras_duplicate_key", KEY_SET),
    ("rejected_nras_key_mismatch", KEY_SET),
];

/// Of a key set that cannot be read nothing is judged: it is as good as none.
const KEY_SET: &str = "the fetch of NVIDIA's keys fails with it, so nras_unavailable says it";

const EVIDENCE: [&[Row]; 7] = [
    evidence::REPORT,
    evidence::HARDWARE,
    evidence::SOFTWARE,
    workload::DEPLOYMENT,
    workload::GPUS,
    compose::READ,
    compose::JUDGED,
];

/// The proxy's own codes with every status that docs/codes.md gives them.
fn own_codes() -> Vec<(String, Vec<u16>)> {
    let document = proxy::codes::document();
    let own = document.split("\n## Refused evidence").next().unwrap();
    let rows = own.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let mut cells = row.split(" | ");
        let code = cells.next().unwrap().trim_end_matches('`').to_owned();
        let statuses = cells.next().unwrap().split(", ");
        (code, statuses.map(|one| one.parse().unwrap()).collect())
    })
    .collect()
}

fn statuses(code: &str) -> Vec<u16> {
    let own = own_codes().into_iter().find(|(own, _)| own == code);
    own.map_or(vec![502], |(_, statuses)| statuses)
}

#[test]
fn each_code_is_in_exactly_one_list() {
    let own = own_codes();
    assert!(own.len() > 10, "{own:?}");
    let mut known: Vec<_> = own.iter().map(|(code, _)| code.as_str()).collect();
    known.extend(Explanation::all().map(|explanation| explanation.code));
    let opinions = || nras::OPINIONS.iter().map(|(code, _)| *code);
    let of_machines = || EVIDENCE.into_iter().flatten().map(|(code, _)| *code);
    let evidence = || of_machines().chain(opinions());
    let on_the_way = || ON_THE_WAY.iter().map(|(code, ..)| *code);
    let not_provoked = || NOT_PROVOKED.iter().map(|(code, _)| *code);
    for code in &known {
        let lists = [
            evidence().any(|one| one == *code),
            on_the_way().any(|one| one == *code),
            OF_THEIR_OWN.contains(code),
            LOCAL.contains(code),
            not_provoked().any(|one| one == *code),
        ];
        let times = lists.iter().filter(|listed| **listed).count();
        assert_eq!(times, 1, "{code} is in {times} lists");
    }
    let lists = evidence().chain(on_the_way()).chain(not_provoked());
    for code in lists.chain(OF_THEIR_OWN.iter().chain(LOCAL).copied()) {
        assert!(known.contains(&code), "{code} is no code");
    }
}

/// Probes and nothing else, and nothing beside what was recorded.
fn assert_probes_and_tls(received: &[Connection]) -> usize {
    assert_only_probes(received);
    for connection in received {
        assert!(!connection.truncated);
        let recorded = connection.bytes.len() as u64;
        assert_eq!(connection.plain_bytes.1, recorded);
        let text = String::from_utf8_lossy(&connection.bytes).to_ascii_lowercase();
        for secret in [CANARY, API_KEY, "authorization", "cookie"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
    probes(received)
}

fn assert_refusal(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.code(), code, "{}", answer.message());
    assert_eq!(answer.status.as_u16(), status, "{code}");
    assert!(statuses(code).contains(&status), "{code}: {status}");
    let message = answer.message();
    let hint = message.split("\nhint: ").nth(1).unwrap_or_default();
    assert!(hint.len() > 10, "{code}: {message}");
    assert!(!message.contains(CANARY) && !message.contains(API_KEY));
    assert_eq!(answer.header("x-verified-proxy-model"), "");
}

async fn refuse(rows: &[Row]) {
    let mut scene = Scene::new().await;
    for (code, change) in rows {
        scene.fake.clear();
        scene.fake.change(change).unwrap();
        // A new proxy, so that nothing is remembered.
        scene.config = config(&scene.fake);
        let answer = scene.chat().await;
        assert_refusal(&answer, 502, code);
        let message = answer.message();
        assert!(message.contains("report: GET /_proxy/verdicts/"), "{code}");
        // Another instance may do better, except where Intel's documents are at
        // fault, which are the same for all.
        let attempts = match *code {
            code if code.starts_with("rejected_collateral_") => 1,
            // Each is asked a second time.
            "deployment_missing" => 6,
            _ => 3,
        };
        assert_eq!(
            assert_probes_and_tls(&scene.fake.received()),
            attempts,
            "{code}"
        );
    }
}

#[tokio::test]
async fn reports_that_are_none_or_are_about_others() {
    refuse(evidence::REPORT).await;
}

#[tokio::test]
async fn hardware_that_is_not_trusted() {
    refuse(evidence::HARDWARE).await;
}

#[tokio::test]
async fn software_that_is_not_expected() {
    refuse(evidence::SOFTWARE).await;
}

#[tokio::test]
async fn deployments_that_do_not_hold() {
    refuse(workload::DEPLOYMENT).await;
}

#[tokio::test]
async fn files_that_cannot_be_judged() {
    refuse(compose::READ).await;
}

#[tokio::test]
async fn files_that_break_a_rule() {
    refuse(compose::JUDGED).await;
}

#[tokio::test]
async fn gpus_that_are_not_genuine() {
    refuse(workload::GPUS).await;
}

#[tokio::test]
async fn opinions_that_do_not_hold() {
    let fake = fake().await;
    for (code, change) in nras::OPINIONS {
        fake.clear();
        fake.change_nras(|spec| {
            *spec = NrasSpec::new(unix_now()).unwrap();
            change(spec);
        })
        .unwrap();
        let answer = Proxy::start(asking(&fake, "require")).await.chat().await;
        assert_refusal(&answer, 502, code);
        let row = Explanation::all().find(|row| row.code == *code).unwrap();
        // A service whose answer proves nothing answers the same for other machines.
        let probes = if row.blame == Blame::Sources { 1 } else { 3 };
        assert_eq!(assert_probes_and_tls(&fake.received()), probes, "{code}");
    }
}

#[tokio::test]
async fn what_happens_on_the_way() {
    for (code, status, change) in ON_THE_WAY {
        let mut scene = Scene::new().await;
        change(&mut scene);
        let answer = scene.chat().await;
        assert_refusal(&answer, *status, code);
        let probes = assert_probes_and_tls(&scene.fake.received());
        assert!(probes <= 3, "{code}: {probes}");
        if code.starts_with("rejected_") || code.ends_with("_unavailable") {
            assert!(probes > 0, "{code}");
        }
        if *code == "backend_certificate" {
            assert!(scene.fake.received().iter().all(|one| one.bytes.is_empty()));
        }
    }
}

#[tokio::test]
async fn a_stolen_certificate() {
    let scene = Scene::with(Options {
        instances: 2,
        ..Options::default()
    })
    .await;
    scene.fake.steal(0, 1).unwrap();
    scene.fake.pin(Some(0));
    let answer = scene.chat().await;
    assert_refusal(&answer, 502, "backend_certificate");
    assert_eq!(assert_probes_and_tls(&scene.fake.received()), 0);
}

#[tokio::test]
async fn rejected_collateral_rollback() {
    let mut scene = Scene::new().await;
    let ahead = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&ahead);
    let clock = move || UnixTime(unix_now() + seen.load(Ordering::SeqCst));
    scene.config.clock = Clock::from_fn(clock);
    let proxy = Proxy::start(scene.config.clone()).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    // Verdict and collateral have run out, and the source has an older edition.
    ahead.store(25 * 60 * 60, Ordering::SeqCst);
    scene.fake.pcs(0, &[], &Behaviour::Stale).unwrap();
    scene.fake.restart(0).unwrap();
    let answer = proxy.chat().await;
    assert_refusal(&answer, 502, "rejected_collateral_rollback");
    // The first connection is the one that was verified.
    let received = scene.fake.received();
    assert_eq!(assert_probes_and_tls(&received[1..]), 1);
}

/// A prompt to a backend, as it may be, but for what a case says.
fn prompt(target: &str, headers: &[(&str, &str)], body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::post(target)
        .header("host", "localhost")
        .header("authorization", format!("Bearer {API_KEY}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::from(body.to_owned())).unwrap()
}

#[tokio::test]
async fn the_local_side_connects_to_nobody() {
    const CHAT: &str = "/v1/chat/completions";
    const JSON: (&str, &str) = ("content-type", "application/json");
    let mut scene = Scene::new().await;
    scene.config.max_body = 300 << 10;
    scene.config.body_memory = 100 << 10;
    let proxy = Proxy::start(scene.config.clone()).await;
    let model = format!(r#"{{"model":"{MODEL}","x":"{CANARY}"}}"#);
    let late = format!(r#"{{"x":"{}","model":"{MODEL}"}}"#, "x".repeat(200 << 10));
    let large = format!(r#"{{"model":"{MODEL}","x":"{}"}}"#, "x".repeat(400 << 10));
    let named = ("x-backend-domain", DOMAIN);
    let mut told = Vec::new();
    for (code, status, request) in [
        ("bad_request", 400, prompt(CHAT, &[JSON], "[]")),
        ("bad_request", 400, prompt(CHAT, &[named, named], &model)),
        (
            "bad_request",
            426,
            prompt(
                CHAT,
                &[JSON, ("connection", "upgrade"), ("upgrade", "websocket")],
                &model,
            ),
        ),
        ("no_backend", 400, prompt(CHAT, &[JSON], "{}")),
        (
            "body_compressed",
            415,
            prompt(CHAT, &[JSON, ("content-encoding", "gzip")], &model),
        ),
        (
            "not_found",
            404,
            prompt("/chat/completions", &[JSON], &model),
        ),
        (
            "backend_not_allowed",
            403,
            prompt(CHAT, &[JSON, ("x-backend-domain", "evil.example")], &model),
        ),
        (
            "model_not_found",
            404,
            prompt(CHAT, &[JSON], r#"{"model":"fake/lama"}"#),
        ),
        ("body_too_large", 413, prompt(CHAT, &[JSON], &large)),
        ("body_too_large", 413, prompt(CHAT, &[named], &large)),
        ("busy", 503, prompt(CHAT, &[JSON], &late)),
        (
            "method_not_allowed",
            405,
            prompt("/_proxy/live", &[], CANARY),
        ),
    ] {
        let answer = proxy.request(request).await;
        assert_eq!(answer.code(), code, "{}", answer.message());
        assert_eq!(answer.status.as_u16(), status, "{code}");
        assert!(statuses(code).contains(&status), "{code}: {status}");
        told.push(code);
    }
    let guarded = {
        let tokens = "ann token-of-ann-0123456789";
        let mut config = scene.config.clone();
        config.guard.tokens = Some(ClientTokens::parse(tokens).unwrap());
        Proxy::start(config).await
    };
    for (code, status, proxy, header) in [
        ("host_not_allowed", 403, &proxy, ("host", "evil.example")),
        (
            "origin_not_allowed",
            403,
            &proxy,
            ("origin", "https://evil.example"),
        ),
        ("client_token_required", 401, &guarded, JSON),
    ] {
        let mut request = prompt(CHAT, &[JSON], &model);
        let (name, value) = header;
        let name: HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
        let answer = proxy.request(request).await;
        assert_eq!(answer.code(), code, "{}", answer.message());
        assert_eq!(answer.status.as_u16(), status, "{code}");
        assert!(statuses(code).contains(&status), "{code}: {status}");
        told.push(code);
    }
    for page in [
        "/_proxy/nothing",
        "/v1/signature/chatcmpl-unknown",
        "/v1/files",
        "/models",
    ] {
        let answer = proxy.get(page).await;
        assert_eq!(answer.code(), "not_found");
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        told.push("not_found");
    }
    for behaviour in [Behaviour::Status(500), Behaviour::Html, Behaviour::Gone] {
        scene.fake.endpoints(behaviour);
        let answer = scene.chat().await;
        assert_eq!(answer.code(), "endpoints_unavailable");
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        told.push("endpoints_unavailable");
    }
    told.push(shutting_down(&scene).await);
    for code in LOCAL {
        assert!(told.contains(code), "{code} was not provoked");
    }
    // Not so much as a TCP connection, of all those proxies.
    assert_eq!(scene.fake.instances()[0].accepted, 0);
    assert!(scene.fake.received().is_empty());
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests play the client, who may dial"
)]
async fn shutting_down(scene: &Scene) -> &'static str {
    // Somebody waits for a list that does not come, which holds up the end.
    scene.fake.endpoints(Behaviour::Hang);
    let mut proxy = Proxy::start(scene.config.clone()).await;
    let stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let (mut kept, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let live = Request::get("/_proxy/live").header("host", "localhost");
    let live = kept.send_request(live.body(Full::default()).unwrap()).await;
    live.unwrap().into_body().collect().await.unwrap();
    let waiting = async {
        let fetched = scene.fake.endpoints_fetches();
        let stop = proxy.stop.take().unwrap();
        let ask = async {
            while scene.fake.endpoints_fetches() == fetched {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            stop.send(()).unwrap();
            // A last request of each connection is still answered for a second.
            tokio::time::sleep(Duration::from_millis(1_300)).await;
            kept.send_request(chat_request(false)).await.unwrap()
        };
        tokio::select! {
            _ = proxy.send(chat_request(false)) => panic!("there is no list"),
            answer = ask => answer,
        }
    };
    let (head, body) = waiting.await.into_parts();
    let answer = Answer {
        status: head.status,
        headers: head.headers,
        body: body.collect().await.unwrap().to_bytes(),
    };
    assert_eq!(answer.code(), "shutting_down");
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    "shutting_down"
}
