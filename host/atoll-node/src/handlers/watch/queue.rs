//! The changes that wait for one watcher, and the task that tells it of them, one after the other.

use super::figures::{Figures, Lost};
use crate::handlers::Handlers;
use crate::handlers::deployed::Standing;
use atoll_core::clock::Hlc;
use atoll_core::key::BucketName;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Changes that wait for a watcher; what comes while it is full is dropped and counted.
const WAITING_COUNT_MAX: usize = 1_024;
/// Bytes of their keys and values.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// A change on its way to a watcher.
#[derive(Clone, Debug)]
pub(super) struct News {
    pub(super) bucket: BucketName,
    pub(super) key: Bytes,
    pub(super) what: What,
    /// When it was made.
    pub(super) made: Hlc,
    /// Calls of watchers that led to it.
    pub(super) chain: u8,
    /// Which version of the handler is told.
    pub(super) to: Standing,
}

/// What became of a key.
#[derive(Clone, Debug)]
pub(super) enum What {
    Set(Bytes),
    /// Its sum is to be read: it takes in what other nodes count.
    Counted,
    /// It came by a sync: what it shows is to be read.
    Arrived,
    Deleted,
}

impl News {
    fn bytes(&self) -> usize {
        let value = match &self.what {
            What::Set(value) => value.len(),
            What::Counted | What::Arrived | What::Deleted => 0,
        };
        self.key.len() + value
    }
}

/// The way to one watcher. Its task ends when this is dropped.
#[derive(Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<News>,
    waiting_bytes: Arc<AtomicUsize>,
}

impl Queue {
    /// A queue for the handler of this name, and its task among `tasks`.
    pub(super) fn start(
        handlers: &Arc<Handlers>,
        name: &str,
        figures: &Figures,
        tasks: &mut JoinSet<()>,
    ) -> Queue {
        let (sender, receiver) = mpsc::channel(WAITING_COUNT_MAX);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let teller = Teller {
            handlers: Arc::clone(handlers),
            name: name.to_owned(),
            figures: figures.clone(),
            receiver,
            waiting_bytes: Arc::clone(&waiting_bytes),
        };
        tasks.spawn(teller.run());
        Queue { sender, waiting_bytes }
    }

    /// Puts a change at the end.
    pub(super) fn put(&self, news: News) -> Result<(), Lost> {
        let bytes = news.bytes();
        if self.waiting_bytes.load(Ordering::Relaxed) + bytes > WAITING_BYTES_MAX {
            return Err(Lost::QueueFull);
        }
        self.sender.try_send(news).map_err(|_| Lost::QueueFull)?;
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

/// The task that tells one watcher.
struct Teller {
    handlers: Arc<Handlers>,
    name: String,
    figures: Figures,
    receiver: mpsc::Receiver<News>,
    waiting_bytes: Arc<AtomicUsize>,
}

impl Teller {
    async fn run(mut self) {
        while let Some(news) = self.receiver.recv().await {
            self.figures.waits(&self.name, self.receiver.len() + 1, news.made, &self.handlers.node);
            let bytes = news.bytes();
            self.handlers.tell(&self.name, news, &self.figures).await;
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            if self.receiver.is_empty() {
                self.figures.rests(&self.name);
            }
        }
        self.figures.forget(&self.name);
    }
}
