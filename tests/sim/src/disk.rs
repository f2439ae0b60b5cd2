//! Disks that are made up: snapshots of a store, as torn between moments as real ones.

use atoll_core::clock::{Now, Stamp};
use atoll_core::entry::Entry;
use atoll_core::key::BucketName;
use atoll_core::replica::saved::Saved;
use atoll_core::store::Store;
use atoll_core::store::survey::{Survey, Wanted};

/// What a process left behind.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Noted before the entries were read, so they may be ahead of it.
    pub saved: Saved,
    /// What each key held.
    pub entries: Vec<(BucketName, Box<[u8]>, Entry)>,
    /// The latest flush of each bucket.
    pub flushes: Vec<(BucketName, Stamp)>,
}

impl Snapshot {
    /// Everything that `store` holds now, under what `saved` said earlier.
    pub fn take(saved: Saved, store: &Store) -> Snapshot {
        let (mut survey, mut entries) = (Survey::new(store), Vec::new());
        loop {
            let step = store.survey(&mut survey, Wanted::Everything, usize::MAX);
            entries
                .extend(step.found.into_iter().map(|found| (found.bucket, found.key, found.entry)));
            if step.done {
                break;
            }
        }
        Snapshot { saved, entries, flushes: store.flush_marks() }
    }

    /// Fills an empty store.
    pub fn load(&self, store: &Store, now: Now) {
        for (bucket, stamp) in &self.flushes {
            let bucket = store.open_bucket(bucket).expect("there is room");
            store.flush_at(&bucket, *stamp, now);
        }
        for (bucket, key, entry) in &self.entries {
            let bucket = store.open_bucket(bucket).expect("there is room");
            store.merge(&bucket, key, entry).expect("there is room");
        }
    }
}
