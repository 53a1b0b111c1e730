//! Appraisal of a NEAR AI backend's TDX evidence.
//!
//! Bytes, time, trust anchors and policy go in; a verdict comes out. This crate
//! opens no socket, reads no clock, environment or file, and logs nothing.
//!
//! [`appraise`] proves, in this order (RFC 9334 calls it "appraisal of evidence"):
//!
//! 1. the report can be understood in one way only ([`Evidence::parse`]);
//! 2. its quote was signed by a genuine TDX platform, under the given root, at
//!    the given time, with collateral no older than seen before (Intel DCAP);
//! 3. platform, TDX module and quoting enclave are at accepted TCB levels;
//! 4. the TD cannot be debugged, and has the expected attributes;
//! 5. the quote binds this connection's TLS key, the signing key and our nonce;
//! 6. the event log replays to all four RTMRs (a stripped one to RTMR3; the others are
//!    then computed) and the measured application is
//!    the described one;
//! 7. image, firmware and identity are the policy's; memory map and ACPI tables are
//!    those that QEMU makes of the stated shape;
//! 8. the model is one of those asked for;
//! 9. the deployment log is the machine's own, made for this request, and names
//!    what the policy admits ([`appraise_deployment`]);
//! 10. the GPUs are genuine and answered our nonce, as many as the policy says
//!     ([`appraise_gpus`]).
//!
//! The result is an [`Attested`], which nothing else can make, and a [`Report`]
//! for people that lists every check, also those that did not run.

#![warn(missing_docs)]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::todo,
    clippy::unimplemented,
    clippy::unreachable
)]

mod advisories;
mod app_cert;
mod app_compose;
mod appraise;
mod attested;
mod binding;
mod collateral;
mod compose_file;
mod copies;
mod deployment;
mod diagnosis;
mod event_log;
mod evidence;
mod finding;
mod gpu;
mod hash;
mod history;
mod identifiers;
pub mod image;
mod json;
mod keys;
mod levels;
mod machine;
mod mr_config;
mod nras;
mod policy;
mod quote;
mod refusal;
mod rejected;
mod report;
mod rtmr0;
mod tcb;
mod text;
mod trust;
mod vm_config;
mod x509;
mod yaml;

pub use app_compose::app_compose_findings;
pub use appraise::{Appraisal, Appraise, FloorCheck, NrasCheck, appraise};
pub use attested::{Attested, Expected, NoDomain, RecallError, Record, Subject};
pub use collateral::{
    Collateral, CollateralKey, CollateralParts, Editions, EditionsParts, Floor, FloorKey,
    FloorSeen, Floors, Issued, MAX_COLLATERAL_BYTES, PckCa,
};
pub use compose_file::{
    ComposeDocument, ComposeRejected, FileRules, ImageDigest, ImageReference, Repository,
    ServiceImage, judge_compose,
};
pub use deployment::{
    AppraiseDeployment, CanonicalForm, ComposeFile, ComposeFiles, Continuity, Deployment,
    DeploymentRejected, FilesAtHand, FilesCheck, LogSeen, MAX_TAGS_BYTES, Manager, Service,
    TagsCheck, TagsError, Up, UpstreamTags, appraise_deployment,
};
pub use evidence::{Evidence, MAX_REPORT_BYTES, SigningAlgo, SigningKey};
pub use finding::{Finding, Severity};
pub use gpu::{
    Architecture, Board, GPUS_NOT_PROVED, GpuAnchors, GpuFinding, GpuRejected, GpuReport,
    IssuerCache, Measurement, Pdi, Stated, Topology, Ueid, UnknownGpu, appraise_gpus,
};
pub use history::{Change, ChangeKind, History, HistoryCheck, Sighting};
pub use identifiers::{
    CommitId, Domain, FileDigest, Fmspc, InvalidIdentifier, LogDigest, Nonce, PolicyDigest, Spki,
    UnixTime,
};
pub use keys::NotBound;
pub use levels::{
    BootLevel, DeploymentLevel, GpuLevel, HardwareLevel, IdentityLevel, LeastLevels, Levels,
};
pub use machine::NotRecomputable;
pub use nras::{
    KeySet, MAX_NRAS_ANSWER_BYTES, MAX_NRAS_KEY_SET_BYTES, NRAS_NOT_PROVED, NrasAnchors,
    NrasOpinion, NrasRejected, appraise_nras,
};
pub use policy::{
    AcceptTcb, AcceptableImage, Acceptance, AcceptedChange, Base, Day, Difference, Effect,
    Exception, Known, NotAcceptable, Policy, PolicyError, RuleChange, Terms, accept,
};
pub use quote::VerifiedQuote;
pub use refusal::{Blame, Explanation};
pub use rejected::Rejected;
pub use report::{
    Check, CheckId, DeploymentShown, Fact, FileShown, GpuShown, Group, NOT_REACHED, Named,
    PolicyName, Report, Status, UpShown,
};
pub use rtmr0::{ComputedRtmr0, compute_rtmr0};
pub use tcb::{Accept, Component, Level, TcbStatus};
pub use trust::TrustAnchors;
pub use vm_config::VmConfig;
