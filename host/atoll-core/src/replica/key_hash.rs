//! Names for keys that are equal on every host, for what two nodes say of a store's keys and for
//! what one keeps of many.

use crate::wire::op::BucketRef;
use xxhash_rust::xxh3::Xxh3;

/// Hashes a key among all: take the digest in the width that is needed.
pub(super) fn hash_key(bucket: BucketRef<'_>, key: &[u8]) -> Xxh3 {
    let mut hasher = Xxh3::new();
    match bucket {
        BucketRef::Database(database) => hasher.update(&[database]),
        BucketRef::Named(name) => hasher.update(name.as_bytes()),
    }
    hasher.update(&[0xff]);
    hasher.update(key);
    hasher
}
