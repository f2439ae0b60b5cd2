//! What goes wrong again and again, said once.

use super::limits::{COMPLAINT_AGAIN, COMPLAINT_COUNT_MAX};
use std::cell::RefCell;
use std::collections::HashMap;
use tokio::time::Instant;
use tracing::{debug, warn};

/// What was said, of whom, and when.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    said: RefCell<HashMap<String, (String, Instant)>>,
}

impl Complaints {
    /// Logs why there is no link with `peer`: as a warning where that is news.
    pub(super) fn say(&self, peer: &str, reason: &str) {
        if self.is_news(peer, reason) {
            warn!(%peer, %reason, "no link");
        } else {
            debug!(%peer, %reason, "no link");
        }
    }

    /// All is well with `peer`: what goes wrong next is news.
    pub(super) fn forget(&self, peer: &str) {
        self.said.borrow_mut().remove(peer);
    }

    fn is_news(&self, peer: &str, reason: &str) -> bool {
        let now = Instant::now();
        let mut said = self.said.borrow_mut();
        said.retain(|_, (_, at)| now.duration_since(*at) < COMPLAINT_AGAIN);
        if said.get(peer).is_some_and(|(before, _)| before == reason) {
            return false;
        }
        // With so many that complain, one more is no news.
        if said.len() >= COMPLAINT_COUNT_MAX && !said.contains_key(peer) {
            return false;
        }
        said.insert(peer.to_owned(), (reason.to_owned(), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_reason_is_news_once_until_it_changes_or_has_aged() {
        let complaints = Complaints::default();
        assert!(complaints.is_news("a", "refused"));
        assert!(!complaints.is_news("a", "refused"));
        assert!(complaints.is_news("b", "refused"), "another peer");
        assert!(complaints.is_news("a", "unreachable"), "another reason");
        complaints.forget("a");
        assert!(complaints.is_news("a", "unreachable"), "it was well meanwhile");
        tokio::time::advance(COMPLAINT_AGAIN + Duration::from_secs(1)).await;
        assert!(complaints.is_news("a", "unreachable"), "long ago");
    }

    #[tokio::test]
    async fn strangers_cannot_fill_the_log() {
        let complaints = Complaints::default();
        let news = (0..10_000).filter(|n| complaints.is_news(&n.to_string(), "garbage")).count();
        assert_eq!(news, COMPLAINT_COUNT_MAX);
    }
}
