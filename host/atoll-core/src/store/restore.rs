//! Taking back what was saved elsewhere, without numbering, logging or noting it.

use super::apply::{MergeError, check_incoming};
use super::edit::{Edit, NewValue, WriteError};
use super::{Bucket, Store};
use crate::clock::{Hlc, Now, Stamp};
use crate::entry::{Entry, Visible};
use crate::key::BucketName;

/// What became of a saved entry. Either way nothing in it is later than the time that is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// It is held.
    Held(Hlc),
    /// A flush had killed all of it.
    LeftOut(Hlc),
}

impl Restored {
    /// The time of the newest write in it.
    pub fn newest(self) -> Hlc {
        let (Restored::Held(newest) | Restored::LeftOut(newest)) = self;
        newest
    }
}

impl Store {
    /// The latest reading of the clock: no write that is known of here is later.
    pub fn clock(&self) -> Hlc {
        self.sequencer().clock
    }

    /// Joins what was saved of `key` into what is held. What a flush has killed is left out.
    ///
    /// Unlike [`Store::merge`] it does not note the key as changed, since it comes from where changes
    /// go, and leaves the clock alone: hand the latest time that it tells to
    /// [`Store::witness`] before the first write.
    pub fn restore(
        &self,
        bucket: &Bucket,
        key: &[u8],
        saved: Entry,
    ) -> Result<Restored, MergeError> {
        check_incoming(key, &saved)?;
        let newest = saved.newest();
        if self.is_flushed(bucket, &saved) {
            return Ok(Restored::LeftOut(newest));
        }
        let probe = self.probe(key);
        let mut shard = bucket.shard(probe);
        let joined = match shard.load(probe, &self.origins) {
            None => saved,
            Some(mut held) => {
                held.merge(&saved);
                held
            }
        };
        self.origins.meet(&joined)?;
        let origin = self.origins.intern(joined.register.stamp.origin)?;
        let before = shard.counts().bytes;
        shard.restore(probe, joined, origin);
        self.account(before, shard.counts().bytes);
        Ok(Restored::Held(newest))
    }

    /// Writes what `saved` shows at `now` as a write of this process's own, which others take as any
    /// other: unless something newer is known of the key here, be it a delete or a flush. `flushed`
    /// is the flush of the bucket that was saved beside it. Returns whether it was written.
    ///
    /// A counter becomes its sum. `key` has 1 to `KEY_BYTES_MAX` bytes.
    pub fn write_again(
        &self,
        bucket: &Bucket,
        key: &[u8],
        saved: &Entry,
        (now, flushed): (Now, Stamp),
    ) -> Result<bool, WriteError> {
        let newest = saved.newest();
        let flushed = flushed.max(bucket.flushed.stamp());
        let held = self.entry(bucket, key).map_or(Hlc::ZERO, |held| held.newest());
        let Some(visible) = saved.visible(now.millis(), flushed).filter(|_| held < newest) else {
            return Ok(false);
        };
        let deadline = saved.visible_deadline(now.millis(), flushed);
        let (value, attributes) = match visible {
            Visible::Value(value) => {
                (NewValue::Shared(value.bytes.clone()), value.attributes.clone())
            }
            Visible::Counter(sum) => (NewValue::Owned(sum.to_string().into_bytes()), None),
        };
        let written = self.write(bucket, key, now, |view| {
            // Somebody may have been quicker.
            match view.is_some_and(|view| view.stamp().hlc > newest) {
                true => (Edit::Keep, ()),
                false => (Edit::Set { value, deadline, attributes }, ()),
            }
        })?;
        Ok(written.stamp.is_some())
    }

    /// Whether a flush of `bucket` has killed all of `entry`.
    pub fn is_flushed(&self, bucket: &Bucket, entry: &Entry) -> bool {
        // As of the beginning of time nothing has expired, and only a flush can have killed it.
        let beginning = Now::from_micros(0);
        let flushed = bucket.flushed.stamp();
        flushed != Stamp::ZERO && entry.is_garbage(beginning, Hlc::ZERO, flushed)
    }

    /// The latest flush of each bucket that was ever flushed, by name.
    pub fn flush_marks(&self) -> Vec<(BucketName, Stamp)> {
        let marks =
            self.buckets().into_iter().map(|bucket| (bucket.name.clone(), bucket.flushed.stamp()));
        marks.filter(|(_, stamp)| *stamp != Stamp::ZERO).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Deadline;
    use crate::store::changes::NotedKeys;
    use crate::store::tests::{at, check_counts, get, set, store_of, tracking_store};
    use std::sync::Arc;
    use uuid::Uuid;

    #[test]
    fn what_is_restored_is_there_and_older_than_the_next_write() {
        let first = store_of(1);
        let bucket = first.database(0);
        set(&first, bucket, "k", "saved", at(1_000));
        let saved = first.entry(bucket, b"k").expect("just set");

        let second = store_of(2);
        let bucket = second.database(0);
        let restored = second.restore(bucket, b"k", saved.clone()).expect("there is room");
        assert_eq!(get(&second, bucket, "k", at(0)).as_deref(), Some("saved"));
        assert_eq!(restored, Restored::Held(first.clock()));
        second.witness(restored.newest());
        // The wall says that it is long before the saved write.
        set(&second, bucket, "k", "new", at(0));
        second.restore(bucket, b"k", saved).expect("there is room");
        assert_eq!(get(&second, bucket, "k", at(0)).as_deref(), Some("new"));
        check_counts(&second);
    }

    #[test]
    fn what_a_flush_killed_stays_dead_whichever_comes_first() {
        let first = store_of(1);
        let bucket = first.database(0);
        set(&first, bucket, "k", "v", at(0));
        let saved = first.entry(bucket, b"k").expect("just set");
        first.flush(bucket, at(1));
        let marks = first.flush_marks();
        let [(name, stamp)] = &marks[..] else { panic!("one bucket was flushed: {marks:?}") };

        for flush_first in [true, false] {
            let second = store_of(2);
            let bucket = second.open_bucket(name).expect("there is room");
            if flush_first {
                assert!(second.flush_at(&bucket, *stamp, at(2)));
            }
            second.restore(&bucket, b"k", saved.clone()).expect("there is room");
            second.flush_at(&bucket, *stamp, at(2));
            assert_eq!(get(&second, &bucket, "k", at(2)), None);
            assert_eq!(second.entry(&bucket, b"k"), None, "nothing is kept of it");
            assert_eq!(second.flush_marks(), marks);
        }
    }

    #[test]
    fn what_is_written_again_is_new_to_others_and_never_hides_what_is_newer() {
        let first = store_of(1);
        let bucket = first.database(0);
        set(&first, bucket, "k", "saved", at(1_000));
        let saved = first.entry(bucket, b"k").expect("just set");
        let mark = Stamp::ZERO;

        let second = store_of(2);
        let bucket = second.database(0);
        let again = |at_ms, flushed| {
            second.write_again(bucket, b"k", &saved, (at(at_ms), flushed)).expect("there is room")
        };
        let later = Stamp { hlc: Hlc::from_wall(at(1_001)), origin: Uuid::from_u128(1) };
        assert!(!again(2_000, later), "the backup itself says that it was flushed");
        assert!(again(2_000, mark));
        let written = second.entry(bucket, b"k").expect("just written").register;
        assert_eq!(written.stamp.origin, second.origin());
        assert!(written.stamp.hlc > saved.newest());
        assert!(!again(2_001, mark), "it is known by now");
        set(&second, bucket, "k", "new", at(3_000));
        assert!(!again(4_000, mark));
        second.write(bucket, b"k", at(5_000), |_| (Edit::Delete, ())).expect("there is room");
        assert!(!again(6_000, mark), "a delete is newer, too");
        assert_eq!(get(&second, bucket, "k", at(6_000)), None);
        let third = store_of(3);
        third.flush(third.database(0), at(2_000));
        let written = third.write_again(third.database(0), b"k", &saved, (at(3_000), mark));
        assert_eq!(written, Ok(false), "so is a flush");
    }

    #[test]
    fn a_counter_is_written_again_as_its_sum_and_an_expired_key_not_at_all() {
        let first = store_of(1);
        let bucket = first.database(0);
        let until = Deadline::at_millis(at(9_000).millis());
        let add = |delta| Edit::Add { delta, deadline: until };
        for delta in [5, 2] {
            first.write(bucket, b"n", at(1_000), |_| (add(delta), ())).expect("there is room");
        }
        let saved = first.entry(bucket, b"n").expect("just counted");
        for (at_ms, want) in [(2_000, Some("7")), (9_000, None)] {
            let second = store_of(2);
            let bucket = second.database(0);
            let written = second.write_again(bucket, b"n", &saved, (at(at_ms), Stamp::ZERO));
            assert_eq!(written, Ok(want.is_some()));
            assert_eq!(get(&second, bucket, "n", at(at_ms)).as_deref(), want);
            assert_eq!(get(&second, bucket, "n", at(9_001)), None, "the deadline came along");
        }
    }

    #[test]
    fn what_is_restored_is_not_noted_as_changed() {
        let first = store_of(1);
        set(&first, first.database(0), "k", "v", at(0));
        let saved = first.entry(first.database(0), b"k").expect("just set");
        let second = tracking_store(2, 1 << 20);
        let bucket = Arc::clone(second.database(0));
        second.restore(&bucket, b"k", saved.clone()).expect("there is room");
        assert!(second.take_changes(&bucket).is_empty());
        second.merge(&bucket, b"k2", &saved).expect("there is room");
        let taken = second.take_changes(&bucket);
        let [(_, noted)] = &taken[..] else { panic!("one shard has changed: {taken:?}") };
        let NotedKeys::Listed(keys) = &noted.keys else { panic!("a list has room") };
        assert_eq!(keys.iter().collect::<Vec<_>>(), [b"k2"]);
    }
}
