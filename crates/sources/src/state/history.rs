//! What was seen of backends, by this process and those before it.

use std::io;
use std::sync::{Arc, Mutex};

use attest::{History, Sighting};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::keeper::Kept;
use super::{StateDir, files};
use crate::lock::lock;

/// The file of version 0.1, which kept deployment logs only.
const LOGS: &str = "deployment-logs.json";

impl Kept for History {
    type Seen = Sighting;

    const FILE: &'static str = "history.json";
    /// An instance has two hundred bytes, and ten thousand are kept; each of a hundred
    /// domains has 40 KB at most.
    const MAX_BYTES: u64 = 8 << 20;
    /// Layout 1 was the history alone, and stated no version. It is read, and replaced when
    /// the next verdict adds something.
    const LAYOUT: u32 = 2;
    /// By what this process knows. Under a policy that holds the history, such a file stops
    /// the start.
    const REPLACES_DAMAGED: bool = true;

    fn add(&mut self, seen: &Sighting) -> bool {
        self.remember(seen)
    }

    fn parse(bytes: &[u8], layout: Option<u64>) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File<'a> {
            #[serde(rename = "version")]
            _version: u32,
            #[serde(borrow)]
            history: &'a RawValue,
        }
        match layout {
            None => Self::from_json(bytes),
            Some(2) => {
                let file: File<'_> =
                    serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
                Self::from_json(file.history.get().as_bytes())
            }
            Some(other) => Err(format!("no layout {other} states its version")),
        }
    }

    fn without_file(state: &StateDir) -> Result<Self, String> {
        match files::read(&state.by_root.join(LOGS), Self::MAX_BYTES) {
            Ok(logs) => Self::from_json_of_logs(&logs),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => Err(error.to_string()),
        }
        .map_err(|detail| format!("it is missing, and {LOGS} before it cannot be read: {detail}"))
    }

    fn merge(memory: &Mutex<Arc<Self>>, on_disk: Option<Self>, unsaved: &[Sighting]) -> Self {
        let mut merged = on_disk.unwrap_or_else(|| Self::clone(&lock(memory)));
        for seen in unsaved {
            merged.remember(seen);
        }
        merged
    }

    fn to_file(&self) -> String {
        format!(
            "{{\"version\": {}, \"history\": {}}}\n",
            Self::LAYOUT,
            self.to_json()
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use attest::{
        Appraise, Collateral, Context, Evidence, Expected, GpuAnchors, HistoryCheck, Nonce, Policy,
        Spki, Subject, TrustAnchors, UnixTime, appraise,
    };
    use fake_tee::{Challenge, Spec};

    use super::super::Memory;
    use super::super::keeper::{Keeper, path, read};
    use super::super::layout::Unread;
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

    async fn written(keeper: &Keeper<History>, state: &StateDir) {
        keeper.save();
        state.memory.is_idle().await;
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
        written(&keeper, &state).await;
        let mut both = History::default();
        assert!(both.remember(&first) && both.remember(&second));
        assert_eq!(read::<History>(&state).unwrap(), both);
    }

    #[tokio::test]
    async fn what_was_seen_while_the_disk_stalled_is_written() {
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
        drop(other_process);
        written(&keeper, &state).await;
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
        written(&keeper, &state).await;
        assert_eq!(read::<History>(&state).unwrap(), History::default());
        drop(other_process);
        written(&keeper, &state).await;
        let mut kept = History::default();
        assert!(kept.remember(&seen));
        assert_eq!(read::<History>(&state).unwrap(), kept);
    }

    /// A folder, and a history of this program's layout.
    async fn kept() -> (tempfile::TempDir, Arc<StateDir>, Keeper<History>) {
        let folder = tempfile::tempdir().unwrap();
        let anchors = anchors(&Spec::new(NOW).unwrap());
        let state = StateDir::open(folder.path(), &anchors).unwrap();
        let keeper = Keeper::new(History::default(), Some(Arc::clone(&state)));
        keeper.add(&seen(1));
        written(&keeper, &state).await;
        (folder, state, keeper)
    }

    #[tokio::test]
    async fn earlier_layouts_are_read_and_then_replaced() {
        let (_folder, state, keeper) = kept().await;
        let history = keeper.get();
        let file = path::<History>(&state);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(
            text.starts_with("{\"version\": 2, \"history\": {"),
            "{text}"
        );

        // Layout 1 had no envelope. Version 0.1 had the logs alone, in another file.
        let whole: serde_json::Value = serde_json::from_str(&text).unwrap();
        let logs = state.by_root.join(LOGS);
        for (place, content) in [
            (&file, history.to_json()),
            (&logs, whole["history"]["logs"].to_string()),
        ] {
            let _ = std::fs::remove_file(&file);
            std::fs::write(place, &content).unwrap();
            let mut read_back = read::<History>(&state).unwrap();
            assert!(!read_back.to_json().contains("\"logs\":{}"), "{content}");
            // The next thing that is seen is added to it.
            let next = Keeper::new(read_back.clone(), Some(Arc::clone(&state)));
            next.add(&seen(2));
            written(&next, &state).await;
            assert!(read_back.remember(&seen(2)));
            assert_eq!(read::<History>(&state), Ok(read_back));
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.starts_with("{\"version\": 2, "), "{text}");
        }
        // What 0.1 wrote stays as it is, for a downgrade.
        assert_eq!(
            std::fs::read_to_string(&logs).unwrap(),
            whole["history"]["logs"].to_string()
        );
    }

    /// A file of another version is not replaced, and a damaged one is kept under another name.
    #[tokio::test]
    async fn a_newer_history_stays_and_a_damaged_one_is_replaced() {
        let (_folder, state, _) = kept().await;
        let file = path::<History>(&state);
        let good = std::fs::read(&file).unwrap();
        let newer = |text: &[u8]| {
            let text = String::from_utf8_lossy(text).replace("\"version\": 2", "\"version\": 3");
            text.into_bytes()
        };
        let whole = newer(&good);
        for (content, is_newer) in [
            (whole.clone(), true),
            (whole[..whole.len() / 2].to_vec(), true),
            (b"{\"version\":30,\"unknown\":[]}".to_vec(), true),
            (b"{\"unknown\":[],\"version\":3}".to_vec(), true),
            ([&whole[..40], &vec![b' '; 9 << 20]].concat(), true),
            (good[..good.len() / 2].to_vec(), false),
            (Vec::new(), false),
            (b"\0\0\0\0".to_vec(), false),
            (b"{\"version\": 2, \"history\": []}".to_vec(), false),
            (b"{\"version\": 1, \"history\": {}}".to_vec(), false),
        ] {
            std::fs::write(&file, &content).unwrap();
            let unread = read::<History>(&state).unwrap_err();
            assert_eq!(matches!(unread, Unread::Newer { .. }), is_newer, "{unread}");
            assert!(Memory::load(Some(Arc::clone(&state)), true).is_err());
            // Without `hold` there is a start.
            let memory = Memory::load(Some(Arc::clone(&state)), false).unwrap();
            memory.history.add(&seen(2));
            memory.flush().await;
            let now = std::fs::read(&file).unwrap();
            if is_newer {
                assert_eq!(now, content);
            } else {
                let mut kept = History::default();
                assert!(kept.remember(&seen(2)));
                assert_eq!(read::<History>(&state), Ok(kept));
                let aside = file.with_file_name("history.json.damaged");
                assert_eq!(std::fs::read(aside).unwrap(), content);
            }
            // Also where it comes while this process runs.
            let keeper = Keeper::new(History::default(), Some(Arc::clone(&state)));
            std::fs::write(&file, &content).unwrap();
            keeper.add(&seen(1));
            written(&keeper, &state).await;
            assert_eq!(std::fs::read(&file).unwrap() == content, is_newer);
        }
    }
}
