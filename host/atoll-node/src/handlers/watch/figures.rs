//! What watchers have done, and what they have not been told of, as figures.

use crate::metrics::Metrics;
use crate::node::Node;
use atoll_core::clock::Hlc;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use std::sync::atomic::AtomicU64;

/// The figures of all watchers. A clone counts into the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    calls: Family<Call, Counter>,
    lost: Family<Drop, Counter>,
    waiting: Family<Watcher, Gauge>,
    lag: Family<Watcher, Gauge<f64, AtomicU64>>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Watcher {
    handler: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Call {
    handler: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Drop {
    handler: String,
    why: &'static str,
}

/// Why a watcher was not told of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// As many wait as may.
    QueueFull,
    /// Watchers have set one another off for too long.
    Chain,
    /// Its key is not text.
    KeyNotText,
    /// The node's log of changes has left the watchers behind; how many were lost is not known, and
    /// this counts once.
    LeftBehind,
}

impl Lost {
    fn as_str(self) -> &'static str {
        match self {
            Lost::QueueFull => "queue-full",
            Lost::Chain => "chain",
            Lost::KeyNotText => "key-not-text",
            Lost::LeftBehind => "log-lost",
        }
    }
}

impl Figures {
    pub(super) fn register(metrics: &Metrics) -> Figures {
        let figures = Figures::default();
        let help = "Calls of watchers, by how they ended";
        metrics.register("watcher_calls", help, figures.calls.clone());
        let help = "Changes that a watcher was not told of, and why";
        metrics.register("watcher_lost", help, figures.lost.clone());
        let help = "Changes that wait for a watcher";
        metrics.register("watcher_waiting", help, figures.waiting.clone());
        let help = "Age of the change that a watcher is told of, 0 where none waits";
        metrics.register("watcher_lag_seconds", help, figures.lag.clone());
        figures
    }

    pub(super) fn called(&self, handler: &str, outcome: &'static str) {
        let handler = handler.to_owned();
        self.calls.get_or_create(&Call { handler, outcome }).inc();
    }

    pub(super) fn lost(&self, handler: &str, why: Lost) {
        let (handler, why) = (handler.to_owned(), why.as_str());
        self.lost.get_or_create(&Drop { handler, why }).inc();
    }

    /// So many wait, the first of them made at `made`.
    pub(super) fn waits(&self, handler: &str, count: usize, made: Hlc, node: &Node) {
        let watcher = Watcher { handler: handler.to_owned() };
        self.waiting.get_or_create(&watcher).set(i64::try_from(count).unwrap_or(i64::MAX));
        let lag_us = node.now().micros().saturating_sub(made.micros());
        self.lag.get_or_create(&watcher).set(lag_us as f64 / 1e6);
    }

    pub(super) fn rests(&self, handler: &str) {
        let watcher = Watcher { handler: handler.to_owned() };
        self.waiting.get_or_create(&watcher).set(0);
        self.lag.get_or_create(&watcher).set(0.0);
    }

    /// The handler is gone, and nothing waits for it.
    pub(super) fn forget(&self, handler: &str) {
        let watcher = Watcher { handler: handler.to_owned() };
        self.waiting.remove(&watcher);
        self.lag.remove(&watcher);
    }
}
