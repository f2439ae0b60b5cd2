//! Joining a plain version into a plain record, without unpacking either.

use super::{Content, Probe, Shard};
use crate::clock::Stamp;
use crate::entry::Deadline;
use crate::store::origins::Origins;
use crate::store::record::Life;

/// A version that is a value and nothing else, small enough to be kept inline.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Plain<'a> {
    pub(in crate::store) stamp: Stamp,
    pub(in crate::store) value: &'a [u8],
    pub(in crate::store) deadline: Deadline,
}

impl Shard {
    /// Joins `plain`, whose origin is `origin` as interned, into what the key holds. Returns
    /// whether it was news, or `None` where the key holds more than a plain record can: then
    /// nothing was done.
    pub(in crate::store) fn merge_plain(
        &mut self,
        probe: Probe<'_>,
        plain: &Plain<'_>,
        (origin, origins): (u16, &Origins),
    ) -> Option<bool> {
        let place = self.find(probe);
        if let Some(place) = place {
            let header = self.record(place).header();
            if header.extra.is_some() {
                return None;
            }
            let ours = || Stamp { hlc: header.hlc, origin: origins.id(header.origin) };
            if plain.stamp.hlc < header.hlc {
                return Some(false);
            }
            if plain.stamp.hlc == header.hlc {
                if plain.stamp == ours() {
                    // The same write, or a forgery: the full join knows what to do.
                    return None;
                }
                if plain.stamp < ours() {
                    return Some(false);
                }
            }
        }
        self.newest = self.newest.max(plain.stamp.hlc);
        let content = Content {
            hlc: plain.stamp.hlc,
            origin,
            life: Life::Value,
            deadline: plain.deadline,
            inline: plain.value,
            extra: None,
        };
        self.put(place, probe, content);
        Some(true)
    }

    /// Removes the key's record.
    pub(in crate::store) fn remove(&mut self, probe: Probe<'_>) {
        if let Some(place) = self.find(probe) {
            self.remove_at(place);
        }
    }
}
