//! Verdicts that end, and one that is refused, while many clients send and read:
//! threats.md B6.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use attest::UnixTime;
use fake_tee::serve::{Options, Record, Running, unix_now};
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;
use proxy::config::Clock;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::harness::*;

const SENDERS: usize = 16;
const READERS: usize = 8;
const APART: Duration = Duration::from_millis(150);

/// What a client was told.
struct Told {
    marker: String,
    streamed: bool,
    begun: SystemTime,
    ended: SystemTime,
    /// The whole answer with this request's own text, or the code of an error.
    outcome: Result<(), String>,
}

/// Clients that send one request after another: some have whole answers in no
/// time, some read streams of a second.
struct Load {
    proxy: Arc<Proxy>,
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    /// Answers that were whole, of each client.
    good: Arc<Vec<AtomicUsize>>,
    /// Answers that were not, of all.
    bad: Arc<AtomicUsize>,
    clients: JoinSet<Vec<Told>>,
}

impl Load {
    fn start(proxy: &Arc<Proxy>) -> Self {
        let mut load = Self {
            proxy: Arc::clone(proxy),
            ledger: Arc::default(),
            stop: Arc::default(),
            good: Arc::new(
                (0..SENDERS + READERS)
                    .map(|_| AtomicUsize::new(0))
                    .collect(),
            ),
            bad: Arc::default(),
            clients: JoinSet::new(),
        };
        for number in 0..SENDERS + READERS {
            let (proxy, ledger) = (Arc::clone(proxy), Arc::clone(&load.ledger));
            let (stop, good) = (Arc::clone(&load.stop), Arc::clone(&load.good));
            let bad = Arc::clone(&load.bad);
            load.clients.spawn(async move {
                let mut told = Vec::new();
                if number >= SENDERS {
                    // One after another, so that some are always in the middle.
                    tokio::time::sleep(APART * u32::try_from(number - SENDERS).unwrap()).await;
                }
                while !stop.load(Ordering::Relaxed) {
                    let marker = format!("client-{number}-{}-", told.len());
                    let one = ask(&proxy, &ledger, marker, number >= SENDERS).await;
                    if one.outcome.is_ok() {
                        good[number].fetch_add(1, Ordering::Relaxed);
                    } else {
                        bad.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    told.push(one);
                }
                told
            });
        }
        load
    }

    /// Waits until every client has had another whole answer.
    async fn go_on(&self) {
        let counts = || self.good.iter().map(|count| count.load(Ordering::Relaxed));
        let before: Vec<_> = counts().collect();
        let more = || counts().zip(&before).all(|(now, before)| now > *before);
        until("an answer for everybody", more).await;
    }

    async fn end(mut self) -> (Arc<Ledger>, Vec<Told>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        while let Some(told) = self.clients.join_next().await {
            all.extend(told.unwrap());
        }
        drop(self.proxy);
        (self.ledger, all)
    }
}

async fn ask(proxy: &Proxy, ledger: &Ledger, marker: String, streamed: bool) -> Told {
    let begun = SystemTime::now();
    let mut request = ledger.prompt(&marker, streamed);
    if streamed {
        // Between seven frames: more than a second.
        let pause = HeaderValue::from_static("200");
        request.headers_mut().insert("x-fake-delay-ms", pause);
    }
    let (head, body) = proxy.send(request).await.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes());
    let outcome = match (head.status, body) {
        (StatusCode::OK, Ok(body)) => {
            let text = String::from_utf8_lossy(&body);
            assert!(text.contains(&marker), "{marker} was told {text}");
            assert!(!streamed || text.ends_with("data: [DONE]\n\n"), "{text}");
            Ok(())
        }
        (StatusCode::OK, Err(_)) => Err("aborted".to_owned()),
        (status, body) => {
            let answer = Answer {
                status,
                headers: head.headers,
                body: body.unwrap(),
            };
            Err(format!("{} {}", status.as_u16(), answer.code()))
        }
    };
    Told {
        marker,
        streamed,
        begun,
        ended: SystemTime::now(),
        outcome,
    }
}

async fn fleet(instances: usize) -> Running {
    fake_with(Options {
        instances,
        record: Record::Heads,
        ..Options::default()
    })
    .await
}

/// The proxy's own page.
async fn verdicts(proxy: &Proxy) -> Vec<Value> {
    let json = proxy.get("/_proxy/verdicts").await.json();
    json["verdicts"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_on_a_verdict_that_ended_in_a_sleep() {
    const INSTANCES: usize = 2;
    const SLEEPS: usize = 3;
    const TTL: u64 = 600;
    let fake = fleet(INSTANCES).await;
    let time = Arc::new(AtomicU64::new(unix_now()));
    let read = Arc::clone(&time);
    let mut config = config(&fake);
    // Stands still but for the sleeps, as the monotonic clock does in them.
    config.clock = Clock::from_fn(move || UnixTime(read.load(Ordering::SeqCst)));
    config.verdict_ttl = Duration::from_secs(TTL);
    let proxy = Arc::new(Proxy::start(config).await);
    let load = Load::start(&proxy);
    let mut sleeps = Vec::new();
    for _ in 0..=SLEEPS {
        // Both keys have verdicts that stand, so nobody asks for evidence now.
        let (now, began) = (time.load(Ordering::SeqCst), Instant::now());
        let stands = |one: &&Value| one["valid_until"].as_u64() > Some(now);
        while verdicts(&proxy).await.iter().filter(stands).count() < INSTANCES {
            assert!(began.elapsed() < PATIENCE, "a key is not attested again");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        load.go_on().await;
        if sleeps.len() < SLEEPS {
            let before = SystemTime::now();
            time.fetch_add(TTL, Ordering::SeqCst);
            sleeps.push((before, SystemTime::now()));
        }
    }
    let (ledger, told) = load.end().await;

    for one in &told {
        assert_eq!(one.outcome, Ok(()), "{}", one.marker);
    }
    let received = fake.received();
    let probes = probe_times(&received);
    let (mut arrived, mut after) = (HashSet::new(), [0; SLEEPS]);
    for (connection, post) in posts(&received) {
        assert!(arrived.insert(post.body_sha256), "sent twice");
        let begun = ledger.begun(post);
        let last = sleeps.iter().rposition(|(_, awake)| begun > *awake);
        if let Some(last) = last {
            after[last] += 1;
            let (asleep, _) = sleeps[last];
            let mut asked = probes[&connection.spki_sha256].iter();
            assert!(
                asked.any(|asked| asleep < *asked && *asked <= post.at),
                "sent on a verdict from before sleep {last}"
            );
        }
    }
    assert_eq!(arrived.len(), told.len());
    assert!(after.iter().all(|count| *count > 0), "{after:?}");
    // However many find the verdict ended, one of them attests.
    for asked in probes.values() {
        assert_eq!(asked.len(), 1 + SLEEPS);
    }
    for (asleep, awake) in &sleeps {
        let through = told
            .iter()
            .filter(|one| one.streamed && one.begun < *asleep && one.ended > *awake);
        assert!(through.count() > 0, "no answer was under way");
    }
    println!("{} answers, after the sleeps {after:?}", told.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_renewal_stops_all_that_has_not_begun() {
    let fake = fleet(1).await;
    let (now, mut config) = (unix_now(), config(&fake));
    // What ends a verdict here is the monotonic clock.
    config.clock = Clock::from_fn(move || UnixTime(now));
    config.verdict_ttl = Duration::from_secs(4);
    let proxy = Arc::new(Proxy::start(config).await);
    let load = Load::start(&proxy);
    load.go_on().await;
    let tampered = SystemTime::now();
    fake.tamper("debug-td").unwrap();
    // Renewed after three seconds of four.
    let rejected = |one: &Value| one["code"] == "rejected_td_debug";
    while !verdicts(&proxy).await.iter().any(rejected) {
        assert!(tampered.elapsed().unwrap() < PATIENCE, "not renewed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // It has been refused, whenever that was.
    let refused = SystemTime::now();
    // More than can be under way.
    let enough = load.bad.load(Ordering::Relaxed) + 3 * (SENDERS + READERS);
    until("refusals", || load.bad.load(Ordering::Relaxed) >= enough).await;
    let mended = SystemTime::now();
    fake.tamper("none").unwrap();
    // A key that was refused is left alone for some seconds. The first answer
    // may have begun before.
    load.go_on().await;
    load.go_on().await;
    let (ledger, told) = load.end().await;

    let codes: HashSet<_> = told
        .iter()
        .filter_map(|one| one.outcome.as_ref().err())
        .map(String::as_str)
        .collect();
    assert!(codes.contains("502 rejected_td_debug"), "{codes:?}");
    // A body that is on its way when its machine is refused stops.
    let others = codes
        .iter()
        .filter(|code| !code.ends_with("rejected_td_debug"));
    assert!(
        others.clone().all(|code| *code == "502 backend_broke_off"),
        "{codes:?}"
    );
    let in_between = |one: &&Told| one.begun > refused && one.ended < mended;
    for one in told.iter().filter(in_between) {
        assert!(one.outcome.is_err(), "{}", one.marker);
    }
    assert!(told.iter().filter(in_between).count() >= SENDERS);
    for one in told.iter().filter(|one| one.ended < tampered) {
        assert_eq!(one.outcome, Ok(()), "{}", one.marker);
    }
    let received = fake.received();
    let probes = probe_times(&received);
    let (mut arrived, mut before, mut after) = (HashSet::new(), 0, 0);
    for (_, post) in posts(&received) {
        assert!(arrived.insert(post.body_sha256), "sent twice");
        let begun = ledger.begun(post);
        if begun < refused {
            before += 1;
            continue;
        }
        after += 1;
        let mut asked = probes.values().flatten();
        assert!(
            asked.any(|asked| mended < *asked && *asked <= post.at),
            "sent {:?} after the refusal",
            begun.duration_since(refused)
        );
    }
    assert_eq!(
        arrived.len(),
        told.iter().filter(|one| one.outcome.is_ok()).count()
    );
    assert!(before > SENDERS && after > SENDERS, "{before} {after}");
    // An answer that had begun goes on to its end, and its connection ends with it.
    let pause = Duration::from_millis(300);
    let through = told.iter().filter(|one| {
        one.streamed && one.outcome.is_ok() && one.begun < refused && one.ended > refused + pause
    });
    let mut count = 0;
    for one in through {
        let (connection, post) = posts(&received)
            .find(|(_, post)| ledger.marker(post) == one.marker)
            .unwrap();
        assert_eq!(connection.requests.last(), Some(post), "it was used again");
        assert!(connection.closed.is_some());
        count += 1;
    }
    assert!(count > 0, "no answer was under way");
    println!("{before} sent before the refusal, {after} after it was mended, {count} under way");
}
