//! What waits for one listener, within bounds.

use super::{Message, Messages};
use crate::limits::{LISTENER_QUEUE_BYTES_MAX, LISTENERS_QUEUE_BYTES_MAX};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

/// What a queued message costs beside its text, in bytes.
const MESSAGE_OVERHEAD_BYTES: usize = size_of::<Message>();

/// What waits for one listener.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inner: Mutex<Waiting>,
}

#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) messages: VecDeque<Message>,
    pub(super) bytes: usize,
    pub(super) is_cut_off: bool,
    waker: Option<Waker>,
    /// Whether the waker is for the end only: its task is busy writing.
    pub(super) waits_for_end: bool,
}

impl Queue {
    pub(super) fn push(&self, message: Message, messages: &Messages) {
        let mut waiting = self.lock();
        if waiting.is_cut_off {
            return;
        }
        let bytes = message_bytes(&message);
        let all = messages.queued_bytes.fetch_add(bytes, Relaxed) + bytes;
        waiting.messages.push_back(message);
        waiting.bytes += bytes;
        // While all queues together are within their budget, one may be much longer than others.
        let share = LISTENERS_QUEUE_BYTES_MAX / messages.listener_count.load(Relaxed).max(1);
        let is_greedy = all > LISTENERS_QUEUE_BYTES_MAX && waiting.bytes > share;
        if waiting.bytes > LISTENER_QUEUE_BYTES_MAX || is_greedy {
            waiting.is_cut_off = true;
            waiting.forget(messages);
            messages.cut_off_count.fetch_add(1, Relaxed);
        }
        if (waiting.is_cut_off || !waiting.waits_for_end)
            && let Some(waker) = waiting.waker.take()
        {
            waker.wake();
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A message is in the queue or not: a panic leaves nothing half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    pub(super) fn park(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            waker => *waker = Some(cx.waker().clone()),
        }
    }

    pub(super) fn forget(&mut self, messages: &Messages) {
        messages.queued_bytes.fetch_sub(self.bytes, Relaxed);
        self.bytes = 0;
        self.messages = VecDeque::new();
    }
}

pub(super) fn message_bytes(message: &Message) -> usize {
    MESSAGE_OVERHEAD_BYTES + message.channel.len() + message.payload.len()
}
