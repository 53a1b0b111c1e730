//! Refusals, and how long a refusal keeps its key from being attested again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use attest::{Blame, DeploymentRejected, NrasRejected, Rejected};
use sources::skew::Skew;

use super::report::VerdictReport;

/// Refusals of a key that are retried at once: an instance may be in the middle of a rotation.
const FREE_REFUSALS: u32 = 3;
/// The pause after those. It doubles with each further refusal.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// How long failed connections to a domain count as being in a row: within this time a request
/// to a domain where every machine is refused makes few connections.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// Connections to a domain that failed, since one last reached a verified machine.
#[derive(Debug)]
pub(super) struct FailedConnections {
    in_a_row: usize,
    last: Instant,
}

impl FailedConnections {
    pub(super) fn in_a_row(&self) -> usize {
        if self.is_forgotten() {
            0
        } else {
            self.in_a_row
        }
    }

    pub(super) fn is_forgotten(&self) -> bool {
        self.last.elapsed() >= FORGOTTEN
    }

    /// After one more, now.
    pub(super) fn after(before: Option<&Self>) -> Self {
        Self {
            in_a_row: before.map_or(0, Self::in_a_row).saturating_add(1),
            last: Instant::now(),
        }
    }
}

/// Refused evidence.
#[derive(Debug)]
pub struct Refusal {
    pub rejected: Rejected,
    pub report: VerdictReport,
    /// How far this machine's clock is off, if that may be the cause.
    pub skew: Option<Skew>,
}

impl Refusal {
    /// True if the refusal is about the machine under any domain; false if it is about what was
    /// expected under this one.
    pub(super) fn is_of_machine(&self) -> bool {
        !matches!(
            self.rejected,
            Rejected::Model { .. } | Rejected::WentDown { .. }
        )
    }
}

/// True if a wrong clock could be the cause.
pub(crate) fn blames_time(rejected: &Rejected) -> bool {
    rejected.blame() == Blame::Clock
        || matches!(rejected, Rejected::CollateralExpired { .. })
        || lacks_source(rejected)
}

/// Authorities date certificates back by an hour, and servers replace them days before they end.
const CERTIFICATE_SLACK: u64 = 60 * 60;

/// True if something was not fetched, perhaps because by a wrong clock its source's certificate
/// is not valid.
fn lacks_source(rejected: &Rejected) -> bool {
    use DeploymentRejected::{FilesUnavailable, TagsUnavailable};
    matches!(
        rejected,
        Rejected::Nras(NrasRejected::Unavailable { .. })
            | Rejected::Deployment(FilesUnavailable { .. } | TagsUnavailable { .. })
    )
}

/// What to do about a refusal, considering this machine's clock.
pub fn hint(rejected: &Rejected, skew: Option<Skew>) -> String {
    let hint = match rejected {
        // A user who thinks that the floors are wrong has to know where they are stored.
        Rejected::CollateralRollback { .. } => format!(
            "{} What was seen before is kept in floors.json of the state directory (--state-dir).",
            rejected.hint()
        ),
        _ => rejected.hint(),
    };
    let Some(skew) = skew else { return hint };
    // The usual hint about a source advises a policy that demands less.
    let hint = if lacks_source(rejected) && skew.size() > CERTIFICATE_SLACK {
        "By a wrong clock a source's certificate is not valid.".to_owned()
    } else {
        hint
    };
    format!("this machine's clock is {skew}, as public servers tell the time: set it. {hint}")
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

/// Successive refusals of one key.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) last: Arc<Refusal>,
    pub(super) at: Instant,
    in_a_row: u32,
    /// When a refusal last was a finding about the key, and about its machine. A later refusal
    /// that is less specific resets neither.
    key_at: Option<Instant>,
    machine_at: Option<Instant>,
}

impl Refused {
    /// The state after one more refusal of the key, now.
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

    /// True if a finding about the key came after `began`.
    pub(super) fn is_of_key_since(&self, began: Instant) -> bool {
        self.key_at > Some(began)
    }

    /// The same for its machine, under any domain.
    pub(super) fn is_of_machine_since(&self, began: Instant) -> bool {
        self.machine_at > Some(began)
    }

    /// How long the last refusal still keeps the key from being attested.
    pub(super) fn pause(&self) -> Option<Duration> {
        let mut doublings = self.in_a_row.checked_sub(FREE_REFUSALS)?;
        let rejected = &self.last.rejected;
        if blames_collateral(rejected) || blames_sources(rejected) {
            // The missing documents may come at any moment, and the key is not to blame.
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
    use attest::{Appraisal, Nonce, Policy, Spki, TrustAnchors, UnixTime};

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

    /// By a wrong clock sources cannot be reached. No hint has the user demand less for it.
    #[test]
    fn by_a_wrong_clock_the_clock_is_to_be_set() {
        let skew = Skew::between(UnixTime(1_900_000_000), UnixTime(1_800_000_000));
        let unavailable = || "no TLS: certificate expired".to_owned();
        for rejected in [
            Rejected::Nras(NrasRejected::Unavailable {
                detail: unavailable(),
            }),
            Rejected::Deployment(DeploymentRejected::TagsUnavailable {
                detail: unavailable(),
            }),
            Rejected::Deployment(DeploymentRejected::FilesUnavailable {
                detail: unavailable(),
            }),
        ] {
            assert!(blames_time(&rejected));
            let told = hint(&rejected, Some(skew));
            assert!(
                told.starts_with("this machine's clock is about 1157 days ahead")
                    && !told.contains("policy"),
                "{told}"
            );
            // By a right clock, or nearly, the usual advice is given.
            let nearly = Skew::between(UnixTime(1_800_000_900), UnixTime(1_800_000_000));
            let told = hint(&rejected, Some(nearly));
            assert!(
                told.contains("about 15 min ahead") && told.contains("in a policy of your own"),
                "{told}"
            );
            assert!(hint(&rejected, None).contains("in a policy of your own"));
        }
        let machine = Rejected::TdDebug {
            attributes: "01".to_owned(),
        };
        assert!(!blames_time(&machine));
    }

    /// A less specific refusal in between must not let an attestation be stored that began
    /// before a refusal.
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
