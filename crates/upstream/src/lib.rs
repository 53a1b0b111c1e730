//! The way to a backend. No byte of a client's request is written before a proof.
//!
//! `path` leads a request through all of it: its children seal requests, make unproved
//! connections and join the two. No other module can name a connection or open a request.

pub mod admission;
pub mod answer_ids;
pub mod guard;
pub mod idle;
mod json_member;
mod judge;
pub mod least;
pub mod metrics;
mod path;
pub mod secrets;
mod settings;
mod unauthorized;
pub mod verdicts;

pub use crate::judge::{Judge, Judged, SourceFinding, Sources};
pub use crate::path::{
    AnswerBody, AnswerError, AttemptError, AttestError, BODY_SLACK, BodyBudget, BodyError,
    ClientRequest, Content, DialError, Dialer, Examined, ForwardError, Framing, Model, PathError,
    PoolLimits, QueueFull, SealError, SendError, SingleHeader, Unsent, Upstream, VERDICT, Verified,
    View, WaitedFor,
};
pub use crate::settings::{BackendTimeouts, UpstreamSettings};
