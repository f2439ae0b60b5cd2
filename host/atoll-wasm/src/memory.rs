//! The memory of guests: a limit for each instance, a budget for all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmtime::ResourceLimiter;

use crate::limits::{CORE_INSTANCES_MAX, MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX};
use crate::parking::Parking;
use crate::residence::Residence;

/// The linear memory that all instances of an engine may hold together.
#[derive(Debug)]
pub(crate) struct Budget {
    held_bytes: AtomicUsize,
    bytes_max: usize,
    /// Who waits there goes before anyone is refused.
    parking: Arc<Parking>,
    residence: Arc<Residence>,
}

/// Whose bound an instance met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its own.
    Limit,
    /// That of all instances together.
    Budget,
}

/// Says yes or no to an instance that wants to grow, and remembers a no: most guests answer it with
/// a trap that does not tell why.
#[derive(Debug)]
pub(crate) struct Limiter {
    budget: Arc<Budget>,
    bytes_max: usize,
    held_bytes: usize,
    refusal: Option<Refusal>,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize, parking: Arc<Parking>) -> Budget {
        let residence = Residence::new();
        Budget { held_bytes: AtomicUsize::new(0), bytes_max, parking, residence }
    }

    /// Returns what the instances hold now.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        while !self.try_take(bytes) {
            if !self.parking.free_oldest() {
                return false;
            }
        }
        true
    }

    fn try_take(&self, bytes: usize) -> bool {
        let before = self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.bytes_max;
        if !fits {
            self.give(bytes);
        }
        fits
    }

    fn give(&self, bytes: usize) {
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Limiter {
    pub(crate) fn new(budget: Arc<Budget>, bytes_max: usize) -> Limiter {
        Limiter { budget, bytes_max, held_bytes: 0, refusal: None }
    }

    /// Another call begins, for which no memory was refused yet.
    pub(crate) fn begin(&mut self) {
        self.refusal = None;
    }

    /// Returns the linear memory of the instance: as much as it ever had.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// It is another call's turn, of several that share the instance: exchanges what was refused to the
    /// one for what was refused to the other.
    pub(crate) fn exchange_refusal(&mut self, refusal: &mut Option<Refusal>) {
        std::mem::swap(&mut self.refusal, refusal);
    }

    /// Returns the last no, if there was one.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.budget.give(self.held_bytes);
        self.budget.residence.note_end(self.held_bytes);
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let refusal = if self.held_bytes.saturating_add(more) > self.bytes_max
            || maximum.is_some_and(|maximum| desired > maximum)
        {
            Some(Refusal::Limit)
        } else if !self.budget.take(more) {
            Some(Refusal::Budget)
        } else {
            self.held_bytes += more;
            None
        };
        self.refusal = refusal.or(self.refusal);
        Ok(refusal.is_none())
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        // Past the maximum that the component itself declares, most likely.
        self.refusal = self.refusal.or(Some(Refusal::Limit));
        Ok(())
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(bytes_max: usize) -> Arc<Budget> {
        Arc::new(Budget::new(bytes_max, Arc::new(Parking::new(0))))
    }

    fn limiter(budget: &Arc<Budget>, bytes_max: usize) -> Limiter {
        Limiter::new(Arc::clone(budget), bytes_max)
    }

    #[test]
    fn an_instance_meets_its_own_limit_first_over_all_its_memories() {
        let budget = budget(1_000);
        let mut limiter = limiter(&budget, 100);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(!limiter.memory_growing(0, 60, None).unwrap());
        assert_eq!(limiter.refusal(), Some(Refusal::Limit));
        assert!(limiter.memory_growing(60, 100, None).unwrap());
        assert_eq!(budget.held_bytes(), 100);
    }

    #[test]
    fn all_instances_together_stay_within_the_budget() {
        let budget = budget(150);
        let mut first = limiter(&budget, 100);
        let mut second = limiter(&budget, 100);
        assert!(first.memory_growing(0, 100, None).unwrap());
        assert!(!second.memory_growing(0, 51, None).unwrap());
        assert_eq!(second.refusal(), Some(Refusal::Budget));
        assert!(second.memory_growing(0, 50, None).unwrap());
        assert_eq!(budget.held_bytes(), 150);
    }

    #[test]
    fn a_dropped_instance_gives_back_what_it_held() {
        let budget = budget(150);
        let mut first = limiter(&budget, 100);
        assert!(first.memory_growing(0, 100, None).unwrap());
        drop(first);
        assert_eq!(budget.held_bytes(), 0);
    }

    #[test]
    fn growth_past_the_declared_maximum_is_refused_and_holds_nothing() {
        let budget = budget(1_000);
        let mut limiter = limiter(&budget, 1_000);
        assert!(!limiter.memory_growing(0, 200, Some(100)).unwrap());
        assert_eq!((budget.held_bytes(), limiter.refusal()), (0, Some(Refusal::Limit)));
    }
}
