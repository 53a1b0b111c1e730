//! The client's side: requests to the proxy's port, and streamed answers.

use std::error::Error;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::failure::{Failure, should};

/// Sent with each question; a backend that is refused must not see it.
pub(crate) const API_KEY: &str = "sk-of-the-demonstration";
/// Far more than one event of a stream.
const MAX_EVENT: usize = 1 << 20;

/// A page of the proxy's own.
pub(crate) async fn get(proxy: SocketAddr, path: &str) -> Result<Bytes, Failure> {
    let request = Request::get(path).body(Full::default());
    let answer = send(proxy, request).await?;
    let status = answer.status();
    should(status.is_success(), || format!("GET {path}: {status}"))?;
    whole(answer).await
}

/// A streamed chat.
pub(crate) async fn ask(
    proxy: SocketAddr,
    model: &str,
    question: &str,
) -> Result<Response<Incoming>, Failure> {
    let body = json!({
        "model": model,
        "stream": true,
        "messages": [{"role": "user", "content": question}],
    });
    let request = Request::post("/v1/chat/completions")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {API_KEY}"))
        .body(Full::from(body.to_string()));
    send(proxy, request).await
}

#[expect(
    clippy::disallowed_methods,
    reason = "the demonstration is the client, which may dial the proxy"
)]
async fn send(
    proxy: SocketAddr,
    request: Result<Request<Full<Bytes>>, http::Error>,
) -> Result<Response<Incoming>, Failure> {
    let mut request = request.map_err(no_answer)?;
    let host = header::HeaderValue::try_from(proxy.to_string()).map_err(no_answer)?;
    request.headers_mut().insert(header::HOST, host);
    let stream = TcpStream::connect(proxy).await.map_err(no_answer)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(no_answer)?;
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(no_answer)
}

/// An answer's whole body.
pub(crate) async fn whole(answer: Response<Incoming>) -> Result<Bytes, Failure> {
    let body = answer.into_body().collect().await.map_err(no_answer)?;
    Ok(body.to_bytes())
}

fn no_answer(error: impl Error) -> Failure {
    Failure::NotAsItShould(format!("the proxy gave no proper answer: {error}"))
}

/// The words of a streamed answer, as they come.
#[derive(Debug)]
pub(crate) struct Words {
    body: Incoming,
    unread: Vec<u8>,
}

impl Words {
    pub(crate) fn of(answer: Response<Incoming>) -> Self {
        Self {
            body: answer.into_body(),
            unread: Vec::new(),
        }
    }

    /// `None` at the end; a stream that breaks off before `[DONE]` is a failure.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, Failure> {
        let event = self.event().await?;
        let data = event.strip_prefix("data: ").unwrap_or_default();
        if data == "[DONE]" {
            return Ok(None);
        }
        let chunk: Value = serde_json::from_str(data).map_err(no_answer)?;
        let word = chunk
            .pointer("/choices/0/delta/content")
            .and_then(Value::as_str);
        Ok(Some(word.unwrap_or_default().to_owned()))
    }

    /// Up to an empty line, as server-sent events are.
    async fn event(&mut self) -> Result<String, Failure> {
        loop {
            let end = self.unread.windows(2).position(|two| two == b"\n\n");
            if let Some(end) = end {
                let event: Vec<_> = self.unread.drain(..end + 2).take(end).collect();
                return String::from_utf8(event).map_err(no_answer);
            }
            should(self.unread.len() < MAX_EVENT, || {
                "an event of the stream does not end within 1 MiB".to_owned()
            })?;
            let Some(frame) = self.body.frame().await else {
                let why = "the stream broke off".to_owned();
                return Err(Failure::NotAsItShould(why));
            };
            if let Ok(data) = frame.map_err(no_answer)?.into_data() {
                self.unread.extend_from_slice(&data);
            }
        }
    }
}
