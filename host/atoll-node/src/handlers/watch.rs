//! Watchers: handlers that are told of changes in the store.
//!
//! The node's log of changes is read while a handler watches, and never otherwise. Each handler has
//! a queue of its own and is told of one change after the other, in the order in which this node
//! took them, at most once. It is not told of what expires, of flushes and of deadlines that move.
//! Of what this node receives by comparison, because it was away for longer than logs reach back, it is
//! told as it then is, where it is told on every node.

pub(crate) mod carried;
mod causes;
mod figures;
mod queue;

use super::Handlers;
use super::deployed::{Deployed, Release, Standing};
use crate::config::Secret;
use crate::node::Node;
use atoll_core::entry::Entry;
use atoll_core::entry::op::{Change, Effect, Op};
use atoll_core::key::BucketName;
use atoll_core::manifest::watch::WatchOn;
use atoll_core::store::edit::Written;
use atoll_core::store::log::LogRead;
use atoll_wasm::component;
use atoll_wasm::host::Level;
use carried::Seal;
use causes::{CHAIN_MAX, Causes, ChainRefusal};
use figures::{Figures, Lost};
use http::HeaderValue;
use queue::{News, Queue, What};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Changes that are read from the log at once.
const STEP_COUNT: usize = 256;
/// Lines that say that a chain was cut come no more often than this.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(1);

/// Those that watch.
#[derive(Debug)]
pub(super) struct Watchers {
    node: Arc<Node>,
    list: watch::Sender<Arc<Vec<Arc<Release>>>>,
    /// Where the log is to be read from; `None` while nobody watches.
    start: Mutex<Option<u64>>,
    causes: Causes,
    /// Of what their requests say.
    seal: Seal,
    figures: Figures,
}

/// What a watcher's call is about, as far as its writes are concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// Calls of watchers that led to this one.
    chain: u8,
    on: WatchOn,
}

impl Watchers {
    /// `key` is what the nodes of the cluster share, if anything.
    ///
    /// # Errors
    ///
    /// There is none and the system gives no random numbers.
    pub(super) fn new(node: Arc<Node>, key: Option<&Secret>) -> anyhow::Result<Watchers> {
        let (list, start, causes) = (watch::Sender::default(), Mutex::default(), Causes::default());
        let (seal, figures) = (Seal::new(key)?, Figures::register(node.metrics()));
        Ok(Watchers { node, list, start, causes, seal, figures })
    }

    /// The field of a request that a call sends.
    pub(super) fn field(&self, told: Told) -> Option<HeaderValue> {
        self.seal.write(told, self.node.now().millis())
    }

    /// These watch from now on: what is written after this call is not missed.
    pub(super) fn set(&self, all: impl Iterator<Item = Arc<Release>>) {
        let watches = |release: &Arc<Release>| release.versions().any(|it| it.watch.is_some());
        let list: Vec<Arc<Release>> = all.filter(watches).collect();
        if list.is_empty() && self.list.borrow().is_empty() {
            return;
        }
        let mut start = self.start();
        if !list.is_empty() && start.is_none() {
            *start = Some(self.node.store().log_subscribe());
        }
        self.list.send_replace(Arc::new(list));
    }

    /// Makes a write of a watcher's call, if it may be made there.
    pub(super) fn write<R, E: From<ChainRefusal>>(
        &self,
        told: &Told,
        (bucket, key): (&BucketName, &[u8]),
        write: impl FnOnce() -> Result<Written<R>, E>,
    ) -> Result<Written<R>, E> {
        let watches = |release: &Arc<Release>| release.watches(bucket, key);
        if told.on == WatchOn::Every && self.list.borrow().iter().any(watches) {
            let key = String::from_utf8_lossy(key);
            return Err(ChainRefusal::Watched(format!("{bucket}/{key}")).into());
        }
        self.causes.write(told, write)
    }

    /// Stops reading the log, of which everything before `position` was read, unless somebody watches
    /// again.
    fn rest(&self, position: u64) {
        let mut start = self.start();
        if !self.list.borrow().is_empty() {
            *start = Some(position);
        } else if start.take().is_some() {
            self.node.store().log_unsubscribe(self.node.now());
            self.causes.clear();
        }
    }

    fn start(&self) -> MutexGuard<'_, Option<u64>> {
        self.start.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deployed {
    /// Whether it watches this key.
    fn watches(&self, bucket: &BucketName, key: &[u8]) -> bool {
        self.watch.iter().any(|(_, keys)| keys.iter().any(|keys| keys.contains(bucket, key)))
    }
}

impl Release {
    /// Whether one of its versions watches this key.
    fn watches(&self, bucket: &BucketName, key: &[u8]) -> bool {
        self.versions().any(|version| version.watches(bucket, key))
    }
}

impl Handlers {
    /// Tells watchers of changes, until `shutdown`.
    pub(crate) async fn watch(self: Arc<Self>, shutdown: CancellationToken) {
        let mut list = self.common.watchers.list.subscribe();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                some = list.wait_for(|list| !list.is_empty()) => if some.is_err() { return },
            }
            let Some(position) = *self.common.watchers.start() else { continue };
            let reader = Reader {
                handlers: Arc::clone(&self),
                position,
                queues: BTreeMap::new(),
                tasks: JoinSet::new(),
                complained: None,
            };
            let position = reader.run(&mut list, &shutdown).await;
            self.common.watchers.rest(position);
        }
    }

    /// Tells one watcher of one change.
    async fn tell(&self, name: &str, news: News, figures: &Figures) {
        let Some(release) = self.get(name) else { return };
        let deployed = match (news.to, &release.canary) {
            (Standing::Canary, Some((_, canary))) => canary,
            // A trial may have ended meanwhile.
            _ => &release.live,
        };
        let Some((on, _)) = deployed.watch.as_ref().filter(|_| deployed.component.watches()) else {
            return;
        };
        let Ok(key) = std::str::from_utf8(&news.key) else {
            return figures.lost(name, Lost::KeyNotText);
        };
        let value = match news.what {
            What::Set(value) => Some(value),
            What::Deleted => None,
            What::Arrived => self.shown(&news.bucket, key),
            What::Counted => match self.shown(&news.bucket, key) {
                Some(sum) => Some(sum),
                None => return,
            },
        };
        let host = self.host(deployed).told(Told { chain: news.chain, on: *on });
        let bucket = news.bucket.to_string();
        let change = component::Change { bucket: &bucket, key, value: value.as_deref() };
        let told = deployed.component.tell(host, change, &deployed.limits).await;
        deployed.counts.requests.fetch_add(1, Ordering::Relaxed);
        match told {
            Ok(()) => figures.called(name, "told"),
            Err(error) => {
                warn!(handler = name, kind = error.kind(), %error, "watcher failed");
                deployed.identity.remark(Level::Error, &format!("watcher: {error}"));
                deployed.counts.failures.fetch_add(1, Ordering::Relaxed);
                figures.called(name, error.kind());
            }
        }
    }

    /// What a key shows now.
    fn shown(&self, bucket: &BucketName, key: &str) -> Option<bytes::Bytes> {
        let store = self.node.store();
        let bucket = store.open_bucket(bucket).ok()?;
        store.read(&bucket, key.as_bytes(), self.node.now(), |view| {
            view.map(|view| view.value().to_bytes())
        })
    }
}

/// Reads the log and fills the queues.
struct Reader {
    handlers: Arc<Handlers>,
    position: u64,
    queues: BTreeMap<String, Queue>,
    /// Of the queues. They end with this.
    tasks: JoinSet<()>,
    /// When it was last said that a chain was cut.
    complained: Option<Instant>,
}

type List = watch::Receiver<Arc<Vec<Arc<Release>>>>;

impl Reader {
    /// Runs until nobody watches any more. Returns where to go on.
    async fn run(mut self, list: &mut List, shutdown: &CancellationToken) -> u64 {
        let mut grown = self.handlers.node.log_grown();
        loop {
            let watching = Arc::clone(&list.borrow_and_update());
            if watching.is_empty() || shutdown.is_cancelled() {
                return self.position;
            }
            self.queues.retain(|name, _| watching.iter().any(|it| it.record.name == *name));
            // Seen before the log is read: what comes after the read wakes the wait below.
            grown.borrow_and_update();
            match self.handlers.node.store().log_read(self.position, STEP_COUNT) {
                LogRead::Fallen { resume } => self.fall(&watching, resume),
                LogRead::Ops { ops, .. } if ops.is_empty() => {
                    tokio::select! {
                        () = shutdown.cancelled() => return self.position,
                        changed = list.changed() => if changed.is_err() { return self.position },
                        changed = grown.changed() => if changed.is_err() { return self.position },
                    }
                }
                LogRead::Ops { ops, next } => {
                    self.position = next;
                    ops.iter().for_each(|op| self.meet(op, &watching));
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// The log has dropped what was not read yet.
    fn fall(&mut self, watching: &[Arc<Release>], resume: u64) {
        self.position = resume;
        let watchers = &self.handlers.common.watchers;
        watchers.causes.clear();
        warn!("changes came faster than watchers could be told; some were lost, see --log-max");
        watching.iter().for_each(|it| watchers.figures.lost(&it.record.name, Lost::LeftBehind));
    }

    fn meet(&mut self, op: &Op, watching: &[Arc<Release>]) {
        let is_ours = op.stamp.origin == self.handlers.node.store().origin();
        let chain = match is_ours {
            true => self.handlers.common.watchers.causes.take(op.stamp),
            false => 0,
        };
        let Some((news, is_relayed)) = news(op, chain) else { return };
        for release in watching.iter().filter(|it| it.watches(&news.bucket, &news.key)) {
            // A version on trial gets its share of the changes as it does of requests: each is diced
            // for, and told to one version, if that one watches the key.
            let deployed = release.choose();
            if !deployed.watches(&news.bucket, &news.key) {
                continue;
            }
            // On one node: the one that took the write. A relayed one was taken by a node that is gone.
            let is_elsewhere = !is_ours || is_relayed;
            let on = deployed.watch.as_ref().map(|(on, _)| *on);
            if is_elsewhere && on == Some(WatchOn::One) {
                continue;
            }
            let put = if chain > CHAIN_MAX {
                self.complain(deployed);
                Err(Lost::Chain)
            } else {
                self.put(&deployed.record.name, News { to: deployed.standing, ..news.clone() })
            };
            if let Err(why) = put {
                self.handlers.common.watchers.figures.lost(&deployed.record.name, why);
            }
        }
    }

    fn put(&mut self, name: &str, news: News) -> Result<(), Lost> {
        let Reader { handlers, queues, tasks, .. } = self;
        if !queues.contains_key(name) {
            let queue = Queue::start(handlers, name, &handlers.common.watchers.figures, tasks);
            queues.insert(name.to_owned(), queue);
        }
        queues.get(name).map_or(Err(Lost::QueueFull), |queue| queue.put(news))
    }

    fn complain(&mut self, deployed: &Deployed) {
        if self.complained.is_some_and(|last| last.elapsed() < COMPLAINT_PAUSE) {
            return;
        }
        self.complained = Some(Instant::now());
        let handler = &deployed.record.name;
        let why = "a watcher sets itself off: it writes what is watched; the chain is cut";
        warn!(handler, calls = CHAIN_MAX + 1, "{why}");
        deployed.identity.remark(Level::Error, why);
    }
}

/// What watchers are told of an op, and whether it was relayed.
fn news(op: &Op, chain: u8) -> Option<(News, bool)> {
    let made = op.stamp.hlc;
    match &op.effect {
        Effect::Key { bucket, key, change } => {
            let what = match change {
                Change::Set { value, .. } => What::Set(value.bytes.clone()),
                Change::Delete { .. } => What::Deleted,
                Change::Count { .. } => What::Counted,
                Change::Touch { .. } => return None,
            };
            let (bucket, key) = (bucket.clone(), key.clone());
            Some((News { bucket, key, what, made, chain, to: Standing::Live }, false))
        }
        Effect::Relay { bucket, key, entry } => {
            let register = &entry.register;
            let what = match &register.value {
                _ if **entry == Entry::default() => What::Arrived,
                Some(value) => What::Set(value.bytes.clone()),
                None if register.stamp > atoll_core::clock::Stamp::ZERO => What::Deleted,
                None => What::Counted,
            };
            let (bucket, key) = (bucket.clone(), key.clone());
            Some((News { bucket, key, what, made, chain, to: Standing::Live }, true))
        }
        _ => None,
    }
}
