//! A bell for one listener, cheap to ring where it has been rung already.

use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// The bell. Ringing it costs a load until the listener has cleared it.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    listener: Notify,
}

impl Bell {
    /// Wakes the listener, now or when it next listens. Does not block.
    pub(crate) fn ring(&self) {
        if !self.rung.load(Ordering::Relaxed) && !self.rung.swap(true, Ordering::AcqRel) {
            self.listener.notify_one();
        }
    }

    /// Completes when the bell has been rung since it was cleared.
    pub(crate) async fn heard(&self) {
        self.listener.notified().await;
    }

    /// From here on the bell wakes again. To be called before the look at what it rang for.
    pub(crate) fn clear(&self) {
        self.rung.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn it_wakes_once_until_it_is_cleared() {
        let bell = Bell::default();
        let is_heard = || bell.heard().now_or_never().is_some();
        assert!(!is_heard());
        bell.ring();
        bell.ring();
        assert!(is_heard());
        bell.ring();
        assert!(!is_heard(), "the listener knows");
        bell.clear();
        assert!(!is_heard());
        bell.ring();
        assert!(is_heard());
    }
}
