//! Requests: from bytes to arguments, without copying them.
//!
//! A parser reads one request at a time and remembers how far it got, so that a large one is never
//! read twice. Long arguments leave the byte stream: whoever reads the socket fills them in place.

use super::inline;
use crate::limits::{
    REQUEST_ARGUMENT_COUNT_MAX, REQUEST_INLINE_BYTES_MAX, STRANGER_ARGUMENT_BYTES_MAX,
    STRANGER_ARGUMENT_COUNT_MAX, VALUE_APART_BYTES_MIN, VALUE_BYTES_MAX,
};
use bytes::Bytes;
use smallvec::SmallVec;

/// Why a byte stream is no sequence of requests. The connection is told and closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// `*n` with no number, or one over `REQUEST_ARGUMENT_COUNT_MAX`.
    #[error("ERR Protocol error: invalid multibulk length")]
    ArrayLength,
    /// More arguments than a client may send before AUTH.
    #[error("ERR Protocol error: unauthenticated multibulk length")]
    StrangerArrayLength,
    /// An argument that does not start with `$`.
    #[error("ERR Protocol error: expected '$', got '{}'", printable(*.0))]
    ExpectedBulk(u8),
    /// `$n` with no number, or one over `VALUE_BYTES_MAX`.
    #[error("ERR Protocol error: invalid bulk length")]
    BulkLength,
    /// A longer argument than a client may send before AUTH.
    #[error("ERR Protocol error: unauthenticated bulk length")]
    StrangerBulkLength,
    /// A line over `REQUEST_INLINE_BYTES_MAX`.
    #[error("ERR Protocol error: too big inline request")]
    InlineLength,
    /// A quote that is not closed.
    #[error("ERR Protocol error: unbalanced quotes in request")]
    Quotes,
    /// All arguments together exceed `REQUEST_BYTES_MAX`.
    #[error("ERR Protocol error: request exceeds the maximum size")]
    RequestLength,
}

fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '?' }
}

/// How much a client may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It has not authenticated: ten short arguments are enough to do so.
    Stranger,
    /// It may use the limits of the node.
    Client,
}

/// What the bytes so far amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not a whole request yet.
    Incomplete,
    /// A whole request: take the arguments, then call [`Parser::finish`].
    Ready,
    /// A long argument of `len` bytes starts at [`Parser::position`]: collect it, then call
    /// [`Parser::supply`].
    Apart {
        /// Bytes of the argument.
        len: usize,
    },
}

/// Where an argument lies.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// Offset in the text, or [`APART`].
    start: u32,
    /// Bytes, or the index among the long arguments.
    len: u32,
}

/// The `start` of a span that lies apart.
const APART: u32 = u32::MAX;
/// Longest header: the mark, twenty digits, CR and LF.
const HEADER_BYTES_MAX: usize = 23;

/// What comes next in the current request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expected {
    /// Its first byte.
    #[default]
    Start,
    /// The rest of a line, of which `scanned` bytes hold no line feed.
    Line { scanned: u32 },
    /// The header of an argument.
    Header,
    /// An argument of `len` bytes and its CRLF.
    Body { len: u32 },
    /// A long argument, which lies apart.
    Apart,
    /// The CRLF after one.
    ApartEnd,
}

/// Reads one request after the other. Idle, it holds no memory of its own.
#[derive(Debug, Default)]
pub struct Parser {
    expected: Expected,
    /// Bytes of the current request that are understood, from its first.
    position: usize,
    /// Arguments that are still to come.
    missing: u32,
    spans: SmallVec<[Span; 8]>,
    apart: Vec<Bytes>,
    /// The words of an inline request, which are not a part of the input as they stand.
    line: Option<Vec<u8>>,
}

/// The arguments of a request that is executed later. Long ones are shared, not copied.
#[derive(Debug)]
pub(super) struct KeptArguments {
    text: Box<[u8]>,
    spans: Box<[Span]>,
    apart: Box<[Bytes]>,
}

impl KeptArguments {
    /// Keeps what `arguments` hold.
    pub(super) fn of(arguments: Arguments<'_>) -> KeptArguments {
        let mut text = Vec::new();
        let spans = arguments.spans.iter().map(|&span| match span.start {
            APART => span,
            start => {
                let kept = text.len() as u32;
                text.extend_from_slice(&arguments.text[start as usize..][..span.len as usize]);
                Span { start: kept, len: span.len }
            }
        });
        let spans = spans.collect();
        KeptArguments { text: text.into(), spans, apart: arguments.apart.into() }
    }

    /// As they came.
    pub(super) fn get(&self) -> Arguments<'_> {
        Arguments { text: &self.text, spans: &self.spans, apart: &self.apart }
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        let apart: usize = self.apart.iter().map(|bytes| bytes.len() + size_of::<Bytes>()).sum();
        size_of::<Self>() + self.text.len() + size_of_val(&*self.spans) + apart
    }
}

/// The arguments of one request; the first is the command's name.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a> {
    text: &'a [u8],
    spans: &'a [Span],
    apart: &'a [Bytes],
}

impl Parser {
    /// Bytes of the current request that are understood.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Reads on in `input`, which starts with the current request's first byte.
    pub fn advance(&mut self, input: &[u8], trust: Trust) -> Result<Progress, ProtocolError> {
        loop {
            let done = match self.expected {
                Expected::Start => self.start(input, trust)?,
                Expected::Line { scanned } => self.line(input, scanned)?,
                Expected::Header => self.header(input, trust)?,
                Expected::Body { len } => self.body(input, len),
                Expected::Apart => Some(Progress::Incomplete),
                Expected::ApartEnd => self.body(input, 0),
            };
            if let Some(progress) = done {
                return Ok(progress);
            }
        }
    }

    /// The arguments of a request that is ready. `input` is what [`Parser::advance`] saw.
    pub fn arguments<'a>(&'a self, input: &'a [u8]) -> Arguments<'a> {
        let text = self.line.as_deref().unwrap_or(input);
        Arguments { text, spans: &self.spans, apart: &self.apart }
    }

    /// Ends the current request; returns its bytes of input. The next one starts after them.
    pub fn finish(&mut self) -> usize {
        let consumed = self.position;
        self.position = 0;
        self.expected = Expected::Start;
        self.line = None;
        if self.spans.spilled() {
            self.spans = SmallVec::new();
        } else {
            self.spans.clear();
        }
        if self.apart.capacity() > 0 {
            self.apart = Vec::new();
        }
        consumed
    }

    /// Hands over the long argument that [`Progress::Apart`] asked for. Its bytes are not in the
    /// input any more.
    pub fn supply(&mut self, argument: Bytes) {
        debug_assert_eq!(self.expected, Expected::Apart, "a long argument was asked for");
        self.spans.push(Span { start: APART, len: self.apart.len() as u32 });
        self.apart.push(argument);
        self.expected = Expected::ApartEnd;
    }

    /// Bytes of long arguments that the current request already holds.
    pub fn apart_bytes(&self) -> usize {
        self.apart.iter().map(Bytes::len).sum()
    }

    fn start(&mut self, input: &[u8], trust: Trust) -> Result<Option<Progress>, ProtocolError> {
        match input.first() {
            None => return Ok(Some(Progress::Incomplete)),
            Some(b'*') => {}
            Some(_) => {
                self.expected = Expected::Line { scanned: 0 };
                return Ok(None);
            }
        }
        let (count, len) = match number(input) {
            Header::Incomplete => return Ok(Some(Progress::Incomplete)),
            Header::Number { value, len } => (value, len),
            Header::Invalid => return Err(ProtocolError::ArrayLength),
        };
        if count > REQUEST_ARGUMENT_COUNT_MAX as i64 {
            return Err(ProtocolError::ArrayLength);
        }
        if count > STRANGER_ARGUMENT_COUNT_MAX as i64 && trust == Trust::Stranger {
            return Err(ProtocolError::StrangerArrayLength);
        }
        self.position = len;
        if count <= 0 {
            // An empty request has no answer: it is ready, without arguments.
            return Ok(Some(Progress::Ready));
        }
        self.missing = count as u32;
        self.expected = Expected::Header;
        Ok(None)
    }

    fn line(&mut self, input: &[u8], scanned: u32) -> Result<Option<Progress>, ProtocolError> {
        let Some(end) = memchr::memchr(b'\n', &input[scanned as usize..]) else {
            if input.len() > REQUEST_INLINE_BYTES_MAX {
                return Err(ProtocolError::InlineLength);
            }
            self.expected = Expected::Line { scanned: input.len() as u32 };
            return Ok(Some(Progress::Incomplete));
        };
        let end = scanned as usize + end;
        if end > REQUEST_INLINE_BYTES_MAX {
            return Err(ProtocolError::InlineLength);
        }
        let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
        let (mut text, mut lengths) = (Vec::with_capacity(line.len()), Vec::new());
        inline::split(line, &mut text, &mut lengths).ok_or(ProtocolError::Quotes)?;
        let mut start = 0;
        for len in lengths {
            self.spans.push(Span { start: start as u32, len: len as u32 });
            start += len;
        }
        self.line = Some(text);
        self.position = end + 1;
        Ok(Some(Progress::Ready))
    }

    #[inline]
    fn header(&mut self, input: &[u8], trust: Trust) -> Result<Option<Progress>, ProtocolError> {
        let rest = &input[self.position..];
        match rest.first() {
            None => return Ok(Some(Progress::Incomplete)),
            Some(b'$') => {}
            Some(&other) => return Err(ProtocolError::ExpectedBulk(other)),
        }
        let (value, header_len) = match number(rest) {
            Header::Incomplete => return Ok(Some(Progress::Incomplete)),
            Header::Number { value, len } => (value, len),
            Header::Invalid => return Err(ProtocolError::BulkLength),
        };
        if value < 0 || value > VALUE_BYTES_MAX as i64 {
            return Err(ProtocolError::BulkLength);
        }
        let len = value as usize;
        if len > STRANGER_ARGUMENT_BYTES_MAX && trust == Trust::Stranger {
            return Err(ProtocolError::StrangerBulkLength);
        }
        self.position += header_len;
        if len >= VALUE_APART_BYTES_MIN && rest.len() < header_len + len + 2 {
            self.expected = Expected::Apart;
            return Ok(Some(Progress::Apart { len }));
        }
        self.expected = Expected::Body { len: len as u32 };
        Ok(None)
    }

    /// Takes an argument of `len` bytes with its CRLF, or only the CRLF of one that lies apart.
    #[inline]
    fn body(&mut self, input: &[u8], len: u32) -> Option<Progress> {
        let end = self.position + len as usize + 2;
        if input.len() < end {
            return Some(Progress::Incomplete);
        }
        if let Expected::Body { .. } = self.expected {
            // Offsets fit: a request is shorter than 4 GiB (see `REQUEST_BYTES_MAX`).
            self.spans.push(Span { start: self.position as u32, len });
        }
        self.position = end;
        self.missing -= 1;
        self.expected = Expected::Header;
        (self.missing == 0).then_some(Progress::Ready)
    }
}

/// What a header `*n\r\n` or `$n\r\n` says.
enum Header {
    Incomplete,
    Number { value: i64, len: usize },
    Invalid,
}

/// Reads the number after the mark in `text[0]`, up to CRLF.
#[inline]
fn number(text: &[u8]) -> Header {
    let mut magnitude: i64 = 0;
    let negative = text.get(1) == Some(&b'-');
    let first_digit = 1 + usize::from(negative);
    let mut at = first_digit;
    while let Some(&byte) = text.get(at) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            let canonical =
                at > first_digit && (text[first_digit] != b'0' || at == first_digit + 1);
            if byte != b'\r' || !canonical {
                return Header::Invalid;
            }
            // The line feed is taken on trust, as in Redis; it only has to be there.
            return match text.get(at + 1) {
                None => Header::Incomplete,
                Some(_) => Header::Number {
                    value: if negative { -magnitude } else { magnitude },
                    len: at + 2,
                },
            };
        }
        if at + 2 > HEADER_BYTES_MAX {
            return Header::Invalid;
        }
        magnitude = magnitude.saturating_mul(10).saturating_add(i64::from(digit));
        at += 1;
    }
    Header::Incomplete
}

impl<'a> Arguments<'a> {
    /// How many there are, the command's name included.
    #[inline]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether the request was empty; such a request has no answer.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The argument at `index`, or nothing past the last.
    #[inline]
    pub fn get(&self, index: usize) -> &'a [u8] {
        let Some(span) = self.spans.get(index) else { return b"" };
        match span.start {
            APART => &self.apart[span.len as usize],
            start => &self.text[start as usize..][..span.len as usize],
        }
    }

    /// The argument at `index` where it lies apart and can be kept without copying it.
    pub fn shared(&self, index: usize) -> Option<&'a Bytes> {
        let span = self.spans.get(index)?;
        (span.start == APART).then(|| &self.apart[span.len as usize])
    }

    /// The arguments from `first` on.
    pub fn from(self, first: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone {
        (first.min(self.len())..self.len()).map(move |index| self.get(index))
    }
}
