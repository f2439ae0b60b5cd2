//! The hash of a key in memory: keyed per process, so that nobody can choose keys that collide.

use foldhash::quality::FixedState;
use std::hash::BuildHasher;

/// Hashes keys with a secret of this process.
#[derive(Clone)]
pub(super) struct KeyHasher {
    state: FixedState,
}

impl std::fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHasher(***)")
    }
}

impl KeyHasher {
    pub(super) fn new(seed: u64) -> KeyHasher {
        KeyHasher { state: FixedState::with_seed(seed) }
    }

    #[inline]
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        self.state.hash_one(key)
    }
}
