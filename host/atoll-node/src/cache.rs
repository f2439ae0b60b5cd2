//! The HTTP cache: what is stored in memory and, by `disk`, in files, what is being fetched, what has
//! been purged.
//!
//! Decides nothing about freshness: that is `atoll_core::http_cache`. Fetches nothing: that is
//! `proxy`. What a purge covers is found out at the next look, so a purge costs nothing by itself.

pub(crate) mod body;
pub(crate) mod budget;
pub(crate) mod coded;
pub(crate) mod disk;
pub(crate) mod fill;
pub(crate) mod flight;
pub(crate) mod inspect;
pub(crate) mod keys;
pub(crate) mod limits;
pub(crate) mod purges;
pub(crate) mod replicated;
pub(crate) mod stored;

use crate::node::Node;
use atoll_core::clock::Stamp;
use atoll_core::http_cache::purge::{Ledger, Scope, Strength, Subject};
use atoll_core::http_cache::reuse::Purged;
use atoll_core::http_cache::vary::{Vary, selecting_key};
use budget::Budget;
use coded::{Coded, UnderWay};
use disk::Disk;
use disk::ledger::Purge;
use flight::{Began, Flights, Landing, Lead, Role};
use http::{HeaderMap, HeaderName};
use limits::{
    FILL_BYTES_MIN, FILL_SHARE, INVALIDATION_PLACES, PASS, SHARD_BYTES_MIN, SHARD_COUNT_MAX,
};
use quick_cache::Weighter;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use stored::{Stored, url_of};

/// What lies under a key.
#[derive(Clone, Debug)]
enum Slot {
    Stored(Arc<Stored>),
    /// Several responses, told apart by these fields. They lie under keys of their own, which hold
    /// the number: to forget them all is to forget it.
    Varies(Arc<Varies>),
    /// The last response could not be shared: until then requests go upstream side by side.
    Pass {
        until_us: u64,
    },
    /// A stored body with a content coding, under a key of its own.
    Coded(Arc<Coded>),
}

#[derive(Debug)]
struct Varies {
    names: Box<[HeaderName]>,
    number: u64,
}

#[derive(Clone, Copy, Debug)]
struct ByBytes;

impl Weighter<Box<[u8]>, Slot> for ByBytes {
    fn weight(&self, key: &Box<[u8]>, slot: &Slot) -> u64 {
        let of_slot = match slot {
            Slot::Stored(stored) => stored.weight_bytes(),
            Slot::Coded(coded) => coded.weight_bytes(),
            Slot::Varies(_) | Slot::Pass { .. } => limits::ENTRY_OVERHEAD_BYTES / 2,
        };
        (key.len() + of_slot) as u64
    }
}

/// What a look into the cache has found.
#[derive(Debug)]
pub(crate) enum Found {
    /// A response whose Vary matches.
    Stored(Arc<Stored>, Purged),
    /// Responses, of which none matches.
    VaryMiss,
    /// Nothing.
    Miss,
    /// Nothing in memory; the disk has to be asked.
    OnDisk,
    /// The mark of a response that cannot be shared.
    Pass,
}

/// The cache of a node.
pub(crate) struct Cache {
    slots: quick_cache::sync::Cache<Box<[u8]>, Slot, ByBytes>,
    flights: Arc<Flights>,
    coding: UnderWay,
    ledger: RwLock<Ledger>,
    keys: keys::Keys,
    /// Goes up with each purge.
    generation: AtomicU64,
    /// When a key that falls into a place was last invalidated, in microseconds.
    invalidations: Box<[AtomicU64]>,
    variant_count: AtomicU64,
    /// The latest time that was told, in microseconds.
    latest_us: AtomicU64,
    hash: secret_hash::Hash,
    /// Where there is one.
    disk: Option<Arc<Disk>>,
    /// For bodies that are coming.
    fills: Arc<Budget>,
}

/// A hash of keys for this process alone.
mod secret_hash {
    use std::hash::{BuildHasher as _, RandomState};

    /// Its secret.
    #[derive(Debug, Default)]
    pub(super) struct Hash(RandomState);

    impl Hash {
        /// The hash of `key`.
        pub(super) fn of(&self, key: &[u8]) -> u64 {
            self.0.hash_one(key)
        }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("count", &self.slots.len()).finish_non_exhaustive()
    }
}

impl Cache {
    /// An empty cache for so many bytes.
    pub(crate) fn new(bytes_max: usize) -> Cache {
        // What the policy sizes its lists by; more entries fit as well.
        let count_estimate = (bytes_max / (8 * 1_024)).clamp(1_000, 1_000_000);
        // A response has to fit into one shard.
        let shard_count = (bytes_max / SHARD_BYTES_MIN).clamp(1, SHARD_COUNT_MAX);
        let options = quick_cache::OptionsBuilder::new()
            .estimated_items_capacity(count_estimate)
            .weight_capacity(bytes_max as u64)
            .shards(shard_count)
            .build()
            .expect("count and capacity are given");
        Cache {
            slots: quick_cache::sync::Cache::with_options(
                options,
                ByBytes,
                quick_cache::DefaultHashBuilder::default(),
                quick_cache::sync::DefaultLifecycle::default(),
            ),
            flights: Arc::default(),
            coding: UnderWay::default(),
            ledger: RwLock::default(),
            keys: keys::Keys::new(wall_us()),
            generation: AtomicU64::new(1),
            invalidations: (0..INVALIDATION_PLACES).map(|_| AtomicU64::new(0)).collect(),
            variant_count: AtomicU64::new(wall_us()),
            latest_us: AtomicU64::new(0),
            hash: secret_hash::Hash::default(),
            disk: None,
            fills: Arc::new(Budget::new(fill_bytes_default(bytes_max) as u64)),
        }
    }

    /// From now on bodies that are coming may take so many bytes together.
    pub(crate) fn set_fill_bytes_max(&mut self, bytes_max: u64) {
        self.fills = Arc::new(Budget::new(bytes_max));
    }

    /// What bodies that are coming take, and may take.
    pub(crate) fn fills(&self) -> &Arc<Budget> {
        &self.fills
    }

    /// The same with a disk tier, and with what was purged before this process.
    pub(crate) fn with_disk(bytes_max: usize, settings: &disk::Settings) -> anyhow::Result<Cache> {
        let mut cache = Cache::new(bytes_max);
        let now_us = cache.now_us();
        let disk = Disk::open(settings, now_us)?;
        let ledger = cache.ledger.get_mut().unwrap_or_else(PoisonError::into_inner);
        for purge in disk.purges_at_start() {
            // Where the clock was set back, more is purged rather than less.
            ledger.record(&purge.scope, purge.strength, purge.at_us.min(now_us));
        }
        cache.disk = Some(disk);
        Ok(cache)
    }

    /// The disk tier, where there is one.
    pub(crate) fn disk(&self) -> Option<&Arc<Disk>> {
        self.disk.as_ref()
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Shows the cache's size in the node's figures.
    pub(crate) fn register(self: &Arc<Self>, node: &Node) {
        node.metrics().register_collector(Figures(Arc::downgrade(self)));
        let help = "Bodies not stored because all that were coming took too much memory";
        node.metrics().register("cache_fills_given_up", help, self.fills.given_up.clone());
    }

    /// The time in microseconds since the Unix epoch. It never goes back, so that it tells what
    /// came first.
    pub(crate) fn now_us(&self) -> u64 {
        let now_us = wall_us();
        self.latest_us.fetch_max(now_us, Ordering::Relaxed).max(now_us)
    }

    /// Joins what is being fetched for requests like this one, or begins to fetch. What began
    /// before a purge or an invalidation is not joined, nor what has landed with something that
    /// `may_follow` refuses. `seen_us` is when what the look has found was fetched, 0 where it has
    /// found nothing.
    pub(crate) fn join(
        &self,
        (key, request): (&str, &HeaderMap),
        flight: Vec<u8>,
        seen_us: u64,
        may_follow: impl Fn(&Landing) -> bool,
    ) -> Role {
        let now = self.began();
        let role = self.flights.join(flight, now, |began, landing| {
            let is_valid =
                began.generation == now.generation && !self.is_invalidated(key, began.us);
            is_valid && landing.is_none_or(&may_follow)
        });
        // Between the look and this a fetch may have ended: what it has stored is found by now.
        if matches!(role, Role::Leader(_))
            && let Found::Stored(stored, _) = self.find(key, request)
            && stored.fetched_us > seen_us
        {
            return Role::Late;
        }
        role
    }

    /// Begins a fetch that nobody joins.
    pub(crate) fn fetch_alone(&self) -> Lead {
        self.flights.alone(self.began())
    }

    /// Whether something is being fetched under this name of a flight.
    pub(crate) fn is_under_way(&self, flight: &[u8]) -> bool {
        self.flights.is_under_way(flight)
    }

    fn began(&self) -> Began {
        // In this order: a purge between the two is seen as one that came before.
        let generation = self.generation.load(Ordering::Acquire);
        Began { us: self.now_us(), generation }
    }

    /// Looks for a response to a request with these fields.
    pub(crate) fn find(&self, key: &str, request: &HeaderMap) -> Found {
        match self.slots.get(key.as_bytes()) {
            None => self.absent(key.as_bytes(), Found::Miss),
            Some(Slot::Stored(stored)) => self.unpurged(key.as_bytes(), stored, Found::Miss),
            Some(Slot::Varies(varies)) => {
                let variant = varies.key(key, request);
                match self.slots.get(&variant[..]) {
                    Some(Slot::Stored(stored)) => self.unpurged(&variant, stored, Found::VaryMiss),
                    _ => self.absent(&variant, Found::VaryMiss),
                }
            }
            Some(Slot::Pass { until_us }) if until_us > self.now_us() => Found::Pass,
            Some(Slot::Pass { .. } | Slot::Coded(_)) => self.absent(key.as_bytes(), Found::Miss),
        }
    }

    /// What is said of a key under which memory has nothing.
    fn absent(&self, slot_key: &[u8], otherwise: Found) -> Found {
        if self.disk_may_have(slot_key) { Found::OnDisk } else { otherwise }
    }

    /// What tells the requests for `key` apart, as far as is known.
    pub(crate) fn variant_of(&self, key: &str, request: &HeaderMap) -> Vec<u8> {
        match self.slots.peek(key.as_bytes()) {
            Some(Slot::Varies(varies)) => selecting_key(&varies.names, request),
            _ => Vec::new(),
        }
    }

    /// `stored`, unless a purge has taken it.
    fn unpurged(&self, key: &[u8], stored: Arc<Stored>, otherwise: Found) -> Found {
        let is_it =
            |slot: &Slot| matches!(slot, Slot::Stored(found) if Arc::ptr_eq(found, &stored));
        if Cache::has_lost_body(&stored) {
            self.slots.remove_if(key, is_it);
            return self.absent(key, otherwise);
        }
        // Whoever makes a URL invalid knows of no parts.
        let has_parts = stored.url().len() != stored.key.len();
        if has_parts && self.is_invalidated(&stored.key, stored.fetched_us) {
            return otherwise;
        }
        let generation = self.generation.load(Ordering::Acquire);
        if stored.checked_at() != generation {
            let strength = self.examine(&stored, generation);
            if strength == Some(Strength::Hard) {
                self.slots.remove_if(key, is_it);
                return otherwise;
            }
        }
        let purged = stored.purged();
        Found::Stored(stored, purged)
    }

    /// Compares a response with the purges and the writes of keys up to `generation`. Returns by
    /// what it was purged.
    fn examine(&self, stored: &Stored, generation: u64) -> Option<Strength> {
        let strength = self.purged(stored);
        if self.keys.outdate(stored) {
            stored.note_outdated();
        }
        stored.note_check(generation, strength == Some(Strength::Soft));
        strength
    }

    /// Whether nothing has been purged or made invalid that `stored` is part of.
    pub(crate) fn holds(&self, stored: &Stored) -> bool {
        self.purged(stored).is_none()
            && !self.keys.outdate(stored)
            && !self.is_invalidated(&stored.key, stored.fetched_us)
    }

    /// Whether a response with these tags, whose fetch began at `fetched_us`, is in force.
    pub(crate) fn is_in_force(&self, subject: Subject<'_>, fetched_us: u64) -> bool {
        self.covers(subject, fetched_us).is_none() && !self.is_invalidated(subject.key, fetched_us)
    }

    fn purged(&self, stored: &Stored) -> Option<Strength> {
        let subject =
            Subject { key: stored.url(), host_bytes: stored.host_bytes, tags: &stored.tags };
        self.covers(subject, stored.fetched_us)
    }

    fn covers(&self, subject: Subject<'_>, fetched_us: u64) -> Option<Strength> {
        let ledger = self.ledger.read().unwrap_or_else(PoisonError::into_inner);
        if ledger.is_empty() { None } else { ledger.covers(subject, fetched_us) }
    }

    /// Stores a response for requests with these fields. Returns whether it was: one whose fetch
    /// began before a purge or an invalidation of it is not.
    pub(crate) fn store(
        self: &Arc<Self>,
        stored: &Arc<Stored>,
        vary: &Vary,
        request: &HeaderMap,
    ) -> bool {
        self.store_valid_since(stored, vary, request, stored.fetched_us)
    }

    /// The same for the response to a request that made what was there invalid itself, at
    /// `answered_us` at the latest.
    pub(crate) fn store_posted(
        self: &Arc<Self>,
        stored: &Arc<Stored>,
        vary: &Vary,
        request: &HeaderMap,
        answered_us: u64,
    ) -> bool {
        self.store_valid_since(stored, vary, request, answered_us)
    }

    /// Stores what nothing has made invalid at `valid_us` or later.
    fn store_valid_since(
        self: &Arc<Self>,
        stored: &Arc<Stored>,
        vary: &Vary,
        request: &HeaderMap,
        valid_us: u64,
    ) -> bool {
        let Vary::Fields(names) = vary else { return false };
        let generation = self.generation.load(Ordering::Acquire);
        self.admit_keys(&stored.keys, stored.fetched_us);
        if self.examine(stored, generation) == Some(Strength::Hard)
            || self.is_invalidated(&stored.key, valid_us)
        {
            return false;
        }
        // What was asked for later is newer, whichever comes first.
        if let Found::Stored(other, _) = self.find(&stored.key, request)
            && other.fetched_us > stored.fetched_us
        {
            return false;
        }
        let key: Box<[u8]> = stored.key.as_bytes().into();
        let slot_key = if names.is_empty() {
            if self.disk_has_newer(&key, stored.fetched_us) {
                return false;
            }
            self.slots.insert(key.clone(), Slot::Stored(Arc::clone(stored)));
            key
        } else {
            let known = match self.slots.peek(&key[..]) {
                Some(Slot::Varies(varies)) if varies.names == *names => Some(varies),
                _ => None,
            };
            let varies = known.unwrap_or_else(|| {
                let number = self.variant_count.fetch_add(1, Ordering::Relaxed);
                let varies = Arc::new(Varies { names: names.clone(), number });
                self.slots.insert(key, Slot::Varies(Arc::clone(&varies)));
                self.keep_varies_on_disk(&stored.key, &varies, valid_us);
                varies
            });
            let variant = varies.key(&stored.key, request);
            if self.disk_has_newer(&variant, stored.fetched_us) {
                return false;
            }
            self.slots.insert(variant.clone(), Slot::Stored(Arc::clone(stored)));
            variant
        };
        // An invalidation that came meanwhile has removed what was there before.
        if self.is_invalidated(&stored.key, valid_us) {
            self.slots.remove(stored.key.as_bytes());
            return false;
        }
        self.keep_on_disk(&slot_key, stored, valid_us);
        true
    }

    /// Marks that the response under `key` cannot be shared, unless one is stored.
    pub(crate) fn mark_pass(&self, key: &str) {
        if !matches!(self.slots.peek(key.as_bytes()), Some(Slot::Stored(_))) {
            let until_us = self.now_us() + PASS.as_micros() as u64;
            self.slots.insert(key.as_bytes().into(), Slot::Pass { until_us });
        }
    }

    /// Makes all that is stored under `key` invalid, and what is being fetched for it (RFC 9111
    /// section 4.4).
    pub(crate) fn invalidate(&self, key: &str) {
        let now_us = self.now_us();
        self.place(key).fetch_max(now_us, Ordering::AcqRel);
        self.slots.remove(key.as_bytes());
        if let Some(disk) = &self.disk {
            disk.invalidate(disk::hash_of(key.as_bytes()), now_us);
        }
    }

    /// Ends `stored`, which requests with these fields get, unless something newer is in its place.
    pub(crate) fn end(&self, stored: &Stored, request: &HeaderMap) {
        let key = stored.key.as_bytes();
        let slot_key: Box<[u8]> = match self.slots.peek(key) {
            Some(Slot::Varies(varies)) => varies.key(&stored.key, request),
            _ => key.into(),
        };
        self.slots.remove_if(
            &slot_key[..],
            |slot| matches!(slot, Slot::Stored(found) if found.fetched_us <= stored.fetched_us),
        );
        if let Some(disk) = &self.disk
            && !self.disk_has_newer(&slot_key, stored.fetched_us)
        {
            disk.invalidate(disk::hash_of(&slot_key), stored.fetched_us);
        }
    }

    fn is_invalidated(&self, key: &str, fetched_us: u64) -> bool {
        self.place(key).load(Ordering::Acquire) >= fetched_us
    }

    fn place(&self, key: &str) -> &AtomicU64 {
        let at = self.hash.of(url_of(key).as_bytes()) % INVALIDATION_PLACES as u64;
        &self.invalidations[at as usize]
    }

    /// From now on all that was fetched before is purged, as far as `scope` covers it.
    pub(crate) fn purge(&self, scope: &Scope, strength: Strength) {
        let at_us = self.purge_in_memory(scope, strength);
        self.note_purge(scope, strength, at_us, None);
    }

    /// The same until a restart: waits for no disk. Returns since when it is in force.
    pub(crate) fn purge_in_memory(&self, scope: &Scope, strength: Strength) -> u64 {
        let at_us = self.now_us();
        let mut ledger = self.ledger.write().unwrap_or_else(PoisonError::into_inner);
        ledger.record(scope, strength, at_us);
        // Under the lock: whoever sees the new number finds the record.
        self.generation.fetch_add(1, Ordering::AcqRel);
        at_us
    }

    /// The record of a purge that has taken effect: after a restart it is known and purges nothing
    /// anew.
    pub(crate) fn note_record(&self, scope: &Scope, strength: Strength, record: (Vec<u8>, Stamp)) {
        self.note_purge(scope, strength, 0, Some(record));
    }

    /// Puts what was purged at `at_us` on the list of the disk, with the record that said so.
    pub(crate) fn note_purge(
        &self,
        scope: &Scope,
        strength: Strength,
        at_us: u64,
        record: Option<(Vec<u8>, Stamp)>,
    ) {
        if let Some(disk) = &self.disk {
            disk.note_purge(Purge { scope: scope.clone(), strength, at_us, record });
        }
    }
}

impl Varies {
    /// The key of the response to a request with these fields.
    fn key(&self, key: &str, request: &HeaderMap) -> Box<[u8]> {
        let mut variant = self.prefix(key);
        variant.extend_from_slice(&selecting_key(&self.names, request));
        variant.into()
    }

    /// What the keys of all variants begin with.
    fn prefix(&self, key: &str) -> Vec<u8> {
        let mut prefix = Vec::with_capacity(key.len() + 64);
        prefix.extend_from_slice(key.as_bytes());
        // No key of a URL has this byte.
        prefix.push(0);
        prefix.extend_from_slice(&self.number.to_le_bytes());
        prefix
    }
}

/// How full the cache is, for `/metrics`.
struct Figures(std::sync::Weak<Cache>);

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Figures")
    }
}

impl prometheus_client::collector::Collector for Figures {
    fn encode(
        &self,
        mut encoder: prometheus_client::encoding::DescriptorEncoder<'_>,
    ) -> Result<(), fmt::Error> {
        use prometheus_client::encoding::EncodeMetric as _;
        use prometheus_client::metrics::gauge::ConstGauge;
        let Some(cache) = self.0.upgrade() else { return Ok(()) };
        let rows = [
            ("cache_bytes", "Bytes that cached responses take", cache.slots.weight()),
            ("cache_bytes_max", "Bytes that they may take", cache.slots.capacity()),
            ("cache_entries", "Cached responses and marks", cache.slots.len() as u64),
            ("cache_fill_bytes", "Bytes of bodies that are coming, kept", cache.fills.taken()),
            ("cache_fill_bytes_max", "Bytes that they may take", cache.fills.bytes_max()),
        ];
        for (name, help, value) in rows {
            let gauge = ConstGauge::new(value as i64);
            let described = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(described)?;
        }
        Ok(())
    }
}

/// What bodies that are coming may take where it is not said, of a cache of this size.
pub(crate) fn fill_bytes_default(bytes_max: usize) -> usize {
    (bytes_max / FILL_SHARE).max(FILL_BYTES_MIN)
}

/// The wall clock, in microseconds since the Unix epoch.
fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Microseconds since the Unix epoch in ms, for the policy.
pub(crate) fn ms_of(now_us: u64) -> u64 {
    Duration::from_micros(now_us).as_millis() as u64
}

#[cfg(test)]
mod tests;
