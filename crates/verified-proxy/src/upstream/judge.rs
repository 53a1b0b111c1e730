//! What a backend is held against, and the one call of [`attest::appraise`].

use std::sync::{Mutex, PoisonError};

use attest::{
    Appraisal, Appraise, Channel, Evidence, FloorCheck, Floors, Nonce, Policy, PolicyDigest,
    Rejected, SigningAlgo, Spki, Subject, TrustAnchors, UnixTime, appraise,
};

use super::WebPki;
use crate::clock::Clock;
use crate::collateral::{CollateralError, Collaterals, Fetched};

/// Policy, trust root and collateral.
#[derive(Debug)]
pub(crate) struct Judge {
    policy: Policy,
    policy_digest: PolicyDigest,
    trust_anchors: TrustAnchors,
    signing_algo: SigningAlgo,
    webpki: WebPki,
    collaterals: Collaterals,
    clock: Clock,
    /// The highest collateral numbers seen since the start.
    floors: Mutex<Floors>,
}

impl Judge {
    pub(crate) fn new(
        policy: Policy,
        trust_anchors: TrustAnchors,
        signing_algo: SigningAlgo,
        webpki: WebPki,
        collaterals: Collaterals,
        clock: Clock,
    ) -> Self {
        Self {
            policy_digest: policy.digest(),
            policy,
            trust_anchors,
            signing_algo,
            webpki,
            collaterals,
            clock,
            floors: Mutex::default(),
        }
    }

    pub(super) fn signing_algo(&self) -> SigningAlgo {
        self.signing_algo
    }

    pub(super) fn webpki(&self) -> WebPki {
        self.webpki
    }

    /// For people.
    pub(super) fn collateral_sources(&self) -> String {
        self.collaterals.sources()
    }

    pub(super) fn policy_digest(&self) -> PolicyDigest {
        self.policy_digest
    }

    /// Appraises evidence, with collateral from another source if the first
    /// one's is at fault.
    pub(super) async fn appraise(
        &self,
        evidence: &Evidence,
        subject: &Subject,
        live_spki: Spki,
        nonce: Nonce,
    ) -> Result<Appraisal, CollateralError> {
        let key = match evidence.collateral_key() {
            Ok(key) => key,
            Err(rejected) => return Ok(self.unreadable(rejected)),
        };
        let judge = |fetched: &Fetched| {
            let mut floors = self.floors.lock().unwrap_or_else(PoisonError::into_inner);
            let appraisal = appraise(&Appraise {
                evidence,
                subject,
                live_spki,
                nonce,
                collateral: fetched.collateral(),
                floor: FloorCheck::Kept {
                    floors: &floors,
                    channel: Channel::Standard,
                },
                policy: &self.policy,
                trust_anchors: &self.trust_anchors,
                now: self.clock.now(),
            });
            // Also what refuses a platform has been seen.
            if let Some(seen) = &appraisal.floor_seen {
                floors.raise(seen);
            }
            appraisal
        };
        let fetched = self.collaterals.get(key).await?;
        let mut appraisal = judge(&fetched);
        if let Err(rejected) = &appraisal.outcome
            && blames_collateral(rejected)
        {
            tracing::warn!(source = %fetched.source(), %rejected, "collateral set aside");
            match self.collaterals.instead_of(key, &fetched).await {
                Ok(other) => appraisal = judge(&other),
                // The refusal says more than that there is no other source.
                Err(error) => tracing::debug!(%error, "no other collateral"),
            }
        }
        Ok(appraisal)
    }

    pub(super) fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// The verdict on something that is no evidence.
    pub(super) fn unreadable(&self, rejected: Rejected) -> Appraisal {
        Appraisal::unreadable(
            rejected,
            &self.policy,
            &self.trust_anchors,
            self.clock.now(),
        )
    }
}

/// True if other documents about the same platform could change the verdict.
pub(super) fn blames_collateral(rejected: &Rejected) -> bool {
    matches!(
        rejected,
        Rejected::CollateralFormat { .. }
            | Rejected::CollateralFmspc { .. }
            | Rejected::CollateralNotYetValid { .. }
            | Rejected::CollateralExpired { .. }
            | Rejected::CollateralUntrusted { .. }
            | Rejected::CollateralRollback { .. }
            | Rejected::TcbEvaluation { .. }
    )
}
