//! Deploying: a component is checked, compiled, tried, stored and made live, in this order.

use super::Handlers;
use super::deployed::{Counts, Deployed, Release, Standing};
use super::guest::{GuestHost, Identity};
use atoll_core::grant::Grant;
use atoll_core::hex::hex;
use atoll_core::limits::HANDLER_COUNT_MAX;
use atoll_core::manifest::canary::{Canary, Share};
use atoll_core::manifest::watch::Watch;
use atoll_core::manifest::{HandlerLimits, HandlerRecord, HandlerReuse, ManifestError};
use atoll_core::route::Pattern;
use atoll_core::store::edit::WriteError;
use atoll_wasm::component::filter::Hooks;
use atoll_wasm::component::{Component, World};
use atoll_wasm::error::{CallError, CompileError};
use atoll_wasm::limits::Limits;
use atoll_wasm::reuse::Reuse;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::Semaphore;

/// What is to be deployed.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) name: String,
    /// Those of the live version where it is a canary.
    pub(crate) routes: Vec<String>,
    /// Requests that it gets beside the live version; `None`: all, in its place.
    pub(crate) canary: Option<Share>,
    /// What it is to be told of, if anything.
    pub(crate) watch: Option<Watch>,
    pub(crate) grants: Vec<String>,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) limits: HandlerLimits,
    pub(crate) reuse: Option<HandlerReuse>,
    pub(crate) cache: bool,
    pub(crate) replicate: bool,
    pub(crate) pass_on_failure: bool,
    pub(crate) component: Bytes,
}

/// Why nothing was deployed. What was live before still is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeployError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(
        "route {route} of handler {name} is taken by handler {other}; give one of the two another \
         with atoll route"
    )]
    RouteTaken { route: Pattern, name: String, other: String },
    #[error("handler {name} has no route {route}; it has {routes}")]
    NoRoute { name: String, route: Pattern, routes: String },
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(
        "one instance of this component cannot work on several requests at once: only one of \
         wasi:http/service can that imports neither atoll:edge/cache nor atoll:edge/fetch nor \
         wasi:http/outgoing-handler; deploy it without --reuse-at-once"
    )]
    CannotShare,
    #[error(
        "the component imports {0} and no bucket is granted; deploy it with --grant kv:BUCKET=rw"
    )]
    NotGranted(String),
    #[error(
        "the component purges what caches hold (it imports atoll:edge/cache purge) and no purge is \
         granted; deploy it with --grant purge, or for a part with --grant purge:host=HOST, \
         purge:prefix=HOST/PATH or purge:tag=TAG"
    )]
    NoPurgeGranted,
    #[error(
        "the component exports no wasi:keyvalue/watcher, so it can be told of nothing; leave out \
         --watch"
    )]
    NoWatcher,
    #[error(
        "the component answers no requests: it exports wasi:keyvalue/watcher alone; deploy it with \
         --watch BUCKET/PREFIX and without --route"
    )]
    NoHandler,
    #[error(
        "the component is no filter (it exports no atoll:edge/route-filter), and --on-failure is for \
         filters alone; leave it out"
    )]
    NoFilter,
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
    #[error(
        "no handler is called {0}: a canary needs a live version beside it; deploy it without \
         --canary first"
    )]
    NothingLive(String),
    #[error("handler {0} has no canary; deploy one with --canary 5%")]
    NoCanary(String),
    #[error("the component is not on this node yet; try again in a moment")]
    NotHere,
    #[error("the component did not arrive whole: its SHA-256 is another")]
    Damaged,
}

/// A version before it can be called.
struct Draft {
    record: HandlerRecord,
    /// Its routes and grants.
    parsed: (Vec<Pattern>, Vec<Grant>),
    component: Arc<Component<GuestHost>>,
    standing: Standing,
}

impl Handlers {
    /// Deploys once it is this one's turn. From then on it goes on to its end, whether or not the
    /// caller waits: a compilation cannot be stopped, and the next may not run beside it.
    pub(crate) async fn deploy(
        self: &Arc<Self>,
        wanted: Deployment,
    ) -> Result<Release, DeployError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let handlers = Arc::clone(self);
        let deployment = self.deployments.spawn(async move {
            let release = handlers.deploy_now(wanted).await;
            drop(turn);
            release
        });
        deployment.await.map_err(|_| DeployError::GivenUp)?
    }

    /// Checks, compiles, tries, stores and swaps, in this order.
    async fn deploy_now(&self, wanted: Deployment) -> Result<Release, DeployError> {
        let beside = match wanted.canary {
            None => None,
            Some(share) => {
                let nothing = || DeployError::NothingLive(wanted.name.clone());
                Some((share, self.records.get(&wanted.name).ok_or_else(nothing)?))
            }
        };
        let mut record = HandlerRecord {
            version: self.next_version(&wanted.name),
            digest: hex(&Sha256::digest(&wanted.component)),
            component_bytes: wanted.component.len() as u64,
            deployed_ms: self.node.now().millis(),
            name: wanted.name,
            routes: beside.as_ref().map_or(wanted.routes, |(_, live)| live.routes.clone()),
            grants: wanted.grants,
            config: wanted.config,
            world: String::new(),
            limits: wanted.limits,
            reuse: wanted.reuse,
            cache: wanted.cache,
            replicate: wanted.replicate,
            pass_on_failure: wanted.pass_on_failure,
            restores: None,
            watch: wanted.watch,
            canary: None,
        };
        let (patterns, grants) = record.check()?;
        self.live.load().check_room(&record.name, &patterns)?;
        let component = self.compiled(&record.digest, wanted.component.clone()).await?;
        record.world = component.world().name().to_owned();
        record.check()?;
        if record.pass_on_failure && component.world() != World::Filter {
            return Err(DeployError::NoFilter);
        }
        let standing = beside.as_ref().map_or(Standing::Live, |_| Standing::Canary);
        let parsed = (patterns, grants);
        let draft = Draft { record: record.clone(), parsed, component, standing };
        let deployed = self.prepare(draft).await?;
        let release = match beside {
            None => Release { record, live: deployed, canary: None },
            Some((share, live)) => {
                let canary = Some(Canary { share, record: Box::new(record) });
                let record = HandlerRecord { canary, ..live };
                let live = self.version(record.without_canary(), Standing::Live).await?;
                Release { record, live, canary: Some((share, deployed)) }
            }
        };
        self.records.keep(&release.record, Some(wanted.component))?;
        self.swap(&release);
        Ok(release)
    }

    /// What a record says, ready to be called; the versions that run already are taken as they are.
    pub(super) async fn release(&self, record: HandlerRecord) -> Result<Release, DeployError> {
        let live = self.version(record.without_canary(), Standing::Live).await?;
        let canary = match &record.canary {
            None => None,
            Some(Canary { share, record }) => {
                let record = HandlerRecord::clone(record);
                Some((*share, self.version(record, Standing::Canary).await?))
            }
        };
        Ok(Release { record, live, canary })
    }

    /// One version of a kept component.
    async fn version(
        &self,
        record: HandlerRecord,
        standing: Standing,
    ) -> Result<Arc<Deployed>, DeployError> {
        let alike = |it: &&Arc<Deployed>| it.record == record && it.standing == standing;
        let release = self.get(&record.name);
        if let Some(running) = release.as_ref().and_then(|release| release.versions().find(alike)) {
            return Ok(Arc::clone(running));
        }
        let parsed = record.check()?;
        let running = self.live.load().component(&record.digest);
        let component = match running {
            Some(component) => component,
            None => {
                let bytes = self.records.component(&record.digest);
                let bytes = bytes.ok_or(DeployError::NotHere)?;
                if hex(&Sha256::digest(&bytes)) != record.digest {
                    return Err(DeployError::Damaged);
                }
                self.compiled(&record.digest, bytes).await?
            }
        };
        self.prepare(Draft { record, parsed, component, standing }).await
    }

    pub(super) fn next_version(&self, name: &str) -> u64 {
        let kept = self.records.get(name).map_or(0, |record| record.newest_version());
        let live = self.get(name).map_or(0, |release| release.record.newest_version());
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
    async fn prepare(&self, draft: Draft) -> Result<Arc<Deployed>, DeployError> {
        let Draft { record, parsed: (patterns, grants), component, standing } = draft;
        check_world(&record, &component, patterns.is_empty())?;
        let watch = match &record.watch {
            None => None,
            Some(watch) => Some((watch.on, watch.check(&grants).map_err(ManifestError::Watch)?)),
        };
        let figures = self.figures.of(&record.name, standing.as_str());
        let identity = Identity::new(&record, grants, self.logs.open(&record.name), figures);
        if let (false, Some(import)) = (identity.reaches_store(), component.store_import()) {
            return Err(DeployError::NotGranted(import.to_owned()));
        }
        if component.purges() && !identity.may_purge() {
            return Err(DeployError::NoPurgeGranted);
        }
        let old = self.get(&record.name);
        let before = old.as_ref().map(|old| &old.live).and_then(|old| {
            let other = old.record.digest != record.digest;
            if other {
                Some((old.record.digest.clone(), old.component.clone()))
            } else {
                old.before.clone()
            }
        });
        // Where only the routes are others, its instances stay, and so do the places taken.
        let alike = old.as_ref().and_then(|old| {
            old.versions().find(|old| {
                Arc::ptr_eq(&old.component, &component) && old.record.runs_like(&record)
            })
        });
        let is_tried = alike.is_some();
        let (pool, places) = match alike {
            Some(old) => (old.pool.clone(), Arc::clone(&old.places)),
            None => (
                record.reuse.map(|reuse| component.pool(reuse_of(reuse))),
                Arc::new(Semaphore::new(record.limits.concurrency as usize)),
            ),
        };
        let mut deployed = Deployed {
            hooks: Hooks::default(),
            limits: limits_of(&record.limits),
            pool,
            is_reuse_doubted: AtomicBool::new(false),
            is_pool_given_up: AtomicBool::new(false),
            places,
            counts: Counts::default(),
            record,
            watch,
            standing,
            component,
            before,
            identity: Arc::new(identity),
            patterns,
        };
        if !is_tried {
            let tried = deployed.component.try_instance(self.host(&deployed), &deployed.limits);
            tried.await.map_err(DeployError::Start)?;
        }
        if let Component::Filter(filter) = &*deployed.component {
            let wanted = filter.wanted(self.host(&deployed), &deployed.limits).await;
            deployed.hooks = wanted.map_err(DeployError::Start)?;
        }
        Ok(Arc::new(deployed))
    }
}

/// Checks that the component can do what its record asks of it.
fn check_world(
    record: &HandlerRecord,
    component: &Component<GuestHost>,
    is_without_routes: bool,
) -> Result<(), DeployError> {
    if record.watch.is_some() && !component.watches() {
        return Err(DeployError::NoWatcher);
    }
    if component.world() == World::Watcher && !(is_without_routes && record.watch.is_some()) {
        return Err(DeployError::NoHandler);
    }
    if record.reuse.is_some_and(|reuse| reuse.at_once > 1) && !component.can_share() {
        return Err(DeployError::CannotShare);
    }
    Ok(())
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
    let HandlerReuse { requests, idle_ms, at_once } = reuse;
    Reuse { requests, idle_ms, at_once }
}
