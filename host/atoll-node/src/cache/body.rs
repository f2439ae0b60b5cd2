//! Bodies of stored responses: small ones as pieces of memory, large ones as files in memory, which
//! the kernel sends without a copy, or in files of the disk tier.

use super::disk::file::BodyFile;
use super::limits::{FILE_BYTES_MIN, FILE_COUNT_MAX, PIECE_BYTES};
use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

/// A stored body. A copy of it shares its bytes.
#[derive(Clone, Debug)]
pub(crate) enum StoredBody {
    Pieces(Arc<[Bytes]>),
    File {
        file: Arc<File>,
        bytes: u64,
        _place: Arc<Place>,
    },
    /// A file of the disk tier.
    Disk(Arc<BodyFile>),
}

/// Which body something was made from.
#[derive(Debug)]
pub(crate) enum Identity {
    Pieces(Weak<[Bytes]>),
    File(Weak<File>),
    Disk(Weak<BodyFile>),
}

impl Identity {
    /// Whether it is that of `body`: its place is not used again as long as this is there.
    pub(crate) fn is_of(&self, body: &StoredBody) -> bool {
        match (self, body) {
            (Identity::Pieces(ours), StoredBody::Pieces(pieces)) => {
                std::ptr::addr_eq(ours.as_ptr(), Arc::as_ptr(pieces))
            }
            (Identity::File(ours), StoredBody::File { file, .. }) => {
                std::ptr::addr_eq(ours.as_ptr(), Arc::as_ptr(file))
            }
            (Identity::Disk(ours), StoredBody::Disk(body)) => {
                std::ptr::addr_eq(ours.as_ptr(), Arc::as_ptr(body))
            }
            _ => false,
        }
    }
}

/// One of the files that there may be: each takes a descriptor, which connections need as well.
#[derive(Debug)]
pub(crate) struct Place(());

static TAKEN: AtomicUsize = AtomicUsize::new(0);

impl Place {
    fn take() -> Option<Place> {
        let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
        // Given back at once where there was none.
        let place = Place(());
        (taken < FILE_COUNT_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        TAKEN.fetch_sub(1, Ordering::Relaxed);
    }
}

impl StoredBody {
    /// Takes what has come.
    pub(crate) fn of(pieces: Vec<Bytes>) -> StoredBody {
        let bytes: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        if bytes >= FILE_BYTES_MIN
            && let Some(place) = Place::take()
            && let Ok(file) = file_of(&pieces)
        {
            return StoredBody::File { file: Arc::new(file), bytes, _place: Arc::new(place) };
        }
        StoredBody::Pieces(gather(pieces).into())
    }

    /// Its length.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            StoredBody::Pieces(pieces) => pieces.iter().map(|piece| piece.len() as u64).sum(),
            StoredBody::File { bytes, .. } => *bytes,
            StoredBody::Disk(body) => body.bytes(),
        }
    }

    /// Whether reading it waits for the disk.
    pub(crate) fn is_on_disk(&self) -> bool {
        matches!(self, StoredBody::Disk(_))
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory_bytes(&self) -> u64 {
        if matches!(self, StoredBody::Disk(_)) { 0 } else { self.bytes() }
    }

    /// By which it is known again, and which does not keep it.
    pub(crate) fn identity(&self) -> Identity {
        match self {
            StoredBody::Pieces(pieces) => Identity::Pieces(Arc::downgrade(pieces)),
            StoredBody::File { file, .. } => Identity::File(Arc::downgrade(file)),
            StoredBody::Disk(body) => Identity::Disk(Arc::downgrade(body)),
        }
    }

    /// The bytes from `first` to `last`; those in memory are not copied. For those on the disk it
    /// waits.
    ///
    /// # Errors
    ///
    /// The system has no memory to read them into, or the disk no longer has them as they were.
    pub(crate) fn slice(&self, first: u64, last: u64) -> io::Result<Vec<Bytes>> {
        match self {
            StoredBody::Pieces(pieces) => Ok(slice(pieces, first, last)),
            StoredBody::File { file, .. } => {
                let bytes = last + 1 - first;
                let mut reading = Reading { file: Arc::clone(file), offset: first, left: bytes };
                std::iter::from_fn(|| reading.next()).collect()
            }
            StoredBody::Disk(body) => body.slice(first, last),
        }
    }
}

/// A file that is in memory and has no name.
#[cfg(target_os = "linux")]
fn file_of(pieces: &[Bytes]) -> io::Result<File> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::memfd_create("atoll-cache", flags)?);
    for piece in pieces {
        file.write_all(piece)?;
    }
    Ok(file)
}

#[cfg(not(target_os = "linux"))]
fn file_of(_: &[Bytes]) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A part of a file, read piece by piece: for those to whom the kernel cannot send it.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) file: Arc<File>,
    pub(crate) offset: u64,
    pub(crate) left: u64,
}

impl Reading {
    fn next(&mut self) -> Option<io::Result<Bytes>> {
        let bytes = usize::try_from(self.left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        if bytes == 0 {
            return None;
        }
        let mut piece = BytesMut::zeroed(bytes);
        // It is in memory: nobody is kept waiting for a disk.
        let read = self.file.read_exact_at(&mut piece, self.offset);
        self.offset += bytes as u64;
        self.left -= bytes as u64;
        Some(read.map(|()| piece.freeze()))
    }
}

impl http_body::Body for Reading {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(self.next().map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// The bytes from `first` to `last`, without copying them.
fn slice(pieces: &[Bytes], first: u64, last: u64) -> Vec<Bytes> {
    let mut found = Vec::new();
    let mut start = 0_u64;
    for piece in pieces {
        let end = start + piece.len() as u64;
        if end > first && start <= last {
            let from = first.saturating_sub(start) as usize;
            let to = (last + 1 - start).min(piece.len() as u64) as usize;
            found.push(piece.slice(from..to));
        }
        start = end;
    }
    found
}

/// Joins pieces that are small: one for a small body, and none much smaller than need be.
fn gather(pieces: impl IntoIterator<Item = Bytes>) -> Vec<Bytes> {
    let mut gathered: Vec<Bytes> = Vec::new();
    let mut open = BytesMut::new();
    for piece in pieces {
        if open.len() + piece.len() > PIECE_BYTES && !open.is_empty() {
            gathered.push(std::mem::take(&mut open).freeze());
        }
        if open.is_empty() && piece.len() >= PIECE_BYTES / 4 {
            gathered.push(piece);
        } else {
            open.extend_from_slice(&piece);
        }
    }
    if !open.is_empty() {
        gathered.push(Bytes::copy_from_slice(&open));
    }
    gathered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_the_same_in_pieces_and_in_a_file() {
        let text: Vec<u8> = (0..FILE_BYTES_MIN + 10).map(|number| (number % 251) as u8).collect();
        let pieces: Vec<Bytes> = text.chunks(10_000).map(Bytes::copy_from_slice).collect();
        let in_memory = StoredBody::Pieces(pieces.clone().into());
        let in_a_file = StoredBody::of(pieces);
        assert!(cfg!(not(target_os = "linux")) || matches!(in_a_file, StoredBody::File { .. }));
        let last = text.len() - 1;
        for (first, last) in [(0, last), (0, 0), (last, last), (9_999, 10_000), (5, 200_000)] {
            for body in [&in_memory, &in_a_file] {
                let got = body.slice(first as u64, last as u64).expect("memory").concat();
                assert!(got == text[first..=last], "{first} to {last}");
                assert_eq!(body.bytes(), text.len() as u64);
            }
        }
    }

    #[test]
    fn small_pieces_become_one_and_large_ones_are_left() {
        let small = vec![Bytes::from_static(b"ab"), Bytes::from_static(b"cd")];
        assert_eq!(gather(small), [Bytes::from_static(b"abcd")]);
        let large = Bytes::from(vec![7; PIECE_BYTES]);
        let gathered = gather([large.clone(), Bytes::from_static(b"x"), large]);
        let lengths: Vec<usize> = gathered.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [PIECE_BYTES, 1, PIECE_BYTES]);
    }
}
