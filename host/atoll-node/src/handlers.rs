//! The deployed handlers: how they come, which of them answers a request, how they go.
//!
//! Requests read one pointer; deployments take turns, compile off the request path and swap that
//! pointer. A request in flight finishes on the version that it began with.

pub(crate) mod guest;

use crate::journal::Unsettled;
use crate::node::Node;
use anyhow::Context;
use arc_swap::ArcSwap;
use atoll_core::entry::Deadline;
use atoll_core::key::BucketName;
use atoll_core::limits::HANDLER_COUNT_MAX;
use atoll_core::manifest::{HandlerLimits, HandlerRecord, ManifestError};
use atoll_core::route::{Pattern, RouteTable, Target};
use atoll_core::store::Bucket;
use atoll_core::store::edit::{Edit, NewValue, WriteError};
use atoll_wasm::component::{Handler, Interface};
use atoll_wasm::engine::{Engine, EngineConfig};
use atoll_wasm::error::{CallError, CompileError};
use atoll_wasm::host::Response;
use atoll_wasm::limits::Limits;
use bytes::Bytes;
use guest::{GuestHost, Identity, Traces};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::info;

/// All handlers of a node, and the engine that runs them.
#[derive(Debug)]
pub(crate) struct Handlers {
    node: Arc<Node>,
    engine: Engine<GuestHost>,
    records: Arc<Bucket>,
    live: ArcSwap<Live>,
    /// Deployments and removals take turns.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Those that go on although nobody may wait for them any more.
    deployments: TaskTracker,
    /// Requests by handler and outcome, over all versions.
    requests: Family<Outcome, Counter>,
}

/// How a handler's request ended: `answered`, or the kind of the error.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    handler: String,
    outcome: &'static str,
}

/// What requests see at one moment.
#[derive(Debug, Default)]
struct Live {
    by_name: BTreeMap<String, Arc<Deployed>>,
    routes: RouteTable<Arc<Deployed>>,
}

/// One version of one handler, ready to be called.
#[derive(Debug)]
pub(crate) struct Deployed {
    /// As it was deployed.
    pub(crate) record: HandlerRecord,
    /// The compiled component.
    pub(crate) handler: Handler<GuestHost>,
    /// What its guests may do, and who they are.
    pub(crate) identity: Arc<Identity>,
    /// What one request may use.
    pub(crate) limits: Limits,
    /// Places for requests at once.
    pub(crate) places: Semaphore,
    /// What has become of its requests.
    pub(crate) counts: Counts,
    patterns: Vec<Pattern>,
}

/// Sums over the requests of one version.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Requests that have ended.
    pub(crate) requests: AtomicU64,
    /// Those that got a 5xx of the node's in the place of an answer.
    pub(crate) failures: AtomicU64,
}

/// What is to be deployed.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) name: String,
    pub(crate) routes: Vec<String>,
    pub(crate) grants: Vec<String>,
    pub(crate) limits: HandlerLimits,
    pub(crate) component: Bytes,
}

/// Why nothing was deployed. What was live before still is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeployError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("route {route} is taken by handler {other}; remove that one or choose another route")]
    RouteTaken { route: Pattern, other: String },
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(
        "the component imports {} and no bucket is granted; deploy it with --grant kv:BUCKET=rw",
        .0.name()
    )]
    NotGranted(Interface),
    #[error("the component cannot be started: {0}")]
    Start(CallError),
    #[error(transparent)]
    Store(#[from] WriteError),
    #[error("this node already holds {HANDLER_COUNT_MAX} handlers, which is the maximum")]
    TooMany,
    #[error("the compilation was given up")]
    GivenUp,
}

impl Deployed {
    /// The most specific of its patterns that takes a request.
    pub(crate) fn pattern(&self, target: Target<'_>) -> Option<&Pattern> {
        let matching = self.patterns.iter().filter(|pattern| pattern.matches(target));
        matching.min_by(|a, b| a.specificity(b))
    }
}

impl Handlers {
    /// Starts the engine. No handler is deployed yet.
    pub(crate) fn new(node: Arc<Node>) -> anyhow::Result<Arc<Handlers>> {
        let engine = Engine::new(EngineConfig::default())?;
        let name = BucketName::new("_sys").context("the name of the node's own bucket")?;
        let records = node.store().open_bucket(&name)?;
        let (live, turn, deployments) = (ArcSwap::default(), Arc::default(), TaskTracker::new());
        let requests = Family::<Outcome, Counter>::default();
        let help = "Requests of handlers, by how they ended";
        node.metrics().register("handler_requests", help, requests.clone());
        Ok(Arc::new(Handlers { node, engine, records, live, turn, deployments, requests }))
    }

    /// The handler that answers a request for `target`.
    pub(crate) fn find(&self, target: Target<'_>) -> Option<Arc<Deployed>> {
        self.live.load().routes.find(target).cloned()
    }

    /// The handler of this name.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Deployed>> {
        self.live.load().by_name.get(name).cloned()
    }

    /// All handlers, by name.
    pub(crate) fn list(&self) -> Vec<Arc<Deployed>> {
        self.live.load().by_name.values().cloned().collect()
    }

    /// What a request of a guest of `deployed` may reach.
    pub(crate) fn host(&self, deployed: &Deployed) -> GuestHost {
        GuestHost::new(Arc::clone(&self.node), Arc::clone(&deployed.identity))
    }

    /// Waits until what a guest has written is safe, if that was promised.
    pub(crate) async fn settle(&self, traces: &Traces) -> Result<(), Unsettled> {
        if traces.has_written() { self.node.settle().await } else { Ok(()) }
    }

    /// Counts a request of `deployed` that has ended.
    pub(crate) fn ended(&self, deployed: &Deployed, answer: &Result<Response, CallError>) {
        deployed.counts.requests.fetch_add(1, Ordering::Relaxed);
        let outcome = match answer {
            Ok(_) => "answered",
            Err(error) => {
                deployed.counts.failures.fetch_add(1, Ordering::Relaxed);
                error.kind()
            }
        };
        let handler = deployed.record.name.clone();
        self.requests.get_or_create(&Outcome { handler, outcome }).inc();
    }

    /// Deploys once it is this one's turn. From then on it goes on to its end, whether or not the
    /// caller waits: a compilation cannot be stopped, and the next may not run beside it.
    pub(crate) async fn deploy(
        self: &Arc<Self>,
        wanted: Deployment,
    ) -> Result<Arc<Deployed>, DeployError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let handlers = Arc::clone(self);
        let deployment = self.deployments.spawn(async move {
            let deployed = handlers.deploy_now(wanted).await;
            drop(turn);
            deployed
        });
        deployment.await.map_err(|_| DeployError::GivenUp)?
    }

    /// Waits for the deployments that still run. None may begin any more.
    pub(crate) async fn settled(&self) {
        self.deployments.close();
        self.deployments.wait().await;
    }

    /// Checks, compiles, tries, stores and swaps, in this order.
    async fn deploy_now(&self, wanted: Deployment) -> Result<Arc<Deployed>, DeployError> {
        let before = self.live.load_full();
        let version = before.by_name.get(&wanted.name).map_or(0, |old| old.record.version) + 1;
        let record = HandlerRecord {
            version,
            digest: hex(&Sha256::digest(&wanted.component)),
            component_bytes: wanted.component.len() as u64,
            deployed_ms: self.node.now().millis(),
            name: wanted.name,
            routes: wanted.routes,
            grants: wanted.grants,
            limits: wanted.limits,
        };
        let (patterns, grants) = record.check()?;
        before.check_room(&record.name, &patterns)?;
        let handler = self.compile(wanted.component.clone()).await?;
        if grants.is_empty() && handler.imports().contains(&Interface::Kv) {
            return Err(DeployError::NotGranted(Interface::Kv));
        }
        let identity = Arc::new(Identity { name: record.name.clone(), grants });
        let deployed = Arc::new(Deployed {
            limits: limits_of(&record.limits),
            places: Semaphore::new(record.limits.concurrency as usize),
            counts: Counts::default(),
            record,
            handler,
            identity,
            patterns,
        });
        let host = self.host(&deployed);
        deployed.handler.try_instance(host, &deployed.limits).await.map_err(DeployError::Start)?;
        self.keep(&deployed.record, wanted.component)?;
        self.live.store(Arc::new(before.with(Arc::clone(&deployed))));
        info!(handler = deployed.record.name, version, "handler deployed");
        Ok(deployed)
    }

    /// Takes a handler away. Returns whether there was one.
    pub(crate) async fn remove(&self, name: &str) -> Result<bool, WriteError> {
        let _turn = self.turn.lock().await;
        let before = self.live.load_full();
        let Some(old) = before.by_name.get(name) else { return Ok(false) };
        let after = before.without(name);
        let digest = &old.record.digest;
        self.delete(&HandlerRecord::key(name))?;
        if !after.uses(digest, None) {
            self.delete(&HandlerRecord::blob_key(digest))?;
        }
        self.live.store(Arc::new(after));
        info!(handler = name, "handler removed");
        Ok(true)
    }

    async fn compile(&self, component: Bytes) -> Result<Handler<GuestHost>, DeployError> {
        let engine = self.engine.clone();
        let compiled = tokio::task::spawn_blocking(move || engine.compile(&component)).await;
        Ok(compiled.map_err(|_| DeployError::GivenUp)??)
    }

    /// Writes the component, then the record that names it, and forgets the component before.
    fn keep(&self, record: &HandlerRecord, component: Bytes) -> Result<(), DeployError> {
        let live = self.live.load();
        let blob = HandlerRecord::blob_key(&record.digest);
        // It is kept once, whoever uses it.
        let is_kept = live.uses(&record.digest, None);
        if !is_kept {
            self.put(&blob, NewValue::Shared(component))?;
        }
        let written = self.put(&HandlerRecord::key(&record.name), NewValue::Owned(record.encode()));
        if let Err(error) = written {
            if !is_kept {
                self.delete(&blob)?;
            }
            return Err(error.into());
        }
        let Some(old) = live.by_name.get(&record.name) else { return Ok(()) };
        let digest = &old.record.digest;
        if *digest != record.digest && !live.uses(digest, Some(&record.name)) {
            self.delete(&HandlerRecord::blob_key(digest))?;
        }
        Ok(())
    }

    fn put(&self, key: &str, value: NewValue<'_>) -> Result<(), WriteError> {
        let edit = Edit::set(value, Deadline::NEVER);
        self.node.store().write(&self.records, key.as_bytes(), self.node.now(), |_| (edit, ()))?;
        Ok(())
    }

    fn delete(&self, key: &str) -> Result<(), WriteError> {
        let now = self.node.now();
        self.node.store().write(&self.records, key.as_bytes(), now, |_| (Edit::Delete, ()))?;
        Ok(())
    }
}

impl Live {
    /// Refuses what another handler stands in the way of.
    fn check_room(&self, name: &str, patterns: &[Pattern]) -> Result<(), DeployError> {
        if !self.by_name.contains_key(name) && self.by_name.len() >= HANDLER_COUNT_MAX {
            return Err(DeployError::TooMany);
        }
        for other in self.by_name.values().filter(|other| other.record.name != name) {
            let taken = patterns
                .iter()
                .find(|pattern| other.patterns.iter().any(|p| p.conflicts_with(pattern)));
            if let Some(route) = taken {
                let other = other.record.name.clone();
                return Err(DeployError::RouteTaken { route: route.clone(), other });
            }
        }
        Ok(())
    }

    /// Whether a handler runs the component of this digest, other than the one of this name.
    fn uses(&self, digest: &str, but: Option<&str>) -> bool {
        let mut records = self.by_name.values().map(|deployed| &deployed.record);
        records.any(|record| record.digest == digest && Some(&*record.name) != but)
    }

    fn with(&self, deployed: Arc<Deployed>) -> Live {
        let mut by_name = self.by_name.clone();
        by_name.insert(deployed.record.name.clone(), deployed);
        Live::of(by_name)
    }

    fn without(&self, name: &str) -> Live {
        let mut by_name = self.by_name.clone();
        by_name.remove(name);
        Live::of(by_name)
    }

    fn of(by_name: BTreeMap<String, Arc<Deployed>>) -> Live {
        let routes = by_name.values().flat_map(|deployed| {
            deployed.patterns.iter().map(|pattern| (pattern.clone(), Arc::clone(deployed)))
        });
        Live { routes: RouteTable::new(routes.collect()), by_name }
    }
}

fn limits_of(limits: &HandlerLimits) -> Limits {
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    Limits {
        cpu_ms: limits.cpu_ms,
        wall_ms: limits.wall_ms,
        memory_bytes: bytes(limits.memory_bytes),
        response_bytes: bytes(limits.response_bytes),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
