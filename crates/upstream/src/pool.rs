//! Connections that are kept between requests.
//!
//! What lies here is unproved: a [`Link`] gave up its proof when it came, and is
//! proved again, by what is remembered at that moment, before its next request.
//! So nothing outlives its verdict by lying in a pool, and the pool's key need
//! not contain the policy.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use attest::{Domain, Spki};
use sources::clock::{Clock, Stamp};
use sources::lock::lock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::request::Link;

/// After an answer's end, for the rest of its request to be written; longer is
/// not worth keeping a place for.
const SETTLE: Duration = Duration::from_secs(1);

/// How many connections to backends are kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// Connections to one backend at a time; further requests wait their turn.
    pub per_backend: usize,
    /// How long a connection may lie unused.
    pub idle: Duration,
    /// How old a connection may get before its next request.
    pub age: Duration,
    /// Requests on one connection.
    pub requests: u64,
}

impl Default for PoolLimits {
    /// The fleet's nginx keeps idle connections for an hour (keepalive_timeout
    /// 1h) and many requests on them; middleboxes forget idle ones after some
    /// minutes. A connection's age bounds how long it sticks to one instance.
    fn default() -> Self {
        Self {
            per_backend: 256,
            idle: Duration::from_secs(90),
            age: Duration::from_secs(60 * 60),
            requests: 100_000,
        }
    }
}

/// The connections to all backends.
#[derive(Debug)]
pub(crate) struct Pool {
    limits: PoolLimits,
    clock: Clock,
    hosts: Mutex<HashMap<Domain, Arc<HostPool>>>,
}

/// The connections to one backend: in use are at most as many as there are
/// permits, and a connection is made only when none lies idle, or in place of
/// one, so there are never more of them than permits.
#[derive(Debug)]
struct HostPool {
    limits: PoolLimits,
    clock: Clock,
    /// First come, first served.
    permits: Arc<Semaphore>,
    /// The one used last is on top.
    idle: Mutex<Vec<IdleConnection>>,
}

#[derive(Debug)]
struct IdleConnection {
    link: Link,
    /// By both clocks: a machine that slept has dead connections, and nobody
    /// says so before a request is lost on one.
    since: Stamp,
}

/// Leave to use one connection to a backend.
#[derive(Debug)]
pub(crate) struct PoolPermit {
    host: Arc<HostPool>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Pool {
    pub(crate) fn new(limits: PoolLimits, clock: Clock) -> Self {
        Self {
            limits,
            clock,
            hosts: Mutex::default(),
        }
    }

    /// Waits for a place among the connections to `domain`.
    pub(crate) async fn acquire(&self, domain: &Domain) -> PoolPermit {
        let host = self.host(domain);
        // Fails when the semaphore is closed, which nobody does.
        let permit = Arc::clone(&host.permits).acquire_owned().await.ok();
        PoolPermit {
            host,
            _permit: permit,
        }
    }

    /// Closes what is idle on this key, under whatever name.
    pub(crate) fn close(&self, spki: Spki) {
        for host in lock(&self.hosts).values() {
            lock(&host.idle).retain(|connection| connection.link.spki() != spki);
        }
    }

    /// Closes what is closed, too old or idle for too long, and forgets
    /// backends without connections.
    pub(crate) fn evict(&self) {
        let mut hosts = lock(&self.hosts);
        hosts.retain(|_, host| {
            let mut idle = lock(&host.idle);
            idle.retain(|connection| host.serves(connection));
            !idle.is_empty() || Arc::strong_count(host) > 1
        });
    }

    /// How many connections lie idle.
    pub(crate) fn idle(&self) -> usize {
        let hosts = lock(&self.hosts);
        hosts.values().map(|host| lock(&host.idle).len()).sum()
    }

    fn host(&self, domain: &Domain) -> Arc<HostPool> {
        let mut hosts = lock(&self.hosts);
        if let Some(host) = hosts.get(domain) {
            return Arc::clone(host);
        }
        let permits = self.limits.per_backend.min(Semaphore::MAX_PERMITS);
        let host = Arc::new(HostPool {
            limits: self.limits,
            clock: self.clock.clone(),
            permits: Arc::new(Semaphore::new(permits)),
            idle: Mutex::default(),
        });
        hosts.insert(domain.clone(), Arc::clone(&host));
        host
    }
}

impl HostPool {
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
    /// The connection that was used last, of those on a key that suits and still good
    /// for a request. If there is none, one may be made.
    pub(crate) fn take(&self, suits: impl Fn(Spki) -> bool) -> Option<Link> {
        let mut idle = lock(&self.host.idle);
        let suits = |connection: &IdleConnection| suits(connection.link.spki());
        while let Some(at) = idle.iter().rposition(suits) {
            let connection = idle.remove(at);
            if self.host.serves(&connection) {
                return Some(connection.link);
            }
        }
        idle.retain(|connection| self.host.serves(connection));
        // The idle connections all have other keys. Close as many as there are too few
        // free places for; otherwise requests for a key that no longer exists would pile
        // them up. Every place in use has a connection, or is about to.
        let free = self.host.permits.available_permits();
        let surplus = idle.len().saturating_sub(free);
        idle.drain(..surplus);
        None
    }

    /// Keeps a connection whose answer has ended, once it is ready for the next
    /// request; the place is free then.
    pub(crate) fn release(self, mut link: Link) {
        if link.is_ready() {
            self.keep_idle(link);
            return;
        }
        // hyper has yet to see the end, or the request's body is still on its way.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            if let Ok(Ok(())) = tokio::time::timeout(SETTLE, link.ready()).await {
                self.keep_idle(link);
            }
        });
    }

    fn keep_idle(self, link: Link) {
        if self.host.admits(&link) {
            lock(&self.host.idle).push(IdleConnection {
                link,
                since: Stamp::now(&self.host.clock),
            });
        }
    }
}
