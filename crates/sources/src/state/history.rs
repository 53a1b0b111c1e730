//! What was seen of backends, by this process and those before it.

use std::sync::{Arc, Mutex};

use attest::{History, Sighting};

use super::keeper::{Kept, path};
use super::{StateDir, files};
use crate::lock::lock;

impl Kept for History {
    type Seen = Sighting;

    const FILE: &'static str = "history.json";
    /// An instance has two hundred bytes, and ten thousand are kept; each of a hundred
    /// domains has 40 KB at most.
    const MAX_BYTES: u64 = 8 << 20;

    fn add(&mut self, seen: &Sighting) -> bool {
        self.remember(seen)
    }

    /// Version 0.1 kept deployment logs only. If its file cannot be read, one change at a
    /// backend is not noticed.
    fn parse(bytes: Option<&[u8]>, state: &StateDir) -> Result<Self, String> {
        if let Some(bytes) = bytes {
            return Self::from_json(bytes);
        }
        let logs = state.by_root.join("deployment-logs.json");
        let logs = files::read(&logs, Self::MAX_BYTES).unwrap_or_default();
        Ok(Self::from_json_of_logs(&logs).unwrap_or_default())
    }

    /// A file that can no longer be read is replaced by what this process knows.
    fn merge(
        memory: &Mutex<Arc<Self>>,
        on_disk: Result<Self, String>,
        unsaved: &[Sighting],
        state: &StateDir,
    ) -> Result<Self, String> {
        let mut merged = on_disk.unwrap_or_else(|detail| {
            warn_unread(state, &detail);
            Self::clone(&lock(memory))
        });
        for seen in unsaved {
            merged.remember(seen);
        }
        Ok(merged)
    }

    fn to_file(&self) -> String {
        self.to_json()
    }
}

pub(super) fn warn_unread(state: &StateDir, detail: &str) {
    tracing::warn!(
        path = %path::<History>(state).display(), detail,
        "not read; what changed at a backend since will not be noticed"
    );
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use attest::{
        Appraise, Collateral, Context, Evidence, Expected, GpuAnchors, HistoryCheck, Nonce, Policy,
        Spki, Subject, TrustAnchors, UnixTime, appraise,
    };
    use fake_tee::{Challenge, Spec};

    use super::super::keeper::{Keeper, read};
    use super::*;

    const NOW: u64 = 1_795_348_800;

    fn anchors(spec: &Spec) -> TrustAnchors {
        TrustAnchors::danger_tdx_root(spec.pki.root_der().to_vec())
            .with_gpus(GpuAnchors::danger_gpu_root(spec.gpu_root_der()))
    }

    /// The log of an instance that holds.
    fn seen(instance: u8) -> Sighting {
        let mut spec = Spec::new(NOW).unwrap();
        spec.app.instance_id = vec![instance; 20];
        let challenge = Challenge {
            nonce: [1; 32],
            spki_sha256: [2; 32],
        };
        let built = spec.forge(&challenge).unwrap();
        let appraisal = appraise(&Appraise {
            evidence: &Evidence::parse(&built.report_bytes).unwrap(),
            subject: &Subject {
                domain: Expected::NotChecked("a test"),
                models: Expected::NotChecked("a test"),
            },
            live_spki: Spki::from_bytes([2; 32]),
            nonce: Nonce::from_bytes([1; 32]),
            collateral: &Collateral::from_json(built.collateral_json.as_bytes()).unwrap(),
            policy: &Policy::from_toml(&spec.policy_toml()).unwrap(),
            trust_anchors: &anchors(&spec),
            context: Context {
                history: HistoryCheck::Kept(&History::default()),
                ..Context::none("a test")
            },
            now: UnixTime(NOW),
        });
        appraisal.sighting.unwrap()
    }

    #[tokio::test]
    async fn adding_does_not_wait_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let anchors = anchors(&Spec::new(NOW).unwrap());
        let state = StateDir::open(folder.path(), &anchors).unwrap();
        let keeper = Keeper::new(History::default(), Some(Arc::clone(&state)));
        let (first, second) = (seen(1), seen(2));
        let other_process = files::lock(&state.path).unwrap();
        keeper.add(&first);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let began = Instant::now();
        keeper.add(&second);
        let waited = began.elapsed();
        assert!(waited < Duration::from_secs(1), "{waited:?}");
        drop(other_process);
        keeper.flush().await;
        let mut both = History::default();
        assert!(both.remember(&first) && both.remember(&second));
        assert_eq!(read::<History>(&state).unwrap(), both);
    }

    #[tokio::test]
    async fn a_disk_that_stalls_holds_two_threads() {
        let folder = tempfile::tempdir().unwrap();
        let anchors = anchors(&Spec::new(NOW).unwrap());
        let state = StateDir::open(folder.path(), &anchors).unwrap();
        let keeper = Keeper::new(History::default(), Some(Arc::clone(&state)));
        let all: Vec<_> = (1..7).map(seen).collect();
        let other_process = files::lock(&state.path).unwrap();
        for seen in &all {
            keeper.add(seen);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(keeper.savers(), 2);
        drop(other_process);
        keeper.flush().await;
        let mut kept = History::default();
        assert!(all.iter().all(|seen| kept.remember(seen)));
        assert_eq!(read::<History>(&state).unwrap(), kept);
    }

    #[tokio::test]
    async fn what_could_not_be_written_is_written_later() {
        let folder = tempfile::tempdir().unwrap();
        let anchors = anchors(&Spec::new(NOW).unwrap());
        let state = StateDir::open(folder.path(), &anchors).unwrap();
        let keeper = Keeper::new(History::default(), Some(Arc::clone(&state)));
        let other_process = files::lock(&state.path).unwrap();
        let seen = seen(1);
        keeper.add(&seen);
        keeper.flush().await;
        assert_eq!(read::<History>(&state).unwrap(), History::default());
        drop(other_process);
        keeper.flush().await;
        let mut kept = History::default();
        assert!(kept.remember(&seen));
        assert_eq!(read::<History>(&state).unwrap(), kept);
    }
}
