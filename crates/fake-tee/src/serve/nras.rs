//! NVIDIA's attestation service on the plain-HTTP ports: it looks at payloads of
//! GPUs under `/v3/attest/gpu`, and has its keys under `/.well-known/jwks.json`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};

use super::behaviour::{Behaviour, Gone};
use super::body::{Reply, error_reply, json_reply, reply};
use super::{lock, unix_now};
use crate::Error;
use crate::nras::{NrasSpec, SigningKey};

/// Payloads of eight GPUs have 98 KB.
const MAX_PAYLOAD: usize = 4 << 20;

/// What the service answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NrasRoute {
    /// `POST /v3/attest/gpu`.
    Attest,
    /// `GET /.well-known/jwks.json`.
    Keys,
}

impl NrasRoute {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Attest, Self::Keys];

    fn of(path: &str) -> Option<(Self, Method)> {
        match path {
            "/v3/attest/gpu" => Some((Self::Attest, Method::POST)),
            "/.well-known/jwks.json" => Some((Self::Keys, Method::GET)),
            _ => None,
        }
    }
}

/// The service; its keys are made at the first use.
#[derive(Debug, Default)]
pub(super) struct Nras {
    spec: Mutex<Option<NrasSpec>>,
    attest: Played,
    keys: Played,
}

/// One route: how it behaves, and how often it was asked.
#[derive(Debug, Default)]
struct Played {
    behaviour: Mutex<Behaviour>,
    count: AtomicU64,
}

impl Nras {
    fn played(&self, route: NrasRoute) -> &Played {
        match route {
            NrasRoute::Attest => &self.attest,
            NrasRoute::Keys => &self.keys,
        }
    }

    pub(super) fn behave(&self, route: NrasRoute, behaviour: &Behaviour) {
        *lock(&self.played(route).behaviour) = behaviour.clone();
    }

    pub(super) fn count(&self, route: NrasRoute) -> u64 {
        self.played(route).count.load(Relaxed)
    }

    /// The service as it is now.
    pub(super) fn spec(&self) -> Result<NrasSpec, Error> {
        self.change(|spec| {
            spec.now = unix_now();
            Ok(spec.clone())
        })
    }

    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut NrasSpec) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut spec = lock(&self.spec);
        if spec.is_none() {
            *spec = Some(NrasSpec::new(unix_now())?);
        }
        match spec.as_mut() {
            Some(spec) => change(spec),
            None => Err(Error::Key("the service has no keys")),
        }
    }

    /// Signs with a new key from now on; the set still has the old one.
    pub(super) fn rotate(&self) -> Result<(), Error> {
        self.change(|spec| {
            let number = spec.other_keys.len();
            let new = Arc::new(SigningKey::generate(&format!("after {number}"))?);
            let old = std::mem::replace(&mut spec.key, new);
            spec.other_keys.push(old);
            Ok(())
        })
    }

    /// The request itself comes back where it is for somebody else.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Result<Reply, Request<Incoming>>, Gone> {
        let Some((route, method)) = NrasRoute::of(request.uri().path()) else {
            return Ok(Err(request));
        };
        if request.method() != method {
            return Ok(Ok(reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "")));
        }
        let played = self.played(route);
        played.count.fetch_add(1, Relaxed);
        let behaviour = lock(&played.behaviour).clone();
        // As a service does, it reads before it answers.
        let body = Limited::new(request.into_body(), MAX_PAYLOAD);
        let Ok(body) = body.collect().await else {
            return Ok(Ok(reply(StatusCode::PAYLOAD_TOO_LARGE, "text/plain", "")));
        };
        if let Some(reply) = behaviour.instead().await? {
            return Ok(Ok(reply));
        }
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        let answer = self.spec().and_then(|spec| match route {
            NrasRoute::Attest => spec.answer(&text),
            NrasRoute::Keys => spec.key_set(),
        });
        let mut reply = match answer {
            Ok(answer) => json_reply(StatusCode::OK, &answer),
            // What NVIDIA's errors look like is not known.
            Err(error) => error_reply(StatusCode::BAD_REQUEST, "bad_request", &error.to_string()),
        };
        behaviour.date(&mut reply);
        Ok(Ok(reply))
    }
}
