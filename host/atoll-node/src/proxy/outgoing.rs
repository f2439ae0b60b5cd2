//! Responses that wait to be shared: what is long goes out piece by piece, behind what is short.

use super::records::SharedRecords;
use crate::cache::replicated::record::{Maker, PIECE_BYTES};
use crate::cache::replicated::{Outcome, Shared, Sharing, Step};
use crate::cache::stored::Stored;
use atoll_core::http_cache::vary::Vary;
use atoll_core::replica::vector::Vector;
use atoll_core::store::edit::WriteError;
use http::HeaderMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::{spawn_blocking, yield_now};

/// Most responses that wait.
const COUNT_MAX: usize = 1_024;
/// Bytes of their bodies; one alone may be longer.
const BYTES_MAX: u64 = 32 << 20;

/// A response that is to be shared.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) maker: Maker,
    pub(super) body_bytes_max: u64,
    pub(super) marks: Vector,
    pub(super) stored: Arc<Stored>,
    pub(super) vary: Vary,
    pub(super) request: HeaderMap,
    pub(super) figures: SharedRecords,
}

impl Parcel {
    /// Whether it is one record, and in memory.
    fn is_short(&self) -> bool {
        !self.stored.body.is_on_disk() && self.stored.body_bytes <= PIECE_BYTES as u64
    }

    fn sharing(&self) -> Sharing<'_> {
        Sharing {
            maker: self.maker,
            body_bytes_max: self.body_bytes_max,
            marks: &self.marks,
            stored: &self.stored,
            vary: &self.vary,
            request: &self.request,
        }
    }

    fn share(&self, shared: &Shared) {
        self.count(shared.share(&self.sharing()));
    }

    fn count(&self, outcome: Result<Outcome, WriteError>) {
        match outcome {
            Ok(Outcome::Written) => self.figures.written.inc(),
            Ok(Outcome::NotForOthers | Outcome::Kept) => 0,
            Ok(Outcome::Full) | Err(_) => self.figures.full.inc(),
        };
    }
}

/// What is to go out.
#[derive(Debug)]
pub(super) struct Outgoing {
    shared: Arc<Shared>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Those that are one record, and those that are several or have to be read from the disk.
    short: VecDeque<Parcel>,
    long: VecDeque<Parcel>,
    bytes: u64,
    /// Whether somebody sees to them.
    is_seen_to: bool,
}

/// What becomes of a parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It has gone, or is not going to.
    Done,
    /// It waits, and somebody sees to it.
    Waits,
    /// It waits for [`Outgoing::run`].
    Run,
}

impl Outgoing {
    pub(super) fn new(shared: &Arc<Shared>) -> Arc<Outgoing> {
        Arc::new(Outgoing { shared: Arc::clone(shared), waiting: Mutex::default() })
    }

    /// Shares it at once where it is short and nothing stands in the way.
    pub(super) fn take(&self, parcel: Parcel) -> Taken {
        let is_short = parcel.is_short();
        let mut waiting = self.lock();
        if is_short && waiting.short.is_empty() && self.shared.pace().has_room() {
            drop(waiting);
            parcel.share(&self.shared);
            return Taken::Done;
        }
        let bytes = waiting.bytes + parcel.stored.body_bytes;
        let count = waiting.short.len() + waiting.long.len();
        if count >= COUNT_MAX || (bytes > BYTES_MAX && count > 0) {
            parcel.figures.full.inc();
            return Taken::Done;
        }
        waiting.bytes = bytes;
        let queue = if is_short { &mut waiting.short } else { &mut waiting.long };
        queue.push_back(parcel);
        match std::mem::replace(&mut waiting.is_seen_to, true) {
            true => Taken::Waits,
            false => Taken::Run,
        }
    }

    /// Shares what waits, until nothing does.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            self.share_short().await;
            match self.next_long() {
                Some(parcel) => self.share_long(Arc::new(parcel)).await,
                None if self.is_over() => return,
                None => {}
            }
        }
    }

    async fn share_short(&self) {
        loop {
            self.shared.pace().room().await;
            let Some(parcel) = self.next_short() else { return };
            parcel.share(&self.shared);
        }
    }

    async fn share_long(&self, parcel: Arc<Parcel>) {
        let (shared, planned) = (Arc::clone(&self.shared), Arc::clone(&parcel));
        // The body may have to be read.
        let plan = spawn_blocking(move || shared.plan(&planned.sharing())).await;
        let Ok(plan) = plan else { return };
        let plan = match plan {
            Ok(Step::Write(plan)) => plan,
            Ok(Step::Ended(outcome)) => return parcel.count(Ok(outcome)),
            Err(error) => return parcel.count(Err(error)),
        };
        for piece in plan.pieces() {
            // Where there is room all along, others have their turn as well.
            yield_now().await;
            self.share_short().await;
            // What was purged meanwhile nobody would take.
            if !self.shared.purges().cache().holds(&parcel.stored) {
                let given_up = self.shared.give_up(&plan);
                return parcel.count(given_up.map(|()| Outcome::NotForOthers));
            }
            if let Err(error) = self.shared.write_piece(&plan, piece) {
                return parcel.count(Err(error));
            }
        }
        parcel.count(self.shared.finish(&parcel.sharing(), &plan));
    }

    fn next_short(&self) -> Option<Parcel> {
        let mut waiting = self.lock();
        let parcel = waiting.short.pop_front()?;
        waiting.bytes -= parcel.stored.body_bytes;
        Some(parcel)
    }

    fn next_long(&self) -> Option<Parcel> {
        let mut waiting = self.lock();
        let parcel = waiting.long.pop_front()?;
        waiting.bytes -= parcel.stored.body_bytes;
        Some(parcel)
    }

    /// Whether nothing waits. Nobody sees to what comes from then on.
    fn is_over(&self) -> bool {
        let mut waiting = self.lock();
        waiting.is_seen_to = !waiting.short.is_empty() || !waiting.long.is_empty();
        !waiting.is_seen_to
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Queues and sums: nothing is half done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
