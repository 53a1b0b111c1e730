//! Connections that are kept between requests.
//!
//! Idle connections are unproved: a [`Link`] gave up its proof when it was released, and is
//! proved again by the stored verdict before its next request. So no connection outlives its
//! verdict in the pool, and the pool's key need not contain the policy.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use attest::{Domain, Spki};
use sources::clock::{Clock, Stamp};
use sources::lock::lock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::path::request::Link;

/// After an answer's end, for the rest of its request to be written. Waiting longer is not
/// worth a permit.
const SETTLE: Duration = Duration::from_secs(1);

/// How many connections to backends are kept, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// Connections to one backend at a time; further requests wait for a permit.
    pub per_backend: usize,
    /// How long a connection may be idle.
    pub idle: Duration,
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
            idle: Duration::from_secs(90),
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
    hosts: Mutex<HashMap<Domain, Arc<HostPool>>>,
}

/// The connections to one backend. At most as many are in use as there are permits. A
/// connection is made only if none is idle, or in place of an idle one, so there are never more
/// connections than permits.
#[derive(Debug)]
struct HostPool {
    limits: PoolLimits,
    clock: Clock,
    /// First come, first served.
    permits: Arc<Semaphore>,
    /// The one used last is at the end.
    idle: Mutex<Vec<IdleConnection>>,
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
}

impl Pool {
    pub(in crate::path) fn new(limits: PoolLimits, clock: Clock) -> Self {
        Self {
            limits,
            clock,
            hosts: Mutex::default(),
        }
    }

    /// Waits for a permit for a connection to `domain`.
    pub(in crate::path) async fn acquire(&self, domain: &Domain) -> PoolPermit {
        let host = self.host(domain);
        // An error: the semaphore is closed, which never happens.
        let permit = Arc::clone(&host.permits).acquire_owned().await.ok();
        PoolPermit {
            host,
            _permit: permit,
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
        let mut hosts = lock(&self.hosts);
        hosts.retain(|_, host| {
            let mut idle = lock(&host.idle);
            idle.retain(|connection| host.serves(connection));
            !idle.is_empty() || Arc::strong_count(host) > 1
        });
    }

    /// The number of idle connections.
    pub(in crate::path) fn idle(&self) -> usize {
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
    pub(in crate::path) fn release(self, mut link: Link) {
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

    fn keep_idle(self, link: Link) {
        if self.host.admits(&link) {
            lock(&self.host.idle).push(IdleConnection {
                link,
                since: Stamp::now(&self.host.clock),
            });
        }
    }
}
