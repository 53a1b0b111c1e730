//! The way to a backend. No byte of a client's request is written before a proof.
//!
//! `request` seals requests, `dial` makes unproved connections, `verified` joins the two.
//! `upstream` leads a request through all of it.

mod answer;
pub mod answer_ids;
mod dial;
pub mod guard;
mod headers;
pub mod idle;
mod json_member;
mod judge;
pub mod least;
mod link;
pub mod metrics;
mod pool;
mod request;
pub mod secrets;
mod settings;
mod unauthorized;
mod unverified;
mod upstream;
pub mod verdicts;
mod verified;

pub use crate::answer::{AnswerBody, AnswerError};
pub use crate::dial::{DialError, Dialer};
pub use crate::judge::{Judge, Judged, SourceFinding, Sources};
pub use crate::link::SendError;
pub use crate::pool::PoolLimits;
pub use crate::request::{
    BODY_SLACK, BodyBudget, BodyError, ClientRequest, Content, Framing, Model, SealError,
    SingleHeader, View,
};
pub use crate::settings::{BackendTimeouts, UpstreamSettings};
pub use crate::unauthorized::Unauthorized;
pub use crate::unverified::{AttestError, Examined};
pub use crate::upstream::{AttemptError, PathError, Upstream, WaitedFor};
pub use crate::verified::{ForwardError, Unsent, VERDICT, Verified};
