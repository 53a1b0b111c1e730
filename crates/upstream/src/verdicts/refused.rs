//! Refusals, and for how long one speaks for its key.

use std::sync::Arc;
use std::time::{Duration, Instant};

use attest::{Blame, Rejected};
use sources::skew::Skew;

use super::report::VerdictReport;

/// Refusals of a key that are followed by another try at once: a request tries
/// three connections, and one of them may be in the middle of a rotation.
const FREE_REFUSALS: u32 = 3;
/// After those, doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// What evidence was refused for.
#[derive(Debug)]
pub struct Refusal {
    pub rejected: Rejected,
    pub report: VerdictReport,
    /// How far this machine's clock is off, where that may be the cause.
    pub skew: Option<Skew>,
}

impl Refusal {
    /// True if it is about the machine, whatever name that was asked under: not if it is
    /// about what was expected under this name.
    pub(super) fn is_of_machine(&self) -> bool {
        !matches!(
            self.rejected,
            Rejected::Model { .. } | Rejected::WentDown { .. }
        )
    }
}

/// True if a clock that is wrong could be the reason.
pub(crate) fn blames_time(rejected: &Rejected) -> bool {
    rejected.blame() == Blame::Clock || matches!(rejected, Rejected::CollateralExpired { .. })
}

/// What to do about a refusal, with what is known of this machine's clock.
pub fn hint(rejected: &Rejected, skew: Option<Skew>) -> String {
    let hint = match rejected {
        // Whoever believes that what was seen is wrong has to know where it is.
        Rejected::CollateralRollback { .. } => format!(
            "{} What was seen before is kept in floors.json of the state directory (--state-dir).",
            rejected.hint()
        ),
        _ => rejected.hint(),
    };
    match skew {
        Some(skew) => format!(
            "this machine's clock is {skew}, as public servers tell the time: set it. {hint}"
        ),
        None => hint,
    }
}

/// True if other documents about the same platform could change the verdict.
pub(crate) fn blames_collateral(rejected: &Rejected) -> bool {
    rejected.blame() == Blame::Collateral
        || matches!(rejected, Rejected::CollateralNotYetValid { .. })
}

/// True if the refusal says nothing of the machine: something that the policy
/// demands and others provide is missing, or is not what it should be.
pub(crate) fn blames_sources(rejected: &Rejected) -> bool {
    rejected.blame() == Blame::Sources
}

/// Refusals of one key, one after another.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) last: Arc<Refusal>,
    pub(super) at: Instant,
    in_a_row: u32,
    /// When something was last found out about the key, and about its machine: a
    /// later refusal that finds out less takes neither back.
    key_at: Option<Instant>,
    machine_at: Option<Instant>,
}

impl Refused {
    /// One more refusal of the key, now.
    pub(super) fn after(before: Option<&Self>, last: Arc<Refusal>) -> Self {
        let in_a_row = before
            .filter(|refused| refused.at.elapsed() < 2 * LAST_PAUSE)
            .map_or(0, |refused| refused.in_a_row);
        let at = Instant::now();
        let about_machine_or_key = !blames_sources(&last.rejected);
        let of_machine = about_machine_or_key && last.is_of_machine();
        let key_at = before.and_then(|before| before.key_at);
        let machine_at = before.and_then(|before| before.machine_at);
        Self {
            last,
            at,
            in_a_row: in_a_row.saturating_add(1),
            key_at: if about_machine_or_key {
                Some(at)
            } else {
                key_at
            },
            machine_at: if of_machine { Some(at) } else { machine_at },
        }
    }

    /// True if something was found out about the key after `began`.
    pub(super) fn is_of_key_since(&self, began: Instant) -> bool {
        self.key_at > Some(began)
    }

    /// The same about its machine, whatever name that was asked under.
    pub(super) fn is_of_machine_since(&self, began: Instant) -> bool {
        self.machine_at > Some(began)
    }

    /// For how long the last refusal still speaks for the key.
    pub(super) fn pause(&self) -> Option<Duration> {
        let mut doublings = self.in_a_row.checked_sub(FREE_REFUSALS)?;
        let rejected = &self.last.rejected;
        if blames_collateral(rejected) || blames_sources(rejected) {
            // They may come at any moment, and nothing is the key's fault.
            doublings = 0;
        }
        let pause = FIRST_PAUSE
            .saturating_mul(1 << doublings.min(8))
            .min(LAST_PAUSE);
        pause
            .checked_sub(self.at.elapsed())
            .filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use attest::{
        Appraisal, DeploymentRejected, Nonce, NrasRejected, Policy, Spki, TrustAnchors, UnixTime,
    };

    use super::*;
    use crate::verdicts::VerdictId;
    use sources::webpki::WebPki;

    fn refusal(rejected: Rejected) -> Arc<Refusal> {
        let (policy, now) = (Policy::near(), UnixTime(1_800_000_000));
        let (domain, spki) = ("a.example".parse().unwrap(), Spki::of_der(b"key"));
        let id = VerdictId::of(&domain, spki, policy.digest(), Nonce::from_bytes([1; 32]));
        let anchors = TrustAnchors::intel();
        let appraisal = Appraisal::unreadable(rejected.clone(), &policy, &anchors, now);
        let report = VerdictReport::new(id, &domain, spki, WebPki::Require, now, &appraisal);
        Arc::new(Refusal {
            rejected,
            report,
            skew: None,
        })
    }

    /// An attestation that began before a refusal must not be remembered because
    /// somebody found out less in between.
    #[test]
    fn who_finds_out_less_takes_no_refusal_back() {
        let machine = || {
            refusal(Rejected::TdDebug {
                attributes: "01".to_owned(),
            })
        };
        let name = || {
            refusal(Rejected::Model {
                got: "a".to_owned(),
                expected: "b".to_owned(),
            })
        };
        let no_opinion = || {
            refusal(Rejected::Nras(NrasRejected::Unavailable {
                detail: "status 503".to_owned(),
            }))
        };
        let no_source = || {
            refusal(Rejected::Deployment(DeploymentRejected::TagsUnavailable {
                detail: "status 503".to_owned(),
            }))
        };
        let since = |refusals: Vec<Arc<Refusal>>| {
            let began = Instant::now();
            std::thread::sleep(Duration::from_millis(2));
            let mut refused: Option<Refused> = None;
            for refusal in refusals {
                refused = Some(Refused::after(refused.as_ref(), refusal));
            }
            let refused = refused.unwrap();
            let after = Instant::now();
            assert!(!refused.is_of_key_since(after) && !refused.is_of_machine_since(after));
            (
                refused.is_of_key_since(began),
                refused.is_of_machine_since(began),
            )
        };
        assert_eq!(since(vec![machine()]), (true, true));
        assert_eq!(since(vec![name()]), (true, false));
        assert_eq!(since(vec![no_opinion()]), (false, false));
        assert_eq!(since(vec![no_source()]), (false, false));
        assert_eq!(since(vec![machine(), no_source()]), (true, true));
        assert_eq!(since(vec![machine(), no_opinion()]), (true, true));
        assert_eq!(since(vec![machine(), name(), no_opinion()]), (true, true));
        assert_eq!(since(vec![name(), no_opinion()]), (true, false));
    }
}
