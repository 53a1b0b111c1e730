//! Behind one name some machines are refused and some are not, and a balancer chooses for
//! each connection: threats.md B4.

#![expect(
    clippy::disallowed_methods,
    reason = "tests play the balancer, who may dial"
)]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake_tee::serve::{Connection, Options, Record, Running};
use http::{Response, StatusCode};
use proxy::Config;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::harness::*;

/// Connections that one request may make, and requests for evidence in vain.
const CONNECTIONS: usize = 32;
const ASKED: usize = 8;

async fn fleet(instances: usize) -> Running {
    fake_with(Options {
        instances,
        record: Record::Full,
        ..Options::default()
    })
    .await
}

/// As many as the environment says, or fewer.
fn count(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |text| text.parse().unwrap())
}

/// Heads and tails that are the same in every run (xorshift64).
struct Coin(u64);

impl Coin {
    fn toss(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize & 1
    }
}

fn of(received: &[Connection], instance: usize) -> Vec<Connection> {
    let of = received.iter().filter(|one| one.instance == instance);
    of.cloned().collect()
}

/// Makes instance 1 of two one that is refused.
type Spoil = fn(&Running);

const SPOILT: &[(&str, Spoil)] = &[
    ("a debug TD", |fake| {
        fake.tamper_instance(1, "debug-td").unwrap();
    }),
    ("no report", |fake| {
        fake.tamper_instance(1, "garbage").unwrap()
    }),
    ("another model", |fake| {
        fake.tamper_instance(1, "wrong-model").unwrap();
    }),
    ("a stolen certificate", |fake| fake.steal(1, 0).unwrap()),
];

/// The first request of all, however long the balancer chooses the wrong one.
#[tokio::test]
async fn a_cold_request_finds_the_machine_that_is_not_refused() {
    for (what, spoil) in SPOILT {
        let fake = fleet(2).await;
        spoil(&fake);
        for wrong in [0, 1, 3, CONNECTIONS - 1] {
            fake.clear();
            fake.order_instances(std::iter::repeat_n(1, wrong).chain([0]));
            let accepted = |fake: &Running| fake.instances().iter().map(|one| one.accepted).sum();
            let before: u64 = accepted(&fake);
            let proxy = Proxy::in_front_of(&fake).await;
            let answer = proxy.chat().await;
            assert_eq!(answer.status, StatusCode::OK, "{what} {wrong}");
            let made: u64 = accepted(&fake) - before;
            assert_eq!(made, wrong as u64 + 1, "{what} {wrong}");
            let received = fake.received();
            let refused = of(&received, 1);
            assert_only_probes(&refused);
            assert!(probes(&refused) <= 3, "{what} {wrong}");
            drop(proxy);
            let is_closed = |one: &Connection| one.closed.is_some();
            until("closed", || fake.received().iter().all(is_closed)).await;
        }
    }
}

/// Each on a connection of its own to the machine that the coin chooses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_machines_one_refused_every_request_is_answered() {
    let (cold, warm) = (
        count("VERIFIED_PROXY_COLD", 12),
        count("VERIFIED_PROXY_WARM", 200),
    );
    let fake = Arc::new(fleet(2).await);
    fake.tamper_instance(1, "debug-td").unwrap();
    let mut coin = Coin(0x9e37_79b9_7f4a_7c15);
    let tosses = 64 * (cold + warm);
    fake.order_instances((0..tosses).map(|_| coin.toss()));
    for number in 0..cold {
        let proxy = Proxy::in_front_of(&fake).await;
        assert_eq!(proxy.chat().await.status, StatusCode::OK, "cold {number}");
    }
    let mut config = config(&fake);
    config.pool.requests = 1;
    let proxy = Arc::new(Proxy::start(config).await);
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..8 {
        let (proxy, next) = (Arc::clone(&proxy), Arc::clone(&next));
        workers.spawn(async move {
            while next.fetch_add(1, Ordering::Relaxed) < warm {
                let answer = proxy.chat().await;
                assert_eq!(answer.status, StatusCode::OK);
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
    let received = fake.received();
    let refused = of(&received, 1);
    assert_only_probes(&refused);
    // Remembered: by far not every connection is asked.
    assert!(refused.len() > warm / 4, "{}", refused.len());
    println!(
        "{cold} cold and {warm} warm requests, {} connections to the refused machine, {} probes",
        refused.len(),
        probes(&refused)
    );
}

/// A connection to a machine that is verified is kept, and taken before a new one.
#[tokio::test]
async fn a_connection_to_a_good_machine_is_kept() {
    let fake = fleet(2).await;
    fake.tamper_instance(1, "debug-td").unwrap();
    fake.order_instances([1, 0]);
    let proxy = Proxy::in_front_of(&fake).await;
    // From here on the balancer has nothing but the other.
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    fake.pin(Some(1));
    tokio::time::sleep(Duration::from_millis(50)).await;
    for _ in 0..5 {
        assert_eq!(proxy.chat().await.status, StatusCode::OK);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(fake.received().len(), 2);
}

/// What a domain can cost where every machine is refused.
#[tokio::test]
async fn a_search_in_vain_ends_and_is_not_repeated_at_once() {
    for (what, tampering, code) in [
        ("machines", "debug-td", "rejected_td_debug"),
        ("reports", "garbage", "evidence_not_json"),
        ("models", "wrong-model", "rejected_model"),
    ] {
        let fake = fleet(2).await;
        fake.tamper_instance(0, tampering).unwrap();
        fake.tamper_instance(1, tampering).unwrap();
        let proxy = Proxy::in_front_of(&fake).await;
        let answer = proxy.chat().await;
        assert_eq!(answer.code(), code, "{what}");
        let message = answer.message();
        let tried = format!("{CONNECTIONS} connections were tried");
        assert!(message.contains(&tried), "{message}");
        // The same refusal is told once or twice, not thirty times.
        assert!(message.lines().count() < 12, "{message}");
        assert_eq!(fake.received().len(), CONNECTIONS, "{what}");
        assert!(probes(&fake.received()) <= ASKED, "{what}");
        fake.clear();
        for _ in 0..3 {
            assert_eq!(proxy.chat().await.code(), code, "{what}");
        }
        assert_eq!(fake.received().len(), 3 * 3, "{what}");
        assert_only_probes(&fake.received());
        // A machine that is not refused is found again.
        fake.tamper_instance(0, "none").unwrap();
        fake.rotate(0).unwrap();
        fake.order_instances([1, 1, 0]);
        assert_eq!(proxy.chat().await.status, StatusCode::OK, "{what}");
    }
}

/// Between the proxy and several backends: chooses one for each connection.
struct Balancer {
    address: SocketAddr,
    made: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Balancer {
    async fn start(mut choose: impl FnMut(usize) -> SocketAddr + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let made = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&made);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let target = choose(counted.fetch_add(1, Ordering::SeqCst));
                connections.spawn(async move {
                    let mut server = TcpStream::connect(target).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self {
            address,
            made,
            task,
        }
    }

    /// What points a proxy here.
    fn before(&self, config: Config) -> Config {
        let to = format!("{DOMAIN}:443:127.0.0.1:{}", self.address.port());
        Config {
            connect_to: vec![to.parse().unwrap()],
            ..config
        }
    }
}

/// A machine that attests nothing is left as well: outside a TEE, just booting, or breaking off.
#[tokio::test]
async fn a_machine_without_a_report_does_not_hide_the_one_with_one() {
    for status in [404, 502, 401] {
        let fake = fleet(1).await;
        let oddities = Oddities {
            report_status: StatusCode::from_u16(status).unwrap(),
            ..NO_ODDITIES
        };
        let other = Scripted::start(&fake, oddities, |_| {
            Response::new(Script::whole(Vec::new()))
        });
        let other = other.await;
        let (good, bad) = (fake.backend, other.address);
        for wrong in [2, 9, CONNECTIONS - 1] {
            fake.clear();
            let balancer =
                Balancer::start(move |number| if number < wrong { bad } else { good }).await;
            let mut config = balancer.before(config(&fake));
            config.extra_ca.push(ca(&other.ca_pem));
            let before = other.lines().len();
            let answer = Proxy::start(config).await.chat().await;
            assert_eq!(answer.status, StatusCode::OK, "{status} {wrong}");
            assert_eq!(balancer.made.load(Ordering::SeqCst), wrong + 1);
            let lines = other.lines().split_off(before);
            assert_eq!(lines.len(), wrong.min(3), "{status} {wrong}");
            let probe = "GET /v1/attestation/report?";
            assert!(lines.iter().all(|line| line.starts_with(probe)));
        }
        // Alone it is what the answer is about.
        let balancer = Balancer::start(move |_| bad).await;
        let mut config = balancer.before(config(&fake));
        config.extra_ca.push(ca(&other.ca_pem));
        let answer = Proxy::start(config).await.chat().await;
        assert_eq!(answer.code(), "evidence_unavailable");
        assert!(answer.message().contains(&status.to_string()));
    }
}

/// A hostile domain that shows another key on each connection.
#[tokio::test]
async fn a_new_key_on_each_connection_costs_few_attestations() {
    let fake = Arc::new(fleet(1).await);
    fake.tamper("debug-td").unwrap();
    let keys = Arc::new(Mutex::new(HashSet::new()));
    let (rotating, seen) = (Arc::clone(&fake), Arc::clone(&keys));
    let backend = fake.backend;
    let balancer = Balancer::start(move |_| {
        seen.lock().unwrap().insert(rotating.rotate(0).unwrap());
        backend
    })
    .await;
    let proxy = Proxy::start(balancer.before(config(&fake))).await;
    assert_eq!(proxy.chat().await.code(), "rejected_td_debug");
    let made = balancer.made.load(Ordering::SeqCst);
    assert_eq!((made, keys.lock().unwrap().len()), (ASKED, ASKED));
    assert_only_probes(&fake.received());
}
