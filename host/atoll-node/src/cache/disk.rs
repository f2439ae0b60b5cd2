//! The disk tier: stored responses in files, found again after a restart.
//!
//! Each response has a file that is named by the hash of its key; a body that is long has another
//! one beside it. The index in memory knows names and sizes alone, so a restart lists folders and
//! opens nothing. What a file says is believed once its checksums fit. Files are removed behind the
//! index, by one thread: what is not in the index is not found, and what was purged or made invalid
//! is in a list of its own (`ledger`), which is there before anybody is answered.
//!
//! Decides nothing about purges and freshness: `tiers` asks for that before anything is used.

mod figures;
pub(crate) mod file;
pub(crate) mod gate;
pub(crate) mod ledger;
pub(crate) mod limits;
mod loader;
mod reader;
pub(super) mod record;
mod room;
pub(crate) mod spool;
pub(super) mod tiers;
mod worker;

use crate::metrics::Metrics;
use anyhow::Context as _;
use file::BodyFile;
use ledger::{Purge, PurgeList};
use limits::{BLOCK_BYTES, FILE_OVERHEAD_BYTES, OPEN_COUNT_MAX, SPOOL_SHARE};
use room::Room;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use tracing::{info, warn};
use worker::{Job, Jobs, Put};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// How many folders the files are spread over; the name begins with the folder's.
const FOLDER_COUNT: usize = 256;
/// How many locks keep changes of one key apart.
const STRIPE_COUNT: usize = 64;

/// What the disk tier is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The node's data directory, which it holds.
    pub(crate) data: PathBuf,
    /// What all files may take, in bytes; `None` is what fits the file system.
    pub(crate) bytes_max: Option<u64>,
}

/// The disk tier of a node.
pub(crate) struct Disk {
    root: PathBuf,
    index: quick_cache::sync::Cache<u128, Arc<Entry>, ByBytes, RandomHash, Evictions>,
    evicted: Evictions,
    list: Mutex<PurgeList>,
    /// What was known when the process started.
    start: Start,
    jobs: Jobs,
    /// Numbers of files, none of which was there before.
    latest_number: AtomicU64,
    bytes_max: u64,
    spooled_bytes: AtomicU64,
    room: Room,
    is_serving: AtomicBool,
    is_loading: AtomicBool,
    figures: figures::Figures,
    stripes: [Mutex<()>; STRIPE_COUNT],
    turns: [tokio::sync::Mutex<()>; STRIPE_COUNT],
    open_files: Mutex<VecDeque<Weak<BodyFile>>>,
}

type RandomHash = quick_cache::DefaultHashBuilder;

/// What a process begins with.
#[derive(Debug)]
struct Start {
    us: u64,
    purges: Vec<Purge>,
    /// Keys that were made invalid, by hash, and when; until the index is read.
    invalid: Mutex<HashMap<u128, u64>>,
    /// Where files lie that are not trusted.
    distrusted: Option<PathBuf>,
}

/// One key's files.
#[derive(Debug)]
struct Entry {
    weight: u64,
    /// When its fetch began; `None` for what an earlier process has written.
    fetched_us: Option<u64>,
    /// The numbers of its body files: one, but for a process that died between two of them.
    numbers: Box<[u64]>,
    body: OnceLock<Arc<BodyFile>>,
}

impl Entry {
    /// Nobody begins to read its body from here on.
    fn forget(&self) {
        if let Some(body) = self.body.get() {
            body.forget();
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct ByBytes;

impl quick_cache::Weighter<u128, Arc<Entry>> for ByBytes {
    fn weight(&self, _: &u128, entry: &Arc<Entry>) -> u64 {
        entry.weight
    }
}

/// What the policy has let go of, and whose files have yet to be removed.
#[derive(Clone, Debug, Default)]
struct Evictions(Arc<Mutex<Vec<Evicted>>>);

type Evicted = (u128, Arc<Entry>);

impl quick_cache::Lifecycle<u128, Arc<Entry>> for Evictions {
    type RequestState = ();

    fn begin_request(&self) {}

    fn on_evict(&self, (): &mut (), hash: u128, entry: Arc<Entry>) {
        entry.forget();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((hash, entry));
    }
}

impl Evictions {
    fn take(&self) -> Vec<Evicted> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("root", &self.root).finish_non_exhaustive()
    }
}

/// Whose files lie under a key. All that is about one URL has the upper half in common: variants and
/// what filters add to keys begin behind a byte that no URL has.
pub(crate) fn hash_of(slot_key: &[u8]) -> u128 {
    let url_bytes = slot_key.iter().position(|&byte| byte < b' ').unwrap_or(slot_key.len());
    u128::from(xxh3_64(&slot_key[..url_bytes])) << 64 | (xxh3_128(slot_key) & u128::from(u64::MAX))
}

/// What files of so many bytes take of the budget.
fn weight_of(file_bytes: impl IntoIterator<Item = u64>) -> u64 {
    let weights = file_bytes.into_iter().map(|bytes| bytes.next_multiple_of(BLOCK_BYTES));
    weights.map(|bytes| bytes + FILE_OVERHEAD_BYTES).sum()
}

impl Disk {
    /// Takes the folder `cache` of the data directory, whose lock the caller holds. `now_us` is the
    /// cache's time.
    ///
    /// # Errors
    ///
    /// The folder cannot be made or the list of purges neither be read nor begun.
    pub(crate) fn open(settings: &Settings, now_us: u64) -> anyhow::Result<Arc<Disk>> {
        let root = settings.data.join("cache");
        let shown = root.display();
        let context = || format!("cannot use the folder {shown} for cached responses");
        let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        make(&root).with_context(context)?;
        let opened = PurgeList::open(&root.join("purges")).with_context(context)?;
        let objects = root.join("objects");
        let mut distrusted = None;
        if let Some(why) = opened.distrust
            && objects.is_dir()
        {
            warn!(why, "the cached responses on the disk are dropped");
            let aside = root.join(format!("dropped-{now_us:016x}"));
            fs::rename(&objects, &aside).with_context(context)?;
            distrusted = Some(aside);
        }
        for number in 0..FOLDER_COUNT {
            make(&objects.join(format!("{number:02x}"))).with_context(context)?;
        }
        make(&root.join("new")).with_context(context)?;
        let room = Room::of(&root);
        let bytes_max = settings.bytes_max.unwrap_or_else(|| room.default_budget_bytes());
        let evicted = Evictions::default();
        let invalid = opened.list.invalid().iter().copied().collect();
        let start = Start {
            us: now_us,
            purges: opened.list.purges(),
            invalid: Mutex::new(invalid),
            distrusted,
        };
        Ok(Arc::new(Disk {
            index: index(bytes_max, evicted.clone())?,
            evicted,
            list: Mutex::new(opened.list),
            start,
            jobs: Jobs::new(),
            latest_number: AtomicU64::new(now_us),
            bytes_max,
            spooled_bytes: AtomicU64::new(0),
            room,
            is_serving: AtomicBool::new(false),
            is_loading: AtomicBool::new(true),
            figures: figures::Figures::default(),
            stripes: std::array::from_fn(|_| Mutex::default()),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            open_files: Mutex::default(),
            root,
        }))
    }

    /// Begins to read the index and to write.
    ///
    /// # Errors
    ///
    /// The system has no threads.
    pub(crate) fn begin(self: &Arc<Self>, metrics: &Metrics) -> anyhow::Result<()> {
        self.figures.register(metrics, self);
        let (writer, reader) = (Arc::clone(self), Arc::clone(self));
        let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
        named("atoll-cache-io").spawn(move || writer.work()).context("no thread for the disk")?;
        named("atoll-cache-ls").spawn(move || reader.load()).context("no thread for the disk")?;
        Ok(())
    }

    /// What was purged before this process, as far as it was known.
    pub(crate) fn purges_at_start(&self) -> &[Purge] {
        &self.start.purges
    }

    /// From now on what is on the disk is served.
    pub(crate) fn serve(&self) {
        if !self.is_serving.swap(true, Ordering::AcqRel) {
            info!("cached responses on the disk are served");
        }
    }

    /// Longest body that fits in, in bytes.
    pub(crate) fn body_bytes_max(&self) -> u64 {
        self.bytes_max / SPOOL_SHARE
    }

    /// Whether something may lie under this hash. Looks at memory alone.
    pub(crate) fn may_have(&self, hash: u128) -> bool {
        self.is_serving.load(Ordering::Acquire)
            && (self.index.contains_key(&hash) || self.is_loading.load(Ordering::Acquire))
    }

    /// The hashes of what lies here for a URL. Looks through the whole index.
    pub(crate) fn hashes_of_url(&self, url: &str) -> Vec<u128> {
        let half = hash_of(url.as_bytes()) >> 64;
        let hashes = self.index.iter().map(|(hash, _)| hash);
        hashes.filter(|hash| hash >> 64 == half).collect()
    }

    /// The key of what lies under a hash. Waits for the disk.
    pub(crate) fn key_of(&self, hash: u128) -> Option<Vec<u8>> {
        let file = fs::read(self.head_path(hash)).ok()?;
        Some(record::decode(&file).ok()?.0.key.into_vec())
    }

    /// Whether something lies under this hash that was fetched later than `fetched_us`.
    pub(crate) fn has_newer(&self, hash: u128, fetched_us: u64) -> bool {
        let entry = self.index.peek(&hash);
        entry.and_then(|entry| entry.fetched_us).is_some_and(|there_us| there_us > fetched_us)
    }

    /// Takes something to be written behind the answer. Returns whether it will be tried.
    fn put_later(&self, put: Put) -> bool {
        let is_taken = !self.room.is_paused() && self.jobs.try_push(put);
        if !is_taken {
            self.figures.skipped.inc();
        }
        is_taken
    }

    /// Whether this body lies under the hash.
    fn has_body(&self, hash: u128, body: &BodyFile) -> bool {
        let entry = self.index.peek(&hash);
        !body.is_gone() && entry.is_some_and(|entry| entry.numbers.contains(&body.number))
    }

    /// Takes note that what lies there was used.
    pub(crate) fn note_use(&self, hash: u128) {
        self.index.get(&hash);
    }

    /// Lets go of what lies under a key. Its files go behind that.
    pub(crate) fn remove(&self, hash: u128) {
        if let Some((_, entry)) = self.index.remove(&hash) {
            entry.forget();
            self.jobs.push_removal(hash, entry);
        }
    }

    /// The same for good: what was fetched by `at_us` is not found after a restart either.
    pub(crate) fn invalidate(&self, hash: u128, at_us: u64) {
        if self.index.contains_key(&hash) || self.is_loading.load(Ordering::Acquire) {
            if let Err(error) = self.list().add_invalid(hash, at_us) {
                self.distrust(&error);
            }
            if self.is_loading.load(Ordering::Acquire) {
                self.start_invalid().insert(hash, at_us);
            }
            self.remove(hash);
        }
    }

    /// Takes note of a purge: from here on it outlives the process.
    pub(crate) fn note_purge(&self, purge: Purge) {
        let added = self.list().add(purge);
        if let Err(error) = added {
            self.distrust(&error);
        }
    }

    /// A purge that cannot be kept would be undone by a restart: then nothing may be there after it.
    fn distrust(&self, error: &std::io::Error) {
        self.figures.errors.inc();
        warn!(%error, "a purge could not be kept on the disk; no cached response outlives this process");
        // A missing list is not trusted. A disk that is full still lets files be removed.
        if let Err(error) = fs::remove_file(self.root.join("purges")) {
            warn!(%error, "nor could the list of purges be removed");
        }
    }

    fn list(&self) -> MutexGuard<'_, PurgeList> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_invalid(&self) -> MutexGuard<'_, HashMap<u128, u64>> {
        self.start.invalid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stripe(&self, hash: u128) -> MutexGuard<'_, ()> {
        let at = (hash % STRIPE_COUNT as u128) as usize;
        self.stripes[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One at a time reads what lies under a hash: the others find it in memory then.
    pub(crate) async fn turn(&self, hash: u128) -> tokio::sync::MutexGuard<'_, ()> {
        self.turns[(hash % STRIPE_COUNT as u128) as usize].lock().await
    }

    fn next_number(&self) -> u64 {
        self.latest_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn folder(&self, hash: u128) -> PathBuf {
        self.root.join("objects").join(format!("{:02x}", (hash >> 120) as u8))
    }

    fn head_path(&self, hash: u128) -> PathBuf {
        self.folder(hash).join(format!("{hash:032x}"))
    }

    fn body_path(&self, hash: u128, number: u64) -> PathBuf {
        self.folder(hash).join(format!("{hash:032x}.{number:016x}"))
    }

    fn new_path(&self, number: u64) -> PathBuf {
        self.root.join("new").join(format!("{number:016x}"))
    }

    /// Keeps `body` open for the next request, and closes the one that was opened longest ago.
    fn keep_open(&self, body: &Arc<BodyFile>) {
        let mut open_files = self.open_files.lock().unwrap_or_else(PoisonError::into_inner);
        open_files.push_back(Arc::downgrade(body));
        let closing = (open_files.len() > OPEN_COUNT_MAX).then(|| open_files.pop_front()).flatten();
        drop(open_files);
        if let Some(body) = closing.and_then(|body| body.upgrade()) {
            body.close();
        }
    }

    /// Waits until what was stored is on the disk, for a while.
    pub(crate) fn flush(&self) {
        self.jobs.push(Job::Sync);
        self.jobs.wait_until_empty(limits::FLUSH_WAIT);
    }
}

fn index(
    bytes_max: u64,
    evicted: Evictions,
) -> anyhow::Result<quick_cache::sync::Cache<u128, Arc<Entry>, ByBytes, RandomHash, Evictions>> {
    let kept_bytes_max = bytes_max - bytes_max / SPOOL_SHARE;
    let count_estimate = (kept_bytes_max / (32 * 1_024)).clamp(100, 1_000_000) as usize;
    let options = quick_cache::OptionsBuilder::new()
        .estimated_items_capacity(count_estimate)
        .weight_capacity(kept_bytes_max)
        // One: a body may take an eighth of the budget.
        .shards(1)
        .build()
        .context("the budget of the disk tier")?;
    Ok(quick_cache::sync::Cache::with_options(options, ByBytes, RandomHash::default(), evicted))
}

#[cfg(test)]
mod tests;
