//! What clients sent, held against what backends recorded.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use fake_tee::serve::{Connection, Received};
use http::Request;
use http_body_util::Full;
use serde_json::json;

use super::{API_KEY, CANARY, MODEL};

/// The TLS key of a backend's instance.
pub(crate) type Key = [u8; 32];

/// When each request began, by the digest of its body, which is what a recorder
/// keeps of it. No two bodies are alike.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<HashMap<[u8; 32], Sent>>);

#[derive(Clone, Debug)]
struct Sent {
    marker: String,
    begun: SystemTime,
}

impl Ledger {
    /// A prompt with a text of its own, which the answer repeats. It begins now.
    pub(crate) fn prompt(&self, marker: &str, stream: bool) -> Request<Full<Bytes>> {
        let body = json!({
            "model": MODEL,
            "stream": stream,
            "messages": [{"role": "user", "content": format!("{CANARY} {marker}")}],
        })
        .to_string();
        let sent = Sent {
            marker: marker.to_owned(),
            begun: SystemTime::now(),
        };
        let before = self.0.lock().unwrap().insert(sha256(&body), sent);
        assert!(before.is_none(), "{marker} is not the first of its name");
        Request::post("/v1/chat/completions")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {API_KEY}"))
            .body(Full::from(body))
            .unwrap()
    }

    /// How many there were.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// When a request that arrived began. One that was cut off in its body has no
    /// digest: it had begun when its head arrived.
    pub(crate) fn begun(&self, post: &Received) -> SystemTime {
        if !post.complete {
            return post.at;
        }
        self.sent(post).begun
    }

    /// The text of a request that arrived whole.
    pub(crate) fn marker(&self, post: &Received) -> String {
        self.sent(post).marker
    }

    fn sent(&self, post: &Received) -> Sent {
        let sent = self.0.lock().unwrap().get(&post.body_sha256).cloned();
        sent.unwrap_or_else(|| panic!("a body arrived that nobody sent"))
    }
}

fn sha256(body: &str) -> [u8; 32] {
    digest(&SHA256, body.as_bytes())
        .as_ref()
        .try_into()
        .unwrap()
}

/// Requests for a report: when their heads arrived, by key.
pub(crate) fn probe_times(received: &[Connection]) -> HashMap<Key, Vec<SystemTime>> {
    let mut times: HashMap<_, Vec<_>> = HashMap::new();
    for connection in received {
        let probes = connection
            .requests
            .iter()
            .filter(|request| request.line.starts_with("GET /v1/attestation/report"));
        let at = probes.map(|probe| probe.at);
        times.entry(connection.spki_sha256).or_default().extend(at);
    }
    times
}

/// Requests of clients, with the connections that they arrived on.
pub(crate) fn posts(received: &[Connection]) -> impl Iterator<Item = (&Connection, &Received)> {
    received.iter().flat_map(|connection| {
        let posts = connection
            .requests
            .iter()
            .filter(|request| request.line.starts_with("POST "));
        posts.map(move |post| (connection, post))
    })
}
