//! Whole entries: unpacked for a merge, and packed again.

use super::{Content, Probe, Shard};
use crate::clock::{Hlc, Stamp};
use crate::entry::{Entry, Register, Value};
use crate::store::edit::NewValue;
use crate::store::extra::Extra;
use crate::store::origins::Origins;
use crate::store::record::Life;
use bytes::Bytes;

impl Shard {
    /// Everything that the key holds, unpacked.
    pub(in crate::store) fn load(&self, probe: Probe<'_>, origins: &Origins) -> Option<Entry> {
        Some(self.load_at(self.find(probe)?, origins))
    }

    /// The key and whole content of the record at `place`, unless it is plain and `skip` says so
    /// of its stamp, whose origin is given as interned.
    pub(in crate::store) fn survey_at(
        &self,
        place: usize,
        skip: impl FnOnce((Hlc, u16)) -> bool,
        origins: &Origins,
    ) -> Option<(Box<[u8]>, Entry)> {
        let record = self.table.get_bucket(place)?;
        let header = record.header();
        if header.extra.is_none() && skip((header.hlc, header.origin)) {
            return None;
        }
        Some((record.key().into(), self.load_at(place, origins)))
    }

    /// The key and the [outline](Shard::outline_at) of the record at `place`.
    pub(in crate::store) fn outline_with_key(
        &self,
        place: usize,
        origins: &Origins,
    ) -> Option<(&[u8], Entry)> {
        let record = self.table.get_bucket(place)?;
        Some((record.key(), self.outline_at(place, origins)))
    }

    pub(super) fn load_at(&self, place: usize, origins: &Origins) -> Entry {
        let mut entry = self.outline_at(place, origins);
        let (_, _, inline) = self.record(place).parts();
        if let Some(value) = entry.register.value.as_mut().filter(|value| value.bytes.is_empty()) {
            value.bytes = Bytes::copy_from_slice(inline);
        }
        entry
    }

    /// Everything that the record at `place` holds but the bytes of an inline value: those are
    /// copied for nobody who only looks at stamps.
    pub(super) fn outline_at(&self, place: usize, origins: &Origins) -> Entry {
        let header = self.record(place).header();
        let extra = header.extra.map(|slot| &*self.extras[slot as usize]);
        let bytes = extra.and_then(|extra| extra.value.clone()).unwrap_or_default();
        let attributes = extra.and_then(|extra| extra.attributes.clone());
        let value = (header.life == Life::Value).then_some(Value { bytes, attributes });
        let stamp = Stamp { hlc: header.hlc, origin: origins.id(header.origin) };
        Entry {
            register: Register { stamp, value, deadline: header.deadline },
            touch: extra.and_then(|extra| extra.touch),
            tallies: extra.map(|extra| extra.tallies.clone()).unwrap_or_default(),
        }
    }

    /// Packs `entry` as the content of the key. `origin` is its register's, interned.
    pub(in crate::store) fn save(&mut self, probe: Probe<'_>, entry: Entry, origin: u16) {
        self.newest = self.newest.max(entry.newest());
        let Register { stamp, value, deadline } = entry.register;
        let life = if value.is_some() { Life::Value } else { Life::Tombstone };
        let (bytes, attributes) = match value {
            Some(value) => (value.bytes, value.attributes),
            None => (Bytes::new(), None),
        };
        let value = NewValue::Shared(bytes);
        let (inline, shared) = match value.is_inline() {
            true => (value, None),
            false => (NewValue::Copy(&[]), Some(value.into_bytes())),
        };
        let extra = Extra { value: shared, attributes, touch: entry.touch, tallies: entry.tallies };
        let content = Content {
            hlc: stamp.hlc,
            origin,
            life,
            deadline,
            inline: inline.as_slice(),
            extra: Some(Box::new(extra)),
        };
        let place = self.find(probe);
        if let Some(place) = place {
            self.take_extra(place);
        }
        self.put(place, probe, content);
    }
}
