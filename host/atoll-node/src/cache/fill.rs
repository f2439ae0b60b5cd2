//! A body that is read by several while it comes.
//!
//! Pieces are kept for as long as the whole is to be stored. Once that is given up, because it became
//! too long, only what the slowest reader has yet to take is kept, and the upstream waits for it. Of a
//! body that is written to the disk as it comes, a window is kept; who is behind that reads the file.
//!
//! Nobody gets the last byte of a body that is to be stored before it is: whoever has had an answer
//! whole finds it stored.

use super::budget::Budget;
use super::limits::{FIRST_READER_WAIT, WINDOW_BYTES, WINDOW_BYTES_MIN};
use atoll_core::http_cache::freshness::Exchanged;
use atoll_core::http_cache::partial::Span;
use atoll_core::http_cache::storing::Meta;
use atoll_core::http_cache::vary::Vary;
use atoll_core::replica::vector::Vector;
use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// What is read of a file at once, in bytes.
const READ_BYTES: u64 = 256 * 1024;

/// A response whose body is coming.
#[derive(Debug)]
pub(crate) struct Fill {
    pub(crate) head: Head,
    state: Mutex<State>,
    /// Changes with each piece.
    grown: watch::Sender<()>,
    /// Rung when a reader has come, gone or taken something.
    taken: Notify,
}

/// The head of a response that is filled.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    /// Ready to be sent, but for Age and Cache-Status.
    pub(crate) headers: HeaderMap,
    /// Fields that go to the one alone who has asked.
    pub(crate) own_fields: HeaderMap,
    pub(crate) meta: Meta,
    pub(crate) exchanged: Exchanged,
    pub(crate) span: Option<Span>,
    /// Length of the body, where the upstream has told it.
    pub(crate) length: Option<u64>,
    /// Which requests it answers, and what they have in common.
    pub(crate) vary: Vary,
    pub(crate) selecting: Vec<u8>,
    /// Hashes of the keys of the store that it was made from, and when its fetch began.
    pub(crate) keys: Box<[u64]>,
    pub(crate) fetched_us: u64,
    /// Whether another node has fetched it.
    pub(crate) is_shielded: bool,
    /// What this node included when it began to fetch it, where it is for other nodes as well.
    pub(crate) marks: Option<Box<Vector>>,
}

#[derive(Debug)]
struct State {
    /// Of which `kept_bytes` are taken.
    budget: Arc<Budget>,
    pieces: VecDeque<Bytes>,
    /// Number of pieces that are no longer kept, and their bytes.
    gone: usize,
    gone_bytes: u64,
    bytes: u64,
    kept_bytes: usize,
    spooled: Spooled,
    is_windowed: bool,
    end: Option<End>,
    next_reader: u64,
    /// The next piece of each reader.
    readers: BTreeMap<u64, usize>,
}

/// How much of a body is in a file.
#[derive(Debug, Default)]
struct Spooled {
    file: Option<Arc<File>>,
    /// Number of pieces that are in it, from the first on.
    pieces: usize,
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Complete,
    Broken,
}

/// The upstream broke off.
#[derive(Debug, thiserror::Error)]
#[error("the upstream ended the response too early")]
pub(crate) struct Broken;

impl Fill {
    /// One whose pieces are taken out of `budget`.
    pub(crate) fn new(head: Head, budget: &Arc<Budget>) -> Arc<Fill> {
        let state = State {
            budget: Arc::clone(budget),
            pieces: VecDeque::new(),
            gone: 0,
            gone_bytes: 0,
            bytes: 0,
            kept_bytes: 0,
            spooled: Spooled::default(),
            is_windowed: false,
            end: None,
            next_reader: 0,
            readers: BTreeMap::new(),
        };
        Arc::new(Fill {
            head,
            state: Mutex::new(state),
            grown: watch::Sender::new(()),
            taken: Notify::new(),
        })
    }

    /// Adds a piece. Returns the number of bytes so far.
    pub(crate) fn push(&self, piece: &Bytes) -> u64 {
        let mut state = self.state();
        // A copy: what came may be a small part of a large buffer.
        state.pieces.push_back(Bytes::copy_from_slice(piece));
        state.bytes += piece.len() as u64;
        state.kept_bytes += piece.len();
        state.budget.take(piece.len() as u64);
        let bytes = state.bytes;
        drop(state);
        self.grown.send_replace(());
        bytes
    }

    /// From now on the body goes into `file` as well: see [`Fill::unspooled`].
    pub(crate) fn begin_spooling(&self, file: &Arc<File>) {
        self.state().spooled.file = Some(Arc::clone(file));
    }

    /// The pieces that are not in the file yet.
    pub(crate) fn unspooled(&self) -> Vec<Bytes> {
        let state = self.state();
        state.pieces.iter().skip(state.spooled.pieces - state.gone).cloned().collect()
    }

    /// So many more pieces are in the file: they need not be kept.
    pub(crate) fn note_spooled(&self, count: usize) {
        let mut state = self.state();
        state.spooled.pieces += count;
        state.forget_spooled();
    }

    /// From now on it is not going to be stored.
    pub(crate) fn give_up_storing(&self) {
        self.state().is_windowed = true;
        // Its end is not held back any more.
        self.grown.send_replace(());
    }

    /// Waits until the readers have taken enough. Returns whether there are any left. The first one
    /// may yet be on its way.
    pub(crate) async fn has_room(&self) -> bool {
        loop {
            let taken = self.taken.notified();
            let is_new = {
                let mut state = self.state();
                let is_new = state.next_reader == 0;
                if state.readers.is_empty() && !is_new {
                    return false;
                }
                state.forget_taken();
                if state.kept_bytes <= state.window_bytes() {
                    return true;
                }
                is_new
            };
            if !is_new {
                taken.await;
            } else if timeout(FIRST_READER_WAIT, taken).await.is_err() {
                return false;
            }
        }
    }

    /// What is kept: all that has come, where no file has it and it is to be stored.
    pub(crate) fn pieces(&self) -> Vec<Bytes> {
        self.state().pieces.iter().cloned().collect()
    }

    /// The whole body has come, and is stored if it is to be.
    pub(crate) fn complete(&self) {
        self.end(End::Complete);
    }

    /// The upstream broke off: readers are told.
    pub(crate) fn fail(&self) {
        self.end(End::Broken);
    }

    fn end(&self, end: End) {
        self.state().end = Some(end);
        self.grown.send_replace(());
    }

    /// Reads from the start. `None` where that is no longer kept.
    pub(crate) fn reader(self: &Arc<Self>) -> Option<Reader> {
        let mut state = self.state();
        if state.gone > 0 && (state.spooled.file.is_none() || state.is_windowed) {
            return None;
        }
        let number = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(number, 0);
        drop(state);
        self.taken.notify_waiters();
        let grown = self.grown.subscribe();
        Some(Reader { fill: Arc::clone(self), number, at: 0, offset: 0, grown })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How far a body of this length may be read now: not to its end while it is yet to be stored.
    fn readable_bytes(&self, length: Option<u64>) -> u64 {
        let is_to_be_stored = self.end.is_none() && !self.is_windowed;
        length.filter(|_| is_to_be_stored).map_or(u64::MAX, |length| length.saturating_sub(1))
    }

    /// Lets go of what every reader has taken, unless it is to be stored.
    fn forget_taken(&mut self) {
        // The first reader wants all of it.
        if !self.is_windowed || self.next_reader == 0 {
            return;
        }
        let slowest = self.readers.values().copied().min().unwrap_or(usize::MAX);
        while self.gone < slowest && self.forget_first() {}
    }

    /// Lets go of what is in the file, but for a window for those who keep up.
    fn forget_spooled(&mut self) {
        let window_bytes = self.window_bytes();
        while self.gone < self.spooled.pieces && self.kept_bytes > window_bytes {
            self.forget_first();
        }
    }

    /// What is kept of a body that is not stored, or that a file has.
    fn window_bytes(&self) -> usize {
        if self.budget.is_over() { WINDOW_BYTES_MIN } else { WINDOW_BYTES }
    }

    fn forget_first(&mut self) -> bool {
        let Some(piece) = self.pieces.pop_front() else { return false };
        self.kept_bytes -= piece.len();
        self.budget.give(piece.len() as u64);
        self.gone += 1;
        self.gone_bytes += piece.len() as u64;
        true
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.budget.give(self.kept_bytes as u64);
    }
}

/// One who reads while it comes.
#[derive(Debug)]
pub(crate) struct Reader {
    fill: Arc<Fill>,
    number: u64,
    /// The next piece, and its first byte that was not taken.
    at: usize,
    offset: u64,
    grown: watch::Receiver<()>,
}

/// What a reader does next.
enum Step {
    Take(Bytes),
    /// Read the file up to this byte: what comes before it is no longer kept.
    ReadFile(Arc<File>, u64),
    Stop(Option<Broken>),
    Wait,
}

impl Reader {
    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        loop {
            self.grown.mark_unchanged();
            match self.step() {
                Step::Take(piece) => {
                    self.fill.taken.notify_waiters();
                    return Some(Ok(piece));
                }
                Step::ReadFile(file, end) => {
                    let read = read(file, self.offset, end).await;
                    self.offset += read.as_ref().map_or(0, |piece| piece.len() as u64);
                    return Some(read);
                }
                Step::Stop(broken) => return broken.map(Err),
                Step::Wait => {}
            }
            // The fill holds the sender for as long as there is one.
            if self.grown.changed().await.is_err() {
                return Some(Err(Broken));
            }
        }
    }

    fn step(&mut self) -> Step {
        let mut state = self.fill.state();
        let readable_bytes = state.readable_bytes(self.fill.head.length);
        if self.offset < state.gone_bytes {
            let Some(file) = &state.spooled.file else { return Step::Stop(Some(Broken)) };
            let end = state.gone_bytes.min(readable_bytes);
            return if self.offset < end {
                Step::ReadFile(Arc::clone(file), end)
            } else {
                Step::Wait
            };
        }
        // One who has read the file goes on with what is kept.
        self.at = self.at.max(state.gone);
        if let Some(piece) = state.pieces.get(self.at - state.gone).cloned() {
            if self.offset + piece.len() as u64 > readable_bytes {
                return Step::Wait;
            }
            self.at += 1;
            self.offset += piece.len() as u64;
            state.readers.insert(self.number, self.at);
            return Step::Take(piece);
        }
        match state.end {
            Some(End::Complete) => Step::Stop(None),
            Some(End::Broken) => Step::Stop(Some(Broken)),
            None => Step::Wait,
        }
    }

    /// The bytes from `first` to `last`, which are known to exist; all of them without.
    pub(crate) fn into_body(self, part: Option<(u64, u64)>) -> Body {
        let length = match part {
            Some((first, last)) => Some(last + 1 - first),
            None => self.fill.head.length,
        };
        let (first, last) = part.unwrap_or((0, u64::MAX));
        let pieces = stream::unfold(Some((self, 0_u64)), move |state| async move {
            let (mut reader, mut offset) = state?;
            loop {
                if offset > last {
                    return None;
                }
                let piece = match reader.next().await? {
                    Ok(piece) => piece,
                    Err(error) => return Some((Err(error), None)),
                };
                let start = offset;
                offset += piece.len() as u64;
                if offset <= first {
                    continue;
                }
                let from = first.saturating_sub(start) as usize;
                let to = last.saturating_add(1).saturating_sub(start).min(piece.len() as u64);
                return Some((Ok(piece.slice(from..to as usize)), Some((reader, offset))));
            }
        });
        match length {
            Some(length) => Body::new(WithLength { body: Body::from_stream(pieces), left: length }),
            None => Body::from_stream(pieces),
        }
    }
}

/// Some of the bytes from `offset` to `end` of a file that has them.
async fn read(file: Arc<File>, offset: u64, end: u64) -> Result<Bytes, Broken> {
    let bytes = (end - offset).min(READ_BYTES) as usize;
    let reading = spawn_blocking(move || {
        let mut piece = vec![0; bytes];
        file.read_exact_at(&mut piece, offset).map(|()| Bytes::from(piece))
    });
    reading.await.ok().and_then(Result::ok).ok_or(Broken)
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.fill.state().readers.remove(&self.number);
        self.fill.taken.notify_waiters();
    }
}

/// A body of a known length.
struct WithLength {
    body: Body,
    left: u64,
}

impl http_body::Body for WithLength {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        let frame = std::pin::Pin::new(&mut self.body).poll_frame(context);
        if let std::task::Poll::Ready(Some(Ok(frame))) = &frame {
            let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
            self.left = self.left.saturating_sub(bytes);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests;
