//! Several instances behind one name, and everything that can happen to a
//! connection on its way: threats.md B4, B5, B7.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use fake_tee::serve::{Act, Fault, Options, Point, Record, Running};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use proxy::config::{BackendTimeouts, ComposeSource};

use crate::harness::*;

async fn fleet(instances: usize, record: Record) -> Running {
    fake_with(Options {
        instances,
        record,
        ..Options::default()
    })
    .await
}

/// As many as the environment says, or fewer.
fn count(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |text| text.parse().unwrap())
}

/// An answer of some kilobytes, in pieces.
fn streamed(marker: &str) -> Request<Full<bytes::Bytes>> {
    let body = serde_json::json!({
        "model": MODEL,
        "stream": true,
        "messages": [{"role": "user", "content": marker}],
    });
    Request::post("/v1/chat/completions")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("x-fake-chunks", "50")
        .body(Full::from(body.to_string()))
        .unwrap()
}

#[tokio::test]
async fn every_key_behind_a_name_is_attested_once() {
    let fake = fleet(3, Record::Full).await;
    let proxy = Arc::new(Proxy::in_front_of(&fake).await);
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let proxy = Arc::clone(&proxy);
        requests.spawn(async move { proxy.chat().await.status });
    }
    assert_eq!(requests.join_all().await, [StatusCode::OK; 64]);
    let mut probed = HashMap::new();
    for connection in fake.received() {
        let count = connection
            .request_lines
            .iter()
            .filter(|line| line.contains("/v1/attestation/report"))
            .count();
        *probed.entry(connection.spki_sha256).or_insert(0) += count;
    }
    assert_eq!(probed.len(), 3);
    assert!(probed.values().all(|count| *count == 1), "{probed:?}");
}

#[tokio::test]
async fn one_bad_instance_gets_nothing_and_its_neighbours_serve() {
    let fake = fleet(3, Record::Full).await;
    fake.tamper_instance(1, "debug-td").unwrap();
    let mut config = config(&fake);
    config.pool.requests = 1;
    let proxy = Proxy::start(config).await;
    for _ in 0..12 {
        assert_eq!(proxy.chat().await.status, StatusCode::OK);
    }
    let bad: Vec<_> = fake
        .received()
        .into_iter()
        .filter(|connection| connection.instance == 1)
        .collect();
    assert!(probes(&bad) > 0);
    assert_only_probes(&bad);
}

#[tokio::test]
async fn a_stolen_certificate_among_honest_ones_gets_nothing() {
    let fake = fleet(2, Record::Full).await;
    fake.steal(0, 1).unwrap();
    let mut config = config(&fake);
    config.pool.requests = 1;
    let proxy = Proxy::start(config).await;
    for _ in 0..6 {
        assert_eq!(proxy.chat().await.status, StatusCode::OK);
    }
    let thief = |connection: &&fake_tee::serve::Connection| connection.instance == 0;
    let received = fake.received();
    assert!(
        received
            .iter()
            .filter(thief)
            .all(|one| one.bytes.is_empty())
    );
}

#[tokio::test]
async fn a_key_that_rotates_is_attested_anew() {
    let fake = fleet(1, Record::Full).await;
    let mut config = config(&fake);
    config.verdict_ttl = Duration::from_secs(2);
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    let new = fake.rotate(0).unwrap();
    // The kept connection is on the old key, whose verdict stands for a while;
    // asked again it names the new one, and is left for a new connection.
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    let last = fake.received().pop().unwrap();
    assert_eq!(last.spki_sha256, new);
    assert!(
        last.request_lines
            .iter()
            .any(|line| line.starts_with("POST "))
    );
}

#[tokio::test]
async fn a_signature_is_asked_of_who_gave_the_answer() {
    let fake = fleet(3, Record::Full).await;
    let proxy = Proxy::in_front_of(&fake).await;
    for stream in [false, true] {
        for _ in 0..4 {
            let answer = proxy.request(chat_request(stream)).await;
            assert_eq!(answer.status, StatusCode::OK);
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let id = text.split("\"id\":\"").nth(1).unwrap();
            let id = id.split('"').next().unwrap();
            // Others come between.
            fake.restart(0).unwrap();
            assert_eq!(proxy.chat().await.status, StatusCode::OK);
            let signature = proxy.get(&format!("/v1/signature/{id}")).await;
            let said = String::from_utf8_lossy(&signature.body).into_owned();
            assert_eq!(signature.status, StatusCode::OK, "{said}");
        }
    }
    let unknown = proxy.get("/v1/signature/chatcmpl-unknown").await;
    assert_eq!(unknown.code(), "not_found");
}

/// A small generator of numbers that are the same in every run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// A fate within what a whole exchange has: (sent, received) on TCP and above TLS.
fn fate(number: u64, tcp: (u64, u64), plain: (u64, u64)) -> Fault {
    let mut numbers = Numbers(number);
    let act = [Act::Close, Act::Reset, Act::Stall][numbers.below(3) as usize];
    match numbers.below(5) {
        0 => Fault::Tcp(Point::Sent(numbers.below(tcp.0)), act),
        1 => Fault::Tcp(Point::Received(numbers.below(tcp.1)), act),
        // The answer, which is small beside the report.
        2 => Fault::Plain(Point::Sent(plain.0 - numbers.below(8_000)), act),
        3 => Fault::Plain(Point::Sent(numbers.below(plain.0)), act),
        _ => Fault::Plain(Point::Received(numbers.below(plain.1)), act),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_hangs_and_nothing_is_sent_twice_wherever_it_is_cut() {
    let cuts = count("VERIFIED_PROXY_CUTS", 300);
    let fake = fleet(1, Record::Full).await;
    let mut config = config(&fake);
    // How much a whole exchange is.
    let answer = Proxy::start(config.clone())
        .await
        .request(streamed("whole"))
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    let whole = fake.received().pop().unwrap();
    assert!(whole.plain_bytes.0 > 16_000, "{:?}", whole.plain_bytes);
    // Every other connection is left alone.
    fake.every_connection(move |number| match number % 2 {
        0 => fate(number, whole.tcp_bytes, whole.plain_bytes),
        _ => Fault::None,
    });
    config.backend_timeouts = BackendTimeouts {
        connect: Duration::from_secs(1),
        first_byte: Duration::from_secs(1),
        idle: Duration::from_secs(1),
        ..BackendTimeouts::default()
    };
    config.attest_timeout = Duration::from_secs(3);
    // Three hundred new proxies: each would make its verdict twice.
    config.compose_source = ComposeSource::Off;
    config.compose_tags_source = ComposeSource::Off;
    let patience = Duration::from_secs(15);
    let outcomes = Arc::new([const { AtomicUsize::new(0) }; 3]);
    let places = Arc::new(tokio::sync::Semaphore::new(24));
    let mut requests = tokio::task::JoinSet::new();
    for number in 0..cuts {
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let (config, outcomes) = (config.clone(), Arc::clone(&outcomes));
        requests.spawn(async move {
            let _place = place;
            // A proxy that knows nothing yet: handshake, probe and request are
            // on the connection that is cut.
            let proxy = Proxy::start(config).await;
            let asked = async {
                let response = proxy.send(streamed(&format!("marker-{number}-"))).await;
                let status = response.status();
                (status, response.into_body().collect().await)
            };
            let (status, body) = tokio::time::timeout(patience, asked)
                .await
                .expect("it hangs");
            let outcome = match (status, body) {
                (StatusCode::OK, Ok(body)) => {
                    let body = body.to_bytes();
                    let text = String::from_utf8_lossy(&body);
                    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
                    0
                }
                (StatusCode::OK, Err(_)) => 1,
                (_, body) => {
                    let body = body.unwrap().to_bytes();
                    let text = String::from_utf8_lossy(&body).into_owned();
                    assert!(text.contains("\"code\":\""), "{status} {text}");
                    2
                }
            };
            outcomes[outcome].fetch_add(1, Ordering::Relaxed);
        });
    }
    while let Some(ended) = requests.join_next().await {
        ended.unwrap();
    }
    let whole: String = fake
        .received()
        .iter()
        .map(|connection| String::from_utf8_lossy(&connection.bytes).into_owned() + "\n")
        .collect();
    for number in 0..cuts {
        let times = whole.matches(&format!("marker-{number}-")).count();
        assert!(times <= 1, "request {number} was sent {times} times");
    }
    let seen: Vec<_> = outcomes
        .iter()
        .map(|one| one.load(Ordering::Relaxed))
        .collect();
    println!(
        "{cuts} cuts: {} answered, {} aborted, {} refused",
        seen[0], seen[1], seen[2]
    );
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

/// Between the arrival of a request for evidence and the verdict on it: the
/// report is made, sent and judged. Some ten milliseconds on an idle machine.
const JUDGING: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_outlive_a_rotation_and_a_restart() {
    const WORKERS: usize = 32;
    const TTL: Duration = Duration::from_secs(2);
    let requests = count("VERIFIED_PROXY_SOAK", 3_000);
    // Not over before a verdict that was kept for too long would show.
    let long_enough = Instant::now() + 2 * TTL + JUDGING;
    let fake = Arc::new(fleet(3, Record::Heads).await);
    let mut config = config(&fake);
    // Made anew several times, and connections change hands between instances.
    config.verdict_ttl = TTL;
    config.pool.requests = 50;
    let proxy = Arc::new(Proxy::start(config).await);
    let ledger = Arc::new(Ledger::default());
    let (next, broken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let rotated = Arc::new(OnceLock::new());
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        let (fake, proxy, ledger) = (Arc::clone(&fake), Arc::clone(&proxy), Arc::clone(&ledger));
        let (next, broken) = (Arc::clone(&next), Arc::clone(&broken));
        let rotated = Arc::clone(&rotated);
        workers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= requests && Instant::now() >= long_enough {
                    return;
                }
                if number == requests / 3 {
                    let old = fake.spki_sha256();
                    fake.rotate(0).unwrap();
                    rotated.set((old, SystemTime::now())).unwrap();
                }
                if number == 2 * requests / 3 {
                    fake.restart(1).unwrap();
                }
                let marker = format!("number-{number}-");
                let answer = proxy.request(ledger.prompt(&marker, false)).await;
                if answer.status == StatusCode::OK {
                    let said = String::from_utf8_lossy(&answer.body);
                    assert!(said.contains(&marker), "{marker} was told {said}");
                } else {
                    assert_eq!(answer.code(), "backend_broke_off", "{}", answer.message());
                    broken.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
    // Those that an instance had in hand when it was restarted; they are not
    // sent again, since nobody knows what was made of them.
    let broken = broken.load(Ordering::Relaxed);
    assert!(broken <= WORKERS, "{broken}");
    let requests = ledger.len();

    let received = fake.received();
    let mut probes = probe_times(&received);
    // On the old key, evidence is about the new one from then on: refused.
    let (old, rotated) = rotated.get().unwrap();
    probes.get_mut(old).unwrap().retain(|at| at <= rotated);
    let (mut arrived, mut keys, mut oldest) = (HashSet::new(), HashSet::new(), Duration::ZERO);
    for (connection, post) in posts(&received) {
        keys.insert(connection.spki_sha256);
        if post.complete {
            assert!(arrived.insert(post.body_sha256), "sent twice");
        }
        // It was sent on its verdict at some moment between these two, and not
        // before the evidence was asked for.
        let (begun, at) = (ledger.begun(post), post.at);
        let asked = probes[&connection.spki_sha256].iter();
        let asked = asked.filter(|asked| **asked <= at).max();
        let age = begun
            .duration_since(*asked.expect("sent before the evidence"))
            .unwrap_or_default();
        assert!(
            age < TTL + JUDGING,
            "sent on evidence of {age:?} before, which stands for {TTL:?}"
        );
        oldest = oldest.max(age);
    }
    assert!(
        arrived.len() >= requests - broken,
        "{} of {requests} arrived whole, {broken} broken",
        arrived.len()
    );
    // Three at first, one more after the rotation.
    assert_eq!(keys.len(), 4);
    println!(
        "{requests} requests, {broken} broken off by the restart, {} connections, {} reports, \
         the oldest {oldest:?} old when a request began",
        received.len(),
        probes.values().map(Vec::len).sum::<usize>()
    );
}

#[tokio::test]
async fn a_body_without_a_length_goes_on_whatever_the_method() {
    let fake = fleet(1, Record::Full).await;
    let proxy = Proxy::in_front_of(&fake).await;
    for method in ["GET", "DELETE", "POST"] {
        fake.clear();
        let answer = proxy
            .raw(
                format!(
                    "{method} /v1/odd HTTP/1.1\r\nhost: localhost\r\nx-backend-domain: {DOMAIN}\r\n\
                     transfer-encoding: chunked\r\nconnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
                )
                .as_bytes(),
            )
            .await;
        assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
        let sent: String = fake
            .received()
            .iter()
            .map(|connection| String::from_utf8_lossy(&connection.bytes).into_owned())
            .collect();
        assert!(sent.contains("hello"), "{method}: {sent}");
    }
}

#[tokio::test]
async fn tls_1_2_is_proved_the_same_way() {
    let mut options = Options {
        instances: 2,
        ..Options::default()
    };
    options.transport.tls12_only = true;
    let fake = fake_with(options).await;
    let mut config = config(&fake);
    config.pool.requests = 1;
    let proxy = Proxy::start(config.clone()).await;
    for _ in 0..4 {
        assert_eq!(proxy.chat().await.status, StatusCode::OK);
    }
    // A certificate whose key the server lacks gets nothing here either.
    fake.steal(0, 1).unwrap();
    fake.pin(Some(0));
    fake.clear();
    let answer = Proxy::start(config).await.chat().await;
    assert_eq!(answer.code(), "backend_certificate");
    assert!(fake.received().iter().all(|one| one.bytes.is_empty()));
}
