//! The handle on everything that the doors share: the store, the clock, the state of the process.
//!
//! Doors know this and never one another.

mod figures;

use crate::config::Config;
use crate::metrics::Metrics;
use anyhow::Context;
use atoll_core::clock::Now;
use atoll_core::store::{Dice, Store, StoreConfig};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use uuid::Uuid;

/// One running node.
#[derive(Debug)]
pub(crate) struct Node {
    name: String,
    store: Store,
    started: Instant,
    draining: AtomicBool,
    log_grown: watch::Receiver<()>,
    metrics: Metrics,
}

impl Node {
    /// An empty node. Draws its origin id and the key of its hash tables.
    pub(crate) fn new(config: &Config) -> anyhow::Result<Arc<Node>> {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).context("the system gives no random numbers")?;
        let dice = Dice { origin: Uuid::now_v7(), hash_seed: u64::from_ne_bytes(seed) };
        let (grew, log_grown) = watch::channel(());
        let store = Store::new(
            StoreConfig {
                memory_bytes_max: config.memory_bytes_max,
                log_bytes_max: config.log_bytes_max,
            },
            dice,
            Box::new(move || {
                // Nobody listening is fine.
                let _ = grew.send(());
            }),
        );
        let (name, started, draining) =
            (config.name.clone(), Instant::now(), AtomicBool::new(false));
        let metrics = Metrics::new();
        let node = Arc::new(Node { name, store, started, draining, log_grown, metrics });
        // A weak handle, or the node would keep itself alive.
        node.metrics.register_collector(figures::Figures::new(Arc::downgrade(&node)));
        Ok(node)
    }

    /// The node's stable name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What the node holds.
    pub(crate) fn store(&self) -> &Store {
        &self.store
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

    /// Where every door registers its figures.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether the node should be sent new requests.
    pub(crate) fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::Relaxed)
    }

    /// From now on `/readyz` says no, so that balancers go elsewhere.
    pub(crate) fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}
