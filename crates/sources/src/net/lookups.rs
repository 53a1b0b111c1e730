//! Names to addresses, by the system's resolver.
//!
//! `getaddrinfo` blocks a thread for as long as the resolver likes, and nothing ends it. So a
//! name has at most one lookup at a time, whose outcome all who wait for it share, and all
//! lookups together have a bounded number of threads of their own: tokio's pool for blocking
//! work serves files too, and a runtime that ends waits for it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::lock::lock;

/// Lookups at a time. A resolver answers in tenths of a second, so this serves hundreds of new
/// names a second; a thread costs some 100 KiB.
const PLACES: usize = 64;
/// Further ones for names that were found before: names that a client makes up, and whose
/// lookups hang, cannot take these.
const KNOWN_PLACES: usize = 16;
/// Names found before that are remembered. NEAR AI's fleet and the sources have some dozens.
const MAX_KNOWN: usize = 256;

/// Shared, so that each of those who wait can have it.
type Outcome = Result<Arc<[SocketAddr]>, Arc<io::Error>>;
type Resolve = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The state of the lookups at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LookupCounts {
    /// Those that hold a thread.
    pub running: usize,
    /// The most that can.
    pub limit: usize,
    /// Those that wait for a thread.
    pub waiting: usize,
    /// Those that nobody waited for any more before they had a thread, since the start.
    pub given_up: u64,
}

/// Looks names up. Clones share everything.
#[derive(Clone)]
pub(super) struct Lookups(Arc<Inner>);

struct Inner {
    resolve: Box<Resolve>,
    places: Arc<Semaphore>,
    known_places: Arc<Semaphore>,
    given_up: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By name, what reports the outcome of its lookup.
    runs: HashMap<String, watch::Sender<Option<Outcome>>>,
    /// Found before; the last one last.
    known: VecDeque<String>,
}

impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lookups({:?})", self.counts())
    }
}

impl Lookups {
    /// By the system's resolver. There is one for the process, so that its bound is the
    /// process's: a lookup that hangs outlives a reload of the configuration.
    pub(super) fn of_system() -> Self {
        static ALL: LazyLock<Lookups> = LazyLock::new(|| {
            Lookups::new(|host| {
                use std::net::ToSocketAddrs;
                Ok((host, 0).to_socket_addrs()?.collect())
            })
        });
        ALL.clone()
    }

    fn new(resolve: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            resolve: Box::new(resolve),
            places: Arc::new(Semaphore::new(PLACES)),
            known_places: Arc::new(Semaphore::new(KNOWN_PLACES)),
            given_up: AtomicU64::new(0),
            state: Mutex::default(),
        }))
    }

    /// The addresses of `host`, which may be an address itself, with port 0. It may take for
    /// ever: the caller has a limit, and may leave.
    pub(super) async fn addresses(&self, host: &str) -> io::Result<Arc<[SocketAddr]>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok([SocketAddr::new(address, 0)].into());
        }
        let mut waiter = self.join(host);
        let outcome = waiter.wait_for(Option::is_some).await;
        let outcome = outcome.ok().and_then(|outcome| outcome.clone());
        match outcome {
            Some(Ok(addresses)) => Ok(addresses),
            Some(Err(error)) => Err(io::Error::new(error.kind(), error)),
            None => Err(io::Error::other("the lookup was lost")),
        }
    }

    pub(super) fn is_under_way(&self, host: &str) -> bool {
        lock(&self.0.state).runs.contains_key(host)
    }

    pub(super) fn counts(&self) -> LookupCounts {
        let free = self.0.places.available_permits() + self.0.known_places.available_permits();
        let limit = PLACES + KNOWN_PLACES;
        let running = limit.saturating_sub(free);
        LookupCounts {
            running,
            limit,
            waiting: lock(&self.0.state).runs.len().saturating_sub(running),
            given_up: self.0.given_up.load(Ordering::Relaxed),
        }
    }

    /// Joins the lookup of `host`, or begins one.
    fn join(&self, host: &str) -> watch::Receiver<Option<Outcome>> {
        let mut state = lock(&self.0.state);
        if let Some(report) = state.runs.get(host) {
            return report.subscribe();
        }
        let (report, waiter) = watch::channel(None);
        let run = Run {
            lookups: self.clone(),
            host: host.to_owned(),
            report: report.clone(),
        };
        state.runs.insert(host.to_owned(), report);
        drop(state);
        tokio::spawn(run.begin());
        waiter
    }
}

/// The one lookup of a name. Dropping it makes way for the next one.
struct Run {
    lookups: Lookups,
    host: String,
    report: watch::Sender<Option<Outcome>>,
}

impl Run {
    /// Waits for a thread, unless nobody waits for the outcome any more.
    async fn begin(self) {
        let place = tokio::select! {
            place = self.place() => place,
            () = self.abandoned() => {
                self.lookups.0.given_up.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        let report = self.report.clone();
        let thread = thread::Builder::new().name("lookup".to_owned());
        if let Err(error) = thread.spawn(move || self.resolve(place)) {
            report.send_replace(Some(Err(Arc::new(error))));
        }
    }

    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let Inner {
            places,
            known_places,
            state,
            ..
        } = &*self.lookups.0;
        let is_known = lock(state).known.contains(&self.host);
        let place = tokio::select! {
            biased;
            place = Arc::clone(places).acquire_owned() => place,
            place = Arc::clone(known_places).acquire_owned(), if is_known => place,
        };
        // Neither semaphore is ever closed.
        place.ok()
    }

    /// Ends when nobody waits, and then nobody can join.
    async fn abandoned(&self) {
        loop {
            self.report.closed().await;
            let mut state = lock(&self.lookups.0.state);
            if self.report.receiver_count() == 0 {
                self.leave(&mut state);
                return;
            }
        }
    }

    fn resolve(self, place: Option<OwnedSemaphorePermit>) {
        let outcome = (self.lookups.0.resolve)(&self.host);
        let mut state = lock(&self.lookups.0.state);
        if outcome.is_ok() {
            state.known.retain(|name| *name != self.host);
            if state.known.len() >= MAX_KNOWN {
                state.known.pop_front();
            }
            state.known.push_back(self.host.clone());
        }
        self.leave(&mut state);
        drop(state);
        drop(place);
        let outcome = outcome.map(Arc::from).map_err(Arc::new);
        self.report.send_replace(Some(outcome));
    }

    fn leave(&self, state: &mut State) {
        let is_own = |report: &watch::Sender<_>| report.same_channel(&self.report);
        if state.runs.get(&self.host).is_some_and(is_own) {
            state.runs.remove(&self.host);
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let lookups = self.lookups.clone();
        self.leave(&mut lock(&lookups.0.state));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;
    use std::time::{Duration, Instant};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A resolver for which names that begin with "hang" do not answer until they may, names
    /// that begin with "fail" fail after a while, and all others are found. It notes each
    /// lookup.
    #[derive(Default)]
    struct Fake {
        seen: Mutex<Vec<String>>,
        may_answer: Mutex<bool>,
        told: Condvar,
    }

    impl Fake {
        fn lookups() -> (Arc<Self>, Lookups) {
            let fake = Arc::new(Self::default());
            let resolver = Arc::clone(&fake);
            (fake, Lookups::new(move |host| resolver.resolve(host)))
        }

        fn resolve(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
            lock(&self.seen).push(host.to_owned());
            if host.starts_with("hang") {
                let may_answer = lock(&self.may_answer);
                drop(self.told.wait_while(may_answer, |may| !*may).unwrap());
            }
            if host.starts_with("fail") {
                thread::sleep(Duration::from_millis(300));
                return Err(io::Error::new(io::ErrorKind::NotFound, "no such name"));
            }
            Ok(vec![SocketAddr::from(([192, 0, 2, 1], 0))])
        }

        fn answer(&self) {
            *lock(&self.may_answer) = true;
            self.told.notify_all();
        }

        fn asked(&self, host: &str) -> usize {
            lock(&self.seen).iter().filter(|name| *name == host).count()
        }
    }

    async fn until(what: &str, mut done: impl FnMut() -> bool) {
        let began = Instant::now();
        while !done() {
            assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn found(lookups: &Lookups, host: &str) -> io::Result<Arc<[SocketAddr]>> {
        let outcome = tokio::time::timeout(PATIENCE, lookups.addresses(host)).await;
        outcome.expect("the lookup hangs")
    }

    #[tokio::test]
    async fn a_name_that_hangs_has_one_thread_and_denies_no_other() {
        let (fake, lookups) = Fake::lookups();
        // 500 ask and leave, and 500 stay.
        for _ in 0..500 {
            drop(lookups.join("hang.example"));
        }
        let waiting: Vec<_> = (0..500).map(|_| lookups.join("hang.example")).collect();
        until("the lookup began", || fake.asked("hang.example") == 1).await;
        assert!(found(&lookups, "other.example").await.is_ok());
        assert!(found(&lookups, "192.0.2.9").await.is_ok());
        assert!(found(&lookups, "::1").await.is_ok());
        drop(waiting);
        // Nobody waits, but the thread still runs: the next one joins it.
        let late = lookups.join("hang.example");
        assert_eq!(fake.asked("hang.example"), 1);
        assert_eq!(lookups.counts().running, 1);
        assert!(lookups.is_under_way("hang.example"));
        assert!(!lookups.is_under_way("other.example"));
        fake.answer();
        assert!(found(&lookups, "hang.example").await.is_ok());
        assert!(late.borrow().as_ref().is_none_or(Result::is_ok));
        until("places free", || lookups.counts().running == 0).await;
        assert_eq!(lookups.counts().waiting, 0);
    }

    #[tokio::test]
    async fn a_failure_is_shared_and_not_kept() {
        let (fake, lookups) = Fake::lookups();
        let asked = (0..50).map(|_| found(&lookups, "fail.example"));
        for outcome in futures_util::future::join_all(asked).await {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            assert_eq!(error.to_string(), "no such name");
        }
        assert_eq!(fake.asked("fail.example"), 1);
        assert!(found(&lookups, "fail.example").await.is_err());
        assert_eq!(fake.asked("fail.example"), 2);
    }

    #[tokio::test]
    async fn made_up_names_that_hang_deny_no_name_found_before() {
        let (fake, lookups) = Fake::lookups();
        for name in ["one.example", "two.example"] {
            assert!(found(&lookups, name).await.is_ok());
        }
        let waiting: Vec<_> = (0..3_000)
            .map(|n| lookups.join(&format!("hang-{n}.example")))
            .collect();
        until("all places are taken", || {
            lookups.counts().running == PLACES
        })
        .await;
        assert_eq!(lookups.counts().waiting, 3_000 - PLACES);
        for name in ["one.example", "two.example", "one.example"] {
            assert!(found(&lookups, name).await.is_ok(), "{name}");
        }
        // An unknown name waits for a place, for as long as its own limit.
        let unknown = lookups.addresses("new.example");
        let limit = Duration::from_millis(100);
        assert!(tokio::time::timeout(limit, unknown).await.is_err());
        assert_eq!(fake.asked("new.example"), 0);
        // Clients leave: what has no thread yet never gets one.
        drop(waiting);
        until("the queue is empty", || lookups.counts().waiting == 0).await;
        assert_eq!(lookups.counts().given_up, 3_001 - PLACES as u64);
        assert_eq!(lookups.counts().running, PLACES);
        fake.answer();
        until("places free", || lookups.counts().running == 0).await;
        assert!(found(&lookups, "new.example").await.is_ok());
        let asked = lock(&fake.seen).len();
        assert_eq!(asked, 2 + PLACES + 3 + 1);
    }

    #[tokio::test]
    async fn a_queue_of_quick_names_is_served() {
        let (fake, lookups) = Fake::lookups();
        let names: Vec<_> = (0..2_000).map(|n| format!("{n}.example")).collect();
        let asked = names.iter().map(|name| found(&lookups, name));
        for outcome in futures_util::future::join_all(asked).await {
            assert!(outcome.is_ok());
        }
        assert_eq!(lock(&fake.seen).len(), 2_000);
        assert!(lock(&lookups.0.state).known.len() <= MAX_KNOWN);
        until("places free", || lookups.counts().running == 0).await;
        assert_eq!(lookups.counts().given_up, 0);
    }

    #[tokio::test]
    async fn a_resolver_that_panics_fails_its_name_alone() {
        let lookups = Lookups::new(|host| {
            assert!(host != "panic.example", "on purpose");
            Ok(Vec::new())
        });
        for _ in 0..2 {
            let error = found(&lookups, "panic.example").await.unwrap_err();
            assert_eq!(error.to_string(), "the lookup was lost");
        }
        assert!(found(&lookups, "other.example").await.is_ok());
        until("places free", || lookups.counts().running == 0).await;
    }

    /// A runtime that ends does not wait for a lookup.
    #[test]
    fn a_lookup_that_hangs_holds_no_runtime() {
        let (fake, lookups) = Fake::lookups();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().unwrap();
        let waiter = runtime.block_on(async {
            let waiter = lookups.join("hang.example");
            until("the lookup began", || fake.asked("hang.example") == 1).await;
            waiter
        });
        let began = Instant::now();
        drop(runtime);
        assert!(began.elapsed() < PATIENCE && waiter.borrow().is_none());
        fake.answer();
    }
}
