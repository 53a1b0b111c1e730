//! A connection ends after exactly the bytes that were ordered.

use std::time::{Duration, Instant};

use fake_tee::serve::{Act, Fault, Point};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{ask, connect, control, dial, instances, request, tls_config, until_end};

/// A TCP connection between client and backend that counts.
async fn counted(
    backend: std::net::SocketAddr,
) -> (
    std::net::SocketAddr,
    tokio::task::JoinHandle<(Vec<u8>, bool)>,
) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let server = TcpStream::connect(backend).await.unwrap();
        let (mut from_server, mut to_server) = server.into_split();
        let up =
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
        let mut all = Vec::new();
        let mut reset = false;
        loop {
            let mut part = [0; 4096];
            match from_server.read(&mut part).await {
                Ok(0) => break,
                Ok(count) => {
                    all.extend(&part[..count]);
                    let _ = to_client.write_all(&part[..count]).await;
                }
                Err(error) => {
                    reset = error.kind() == std::io::ErrorKind::ConnectionReset;
                    break;
                }
            }
        }
        up.abort();
        (all, reset)
    });
    (address, task)
}

/// How many bytes a backend sends for a handshake, a report and its answer.
async fn exchange(address: std::net::SocketAddr, fake: &fake_tee::serve::Running) -> bool {
    let Ok(stream) = TcpStream::connect(address).await else {
        return false;
    };
    let name = rustls_pki_types::ServerName::try_from(crate::client::DOMAIN).unwrap();
    let connector = tokio_rustls::TlsConnector::from(tls_config(fake, &["http/1.1"]));
    let Ok(mut stream) = connector.connect(name, stream).await else {
        return false;
    };
    let get = request("GET", "/v1/fake/json?size=5000", "", b"");
    ask(&mut stream, &get).await.is_ok()
}

#[tokio::test]
async fn a_cut_on_tcp_is_exactly_there() {
    let fake = instances(1).await;
    for (act, reset) in [(Act::Close, false), (Act::Reset, true)] {
        for count in [0, 1, 100, 1200, 2500, 6000] {
            fake.next_connections([Fault::Tcp(Point::Sent(count), act)]);
            let (address, counting) = counted(fake.backend).await;
            assert!(!exchange(address, &fake).await, "{count}");
            let (bytes, was_reset) = timeout(Duration::from_secs(5), counting)
                .await
                .unwrap()
                .unwrap();
            assert_eq!(bytes.len() as u64, count, "{act:?}");
            // Before anything was sent the reset may hit the relay's other direction.
            if count > 0 {
                assert_eq!(was_reset, reset, "{count}");
            }
        }
    }
    // And without a fault it works.
    let (address, counting) = counted(fake.backend).await;
    assert!(exchange(address, &fake).await);
    let (bytes, _) = timeout(Duration::from_secs(5), counting)
        .await
        .unwrap()
        .unwrap();
    let last = fake.received().pop().unwrap();
    assert_eq!(last.tcp_bytes.0, bytes.len() as u64);
    assert!(bytes.len() > 6000);
}

#[tokio::test]
async fn a_cut_on_what_was_received_is_exactly_there() {
    let fake = instances(1).await;
    let body = vec![b'x'; 40_000];
    let post = request("POST", "/v1/fake/sink", "", &body);
    for count in [10, 100, 20_000, post.len() as u64] {
        fake.clear();
        fake.next_connections([Fault::Plain(Point::Received(count), Act::Close)]);
        let mut stream = connect(&fake).await;
        let _ = stream.write_all(&post).await;
        let _ = stream.flush().await;
        // Not a byte of an answer, even where the request was whole.
        assert!(until_end(&mut stream).await.0.is_empty());
        let connection = fake.received().pop().unwrap();
        assert_eq!(connection.bytes, post[..count as usize]);
        assert_eq!(connection.plain_bytes, (0, count));
    }
    fake.next_connections([Fault::Tcp(Point::Received(50), Act::Reset)]);
    assert!(dial(&fake, tls_config(&fake, &[])).await.is_err());
}

#[tokio::test]
async fn a_cut_in_the_plaintext_is_exactly_there() {
    let fake = instances(1).await;
    let get = request("GET", "/v1/fake/json?size=100000", "", b"");
    for count in [0, 1, 17, 60, 16_384, 50_000] {
        fake.next_connections([Fault::Plain(Point::Sent(count), Act::Close)]);
        let mut stream = connect(&fake).await;
        let _ = stream.write_all(&get).await;
        let (bytes, _) = until_end(&mut stream).await;
        assert_eq!(bytes.len() as u64, count);
        // No close_notify: a client can tell a cut from an end.
    }
}

#[tokio::test]
async fn a_stall_stays_until_the_client_leaves() {
    let fake = instances(1).await;
    for fault in [
        Fault::Tcp(Point::Sent(3000), Act::Stall),
        Fault::Plain(Point::Sent(100), Act::Stall),
        Fault::Plain(Point::Received(20), Act::Stall),
    ] {
        fake.clear();
        fake.next_connections([fault]);
        let mut stream = connect(&fake).await;
        let get = request("GET", "/v1/fake/json?size=100000", "", b"");
        stream.write_all(&get).await.unwrap();
        let mut all = Vec::new();
        let read = timeout(Duration::from_millis(300), stream.read_to_end(&mut all)).await;
        assert!(read.is_err(), "{fault:?}");
        assert!(fake.received()[0].closed.is_none());
        drop(stream);
        let since = Instant::now();
        while fake.received()[0].closed.is_none() {
            assert!(since.elapsed() < Duration::from_secs(5), "{fault:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn faults_of_one_instance_and_by_control() {
    let fake = instances(2).await;
    let config = tls_config(&fake, &[]);
    control(
        &fake,
        "faults",
        &json!({"instance": 1, "faults": ["tcp-sent=10:close"]}),
    )
    .await;
    assert!(dial(&fake, config.clone()).await.is_ok());
    assert!(dial(&fake, config.clone()).await.is_err());
    for _ in 0..2 {
        assert!(dial(&fake, config.clone()).await.is_ok());
    }
    fake.every_connection(|index| match index % 2 {
        0 => Fault::Tcp(Point::Sent(0), Act::Reset),
        _ => Fault::None,
    });
    for works in [false, true, false, true] {
        assert_eq!(dial(&fake, config.clone()).await.is_ok(), works);
    }
    for wrong in [
        "tcp-sent=x:close",
        "tcp-sent=1",
        "udp=1:close",
        "tcp-sent=1:explode",
    ] {
        assert!(wrong.parse::<Fault>().is_err());
    }
}
