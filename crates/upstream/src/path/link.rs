//! A connection to a backend, in two states that can write different things.
//!
//! A [`Link`] writes a [`Probe`], which is made of public values. A [`ProvedLink`] writes a
//! client's request; only [`Link::prove`] makes one, of a `Link` and a proof about its TLS key.
//! The sender is private to this module, so there is no third way. The module does not know
//! what a request's body `B` is: it can only make an empty one, for the probe.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use attest::{Attested, Nonce, SigningAlgo, Spki};
use http::{HeaderValue, Request, Response, Uri, Version, header};
use hyper::body::{Body, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::SendRequest;
use sources::backend::Backend;
use sources::net::USER_AGENT;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Interim answers (1xx) before an answer. Servers send one or two (100, 103). hyper swallows
/// any number, which an attacker can use (threats.md B8).
const MAX_INTERIM: u32 = 16;

/// An HTTP/1.1 connection and the TLS key at its other end. Dropping it closes the socket.
pub(in crate::path) struct Link<B> {
    spki: Spki,
    sender: SendRequest<B>,
    _driver: Driver,
    made: Instant,
    requests: u64,
    spoke_http10: bool,
    /// When it was last kept for another request.
    kept: Option<Instant>,
}

impl<B: Body + Default + 'static> Link<B> {
    /// `spki` is the key of the TLS session below `sender`; `connection` drives it.
    pub(in crate::path) fn new<C>(spki: Spki, sender: SendRequest<B>, connection: C) -> Self
    where
        C: Future<Output = Result<(), hyper::Error>> + Send + 'static,
    {
        let driver = Driver(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "backend connection ended");
            }
        }));
        Self {
            spki,
            sender,
            _driver: driver,
            made: Instant::now(),
            requests: 0,
            spoke_http10: false,
            kept: None,
        }
    }

    pub(in crate::path) fn spki(&self) -> Spki {
        self.spki
    }

    /// Time since the connection was made.
    pub(in crate::path) fn age(&self) -> Duration {
        self.made.elapsed()
    }

    /// The number of clients' requests that were sent on it.
    pub(in crate::path) fn requests(&self) -> u64 {
        self.requests
    }

    /// True once an answer came in HTTP/1.0. hyper then speaks that version too, and silently
    /// drops a body without a length, which HTTP/1.0 cannot frame.
    pub(in crate::path) fn spoke_http10(&self) -> bool {
        self.spoke_http10
    }

    /// It is kept for another request from now on.
    pub(in crate::path) fn keep(&mut self) {
        self.kept = Some(Instant::now());
    }

    /// True if the last answer has ended and the backend has not closed the connection, as far
    /// as is known.
    pub(in crate::path) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Resolves when the connection can take a request. Fails when it is closed.
    pub(in crate::path) async fn ready(&mut self) -> Result<(), hyper::Error> {
        self.sender.ready().await
    }

    /// The only method of an unproved link that writes.
    pub(in crate::path) async fn probe(
        &mut self,
        probe: Probe,
    ) -> Result<Response<Incoming>, SendError> {
        let request = probe.head.map(|()| B::default());
        let response = self.send(request).await.map_err(|(error, _)| error)?;
        if self.spoke_http10 {
            return Err(SendError::Version);
        }
        Ok(response)
    }

    /// Turns into a proved link if the proof is about this link's TLS key; otherwise hands the
    /// link back.
    pub(in crate::path) fn prove(self, proof: Attested) -> Result<ProvedLink<B>, Self> {
        if proof.spki() != self.spki {
            return Err(self);
        }
        Ok(ProvedLink { link: self, proof })
    }

    async fn send(
        &mut self,
        mut request: Request<B>,
    ) -> Result<Response<Incoming>, (SendError, Option<Request<B>>)> {
        let interim = Arc::new(Interim::default());
        let seen = Arc::clone(&interim);
        hyper::ext::on_informational(&mut request, move |_| seen.count());
        let sent = tokio::select! {
            biased;
            () = interim.too_many.notified() => return Err((SendError::Interim, None)),
            sent = self.sender.try_send_request(request) => sent,
        };
        let response = sent.map_err(|mut refused: TrySendError<_>| {
            let unsent = refused.take_message();
            (SendError::Broken(refused.into_error()), unsent)
        })?;
        self.spoke_http10 |= response.version() < Version::HTTP_11;
        Ok(response)
    }
}

/// Why there is no answer to a message.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("{0}")]
    Broken(#[from] hyper::Error),
    #[error("more than {MAX_INTERIM} interim answers (1xx)")]
    Interim,
    #[error("an answer in HTTP/1.0")]
    Version,
}

/// Counts the interim answers to one request.
#[derive(Debug, Default)]
struct Interim {
    seen: AtomicU32,
    too_many: Notify,
}

impl Interim {
    fn count(&self) {
        if self.seen.fetch_add(1, Ordering::Relaxed) >= MAX_INTERIM {
            self.too_many.notify_one();
        }
    }
}

/// The attestation request. Nothing in it comes from a client.
pub(in crate::path) struct Probe {
    head: Request<()>,
}

impl Probe {
    pub(in crate::path) fn new(backend: &Backend, nonce: Nonce, algo: SigningAlgo) -> Self {
        let target = format!(
            "/v1/attestation/report?signing_algo={}&nonce={nonce}&include_tls_fingerprint=true",
            algo.as_str()
        );
        let mut request = Request::new(());
        // Target and host are always valid: letters, digits and fixed text.
        *request.uri_mut() = target.parse::<Uri>().unwrap_or_default();
        let headers = request.headers_mut();
        if let Ok(host) = HeaderValue::from_str(backend.domain().as_str()) {
            headers.insert(header::HOST, host);
        }
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        Self { head: request }
    }
}

/// A connection and the proof about its TLS key. It opens a client's request.
pub(in crate::path) struct ProvedLink<B> {
    link: Link<B>,
    proof: Attested,
}

impl<B: Body + Default + 'static> ProvedLink<B> {
    pub(in crate::path) fn proof(&self) -> &Attested {
        &self.proof
    }

    /// See [`Link::ready`].
    pub(in crate::path) async fn ready(&mut self) -> Result<(), hyper::Error> {
        self.link.ready().await
    }

    /// How long ago the connection was kept, if it was.
    pub(in crate::path) fn kept(&self) -> Option<Duration> {
        self.link.kept.map(|kept| kept.elapsed())
    }

    /// Hands the request back if no byte of it was written.
    pub(in crate::path) async fn send(
        &mut self,
        request: Request<B>,
    ) -> Result<Response<Incoming>, (SendError, Option<Request<B>>)> {
        self.link.requests += 1;
        self.link.send(request).await
    }

    /// The connection without its proof. It has to be proved again.
    pub(in crate::path) fn forget_proof(self) -> Link<B> {
        self.link
    }
}

/// The task that drives a connection. Dropping this aborts the task, which closes the socket at
/// once.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

// Not derived, since bodies cannot be printed.
impl<B> fmt::Debug for Link<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.spki)
    }
}

impl<B> fmt::Debug for ProvedLink<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProvedLink({})", self.link.spki)
    }
}
