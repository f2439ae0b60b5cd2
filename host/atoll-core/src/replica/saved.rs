//! What of the machine a disk keeps, so that a restarted node can rejoin with what it has.
//!
//! Identity is not among it: a process that starts is a new origin, always.

use super::{Circumstances, Replica};
use crate::clock::Hlc;
use crate::replica::vector::Vector;
use crate::wire::frame::Member;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Bytes that say which form follows.
const FORMAT: u8 = 1;

/// A version vector and what it is worth nothing without.
///
/// Entries are written before the vector that covers them, so a disk holds at least what its
/// vector says, and perhaps more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// What the node had.
    pub vector: Vector,
    /// Up to where everyone had everything.
    pub floor: Hlc,
    /// Up to where it may have dropped what was dead.
    pub forgotten: Hlc,
    /// No write that it knew of was stamped later.
    pub clock: Hlc,
    /// Everyone that it knew of, itself included.
    pub members: Vec<Member>,
    /// Those of them that it took for gone. Whether all of what they wrote is everywhere has to be
    /// found out anew.
    pub gone: Vec<Uuid>,
}

/// Why bytes are no saved state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a saved replication state: {0}")]
pub struct SavedError(String);

impl Saved {
    /// The state as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        rmp_serde::encode::write(&mut bytes, self).expect("memory takes everything");
        bytes
    }

    /// Reads a state.
    pub fn decode(bytes: &[u8]) -> Result<Saved, SavedError> {
        match bytes.split_first() {
            Some((&FORMAT, body)) => {
                rmp_serde::from_slice(body).map_err(|error| SavedError(error.to_string()))
            }
            Some((other, _)) => Err(SavedError(format!("unknown format {other}"))),
            None => Err(SavedError("nothing".to_owned())),
        }
    }
}

impl Replica {
    /// What a disk should keep. Whatever it covers is in the store at this moment: write what has
    /// changed there first, then this.
    pub fn saved(&self) -> Saved {
        Saved {
            vector: self.vector.clone(),
            floor: self.floor.first,
            forgotten: self.floor.second,
            clock: self.vector.get(self.me).head,
            members: self.members.all().map(|known| known.member.clone()).collect(),
            gone: self.members.gone(),
        }
    }

    pub(super) fn restore(&mut self, saved: Saved, around: Circumstances<'_>) {
        around.store.witness(saved.clock);
        for bucket in around.store.buckets() {
            around.store.assume_forgotten(&bucket, saved.forgotten);
        }
        for member in &saved.members {
            self.members.learn(member, None);
        }
        for &gone in &saved.gone {
            self.members.believe_gone(gone);
        }
        self.floor.adopt(saved.floor);
        // A disk holds at least what its vector says, and perhaps more, of anyone: even of one
        // that the vector does not name.
        self.uncovered = around.store.origins_seen().into_iter().collect();
        self.uncovered.extend(saved.vector.iter().map(|(origin, _)| origin));
        self.vector = saved.vector;
    }
}
