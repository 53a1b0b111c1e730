//! Numbers for operators: `GET /_proxy/metrics`, in the OpenMetrics text format.
//!
//! They are about verdicts and codes, never about requests: each label is a constant of this
//! program or a digest, so no text of a client or a backend can become one (threats.md C6).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use attest::{Exception, Finding, Policy, Report, TrustAnchors, UnixTime};
use prometheus_client::encoding::text::encode;
pub use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};
use sources::net::LookupCounts;
use sources::webpki::WebPki;

use crate::admission::{Counts, What};

/// The Content-Type of [`Metrics::text`] (OpenMetrics 1.0 §3.1).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// In seconds. A report takes tenths, of a machine with eight GPUs some seconds; a probe is
/// abandoned after 60.
const ATTESTATION_BUCKETS: [f64; 9] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

type Labels = [(&'static str, &'static str); 2];

type Label = [(&'static str, &'static str); 1];

/// Why an answer ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    BrokenOff,
    Idle,
}

/// The state at the time of the request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Now {
    /// Valid verdicts.
    pub verdicts: usize,
    /// Answers under way under valid or expired verdicts.
    pub answers: usize,
    /// Answers under way whose verdict was withdrawn after they had begun.
    pub withdrawn_answers: usize,
    /// Idle connections to backends.
    pub idle_connections: usize,
    /// Memory of request bodies.
    pub body_bytes: u64,
    /// What clients hold of each thing that they share, and its bound, in the thing's units.
    pub held: Vec<(What, u64, u64)>,
    /// Lookups of names.
    pub lookups: LookupCounts,
    pub at: UnixTime,
}

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    answered: Counter,
    refused: Family<Label, Counter>,
    cut: Family<Label, Counter>,
    findings: Family<Labels, Counter>,
    changes: Family<Labels, Counter>,
    attestations: Family<Label, Counter>,
    attestation_seconds: Histogram,
    withdrawn: Counter,
    withdrawn_answers: Counter,
    connections: Counter,
    verdicts_now: Gauge,
    answers_now: Gauge,
    withdrawn_answers_now: Gauge,
    idle_connections_now: Gauge,
    body_bytes_now: Gauge,
    counts: Counts,
    held_now: Family<Label, Gauge>,
    bounds: Family<Label, Gauge>,
    lookups_now: Gauge,
    lookups_waiting_now: Gauge,
    lookups_limit: Gauge,
    lookups_given_up: Counter,
    /// The exception that ends first.
    first_exception: Option<Exception>,
    exception_days: Gauge,
}

impl Metrics {
    /// All zero, but for lines of the log that the program has dropped. The labels of
    /// `…_proof_info` name what weakens the proof.
    pub fn new(
        policy: &Policy,
        anchors: &TrustAnchors,
        webpki: WebPki,
        log_lines_dropped: Counter,
        counts: Counts,
    ) -> Arc<Self> {
        let mut registry = Registry::with_prefix("verified_proxy");
        registry.register(
            "log_lines_dropped",
            "Lines of the log that stderr did not take in time, or at all",
            log_lines_dropped,
        );
        let root = |is_real, name: &str| if is_real { name } else { "DANGER" }.to_owned();
        let info = Info::new([
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("policy_digest", policy.digest().to_string()),
            (
                "software",
                if policy.hardware_only() {
                    "ANY"
                } else {
                    "policy"
                }
                .to_owned(),
            ),
            ("tdx_root", root(anchors.is_intel(), "intel")),
            ("gpu_root", root(anchors.gpus().is_nvidia(), "nvidia")),
            ("nras_root", root(anchors.nras().is_nvidia(), "nvidia")),
            ("ca_chain", webpki.as_str().to_owned()),
        ]);
        registry.register("proof", "What a verdict of this proxy means", info);
        let attestation_seconds = Histogram::new(ATTESTATION_BUCKETS);
        registry.register(
            "attestation_seconds",
            "From asking for evidence to its verdict",
            attestation_seconds.clone(),
        );
        let of = &mut registry;
        of.register(
            "limit_refusals",
            "Connections and requests refused at a limit, by what it is about and whose limit it is",
            counts.refused.clone(),
        );
        of.register(
            "clients_closed_for_others",
            "Connections of idle or slow clients that were closed for other clients, by what they held",
            counts.closed.clone(),
        );
        Arc::new(Self {
            counts,
            held_now: new(of, "held_now", "What clients hold, by what it is"),
            bounds: new(
                of,
                "held_limit",
                "How much of it all clients may hold; of backend: at one backend",
            ),
            answered: new(
                of,
                "answers",
                "Requests that a verified backend began to answer",
            ),
            refused: new(
                of,
                "refusals",
                "Requests that got an error of the proxy's own, by code",
            ),
            cut: new(
                of,
                "answers_cut",
                "Answers that the backend began and did not end",
            ),
            attestations: new(
                of,
                "attestations",
                "Connections asked for evidence, by outcome: verified, the code of a refusal, or no_evidence",
            ),
            findings: new(
                of,
                "findings",
                "Findings of reports that were judged, by topic and severity; each attestation counts anew",
            ),
            changes: new(
                of,
                "changes",
                "What differed from what was seen of a backend before, by kind; each attestation counts anew",
            ),
            attestation_seconds,
            withdrawn: new(
                of,
                "verdicts_withdrawn",
                "Verdicts that a later refusal of the same key withdrew",
            ),
            withdrawn_answers: new(
                of,
                "answers_withdrawn",
                "Answers that were under way when their verdict was withdrawn",
            ),
            connections: new(
                of,
                "backend_connections",
                "TLS connections made to backends",
            ),
            verdicts_now: new(of, "verdicts_now", "Verdicts that requests are sent on"),
            answers_now: new(
                of,
                "answers_now",
                "Answers under way whose verdict stands or has run out",
            ),
            withdrawn_answers_now: new(
                of,
                "answers_withdrawn_now",
                "Answers under way whose verdict was withdrawn",
            ),
            idle_connections_now: new(
                of,
                "backend_connections_idle",
                "Connections to backends that lie idle",
            ),
            body_bytes_now: new(of, "body_memory_bytes", "Request bodies held in memory"),
            lookups_now: new(of, "lookups_now", "Lookups of names that hold a thread"),
            lookups_waiting_now: new(
                of,
                "lookups_waiting_now",
                "Lookups of names that wait for a thread",
            ),
            lookups_limit: new(of, "lookups_limit", "The most lookups of names at a time"),
            lookups_given_up: new(
                of,
                "lookups_given_up",
                "Lookups that had no thread before the last request for the name left",
            ),
            first_exception: policy
                .exceptions()
                .map(|(_, exception)| exception)
                .min_by_key(|exception| exception.until)
                .cloned(),
            exception_days: new(
                of,
                "policy_exception_days_left",
                "Days until the first exception of the policy ends; -1 if it has none",
            ),
            registry,
        })
    }

    /// For what clients share.
    pub fn counts(&self) -> Counts {
        self.counts.clone()
    }

    pub fn answered(&self) {
        self.answered.inc();
    }

    pub fn refused(&self, code: &'static str) {
        self.refused.get_or_create(&[("code", code)]).inc();
    }

    pub(crate) fn cut(&self, cut: Cut) {
        let reason = match cut {
            Cut::BrokenOff => "broken_off",
            Cut::Idle => "idle",
        };
        self.cut.get_or_create(&[("reason", reason)]).inc();
    }

    /// Counts an attestation, and the `time` that it took.
    pub(crate) fn attested(&self, outcome: &'static str, time: Duration) {
        self.attestations
            .get_or_create(&[("outcome", outcome)])
            .inc();
        self.attestation_seconds.observe(time.as_secs_f64());
    }

    /// Counts a report's findings and changes.
    pub(crate) fn reported(&self, report: &Report) {
        for Finding {
            topic, severity, ..
        } in &report.findings
        {
            let labels = [("topic", *topic), ("severity", severity.as_str())];
            self.findings.get_or_create(&labels).inc();
        }
        for change in &report.changes {
            let down = if change.down { "yes" } else { "no" };
            let labels = [("kind", change.kind.as_str()), ("down", down)];
            self.changes.get_or_create(&labels).inc();
        }
    }

    /// Counts a withdrawn verdict, and the `answers` under way under it.
    pub(crate) fn withdrawn(&self, answers: usize) {
        self.withdrawn.inc();
        self.withdrawn_answers.inc_by(answers as u64);
    }

    pub(crate) fn connected(&self) {
        self.connections.inc();
    }

    /// The text of `/_proxy/metrics`.
    pub fn text(&self, now: Now) -> String {
        let Now {
            verdicts,
            answers,
            withdrawn_answers,
            idle_connections,
            body_bytes,
            held,
            lookups,
            at,
        } = now;
        let amount = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        for (what, units, limit) in held {
            let label = [("what", what.as_str())];
            self.held_now.get_or_create(&label).set(amount(units));
            self.bounds.get_or_create(&label).set(amount(limit));
        }
        let days = self.first_exception.as_ref().map_or(-1, |exception| {
            i64::try_from(exception.days_left(at)).unwrap_or(i64::MAX)
        });
        self.exception_days.set(days);
        for (gauge, value) in [
            (&self.verdicts_now, verdicts as u64),
            (&self.answers_now, answers as u64),
            (&self.withdrawn_answers_now, withdrawn_answers as u64),
            (&self.idle_connections_now, idle_connections as u64),
            (&self.body_bytes_now, body_bytes),
            (&self.lookups_now, lookups.running as u64),
            (&self.lookups_waiting_now, lookups.waiting as u64),
            (&self.lookups_limit, lookups.limit as u64),
        ] {
            gauge.set(amount(value));
        }
        let given_up = self.lookups_given_up.inner();
        given_up.store(lookups.given_up, Ordering::Relaxed);
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Registers a metric with value zero.
fn new<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}
