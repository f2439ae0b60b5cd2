//! What a connection has received and not yet answered, in as little memory as it takes.
//!
//! The shell reads into its own scratch buffer while nothing much is held back, so an idle
//! connection holds nothing; it reads into the intake where a request is longer than that.

use super::request::{Arguments, Parser, Progress, ProtocolError, Trust};
use crate::limits::{REQUEST_BYTES_MAX, REQUEST_SCRATCH_BYTES, VALUE_APART_BYTES_MIN};
use bytes::{BufMut, Bytes};

/// Up to here, what is held back goes through the scratch buffer again.
const HELD_IN_SCRATCH_BYTES_MAX: usize = REQUEST_SCRATCH_BYTES / 4;
/// A long argument's buffer is allocated whole once this much of it has come.
const APART_TRUST_BYTES: usize = 1024 * 1024;
/// A buffer for what is held back that grew over this is given back once it is empty.
const HELD_KEPT_BYTES_MAX: usize = 512;

/// Where the next bytes of the connection belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Into the scratch buffer from `offset` on; then [`Intake::take_scratch`].
    Scratch {
        /// Bytes at its start to leave alone.
        offset: usize,
    },
    /// Into [`Intake::buffer`]; then [`Intake::take_buffer`].
    Buffer,
}

/// What a request's executor wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next request.
    Continue,
    /// To stop here for now.
    Stop,
}

/// What became of the bytes that were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// All requests in them are done; more bytes are needed.
    All,
    /// The executor stopped; call [`Intake::resume`] before reading on.
    Stopped,
}

/// Executes requests as they become whole.
pub trait Executor {
    /// How much the client may ask for; asked before each request.
    fn trust(&self) -> Trust;
    /// Executes one request, which has at least one argument.
    fn execute(&mut self, arguments: Arguments<'_>) -> Next;
}

/// The receiving half of a connection.
#[derive(Debug, Default)]
pub struct Intake {
    parser: Parser,
    /// Received and not executed, from `held_from` on.
    held: Vec<u8>,
    held_from: usize,
    /// A long argument that is being received.
    apart: Option<Box<Apart>>,
}

#[derive(Debug)]
struct Apart {
    len: usize,
    bytes: Vec<u8>,
}

impl Intake {
    /// Where the next bytes belong. Not to be asked while [`Taken::Stopped`].
    pub fn room(&self) -> Room {
        debug_assert_eq!(self.held_from, 0, "a stopped intake is resumed first");
        if self.apart.is_some() || self.held.len() > HELD_IN_SCRATCH_BYTES_MAX {
            Room::Buffer
        } else {
            Room::Scratch { offset: self.held.len() }
        }
    }

    /// The buffer to append to, limited to what belongs into it.
    pub fn buffer(&mut self) -> impl BufMut + '_ {
        let Some(apart) = &mut self.apart else {
            // Doubling up to a bound: what a client promises is not allocated before it comes.
            let more = self.held.len().clamp(HELD_IN_SCRATCH_BYTES_MAX, APART_TRUST_BYTES);
            self.held.reserve(more);
            return (&mut self.held).limit(more);
        };
        let missing = apart.len - apart.bytes.len();
        if apart.bytes.len() == apart.bytes.capacity() {
            let step =
                if apart.bytes.len() < APART_TRUST_BYTES { APART_TRUST_BYTES } else { missing };
            apart.bytes.reserve_exact(missing.min(step));
        }
        (&mut apart.bytes).limit(missing)
    }

    /// Bytes of memory that the connection holds back.
    pub fn held_bytes(&self) -> usize {
        let apart = self.apart.as_ref().map_or(0, |apart| apart.bytes.capacity());
        self.held.capacity() + apart + self.parser.apart_bytes()
    }

    /// Executes what the scratch buffer completes. `scratch` ends where the bytes that were read
    /// end, and its first `offset` bytes are free.
    pub fn take_scratch(
        &mut self,
        scratch: &mut [u8],
        executor: &mut impl Executor,
    ) -> Result<Taken, ProtocolError> {
        debug_assert!(self.apart.is_none(), "a long argument has a buffer of its own");
        scratch[..self.held.len()].copy_from_slice(&self.held);
        self.held.clear();
        let (used, taken) = self.run(scratch, executor)?;
        self.held.extend_from_slice(&scratch[used..]);
        self.settle(taken)
    }

    /// Executes what the bytes appended to [`Intake::buffer`] complete.
    pub fn take_buffer(&mut self, executor: &mut impl Executor) -> Result<Taken, ProtocolError> {
        match self.apart.take() {
            Some(apart) if apart.bytes.len() < apart.len => self.apart = Some(apart),
            Some(apart) => self.parser.supply(Bytes::from(apart.bytes)),
            None => {}
        }
        self.resume(executor)
    }

    /// Executes what is held back.
    pub fn resume(&mut self, executor: &mut impl Executor) -> Result<Taken, ProtocolError> {
        if self.apart.is_some() {
            return Ok(Taken::All);
        }
        let held = std::mem::take(&mut self.held);
        let outcome = self.run(&held[self.held_from..], executor);
        self.held = held;
        let (used, taken) = outcome?;
        self.held_from += used;
        self.settle(taken)
    }

    /// Executes whole requests from `input`; returns how many bytes are done with.
    fn run(
        &mut self,
        input: &[u8],
        executor: &mut impl Executor,
    ) -> Result<(usize, Taken), ProtocolError> {
        let mut used = 0;
        loop {
            match self.parser.advance(&input[used..], executor.trust())? {
                Progress::Incomplete => return Ok((used, Taken::All)),
                Progress::Apart { len } => {
                    let at = used + self.parser.position();
                    return self.set_apart(&input[at..], len).map(|()| (used, Taken::All));
                }
                Progress::Ready => {
                    let arguments = self.parser.arguments(&input[used..]);
                    let next = if arguments.is_empty() {
                        Next::Continue
                    } else {
                        executor.execute(arguments)
                    };
                    used += self.parser.finish();
                    if next == Next::Stop {
                        return Ok((used, Taken::Stopped));
                    }
                }
            }
        }
    }

    /// Starts to collect a long argument of `len` bytes, of which `begun` has come.
    fn set_apart(&mut self, begun: &[u8], len: usize) -> Result<(), ProtocolError> {
        debug_assert!(len >= VALUE_APART_BYTES_MIN, "short arguments stay in the stream");
        if self.parser.apart_bytes() + len > REQUEST_BYTES_MAX {
            return Err(ProtocolError::RequestLength);
        }
        let begun = &begun[..begun.len().min(len)];
        let mut bytes = Vec::with_capacity(len.min(APART_TRUST_BYTES.max(begun.len())));
        bytes.extend_from_slice(begun);
        self.apart = Some(Box::new(Apart { len, bytes }));
        Ok(())
    }

    /// Drops what is done with, and the memory that it took.
    fn settle(&mut self, taken: Taken) -> Result<Taken, ProtocolError> {
        if taken == Taken::Stopped {
            return Ok(taken);
        }
        self.held.drain(..self.held_from);
        self.held_from = 0;
        if let Some(apart) = &self.apart {
            // What has come of the long argument is there and no longer here. Where it is whole but
            // for its CRLF, that is all that may follow it.
            let kept = self.parser.position();
            let after = kept + apart.bytes.len();
            self.held.drain(kept..after.min(self.held.len()));
        }
        if self.held.len() > REQUEST_BYTES_MAX {
            return Err(ProtocolError::RequestLength);
        }
        if self.held.is_empty() && self.held.capacity() > HELD_KEPT_BYTES_MAX {
            self.held = Vec::new();
        }
        match &self.apart {
            // The whole argument came but its CRLF did not.
            Some(apart) if apart.bytes.len() == apart.len => {
                let apart = self.apart.take().expect("it was just looked at");
                self.parser.supply(Bytes::from(apart.bytes));
            }
            _ => {}
        }
        Ok(Taken::All)
    }
}
