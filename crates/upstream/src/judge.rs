//! Everything that evidence is judged by, and the one call of [`attest::appraise`].

use std::sync::Arc;

use attest::{
    Appraisal, Appraise, Context, Deployment, Domain, Evidence, Expected, Fetch, FilesCheck,
    FloorCheck, HistoryCheck, IssuerCache, Nonce, NrasCheck, Policy, PolicyDigest, Rejected,
    SigningAlgo, Spki, Subject, TagsCheck, TrustAnchors, UnixTime, appraise,
};
use sources::backend::Backend;
use sources::clock::Clock;
use sources::collateral::{CollateralError, Collaterals, Fetched, SourceError};
use sources::compose_files::{ComposeFiles, ComposeSource};
use sources::compose_tags::{ComposeTags, StoredTags};
use sources::fetch::FetchUrl;
use sources::nras::{Nras, Opinion};
use sources::seldom::Seldom;
use sources::skew::Skew;
use sources::state::Memory;
use sources::webpki::WebPki;

use crate::verdicts::{KeyLock, Stage, blames_collateral, blames_time};

/// The outcome of one source of collateral.
#[derive(Debug)]
pub struct SourceFinding {
    pub source: FetchUrl,
    pub outcome: Result<(Judged, Arc<Fetched>), SourceError>,
}

/// The outcome for a source's documents.
#[derive(Debug)]
pub enum Judged {
    /// Genuine, valid now and not older than the floor.
    Genuine,
    Refused(Rejected),
    /// The evidence was refused before the documents were checked.
    NotReached,
}

/// Sources of the documents that a verdict needs.
#[derive(Debug, Clone)]
pub struct Sources {
    pub collaterals: Collaterals,
    pub nras: Nras,
    pub compose_files: ComposeFiles,
    pub compose_tags: ComposeTags,
}

/// Policy, trust root, sources and what was seen before.
#[derive(Debug)]
pub struct Judge {
    policy: Policy,
    policy_digest: PolicyDigest,
    trust_anchors: TrustAnchors,
    signing_algo: SigningAlgo,
    webpki: WebPki,
    sources: Sources,
    clock: Clock,
    memory: Memory,
    /// Domains where changes are accepted even if the policy holds backends to what was seen.
    accept_change: Vec<Domain>,
    /// Issuers of GPU certificates that were already verified.
    issuers: IssuerCache,
    seldom: Seldom,
}

impl Judge {
    #[expect(clippy::too_many_arguments, reason = "what a verdict depends on")]
    pub fn new(
        policy: Policy,
        trust_anchors: TrustAnchors,
        signing_algo: SigningAlgo,
        webpki: WebPki,
        sources: Sources,
        memory: Memory,
        accept_change: Vec<Domain>,
        clock: Clock,
    ) -> Self {
        Self {
            policy_digest: policy.digest(),
            policy,
            trust_anchors,
            signing_algo,
            webpki,
            sources,
            clock,
            memory,
            accept_change,
            issuers: IssuerCache::new(),
            seldom: Seldom::default(),
        }
    }

    pub(crate) fn signing_algo(&self) -> SigningAlgo {
        self.signing_algo
    }

    pub(crate) fn webpki(&self) -> WebPki {
        self.webpki
    }

    /// All sources, for messages.
    pub(crate) fn collateral_sources(&self) -> String {
        self.sources.collaterals.sources()
    }

    /// The sources that are switched on, for messages.
    pub(crate) fn compose_source(&self) -> String {
        let sources = [
            self.sources.compose_files.source(),
            self.sources.compose_tags.source(),
        ];
        let asked = sources
            .iter()
            .filter(|source| ***source != ComposeSource::Off);
        let asked: Vec<_> = asked.map(ToString::to_string).collect();
        asked.join(" and ")
    }

    /// The service's address, for messages.
    pub(crate) fn nras_service(&self) -> String {
        self.sources.nras.service().to_string()
    }

    pub(crate) fn policy_digest(&self) -> PolicyDigest {
        self.policy_digest
    }

    /// Appraises evidence; with collateral from the next source if a source's collateral is at
    /// fault.
    pub(crate) async fn appraise(
        &self,
        evidence: &Evidence,
        backend: &Backend,
        live_spki: Spki,
        nonce: Nonce,
        key_lock: &KeyLock,
    ) -> Result<Appraisal, CollateralError> {
        let policy = &self.policy;
        self.appraise_under(policy, evidence, backend, live_spki, nonce, key_lock)
            .await
    }

    /// The same under another policy. Then the backend's history is not changed.
    pub(crate) async fn appraise_under(
        &self,
        policy: &Policy,
        evidence: &Evidence,
        backend: &Backend,
        live_spki: Spki,
        nonce: Nonce,
        key_lock: &KeyLock,
    ) -> Result<Appraisal, CollateralError> {
        let subject = backend.subject();
        let key = match evidence.collateral_key() {
            Ok(key) => key,
            Err(rejected) => return Ok(self.unreadable(rejected)),
        };
        let mut set_aside = Vec::new();
        let mut refused = None;
        let mut tags = self.sources.compose_tags.stored();
        // First each source's stored documents, then new ones.
        for _ in 0..self.sources.collaterals.source_count().max(1) * 2 {
            key_lock.set_stage(Stage::Collateral);
            let documents = self.sources.collaterals.get(key, &set_aside);
            let (fetched, ()) = tokio::join!(documents, self.sources.collaterals.want_editions());
            let fetched = match fetched {
                Ok(fetched) => fetched,
                // The refusal is more specific than the missing alternative.
                Err(error) => return refused.ok_or(error),
            };
            let judge = |tags: &StoredTags, nras: NrasCheck<'_>| {
                let about = (evidence, &subject, live_spki, nonce);
                self.appraise_with(policy, &fetched, about, tags, nras)
            };
            key_lock.set_stage(Stage::ComposeFiles);
            let about = (evidence, backend.domain(), live_spki);
            let appraisal = self.with_sources(about, &mut tags, key_lock, judge).await;
            let blamed = match &appraisal.outcome {
                Err(rejected) if blames_collateral(rejected) => rejected,
                _ => {
                    let is_own = policy.digest() == self.policy_digest;
                    if let Some(seen) = appraisal.sighting.as_ref().filter(|_| is_own) {
                        self.memory.history.add(seen);
                    }
                    if appraisal.floor_seen.is_some() {
                        self.sources.collaterals.keep(key, &fetched);
                    }
                    return Ok(appraisal);
                }
            };
            let source = fetched.source();
            if let Some(more) = self.seldom.may_say(source, blamed.code()) {
                tracing::warn!(%source, rejected = %blamed, "collateral set aside{more}");
            }
            set_aside.push(fetched);
            // The first source's refusal stands if no other source does better.
            refused.get_or_insert(appraisal);
        }
        refused.ok_or(CollateralError {
            failures: Vec::new(),
        })
    }

    /// What `judge` says with the files and tags of the log that can be had, and with
    /// NVIDIA's opinion. Nothing is fetched for a machine that is refused for another reason.
    async fn with_sources(
        &self,
        (evidence, backend, machine): (&Evidence, &Domain, Spki),
        tags: &mut StoredTags,
        key_lock: &KeyLock,
        judge: impl Fn(&StoredTags, NrasCheck<'_>) -> Appraisal,
    ) -> Appraisal {
        let mut opinion: Result<Option<Opinion>, String> = Ok(None);
        let mut appraisal = judge(tags, NrasCheck::NotAsked("not asked yet"));
        let mut fetched = None;
        while let Some(fetch) = appraisal.next(fetched) {
            let has_come = match fetch {
                Fetch::Tags => self.sources.compose_tags.get(tags.as_ref().ok()).await,
                Fetch::Log => {
                    let started = appraisal.deployment().map(Deployment::started);
                    let (wanted, started) = (appraisal.files_wanted(), started.unwrap_or_default());
                    let files = self.sources.compose_files.get(backend, wanted, &started);
                    let had = tags.as_ref().ok().cloned();
                    let newer = async {
                        appraisal.tags_wanted() && self.sources.compose_tags.get(had.as_ref()).await
                    };
                    tokio::join!(files, newer) != (false, false)
                }
                Fetch::Opinion => {
                    key_lock.set_stage(Stage::Opinion);
                    let payload = evidence.gpu_payload().unwrap_or_default();
                    let said = self.sources.nras.ask(payload, machine).await;
                    opinion = said.map(Some).map_err(|error| error.to_string());
                    true
                }
                Fetch::Keys => self.newer_keys(&mut opinion).await,
            };
            if has_come {
                if fetch <= Fetch::Log {
                    self.sources.compose_tags.renew(tags);
                }
                appraisal = judge(
                    tags,
                    match &opinion {
                        Ok(None) => NrasCheck::NotAsked("not asked yet"),
                        Ok(Some(Opinion { answer, keys })) => NrasCheck::Answer { answer, keys },
                        Err(why) => NrasCheck::Unavailable(why),
                    },
                );
            }
            fetched = Some(fetch);
        }
        key_lock.set_stage(Stage::Opinion);
        appraisal
    }

    /// Puts newer keys beside NVIDIA's answer; false if there are none.
    async fn newer_keys(&self, opinion: &mut Result<Option<Opinion>, String>) -> bool {
        let Ok(Some(said)) = opinion else {
            return false;
        };
        match self.sources.nras.keys_after(&said.keys).await {
            Ok(Some(keys)) => said.keys = keys,
            Ok(None) => return false,
            Err(error) => {
                *opinion = Err(format!(
                    "it signs with a key that is not known yet; {error}"
                ));
            }
        }
        true
    }

    fn appraise_with(
        &self,
        policy: &Policy,
        fetched: &Fetched,
        (evidence, subject, live_spki, nonce): (&Evidence, &Subject, Spki, Nonce),
        tags: &StoredTags,
        nras: NrasCheck<'_>,
    ) -> Appraisal {
        let floors = self.memory.floors.get();
        let editions = self.sources.collaterals.editions();
        let history = self.memory.history.get();
        let files = self.sources.compose_files.stored();
        let appraisal = appraise(&Appraise {
            evidence,
            subject,
            live_spki,
            nonce,
            collateral: fetched.collateral(),
            policy,
            trust_anchors: &self.trust_anchors,
            context: Context {
                floor: FloorCheck::Kept {
                    floors: &floors,
                    editions: editions.as_deref(),
                },
                issuers: Some(&self.issuers),
                history: match &subject.domain {
                    Expected::Known(domain) if self.accept_change.contains(domain) => {
                        HistoryCheck::Accepting(&history)
                    }
                    _ => HistoryCheck::Kept(&history),
                },
                files: match &files {
                    Ok(files) => FilesCheck::AtHand(files),
                    Err(reason) => FilesCheck::NotFetched(reason),
                },
                tags: match tags {
                    Ok(tags) => TagsCheck::AtHand(tags),
                    Err(reason) => TagsCheck::NotFetched(reason),
                },
                nras,
            },
            now: self.clock.now(),
        });
        // Raise the floor even if the platform was refused: the collateral was genuine,
        // so its version counts as seen.
        if let Some(seen) = &appraisal.floor_seen {
            self.memory.floors.add(seen);
        }
        appraisal
    }

    /// The outcome for each source's current documents for `evidence`: for `verified-proxy
    /// doctor`.
    pub(crate) async fn by_source(
        &self,
        evidence: &Evidence,
        subject: &Subject,
        live_spki: Spki,
        nonce: Nonce,
    ) -> Vec<SourceFinding> {
        let Ok(key) = evidence.collateral_key() else {
            return Vec::new();
        };
        let sources = self.sources.collaterals.each(key);
        let (sources, ()) = tokio::join!(sources, self.sources.collaterals.want_editions());
        let tags = self.sources.compose_tags.stored();
        let judged = |fetched: &Arc<Fetched>| {
            let nras = NrasCheck::NotAsked("Intel's documents do not depend on it");
            let about = (evidence, subject, live_spki, nonce);
            let appraisal = self.appraise_with(&self.policy, fetched, about, &tags, nras);
            match appraisal.outcome {
                Err(rejected) if blames_collateral(&rejected) => Judged::Refused(rejected),
                _ if appraisal.floor_seen.is_some() => Judged::Genuine,
                _ => Judged::NotReached,
            }
        };
        // First all sources raise the floor, then each is compared with it.
        for fetched in sources.iter().filter_map(|(_, found)| found.as_ref().ok()) {
            judged(fetched);
        }
        let sources = sources.into_iter().map(|(source, found)| SourceFinding {
            source,
            outcome: found.map(|fetched| (judged(&fetched), fetched)),
        });
        sources.collect()
    }

    /// True if a verdict could reach more as soon as a source answers.
    pub(crate) fn may_rise(&self, appraisal: &Appraisal) -> bool {
        let sources = [
            self.sources.compose_files.source(),
            self.sources.compose_tags.source(),
        ];
        appraisal.deployment_is_open() && !sources.contains(&&ComposeSource::Off)
    }

    /// How far this machine's clock seems off, if that may be the cause of a refusal.
    pub(crate) fn skew_behind(&self, rejected: &Rejected) -> Option<Skew> {
        let skew = self.sources.collaterals.fetcher().dates().least()?;
        (blames_time(rejected) && skew.is_notable()).then_some(skew)
    }

    /// Renews the collateral of every platform family seen before, while the backend collects
    /// its evidence. Returns at once.
    pub(crate) fn prewarm(&self) {
        self.sources.collaterals.prewarm();
    }

    pub(crate) fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// The appraisal of a report that cannot be parsed.
    pub(crate) fn unreadable(&self, rejected: Rejected) -> Appraisal {
        Appraisal::unreadable(
            rejected,
            &self.policy,
            &self.trust_anchors,
            self.clock.now(),
        )
    }
}
