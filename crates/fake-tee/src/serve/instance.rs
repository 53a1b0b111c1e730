//! The machines behind the one backend port, and the balancer in front of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::faults::{Fault, Plan};
use super::lock;
use super::signatures::Signatures;
use super::tls::Identity;
use crate::Error;
use crate::collateral::Collateral;
use crate::spec::Spec;

/// What an instance plays at the moment.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) spec: Spec,
    pub(super) collateral: Collateral,
}

impl Machine {
    pub(super) fn new(spec: Spec) -> Result<Arc<Self>, Error> {
        let collateral = spec.forge_collateral()?;
        Ok(Arc::new(Self { spec, collateral }))
    }
}

#[derive(Debug)]
pub(super) struct Instance {
    pub(super) index: usize,
    /// As it is when valid.
    pub(super) base: Spec,
    pub(super) machine: Mutex<Arc<Machine>>,
    /// For new connections, and what a report names on any.
    pub(super) identity: Mutex<Arc<Identity>>,
    pub(super) up: AtomicBool,
    /// A change ends every connection.
    pub(super) ends: watch::Sender<()>,
    pub(super) faults: Plan,
    pub(super) signatures: Signatures,
    /// TCP connections that reached it.
    pub(super) accepted: AtomicU64,
    pub(super) requests: AtomicU64,
}

impl Instance {
    pub(super) fn new(index: usize, base: Spec, identity: Arc<Identity>) -> Result<Self, Error> {
        Ok(Self {
            index,
            machine: Mutex::new(Machine::new(base.clone())?),
            base,
            identity: Mutex::new(identity),
            up: AtomicBool::new(true),
            ends: watch::Sender::new(()),
            faults: Plan::default(),
            signatures: Signatures::default(),
            accepted: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        })
    }

    pub(super) fn identity(&self) -> Arc<Identity> {
        lock(&self.identity).clone()
    }

    pub(super) fn change(
        &self,
        change: impl FnOnce(&mut Spec) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut spec = self.base.clone();
        change(&mut spec)?;
        *lock(&self.machine) = Machine::new(spec)?;
        Ok(())
    }

    pub(super) fn end_connections(&self) {
        self.ends.send_replace(());
    }
}

/// What there is to know about an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceInfo {
    /// SHA-256 of the SubjectPublicKeyInfo of the key that new connections meet.
    pub spki_sha256: [u8; 32],
    /// Whether it takes connections.
    pub up: bool,
    /// TCP connections that it was given, refused ones included.
    pub accepted: u64,
    /// Requests whose head was complete.
    pub requests: u64,
}

impl From<&Instance> for InstanceInfo {
    fn from(instance: &Instance) -> Self {
        Self {
            spki_sha256: instance.identity().spki_sha256,
            up: instance.up.load(Relaxed),
            accepted: instance.accepted.load(Relaxed),
            requests: instance.requests.load(Relaxed),
        }
    }
}

/// Which instance the next connection reaches.
#[derive(Debug, Default)]
pub(super) struct Balancer {
    /// The next connections' instances; may name one that is down.
    order: Mutex<VecDeque<usize>>,
    pinned: Mutex<Option<usize>>,
    turn: AtomicUsize,
}

impl Balancer {
    pub(super) fn pin(&self, instance: Option<usize>) {
        *lock(&self.pinned) = instance;
    }

    pub(super) fn order(&self, instances: impl IntoIterator<Item = usize>) {
        *lock(&self.order) = instances.into_iter().collect();
    }

    pub(super) fn choose<'a>(&self, instances: &'a [Arc<Instance>]) -> Option<&'a Arc<Instance>> {
        let ordered = lock(&self.order).pop_front();
        if let Some(index) = ordered.or_else(|| *lock(&self.pinned)) {
            return instances.get(index);
        }
        let count = instances.len();
        for _ in 0..count {
            let turn = self.turn.fetch_add(1, Relaxed) % count;
            if let Some(instance) = instances.get(turn)
                && instance.up.load(Relaxed)
            {
                return Some(instance);
            }
        }
        None
    }
}

/// One of each for all instances, then the instance's own.
pub(super) fn fate(all: &Plan, instance: &Instance) -> Fault {
    match instance.faults.next() {
        Fault::None => all.next(),
        own => own,
    }
}
