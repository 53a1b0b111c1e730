//! How far one request searches for a verified machine.
//!
//! A balancer chooses a machine for each connection, so beside a machine that is refused there
//! may be one that is not. Whether a connection reached a refused machine again is known by its
//! key, right after the TLS handshake: it costs no attestation, and a request may try many such
//! connections. What costs more it tries seldom.

use attest::{Domain, Spki};

use crate::path::attempt_error::AttemptError;
use crate::path::dial::DialError;
use crate::path::unverified::AttestError;
use crate::path::{PathError, Position};

/// Failures of other kinds than those below. Also how often a request asks for evidence before
/// it passes over keys that it has asked before: an instance may be in the middle of a
/// certificate rotation.
const MAX_ATTEMPTS: usize = 3;
/// How often one request asks for evidence in vain. A hostile domain can show a new key on each
/// connection.
const MAX_ASKED: usize = 8;
/// Connections of one request; and failed connections to a domain, one after another over all
/// requests, after which a request makes three. Where half of the connections reach a refused
/// machine, one request in 2^32 finds no other. A handshake takes a tenth of a second around the
/// world, so the search takes seconds.
pub(super) const MAX_CONNECTIONS: usize = 32;

/// What a request has tried so far.
#[derive(Debug, Default)]
pub(super) struct Search {
    attempts: Vec<(Domain, AttemptError)>,
    connections: usize,
    /// Failures that say nothing of the machine, or that it falls short of a demand.
    others: usize,
    /// Keys that were asked for evidence and gave none, or none that is accepted; once for each
    /// time.
    asked: Vec<Spki>,
    /// Keys whose verdicts fell short of the demand.
    short: Vec<Spki>,
    over: bool,
}

impl Search {
    /// Whether another connection may be made to a domain, given how many failed in a row.
    pub(super) fn goes_on(&self, failed_in_a_row: impl FnOnce() -> usize) -> bool {
        !self.over
            && self.connections < MAX_CONNECTIONS
            && (self.connections < MAX_ATTEMPTS || failed_in_a_row() < MAX_CONNECTIONS)
    }

    /// Whether the verdict on a key is not known to fall short of the demand.
    pub(super) fn suits(&self, spki: Spki) -> bool {
        !self.short.contains(&spki)
    }

    /// Whether a key may be asked for evidence.
    pub(super) fn may_ask(&self, spki: Spki) -> bool {
        self.asked.len() < MAX_ATTEMPTS || !self.asked.contains(&spki)
    }

    /// A connection reached a machine that was asked before.
    pub(super) fn passed_over(&mut self) {
        self.connections += 1;
    }

    /// The verdict on a key falls short of the demand. True if that is new: then the connection
    /// is worth keeping. This request itself made any further one to the instance; keeping
    /// those would add a connection with each such request.
    pub(super) fn falls_short(&mut self, spki: Spki) -> bool {
        let new = self.suits(spki);
        if new {
            self.short.push(spki);
        }
        new
    }

    /// An attempt failed that had got as far as `position`.
    pub(super) fn failed(&mut self, domain: &Domain, error: AttemptError, position: &Position) {
        self.connections += 1;
        let known = shown_by_handshake(&error);
        match (&error, position) {
            (
                AttemptError::Attest(
                    AttestError::Rejected(_)
                    | AttestError::RefusedBefore { .. }
                    | AttestError::Status(_),
                ),
                Position::Attestation {
                    key: Some(spki), ..
                },
            ) => self.asked.push(*spki),
            _ if known => {}
            _ => self.others += 1,
        }
        self.over |= self.others >= MAX_ATTEMPTS || self.asked.len() >= MAX_ASKED;
        let is_listed =
            |(of, listed): &(Domain, AttemptError)| of == domain && is_same(listed, &error);
        if !(known && self.attempts.iter().any(is_listed)) {
            self.attempts.push((domain.clone(), error));
        }
    }

    /// No further connection can succeed.
    pub(super) fn is_over(&mut self) {
        self.over = true;
    }

    pub(super) fn into_error(self) -> PathError {
        PathError {
            attempts: self.attempts,
            connections: self.connections,
        }
    }
}

/// True for what the handshake alone shows of the machine at the other end.
pub(super) fn shown_by_handshake(error: &AttemptError) -> bool {
    matches!(
        error,
        AttemptError::Attest(AttestError::RefusedBefore { .. })
            | AttemptError::Dial(DialError::Certificate(_) | DialError::KeyNotHeld)
    )
}

/// True for two failures of which a person needs to see one.
fn is_same(one: &AttemptError, other: &AttemptError) -> bool {
    match (one, other) {
        (AttemptError::Attest(one), AttemptError::Attest(other)) => {
            let id = |error: &AttestError| Some(error.refusal()?.report.id.clone());
            id(one).is_some_and(|one| Some(one) == id(other))
        }
        (AttemptError::Dial(one), AttemptError::Dial(other)) => {
            std::mem::discriminant(one) == std::mem::discriminant(other)
        }
        _ => false,
    }
}
