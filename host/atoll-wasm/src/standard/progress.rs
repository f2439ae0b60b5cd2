//! Whether a streaming exchange still moves: what its two bodies, its task and its caller share.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::error::CallError;
use crate::limits::WALL_MS_MAX;

/// No body is that long.
const NO_LENGTH: usize = usize::MAX;

/// One exchange.
#[derive(Debug)]
pub(super) struct Progress {
    began: Instant,
    /// Whether the answer is to HEAD, so that its length is that of another body.
    is_head: bool,
    /// What the guest said of the body of its answer; [`NO_LENGTH`] where it did not.
    length: AtomicUsize,
    last: Mutex<Instant>,
    is_answered: AtomicBool,
    has_returned: AtomicBool,
    has_failed: AtomicBool,
    refusal: Mutex<Option<CallError>>,
    is_sent: AtomicBool,
    sent: Notify,
}

impl Progress {
    /// That of a request with this method.
    pub(super) fn new(method: &Method) -> Progress {
        let began = Instant::now();
        Progress {
            began,
            is_head: *method == Method::HEAD,
            length: AtomicUsize::new(NO_LENGTH),
            last: Mutex::new(began),
            is_answered: AtomicBool::new(false),
            has_returned: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            refusal: Mutex::default(),
            is_sent: AtomicBool::new(false),
            sent: Notify::new(),
        }
    }

    /// A piece of a body has passed.
    pub(super) fn note(&self) {
        *lock(&self.last) = Instant::now();
    }

    /// The guest has said how it answers.
    pub(super) fn note_answer(&self) {
        self.is_answered.store(true, Ordering::Release);
        self.note();
    }

    pub(super) fn is_answered(&self) -> bool {
        self.is_answered.load(Ordering::Acquire)
    }

    /// The guest has answered and ended. Its answer's body may still be on its way.
    pub(super) fn note_return(&self) {
        self.has_returned.store(true, Ordering::Release);
    }

    pub(super) fn has_returned(&self) -> bool {
        self.has_returned.load(Ordering::Acquire)
    }

    /// From now on the end of the answer's body is not its true end. Must be called before the
    /// guest is dropped.
    pub(super) fn fail(&self) {
        self.has_failed.store(true, Ordering::Release);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// The guest has said how long its answer's body is.
    pub(super) fn note_length(&self, bytes: usize) {
        if !self.is_head {
            self.length.store(bytes, Ordering::Release);
        }
    }

    /// The length that the body of its answer has to have.
    pub(super) fn length(&self) -> Option<usize> {
        Some(self.length.load(Ordering::Acquire)).filter(|bytes| *bytes != NO_LENGTH)
    }

    /// Whether it shows at the end of the answer's body only if the guest has kept its word.
    pub(super) fn is_owed(&self) -> bool {
        self.length().is_some() && !self.is_sent.load(Ordering::Acquire)
    }

    /// Waits for that end. The guest has done its part; who takes the body may be slow.
    pub(super) async fn owed(&self, wall: Duration) {
        tokio::select! {
            () = self.sent() => {}
            () = self.stalled(wall) => self.fail(),
        }
    }

    /// What the guest sent was refused; the first refusal is kept.
    pub(super) fn refuse(&self, error: CallError) {
        lock(&self.refusal).get_or_insert(error);
    }

    pub(super) fn refusal(&self) -> Option<CallError> {
        lock(&self.refusal).clone()
    }

    /// The answer's body has come to its end, or nobody wants the rest.
    pub(super) fn note_sent(&self) {
        self.is_sent.store(true, Ordering::Release);
        self.sent.notify_one();
    }

    /// Completes once that was noted. For one to wait for at a time.
    pub(super) async fn sent(&self) {
        // Who is told between the two is told by the permit that is left.
        while !self.is_sent.load(Ordering::Acquire) {
            self.sent.notified().await;
        }
    }

    /// Completes once nothing has moved for so long, or the whole takes longer than anything may.
    pub(super) async fn stalled(&self, wall: Duration) {
        let end = self.began + Duration::from_millis(WALL_MS_MAX.into());
        loop {
            let until = (*lock(&self.last) + wall).min(end);
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }
}

/// Plain values are in there: whoever panicked has left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_moves_goes_on_and_what_stalls_or_takes_for_ever_ends() {
        let (progress, wall) = (Progress::new(&Method::GET), Duration::from_secs(10));
        for _ in 0..5 {
            let early = tokio::time::timeout(Duration::from_secs(9), progress.stalled(wall)).await;
            assert!(early.is_err(), "it has moved 9 s ago");
            progress.note();
        }
        let before = Instant::now();
        progress.stalled(wall).await;
        assert_eq!(before.elapsed().as_secs(), 10);
        let progress = Progress::new(&Method::GET);
        let moving = async {
            loop {
                tokio::time::sleep(Duration::from_secs(5)).await;
                progress.note();
            }
        };
        let before = Instant::now();
        tokio::select! {
            () = progress.stalled(wall) => {}
            () = moving => {}
        }
        assert_eq!(before.elapsed().as_secs(), 600);
    }
}
