//! Who may hold what, and what happens at a bound (threats.md C7).
//!
//! Clients share connections, places at backends, memory and listeners. Each of these is a
//! [`Pot`]: it has a bound, and below it a share that one client may hold at most. At the bound
//! the client that the proxy has waited for longest makes room: its connection is closed. A
//! client that waits for the proxy or for a backend is never closed for another one.
//!
//! | pot | bound | one client's share | at the bound |
//! |---|---|---|---|
//! | `connections` of clients | half of the descriptors, 4,096 at most | half | the connection idle longest is closed; then the slowest; then a reserve answers only `/_proxy/live` and `/_proxy/ready` |
//! | `backend`: connections to one backend, and requests that wait for one | `--max-connections`, and 512 that wait | three quarters | the slowest client's connection is closed; then 503 |
//! | `body_memory` | `--body-memory`, beyond the first 64 KiB of each body | half | the slowest client's connection is closed; then 503 |
//! | `listeners` of `/_proxy/events` | 32 | half | 503 |
//!
//! A client is a token, or else an address beyond loopback. The programs of one machine that
//! have no tokens cannot be told apart: each of their connections is a client of its own.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use sources::lock::lock;
use tokio::time::Instant;

/// How long a client may keep the proxy waiting in the middle of a request before it makes
/// room for others. Networks recover from the loss of a packet within a second or two.
const SLOW: Duration = Duration::from_secs(5);
/// Bytes that pay for a second of waiting: a client that sends a byte now and then is slow.
const PACE: u32 = 1_024;

/// What a bound is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Connections,
    Reserve,
    Backend,
    BodyMemory,
    Listeners,
}

impl What {
    /// As it stands in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Reserve => "connections_reserve",
            Self::Backend => "backend",
            Self::BodyMemory => "body_memory",
            Self::Listeners => "listeners",
        }
    }
}

/// A pot is full, or the client holds its share of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    All { limit: usize },
    Share { limit: usize },
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All { limit } => write!(f, "the limit is {limit}"),
            Self::Share { limit } => write!(f, "the limit of one client is {limit}"),
        }
    }
}

type Labels = [(&'static str, &'static str); 2];

/// What was refused and which clients were closed at a bound. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    pub(crate) refused: Family<Labels, Counter>,
    pub(crate) closed: Family<[(&'static str, &'static str); 1], Counter>,
}

/// A connection, and whose share its requests count to: they may have different tokens.
type Key = (u64, Option<Owner>);

/// Whose share something counts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Owner {
    Address(IpAddr),
    /// The place of a token in the file of tokens.
    Token(usize),
}

/// A client's connection. Clones are about the same one.
#[derive(Debug, Clone)]
pub struct Client {
    connection: Arc<Connection>,
    owner: Option<Owner>,
}

#[derive(Debug)]
struct Connection {
    id: u64,
    turn: Mutex<Turn>,
    closing: AtomicBool,
    task: AtomicWaker,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The client's: no request is under way, or only a part of its head has arrived.
    Idle(Instant),
    /// The proxy's or a backend's. The client kept the proxy waiting for so long that its bytes
    /// do not pay for.
    Served { debt: Duration },
    /// The client's in the middle of a request: it sends nothing of the body, or reads nothing
    /// of the answer.
    Slow { since: Instant, debt: Duration },
    /// The client's: the answer has ended, and it does not read the rest.
    Unread(Instant),
}

/// A host with IPv6 usually has a whole /64 (RFC 6177), and may use any address in it.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Client {
    /// A new connection from `address`, which is none for a Unix socket.
    pub fn new(address: Option<IpAddr>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            connection: Arc::new(Connection {
                id: NEXT.fetch_add(1, Ordering::Relaxed),
                turn: Mutex::new(Turn::Idle(Instant::now())),
                closing: AtomicBool::new(false),
                task: AtomicWaker::new(),
            }),
            owner: address
                .map(|address| address.to_canonical())
                .filter(|address| !address.is_loopback())
                .map(|address| Owner::Address(network(address))),
        }
    }

    /// The same connection, whose request has a token.
    #[must_use]
    pub fn with_token(&self, token: Option<usize>) -> Self {
        Self {
            connection: Arc::clone(&self.connection),
            owner: token.map(Owner::Token).or(self.owner),
        }
    }

    /// Whose share its requests count to, if they can be told from others'.
    pub(crate) fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// A request has begun.
    pub fn begin(&self) {
        *lock(&self.connection.turn) = Turn::Served {
            debt: Duration::ZERO,
        };
    }

    /// The answer has ended.
    pub fn end(&self) {
        *lock(&self.connection.turn) = Turn::Idle(Instant::now());
    }

    /// True between [`Client::begin`] and [`Client::end`].
    pub fn is_served(&self) -> bool {
        !matches!(*lock(&self.connection.turn), Turn::Idle(_))
    }

    /// The proxy waits for the client in the middle of a request, or to read the end of an answer.
    pub fn stalls(&self) {
        let (mut turn, since) = (lock(&self.connection.turn), Instant::now());
        match *turn {
            Turn::Served { debt } => *turn = Turn::Slow { since, debt },
            Turn::Idle(_) => *turn = Turn::Unread(since),
            Turn::Slow { .. } | Turn::Unread(_) => {}
        }
    }

    /// The client has sent or read so many bytes.
    pub fn moves(&self, bytes: usize) {
        let (mut turn, now) = (lock(&self.connection.turn), Instant::now());
        match *turn {
            Turn::Slow { since, debt } => {
                let paid = Duration::from_secs(bytes as u64) / PACE;
                let debt = (debt + now.duration_since(since)).saturating_sub(paid);
                *turn = Turn::Served { debt };
            }
            Turn::Unread(_) => *turn = Turn::Idle(now),
            Turn::Served { .. } | Turn::Idle(_) => {}
        }
    }

    /// True if its connection has to be closed, since it makes room for another client.
    pub fn is_closing(&self) -> bool {
        self.connection.closing.load(Ordering::Acquire)
    }

    /// Wakes `task` when [`Client::is_closing`] becomes true.
    pub fn wake_on_closing(&self, task: &Waker) {
        self.connection.task.register(task);
    }

    fn close(&self) {
        self.connection.closing.store(true, Ordering::Release);
        self.connection.task.wake();
    }

    fn key(&self) -> Key {
        (self.connection.id, self.owner)
    }

    /// How long the proxy has waited for it, if it may be closed for another: first those that
    /// are idle, then those that are slow.
    fn waited(&self, now: Instant) -> Option<(bool, Duration)> {
        match *lock(&self.connection.turn) {
            Turn::Idle(since) => Some((true, now.duration_since(since))),
            Turn::Served { .. } => None,
            Turn::Slow { since, debt } => {
                let waited = debt + now.duration_since(since);
                (waited >= SLOW).then_some((false, waited))
            }
            Turn::Unread(since) => {
                let waited = now.duration_since(since);
                (waited >= SLOW).then_some((false, waited))
            }
        }
    }
}

/// Something that clients share, in units.
#[derive(Debug)]
pub struct Pot {
    what: What,
    limit: usize,
    share: usize,
    held: Mutex<Held>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Held {
    units: usize,
    by_client: HashMap<Key, (Client, usize)>,
    by_owner: HashMap<Owner, usize>,
}

impl Pot {
    /// With `limit` units, of which one client may hold `share`.
    pub fn new(what: What, limit: usize, share: usize, counts: Counts) -> Arc<Self> {
        Arc::new(Self {
            what,
            limit,
            share: share.max(1),
            held: Mutex::default(),
            counts,
        })
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Units in use.
    pub fn held(&self) -> usize {
        lock(&self.held).units
    }

    /// Takes units for `client`; closes the connection of the client that the proxy has waited
    /// for longest, if there are too few.
    ///
    /// # Errors
    /// If no such client holds any.
    pub fn take(self: &Arc<Self>, client: &Client, units: usize) -> Result<Hold, Full> {
        let mut held = lock(&self.held);
        if client.is_closing() {
            return Err(Full::All { limit: self.limit });
        }
        loop {
            let full = match self.room(&held, client, units) {
                Ok(()) => break,
                Err(full) => full,
            };
            let only = match full {
                Full::All { .. } => None,
                Full::Share { .. } => client.owner,
            };
            if !self.close_longest(&mut held, Some(client), only) {
                let reason = match full {
                    Full::All { .. } => "limit",
                    Full::Share { .. } => "share",
                };
                let labels = [("what", self.what.as_str()), ("reason", reason)];
                self.counts.refused.get_or_create(&labels).inc();
                return Err(full);
            }
        }
        held.units += units;
        let holder = held.by_client.entry(client.key());
        holder.or_insert_with(|| (client.clone(), 0)).1 += units;
        if let Some(owner) = client.owner {
            *held.by_owner.entry(owner).or_default() += units;
        }
        Ok(Hold {
            pot: Arc::clone(self),
            client: client.clone(),
            units,
        })
    }

    /// Closes the connection of the client that the proxy has waited for longest.
    pub fn make_room(&self) {
        self.close_longest(&mut lock(&self.held), None, None);
    }

    fn room(&self, held: &Held, client: &Client, units: usize) -> Result<(), Full> {
        let of_owner = client.owner.and_then(|owner| held.by_owner.get(&owner));
        let of_owner = of_owner.copied().unwrap_or(0);
        if client.owner.is_some() && of_owner.saturating_add(units) > self.share {
            return Err(Full::Share { limit: self.share });
        }
        if held.units.saturating_add(units) > self.limit {
            return Err(Full::All { limit: self.limit });
        }
        Ok(())
    }

    /// False if the proxy waits for no client but the one that asks; `only` among one owner's.
    /// The units count as free from now on; they are given back a moment later.
    fn close_longest(&self, held: &mut Held, asks: Option<&Client>, only: Option<Owner>) -> bool {
        let now = Instant::now();
        let asks = asks.map(|client| client.connection.id);
        let longest = held
            .by_client
            .iter()
            .filter(|((id, owner), _)| Some(*id) != asks && (only.is_none() || *owner == only))
            .filter_map(|(key, (client, _))| Some((client.waited(now)?, *key)))
            .max();
        let Some((_, key)) = longest else {
            return false;
        };
        if let Some((client, units)) = held.by_client.remove(&key) {
            forget(held, client.owner, units);
            client.close();
        }
        let labels = [("what", self.what.as_str())];
        self.counts.closed.get_or_create(&labels).inc();
        tracing::debug!(
            what = self.what.as_str(),
            "a client's connection is closed to make room"
        );
        true
    }
}

fn forget(held: &mut Held, owner: Option<Owner>, units: usize) {
    held.units -= units;
    if let Some(owner) = owner
        && let Some(of_owner) = held.by_owner.get_mut(&owner)
    {
        *of_owner -= units;
        if *of_owner == 0 {
            held.by_owner.remove(&owner);
        }
    }
}

/// Units of a pot, given back on drop.
#[derive(Debug)]
pub struct Hold {
    pot: Arc<Pot>,
    client: Client,
    units: usize,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let held = &mut *lock(&self.pot.held);
        let key = self.client.key();
        // None: the client was closed to make room, and its units were taken from it then.
        let Some((_, units)) = held.by_client.get_mut(&key) else {
            return;
        };
        *units -= self.units;
        if *units == 0 {
            held.by_client.remove(&key);
        }
        forget(held, self.client.owner, self.units);
    }
}

#[cfg(test)]
mod tests;
