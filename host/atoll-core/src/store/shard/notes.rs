//! Noting which keys have changed, and handing the notes over.

use super::{Probe, Shard};
use crate::entry::Entry;
use crate::store::changes::{Noted, Selection};
use crate::store::origins::Origins;

impl Shard {
    /// Notes that the record at `place` has changed, unless that is noted already.
    pub(super) fn note(&mut self, place: usize) {
        let Some(changes) = &mut self.changes else { return };
        let record = self.table.get_bucket_mut(place).expect("the place was found under this lock");
        if !record.is_noted() {
            record.set_noted();
            changes.add(record.key());
        }
    }

    /// Packs `entry`, which comes from where changes go, as the content of the key: it is noted for
    /// nobody.
    pub(in crate::store) fn restore(&mut self, probe: Probe<'_>, entry: Entry, origin: u16) {
        let changes = self.changes.take();
        self.save(probe, entry, origin);
        self.changes = changes;
    }

    /// Notes that the record at `place` is about to go. Always, since the note that its flag speaks
    /// of may have been taken already.
    pub(super) fn note_removal(&mut self, place: usize) {
        let Some(changes) = &mut self.changes else { return };
        let record = self.table.get_bucket(place).expect("the place is taken");
        changes.add_removed(record.key());
    }

    /// Notes a key again whose note was taken, whether or not it is still there.
    pub(in crate::store) fn note_again(&mut self, probe: Probe<'_>) {
        if let Some(place) = self.find(probe) {
            self.note(place);
        } else if let Some(changes) = &mut self.changes {
            changes.add_removed(probe.key);
        }
    }

    /// Whether there is a record of the key.
    pub(in crate::store) fn holds(&self, probe: Probe<'_>) -> bool {
        self.find(probe).is_some()
    }

    /// Takes the notes. The flags in the records stay until [`Shard::unnote`] or a walk clears them.
    pub(in crate::store) fn take_notes(&mut self) -> Option<Noted> {
        self.changes.as_mut().map(|changes| changes.take())
    }

    /// From now on every key counts as changed.
    pub(in crate::store) fn note_all(&mut self) {
        if let Some(changes) = &mut self.changes {
            changes.add_all();
        }
    }

    /// Clears the key's flag and returns what it holds: a later change is noted anew.
    pub(in crate::store) fn unnote(
        &mut self,
        probe: Probe<'_>,
        origins: &Origins,
    ) -> Option<Entry> {
        let place = self.find(probe)?;
        let record = self.table.get_bucket_mut(place).expect("the place was found under this lock");
        record.clear_noted();
        Some(self.load_at(place, origins))
    }

    /// The key and content of the record at `place`, where `selection` wants it.
    pub(in crate::store) fn select_at(
        &mut self,
        place: usize,
        selection: Selection,
        origins: &Origins,
    ) -> Option<(Vec<u8>, Entry)> {
        let record = self.table.get_bucket_mut(place)?;
        match selection {
            Selection::Copy => {}
            Selection::All => record.clear_noted(),
            Selection::Changed if record.is_noted() => record.clear_noted(),
            Selection::Changed => return None,
        }
        Some((record.key().to_vec(), self.load_at(place, origins)))
    }
}
