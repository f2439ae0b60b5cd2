//! Where instances wait that may be used again: how many in all, and who goes when room is needed.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

/// All lots of an engine.
pub(crate) struct Parking {
    lots: Mutex<Vec<Weak<dyn Lot>>>,
    taken: AtomicU32,
    places_max: u32,
}

/// The instances of one version of one handler.
pub(crate) trait Lot: Send + Sync {
    /// Since when the one that has waited longest has waited.
    fn oldest(&self) -> Option<Instant>;

    /// Ends the one that has waited longest.
    fn free_oldest(&self);
}

/// A place that is taken for as long as this lives.
#[derive(Debug)]
pub(crate) struct Place(Arc<Parking>);

impl Parking {
    pub(crate) fn new(places_max: u32) -> Parking {
        Parking { lots: Mutex::default(), taken: AtomicU32::new(0), places_max }
    }

    pub(crate) fn add(&self, lot: Weak<dyn Lot>) {
        let mut lots = self.lots();
        lots.retain(|lot| lot.strong_count() > 0);
        lots.push(lot);
    }

    /// Takes a place, if need be that of whoever has waited longest.
    pub(crate) fn enter(self: &Arc<Parking>) -> Option<Place> {
        let take = |taken: u32| (taken < self.places_max).then(|| taken + 1);
        let enter = || self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        let is_in = enter() || (self.free_oldest() && enter());
        is_in.then(|| Place(Arc::clone(self)))
    }

    /// Ends the instance that has waited longest. Returns whether there was one.
    pub(crate) fn free_oldest(&self) -> bool {
        let lots: Vec<_> = self.lots().iter().filter_map(Weak::upgrade).collect();
        let waiting = lots.iter().filter_map(|lot| Some((lot.oldest()?, lot)));
        // Outside of the lock: what an instance held is given back now.
        match waiting.min_by_key(|(since, _)| *since) {
            Some((_, lot)) => {
                lot.free_oldest();
                true
            }
            None => false,
        }
    }

    fn lots(&self) -> MutexGuard<'_, Vec<Weak<dyn Lot>>> {
        // A list of handles: whoever panicked has left nothing half done.
        self.lots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Parking {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parking = formatter.debug_struct("Parking");
        parking.field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Waiting(Arc<Parking>, Mutex<Vec<(Instant, Place)>>);

    impl Waiting {
        fn new(parking: &Arc<Parking>) -> Arc<Waiting> {
            let lot = Arc::new(Waiting(Arc::clone(parking), Mutex::default()));
            let weak: Weak<dyn Lot> = Arc::downgrade(&(Arc::clone(&lot) as Arc<dyn Lot>));
            parking.add(weak);
            lot
        }

        fn park(&self) {
            let place = self.0.enter().unwrap();
            self.1.lock().unwrap().push((Instant::now(), place));
        }

        fn count(&self) -> usize {
            self.1.lock().unwrap().len()
        }
    }

    impl Lot for Waiting {
        fn oldest(&self) -> Option<Instant> {
            self.1.lock().unwrap().first().map(|(since, _)| *since)
        }

        fn free_oldest(&self) {
            let oldest = self.1.lock().unwrap().remove(0);
            drop(oldest);
        }
    }

    #[test]
    fn whoever_has_waited_longest_makes_room() {
        let parking = Arc::new(Parking::new(2));
        let (first, second) = (Waiting::new(&parking), Waiting::new(&parking));
        first.park();
        second.park();
        second.park();
        assert_eq!((first.count(), second.count()), (0, 2));
        assert!(parking.free_oldest());
        assert_eq!(second.count(), 1);
        drop(second);
        assert!(!parking.free_oldest(), "nobody waits any more");
    }
}
