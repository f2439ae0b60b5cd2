//! Who holds how much of what was written, and the clients that wait for it.
//!
//! WAIT, `?wait=` and `Atoll-Session` all come here. A waiter is woken when its own condition is
//! met and not before, so that a thousand of them cost a comparison each for every publication.

use arc_swap::ArcSwap;
use atoll_core::limits::WAITER_COUNT_MAX;
use atoll_core::replica::vector::Vector;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

/// What the cluster holds, as far as this node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Up to which of this process's own ops each other node holds all, by the node's name.
    pub(crate) holders: BTreeMap<String, u64>,
    /// Up to which op of each process this node itself holds all.
    pub(crate) vector: HashMap<Uuid, u64>,
}

/// The board of what is held.
#[derive(Debug)]
pub(crate) struct Progress {
    /// This node, which does not count among its own holders.
    name: String,
    held: ArcSwap<Held>,
    waiters: Mutex<Waiters>,
    waiter_count: AtomicUsize,
    wanted: Notify,
    /// What this node includes, while somebody asks.
    vector: ArcSwap<Vector>,
    is_vector_wanted: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiters {
    latest_id: u64,
    waiting: HashMap<u64, Waiter>,
}

#[derive(Debug)]
struct Waiter {
    condition: Condition,
    met: oneshot::Sender<()>,
}

/// What a waiter waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    /// So many other nodes hold this process's ops up to `seq`.
    Held { seq: u64, count: usize },
    /// This node holds the ops of `origin` up to `seq`.
    Covered { origin: Uuid, seq: u64 },
}

/// How many other nodes should hold what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// This process's ops up to here.
    pub(crate) seq: u64,
    /// By so many nodes of different names.
    pub(crate) count: usize,
}

impl Condition {
    fn is_met(self, own_name: &str, held: &Held) -> bool {
        match self {
            Condition::Held { seq, count } => holder_count(own_name, held, seq) >= count,
            Condition::Covered { origin, seq } => {
                held.vector.get(&origin).is_some_and(|covered| *covered >= seq)
            }
        }
    }
}

fn holder_count(own_name: &str, held: &Held, seq: u64) -> usize {
    held.holders.iter().filter(|(name, up_to)| *name != own_name && **up_to >= seq).count()
}

impl Progress {
    pub(super) fn new(name: String) -> Progress {
        Progress {
            name,
            held: ArcSwap::default(),
            waiters: Mutex::default(),
            waiter_count: AtomicUsize::new(0),
            wanted: Notify::new(),
            vector: ArcSwap::default(),
            is_vector_wanted: AtomicBool::new(false),
        }
    }

    /// From now on [`Progress::vector`] is kept up to date.
    pub(crate) fn want_vector(&self) {
        self.is_vector_wanted.store(true, Ordering::Relaxed);
    }

    /// Whether the transport should publish its vector after each change.
    pub(crate) fn is_vector_wanted(&self) -> bool {
        self.is_vector_wanted.load(Ordering::Relaxed)
    }

    /// Replaces the vector. For the transport.
    pub(crate) fn publish_vector(&self, vector: &Vector) {
        if **self.vector.load() != *vector {
            self.vector.store(Arc::new(vector.clone()));
        }
    }

    /// What this node includes: at least this, as the transport tells it a moment later.
    pub(crate) fn vector(&self) -> Arc<Vector> {
        self.vector.load_full()
    }

    /// Replaces what is known, and wakes those whose condition is met by it. For the transport:
    /// after each change while [`Progress::waiter_count`] is not 0, else as often as it likes.
    pub(crate) fn publish(&self, held: Held) {
        let held = Arc::new(held);
        // Before the lock: whoever enters later sees it, whoever entered before is looked at below.
        self.held.store(Arc::clone(&held));
        let mut waiters = self.lock();
        let met = waiters
            .waiting
            .extract_if(|_, waiter| waiter.condition.is_met(&self.name, &held))
            .collect::<Vec<_>>();
        self.waiter_count.store(waiters.waiting.len(), Ordering::Release);
        drop(waiters);
        for (_, waiter) in met {
            // Whoever has given up meanwhile does not mind.
            let _ = waiter.met.send(());
        }
    }

    /// How many wait. While it is not 0 the transport should publish, and ask peers for
    /// acknowledgements, without delay.
    pub(crate) fn waiter_count(&self) -> usize {
        self.waiter_count.load(Ordering::Acquire)
    }

    /// Completes when somebody began to wait since the last time. For the one task that can hurry.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// How many other nodes hold this process's ops up to `seq`: distinct names, replicas included.
    pub(crate) fn holder_count(&self, seq: u64) -> usize {
        holder_count(&self.name, &self.held.load(), seq)
    }

    /// Whether the node of this name holds this process's ops up to `seq`.
    pub(crate) fn is_held_by(&self, name: &str, seq: u64) -> bool {
        self.held.load().holders.get(name).is_some_and(|up_to| *up_to >= seq)
    }

    /// Up to which op of `origin` this node holds all, 0 where it knows of none. Its own process is
    /// not among them: ask the store.
    pub(crate) fn covered_seq(&self, origin: Uuid) -> u64 {
        self.held.load().vector.get(&origin).copied().unwrap_or(0)
    }

    /// Waits until the wish is fulfilled, at most until `deadline`, and returns how many nodes hold
    /// it then: the true number either way. Without a deadline it waits until it is dropped.
    ///
    /// Where [`WAITER_COUNT_MAX`] wait already it does not wait at all.
    pub(crate) async fn wait(&self, wish: Wish, deadline: Option<Instant>) -> usize {
        let Wish { seq, count } = wish;
        self.met(Condition::Held { seq, count }, deadline).await;
        self.holder_count(seq)
    }

    /// Waits until this node holds the ops of `origin`, which is another process, up to `seq`, at
    /// most until `deadline`. Returns whether it does.
    pub(crate) async fn covers(&self, origin: Uuid, seq: u64, deadline: Instant) -> bool {
        let condition = Condition::Covered { origin, seq };
        self.met(condition, Some(deadline)).await;
        condition.is_met(&self.name, &self.held.load())
    }

    async fn met(&self, condition: Condition, deadline: Option<Instant>) {
        if condition.is_met(&self.name, &self.held.load()) {
            return;
        }
        let Some((_entry, met)) = self.enter(condition) else { return };
        // Between the look and the entry it may have been met, with nobody there to be woken.
        if condition.is_met(&self.name, &self.held.load()) {
            return;
        }
        self.wanted.notify_one();
        let deadline = deadline.unwrap_or_else(|| Instant::now() + FOR_EVER);
        // Met or not, the caller looks for itself.
        let _ = tokio::time::timeout_at(deadline, met).await;
    }

    fn enter(&self, condition: Condition) -> Option<(Entry<'_>, oneshot::Receiver<()>)> {
        let mut waiters = self.lock();
        if waiters.waiting.len() >= WAITER_COUNT_MAX {
            return None;
        }
        waiters.latest_id += 1;
        let id = waiters.latest_id;
        let (met, is_met) = oneshot::channel();
        waiters.waiting.insert(id, Waiter { condition, met });
        self.waiter_count.store(waiters.waiting.len(), Ordering::Release);
        Some((Entry { progress: self, id }, is_met))
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        // Insertions and removals only: a panic leaves nothing half done.
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stands for a deadline where there is none: the timer's own horizon lies further away.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A waiter's place, given up when it is dropped.
struct Entry<'p> {
    progress: &'p Progress,
    id: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let mut waiters = self.progress.lock();
        if waiters.waiting.remove(&self.id).is_some() {
            self.progress.waiter_count.store(waiters.waiting.len(), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests;
