//! A thousand clients, or backends, that stop in the middle: threats.md B7, C7.
#![cfg(target_os = "linux")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests play the client, who may dial"
)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fake_tee::serve::{Connection, Options, Record, Running};
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::harness::*;

/// A request on a connection of its own, with more headers.
async fn ask(address: SocketAddr, headers: &str, stream: bool) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut client = socket.connect(address).await.unwrap();
    let body = serde_json::json!({
        "model": MODEL,
        "stream": stream,
        "messages": [{"role": "user", "content": CANARY}],
    })
    .to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(body.as_bytes()).await.unwrap();
    client
}

/// The same once the answer has begun.
async fn begun(address: SocketAddr, headers: &str) -> TcpStream {
    let mut client = ask(address, headers, true).await;
    let mut head = [0; 12];
    client.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    client
}

async fn backend() -> Running {
    fake_with(Options {
        record: Record::Heads,
        ..Options::default()
    })
    .await
}

/// Others are served, at once beside what stalls.
async fn others_are_served(program: &Program) {
    for _ in 0..10 {
        let answer = tokio::time::timeout(PATIENCE / 6, program.proxy.chat()).await;
        assert_eq!(answer.unwrap().status, StatusCode::OK);
    }
}

/// Connections with a request, still open.
fn open(fake: &Running) -> usize {
    let received = fake.received();
    let open =
        |one: &&Connection| one.closed.is_none() && posts(std::slice::from_ref(one)).count() > 0;
    received.iter().filter(open).count()
}

#[tokio::test]
async fn a_thousand_stalled_clients_cost_little_and_others_are_served() {
    let fake = backend().await;
    let proxy = Proxy::in_front_of(&fake).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    let before = resident("self");
    let mut stalled = Vec::new();
    // As many as this process may have beside its other descriptors: each is two.
    let places = rlimit::Resource::NOFILE.get_soft().unwrap_or(1_024);
    let clients = (places.saturating_sub(200) / 2).min(1_000);
    for number in 0..clients {
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        let said: &[u8] = match number % 4 {
            0 => b"",
            1 => b"POST /v1/chat",
            2 => b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-a: ",
            _ => b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n{\"messages\":[\"",
        };
        client.write_all(said).await.unwrap();
        stalled.push(client);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    let each = resident("self").saturating_sub(before) / clients;
    assert!(each < 64 << 10, "{each} bytes a client");
    println!("{clients} stalled clients, {each} bytes each");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_holds_the_backend_back() {
    const CLIENTS: usize = 16;
    const CHUNKS: u64 = 1_000;
    let fake = backend().await;
    let program = Program::start(&fake, &[]);
    assert_eq!(program.proxy.chat().await.status, StatusCode::OK);
    let before = program.resident();
    let address = program.proxy.address;
    let headers =
        format!("x-fake-chunks: {CHUNKS}\r\nx-fake-size: 65536\r\nx-fake-delay-ms: 0\r\n");
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(begun(address, &headers).await);
    }
    // Whatever fits into sockets has been sent; then the backend has to wait.
    let sent = || -> u64 { fake.received().iter().map(|one| one.plain_bytes.0).sum() };
    let (mut last, mut since) = (0, Instant::now());
    until("the backend waits", || {
        let now = sent();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_secs(1)
    })
    .await;
    let asked_for = CLIENTS as u64 * CHUNKS * (64 << 10);
    assert!(
        last < asked_for / 2,
        "{last} of {asked_for} bytes were sent"
    );
    let each = program.resident().saturating_sub(before) / CLIENTS as u64;
    // hyper by itself holds more than a megabyte.
    assert!(each < 900 << 10, "{each} bytes a client");
    others_are_served(&program).await;
    drop(clients);
    until("their connections end", || open(&fake) <= 1).await;
    println!("{CLIENTS} clients, {each} bytes each, {last} bytes on their way");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_answers_that_stall_cost_little_and_others_are_served() {
    let fake = backend().await;
    let program = Program::start(&fake, &[("--max-connections", "2000")]);
    assert_eq!(program.proxy.chat().await.status, StatusCode::OK);
    let before = program.resident();
    let address = program.proxy.address;
    // As many as this process may have beside its other descriptors: each is two.
    let places = rlimit::Resource::NOFILE.get_soft().unwrap_or(1_024);
    let count = (places.saturating_sub(200) / 2).min(1_000);
    let (mut asking, mut clients) = (JoinSet::new(), Vec::new());
    for number in 0..count {
        if asking.len() >= 32 {
            clients.extend(asking.join_next().await.map(Result::unwrap));
        }
        asking.spawn(async move {
            match number % 3 {
                // The backend says nothing.
                0 => ask(address, "x-fake-delay-ms: 600000\r\n", false).await,
                // It stops after the first words.
                1 => begun(address, "x-fake-delay-ms: 600000\r\n").await,
                // It says more than the client wants to read.
                _ => {
                    begun(
                        address,
                        "x-fake-chunks: 1000000\r\nx-fake-size: 4096\r\nx-fake-delay-ms: 100\r\n",
                    )
                    .await
                }
            }
        });
    }
    while let Some(client) = asking.join_next().await {
        clients.push(client.unwrap());
    }
    let arrived = || posts(&fake.received()).count() as u64;
    until("all are asked", || arrived() == 1 + count).await;
    others_are_served(&program).await;
    let each = program.resident().saturating_sub(before) / count;
    assert!(each < 128 << 10, "{each} bytes a client");
    assert!(open(&fake) as u64 >= count, "some have ended");
    drop(clients);
    until("their connections end", || open(&fake) <= 10).await;
    others_are_served(&program).await;
    println!("{count} stalled answers, {each} bytes each");
}
