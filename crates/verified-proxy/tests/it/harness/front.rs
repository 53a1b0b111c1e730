//! What stands between a proxy and a fake's documents.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use fake_tee::serve::Running;
use proxy::config::FetchUrl;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// In front of a fake's plain-HTTP port: counts connections, and while it is
/// told to takes them without a word or says what it said before.
pub(crate) struct Front {
    url: String,
    asked: Arc<AtomicUsize>,
    pub(crate) silent: Arc<AtomicBool>,
    pub(crate) stale: Arc<AtomicBool>,
}

/// Answers by request line.
type Said = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// Relays one request, and remembers its answer or repeats the one remembered.
async fn relay(mut client: TcpStream, target: SocketAddr, said: Said, stale: bool) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match client.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    let line = String::from_utf8_lossy(&request)
        .lines()
        .next()
        .unwrap()
        .to_owned();
    if stale {
        let answer = said.lock().unwrap().get(&line).cloned().unwrap_or_default();
        let _ = client.write_all(&answer).await;
        return;
    }
    let mut server = TcpStream::connect(target).await.unwrap();
    server.write_all(&request).await.unwrap();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = tokio::select! {
            read = server.read(&mut buffer) => read.unwrap_or(0),
            // The client has what it wanted.
            _ = client.read_u8() => return,
        };
        if read == 0 {
            return;
        }
        let answer = buffer.get(..read).unwrap();
        said.lock()
            .unwrap()
            .entry(line.clone())
            .or_default()
            .extend_from_slice(answer);
        if client.write_all(answer).await.is_err() {
            return;
        }
    }
}

pub(crate) async fn front(of: &Running) -> Front {
    let target = of.http;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, silent) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (count, mute) = (Arc::clone(&asked), Arc::clone(&silent));
    let stale = Arc::new(AtomicBool::new(false));
    let repeat = Arc::clone(&stale);
    let said = Said::default();
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            let (client, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            if mute.load(Ordering::SeqCst) {
                held.push(client);
                continue;
            }
            let stale = repeat.load(Ordering::SeqCst);
            tokio::spawn(relay(client, target, Arc::clone(&said), stale));
        }
    });
    Front {
        url,
        asked,
        silent,
        stale,
    }
}

impl Front {
    pub(crate) fn url(&self) -> FetchUrl {
        self.url.parse().unwrap()
    }

    pub(crate) fn list(&self) -> FetchUrl {
        format!("{}/endpoints", self.url).parse().unwrap()
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}
