//! One listener, as its connection has it.

use super::queue::{Queue, message_bytes};
use super::{Interest, Message, Messages, SubscribeError};
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

/// One listener: what it listens to, and what waits for it. It listens to nothing once dropped.
#[derive(Debug)]
pub struct Subscriber {
    messages: Arc<Messages>,
    id: u64,
    queue: Arc<Queue>,
    channels: BTreeSet<Bytes>,
    patterns: BTreeSet<Bytes>,
}

impl Subscriber {
    /// A listener to nothing yet.
    pub fn new(messages: Arc<Messages>) -> Subscriber {
        let id = messages.latest_id.fetch_add(1, Relaxed) + 1;
        messages.listener_count.fetch_add(1, Relaxed);
        let queue = Arc::default();
        Subscriber { messages, id, queue, channels: BTreeSet::new(), patterns: BTreeSet::new() }
    }

    /// Listens to one name more. Doing so twice is doing so once.
    pub fn subscribe(&mut self, interest: Interest, name: &[u8]) -> Result<(), SubscribeError> {
        if self.names(interest).contains(name) {
            return Ok(());
        }
        self.messages.reserve(interest, name)?;
        let name = Bytes::copy_from_slice(name);
        let entered = self.messages.enter((interest, &name), self.id, &self.queue);
        entered.inspect_err(|_| self.messages.release(&name))?;
        self.names_mut(interest).insert(name);
        Ok(())
    }

    /// Stops listening to one name. Doing so without having listened is nothing.
    pub fn unsubscribe(&mut self, interest: Interest, name: &[u8]) {
        let Some(name) = self.names_mut(interest).take(name) else { return };
        self.messages.leave((interest, &name), self.id);
        self.messages.release(&name);
    }

    /// What it listens to, in order.
    pub fn names(&self, interest: Interest) -> &BTreeSet<Bytes> {
        match interest {
            Interest::Channel => &self.channels,
            Interest::Pattern => &self.patterns,
        }
    }

    /// To how many names it listens.
    pub fn count(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    /// The oldest message that waits.
    pub fn take(&self) -> Option<Message> {
        let mut waiting = self.queue.lock();
        let message = waiting.messages.pop_front()?;
        let bytes = message_bytes(&message);
        waiting.bytes -= bytes;
        self.messages.queued_bytes.fetch_sub(bytes, Relaxed);
        if waiting.messages.is_empty() {
            // A burst's memory is given back.
            waiting.messages = VecDeque::new();
        }
        Some(message)
    }

    /// Whether it took its messages too slowly: it gets no more of them.
    pub fn is_cut_off(&self) -> bool {
        self.queue.lock().is_cut_off
    }

    /// Ready once a message waits, or the listener was cut off.
    pub fn poll_ready(&self, cx: &Context<'_>) -> Poll<()> {
        let mut waiting = self.queue.lock();
        if waiting.is_cut_off || !waiting.messages.is_empty() {
            return Poll::Ready(());
        }
        waiting.park(cx);
        waiting.waits_for_end = false;
        Poll::Pending
    }

    /// Ready once the listener was cut off. Messages wake nobody meanwhile.
    pub fn poll_cut_off(&self, cx: &Context<'_>) -> Poll<()> {
        let mut waiting = self.queue.lock();
        if waiting.is_cut_off {
            return Poll::Ready(());
        }
        waiting.park(cx);
        waiting.waits_for_end = true;
        Poll::Pending
    }

    fn names_mut(&mut self, interest: Interest) -> &mut BTreeSet<Bytes> {
        match interest {
            Interest::Channel => &mut self.channels,
            Interest::Pattern => &mut self.patterns,
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        for interest in [Interest::Channel, Interest::Pattern] {
            for name in std::mem::take(self.names_mut(interest)) {
                self.messages.leave((interest, &name), self.id);
                self.messages.release(&name);
            }
        }
        self.queue.lock().forget(&self.messages);
        self.messages.listener_count.fetch_sub(1, Relaxed);
    }
}
