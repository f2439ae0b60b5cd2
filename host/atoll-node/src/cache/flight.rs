//! Fetches under way: one for each key and variant, and those who wait for it.

use super::fill::Fill;
use super::stored::Stored;
use http::{HeaderMap, StatusCode};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// What came of a fetch, for all who waited.
#[derive(Clone, Debug)]
pub(crate) enum Landing {
    /// A response whose body is still coming, or has come.
    Filling(Arc<Fill>),
    /// What was stored is right.
    Validated(Arc<Renewed>),
    /// The response is for the one who asked alone; everybody else goes by himself.
    Private,
    /// The upstream failed.
    Failed(StatusCode, &'static str),
}

/// What was stored, with the fields of a newer response that says that it is right.
#[derive(Debug)]
pub(crate) struct Renewed {
    pub(crate) stored: Arc<Stored>,
    /// Whether it is for more than the one who has asked.
    pub(crate) is_for_all: bool,
    /// Fields that go to the one alone who has asked.
    pub(crate) own_fields: HeaderMap,
}

/// A fetch under way.
#[derive(Debug)]
pub(crate) struct Flight {
    landing: watch::Sender<Option<Landing>>,
    began: Began,
}

/// When a fetch began: in microseconds, and in purges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Began {
    pub(crate) us: u64,
    pub(crate) generation: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    by_key: Mutex<HashMap<Box<[u8]>, Arc<Flight>>>,
}

/// What a request is to a fetch.
#[derive(Debug)]
pub(crate) enum Role {
    /// It fetches.
    Leader(Lead),
    /// It waits.
    Follower(watch::Receiver<Option<Landing>>),
    /// It looks again: since it has looked, a fetch has ended and something was stored.
    Late,
}

/// The duty to fetch. Whoever drops it without a landing lets the next one try.
#[derive(Debug)]
pub(crate) struct Lead {
    flights: Arc<Flights>,
    key: Box<[u8]>,
    flight: Arc<Flight>,
}

impl Flights {
    /// Joins the fetch for `key`, or begins it at `now`. One for which `may_join` does not hold is
    /// left to those who wait for it already.
    pub(super) fn join(
        self: &Arc<Self>,
        key: Vec<u8>,
        now: Began,
        may_join: impl Fn(Began, Option<&Landing>) -> bool,
    ) -> Role {
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = by_key.get(&key[..])
            && may_join(flight.began, flight.landing.borrow().as_ref())
        {
            return Role::Follower(flight.landing.subscribe());
        }
        let flight = Arc::new(Flight { landing: watch::Sender::new(None), began: now });
        let key: Box<[u8]> = key.into();
        by_key.insert(key.clone(), Arc::clone(&flight));
        Role::Leader(Lead { flights: Arc::clone(self), key, flight })
    }

    /// A fetch that nobody joins.
    pub(super) fn alone(self: &Arc<Self>, now: Began) -> Lead {
        let flight = Arc::new(Flight { landing: watch::Sender::new(None), began: now });
        Lead { flights: Arc::clone(self), key: Box::default(), flight }
    }

    /// Whether something is being fetched for `key`.
    pub(crate) fn is_under_way(&self, key: &[u8]) -> bool {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }
}

impl Lead {
    /// Tells all who wait. Who comes from now on finds what was stored, or begins anew.
    pub(crate) fn land(&self, landing: Landing) {
        self.flight.landing.send_replace(Some(landing));
    }

    /// When it began, in microseconds.
    pub(crate) fn began_us(&self) -> u64 {
        self.flight.began.us
    }

    /// One more who waits.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Landing>> {
        self.flight.landing.subscribe()
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let mut by_key = self.flights.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        // Dropping the sender with it wakes those who wait: without a landing they try anew.
        if by_key.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            by_key.remove(&self.key);
        }
    }
}

/// Waits for the landing. `None` where whoever fetched has gone without one.
pub(crate) async fn landing(mut flight: watch::Receiver<Option<Landing>>) -> Option<Landing> {
    match flight.wait_for(Option::is_some).await {
        Ok(landing) => landing.clone(),
        Err(_) => None,
    }
}
