//! Who hears of changes in the node's own buckets: what was deployed or purged anywhere is to take
//! effect here at once, and the log of all changes is too dear for that.

use super::{Bucket, Store};
use std::fmt;
use std::sync::OnceLock;

/// A change in a bucket of the node's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InternalChange<'c> {
    /// Its name.
    pub bucket: &'c str,
    /// Which key; `None` for many of them.
    pub key: Option<&'c [u8]>,
}

/// What is called.
pub type InternalListener = Box<dyn Fn(InternalChange<'_>) + Send + Sync>;

/// It is set once.
#[derive(Default)]
pub(super) struct Listener(OnceLock<InternalListener>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

impl Store {
    /// Has `listener` called whenever something in an internal bucket has changed, by whomever; it may
    /// be called more often. It may be called under locks of the store: it must neither block nor
    /// come back. The first listener stays.
    pub fn listen_to_internal(&self, listener: InternalListener) {
        // A second one would be a bug of ours, and hears nothing.
        let _ = self.on_internal.0.set(listener);
    }

    /// Tells the listener. For changes that come from elsewhere, once they can be read.
    pub fn tell_internal(&self, change: InternalChange<'_>) {
        if let Some(listener) = self.on_internal.0.get() {
            listener(change);
        }
    }

    #[inline]
    pub(super) fn tell_if_internal(&self, bucket: &Bucket, key: Option<&[u8]>) {
        if bucket.is_internal {
            self.tell_internal(InternalChange { bucket: bucket.name.as_str(), key });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, store_of};
    use super::*;
    use crate::clock::Stamp;
    use crate::entry::Deadline;
    use crate::key::BucketName;
    use crate::store::edit::{Edit, NewValue};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn changes_of_internal_buckets_alone_are_told() {
        let store = store_of(1);
        let told = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&told);
        store.listen_to_internal(Box::new(move |InternalChange { bucket, key }| {
            assert_eq!((bucket, key.unwrap_or(b"k")), ("_sys", &b"k"[..]));
            count.fetch_add(1, Ordering::Relaxed);
        }));
        let bucket = |name: &str| {
            let name = BucketName::new(name).expect("a name");
            store.open_bucket(&name).expect("room")
        };
        let (ours, theirs) = (bucket("_sys"), bucket("default"));
        let write = |bucket: &Bucket, edit: Edit<'_>| {
            store.write(bucket, b"k", at(1), |_| (edit, ())).expect("room");
        };
        let set = || Edit::set(NewValue::Copy(b"v"), Deadline::NEVER);
        let check = |want| assert_eq!(told.load(Ordering::Relaxed), want);
        write(&theirs, set());
        check(0);
        write(&ours, set());
        check(1);
        write(&ours, Edit::Keep);
        check(1);
        write(&ours, Edit::Delete);
        check(2);
        store.log_arrival(at(2), &ours, b"k");
        store.log_arrival(at(2), &theirs, b"k");
        check(3);
        store.log_flush_arrival(at(2), &ours, Stamp::ZERO);
        check(4);
    }
}
