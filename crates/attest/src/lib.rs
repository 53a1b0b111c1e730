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
//! for people that lists every check, also those that did not run. What its caller must
//! do is said at [`appraise`]; `examples/judge.rs` and `examples/own_policy.rs` do it.

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

mod accept;
mod appraise;
mod base;
mod compose;
mod dstack;
mod history;
mod intel;
mod near;
mod nvidia;
mod policy;
mod refusals;
mod report;
mod trust;

pub use accept::{Acceptance, Accepted as AcceptedChange, Base, NotAcceptable, Terms, accept};
pub use appraise::attested::{Attested, Expected, NoDomain, RecallError, Record, Subject};
pub use appraise::{Appraisal, Appraise, Context, Fetch, FloorCheck, NrasCheck, appraise};
pub use base::exception::{Day, Exception};
pub use base::finding::{Finding, Severity};
pub use base::identifiers::{
    CommitId, Domain, FileDigest, Fmspc, InvalidIdentifier, LogDigest, Nonce, PolicyDigest, Spki,
    UnixTime,
};
pub use base::levels::{
    BootLevel, DeploymentLevel, GpuLevel, HardwareLevel, IdentityLevel, LeastLevels, Levels,
};
pub use base::tcb::{Accept, AcceptTcb, Component, Level, TcbStatus};
pub use compose::{
    ComposeDocument, FileRules, ImageDigest, ImageReference, Repository, ServiceImage,
    judge_compose,
};
pub use dstack::app_compose::app_compose_findings;
pub use dstack::image;
pub use dstack::machine::NotRecomputable;
pub use dstack::rtmr0::{ComputedRtmr0, compute_rtmr0};
pub use dstack::vm_config::VmConfig;
pub use history::{Change, ChangeKind, History, HistoryCheck, Sighting};
pub use intel::collateral::{
    Collateral, CollateralKey, CollateralParts, Editions, EditionsParts, Floor, FloorKey,
    FloorSeen, Floors, Issued, MAX_COLLATERAL_BYTES, PckCa,
};
pub use intel::quote::VerifiedQuote;
pub use intel::root::TdxRoot;
pub use near::deployment::{
    AppraiseDeployment, CanonicalForm, ComposeFile, ComposeFiles, Continuity, Deployment,
    FilesAtHand, FilesCheck, LogSeen, MAX_TAGS_BYTES, Manager, Service, TagsCheck, TagsError, Up,
    UpstreamTags, appraise_deployment,
};
pub use near::evidence::{Evidence, MAX_REPORT_BYTES, SigningAlgo, SigningKey};
pub use near::keys::NotBound;
pub use nvidia::gpu::{
    Architecture, Board, GpuAnchors, GpuFinding, GpuReport, IssuerCache, Measurement, Pdi, Stated,
    Topology, Ueid, UnknownGpu, appraise_gpus,
};
pub use nvidia::nras::{
    KeySet, MAX_NRAS_ANSWER_BYTES, MAX_NRAS_KEY_SET_BYTES, NrasAnchors, NrasOpinion, appraise_nras,
};
pub use policy::{AcceptableImage, Difference, Effect, Known, Policy, PolicyError, RuleChange};
pub use refusals::Rejected;
pub use refusals::checks::{CheckId, Group};
pub use refusals::compose::ComposeRejected;
pub use refusals::deployment::DeploymentRejected;
pub use refusals::gpu::GpuRejected;
pub use refusals::nras::NrasRejected;
pub use refusals::table::{Blame, Explanation};
pub use report::{
    Check, DeploymentShown, Fact, FileShown, GpuShown, NOT_REACHED, Named, PolicyName, Report,
    Status, UpShown,
};
pub use trust::TrustAnchors;
