//! A valid machine, and what the library says of it after a change.

use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

use attest::{
    Appraisal, Appraise, CheckId, Collateral, Context, Editions, EditionsParts, Evidence, Expected,
    FilesAtHand, FilesCheck, FloorCheck, GpuAnchors, HistoryCheck, Nonce, NrasCheck, Policy,
    Rejected, Spki, Status, Subject, TagsCheck, TrustAnchors, UnixTime, UpstreamTags, appraise,
};
use fake_tee::encode::pem_chain;
use fake_tee::gpu::Message;
use fake_tee::tags::advertisement;
use fake_tee::{Built, Challenge, ComposeManager, Spec, refusing};
use proptest::test_runner::Config as ProptestConfig;

/// 2026-11-22T12:00:00Z.
pub(crate) const NOW: u64 = 1_795_348_800;
pub(crate) const DAY: u64 = 86_400;
pub(crate) const NONCE: [u8; 32] = [0x5a; 32];
pub(crate) const LIVE: [u8; 32] = [0xc3; 32];
pub(crate) const DOMAIN: &str = "fake-llama.completions.near.ai";
pub(crate) const MODEL: &str = "fake/llama";

pub(crate) fn challenge() -> Challenge {
    Challenge {
        nonce: NONCE,
        spki_sha256: LIVE,
    }
}

pub(crate) fn spec() -> Spec {
    Spec::new(NOW).unwrap()
}

/// The valid machine after a change.
pub(crate) fn spec_with(change: impl FnOnce(&mut Spec)) -> Spec {
    let mut spec = spec();
    change(&mut spec);
    spec
}

pub(crate) fn manager(spec: &mut Spec) -> &mut ComposeManager {
    spec.compose_manager.as_mut().unwrap()
}

/// Changes what every GPU signs.
pub(crate) fn each_gpu(spec: &mut Spec, change: fn(&mut Message)) {
    for gpu in &mut spec.gpus.as_mut().unwrap().gpus {
        gpu.message.push(change);
    }
}

/// A helper with Docker's socket, as a rotation of tokens has it.
pub(crate) const WITH_SOCKET: &str = "services:\n  rotate:\n    image: docker:27-cli\n    volumes: [\"/var/run/docker.sock:/var/run/docker.sock\"]\n";

/// The policy that accepts [`spec`], and nothing that a test changes.
pub(crate) fn policy() -> &'static Policy {
    static POLICY: OnceLock<Policy> = OnceLock::new();
    POLICY.get_or_init(|| policy_with(""))
}

/// The same with further lines. Where they do not say otherwise, it refuses what is no
/// release, and files that break a rule.
pub(crate) fn policy_with(more: &str) -> Policy {
    Policy::from_toml(&policy_text(more)).unwrap()
}

pub(crate) fn policy_text(more: &str) -> String {
    refusing(&spec().policy_toml(), more)
}

/// The same, which looks neither at GPUs nor at what was deployed, and takes any
/// edition of Intel's rules.
pub(crate) fn policy_of_the_machine_alone() -> &'static Policy {
    static POLICY: OnceLock<Policy> = OnceLock::new();
    POLICY.get_or_init(|| {
        let off = "gpu.mode = \"off\"\ndeployment.mode = \"off\"\ntcb.min_evaluation_number = 1\n";
        Policy::from_toml(&(spec().policy_toml() + off)).unwrap()
    })
}

/// A policy that accepts [`spec`] and extends none.
pub(crate) fn whole_policy_text() -> String {
    let own = spec().policy_toml().replace("extends = \"near\"\n", "");
    format!(
        "{own}software = \"expected\"\nacpi = \"recompute\"\ntcb.accept = [\"UpToDate\"]\ntd.attributes = [\"0000001000000000\"]\ntd.xfam = [\"e702060000000000\"]\n"
    )
}

/// The root of the fake Intel that a verifier is told to trust.
pub(crate) fn anchors() -> TrustAnchors {
    TrustAnchors::danger_tdx_root(spec().pki.root_der().to_vec())
        .with_gpus(GpuAnchors::danger_gpu_root(spec().gpu_root_der()))
}

/// Intel's list of editions, as a source serves it.
pub(crate) fn editions_parts(built: &Built) -> EditionsParts {
    let collateral = &built.collateral;
    EditionsParts {
        issuer_chain: pem_chain(&collateral.evaluation_numbers_issuer_chain),
        list: collateral.evaluation_numbers.clone(),
        signature: collateral.evaluation_numbers_signature.clone(),
    }
}

/// The same, verified.
pub(crate) fn editions(built: &Built) -> Editions {
    Editions::verify(&editions_parts(built), &anchors(), UnixTime(NOW)).unwrap()
}

pub(crate) fn subject() -> Subject {
    Subject {
        domain: Expected::Known(DOMAIN.parse().unwrap()),
        models: Expected::Known(vec!["another/name".to_owned(), MODEL.to_owned()]),
    }
}

pub(crate) fn judge_with(built: &Built, policy: &Policy, floor: FloorCheck<'_>) -> Appraisal {
    let beside = Beside {
        floor,
        ..Beside::default()
    };
    judge_beside(built, policy, beside)
}

/// What an appraisal has besides the evidence: nothing, if not said otherwise.
pub(crate) struct Beside<'a> {
    pub(crate) live_spki: Spki,
    pub(crate) floor: FloorCheck<'a>,
    pub(crate) history: HistoryCheck<'a>,
    pub(crate) files: FilesCheck<'a>,
    pub(crate) tags: TagsCheck<'a>,
    pub(crate) nras: NrasCheck<'a>,
    pub(crate) trust_anchors: TrustAnchors,
    pub(crate) now: UnixTime,
}

impl Default for Beside<'_> {
    fn default() -> Self {
        Self {
            live_spki: Spki::from_bytes(LIVE),
            floor: FloorCheck::NotKept("a test"),
            history: HistoryCheck::NotKept("a test"),
            files: FilesCheck::NotFetched("a test"),
            tags: TagsCheck::NotFetched("a test"),
            nras: NrasCheck::NotAsked("a test"),
            trust_anchors: anchors(),
            now: UnixTime(NOW),
        }
    }
}

pub(crate) fn judge_beside(built: &Built, policy: &Policy, beside: Beside<'_>) -> Appraisal {
    let now = beside.now;
    let unreadable = |rejected: Rejected| Appraisal::unreadable(rejected, policy, &anchors(), now);
    let evidence = match Evidence::parse(&built.report_bytes) {
        Ok(evidence) => evidence,
        Err(rejected) => return unreadable(rejected),
    };
    let collateral = match Collateral::from_json(built.collateral_json.as_bytes()) {
        Ok(collateral) => collateral,
        Err(rejected) => return unreadable(rejected),
    };
    judge_parsed(&evidence, &collateral, policy, beside)
}

pub(crate) fn judge_parsed(
    evidence: &Evidence,
    collateral: &Collateral,
    policy: &Policy,
    beside: Beside<'_>,
) -> Appraisal {
    appraise(&Appraise {
        evidence,
        subject: &subject(),
        live_spki: beside.live_spki,
        nonce: Nonce::from_bytes(NONCE),
        collateral,
        policy,
        trust_anchors: &beside.trust_anchors,
        context: Context {
            floor: beside.floor,
            history: beside.history,
            files: beside.files,
            tags: beside.tags,
            nras: beside.nras,
            issuers: None,
        },
        now: beside.now,
    })
}

/// With the tags of its own repository.
pub(crate) fn judge(spec: &Spec) -> Appraisal {
    judge_with_tags(spec, policy())
}

pub(crate) fn judge_with_tags(spec: &Spec, policy: &Policy) -> Appraisal {
    let built = spec.forge(&challenge()).unwrap();
    let tags = upstream(spec);
    let beside = Beside {
        tags: TagsCheck::AtHand(&tags),
        ..Beside::default()
    };
    judge_beside(&built, policy, beside)
}

/// With the tags and the files of its own repository.
pub(crate) fn judge_with_sources(
    spec: &Spec,
    policy: &Policy,
    history: HistoryCheck<'_>,
) -> Appraisal {
    let built = spec.forge(&challenge()).unwrap();
    let files = files_of(spec);
    let tags = upstream(spec);
    let beside = Beside {
        files: FilesCheck::AtHand(&files),
        tags: TagsCheck::AtHand(&tags),
        history,
        ..Beside::default()
    };
    judge_beside(&built, policy, beside)
}

/// The tags of the repository that a machine's log speaks of.
/// The files of the machine's own repository.
pub(crate) fn files_of(spec: &Spec) -> FilesAtHand {
    let mut files = FilesAtHand::default();
    let manager = spec.compose_manager.iter();
    for file in manager.flat_map(|manager| &manager.files) {
        files.insert(&file.file, file.text.as_bytes());
    }
    files
}

pub(crate) fn upstream(spec: &Spec) -> UpstreamTags {
    let manager = spec.compose_manager.as_ref();
    let tags = manager.map_or(Vec::new(), ComposeManager::published_tags);
    UpstreamTags::from_advertisement(advertisement(&tags).as_bytes()).unwrap()
}

/// The code of a refusal, or "verified".
pub(crate) fn code(appraisal: &Appraisal) -> &'static str {
    match &appraisal.outcome {
        Ok(_) => "verified",
        Err(rejected) => rejected.code(),
    }
}

pub(crate) fn status(appraisal: &Appraisal, check: CheckId) -> Status {
    appraisal.report.check(check).unwrap().status
}

pub(crate) fn detail(appraisal: &Appraisal, check: CheckId) -> &str {
    &appraisal.report.check(check).unwrap().detail
}

/// So many cases of a property, and no file of those that failed.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// CPU time of this thread, so that a busy machine fails no test; where the kernel
/// does not tell, the wall's.
pub(crate) fn cpu_time() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    // Linux counts a running thread's time when it schedules, else every few milliseconds.
    std::thread::yield_now();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    told.and_then(|text| text.split(' ').next()?.parse().ok())
        .map_or_else(|| START.elapsed(), Duration::from_nanos)
}

/// The least that some work took of some times.
pub(crate) fn cost(mut work: impl FnMut()) -> Duration {
    let mut once = || {
        let before = cpu_time();
        work();
        cpu_time() - before
    };
    let rounds = if cfg!(debug_assertions) { 3 } else { 15 };
    (0..rounds).map(|_| once()).min().unwrap()
}

/// What it costs to verify a quote, and the machine that it is of.
pub(crate) fn cost_of_a_quote() -> Duration {
    let built = spec().forge(&challenge()).unwrap();
    cost(|| {
        let floor = FloorCheck::NotKept("a test");
        let judged = judge_with(&built, policy_of_the_machine_alone(), floor);
        assert!(judged.outcome.is_ok());
    })
}

/// What hostile bytes may cost in quotes; as much more as the crate's own code is slower
/// where it is not optimised beside the cryptography, which always is.
pub(crate) const QUOTES: u32 = if cfg!(debug_assertions) { 100 } else { 3 };

/// What reading the most that is read may cost in quotes: seen were 13, optimised.
pub(crate) const QUOTES_FOR_THE_MOST: u32 = if cfg!(debug_assertions) { 100 } else { 20 };
