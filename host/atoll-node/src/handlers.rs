//! The deployed handlers: how they come, which of them answers a request, how they go.
//!
//! Requests read one pointer; deployments take turns, compile off the request path and swap that
//! pointer. A request in flight finishes on the version that it began with.

pub(crate) mod code;
mod fetch;
mod follow;
pub(crate) mod guest;
pub(crate) mod logs;
mod records;

use crate::journal::Unsettled;
use crate::node::Node;
use arc_swap::ArcSwap;
use atoll_core::grant::Grant;
use atoll_core::limits::HANDLER_COUNT_MAX;
use atoll_core::manifest::{
    HandlerLimits, HandlerRecord, HandlerReuse, HandlerState, ManifestError,
};
use atoll_core::route::{Pattern, RouteTable, Target};
use atoll_core::store::edit::WriteError;
use atoll_wasm::component::Component;
use atoll_wasm::component::filter::Hooks;
use atoll_wasm::engine::{Engine, EngineConfig};
use atoll_wasm::error::{CallError, CompileError};
use atoll_wasm::host::Level;
use atoll_wasm::limits::Limits;
use atoll_wasm::reuse::{Pool, Reuse};
use bytes::Bytes;
use code::Code;
use fetch::Client;
use guest::{GuestHost, Identity, Traces};
use logs::Logs;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use records::Records;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

/// All handlers of a node, and the engine that runs them.
#[derive(Debug)]
pub(crate) struct Handlers {
    node: Arc<Node>,
    engine: Engine<GuestHost>,
    code: Code,
    /// Sends what guests ask of others.
    client: Arc<Client>,
    records: Records,
    logs: Logs,
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
    pub(crate) component: Arc<Component<GuestHost>>,
    /// That of the version before, by its digest: it may be wanted back at once.
    before: Option<(String, Arc<Component<GuestHost>>)>,
    /// What its guests may do, and who they are.
    pub(crate) identity: Arc<Identity>,
    /// What one request may use.
    pub(crate) limits: Limits,
    /// Instances that may be used again, if the record asks for that.
    pub(crate) pool: Option<Arc<Pool<GuestHost>>>,
    /// Whether it was said that they are not used again after all.
    is_pool_given_up: AtomicBool,
    /// Places for requests at once.
    pub(crate) places: Arc<Semaphore>,
    /// What has become of its requests.
    pub(crate) counts: Counts,
    /// Which functions a filter has.
    pub(crate) hooks: Hooks,
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
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) limits: HandlerLimits,
    pub(crate) reuse: Option<HandlerReuse>,
    pub(crate) cache: bool,
    pub(crate) pass_on_failure: bool,
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
        "the component imports {0} and no bucket is granted; deploy it with --grant kv:BUCKET=rw"
    )]
    NotGranted(String),
    #[error("the component cannot be started: {0}")]
    Start(CallError),
    #[error(transparent)]
    Store(#[from] WriteError),
    #[error("this node already holds {HANDLER_COUNT_MAX} handlers, which is the maximum")]
    TooMany,
    #[error("the compilation was given up")]
    GivenUp,
    #[error("no handler is called {0}")]
    Unknown(String),
    #[error("handler {name} has no version {version} that could be brought back")]
    NoVersion { name: String, version: String },
    #[error("the component did not arrive whole: its SHA-256 is another")]
    Damaged,
}

impl Deployed {
    /// The most specific of its patterns that takes a request.
    pub(crate) fn pattern(&self, target: Target<'_>) -> Option<&Pattern> {
        let matching = self.patterns.iter().filter(|pattern| pattern.matches(target));
        matching.min_by(|a, b| a.specificity(b))
    }

    /// Whether one of its patterns takes the same requests.
    pub(crate) fn conflicts_with(&self, other: &Pattern) -> bool {
        self.patterns.iter().any(|pattern| pattern.conflicts_with(other))
    }

    /// Says once if instances are not used again any more.
    fn look_at_pool(&self) {
        let Some(why) = self.pool.as_ref().and_then(|pool| pool.broken()) else { return };
        if !self.is_pool_given_up.swap(true, Ordering::Relaxed) {
            let HandlerRecord { name, version, .. } = &self.record;
            warn!(handler = name, version, why, "reuse is given up: a fresh instance each time");
            self.identity.remark(Level::Warn, &format!("reuse is given up: {why}"));
        }
    }
}

impl Handlers {
    /// Starts the engine. No handler is deployed yet.
    pub(crate) fn new(
        node: Arc<Node>,
        code: Option<&code::Settings>,
    ) -> anyhow::Result<Arc<Handlers>> {
        let engine = Engine::new(EngineConfig::default())?;
        let code = Code::open(code, node.metrics());
        let records = Records::open(Arc::clone(&node))?;
        let (live, turn, deployments) = (ArcSwap::default(), Arc::default(), TaskTracker::new());
        let requests = Family::<Outcome, Counter>::default();
        let help = "Requests of handlers, by how they ended";
        node.metrics().register("handler_requests", help, requests.clone());
        let client = Arc::new(Client::new());
        Ok(Arc::new(Handlers {
            node,
            engine,
            code,
            client,
            records,
            logs: Logs::default(),
            live,
            turn,
            deployments,
            requests,
        }))
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
        let client = Arc::clone(&self.client);
        GuestHost::new(Arc::clone(&self.node), Arc::clone(&deployed.identity), client)
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
        deployed.look_at_pool();
        let handler = name.clone();
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

    /// Waits for the deployments that still run, and for guests that have answered and still run.
    /// None may begin any more.
    pub(crate) async fn settled(&self) {
        self.deployments.close();
        self.deployments.wait().await;
        self.engine.settled().await;
    }

    /// Checks, compiles, tries, stores and swaps, in this order.
    async fn deploy_now(&self, wanted: Deployment) -> Result<Arc<Deployed>, DeployError> {
        let mut record = HandlerRecord {
            version: self.next_version(&wanted.name),
            digest: hex(&Sha256::digest(&wanted.component)),
            component_bytes: wanted.component.len() as u64,
            deployed_ms: self.node.now().millis(),
            name: wanted.name,
            routes: wanted.routes,
            grants: wanted.grants,
            config: wanted.config,
            world: String::new(),
            limits: wanted.limits,
            reuse: wanted.reuse,
            cache: wanted.cache,
            pass_on_failure: wanted.pass_on_failure,
            restores: None,
        };
        let (patterns, grants) = record.check()?;
        self.live.load().check_room(&record.name, &patterns)?;
        let component = self.compiled(&record.digest, wanted.component.clone()).await?;
        record.world = component.world().name().to_owned();
        record.check()?;
        let deployed = self.prepare(record, (patterns, grants), component).await?;
        self.records.keep(&deployed.record, Some(wanted.component))?;
        self.swap(&deployed);
        Ok(deployed)
    }

    /// Brings back the version before, or the one that is named, as a new one.
    pub(crate) async fn roll_back(
        &self,
        name: &str,
        to: Option<u64>,
    ) -> Result<Arc<Deployed>, DeployError> {
        let _turn = self.turn.lock().await;
        let unknown = || DeployError::Unknown(name.to_owned());
        let current = self.records.get(name).ok_or_else(unknown)?;
        let mut versions = self.records.versions(name).into_iter().rev();
        let wanted = versions.find(|version| match to {
            Some(to) => version.version == to,
            None => version.content_version() < current.content_version(),
        });
        let missing = || DeployError::NoVersion {
            name: name.to_owned(),
            version: to.map_or_else(|| "before".to_owned(), |to| to.to_string()),
        };
        let wanted = wanted.ok_or_else(missing)?;
        let record = HandlerRecord {
            version: self.next_version(name),
            restores: Some(wanted.content_version()),
            deployed_ms: self.node.now().millis(),
            ..wanted
        };
        let parsed = record.check()?;
        self.live.load().check_room(&record.name, &parsed.0)?;
        let bytes = self.records.component(&record.digest).ok_or_else(missing)?;
        let component = self.compiled(&record.digest, bytes).await?;
        let deployed = self.prepare(record, parsed, component).await?;
        self.records.keep(&deployed.record, None)?;
        self.swap(&deployed);
        Ok(deployed)
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

    fn next_version(&self, name: &str) -> u64 {
        let kept = self.records.get(name).map_or(0, |record| record.version);
        let live = self.live.load().by_name.get(name).map_or(0, |live| live.record.version);
        kept.max(live) + 1
    }

    /// The component of this digest: one that is live, from the cache, or compiled anew.
    async fn compiled(
        &self,
        digest: &str,
        bytes: Bytes,
    ) -> Result<Arc<Component<GuestHost>>, DeployError> {
        if let Some(component) = self.live.load().component(digest) {
            return Ok(component);
        }
        let made = self.code.component(&self.engine, bytes).await;
        Ok(Arc::new(made.ok_or(DeployError::GivenUp)??))
    }

    /// Checks what needs the compiled component, and makes a first instance.
    async fn prepare(
        &self,
        record: HandlerRecord,
        (patterns, grants): (Vec<Pattern>, Vec<Grant>),
        component: Arc<Component<GuestHost>>,
    ) -> Result<Arc<Deployed>, DeployError> {
        let identity = Identity::new(&record, grants, self.logs.open(&record.name));
        if let (false, Some(import)) = (identity.reaches_store(), component.store_import()) {
            return Err(DeployError::NotGranted(import.to_owned()));
        }
        let before = self.live.load().by_name.get(&record.name).and_then(|old| {
            let other = old.record.digest != record.digest;
            if other {
                Some((old.record.digest.clone(), old.component.clone()))
            } else {
                old.before.clone()
            }
        });
        let mut deployed = Deployed {
            hooks: Hooks::default(),
            limits: limits_of(&record.limits),
            pool: record.reuse.map(|reuse| component.pool(reuse_of(reuse))),
            is_pool_given_up: AtomicBool::new(false),
            places: Arc::new(Semaphore::new(record.limits.concurrency as usize)),
            counts: Counts::default(),
            record,
            component,
            before,
            identity: Arc::new(identity),
            patterns,
        };
        let host = self.host(&deployed);
        deployed
            .component
            .try_instance(host, &deployed.limits)
            .await
            .map_err(DeployError::Start)?;
        if let Component::Filter(filter) = &*deployed.component {
            let wanted = filter.wanted(self.host(&deployed), &deployed.limits).await;
            deployed.hooks = wanted.map_err(DeployError::Start)?;
        }
        Ok(Arc::new(deployed))
    }

    /// Sends requests to this version from now on, and says so.
    fn swap(&self, deployed: &Arc<Deployed>) {
        let HandlerRecord { name, version, .. } = &deployed.record;
        self.live.store(Arc::new(self.live.load().with(Arc::clone(deployed))));
        self.logs.keep_only(|name| self.live.load().by_name.contains_key(name));
        info!(handler = name, version, "handler deployed");
        self.say(name, HandlerState { version: *version, error: None });
    }

    fn say(&self, name: &str, state: HandlerState) {
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
            self.logs.keep_only(|kept| kept != name);
            info!(handler = name, "handler removed");
        }
        is_live
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

    /// The component of this digest, if a handler runs it or did before.
    fn component(&self, digest: &str) -> Option<Arc<Component<GuestHost>>> {
        self.by_name.values().find_map(|deployed| {
            let before = deployed.before.as_ref().filter(|(before, _)| before == digest);
            let now = (deployed.record.digest == digest).then_some(&deployed.component);
            now.or(before.map(|(_, component)| component)).cloned()
        })
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

fn reuse_of(reuse: HandlerReuse) -> Reuse {
    Reuse { requests: reuse.requests, idle_ms: reuse.idle_ms }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
