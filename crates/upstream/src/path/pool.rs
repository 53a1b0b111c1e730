//! Connections that are kept between requests.
//!
//! Idle connections are unproved: a [`Link`] gave up its proof when it was released, and is
//! proved again by the stored verdict before its next request. So no connection outlives its
//! verdict in the pool, and the pool's key need not contain the policy.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use attest::{Domain, Spki};
use sources::clock::{Clock, Stamp};
use sources::lock::lock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::admission::{Client, Counts, Full, Hold, Owner, Pot, What};
use crate::path::request::Link;

/// After an answer's end, for the rest of its request to be written. Waiting longer is not
/// worth a permit.
const SETTLE: Duration = Duration::from_secs(1);
/// How often a request that waits looks for a slow client that can make room.
const LOOK: Duration = Duration::from_secs(1);

/// A backend that ends kept connections at once and does not say so (RFC 9112 §9.6) has each of
/// its connections used once, for this long: the next request, which may have waited for the
/// connection, would otherwise meet its end.
const USED_ONCE: Duration = Duration::from_secs(60);

/// How many connections to backends are kept, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// Connections to one backend at a time.
    pub per_backend: usize,
    /// Requests that may wait for a connection to one backend. If it hangs, more would only wait
    /// for the same end, and hold their clients' connections meanwhile.
    pub waiting: usize,
    /// How long a connection may be idle.
    pub idle: Duration,
    /// Idle connections to all backends: each has a file descriptor.
    pub idle_in_all: usize,
    /// A connection's age up to which it takes another request.
    pub age: Duration,
    /// Requests per connection.
    pub requests: u64,
}

impl Default for PoolLimits {
    /// The fleet's nginx keeps idle connections for an hour (keepalive_timeout 1h) and allows
    /// many requests on them; middleboxes drop idle ones after some minutes. A connection's age
    /// bounds how long it stays on one instance.
    fn default() -> Self {
        Self {
            per_backend: 256,
            waiting: 512,
            idle: Duration::from_secs(90),
            idle_in_all: 1_024,
            age: Duration::from_secs(60 * 60),
            requests: 100_000,
        }
    }
}

/// The connections to all backends.
#[derive(Debug)]
pub(in crate::path) struct Pool {
    limits: PoolLimits,
    clock: Clock,
    counts: Counts,
    hosts: Mutex<HashMap<Domain, Arc<HostPool>>>,
    retired: Arc<AtomicBool>,
}

/// The connections to one backend. At most as many are in use as there are permits. A
/// connection is made only if none is idle, or in place of an idle one, so there are never more
/// connections than permits.
#[derive(Debug)]
struct HostPool {
    limits: PoolLimits,
    clock: Clock,
    /// Clients' requests that have a permit or wait for one.
    requests: Arc<Pot>,
    /// First come, first served.
    permits: Arc<Semaphore>,
    /// The one used last is at the end.
    idle: Mutex<Vec<IdleConnection>>,
    /// When a connection that had just been kept was found to end.
    ended_at_once: Mutex<Option<Instant>>,
    retired: Arc<AtomicBool>,
    shares: Mutex<HashMap<Owner, Weak<Semaphore>>>,
}

#[derive(Debug)]
struct IdleConnection {
    link: Link,
    /// By both clocks: after the machine has slept its connections are dead, which is otherwise
    /// noticed only when a request fails on one.
    since: Stamp,
}

/// Permits the use of one connection to a backend.
#[derive(Debug)]
pub(in crate::path) struct PoolPermit {
    host: Arc<HostPool>,
    _permit: Option<OwnedSemaphorePermit>,
    /// None if no client asked for it. The second is its owner's permit.
    request: Option<Box<(Hold, Option<OwnedSemaphorePermit>)>>,
}

/// Too many requests wait for a connection to the backend already.
#[derive(Debug, thiserror::Error)]
#[error(
    "too many requests wait for the {connections} connections that this backend may have (--max-connections): {full}"
)]
pub struct QueueFull {
    connections: usize,
    full: Full,
}

impl Pool {
    pub(in crate::path) fn new(limits: PoolLimits, clock: Clock, counts: Counts) -> Self {
        Self {
            limits,
            clock,
            counts,
            hosts: Mutex::default(),
            retired: Arc::default(),
        }
    }

    /// Closes the idle connections, and keeps none from now on.
    pub(in crate::path) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        for host in lock(&self.hosts).values() {
            lock(&host.idle).clear();
        }
    }

    /// Waits for a permit for a connection to `domain`, for a client's request or for the
    /// renewal of a verdict.
    pub(in crate::path) async fn acquire(
        &self,
        domain: &Domain,
        client: Option<&Client>,
    ) -> Result<PoolPermit, QueueFull> {
        let host = self.host(domain);
        let request = match client
            .map(|client| host.requests.take(client, 1))
            .transpose()
        {
            Ok(request) => request,
            Err(full) => {
                let connections = self.limits.per_backend;
                return Err(QueueFull { connections, full });
            }
        };
        let share = client
            .and_then(Client::owner)
            .map(|owner| host.share(owner));
        let share = match share {
            Some(share) => share.acquire_owned().await.ok(),
            None => None,
        };
        let mut permit = pin!(Arc::clone(&host.permits).acquire_owned());
        let mut next_look = Duration::ZERO;
        let permit = loop {
            tokio::select! {
                biased;
                // An error: the semaphore is closed, which never happens.
                permit = &mut permit => break permit.ok(),
                () = tokio::time::sleep(next_look) => host.requests.make_room(),
            }
            next_look = LOOK;
        };
        Ok(PoolPermit {
            host,
            _permit: permit,
            request: request.map(|hold| Box::new((hold, share))),
        })
    }

    /// Closes the connection that has been idle longest; false if there is none.
    pub(in crate::path) fn close_longest_idle(&self) -> bool {
        let hosts = lock(&self.hosts);
        let age = |host: &HostPool| {
            lock(&host.idle)
                .first()
                .map(|one| one.since.age(&self.clock))
        };
        let oldest = hosts.values().filter_map(|host| Some((age(host)?, host)));
        let Some((_, host)) = oldest.max_by_key(|(age, _)| *age) else {
            return false;
        };
        let mut idle = lock(&host.idle);
        !idle.is_empty() && {
            idle.remove(0);
            true
        }
    }

    /// Closes the idle connections to this key, under all domains.
    pub(in crate::path) fn close(&self, spki: Spki) {
        for host in lock(&self.hosts).values() {
            lock(&host.idle).retain(|connection| connection.link.spki() != spki);
        }
    }

    /// Closes connections that the backend has closed, that are too old or were idle for too
    /// long, and drops the pools of hosts without connections.
    pub(in crate::path) fn evict(&self) {
        let mut left = 0;
        lock(&self.hosts).retain(|_, host| {
            let mut idle = lock(&host.idle);
            idle.retain(|connection| host.serves(connection));
            left += idle.len();
            !idle.is_empty() || Arc::strong_count(host) > 1
        });
        for _ in self.limits.idle_in_all..left {
            self.close_longest_idle();
        }
    }

    /// The number of idle connections, and of requests that have a connection or wait for one.
    pub(in crate::path) fn use_now(&self) -> (usize, usize) {
        let hosts = lock(&self.hosts);
        let one = |host: &Arc<HostPool>| (lock(&host.idle).len(), host.requests.held());
        hosts
            .values()
            .map(one)
            .fold((0, 0), |(idle, requests), one| {
                (idle + one.0, requests + one.1)
            })
    }

    /// Requests that have a connection to one backend or wait for one, at most.
    pub(in crate::path) fn requests_per_backend(&self) -> usize {
        let PoolLimits {
            per_backend,
            waiting,
            ..
        } = self.limits;
        per_backend.saturating_add(waiting)
    }

    fn host(&self, domain: &Domain) -> Arc<HostPool> {
        let mut hosts = lock(&self.hosts);
        if let Some(host) = hosts.get(domain) {
            return Arc::clone(host);
        }
        let permits = self.limits.per_backend.min(Semaphore::MAX_PERMITS);
        let limit = self.requests_per_backend();
        let share = limit / 4 * 3;
        let host = Arc::new(HostPool {
            limits: self.limits,
            clock: self.clock.clone(),
            requests: Pot::new(What::Backend, limit, share, self.counts.clone()),
            permits: Arc::new(Semaphore::new(permits)),
            idle: Mutex::default(),
            ended_at_once: Mutex::default(),
            retired: Arc::clone(&self.retired),
            shares: Mutex::default(),
        });
        hosts.insert(domain.clone(), Arc::clone(&host));
        host
    }
}

impl HostPool {
    /// The permits that one owner may have: three quarters, so that its long answers do not keep
    /// all others waiting.
    fn share(&self, owner: Owner) -> Arc<Semaphore> {
        let mut shares = lock(&self.shares);
        shares.retain(|_, share| share.strong_count() > 0);
        if let Some(share) = shares.get(&owner).and_then(Weak::upgrade) {
            return share;
        }
        let permits = self.limits.per_backend.min(Semaphore::MAX_PERMITS);
        let share = Arc::new(Semaphore::new((permits / 4 * 3).max(1)));
        shares.insert(owner, Arc::downgrade(&share));
        share
    }

    fn keeps(&self) -> bool {
        !self.retired.load(Ordering::Acquire)
            && lock(&self.ended_at_once).is_none_or(|ended| ended.elapsed() >= USED_ONCE)
    }

    fn serves(&self, connection: &IdleConnection) -> bool {
        connection.since.age(&self.clock) < self.limits.idle && self.admits(&connection.link)
    }

    fn admits(&self, link: &Link) -> bool {
        link.is_ready()
            && !link.spoke_http10()
            && link.age() < self.limits.age
            && link.requests() < self.limits.requests
    }
}

impl PoolPermit {
    /// The idle connection used last among those on a key that suits and still usable. If there
    /// is none, the caller may make one.
    pub(in crate::path) fn take(&self, suits: impl Fn(Spki) -> bool) -> Option<Link> {
        let mut idle = lock(&self.host.idle);
        let suits = |connection: &IdleConnection| suits(connection.link.spki());
        while let Some(at) = idle.iter().rposition(suits) {
            let connection = idle.remove(at);
            if self.host.serves(&connection) {
                return Some(connection.link);
            }
        }
        idle.retain(|connection| self.host.serves(connection));
        // The idle connections all have other keys. Close as many as there are too few free
        // permits for; otherwise requests for a key that no longer exists would pile them up.
        // Each permit in use has a connection, or will have one.
        let free = self.host.permits.available_permits();
        let surplus = idle.len().saturating_sub(free);
        idle.drain(..surplus);
        None
    }

    /// Keeps a connection whose answer has ended, once it is ready for the next request. Then
    /// the permit is free.
    pub(in crate::path) fn release(mut self, mut link: Link) {
        // The client is not closed for what it no longer uses.
        self.request = None;
        if link.is_ready() {
            self.keep_idle(link);
            return;
        }
        // hyper has not seen the end yet, or is still writing the request's body.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            if let Ok(Ok(())) = tokio::time::timeout(SETTLE, link.ready()).await {
                self.keep_idle(link);
            }
        });
    }

    /// A connection ended that had just been kept.
    pub(in crate::path) fn ended_at_once(&self) {
        *lock(&self.host.ended_at_once) = Some(Instant::now());
    }

    fn keep_idle(self, mut link: Link) {
        if self.host.admits(&link) && self.host.keeps() {
            link.keep();
            lock(&self.host.idle).push(IdleConnection {
                link,
                since: Stamp::now(&self.host.clock),
            });
        }
    }
}
