//! Frames as messages on a connection: whole, compressed, or in fragments.
//!
//! A message is a length of four bytes and as many bytes. Its first byte is a frame's own tag, or
//! one of the two here. A compressed message holds another message, which may be a fragment: what
//! is compressed is never larger than one message, so neither is what comes out of it.

use super::limits::{
    ASSEMBLY_BYTES_START, COMPRESSED_BYTES_MIN, FRAGMENT_BYTES, IDLE_BUFFER_BYTES_MAX,
    WHOLE_BYTES_MAX,
};
use atoll_core::limits::FRAME_BYTES_MAX;
use atoll_core::wire::frame::Frame;
use bytes::{Bytes, BytesMut};
use std::fmt;
use zstd::bulk::{Compressor, Decompressor};

/// What follows is the length of a message, four bytes, and that message, compressed.
const COMPRESSED: u8 = 0x80;
/// What follows is a frame's length, an offset in it, four bytes each, and the bytes from there on.
const FRAGMENT: u8 = 0x81;
/// Bytes of the length before each message.
const LENGTH_BYTES: usize = 4;
/// Bytes before those of the frame in a fragment.
const FRAGMENT_HEAD_BYTES: usize = 9;
/// Fastest, and more than enough for keys and JSON.
const ZSTD_LEVEL: i32 = 1;

/// Why a message is none. The link must be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PackingError {
    /// Too short for what its first byte announces.
    #[error("a message is too short")]
    Short,
    /// Not what zstd made, or not of the length announced.
    #[error("a compressed message cannot be read")]
    Compression,
    /// Out of order, or of a frame that is too small or too large.
    #[error("a fragment does not fit: {0}")]
    Fragment(&'static str),
}

/// Whether frames are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Squeeze {
    /// As they are.
    No,
    /// Those that are large enough and become smaller.
    Yes,
}

/// Turns frames into bytes to write.
pub(super) struct Packer {
    out: Vec<u8>,
    /// A frame that is too large for one message, and how much of it was packed.
    rest: Option<(Vec<u8>, usize)>,
    /// Made when first needed: it takes a few hundred KiB.
    compressor: Option<Compressor<'static>>,
    scratch: Vec<u8>,
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer").field("len", &self.out.len()).finish_non_exhaustive()
    }
}

impl Packer {
    pub(super) fn new() -> Packer {
        Packer { out: Vec::new(), rest: None, compressor: None, scratch: Vec::new() }
    }

    /// The bytes to write.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// Forgets the bytes, which were written.
    pub(super) fn clear(&mut self) {
        self.out.clear();
    }

    /// Gives back memory that is not needed while nothing is written.
    pub(super) fn rest(&mut self) {
        if self.out.capacity() > IDLE_BUFFER_BYTES_MAX {
            self.out = Vec::new();
        }
        self.scratch = Vec::new();
    }

    /// Whether a frame has begun that has yet to be packed to its end. No other may begin before.
    pub(super) fn has_rest(&self) -> bool {
        self.rest.is_some()
    }

    /// Packs a frame: to its end, or for as far as [`Packer::go_on`] will be called.
    pub(super) fn pack(&mut self, frame: &Frame, squeeze: Squeeze) {
        debug_assert!(self.rest.is_none(), "one at a time");
        if frame.weight() > WHOLE_BYTES_MAX as u64 {
            // Into memory of its own: it is cut up while others wait.
            let mut bytes = Vec::with_capacity(frame.weight() as usize + 64);
            frame.encode(&mut bytes);
            return self.begin(bytes, squeeze);
        }
        let start = self.out.len();
        self.out.extend_from_slice(&[0; LENGTH_BYTES]);
        frame.encode(&mut self.out);
        if self.out.len() - start - LENGTH_BYTES > WHOLE_BYTES_MAX {
            let bytes = self.out.split_off(start + LENGTH_BYTES);
            self.out.truncate(start);
            return self.begin(bytes, squeeze);
        }
        self.finish(start, squeeze);
    }

    /// Begins a frame that is large, or nearly so.
    fn begin(&mut self, bytes: Vec<u8>, squeeze: Squeeze) {
        if bytes.len() > WHOLE_BYTES_MAX {
            self.rest = Some((bytes, 0));
            return;
        }
        let start = self.out.len();
        self.out.extend_from_slice(&[0; LENGTH_BYTES]);
        self.out.extend_from_slice(&bytes);
        self.finish(start, squeeze);
    }

    /// Packs the next piece of a large frame.
    pub(super) fn go_on(&mut self, squeeze: Squeeze) {
        let Some((bytes, from)) = self.rest.take() else { return };
        let to = bytes.len().min(from + FRAGMENT_BYTES);
        let start = self.out.len();
        self.out.extend_from_slice(&[0; LENGTH_BYTES]);
        self.out.push(FRAGMENT);
        self.out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        self.out.extend_from_slice(&(from as u32).to_be_bytes());
        self.out.extend_from_slice(&bytes[from..to]);
        self.finish(start, squeeze);
        if to < bytes.len() {
            self.rest = Some((bytes, to));
        }
    }

    /// Compresses the message that begins at `start`, where that helps, and writes its length.
    fn finish(&mut self, start: usize, squeeze: Squeeze) {
        let body = start + LENGTH_BYTES;
        let len = self.out.len() - body;
        if squeeze == Squeeze::Yes && len >= COMPRESSED_BYTES_MIN && self.compress(body) {
            self.out.truncate(body);
            self.out.push(COMPRESSED);
            self.out.extend_from_slice(&(len as u32).to_be_bytes());
            self.out.extend_from_slice(&self.scratch);
        }
        let len = (self.out.len() - body) as u32;
        self.out[start..body].copy_from_slice(&len.to_be_bytes());
    }

    /// Compresses what lies from `body` on into the scratch buffer. Returns whether that is worth
    /// sending.
    fn compress(&mut self, body: usize) -> bool {
        if self.compressor.is_none() {
            self.compressor = Compressor::new(ZSTD_LEVEL).ok();
        }
        let Some(compressor) = &mut self.compressor else { return false };
        let raw = &self.out[body..];
        self.scratch.clear();
        self.scratch.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        let compressed = compressor.compress_to_buffer(raw, &mut self.scratch);
        compressed.is_ok_and(|len| len < raw.len() - raw.len() / 16)
    }
}

/// Turns the messages of a connection back into frames' bytes.
pub(super) struct Unpacker {
    storage: Storage,
    /// A frame of which fragments have come, and its whole length.
    assembly: Option<(Vec<u8>, usize)>,
    decompressor: Option<Decompressor<'static>>,
}

/// Where the bytes of frames are to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    /// Where they were read, beside others: for frames that are soon dropped or copied.
    Shared,
    /// By themselves, where they are long: what is kept of them keeps nothing else alive.
    Apart,
}

/// From this length on a frame is given memory of its own.
const APART_BYTES_MIN: usize = 4 * 1024;

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker").field("storage", &self.storage).finish_non_exhaustive()
    }
}

impl Unpacker {
    pub(super) fn new(storage: Storage) -> Unpacker {
        Unpacker { storage, assembly: None, decompressor: None }
    }

    /// The frame's bytes that are complete with this message, if any are.
    pub(super) fn unpack(&mut self, message: BytesMut) -> Result<Option<Bytes>, PackingError> {
        match message.first() {
            Some(&COMPRESSED) => {
                let inner = self.decompress(&message[1..])?;
                match inner.first() {
                    Some(&FRAGMENT) => self.assemble(&inner),
                    Some(&COMPRESSED) => Err(PackingError::Compression),
                    _ => Ok(Some(Bytes::from(inner))),
                }
            }
            Some(&FRAGMENT) => self.assemble(&message),
            _ if self.storage == Storage::Apart && message.len() >= APART_BYTES_MIN => {
                Ok(Some(Bytes::copy_from_slice(&message)))
            }
            _ => Ok(Some(message.freeze())),
        }
    }

    fn decompress(&mut self, content: &[u8]) -> Result<Vec<u8>, PackingError> {
        let (len, body) = content.split_first_chunk().ok_or(PackingError::Short)?;
        let len = u32::from_be_bytes(*len) as usize;
        if len == 0 || len > WHOLE_BYTES_MAX {
            return Err(PackingError::Compression);
        }
        if self.decompressor.is_none() {
            self.decompressor = Decompressor::new().ok();
        }
        let decompressor = self.decompressor.as_mut().ok_or(PackingError::Compression)?;
        // Never writes more than the capacity that it is given.
        let inner = decompressor.decompress(body, len).map_err(|_| PackingError::Compression)?;
        if inner.len() == len { Ok(inner) } else { Err(PackingError::Compression) }
    }

    fn assemble(&mut self, message: &[u8]) -> Result<Option<Bytes>, PackingError> {
        let fault = |what| Err(PackingError::Fragment(what));
        let (head, piece) =
            message.split_at_checked(FRAGMENT_HEAD_BYTES).ok_or(PackingError::Short)?;
        let number = |at: usize| {
            let bytes = head[at..at + 4].try_into().expect("four bytes of a head of nine");
            u32::from_be_bytes(bytes) as usize
        };
        let (total, offset) = (number(1), number(5));
        if total <= WHOLE_BYTES_MAX || total > FRAME_BYTES_MAX {
            return fault("its frame has a length that needs none, or may not be");
        }
        if piece.is_empty() || piece.len() > total.saturating_sub(offset) {
            return fault("it is empty, or goes past the end of its frame");
        }
        let start = || (Vec::with_capacity(total.min(ASSEMBLY_BYTES_START)), total);
        let (mut bytes, announced) = self.assembly.take().unwrap_or_else(start);
        if announced != total || bytes.len() != offset {
            return fault("it is not the next one");
        }
        if bytes.capacity() - bytes.len() < piece.len() {
            // Exactly what is needed: a value keeps this memory for as long as it lives.
            bytes.reserve_exact(total - bytes.len());
        }
        bytes.extend_from_slice(piece);
        if bytes.len() == total {
            return Ok(Some(Bytes::from(bytes)));
        }
        self.assembly = Some((bytes, total));
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
