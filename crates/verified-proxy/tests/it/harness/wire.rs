//! What a proxy writes to a fake's documents.

use std::sync::{Arc, Mutex};

use fake_tee::serve::Running;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Between a proxy and a fake's plain-HTTP port: what went to it, connection by
/// connection.
pub(crate) struct Wire {
    pub(crate) url: String,
    pub(crate) seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

pub(crate) async fn wire(fake: &Running) -> Wire {
    let target = fake.http;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let records = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let place = {
                let mut records = records.lock().unwrap();
                records.push(Vec::new());
                records.len() - 1
            };
            let records = Arc::clone(&records);
            tokio::spawn(async move {
                let server = TcpStream::connect(target).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
                });
                let mut buffer = vec![0; 64 << 10];
                while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
                    let bytes = &buffer[..read];
                    records.lock().unwrap()[place].extend_from_slice(bytes);
                    if to_server.write_all(bytes).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Wire { url, seen }
}
