//! Which keys have changed since somebody last asked: for whoever keeps a copy elsewhere.
//!
//! A changed record carries a flag and its key is listed once for its shard. The lists of all shards
//! share a budget; a shard whose list does not fit drops it, and its flags alone then say what has
//! changed. Keys that went are listed as well; where that list was dropped, only a comparison of the
//! whole copy finds them, and the taker is told so.
//!
//! Nothing here waits for the taker. Where nobody asks, a shard pays a pointer and a key nothing.

use super::{Bucket, POISONED, Store};
use crate::entry::Entry;
use crate::limits::SHARD_COUNT;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const _: () = assert!(SHARD_COUNT <= 64, "a set of shards is one word");

/// Records that are handed over under one lock, their bytes, and the places that are looked at for
/// them.
const STEP_COUNT_MAX: usize = 64;
const STEP_BYTES_MAX: usize = 256 * 1024;
const STEP_PLACES: usize = 2_048;

/// Room for the lists of all shards.
#[derive(Debug)]
pub(super) struct ChangeBudget {
    used_bytes: AtomicUsize,
    bytes_max: usize,
}

/// The shards of a bucket in which something has changed.
#[derive(Debug)]
pub(super) struct ChangedShards {
    set: AtomicU64,
}

/// What a shard needs in order to make its changes known.
#[derive(Clone, Debug)]
pub(super) struct Tracker {
    shards: Arc<ChangedShards>,
    budget: Arc<ChangeBudget>,
    /// Of this shard in the set.
    bit: u64,
}

/// What has changed in a shard since its notes were taken.
#[derive(Debug)]
pub(super) struct Changes {
    tracker: Tracker,
    listed: Listed,
    has_removals: bool,
}

#[derive(Debug)]
enum Listed {
    /// Every change: a key's length in two bytes, the key, and so on.
    Keys(Vec<u8>),
    /// The list was dropped: the records' flags say what has changed.
    Flags,
    /// Everything counts as changed.
    All,
}

/// The notes that were taken of one shard.
#[derive(Debug)]
pub struct Noted {
    /// What has changed.
    pub keys: NotedKeys,
    /// Whether keys may have gone that `keys` does not name.
    pub lost_removals: Lost,
}

/// Whether something was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Nothing.
    None,
    /// Perhaps: compare the whole copy.
    Some,
}

/// The keys that have changed.
#[derive(Debug)]
pub enum NotedKeys {
    /// These, some perhaps twice.
    Listed(KeyList),
    /// Those that a [walk](Store::walk) with this selection finds.
    Walk(Selection),
}

/// Keys, packed.
#[derive(Debug)]
pub struct KeyList(Vec<u8>);

/// Which records a walk hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Those whose change is noted. They no longer are then.
    Changed,
    /// All. Their changes are no longer noted then.
    All,
    /// All, for somebody else than the taker of the notes.
    Copy,
}

/// Where a walk through one shard stands.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    shard: usize,
    place: usize,
    epoch: u32,
}

impl ChangeBudget {
    pub(super) fn new(bytes_max: usize) -> ChangeBudget {
        ChangeBudget { used_bytes: AtomicUsize::new(0), bytes_max }
    }

    fn take(&self, bytes: usize) -> bool {
        let used = self.used_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if used > self.bytes_max {
            self.give_back(bytes);
        }
        used <= self.bytes_max
    }

    fn give_back(&self, bytes: usize) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl ChangedShards {
    /// An empty set, and the tracker of each shard.
    pub(super) fn new(budget: &Arc<ChangeBudget>) -> (Arc<ChangedShards>, Vec<Tracker>) {
        let shards = Arc::new(ChangedShards { set: AtomicU64::new(0) });
        let tracker = |index: usize| Tracker {
            shards: Arc::clone(&shards),
            budget: Arc::clone(budget),
            bit: 1 << index,
        };
        let trackers = (0..SHARD_COUNT).map(tracker).collect();
        (shards, trackers)
    }

    /// Whether nothing has changed.
    pub(super) fn is_empty(&self) -> bool {
        self.set.load(Ordering::Acquire) == 0
    }
}

impl Changes {
    pub(super) fn new(tracker: Tracker) -> Changes {
        Changes { tracker, listed: Listed::Keys(Vec::new()), has_removals: false }
    }

    /// No changes, for the shard that takes the place of this one.
    pub(super) fn restart(&self) -> Changes {
        Changes::new(self.tracker.clone())
    }

    /// Notes a changed key that is not noted yet.
    pub(super) fn add(&mut self, key: &[u8]) {
        if let Listed::Keys(keys) = &mut self.listed {
            if self.tracker.budget.take(key.len() + 2) {
                let len = u16::try_from(key.len()).expect("keys are checked to be short");
                keys.extend_from_slice(&len.to_le_bytes());
                keys.extend_from_slice(key);
            } else {
                self.list(Listed::Flags);
            }
        }
        self.announce();
    }

    /// Notes a key that goes.
    pub(super) fn add_removed(&mut self, key: &[u8]) {
        self.has_removals = true;
        self.add(key);
    }

    /// Everything counts as changed, and anything may have gone.
    pub(super) fn add_all(&mut self) {
        self.has_removals = true;
        self.list(Listed::All);
        self.announce();
    }

    /// What was noted. From here on notes are taken anew.
    pub(super) fn take(&mut self) -> Noted {
        let has_removals = std::mem::take(&mut self.has_removals);
        let lost = if has_removals { Lost::Some } else { Lost::None };
        match self.list(Listed::Keys(Vec::new())) {
            Listed::Keys(keys) => {
                Noted { keys: NotedKeys::Listed(KeyList(keys)), lost_removals: Lost::None }
            }
            Listed::Flags => {
                Noted { keys: NotedKeys::Walk(Selection::Changed), lost_removals: lost }
            }
            Listed::All => Noted { keys: NotedKeys::Walk(Selection::All), lost_removals: lost },
        }
    }

    /// Notes changes in this form from here on. Returns what was listed before.
    fn list(&mut self, listed: Listed) -> Listed {
        let before = std::mem::replace(&mut self.listed, listed);
        if let Listed::Keys(keys) = &before {
            self.tracker.budget.give_back(keys.len());
        }
        before
    }

    fn announce(&self) {
        // Most changes are in a shard that is known to have some: reading costs other cores nothing.
        let Tracker { shards, bit, .. } = &self.tracker;
        if shards.set.load(Ordering::Relaxed) & bit == 0 {
            shards.set.fetch_or(*bit, Ordering::Release);
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.list(Listed::All);
    }
}

impl KeyList {
    /// Bytes that the list takes.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// The keys, in the order in which they changed.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (len, after) = rest.split_first_chunk()?;
            let (key, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
            rest = after;
            Some(key)
        })
    }
}

impl Walk {
    /// From the start of the shard of this index.
    pub fn of(shard: usize) -> Walk {
        Walk { shard, place: 0, epoch: 0 }
    }
}

impl Store {
    /// Takes the notes of all shards of `bucket` in which something has changed: shard index and
    /// notes. Nothing where the store was not told to track changes.
    ///
    /// A change is noted before the write that made it gets its number: after reading
    /// [`Store::seq`], the notes that are then taken name every change up to it. The notes of
    /// removed keys that a flush killed are dropped with them; the flush itself is in
    /// [`Store::flush_marks`].
    pub fn take_changes(&self, bucket: &Bucket) -> Vec<(usize, Noted)> {
        let Some(changed) = &bucket.changed else { return Vec::new() };
        let set = changed.set.swap(0, Ordering::Acquire);
        let indices = (0..SHARD_COUNT).filter(|index| set & 1 << index != 0);
        indices
            .filter_map(|index| {
                let mut shard = bucket.shards[index].lock().expect(POISONED);
                shard.take_notes().map(|noted| (index, noted))
            })
            .collect()
    }

    /// Notes again what was noted and taken, all of one shard: what was made of it is lost.
    pub fn note_again(&self, bucket: &Bucket, keys: &KeyList) {
        for key in keys.iter() {
            let probe = self.probe(key);
            bucket.shard(probe).note_again(probe);
        }
    }

    /// Whether anything is held of `key`, dead or alive.
    pub fn holds(&self, bucket: &Bucket, key: &[u8]) -> bool {
        let probe = self.probe(key);
        bucket.shard(probe).holds(probe)
    }

    /// Bytes of the names of changed keys that nobody has taken yet.
    pub fn change_bytes(&self) -> usize {
        let budget = self.change_budget.as_ref();
        budget.map_or(0, |budget| budget.used_bytes.load(Ordering::Relaxed))
    }

    /// Everything counts as changed from now on: the copy cannot be relied on.
    pub fn note_all_changed(&self) {
        for bucket in self.buckets() {
            for shard in &bucket.shards {
                shard.lock().expect(POISONED).note_all();
            }
        }
    }

    /// Calls `visit` with what each of `keys`, which were noted in one shard, now holds; `None` is
    /// nothing. Their later changes are noted anew.
    ///
    /// The shard is locked for a few keys at a time; `visit` runs outside of the lock.
    pub fn visit_noted<E>(
        &self,
        bucket: &Bucket,
        keys: &KeyList,
        mut visit: impl FnMut(&[u8], Option<Entry>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut found = Vec::with_capacity(STEP_COUNT_MAX);
        let mut keys = keys.iter().peekable();
        while let Some(first) = keys.peek() {
            let mut shard = bucket.shard(self.probe(first));
            let mut bytes = 0;
            while found.len() < STEP_COUNT_MAX && bytes < STEP_BYTES_MAX {
                let Some(key) = keys.next() else { break };
                let entry = shard.unnote(self.probe(key), &self.origins);
                bytes += entry.as_ref().map_or(0, inline_bytes);
                found.push((key, entry));
            }
            drop(shard);
            found.drain(..).try_for_each(|(key, entry)| visit(key, entry))?;
        }
        Ok(())
    }

    /// Goes one step through a shard of `bucket`: calls `visit` with the next records that
    /// `selection` wants, dead or alive. Returns where to go on, or `None` at the end of the shard.
    ///
    /// A record that is there from the first step to the last is visited at least once. The shard is
    /// locked for a few records at a time; `visit` runs outside of the lock.
    pub fn walk<E>(
        &self,
        bucket: &Bucket,
        (walk, selection): (Walk, Selection),
        mut visit: impl FnMut(&[u8], Entry) -> Result<(), E>,
    ) -> Result<Option<Walk>, E> {
        let mut found = Vec::new();
        let mut shard = bucket.shards[walk.shard].lock().expect(POISONED);
        let epoch = shard.epoch();
        // Records have moved: what was visited and what was not is no longer known. That happens
        // when a table grows, so a walk does not start over often.
        let start = if walk.place > 0 && walk.epoch != epoch { 0 } else { walk.place };
        let end = shard.place_count().min(start + STEP_PLACES);
        let (mut place, mut bytes) = (start, 0);
        while place < end && found.len() < STEP_COUNT_MAX && bytes < STEP_BYTES_MAX {
            if let Some((key, entry)) = shard.select_at(place, selection, &self.origins) {
                bytes += inline_bytes(&entry);
                found.push((key, entry));
            }
            place += 1;
        }
        let is_done = place >= shard.place_count();
        drop(shard);
        found.into_iter().try_for_each(|(key, entry)| visit(&key, entry))?;
        Ok((!is_done).then_some(Walk { shard: walk.shard, place, epoch }))
    }
}

/// About how many bytes were copied under the lock for this entry.
fn inline_bytes(entry: &Entry) -> usize {
    let value = entry.register.value.as_ref().map_or(0, |value| value.bytes.len());
    if value > crate::limits::VALUE_INLINE_BYTES_MAX { 0 } else { value }
}
