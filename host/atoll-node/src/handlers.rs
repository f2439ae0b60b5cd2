//! The deployed handlers: how they come, which of them answers a request, how they go.
//!
//! Requests read one pointer; deployments compile off the request path, and then write their record
//! and swap that pointer in one step, which no other change of any handler comes between. A request in flight finishes on the version that it began with.

pub(crate) mod changes;
pub(crate) mod code;
pub(crate) mod deploy;
pub(crate) mod deployed;
mod fetch;
mod figures;
mod follow;
pub(crate) mod guest;
mod live;
pub(crate) mod logs;
mod records;
mod turns;
pub(crate) mod watch;

use crate::cache::purges::Purges;
use crate::config::{Config, Secret};
use crate::journal::Unsettled;
use crate::node::Node;
use crate::secrets::{self, Secrets};
use arc_swap::ArcSwap;
use atoll_core::manifest::{HandlerRecord, HandlerState};
use atoll_core::route::Target;
use atoll_core::store::edit::WriteError;
use atoll_wasm::engine::{Engine, EngineConfig};
use atoll_wasm::error::CallError;
use atoll_wasm::host::Level;
use code::Code;
use deployed::{Deployed, Release};
use fetch::Client;
use figures::Figures;
use guest::{Common, GuestHost, Traces};
use live::Live;
use logs::Logs;
use records::Records;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};
use turns::Turns;
use watch::Watchers;

/// All handlers of a node, and the engine that runs them.
#[derive(Debug)]
pub(crate) struct Handlers {
    node: Arc<Node>,
    engine: Engine<GuestHost>,
    code: Code,
    /// What all guests reach.
    common: Arc<Common>,
    records: Records,
    logs: Logs,
    live: ArcSwap<Live>,
    /// Deployments, changes and removals of one handler take turns.
    turns: Turns,
    /// Held while a record is written or forgotten and what is live follows it. Never for long.
    changing: Mutex<()>,
    /// Those that go on although nobody may wait for them any more.
    deployments: TaskTracker,
    /// Where others reach the node's API.
    api: OnceLock<String>,
    figures: Figures,
}

/// What they are told at start.
#[derive(Debug)]
pub(crate) struct Settings<'s> {
    /// Where compiled code is kept.
    pub(crate) code: Option<&'s code::Settings>,
    pub(crate) secrets: &'s secrets::Settings,
    /// What the nodes of the cluster share, if anything.
    pub(crate) cluster_key: Option<&'s Secret>,
}

impl Settings<'_> {
    /// What the node's configuration says of them.
    pub(crate) fn of(config: &Config) -> Settings<'_> {
        let cluster_key = config.links.key.as_ref();
        Settings { code: config.code_cache.as_ref(), secrets: &config.secrets, cluster_key }
    }
}

impl Handlers {
    /// Starts the engine. No handler is deployed yet.
    pub(crate) fn new(
        purges: Arc<Purges>,
        settings: &Settings<'_>,
    ) -> anyhow::Result<Arc<Handlers>> {
        let node = Arc::clone(purges.node());
        let engine = Engine::new(EngineConfig::default())?;
        let code = Code::open(settings.code, node.metrics());
        let records = Records::open(Arc::clone(&node))?;
        let (live, turns) = (ArcSwap::default(), Turns::default());
        let figures = Figures::register(node.metrics());
        let secrets = Secrets::open(Arc::clone(&node), settings.secrets)?;
        let watchers = Watchers::new(Arc::clone(&node), settings.cluster_key)?;
        let client = Arc::new(Client::new());
        let common = Common { node: Arc::clone(&node), client, secrets, purges, watchers };
        let handlers = Arc::new(Handlers {
            node,
            engine,
            code,
            common: Arc::new(common),
            records,
            logs: Logs::default(),
            live,
            turns,
            changing: Mutex::default(),
            deployments: TaskTracker::new(),
            api: OnceLock::new(),
            figures,
        });
        figures::watch(&handlers, handlers.node.metrics());
        Ok(handlers)
    }

    /// The version that answers a request for `target`.
    pub(crate) fn find(&self, target: Target<'_>) -> Option<Arc<Deployed>> {
        self.live.load().routes.find(target).map(|release| Arc::clone(release.choose()))
    }

    /// The handler of this name.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Release>> {
        self.live.load().by_name.get(name).cloned()
    }

    /// All handlers, by name.
    pub(crate) fn list(&self) -> Vec<Arc<Release>> {
        self.live.load().by_name.values().cloned().collect()
    }

    /// What a request of a guest of `deployed` may reach.
    pub(crate) fn host(&self, deployed: &Deployed) -> GuestHost {
        GuestHost::new(Arc::clone(&self.common), Arc::clone(&deployed.identity))
    }

    /// Those that handlers may be granted.
    pub(crate) fn secrets(&self) -> &Secrets {
        &self.common.secrets
    }

    /// Waits until what a guest has written is safe, if that was promised.
    pub(crate) async fn settle(&self, traces: &Traces) -> Result<(), Unsettled> {
        if traces.has_written() { self.node.settle().await } else { Ok(()) }
    }

    /// Counts a request of `deployed` that has ended.
    pub(crate) fn ended(&self, deployed: &Deployed, end: Result<(), &CallError>) {
        deployed.counts.requests.fetch_add(1, Ordering::Relaxed);
        let name = &deployed.record.name;
        match end {
            Ok(()) => deployed.identity.figures().note_answer(),
            Err(error) => {
                deployed.counts.failures.fetch_add(1, Ordering::Relaxed);
                match error {
                    CallError::Busy(_) => debug!(handler = name, %error, "handler turned away"),
                    _ => {
                        warn!(handler = name, kind = error.kind(), %error, "handler failed");
                        deployed.identity.remark(Level::Error, &error.to_string());
                    }
                }
                self.figures.note_failure(name, deployed.standing.as_str(), error.kind());
            }
        }
        let retries = deployed.look_at_pool();
        deployed.identity.figures().note_retries(retries);
    }

    /// Waits for the deployments that still run, and for guests that have answered and still run.
    /// None may begin any more.
    pub(crate) async fn settled(&self) {
        self.deployments.close();
        self.deployments.wait().await;
        self.engine.settled().await;
    }

    /// Takes a handler away, from every node. Returns whether there was one.
    pub(crate) async fn remove(&self, name: &str) -> Result<bool, WriteError> {
        let _turn = self.turns.of(name).await;
        let _changing = self.changing();
        let was_kept = self.records.forget(name)?;
        Ok(self.drop_live(name) || was_kept)
    }

    /// Keeps what the records name from being lost. Called before links come up, and from time to
    /// time.
    pub(crate) fn tend_components(&self) {
        let _changing = self.changing();
        self.records.tend(Instant::now());
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        // Whoever panicked meanwhile has left a record and what is live: the next look compares them.
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each node says of a handler.
    pub(crate) fn states(&self, name: &str) -> Vec<(String, HandlerState)> {
        self.records.states(name)
    }

    /// Says where others reach this node's API, once, before anything is deployed.
    pub(crate) fn set_api(&self, address: String) {
        // It is there for as long as the node runs.
        let _ = self.api.set(address);
    }

    /// Sends requests to this release from now on, and says so.
    fn swap(&self, release: &Release) {
        let (name, version) = (&release.record.name, release.record.newest_version());
        self.live.store(Arc::new(self.live.load().with(release.clone())));
        self.tell_watchers();
        self.logs.sweep(|name| self.live.load().by_name.contains_key(name));
        let canary = release.canary.as_ref().map(|(share, _)| tracing::field::display(share));
        info!(handler = name, version, canary, "handler deployed");
        self.say(&release.record, None);
    }

    /// Says who watches from now on.
    fn tell_watchers(&self) {
        let live = self.live.load();
        self.common.watchers.set(live.by_name.values().cloned());
    }

    /// Tells every node what this one makes of a record.
    fn say(&self, record: &HandlerRecord, error: Option<String>) {
        let (name, state) =
            (&record.name, HandlerState::of(record, error, self.api.get().cloned()));
        if let Err(error) = self.records.tell(name, &state) {
            debug!(handler = name, %error, "what became of a handler could not be told");
        }
    }

    /// Returns whether it was live.
    fn drop_live(&self, name: &str) -> bool {
        let before = self.live.load_full();
        let is_live = before.by_name.contains_key(name);
        if is_live {
            self.live.store(Arc::new(before.without(name)));
            self.tell_watchers();
            self.logs.end(name);
            info!(handler = name, "handler removed");
        }
        is_live
    }
}

#[cfg(test)]
mod tests;
