//! The handle on everything that the doors share: the store, the clock, the state of the process.
//!
//! Doors know this and never one another.

pub(crate) mod arrivals;
pub(crate) mod bell;
mod figures;
mod writes;

use crate::config::Config;
use crate::journal::{Journal, Unsettled};
use crate::metrics::Metrics;
use crate::replication::{self, Identity, Replication};
use crate::system::SYSTEM;
use anyhow::Context;
use arrivals::Arrivals;
use atoll_core::clock::{Hlc, Now};
use atoll_core::permission::Permission;
use atoll_core::replica::status::Readiness;
use atoll_core::store::gate::Obstacle;
use atoll_core::store::{Dice, Store, StoreConfig};
use atoll_core::wire::op::EffectRef;
use bell::Bell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use uuid::Uuid;
use writes::Writes;

/// Memory for the names of changed keys that the disk has yet to take: a quarter of a second of the
/// fastest writers on a slow disk. Less where the store is small.
const CHANGE_BYTES_MAX: usize = 64 << 20;
const CHANGE_BYTES_MIN: usize = 1 << 20;

/// Why a node should be sent no requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unready {
    /// It was told to stop.
    Draining,
    /// It still reads what it saved.
    Loading,
    /// Its disk takes no writes, and none is taken that would not be saved.
    Disk,
    /// It makes ready the handlers that it had before it was started again.
    Warming,
    /// It has yet to receive the cluster's state.
    Joining,
    /// It was away for so long that it must first drop what the cluster has forgotten.
    Stale,
    /// Its clock is too far from the others'.
    Skewed,
    /// Another process runs under its name.
    Superseded,
    /// It serves nothing stale and is linked to too few.
    CutOff,
}

impl Unready {
    /// The word for it, as in `/readyz` and `/v1/cluster`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Unready::Draining => "draining",
            Unready::Loading => "loading",
            Unready::Disk => "disk",
            Unready::Warming => "warming",
            Unready::Joining => "joining",
            Unready::Stale => "stale",
            Unready::Skewed => "skewed",
            Unready::Superseded => "superseded",
            Unready::CutOff => "cut-off",
        }
    }

    /// The sentence for it.
    pub(crate) fn detail(self) -> &'static str {
        match self {
            Unready::Draining => "this node is draining; use another",
            Unready::Loading => "this node is still reading its disk; use another",
            Unready::Disk => {
                "this node's disk takes no writes, so neither does the node; see to it"
            }
            Unready::Warming => {
                "this node is still making ready the handlers that were on its disk; use another"
            }
            Unready::Joining => "this node is still receiving the keys of its cluster; use another",
            Unready::Stale => {
                "this node was away for long and compares its keys with its cluster's; use another"
            }
            Unready::Skewed => {
                "this node's clock is too far from its peers' and it takes no writes; set it right"
            }
            Unready::Superseded => {
                "another process runs under this node's name and this one takes no writes; stop one"
            }
            Unready::CutOff => {
                "this node is linked to too few of its peers to serve nothing stale; use another"
            }
        }
    }
}

/// One running node.
#[derive(Debug)]
pub(crate) struct Node {
    name: String,
    store: Arc<Store>,
    /// Set at start where there is one.
    journal: OnceLock<Arc<Journal>>,
    started: Instant,
    draining: AtomicBool,
    log_grown: watch::Receiver<()>,
    log_bell: Arc<Bell>,
    system_changed: watch::Receiver<()>,
    arrivals: Arc<Arrivals>,
    writes: Writes,
    sweep_floor: AtomicU64,
    /// Until when handlers are waited for; `None`: not any more.
    warming: Mutex<Option<Instant>>,
    metrics: Metrics,
    replication: Replication,
}

impl Node {
    /// An empty node. Draws its origin id and the key of its hash tables.
    pub(crate) fn new(config: &Config) -> anyhow::Result<Arc<Node>> {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).context("the system gives no random numbers")?;
        let dice = Dice { origin: Uuid::now_v7(), hash_seed: u64::from_ne_bytes(seed) };
        let (grew, log_grown) = watch::channel(());
        let log_bell = Arc::new(Bell::default());
        let ringing = Arc::clone(&log_bell);
        let store = Store::new(
            StoreConfig {
                memory_bytes_max: config.memory_bytes_max,
                log_bytes_max: config.log_bytes_max,
                change_bytes_max: config.disk.as_ref().map(|_| {
                    CHANGE_BYTES_MAX.min(config.memory_bytes_max / 8).max(CHANGE_BYTES_MIN)
                }),
            },
            dice,
            Box::new(move || {
                ringing.ring();
                // Nobody listening is fine.
                let _ = grew.send(());
            }),
        );
        let (changed, system_changed) = watch::channel(());
        let arrivals = Arc::new(Arrivals::default());
        let noting = Arc::clone(&arrivals);
        store.listen_to_internal(Box::new(move |change| {
            noting.note(change);
            // What nodes share of their caches, and purges, come far more often than these.
            if change.bucket == SYSTEM {
                // Nobody listening is fine.
                let _ = changed.send(());
            }
        }));
        let (store, journal) = (Arc::new(store), OnceLock::new());
        let (name, started, draining) =
            (config.name.clone(), Instant::now(), AtomicBool::new(false));
        let metrics = Metrics::new();
        let identity = Identity { name: name.clone(), origin: dice.origin };
        let replication = Replication::new(identity, config.replication.clone())?;
        let node = Arc::new(Node {
            name,
            store,
            journal,
            started,
            draining,
            log_grown,
            log_bell,
            system_changed,
            arrivals,
            writes: Writes::default(),
            sweep_floor: AtomicU64::new(0),
            warming: Mutex::default(),
            metrics,
            replication,
        });
        // A weak handle, or the node would keep itself alive.
        node.metrics.register_collector(figures::Figures::new(Arc::downgrade(&node)));
        let publisher = Arc::downgrade(&node);
        node.replication.set_outlet(Box::new(move |channel, payload| {
            if let Some(node) = publisher.upgrade() {
                node.store.announce(node.now(), EffectRef::Message { channel, payload });
            }
        }));
        let figures = replication::figures::Figures::new(Arc::downgrade(&node));
        node.metrics.register_collector(figures);
        Ok(node)
    }

    /// The node's stable name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What the node holds.
    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// From now on the node has this disk. Writes are refused until it is read.
    pub(crate) fn attach(&self, journal: &Arc<Journal>) {
        self.store.set_obstacle(Some(Obstacle::Loading));
        // A node has one disk for its life; a second one would be a bug of ours and is not taken.
        let _ = self.journal.set(Arc::clone(journal));
        self.metrics.register_collector(journal.figures(&self.store));
    }

    /// The node's disk, if it has one.
    pub(crate) fn journal(&self) -> Option<&Arc<Journal>> {
        self.journal.get()
    }

    /// Whether writes are answered only once they are safe.
    pub(crate) fn is_synchronous(&self) -> bool {
        self.journal.get().is_some_and(|journal| journal.is_synchronous())
    }

    /// Who learns of what this process writes before that is answered.
    pub(crate) fn writes(&self) -> &Writes {
        &self.writes
    }

    /// Waits until everything that this process has written is safe, if that was promised: before a
    /// write is answered. Costs nothing where it was not.
    pub(crate) async fn settle(&self) -> Result<(), Unsettled> {
        self.writes.note();
        match self.journal.get() {
            Some(journal) if journal.is_synchronous() => journal.settle(self.store.seq()).await,
            _ => Ok(()),
        }
    }

    /// The wall clock. Read it once for each batch.
    pub(crate) fn now(&self) -> Now {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    /// Seconds since the process started.
    pub(crate) fn uptime_s(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// Changes whenever the op log has grown: for readers of the log to wait on.
    pub(crate) fn log_grown(&self) -> watch::Receiver<()> {
        self.log_grown.clone()
    }

    /// Changes whenever something in the bucket of the system has: a record that was deployed
    /// anywhere, for those who make it live here.
    pub(crate) fn system_changed(&self) -> watch::Receiver<()> {
        self.system_changed.clone()
    }

    /// What has come into another of the node's own buckets. Met by the one that lets it in.
    pub(crate) fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    /// Rung when this process has written something that its links have yet to take. For the one
    /// that takes it.
    pub(crate) fn log_bell(&self) -> &Bell {
        &self.log_bell
    }

    /// Up to where what is dead may be dropped from the store. Nothing, until links say otherwise.
    pub(crate) fn sweep_floor(&self) -> Hlc {
        Hlc::from_bits(self.sweep_floor.load(Ordering::Relaxed))
    }

    /// Sets [`Node::sweep_floor`]. For whoever knows what other nodes have.
    pub(crate) fn set_sweep_floor(&self, floor: Hlc) {
        self.sweep_floor.store(floor.to_bits(), Ordering::Relaxed);
    }

    /// Where every door registers its figures.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What the doors and the transport tell one another.
    pub(crate) fn replication(&self) -> &Replication {
        &self.replication
    }

    /// What clients may do now. Asked for with each request.
    #[inline]
    pub(crate) fn permission(&self) -> Permission {
        self.replication.permission()
    }

    /// Why the node should be sent no new requests; `None` where it should.
    pub(crate) fn unreadiness(&self) -> Option<Unready> {
        if self.draining.load(Ordering::Relaxed) {
            return Some(Unready::Draining);
        }
        match self.store.obstacle() {
            Some(Obstacle::Loading) => return Some(Unready::Loading),
            Some(Obstacle::Disk) => return Some(Unready::Disk),
            None if self.is_warming() => return Some(Unready::Warming),
            None => {}
        }
        match self.replication.status().readiness {
            Readiness::Ready => self.permission().read().err().map(|_| Unready::CutOff),
            Readiness::Joining => Some(Unready::Joining),
            Readiness::Stale => Some(Unready::Stale),
            Readiness::Skewed => Some(Unready::Skewed),
            Readiness::Superseded => Some(Unready::Superseded),
        }
    }

    /// `/readyz` waits for the handlers from now on, but not for longer than `wait`.
    pub(crate) fn start_warming(&self, wait: Duration) {
        *self.warming() = Some(Instant::now() + wait);
    }

    /// The handlers are as ready as they will be.
    pub(crate) fn end_warming(&self) {
        *self.warming() = None;
    }

    fn is_warming(&self) -> bool {
        self.warming().is_some_and(|until| Instant::now() < until)
    }

    fn warming(&self) -> MutexGuard<'_, Option<Instant>> {
        // A plain value: whoever panicked has left nothing half done.
        self.warming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on `/readyz` says no, so that balancers go elsewhere.
    pub(crate) fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}
