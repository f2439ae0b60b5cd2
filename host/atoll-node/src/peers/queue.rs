//! Frames on their way out of one connection of a link, in order.

use atoll_core::wire::frame::{Farewell, Frame};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use tokio::sync::Notify;

/// What a frame takes beside its payload, in bytes.
const FRAME_OVERHEAD_BYTES: usize = 64;

/// The queue. On one thread: the machine fills it, a writer empties it.
#[derive(Debug)]
pub(super) struct Queue {
    frames: RefCell<VecDeque<Frame>>,
    bytes: Cell<usize>,
    bytes_max: usize,
    ending: RefCell<Option<Farewell>>,
    filled: Notify,
}

/// The peer takes less than it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overfull;

/// What a writer has to do.
#[derive(Debug)]
pub(super) enum Next {
    /// Write this.
    Frame(Frame),
    /// Nothing, until there is something.
    Nothing,
    /// Everything was taken, and nothing more will come.
    End(Farewell),
}

impl Queue {
    /// An empty queue that may grow to `bytes_max`.
    pub(super) fn new(bytes_max: usize) -> Queue {
        Queue {
            frames: RefCell::default(),
            bytes: Cell::new(0),
            bytes_max,
            ending: RefCell::default(),
            filled: Notify::new(),
        }
    }

    /// Adds a frame.
    pub(super) fn push(&self, frame: Frame) -> Result<(), Overfull> {
        let bytes = self.bytes.get() + cost(&frame);
        if bytes > self.bytes_max {
            return Err(Overfull);
        }
        self.bytes.set(bytes);
        self.frames.borrow_mut().push_back(frame);
        self.filled.notify_one();
        Ok(())
    }

    /// Nothing more will be added.
    pub(super) fn end(&self, farewell: Farewell) {
        self.ending.borrow_mut().get_or_insert(farewell);
        self.filled.notify_one();
    }

    /// Takes what is to be written next.
    pub(super) fn take(&self) -> Next {
        if let Some(frame) = self.frames.borrow_mut().pop_front() {
            self.bytes.set(self.bytes.get() - cost(&frame));
            return Next::Frame(frame);
        }
        match &*self.ending.borrow() {
            Some(farewell) => Next::End(farewell.clone()),
            None => Next::Nothing,
        }
    }

    /// Waits until there may be something to take.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }
}

fn cost(frame: &Frame) -> usize {
    FRAME_OVERHEAD_BYTES + frame.weight() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn chunk(len: usize) -> Frame {
        Frame::Chunk(Bytes::from(vec![0; len]))
    }

    #[test]
    fn frames_leave_in_order_and_the_farewell_last() {
        let queue = Queue::new(10_000);
        queue.push(Frame::NeedSync).expect("there is room");
        queue.push(chunk(1)).expect("there is room");
        queue.end(Farewell::Stopping);
        queue.end(Farewell::Duplicate);
        assert!(matches!(queue.take(), Next::Frame(Frame::NeedSync)));
        assert!(matches!(queue.take(), Next::Frame(Frame::Chunk(_))));
        assert!(matches!(queue.take(), Next::End(Farewell::Stopping)), "the first one counts");
    }

    #[test]
    fn a_peer_that_does_not_read_costs_no_more_than_the_bound() {
        let queue = Queue::new(10_000);
        let taken = (0..1_000).take_while(|_| queue.push(chunk(1_000)).is_ok()).count();
        assert_eq!(taken, 10_000 / (1_000 + 32 + FRAME_OVERHEAD_BYTES));
        while let Next::Frame(_) = queue.take() {}
        assert_eq!(queue.push(chunk(9_000)), Ok(()), "what was taken makes room");
    }
}
