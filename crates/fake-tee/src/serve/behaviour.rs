//! How a public source (endpoint list, PCS) fails, on order.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;

use super::body::{Frames, Reply, framed, reply};
use super::{lock, unix_now};
use crate::Error;
use crate::spec::Spec;

/// How a source of public documents behaves.
///
/// As text: `normal`, `status=N`, `later=N,RETRY-AFTER`, `slow=MS`, `hang`, `gone`, `html`, `huge=BYTES`,
/// `stale`, `expired`, `dated=SECONDS`, `body=TEXT`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Behaviour {
    /// As it should.
    #[default]
    Normal,
    /// Answers with a status and nothing else.
    Status(u16),
    /// The same, with this `Retry-After`.
    Later(u16, String),
    /// Answers well after a pause.
    Slow(Duration),
    /// Takes the request and never answers: a black hole.
    Hang,
    /// Closes the connection without an answer.
    Gone,
    /// 200 and a page for people.
    Html,
    /// So many bytes of JSON that does not end.
    Huge(u64),
    /// PCS: genuine documents, but older ones: tcbEvaluationDataNumber one less,
    /// documents and CRLs of the day before.
    Stale,
    /// PCS: documents and CRLs whose nextUpdate has passed.
    Expired,
    /// As it should, but for a `Date` that is off by so many seconds.
    Dated(i64),
    /// 200 and this.
    Body(String),
}

impl FromStr for Behaviour {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::Argument(format!(
                "\"{text}\" is no behaviour: expected normal, status=N, \
                 later=N,RETRY-AFTER, slow=MS, hang, gone, html, huge=BYTES, stale, expired, dated=SECONDS or body=TEXT"
            ))
        };
        let (name, argument) = text.split_once('=').unwrap_or((text, ""));
        Ok(match name {
            "normal" => Self::Normal,
            "status" => Self::Status(argument.parse().map_err(|_| wrong())?),
            "later" => {
                let (status, after) = argument.split_once(',').ok_or_else(wrong)?;
                Self::Later(status.parse().map_err(|_| wrong())?, after.to_owned())
            }
            "slow" => Self::Slow(Duration::from_millis(
                argument.parse().map_err(|_| wrong())?,
            )),
            "hang" => Self::Hang,
            "gone" => Self::Gone,
            "html" => Self::Html,
            "huge" => Self::Huge(argument.parse().map_err(|_| wrong())?),
            "stale" => Self::Stale,
            "expired" => Self::Expired,
            "dated" => Self::Dated(argument.parse().map_err(|_| wrong())?),
            "body" => Self::Body(argument.to_owned()),
            _ => return Err(wrong()),
        })
    }
}

/// A connection that is closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("gone, on order")]
pub(super) struct Gone;

impl Behaviour {
    /// The answer, where it is not the usual one.
    pub(super) async fn instead(&self) -> Result<Option<Reply>, Gone> {
        Ok(Some(match self {
            Self::Normal | Self::Stale | Self::Expired | Self::Dated(_) => return Ok(None),
            Self::Slow(pause) => {
                tokio::time::sleep(*pause).await;
                return Ok(None);
            }
            Self::Hang => std::future::pending().await,
            Self::Gone => return Err(Gone),
            Self::Status(status) => nothing_but(*status),
            Self::Later(status, after) => {
                let mut reply = nothing_but(*status);
                if let Ok(after) = after.parse() {
                    reply
                        .headers_mut()
                        .insert(hyper::header::RETRY_AFTER, after);
                }
                reply
            }
            Self::Html => reply(
                StatusCode::OK,
                "text/html",
                "<!doctype html><title>fake</title><p>Not what you asked for",
            ),
            Self::Huge(bytes) => {
                let chunk = Bytes::from(vec![b' '; 1 << 16]);
                let frames = Frames::sized(
                    Bytes::from_static(b"{"),
                    chunk,
                    bytes.div_ceil(1 << 16),
                    Bytes::new(),
                );
                framed(StatusCode::OK, "application/json", frames)
            }
            Self::Body(text) => reply(StatusCode::OK, "application/json", text.clone()),
        }))
    }

    /// Writes the answer's `Date`, where it is not the usual one.
    pub(super) fn date(&self, reply: &mut Reply) {
        if let Self::Dated(seconds) = self {
            let now = Duration::from_secs(unix_now().saturating_add_signed(*seconds));
            let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + now);
            if let Ok(date) = date.parse() {
                reply.headers_mut().insert(hyper::header::DATE, date);
            }
        }
    }

    /// Makes a machine's documents older.
    pub(super) fn age(&self, spec: &mut Spec) {
        const DAY: u64 = 86_400;
        let now = spec.now;
        match self {
            Self::Stale => {
                spec.tcb_info.tcb_evaluation_data_number -= 1;
                spec.qe_identity.tcb_evaluation_data_number -= 1;
                spec.tcb_info.set_validity(now - 2 * DAY, now + 28 * DAY);
                spec.qe_identity.set_validity(now - 2 * DAY, now + 28 * DAY);
                for crl in [&mut spec.crls.root, &mut spec.crls.pck] {
                    crl.this_update -= DAY;
                }
            }
            Self::Expired => {
                spec.tcb_info.set_validity(now - 40 * DAY, now - 10 * DAY);
                spec.qe_identity
                    .set_validity(now - 40 * DAY, now - 10 * DAY);
                spec.evaluation_numbers
                    .set_validity(now - 40 * DAY, now - 10 * DAY);
                for crl in [&mut spec.crls.root, &mut spec.crls.pck] {
                    crl.this_update = now - 400 * DAY;
                    crl.next_update = now - 10 * DAY;
                }
            }
            _ => {}
        }
    }
}

fn nothing_but(status: u16) -> Reply {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply(status, "text/plain", "")
}

/// What a PCS answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// `/tdx/certification/v4/tcb`.
    Tcb,
    /// `/tdx/certification/v4/qe/identity`.
    QeIdentity,
    /// `/sgx/certification/v4/pckcrl`.
    PckCrl,
    /// `/sgx/certification/v4/rootcacrl` of a PCCS, or the URL in the root certificate.
    RootCrl,
    /// `/tdx/certification/v4/tcbevaluationdatanumbers`.
    EvaluationNumbers,
}

impl Route {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Tcb,
        Self::QeIdentity,
        Self::PckCrl,
        Self::RootCrl,
        Self::EvaluationNumbers,
    ];
}

impl FromStr for Route {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(match text {
            "tcb" => Self::Tcb,
            "qe" => Self::QeIdentity,
            "pckcrl" => Self::PckCrl,
            "rootcrl" => Self::RootCrl,
            "numbers" => Self::EvaluationNumbers,
            _ => {
                return Err(Error::Argument(format!(
                    "\"{text}\" is no route: expected tcb, qe, pckcrl, rootcrl or numbers"
                )));
            }
        })
    }
}

/// One PCS or PCCS.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) pccs: bool,
    behaviours: Mutex<HashMap<Route, Behaviour>>,
    counts: [AtomicU64; Route::ALL.len()],
}

impl Source {
    pub(super) fn new(pccs: bool) -> Self {
        Self {
            pccs,
            behaviours: Mutex::default(),
            counts: Default::default(),
        }
    }

    pub(super) fn behave(&self, routes: &[Route], behaviour: &Behaviour) {
        let mut behaviours = lock(&self.behaviours);
        for route in routes {
            behaviours.insert(*route, behaviour.clone());
        }
    }

    /// Counts a request.
    pub(super) fn behaviour(&self, route: Route) -> Behaviour {
        for (of, count) in Route::ALL.iter().zip(&self.counts) {
            if *of == route {
                count.fetch_add(1, Relaxed);
            }
        }
        lock(&self.behaviours)
            .get(&route)
            .cloned()
            .unwrap_or_default()
    }

    pub(super) fn count(&self, route: Route) -> u64 {
        let mut counts = Route::ALL.iter().zip(&self.counts);
        counts
            .find(|(of, _)| **of == route)
            .map_or(0, |(_, count)| count.load(Relaxed))
    }
}
