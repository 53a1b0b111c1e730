//! The proof, and what a cache may keep of it.
//!
//! [`Attested`] can be made in two places only: by [`appraise`](crate::appraise)
//! and by [`Record::recall`]. It is neither `Clone` nor `Deserialize`, and it
//! names the TLS key, the policy and the time it holds for, so a proof about
//! one connection is useless on another.

use std::sync::Arc;

use crate::base::identifiers::{Domain, Nonce, PolicyDigest, Spki, UnixTime};
use crate::base::levels::Levels;
use crate::near::evidence::SigningKey;

/// Why a value is absent: never a bare `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected<T> {
    /// The value that evidence is held against.
    Known(T),
    /// It is not looked at, for this reason.
    NotChecked(&'static str),
}

/// What the evidence should be about: a domain, and the models that the
/// endpoint list gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The domain that was dialled; without one there can be no [`Record`].
    pub domain: Expected<Domain>,
    /// The names of which `model_name` must be one.
    pub models: Expected<Vec<String>>,
}

/// What both proof and record say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(crate) domain: Expected<Domain>,
    pub(crate) spki: Spki,
    pub(crate) policy: PolicyDigest,
    pub(crate) valid_until: UnixTime,
    pub(crate) model_name: String,
    pub(crate) signing_key: SigningKey,
    pub(crate) nonce: Nonce,
    pub(crate) levels: Levels,
    pub(crate) judged_at: UnixTime,
}

/// Proof that a TLS key lives in a TEE that the policy accepts.
#[derive(Debug)]
#[must_use = "a proof that nobody holds opens nothing"]
pub struct Attested {
    pub(crate) claims: Arc<Claims>,
}

macro_rules! accessors {
    () => {
        /// SHA-256 of the attested TLS key.
        #[must_use]
        pub fn spki(&self) -> Spki {
            self.claims.spki
        }

        /// The domain it was asked for.
        #[must_use]
        pub fn domain(&self) -> &Expected<Domain> {
            &self.claims.domain
        }

        /// The policy it was judged by.
        #[must_use]
        pub fn policy(&self) -> PolicyDigest {
            self.claims.policy
        }

        /// The moment from which it says nothing any more (exclusive).
        #[must_use]
        pub fn valid_until(&self) -> UnixTime {
            self.claims.valid_until
        }

        /// The model name in the evidence. The attested channel vouches for it,
        /// not the quote.
        #[must_use]
        pub fn model_name(&self) -> &str {
            &self.claims.model_name
        }

        /// The key that signs the backend's answers.
        #[must_use]
        pub fn signing_key(&self) -> &SigningKey {
            &self.claims.signing_key
        }

        /// What the evidence showed, axis by axis.
        #[must_use]
        pub fn levels(&self) -> Levels {
            self.claims.levels
        }

        /// When the evidence was judged.
        #[must_use]
        pub fn judged_at(&self) -> UnixTime {
            self.claims.judged_at
        }

        /// The nonce of the evidence behind it.
        #[must_use]
        pub fn nonce(&self) -> Nonce {
            self.claims.nonce
        }
    };
}

impl Attested {
    accessors!();

    /// What a cache may keep: it expires `ttl_seconds` after `now`, or with the
    /// evidence's own validity if that is sooner.
    ///
    /// # Errors
    /// [`NoDomain`] if the evidence was appraised for no domain.
    pub fn record(&self, now: UnixTime, ttl_seconds: u64) -> Result<Record, NoDomain> {
        let Expected::Known(domain) = &self.claims.domain else {
            return Err(NoDomain);
        };
        Ok(Record {
            made: now,
            claims: Arc::new(Claims {
                domain: Expected::Known(domain.clone()),
                spki: self.claims.spki,
                policy: self.claims.policy,
                valid_until: self.claims.valid_until.min(now.plus(ttl_seconds)),
                model_name: self.claims.model_name.clone(),
                signing_key: self.claims.signing_key.clone(),
                nonce: self.claims.nonce,
                levels: self.claims.levels,
                judged_at: self.claims.judged_at,
            }),
        })
    }
}

/// A proof was made for no domain, so nothing can be remembered of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the evidence was appraised for no domain, so there is nothing to remember it by")]
pub struct NoDomain;

/// What a cache keeps of an [`Attested`]: useful for the same domain, key and
/// policy, until it expires. It cannot be written to disk: after a restart
/// backends are attested anew.
#[derive(Debug)]
pub struct Record {
    made: UnixTime,
    claims: Arc<Claims>,
}

/// Why a [`Record`] does not stand for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecallError {
    /// It is about another domain.
    #[error("the record is about another domain")]
    OtherDomain,
    /// It is about another TLS key.
    #[error("the record is about another TLS key")]
    OtherKey,
    /// It was made under another policy.
    #[error("the record was made under another policy")]
    OtherPolicy,
    /// Its time is over.
    #[error("the record has expired")]
    Expired,
    /// The clock stands before the moment it was made: how long it has been
    /// valid cannot be told.
    #[error("the clock went back behind the record's making")]
    ClockWentBack,
}

impl Record {
    accessors!();

    /// The proof again, for a new connection to the same domain and key.
    ///
    /// # Errors
    /// If domain, key or policy differ in any way, or time has run out.
    pub fn recall(
        &self,
        domain: &Domain,
        live_spki: Spki,
        policy: PolicyDigest,
        now: UnixTime,
    ) -> Result<Attested, RecallError> {
        let Expected::Known(own) = &self.claims.domain else {
            return Err(RecallError::OtherDomain);
        };
        if own != domain {
            return Err(RecallError::OtherDomain);
        }
        if self.claims.spki != live_spki {
            return Err(RecallError::OtherKey);
        }
        if self.claims.policy != policy {
            return Err(RecallError::OtherPolicy);
        }
        if now < self.made {
            return Err(RecallError::ClockWentBack);
        }
        if now >= self.claims.valid_until {
            return Err(RecallError::Expired);
        }
        Ok(Attested {
            claims: Arc::clone(&self.claims),
        })
    }
}
