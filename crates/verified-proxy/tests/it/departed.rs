//! Clients that leave, at each stage of a request, with and without bytes that the proxy has
//! not read: nothing goes on for them, and nothing begins (threats.md C7).
#![cfg(unix)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests play the client, who may dial"
)]

use std::net::SocketAddr;
use std::time::Duration;

use fake_tee::serve::{Act, Fault, Point, Running};
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::*;

/// Behind the request, when the client leaves.
const EXTRA: [&[u8]; 4] = [
    b"",
    b"\r\n",
    b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"POST /v1/chat",
];

#[derive(Debug, Clone, Copy)]
enum Leaves {
    Closes,
    Resets,
    /// The half that it writes to.
    ClosesHalf,
}

const LEAVES: [Leaves; 3] = [Leaves::Closes, Leaves::Resets, Leaves::ClosesHalf];

/// The head of a chat with a body of `length` bytes.
fn head(headers: &str, length: usize) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n{headers}\r\n"
    )
}

fn body(stream: bool) -> String {
    format!(
        r#"{{"model":"{MODEL}","stream":{stream},"messages":[{{"role":"user","content":"{CANARY}"}}]}}"#
    )
}

async fn says(address: SocketAddr, text: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(text.as_bytes()).await.unwrap();
    client
}

/// What is kept of the client: a socket that is half closed.
async fn leave(mut client: TcpStream, how: Leaves, extra: &[u8]) -> Option<TcpStream> {
    client.write_all(extra).await.unwrap();
    match how {
        Leaves::Closes => None,
        Leaves::Resets => {
            // The bytes before it arrive first.
            tokio::time::sleep(Duration::from_millis(20)).await;
            client.set_zero_linger().unwrap();
            None
        }
        Leaves::ClosesHalf => {
            client.shutdown().await.unwrap();
            Some(client)
        }
    }
}

/// One of the gauges of what clients hold.
pub(crate) async fn held(proxy: &Proxy, what: &str) -> u64 {
    let text = String::from_utf8(proxy.get("/_proxy/metrics").await.body.to_vec()).unwrap();
    let name = format!("verified_proxy_held_now{{what=\"{what}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("{what}: {text}"))
        .parse()
        .unwrap()
}

async fn until_held(proxy: &Proxy, what: &str, amount: u64) {
    let began = std::time::Instant::now();
    loop {
        let now = held(proxy, what).await;
        if now == amount {
            return;
        }
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{what}: {now}, not {amount}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Everything that departed clients held is free within two seconds.
async fn all_is_free(proxy: &Proxy, backend_holds: u64) {
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    for (what, amount) in [("backend", backend_holds), ("body_memory", 0)] {
        assert_eq!(held(proxy, what).await, amount, "{what}");
    }
}

fn chats(fake: &Running) -> usize {
    posts(&fake.received()).count()
}

/// Connections to the backend that are open.
fn open(fake: &Running) -> usize {
    let received = fake.received();
    received.iter().filter(|one| one.closed.is_none()).count()
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_backends_work_at_each_stage() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    let address = proxy.address;
    let (whole, streamed) = (body(false), body(true));
    let half = format!(r#"{{"model":"{MODEL}","messages":["{CANARY}"#);
    let mut clients = Vec::new();
    for how in LEAVES {
        for extra in EXTRA {
            // The backend has not begun to answer.
            let waits = head("x-fake: hang\r\n", whole.len()) + &whole;
            clients.push((says(address, &waits).await, how, extra));
            // It is in the middle of its answer, and silent.
            let reads = head("x-fake-delay-ms: 600000\r\n", streamed.len()) + &streamed;
            let mut client = says(address, &reads).await;
            client.read_exact(&mut [0; 12]).await.unwrap();
            clients.push((client, how, extra));
            // The body is on its way.
            let sends = head("", 900_000) + &half;
            clients.push((says(address, &sends).await, how, b"".as_slice()));
        }
    }
    let all = clients.len();
    until("all are at the backend", || chats(&fake) == 1 + all).await;
    assert_eq!(held(&proxy, "backend").await, all as u64);
    let mut halves = Vec::new();
    for (client, how, extra) in clients {
        halves.extend(leave(client, how, extra).await);
    }
    all_is_free(&proxy, 0).await;
    // The connection of the first chat may lie idle.
    assert!(open(&fake) <= 1, "{} connections are open", open(&fake));
    // Those that closed half of the connection see its end, and no answer.
    for mut half in halves {
        let mut rest = Vec::new();
        let _ = half.read_to_end(&mut rest).await;
        assert!(
            !rest.starts_with(b"HTTP/1.1 5"),
            "{}",
            String::from_utf8_lossy(&rest)
        );
    }
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
}

#[tokio::test]
async fn nothing_begins_for_a_client_that_left_before_the_proof() {
    let fake = fake().await;
    // No report is sent.
    fake.every_connection(|_| Fault::Plain(Point::Sent(0), Act::Stall));
    let proxy = Proxy::in_front_of(&fake).await;
    let named = format!("x-backend-domain: {DOMAIN}\r\n");
    let large = body(false) + &" ".repeat(200 << 10);
    let mut clients = Vec::new();
    for how in LEAVES {
        for extra in EXTRA {
            let text = head("", body(false).len()) + &body(false);
            clients.push((says(proxy.address, &text).await, how, extra));
            // The proxy does not read the body before the proof.
            let text = head(&named, large.len()) + &body(false);
            clients.push((says(proxy.address, &text).await, how, extra));
        }
    }
    let all = clients.len() as u64;
    until_held(&proxy, "backend", all).await;
    let mut halves = Vec::new();
    for (client, how, extra) in clients {
        halves.extend(leave(client, how, extra).await);
    }
    all_is_free(&proxy, 0).await;
    fake.every_connection(|_| Fault::None);
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(chats(&fake), 1);
}

#[tokio::test]
async fn nothing_begins_for_a_client_that_left_while_it_waited_for_a_place() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.pool.per_backend = 8;
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    let text = head("x-fake: hang\r\n", body(false).len()) + &body(false);
    let mut holders = Vec::new();
    for _ in 0..8 {
        holders.push(says(proxy.address, &text).await);
    }
    until("they are at the backend", || chats(&fake) == 9).await;
    let mut waiting = Vec::new();
    for how in LEAVES {
        for extra in EXTRA {
            waiting.push((says(proxy.address, &text).await, how, extra));
        }
    }
    until_held(&proxy, "backend", 20).await;
    let mut halves = Vec::new();
    for (client, how, extra) in waiting {
        halves.extend(leave(client, how, extra).await);
    }
    all_is_free(&proxy, 8).await;
    drop(holders);
    all_is_free(&proxy, 0).await;
    assert_eq!(chats(&fake), 9);
}
