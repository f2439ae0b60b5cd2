//! The deployed handlers: how they come, which of them answers a request, how they go.
//!
//! Requests read one pointer; deployments take turns, compile off the request path and swap that
//! pointer. A request in flight finishes on the version that it began with.

pub(crate) mod changes;
pub(crate) mod code;
pub(crate) mod deploy;
pub(crate) mod deployed;
mod fetch;
mod follow;
pub(crate) mod guest;
mod live;
pub(crate) mod logs;
mod records;
pub(crate) mod trace;
mod watch;

use crate::cache::purges::Purges;
use crate::config::Config;
use crate::journal::Unsettled;
use crate::node::Node;
use crate::secrets::{self, Secrets};
use arc_swap::ArcSwap;
use atoll_core::manifest::HandlerState;
use atoll_core::route::Target;
use atoll_core::store::edit::WriteError;
use atoll_wasm::engine::{Engine, EngineConfig};
use atoll_wasm::error::CallError;
use atoll_wasm::host::Level;
use code::Code;
use deployed::{Deployed, Release};
use fetch::Client;
use guest::{Common, GuestHost, Traces};
use live::Live;
use logs::Logs;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use records::Records;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};
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
    /// Deployments and removals take turns.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Those that go on although nobody may wait for them any more.
    deployments: TaskTracker,
    /// Where the node's API listens.
    api: OnceLock<String>,
    /// Requests by handler and outcome, over all versions.
    requests: Family<Outcome, Counter>,
    /// Requests that a fresh instance was given after a used one had failed.
    retries: Family<Which, Counter>,
}

/// What they are told at start.
#[derive(Debug)]
pub(crate) struct Settings<'s> {
    /// Where compiled code is kept.
    pub(crate) code: Option<&'s code::Settings>,
    pub(crate) secrets: &'s secrets::Settings,
}

impl Settings<'_> {
    /// What the node's configuration says of them.
    pub(crate) fn of(config: &Config) -> Settings<'_> {
        Settings { code: config.code_cache.as_ref(), secrets: &config.secrets }
    }
}

/// How a handler's request ended: `answered`, or the kind of the error.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    handler: String,
    /// `live` or `canary`.
    release: &'static str,
    outcome: &'static str,
}

/// A handler's version by its standing.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Which {
    handler: String,
    /// `live` or `canary`.
    release: &'static str,
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
        let (live, turn, deployments) = (ArcSwap::default(), Arc::default(), TaskTracker::new());
        let requests = Family::<Outcome, Counter>::default();
        let help = "Requests of handlers, by how they ended";
        node.metrics().register("handler_requests", help, requests.clone());
        let retries = Family::<Which, Counter>::default();
        let help = "Requests that a used instance failed at and a fresh one was given";
        node.metrics().register("handler_retries", help, retries.clone());
        let secrets = Secrets::open(Arc::clone(&node), settings.secrets)?;
        let watchers = Watchers::new(Arc::clone(&node), node.metrics());
        let client = Arc::new(Client::new());
        let common = Common { node: Arc::clone(&node), client, secrets, purges, watchers };
        Ok(Arc::new(Handlers {
            node,
            engine,
            code,
            common: Arc::new(common),
            records,
            logs: Logs::default(),
            live,
            turn,
            deployments,
            api: OnceLock::new(),
            requests,
            retries,
        }))
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
        let outcome = match end {
            Ok(()) => "answered",
            Err(error) => {
                deployed.counts.failures.fetch_add(1, Ordering::Relaxed);
                match error {
                    CallError::Busy(_) => debug!(handler = name, %error, "handler turned away"),
                    _ => {
                        warn!(handler = name, kind = error.kind(), %error, "handler failed");
                        deployed.identity.remark(Level::Error, &error.to_string());
                    }
                }
                error.kind()
            }
        };
        let (handler, release) = (name.clone(), deployed.standing.as_str());
        let retries = deployed.look_at_pool();
        if retries > 0 {
            let which = Which { handler: handler.clone(), release };
            self.retries.get_or_create(&which).inc_by(retries);
        }
        self.requests.get_or_create(&Outcome { handler, release, outcome }).inc();
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
        let _turn = self.turn.lock().await;
        let was_kept = self.records.forget(name)?;
        Ok(self.drop_live(name) || was_kept)
    }

    /// What each node says of a handler.
    pub(crate) fn states(&self, name: &str) -> Vec<(String, HandlerState)> {
        self.records.states(name)
    }

    /// Says where this node's API listens, once, before anything is deployed.
    pub(crate) fn set_api(&self, address: SocketAddr) {
        // It listens there for as long as the node runs.
        let _ = self.api.set(address.to_string());
    }

    /// Sends requests to this release from now on, and says so.
    fn swap(&self, release: &Release) {
        let (name, version) = (&release.record.name, release.record.newest_version());
        self.live.store(Arc::new(self.live.load().with(release.clone())));
        self.tell_watchers();
        self.logs.keep_only(|name| self.live.load().by_name.contains_key(name));
        let canary = release.canary.as_ref().map(|(share, _)| tracing::field::display(share));
        info!(handler = name, version, canary, "handler deployed");
        self.say(name, version, None);
    }

    /// Says who watches from now on.
    fn tell_watchers(&self) {
        let live = self.live.load();
        let releases = live.by_name.values();
        self.common.watchers.set(releases.map(|release| Arc::clone(&release.live)));
    }

    /// Tells every node what this one makes of a version.
    fn say(&self, name: &str, version: u64, error: Option<String>) {
        let state = HandlerState { version, error, api: self.api.get().cloned() };
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
            self.logs.keep_only(|kept| kept != name);
            info!(handler = name, "handler removed");
        }
        is_live
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
