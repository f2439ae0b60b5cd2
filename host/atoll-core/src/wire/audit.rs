//! What two nodes say to each other while one compares its store with the other's.
//!
//! One side asks and the other answers, a message at a time, so that neither ever holds more than
//! one message of the other's.

use super::op::BucketRef;
use crate::clock::Hlc;
use crate::key::{BucketName, check_key};
use crate::limits::{AUDIT_GROUP_COUNT, AUDIT_GROUPS_ASKED_MAX, AUDIT_LEAF_COUNT_MAX};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::Bytes;
use std::ops::ControlFlow;

/// What is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Keys of which anything is stamped later are left out: not everyone has to have that yet.
    pub cut: Hlc,
    /// What expires up to then is left out, in ms since the epoch: one of both may have let go of
    /// it.
    pub until_ms: u64,
}

/// How a key looks under the terms of an audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Nothing is there, or what is there is dead.
    Nothing,
    /// It was changed too lately to be compared.
    Moving,
    /// What it holds, as a digest.
    Holds(u64),
}

/// One message of an audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audit {
    /// Asks for an audit on these terms at the most.
    Ask(Terms),
    /// Not now, or no longer.
    Decline,
    /// Agrees to these terms; the sums come once they are known.
    Agree(Terms),
    /// The sums of all groups of keys.
    Groups(Vec<u64>),
    /// Asks for the sums within these groups.
    WantLeaves(Vec<u8>),
    /// For each group that was asked for, the sums of its leaves.
    Leaves(Vec<u64>),
    /// Asks for the keys in these leaves, a part at a time.
    WantKeys(Vec<u16>),
    /// Asks for the next part.
    WantMore,
    /// Some of the keys that were asked for.
    Keys {
        /// What the sender may have forgotten is stamped no later.
        floor: Hlc,
        /// How they look: a [`Listing`].
        #[serde(with = "serde_bytes")]
        keys: Vec<u8>,
        /// Whether these are the last.
        done: bool,
    },
    /// Asks how these keys look now, which look as given at the asker.
    Check {
        /// What the asker may have forgotten is stamped no later.
        floor: Hlc,
        /// Which keys, and how they look there: a [`Listing`].
        #[serde(with = "serde_bytes")]
        keys: Vec<u8>,
    },
    /// How the first of the keys that were asked for look now, and what of them the asker lacks.
    Checked {
        /// The question's first keys, in its order, as they look here: a [`Listing`].
        #[serde(with = "serde_bytes")]
        keys: Vec<u8>,
        /// A chunk of what is held under those that look otherwise: see `wire::chunk`.
        #[serde(with = "serde_bytes")]
        entries: Vec<u8>,
    },
    /// The audit is over.
    Done,
    /// The asker holds what the other lacks: it should audit in its turn.
    Differs,
}

/// Why a message of an audit was refused. The link must be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// It has more of something than any node would send.
    #[error("an audit's {0} are more than there can be")]
    TooMany(&'static str),
    /// Its keys are none.
    #[error("not a list of keys: {0}")]
    Keys(String),
}

impl Audit {
    /// Refuses what no node would have sent.
    pub fn check(&self) -> Result<(), AuditError> {
        let (what, len, len_max) = match self {
            Audit::Groups(sums) => ("groups", sums.len(), AUDIT_GROUP_COUNT),
            Audit::WantLeaves(groups) => ("groups", groups.len(), AUDIT_GROUPS_ASKED_MAX),
            Audit::Leaves(sums) => {
                ("leaves", sums.len(), AUDIT_GROUPS_ASKED_MAX * AUDIT_GROUP_COUNT)
            }
            Audit::WantKeys(leaves) => ("leaves", leaves.len(), AUDIT_LEAF_COUNT_MAX),
            _ => return Ok(()),
        };
        if len <= len_max { Ok(()) } else { Err(AuditError::TooMany(what)) }
    }
}

/// The digest of what a key holds is never one of these.
const NOTHING: u64 = 0;
const MOVING: u64 = 1;

impl Sight {
    /// How a key looks that holds what `digest` stands for.
    pub fn of_digest(digest: u64) -> Sight {
        Sight::Holds(digest.max(MOVING + 1))
    }
}

impl Serialize for Sight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(match self {
            Sight::Nothing => NOTHING,
            Sight::Moving => MOVING,
            Sight::Holds(digest) => *digest,
        })
    }
}

impl<'de> Deserialize<'de> for Sight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sight, D::Error> {
        Ok(match u64::deserialize(deserializer)? {
            NOTHING => Sight::Nothing,
            MOVING => Sight::Moving,
            digest => Sight::Holds(digest),
        })
    }
}

/// Bytes of a listing's count, in front.
const COUNT_BYTES: usize = 4;

/// Keys and how they look, as bytes.
#[derive(Debug)]
pub struct Listing {
    bytes: Vec<u8>,
    count: u32,
}

impl Default for Listing {
    fn default() -> Listing {
        Listing { bytes: vec![0; COUNT_BYTES], count: 0 }
    }
}

impl Listing {
    /// Appends a key.
    pub fn push(&mut self, bucket: &BucketName, key: &[u8], sight: Sight) {
        self.count += 1;
        let (bucket, key) = (BucketRef::of(bucket), Bytes::new(key));
        let written = rmp_serde::encode::write(&mut self.bytes, &(bucket, key, sight));
        written.expect("memory takes everything");
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes[..COUNT_BYTES].copy_from_slice(&self.count.to_le_bytes());
        self.bytes
    }
}

/// Calls `take` with each key of a [`Listing`], until it says to stop.
pub fn read_listing(
    listing: &[u8],
    mut take: impl FnMut(BucketRef<'_>, &[u8], Sight) -> ControlFlow<()>,
) -> Result<(), AuditError> {
    let fault = |text: &str| AuditError::Keys(text.to_owned());
    let (count, body) =
        listing.split_first_chunk::<COUNT_BYTES>().ok_or_else(|| fault("no count"))?;
    let mut reader = rmp_serde::Deserializer::from_read_ref(body);
    for _ in 0..u32::from_le_bytes(*count) {
        let (bucket, key, sight): (BucketRef<'_>, &[u8], Sight) =
            Deserialize::deserialize(&mut reader).map_err(|error| fault(&error.to_string()))?;
        check_key(key).map_err(|error| fault(&error.to_string()))?;
        if take(bucket, key, sight).is_break() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn more_sums_than_there_can_be_are_refused() {
        #[track_caller]
        fn check(audit: Audit, fits: bool) {
            assert_eq!(audit.check().is_ok(), fits);
        }
        check(Audit::Groups(vec![0; AUDIT_GROUP_COUNT]), true);
        check(Audit::Groups(vec![0; AUDIT_GROUP_COUNT + 1]), false);
        check(Audit::WantLeaves(vec![0; AUDIT_GROUPS_ASKED_MAX]), true);
        check(Audit::WantLeaves(vec![0; AUDIT_GROUPS_ASKED_MAX + 1]), false);
        check(Audit::Leaves(vec![0; AUDIT_GROUPS_ASKED_MAX * AUDIT_GROUP_COUNT]), true);
        check(Audit::Leaves(vec![0; AUDIT_GROUPS_ASKED_MAX * AUDIT_GROUP_COUNT + 1]), false);
        check(Audit::WantKeys(vec![0; AUDIT_LEAF_COUNT_MAX]), true);
        check(Audit::WantKeys(vec![0; AUDIT_LEAF_COUNT_MAX + 1]), false);
        check(Audit::WantMore, true);
    }

    #[test]
    fn a_digest_is_never_taken_for_a_word() {
        assert_eq!(Sight::of_digest(0), Sight::of_digest(2));
        assert_eq!(Sight::of_digest(1), Sight::of_digest(2));
        assert_eq!(Sight::of_digest(7), Sight::Holds(7));
    }

    #[test]
    fn a_listing_comes_back_as_it_went() {
        let keys = [("default", &b"a"[..], Sight::Nothing), ("x", b"\0\xff", Sight::Holds(9))];
        let mut listing = Listing::default();
        for (bucket, key, sight) in keys {
            listing.push(&BucketName::new(bucket).expect("a good name"), key, sight);
        }
        let bytes = listing.finish();
        let mut back = Vec::new();
        let read = read_listing(&bytes, |bucket, key, sight| {
            back.push((bucket.to_name().as_str().to_owned(), key.to_vec(), sight));
            ControlFlow::Continue(())
        });
        assert_eq!(read, Ok(()));
        let back: Vec<_> = back.iter().map(|(b, k, s)| (b.as_str(), &k[..], *s)).collect();
        assert_eq!(back, keys);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_listing_or_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let mut count = 0;
            let _ = read_listing(&bytes, |_, key, _| {
                count += usize::from(check_key(key).is_ok());
                ControlFlow::Continue(())
            });
            prop_assert!(count <= bytes.len());
        }
    }
}
