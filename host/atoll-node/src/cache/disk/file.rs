//! A body in a file of its own: checked when it comes from the disk, sent by the kernel.
//!
//! A chunk that lies in the system's memory has been checked when it got there, so it is handed to
//! the kernel as it is. One that does not is read by a thread that may wait for the disk, and compared
//! with its checksum: what the disk has changed is never sent.

use super::limits::CHUNK_BYTES;
use crate::listen::files::Files;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::warn;
use xxhash_rust::xxh3::xxh3_64;

/// A body in a file.
#[derive(Debug)]
pub(crate) struct BodyFile {
    bytes: u64,
    /// One for each chunk.
    hashes: Box<[u64]>,
    /// The chunks that have been read and found right, or that this process has written.
    checked: Box<[AtomicBool]>,
    /// Which file it is, of all that this directory ever had.
    pub(super) number: u64,
    place: Mutex<Place>,
    /// It is no longer one of the disk tier's.
    gone: AtomicBool,
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    open: Option<Arc<File>>,
    /// Nothing refers to it yet: it goes with whoever has it.
    is_new: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_new {
            // What is left is removed at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// What a body file is made of.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) hashes: Vec<u64>,
    pub(super) number: u64,
    pub(super) path: PathBuf,
    /// Where this process has just written it.
    pub(super) open: Option<Arc<File>>,
}

impl BodyFile {
    pub(super) fn new(written: Written) -> BodyFile {
        let Written { bytes, hashes, number, path, open } = written;
        let is_checked = open.is_some();
        BodyFile {
            bytes,
            checked: hashes.iter().map(|_| AtomicBool::new(is_checked)).collect(),
            hashes: hashes.into(),
            number,
            place: Mutex::new(Place { path, open, is_new: is_checked }),
            gone: AtomicBool::new(false),
        }
    }

    /// Its length.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// Whether the disk tier has let go of it.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// The disk tier lets go of it: who reads it goes on, nobody begins.
    pub(super) fn forget(&self) {
        self.gone.store(true, Ordering::Release);
        self.close();
    }

    /// The disk tier will not have it after all: who reads it goes on, and it takes no place then.
    pub(super) fn drop_out(&self) {
        self.gone.store(true, Ordering::Release);
        let mut place = self.place();
        place.open = None;
        if std::mem::take(&mut place.is_new) {
            // What is left is removed at the next start.
            let _ = std::fs::remove_file(&place.path);
        }
    }

    /// Gives its descriptor back; the next reader opens it anew.
    pub(super) fn close(&self) {
        self.place().open = None;
    }

    /// It has its last name from here on.
    pub(super) fn moved_in(&self, path: PathBuf) {
        let mut place = self.place();
        place.path = path;
        place.is_new = false;
    }

    pub(super) fn path(&self) -> PathBuf {
        self.place().path.clone()
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The open file. One that has another length than it should is not opened.
    pub(super) fn open(&self) -> io::Result<Arc<File>> {
        let mut place = self.place();
        if let Some(file) = &place.open {
            return Ok(Arc::clone(file));
        }
        let file = File::open(&place.path)?;
        if file.metadata()?.len() != self.bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it has another length"));
        }
        let file = Arc::new(file);
        if !self.is_gone() {
            place.open = Some(Arc::clone(&file));
        }
        Ok(file)
    }

    /// Reads the chunk in which `offset` lies and compares it with its checksum. Waits for the disk.
    pub(super) fn check(&self, file: &File, offset: u64) -> io::Result<Bytes> {
        let index = (offset / CHUNK_BYTES) as usize;
        let start = index as u64 * CHUNK_BYTES;
        let length = (self.bytes.saturating_sub(start)).min(CHUNK_BYTES) as usize;
        let mut chunk = vec![0; length];
        file.read_exact_at(&mut chunk, start)?;
        if self.hashes.get(index) != Some(&xxh3_64(&chunk)) {
            self.forget();
            warn!("a body on the disk has changed there; it is dropped");
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its checksum does not fit"));
        }
        self.checked[index].store(true, Ordering::Release);
        Ok(chunk.into())
    }

    /// The bytes from `first` to `last`, checked. Waits for the disk.
    pub(crate) fn slice(&self, first: u64, last: u64) -> io::Result<Vec<Bytes>> {
        let file = self.open()?;
        let mut pieces = Vec::new();
        let mut offset = first;
        while offset <= last {
            let chunk = self.check(&file, offset)?;
            let start = offset / CHUNK_BYTES * CHUNK_BYTES;
            let end = (last + 1 - start).min(chunk.len() as u64);
            pieces.push(chunk.slice((offset - start) as usize..end as usize));
            offset = start + end;
        }
        Ok(pieces)
    }

    /// How many bytes from `offset` on, of at most `bytes`, are checked and in the system's memory.
    fn ready_bytes(&self, file: &File, offset: u64, bytes: u64) -> u64 {
        let mut end = offset;
        while end < offset + bytes {
            let index = (end / CHUNK_BYTES) as usize;
            let is_checked =
                self.checked.get(index).is_some_and(|checked| checked.load(Ordering::Acquire));
            let chunk_end = ((end / CHUNK_BYTES + 1) * CHUNK_BYTES).min(offset + bytes);
            if !is_checked || !is_in_memory(file, end) || !is_in_memory(file, chunk_end - 1) {
                break;
            }
            end = chunk_end;
        }
        end - offset
    }
}

/// Whether a byte can be read without waiting for the disk; `true` where the system does not say.
#[cfg(target_os = "linux")]
fn is_in_memory(file: &File, offset: u64) -> bool {
    let mut byte = [0];
    let mut buffers = [io::IoSliceMut::new(&mut byte)];
    let flags = rustix::io::ReadWriteFlags::NOWAIT;
    rustix::io::preadv2(file, &mut buffers, offset, flags) != Err(rustix::io::Errno::AGAIN)
}

#[cfg(not(target_os = "linux"))]
fn is_in_memory(_: &File, _: u64) -> bool {
    true
}

/// A chunk that is read, and the file that it is of.
type Chunk = JoinHandle<io::Result<(Arc<File>, Bytes)>>;

/// A part of a body file on its way to a client.
pub(crate) struct Sending {
    body: Arc<BodyFile>,
    way: Option<Files>,
    file: Option<Arc<File>>,
    offset: u64,
    left: u64,
    reading: Option<Chunk>,
}

impl Sending {
    /// `left` bytes of `body` from `offset` on; the kernel sends them where there is a way.
    pub(crate) fn new(
        body: &Arc<BodyFile>,
        (offset, left): (u64, u64),
        way: Option<Files>,
    ) -> Self {
        Sending { body: Arc::clone(body), way, file: None, offset, left, reading: None }
    }

    /// The next bytes that the kernel can send by itself.
    fn hand_over(&mut self, context: &mut Context<'_>) -> Option<Bytes> {
        let (file, way) = (self.file.as_ref()?, self.way.as_ref()?);
        let bytes = self.body.ready_bytes(file, self.offset, self.left.min(HAND_OVER_BYTES));
        if bytes == 0 {
            return None;
        }
        let mut part = way.body(Arc::clone(file), self.offset, bytes);
        match http_body::Body::poll_frame(Pin::new(&mut part), context) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
            _ => None,
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.offset += bytes as u64;
        self.left -= bytes as u64;
    }
}

/// Most bytes that are handed to the kernel at once: one stand-in stands for no more.
const HAND_OVER_BYTES: u64 = 16 << 20;

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if this.left == 0 {
            return Poll::Ready(None);
        }
        if this.reading.is_none() {
            if this.file.is_none() && this.way.is_some() {
                // Mostly it is open; a name that was looked up before costs little.
                this.file = this.body.open().ok();
            }
            if let Some(bytes) = this.hand_over(context) {
                this.advance(bytes.len());
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
        let (body, offset) = (&this.body, this.offset);
        let reading = this.reading.get_or_insert_with(|| {
            let body = Arc::clone(body);
            spawn_blocking(move || {
                let file = body.open()?;
                let chunk = body.check(&file, offset)?;
                Ok((file, chunk))
            })
        });
        let read = ready!(Pin::new(reading).poll(context));
        this.reading = None;
        let read = read.unwrap_or_else(|_| Err(io::Error::other("the reading thread has gone")));
        let (file, chunk) = match read {
            Ok(read) => read,
            Err(error) => {
                this.left = 0;
                return Poll::Ready(Some(Err(error)));
            }
        };
        this.file = Some(file);
        if let Some(bytes) = this.hand_over(context) {
            this.advance(bytes.len());
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let from = (this.offset % CHUNK_BYTES) as usize;
        let bytes = chunk.slice(from..);
        let bytes =
            bytes.slice(..bytes.len().min(usize::try_from(this.left).unwrap_or(usize::MAX)));
        this.advance(bytes.len());
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
