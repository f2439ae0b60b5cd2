//! Turns: what is done to one handler is done one after the other, and what is done to others goes on
//! beside it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// Whose turn it is, by the name of a handler.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits until it is one's turn at the handler of this name. It ends when this is dropped.
    pub(super) async fn of(&self, name: &str) -> OwnedMutexGuard<()> {
        self.place(name).lock_owned().await
    }

    fn place(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody has or awaits the others.
        places.retain(|_, place| Arc::strong_count(place) > 1);
        Arc::clone(places.entry(name.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn a_handler_waits_for_itself_alone_and_leaves_nothing_behind() {
        let turns = Turns::default();
        let first = turns.of("a").await;
        assert!(turns.of("a").now_or_never().is_none(), "it waits");
        let other = turns.of("b").now_or_never();
        assert!(other.is_some(), "it does not wait");
        drop((first, other));
        assert!(turns.of("a").now_or_never().is_some());
        turns.of("c").await;
        assert_eq!(turns.0.lock().expect("it is whole").len(), 1);
    }
}
