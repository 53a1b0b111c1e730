//! Restarts and reloads under load, with a socket that a launcher holds: no request is lost,
//! and none is refused. `./check --all` does more of them.

#![expect(
    clippy::disallowed_methods,
    reason = "tests play the client, who may dial"
)]

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fake_tee::serve::Running;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::handed_over::HAND_OVER;
use crate::harness::*;

/// How often it restarts and reloads, and how many requests a second the clients would send if
/// each answer came at once: a client asks again when it has its answer.
fn size() -> (u32, u64) {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    (
        number("VERIFIED_PROXY_RESTARTS").unwrap_or(2),
        number("VERIFIED_PROXY_RATE").unwrap_or(60).into(),
    )
}

/// Half of the clients open a connection for each request, half keep one until they are told
/// that it ends.
const CLIENTS: u64 = 20;

#[derive(Default)]
struct Load {
    stop: AtomicBool,
    answered: AtomicU32,
    lost: Mutex<Vec<String>>,
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|error| format!("refused: {error}"))?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    Ok(sender)
}

/// One answer; whether the connection ends.
async fn ask(sender: &mut SendRequest<Full<Bytes>>) -> Result<bool, String> {
    let response = sender.send_request(chat_request(false)).await;
    let response = response.map_err(|error| format!("lost: {error:?}"))?;
    let (head, body) = response.into_parts();
    let body = body.collect().await;
    let body = body.map_err(|error| format!("broken off: {error:?}"))?;
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    if head.status != 200 || !text.contains(CANARY) {
        return Err(format!("{}: {text}", head.status));
    }
    let close = head.headers.get("connection");
    Ok(close.is_some_and(|value| value == "close"))
}

async fn client(address: SocketAddr, keeps: bool, pause: Duration, load: Arc<Load>) {
    let mut kept = None;
    while !load.stop.load(Relaxed) {
        tokio::time::sleep(pause).await;
        let answered = async {
            let mut sender = match kept.take() {
                Some(sender) => sender,
                None => connect(address).await?,
            };
            let ends = ask(&mut sender).await?;
            Ok((keeps && !ends).then_some(sender))
        };
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(sender)) => {
                kept = sender;
                load.answered.fetch_add(1, Relaxed);
            }
            Ok(Err(why)) => load.lost.lock().unwrap().push(why),
            Err(_) => load.lost.lock().unwrap().push("no answer".to_owned()),
        }
    }
}

fn start(fake: &Running, held: &TcpListener) -> Program {
    let stdin = Stdio::from(OwnedFd::from(held.try_clone().unwrap()));
    Program::start_from(HAND_OVER, stdin, fake, &[])
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_in_restarts_and_reloads() {
    let fake = fake().await;
    let (times, rate) = size();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let mut program = start(&fake, &held);
    assert_eq!(program.proxy.chat().await.status, 200);
    let load = Arc::new(Load::default());
    let mut clients = JoinSet::new();
    let pause = Duration::from_millis(CLIENTS * 1_000 / rate);
    for number in 0..CLIENTS {
        let load = Arc::clone(&load);
        clients.spawn(client(address, number % 2 == 0, pause, load));
    }
    for _ in 0..times {
        for reload in 1..=2 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            tokio::task::block_in_place(|| {
                program.signal("-HUP");
                program.log_with("reloaded options=", reload);
            });
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        // As a service manager does: the next one begins when the last one has ended.
        tokio::task::block_in_place(|| {
            program.terminate();
            program = start(&fake, &held);
        });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    load.stop.store(true, Relaxed);
    clients.join_all().await;
    let lost = load.lost.lock().unwrap();
    let answered = load.answered.load(Relaxed);
    assert!(lost.is_empty(), "{} of {answered}: {lost:?}", lost.len());
    assert!(answered > 10 * times, "{answered}");
}
