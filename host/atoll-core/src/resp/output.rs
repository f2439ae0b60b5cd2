//! Replies on their way out: small ones copied into one buffer, large values shared.

use crate::limits::{REPLY_BYTES_MAX, REPLY_SHARED_COUNT_MAX};
use bytes::Bytes;
use std::io::IoSlice;

/// From here on the elements of an array go out from where they were collected.
const ELEMENTS_SHARED_BYTES_MIN: usize = 64 * 1024;

/// The dialect that a client chose with HELLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What every client understands.
    #[default]
    Resp2,
    /// With maps, nulls and numbers of their own.
    Resp3,
}

/// Replies in order, not yet written.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    shared: Vec<Shared>,
    shared_bytes: usize,
    /// Memory of those shared values that nobody but this output keeps.
    collected_bytes: usize,
    protocol: Protocol,
    /// Where the current reply began, and whether it outgrew what one reply may take.
    reply: Mark,
    overflowed: bool,
}

/// A value that goes out between two parts of the buffer.
#[derive(Debug)]
struct Shared {
    /// Offset in the buffer before which it belongs.
    at: usize,
    value: Bytes,
    /// Memory that it takes where it was collected for this reply; a value of the store takes
    /// none.
    collected_bytes: usize,
}

/// A place in the output to come back to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    byte_count: usize,
    shared_count: usize,
}

/// How much of an output was written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Index of the shared value that is next.
    shared: usize,
    /// Bytes of the buffer written.
    bytes: usize,
    /// Bytes of the next shared value written.
    shared_bytes: usize,
}

impl Output {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.shared_bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.shared.is_empty()
    }

    /// Bytes of memory that it keeps allocated, values of the store left out.
    pub fn allocated_bytes(&self) -> usize {
        self.bytes.capacity() + self.shared.capacity() * size_of::<Shared>() + self.collected_bytes
    }

    /// Forgets everything, and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.shared.clear();
        self.shared_bytes = 0;
        self.collected_bytes = 0;
    }

    /// Starts a reply in `protocol`.
    #[inline]
    pub fn begin(&mut self, protocol: Protocol) -> Mark {
        self.protocol = protocol;
        self.overflowed = false;
        self.reply = self.mark();
        self.reply
    }

    /// Whether the current reply outgrew `REPLY_BYTES_MAX`. It is then incomplete.
    #[inline]
    pub fn has_overflowed(&self) -> bool {
        self.overflowed
    }

    /// The place after what is there.
    #[inline]
    pub fn mark(&self) -> Mark {
        Mark { byte_count: self.bytes.len(), shared_count: self.shared.len() }
    }

    /// Takes back all that was written after `mark`.
    pub fn truncate(&mut self, mark: Mark) {
        for dropped in self.shared.drain(mark.shared_count..) {
            self.shared_bytes -= dropped.value.len();
            self.collected_bytes -= dropped.collected_bytes;
        }
        self.bytes.truncate(mark.byte_count);
    }

    /// The dialect of the current reply.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Sets the dialect for what follows; HELLO answers in the new one.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// `+text`
    pub fn simple(&mut self, text: &str) {
        self.raw(b"+");
        self.raw(text.as_bytes());
        self.raw(b"\r\n");
    }

    /// `+OK`
    #[inline]
    pub fn ok(&mut self) {
        self.raw(b"+OK\r\n");
    }

    /// `-text`, on one line.
    pub fn error(&mut self, text: &str) {
        self.raw(b"-");
        let line = text.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte });
        self.bytes.extend(line);
        self.raw(b"\r\n");
    }

    /// `:number`
    #[inline]
    pub fn integer(&mut self, number: i64) {
        match number {
            0 => self.raw(b":0\r\n"),
            1 => self.raw(b":1\r\n"),
            _ => self.header(b':', number),
        }
    }

    /// A count, as an integer.
    pub fn count(&mut self, count: usize) {
        self.integer(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// `$len` and the bytes, copied.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        if !self.has_room(bytes.len()) {
            return;
        }
        self.header(b'$', bytes.len() as i64);
        self.raw(bytes);
        self.raw(b"\r\n");
    }

    /// `$len` and the bytes, shared.
    pub fn bulk_shared(&mut self, value: &Bytes) {
        let shared_count = self.shared.len() - self.reply.shared_count;
        if shared_count >= REPLY_SHARED_COUNT_MAX {
            self.overflowed = true;
            return;
        }
        self.header(b'$', value.len() as i64);
        self.share(value.clone(), 0);
        self.raw(b"\r\n");
    }

    fn share(&mut self, value: Bytes, collected_bytes: usize) {
        self.shared_bytes += value.len();
        self.collected_bytes += collected_bytes;
        self.shared.push(Shared { at: self.bytes.len(), value, collected_bytes });
    }

    /// Text that a person reads: verbatim in RESP3.
    pub fn text(&mut self, text: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => {
                self.header(b'=', text.len() as i64 + 4);
                self.raw(b"txt:");
                self.raw(text.as_bytes());
                self.raw(b"\r\n");
            }
        }
    }

    /// Nothing.
    #[inline]
    pub fn null(&mut self) {
        match self.protocol {
            Protocol::Resp2 => self.raw(b"$-1\r\n"),
            Protocol::Resp3 => self.raw(b"_\r\n"),
        }
    }

    /// No array.
    pub fn null_array(&mut self) {
        match self.protocol {
            Protocol::Resp2 => self.raw(b"*-1\r\n"),
            Protocol::Resp3 => self.null(),
        }
    }

    /// The header of an array of `len` replies.
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len as i64);
    }

    /// The header of a map of `len` pairs: a flat array in RESP2.
    pub fn map(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', len as i64 * 2),
            Protocol::Resp3 => self.header(b'%', len as i64),
        }
    }

    /// The header of something that answers no request: an array in RESP2, as clients of that know
    /// from the commands that they gave.
    pub fn push(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', len as i64),
            Protocol::Resp3 => self.header(b'>', len as i64),
        }
    }

    /// The header of a set of `len` replies: an array in RESP2.
    pub fn set(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', len as i64),
            Protocol::Resp3 => self.header(b'~', len as i64),
        }
    }

    /// An array of bulks that lie, encoded, in `elements`: copied where they are few, else shared.
    pub fn array_of(&mut self, elements: Elements) {
        self.overflowed |= elements.overflowed;
        if self.overflowed {
            return;
        }
        self.array(elements.count);
        if elements.bytes.len() < ELEMENTS_SHARED_BYTES_MIN {
            self.raw(&elements.bytes);
        } else {
            let collected_bytes = elements.allocated_bytes();
            self.share(Bytes::from(elements.bytes), collected_bytes);
        }
    }

    /// Fills `slices` with what is not written yet; returns how many.
    pub fn slices<'a>(&'a self, progress: Progress, slices: &mut [IoSlice<'a>]) -> usize {
        let (mut from, mut count) = (progress.bytes, 0);
        let mut skip = progress.shared_bytes;
        let mut shared = self.shared[progress.shared..].iter();
        while count + 1 < slices.len() {
            let next = shared.next();
            let to = next.map_or(self.bytes.len(), |shared| shared.at);
            if from < to {
                slices[count] = IoSlice::new(&self.bytes[from..to]);
                count += 1;
            }
            from = to;
            let Some(next) = next else { break };
            if skip < next.value.len() {
                slices[count] = IoSlice::new(&next.value[skip..]);
                count += 1;
            }
            skip = 0;
        }
        count
    }

    /// Where the output stands after `written` more bytes.
    pub fn after(&self, mut progress: Progress, mut written: usize) -> Progress {
        while written > 0 {
            let next = self.shared.get(progress.shared);
            let to = next.map_or(self.bytes.len(), |shared| shared.at);
            let step = written.min(to - progress.bytes);
            progress.bytes += step;
            written -= step;
            let Some(next) = next.filter(|_| progress.bytes == to) else { break };
            let step = written.min(next.value.len() - progress.shared_bytes);
            progress.shared_bytes += step;
            written -= step;
            if progress.shared_bytes == next.value.len() {
                progress.shared += 1;
                progress.shared_bytes = 0;
            }
        }
        debug_assert_eq!(written, 0, "no more is written than there was");
        progress
    }

    /// Whether everything is written.
    pub fn is_written(&self, progress: Progress) -> bool {
        progress.bytes == self.bytes.len() && progress.shared == self.shared.len()
    }

    /// The buffer where nothing is shared: what a plain write takes.
    pub fn plain(&self, progress: Progress) -> Option<&[u8]> {
        self.shared.is_empty().then(|| &self.bytes[progress.bytes..])
    }

    #[inline]
    fn has_room(&mut self, more: usize) -> bool {
        let fits = self.bytes.len() - self.reply.byte_count + more <= REPLY_BYTES_MAX;
        self.overflowed |= !fits;
        fits
    }

    #[inline]
    fn header(&mut self, mark: u8, number: i64) {
        self.bytes.push(mark);
        self.bytes.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
}

/// Bulks whose number is not known before the last of them.
#[derive(Debug, Default)]
pub struct Elements {
    bytes: Vec<u8>,
    count: usize,
    overflowed: bool,
}

impl Elements {
    /// Adds a bulk. Past `REPLY_BYTES_MAX` the reply will be an error.
    pub fn push(&mut self, bulk: &[u8]) {
        if self.bytes.len() + bulk.len() > REPLY_BYTES_MAX {
            self.overflowed = true;
            return;
        }
        self.bytes.push(b'$');
        self.bytes.extend_from_slice(itoa::Buffer::new().format(bulk.len()).as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
        self.bytes.extend_from_slice(bulk);
        self.bytes.extend_from_slice(b"\r\n");
        self.count += 1;
    }

    /// Bytes of memory that they take.
    pub fn allocated_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Whether no bulk fits any more.
    pub fn has_overflowed(&self) -> bool {
        self.overflowed
    }
}
