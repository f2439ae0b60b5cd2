//! Values that are being made: who makes one, and who waits for it.
//!
//! One table for each version of each handler: what one handler holds up is its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// A bucket and a key in it.
type Name = (String, String);

/// The values that are being made. Bounded by the fillings that all instances may hold.
#[derive(Debug, Default)]
pub(crate) struct Fills(Mutex<HashMap<Name, watch::Receiver<()>>>);

/// The turn to make a value; over when it is dropped.
#[derive(Debug)]
pub(crate) struct Filling {
    name: Name,
    fills: Arc<Fills>,
    /// Those who wait see it go.
    _turn: watch::Sender<()>,
}

/// Somebody else's turn.
#[derive(Debug)]
pub(crate) struct Turn(watch::Receiver<()>);

impl Turn {
    /// Waits until it is over.
    pub(crate) async fn over(mut self) {
        // Nothing is ever sent: the error is that the sender has gone.
        while self.0.changed().await.is_ok() {}
    }
}

impl Fills {
    /// Takes the turn to make a value, unless somebody has it.
    pub(crate) fn claim(self: &Arc<Self>, bucket: &str, key: &str) -> Result<Filling, Turn> {
        let name = (bucket.to_owned(), key.to_owned());
        let mut table = self.table();
        if let Some(turn) = table.get(&name) {
            return Err(Turn(turn.clone()));
        }
        let (sender, receiver) = watch::channel(());
        table.insert(name.clone(), receiver);
        drop(table);
        Ok(Filling { name, fills: Arc::clone(self), _turn: sender })
    }

    /// Every change is one step: whoever panicked has left a whole table.
    fn table(&self) -> MutexGuard<'_, HashMap<Name, watch::Receiver<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Filling {
    /// The bucket.
    pub(crate) fn bucket(&self) -> &str {
        &self.name.0
    }

    /// The key in it.
    pub(crate) fn key(&self) -> &str {
        &self.name.1
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        // Before the sender goes: who then looks finds the turn free.
        self.fills.table().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_has_the_turn_and_the_next_gets_it_when_it_is_over() {
        let fills = Arc::new(Fills::default());
        let first = fills.claim("b", "k").unwrap();
        assert!(fills.claim("b", "other").is_ok(), "another key is free");
        let turn = fills.claim("b", "k").unwrap_err();
        let waiting = tokio::spawn(turn.over());
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap();
        drop(fills.claim("b", "k").unwrap());
        assert!(fills.table().is_empty(), "nothing is left of what is over");
    }
}
