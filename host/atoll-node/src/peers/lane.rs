//! One connection of a link: frames in to the machine, frames out from its queue.

use super::handshake;
use super::hub::{Hub, Known, Outlets};
use super::limits::{FAREWELL_WAIT, READ_BYTES, TURN_BYTES, WRITE_BYTES, WRITE_WAIT};
use super::packing::{Packer, Squeeze, Storage, Unpacker};
use super::queue::{Next, Queue};
use atoll_core::wire::frame::{Farewell, Frame, Lane};
use bytes::BytesMut;
use futures_util::StreamExt as _;
use std::io::{self, Cursor};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Chain};
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

/// Why a link ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// This node ended it.
    Told(Farewell),
    /// The peer did.
    Heard(Farewell),
    /// It was lost, in words for a person.
    Lost(String),
}

impl End {
    /// Why, for a person.
    pub(super) fn words(&self) -> String {
        match self {
            End::Told(Farewell::Stopping) => "this node stops".to_owned(),
            End::Told(farewell) | End::Heard(farewell) => handshake::words(farewell),
            End::Lost(reason) => reason.clone(),
        }
    }

    /// Whether there is another link between the two, which stays.
    pub(super) fn is_duplicate(&self) -> bool {
        matches!(self, End::Told(Farewell::Duplicate) | End::Heard(Farewell::Duplicate))
    }
}

/// What a reader shares with whoever runs the link.
pub(super) struct Reading<'r> {
    pub(super) hub: &'r Hub,
    pub(super) outlets: &'r Outlets,
    pub(super) lane: Lane,
    /// Called at the first frame of the link: the peer has taken it.
    pub(super) on_taken: &'r dyn Fn(),
}

/// The messages of a connection that are still to be read, after those that the handshake read.
pub(super) fn reader<R: AsyncRead>(
    stream: R,
    codec: LengthDelimitedCodec,
    read: BytesMut,
) -> FramedRead<Chain<Cursor<BytesMut>, R>, LengthDelimitedCodec> {
    // In front of the stream and not in the buffer: that is looked at only after the stream has
    // given something, and the peer may have said all that it has to say.
    FramedRead::with_capacity(Cursor::new(read).chain(stream), codec, READ_BYTES)
}

/// Hands in what comes, until the connection or the link ends.
pub(super) async fn read<R: AsyncRead + Unpin>(
    messages: &mut FramedRead<R, LengthDelimitedCodec>,
    reading: Reading<'_>,
) -> End {
    let Reading { hub, outlets, lane, on_taken } = reading;
    let mut unpacker = Unpacker::new(match lane {
        Lane::Live => Storage::Shared,
        Lane::Bulk => Storage::Apart,
    });
    let mut turn_bytes = 0;
    loop {
        let message = match messages.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return lost(&error),
            None => return End::Lost("the peer closed the connection".to_owned()),
        };
        turn_bytes += message.len();
        let frame = match unpacker.unpack(message) {
            Ok(None) => continue,
            Ok(Some(bytes)) => Frame::decode(&bytes).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(reason) => {
                hub.close(outlets.link, Farewell::Refused(reason));
                return std::future::pending().await;
            }
        };
        if let Frame::Bye(farewell) = &frame {
            let farewell = farewell.clone();
            hub.receive(outlets.link, frame);
            return End::Heard(farewell);
        }
        if hub.receive(outlets.link, frame) == Known::No {
            // Ended here. Whoever runs the link says farewell; what still comes does not matter.
            return std::future::pending().await;
        }
        if !outlets.taken.replace(true) {
            on_taken();
        }
        if turn_bytes >= TURN_BYTES {
            turn_bytes = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Writes what the queue holds; returns once it has ended and everything is written.
pub(super) async fn write<W: AsyncWrite + Unpin>(
    stream: &mut W,
    (queue, outlets): (&Queue, &Outlets),
) -> End {
    let mut packer = Packer::new();
    loop {
        let mut next = Next::Nothing;
        while packer.bytes().len() < WRITE_BYTES {
            if packer.has_rest() {
                packer.go_on(outlets.squeeze.get());
                continue;
            }
            next = queue.take();
            match &next {
                Next::Frame(frame) => packer.pack(frame, outlets.squeeze.get()),
                Next::Nothing | Next::End(_) => break,
            }
        }
        if packer.bytes().is_empty() {
            match next {
                Next::End(farewell) => return End::Told(farewell),
                Next::Frame(_) | Next::Nothing => {}
            }
            packer.rest();
            queue.filled().await;
            continue;
        }
        if let Err(error) = write_all(stream, packer.bytes()).await {
            return lost(&error);
        }
        packer.clear();
    }
}

/// Says why the link ends, as the last thing on its live connection.
pub(super) async fn take_leave<W: AsyncWrite + Unpin>(stream: &mut W, farewell: &Farewell) {
    let mut packer = Packer::new();
    packer.pack(&Frame::Bye(farewell.clone()), Squeeze::No);
    let leave = async {
        stream.write_all(packer.bytes()).await?;
        stream.shutdown().await
    };
    // The peer may be gone: then it needs no farewell.
    let _ = timeout(FAREWELL_WAIT, leave).await;
}

/// Writes everything, as long as the peer takes something from time to time.
async fn write_all<W: AsyncWrite + Unpin>(stream: &mut W, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = in_time(WRITE_WAIT, stream.write(bytes)).await?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero));
        }
        bytes = &bytes[count..];
    }
    // TLS may still hold a part.
    in_time(WRITE_WAIT, stream.flush()).await
}

async fn in_time<T>(wait: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the peer does not read");
    timeout(wait, work).await.unwrap_or_else(|_| Err(late()))
}

fn lost(error: &io::Error) -> End {
    End::Lost(format!("the connection was lost: {error}"))
}
