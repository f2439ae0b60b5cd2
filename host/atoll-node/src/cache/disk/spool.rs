//! A body that is written to the disk while it comes.

use super::Disk;
use super::file::{BodyFile, Written};
use super::limits::CHUNK_BYTES;
use super::worker::create_new;
use bytes::Bytes;
use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::task::spawn_blocking;
use xxhash_rust::xxh3::Xxh3;

/// The file of a body that is coming. Dropped before its end it is removed.
pub(crate) struct Spool {
    disk: Arc<Disk>,
    file: Arc<File>,
    number: u64,
    path: PathBuf,
    bytes: u64,
    chunk: Box<Xxh3>,
    hashes: Vec<u64>,
    is_done: bool,
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Disk {
    /// Begins to write a body, of `length` bytes where that is known. `None` where the disk has no
    /// room or no health for it.
    pub(crate) async fn begin_spool(self: &Arc<Self>, length: Option<u64>) -> Option<Spool> {
        let fits = length.is_none_or(|length| length <= self.body_bytes_max());
        if !fits || self.room.check().is_err() {
            return None;
        }
        let disk = Arc::clone(self);
        let begun = spawn_blocking(move || {
            let number = disk.next_number();
            let path = disk.new_path(number);
            let file = Arc::new(create_new(&path).inspect_err(|error| disk.note_failure(error))?);
            let (chunk, hashes) = (Box::new(Xxh3::new()), Vec::new());
            Ok::<_, io::Error>(Spool {
                disk,
                file,
                number,
                path,
                bytes: 0,
                chunk,
                hashes,
                is_done: false,
            })
        });
        begun.await.ok()?.ok()
    }
}

impl Spool {
    /// The file, of which what was added can be read.
    pub(crate) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Adds what has come. `None` where the disk did not take it: it will not be stored.
    pub(crate) async fn append(self, pieces: Vec<Bytes>) -> Option<Spool> {
        let mut spool = self;
        spawn_blocking(move || spool.write(&pieces).map(|()| spool)).await.ok()?.ok()
    }

    fn write(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        let disk = Arc::clone(&self.disk);
        let refused = |error: io::Error| {
            disk.figures.skipped.inc();
            disk.note_failure(&error);
            error
        };
        for piece in pieces {
            let length = piece.len() as u64;
            if self.disk.room.check().is_err() || !self.disk.charge(length) {
                disk.figures.skipped.inc();
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.bytes += length;
            (&*self.file).write_all(piece).map_err(refused)?;
            self.digest(piece, self.bytes - length);
        }
        Ok(())
    }

    /// Adds a piece that lies at `offset` to the checksums.
    fn digest(&mut self, piece: &[u8], offset: u64) {
        let (mut rest, mut offset) = (piece, offset);
        while !rest.is_empty() {
            let left = (CHUNK_BYTES - offset % CHUNK_BYTES).min(rest.len() as u64);
            let (now, later) = rest.split_at(left as usize);
            self.chunk.update(now);
            offset += left;
            rest = later;
            if offset.is_multiple_of(CHUNK_BYTES) {
                self.hashes.push(self.chunk.digest());
                self.chunk.reset();
            }
        }
    }

    /// All of it is there.
    pub(crate) fn finish(mut self) -> Arc<BodyFile> {
        let mut hashes = std::mem::take(&mut self.hashes);
        if !self.bytes.is_multiple_of(CHUNK_BYTES) {
            hashes.push(self.chunk.digest());
        }
        self.is_done = true;
        let body = Arc::new(BodyFile::new(Written {
            bytes: self.bytes,
            hashes,
            number: self.number,
            path: self.path.clone(),
            open: Some(Arc::clone(&self.file)),
        }));
        self.disk.keep_open(&body);
        body
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.disk.spooled_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        if !self.is_done {
            // What is left is removed at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
