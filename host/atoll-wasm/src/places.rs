//! Places for what a guest holds by number: opened buckets, swaps in preparation, turns.

use crate::limits::HANDLES_MAX;

/// Numbered places. One is used again once it was left.
#[derive(Debug)]
pub(crate) struct Places<T> {
    places: Vec<Option<T>>,
}

/// As many are taken as may be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken;

impl<T> Places<T> {
    pub(crate) fn new() -> Places<T> {
        Places { places: Vec::new() }
    }

    /// Keeps a value, or says no: the bound keeps the search for a free place short too.
    pub(crate) fn insert(&mut self, value: T) -> Result<u32, Taken> {
        let place = match self.places.iter().position(Option::is_none) {
            Some(place) => place,
            None if self.places.len() < HANDLES_MAX => {
                self.places.push(None);
                self.places.len() - 1
            }
            None => return Err(Taken),
        };
        self.places[place] = Some(value);
        Ok(u32::try_from(place).expect("HANDLES_MAX fits in 32 bits"))
    }

    /// The value in a place. The component model lets a guest use only handles that it was given
    /// and still holds, so a missing one is our bug.
    pub(crate) fn get(&self, place: u32) -> wasmtime::Result<&T> {
        let value = self.places.get(place as usize).and_then(Option::as_ref);
        value.ok_or_else(|| wasmtime::Error::msg("a handle of nothing"))
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, place: u32) -> wasmtime::Result<&mut T> {
        let value = self.places.get_mut(place as usize).and_then(Option::as_mut);
        value.ok_or_else(|| wasmtime::Error::msg("a handle of nothing"))
    }

    /// All values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten()
    }

    /// Takes the value out, if there is one.
    pub(crate) fn remove(&mut self, place: u32) -> Option<T> {
        self.places.get_mut(place as usize).and_then(Option::take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_and_their_number_is_bounded() {
        let mut places = Places::new();
        for place in 0..HANDLES_MAX {
            assert_eq!(places.insert(place), Ok(u32::try_from(place).unwrap()));
        }
        assert_eq!(places.insert(0), Err(Taken));
        assert_eq!(places.remove(7), Some(7));
        assert_eq!(places.remove(7), None);
        assert_eq!(places.insert(7), Ok(7));
        assert_eq!(places.get(9).unwrap(), &9);
        assert!(places.get(u32::MAX).is_err());
    }
}
