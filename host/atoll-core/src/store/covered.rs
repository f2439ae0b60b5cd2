//! Whether all that this node knows of a key was known to another node at some time.

use super::{Bucket, Store};
use crate::clock::Hlc;
use crate::entry::Entry;
use crate::replica::vector::Vector;

impl Store {
    /// Whether a node with the vector `theirs` knew every write of `key` that this one knows, deletes
    /// included. `ours` is what this node includes; a vector that is a little old will do.
    ///
    /// Says no where this node has forgotten too much to tell.
    pub fn is_covered(
        &self,
        (bucket, key): (&Bucket, &[u8]),
        theirs: &Vector,
        ours: &Vector,
    ) -> bool {
        let probe = self.probe(key);
        let shard = bucket.shard(probe);
        let (entry, forgotten) = (shard.load(probe, &self.origins), shard.forgotten());
        drop(shard);
        let entry = entry.unwrap_or_default();
        // Whoever knows the latest version of a plain key knows what came of all earlier ones.
        let is_plain = entry.register.value.is_some() && entry.tallies.is_empty();
        theirs.covers(bucket.flushed.stamp())
            && is_known(&entry, theirs)
            && (is_plain || includes_forgotten(forgotten, theirs, ours))
    }
}

fn is_known(entry: &Entry, theirs: &Vector) -> bool {
    let cells = entry
        .tallies
        .iter()
        .flat_map(|tally| tally.cells.iter().map(move |cell| (tally.origin, cell)));
    let mut cells = cells;
    theirs.covers(entry.register.stamp)
        && entry.touch.is_none_or(|touch| theirs.covers(touch.stamp))
        && cells.all(|(origin, cell)| {
            cell.last <= theirs.get(origin).head && theirs.covers(cell.reset.by)
        })
}

/// Whether what was forgotten up to `forgotten`, whoever wrote it, is included in `theirs`.
fn includes_forgotten(forgotten: Hlc, theirs: &Vector, ours: &Vector) -> bool {
    ours.iter().all(|(origin, mark)| mark.head.min(forgotten) <= theirs.get(origin).head)
}

#[cfg(test)]
mod tests;
