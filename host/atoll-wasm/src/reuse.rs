//! Instances that answer more than one request, where a handler asks for that.
//!
//! A [`Pool`] is for one version of one handler: an instance never passes from one to another. It
//! comes back only after an answer that went well, so a trap, a limit or a client that left ends it.
//! Nothing promises a guest that its memory survives.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::error::CallError;
use crate::host::Host;
use crate::instance::Instance;
use crate::limits::{AT_ONCE_MAX, BURST_MAX, REUSE_FAILURES_MAX, WORN_OUT_MIN};
use crate::parking::{Lot, Parking, Place};
use crate::standard::{Job, Session};

/// How long instances are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reuse {
    /// Requests that one instance answers at most; 1 is no reuse at all.
    pub requests: u32,
    /// How long one waits for its next request, in milliseconds.
    pub idle_ms: u32,
    /// Requests that one instance works on at once, at most [`AT_ONCE_MAX`]; 1 is one after the other.
    /// More are for components that [can](crate::component::Component::can_share) do so.
    pub at_once: u32,
}

/// The instances of one version of one handler that wait for their next request.
pub struct Pool<H: Host> {
    reuse: Reuse,
    /// Of the component that they are instances of.
    component: Arc<()>,
    parking: Arc<Parking>,
    /// The one that waits for the shortest time last: it is used next, its memory is in the caches.
    idle: Mutex<Vec<Idle<H>>>,
    /// Those that work on requests and may be given more.
    sessions: Mutex<Vec<Arc<Session<H>>>>,
    /// Requests that one instance answers at most, as far as is known: see [`Pool::note_doubt`].
    life: AtomicU32,
    started: AtomicU64,
    reused: AtomicU64,
    /// Requests in a row that a used instance has failed.
    failed: AtomicU32,
    broken: OnceLock<String>,
    /// Requests that a fresh instance was given after a used one had failed.
    retried: AtomicU64,
    /// Those of them that nobody was told of yet.
    retries_untold: AtomicU64,
    doubt: OnceLock<String>,
}

struct Idle<H: Host> {
    instance: Instance<H>,
    since: Instant,
    _place: Place,
}

/// What has become of a pool's instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolCounts {
    /// Instances that were made.
    pub started: u64,
    /// Requests that were given to an instance that had answered another.
    pub reused: u64,
    /// Requests that a fresh instance was given after a used one had failed.
    pub retried: u64,
    /// Instances that wait now.
    pub idle: usize,
}

impl<H: Host> Pool<H> {
    pub(crate) fn new(reuse: Reuse, component: &Arc<()>, parking: &Arc<Parking>) -> Arc<Pool<H>> {
        let pool = Arc::new(Pool {
            reuse,
            component: Arc::clone(component),
            parking: Arc::clone(parking),
            idle: Mutex::default(),
            sessions: Mutex::default(),
            life: AtomicU32::new(reuse.requests),
            started: AtomicU64::new(0),
            reused: AtomicU64::new(0),
            failed: AtomicU32::new(0),
            broken: OnceLock::new(),
            retried: AtomicU64::new(0),
            retries_untold: AtomicU64::new(0),
            doubt: OnceLock::new(),
        });
        let lot: Arc<dyn Lot> = Arc::<Pool<H>>::clone(&pool);
        parking.add(Arc::downgrade(&lot));
        pool
    }

    /// Returns what has become of the instances.
    pub fn counts(&self) -> PoolCounts {
        PoolCounts {
            started: self.started.load(Ordering::Relaxed),
            reused: self.reused.load(Ordering::Relaxed),
            retried: self.retried.load(Ordering::Relaxed),
            idle: self.idle().len(),
        }
    }

    /// Returns why instances are not used again any more: several in a row failed at a request that
    /// was not their first.
    pub fn broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }

    /// Returns why reuse seems to break the component: a used instance failed at a request that a fresh
    /// one then answered. The first such error stays.
    pub fn doubt(&self) -> Option<&str> {
        self.doubt.get().map(String::as_str)
    }

    /// Returns how many requests a fresh instance was given since this was last asked.
    pub fn take_retries(&self) -> u64 {
        // Nearly always there is none: no write to what all requests share.
        match self.retries_untold.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.retries_untold.swap(0, Ordering::Relaxed),
        }
    }

    /// Ends the instances that have waited for long enough. To be called now and then, so that they
    /// hold no memory for ever.
    pub fn sweep(&self) {
        let wait = Duration::from_millis(self.reuse.idle_ms.into());
        let expired: Vec<Idle<H>> = {
            let mut idle = self.idle();
            let fresh = idle.iter().position(|idle| idle.since.elapsed() < wait);
            let count = fresh.unwrap_or(idle.len());
            idle.drain(..count).collect()
        };
        drop(expired);
    }

    /// Tells whether the instances are of this component.
    pub(crate) fn is_of(&self, component: &Arc<()>) -> bool {
        Arc::ptr_eq(&self.component, component)
    }

    /// Returns the instance that came last, if it has not waited for too long. Else there will be a new one.
    pub(crate) fn take(&self) -> Option<Instance<H>> {
        let taken = self.take_idle();
        if taken.is_none() {
            self.note_start();
        }
        taken
    }

    /// Notes that an instance is made.
    pub(crate) fn note_start(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the instance that came last, if it has not waited for too long.
    pub(crate) fn take_idle(&self) -> Option<Instance<H>> {
        let wait = Duration::from_millis(self.reuse.idle_ms.into());
        let last = if self.broken.get().is_none() { self.idle().pop() } else { None };
        let life = self.life.load(Ordering::Relaxed);
        let is_good = |idle: &Idle<H>| idle.since.elapsed() < wait && idle.instance.served < life;
        let taken = last.filter(is_good).map(|idle| idle.instance);
        if taken.is_some() {
            self.reused.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// Notes how a request of an instance went that had answered `served` others before.
    pub(crate) fn note(&self, served: u32, end: Result<(), &CallError>) {
        match end {
            // Not the guest's fault, and a first request says nothing about the next.
            Err(CallError::Busy(_) | CallError::InstanceLost) => {}
            _ if served == 0 => {}
            Ok(()) => self.failed.store(0, Ordering::Relaxed),
            Err(error) => {
                let failed = self.failed.fetch_add(1, Ordering::Relaxed) + 1;
                if failed >= REUSE_FAILURES_MAX {
                    self.give_up(error);
                }
            }
        }
    }

    /// Notes that a fresh instance is given a request at which a used one has failed.
    pub(crate) fn note_retry(&self) {
        for count in [&self.started, &self.retried, &self.retries_untold] {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes that the fresh one has failed at it too: it was the request, not the use again.
    pub(crate) fn forgive(&self) {
        let less = |failed: u32| failed.checked_sub(1);
        // None failed if another has answered meanwhile.
        let _ = self.failed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Notes that the fresh one has answered what one could not that had answered `served` others.
    ///
    /// One that has answered a good many is worn out, most likely: a component of `componentize-js` traps
    /// after some 260 requests, as if it never gave something back. From then on none answers more than
    /// half as many.
    pub(crate) fn note_doubt(&self, served: u32, error: &CallError) {
        let mut why = format!(
            "an instance that was used again failed at a request that a fresh one answered: {error}"
        );
        if served >= WORN_OUT_MIN {
            let life = served / 2;
            self.life.fetch_min(life, Ordering::Relaxed);
            why += &format!("; it had answered {served}, and none answers more than {life} now");
        }
        // The first reason stays.
        let _ = self.doubt.set(why);
    }

    /// Returns how many requests one instance may work on at once.
    pub(crate) fn at_once(&self) -> u32 {
        if self.broken.get().is_some() { 1 } else { self.reuse.at_once.min(AT_ONCE_MAX) }
    }

    /// Returns how many requests an instance may still take in that has answered `served`.
    pub(crate) fn requests_left(&self, served: u32) -> u32 {
        self.life.load(Ordering::Relaxed).saturating_sub(served).clamp(1, BURST_MAX)
    }

    /// Gives a request to an instance that works on others and has room for it. Gives it back if none has.
    pub(crate) fn join(&self, job: Box<Job<H>>) -> Option<Box<Job<H>>> {
        let mut job = Some(job);
        if self.sessions().iter().any(|session| session.join(&mut job)) {
            self.reused.fetch_add(1, Ordering::Relaxed);
        }
        job
    }

    /// An instance may be given more requests while it works on its first.
    pub(crate) fn open(&self, session: &Arc<Session<H>>) {
        self.sessions().push(Arc::clone(session));
    }

    /// It may not any more.
    pub(crate) fn close(&self, session: &Arc<Session<H>>) {
        self.sessions().retain(|open| !Arc::ptr_eq(open, session));
    }

    fn sessions(&self) -> MutexGuard<'_, Vec<Arc<Session<H>>>> {
        // A list of handles: whoever panicked has left a whole one.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an instance back that has answered one more request.
    pub(crate) fn put(&self, mut instance: Instance<H>) {
        instance.served += 1;
        if instance.served >= self.life.load(Ordering::Relaxed) || self.broken.get().is_some() {
            return;
        }
        instance.rest();
        let Some(place) = self.parking.enter() else { return };
        self.idle().push(Idle { instance, since: Instant::now(), _place: place });
    }

    fn give_up(&self, error: &CallError) {
        let why =
            format!("{REUSE_FAILURES_MAX} instances in a row failed when used again: {error}");
        // The first reason stays.
        let _ = self.broken.set(why);
        let idle = std::mem::take(&mut *self.idle());
        drop(idle);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle<H>>> {
        // Instances come and go whole: whoever panicked has left nothing half done.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H: Host> Lot for Pool<H> {
    fn oldest(&self) -> Option<Instant> {
        self.idle().first().map(|idle| idle.since)
    }

    fn free_oldest(&self) {
        let oldest = {
            let mut idle = self.idle();
            if idle.is_empty() { None } else { Some(idle.remove(0)) }
        };
        drop(oldest);
    }
}

impl<H: Host> fmt::Debug for Pool<H> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pool = formatter.debug_struct("Pool");
        pool.field("reuse", &self.reuse).field("counts", &self.counts()).finish_non_exhaustive()
    }
}
