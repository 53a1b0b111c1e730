//! A connection to a backend, in two states that write different things.
//!
//! A [`Link`] writes a [`Probe`], which is made of public values. A
//! [`ProvedLink`] writes a client's request; it is made of a `Link` and a proof
//! about its TLS key, by [`Link::prove`] and nowhere else. The sender is private
//! to this module, so there is no third way.

use attest::{Attested, Nonce, SigningAlgo, Spki};
use http::{HeaderValue, Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::SendRequest;
use tokio::task::JoinHandle;

use super::request::RequestBody;
use crate::backend::Backend;

/// An HTTP/1.1 connection and the TLS key it ends at. Dropping it closes the
/// socket.
#[derive(Debug)]
pub(super) struct Link {
    spki: Spki,
    sender: SendRequest<RequestBody>,
    driver: Driver,
}

impl Link {
    /// `spki` is of the TLS session below `sender`; `connection` moves its bytes.
    pub(super) fn new<C>(spki: Spki, sender: SendRequest<RequestBody>, connection: C) -> Self
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
            driver,
        }
    }

    pub(super) fn spki(&self) -> Spki {
        self.spki
    }

    /// The only writer.
    pub(super) async fn probe(&mut self, probe: Probe) -> Result<Response<Incoming>, hyper::Error> {
        let sent = self.sender.try_send_request(probe.request).await;
        sent.map_err(TrySendError::into_error)
    }

    /// Proved, if the proof is about this very TLS key; handed back if not.
    pub(super) fn prove(self, proof: Attested) -> Result<ProvedLink, Self> {
        if proof.spki() != self.spki {
            return Err(self);
        }
        Ok(ProvedLink { link: self, proof })
    }
}

/// The attestation request: nothing in it comes from a client.
pub(super) struct Probe {
    request: Request<RequestBody>,
}

impl Probe {
    pub(super) fn new(backend: &Backend, nonce: Nonce, algo: SigningAlgo) -> Self {
        let target = format!(
            "/v1/attestation/report?signing_algo={}&nonce={nonce}&include_tls_fingerprint=true",
            algo.as_str()
        );
        let mut request = Request::new(RequestBody::Empty);
        // Letters, digits and fixed text: always a valid target and host.
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
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(crate::USER_AGENT),
        );
        Self { request }
    }
}

/// A connection and the proof about its TLS key: what opens a client's request.
#[derive(Debug)]
pub(super) struct ProvedLink {
    link: Link,
    proof: Attested,
}

impl ProvedLink {
    pub(super) fn proof(&self) -> &Attested {
        &self.proof
    }

    /// Resolves when the connection can take a request, fails when it is closed.
    pub(super) async fn ready(&mut self) -> Result<(), hyper::Error> {
        self.link.sender.ready().await
    }

    /// Hands the request back if not a byte of it was written.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        self.link.sender.try_send_request(request).await
    }

    /// For a body that outlives its request.
    pub(super) fn into_driver(self) -> Driver {
        self.link.driver
    }
}

/// The task that moves a connection's bytes. Dropping it ends the task and so
/// closes the socket at once, in the middle of whatever it was doing.
#[derive(Debug)]
pub(super) struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}
