//! One client's connection: read a batch, execute it, write its replies with one call.

use super::clients::{Peer, Stop};
use super::worker::Worker;
use atoll_core::limits::REPLY_BATCH_BYTES;
use atoll_core::resp::client::{Client, Ends};
use atoll_core::resp::intake::{Executor, Intake, Next, Room, Taken};
use atoll_core::resp::output::{Output, Progress};
use atoll_core::resp::request::{Arguments, ProtocolError, Trust};
use atoll_core::resp::session::{Flow, Session, Surroundings};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tracing::debug;

/// Longest wait for a client to take some of its replies.
const WRITE_WAIT: Duration = Duration::from_secs(60);
/// Longest time for which what a client goes on to send after nonsense is read away, and most
/// bytes.
const LINGER_WAIT: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Parts of an output that one call writes.
const SLICE_COUNT_MAX: usize = 64;
/// From here on, what a connection holds counts against the budget that all of them share.
const HELD_COUNTED_BYTES_MIN: usize = 64 * 1024;

/// A connection that is being served.
pub(super) struct Connection {
    stream: TcpStream,
    worker: Rc<Worker>,
    peer: Arc<Peer>,
    session: Session,
    intake: Intake,
    /// What of its memory is counted with the door.
    counted_bytes: usize,
}

/// What to do after a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Read on.
    Read,
    /// Read on, after others had their turn: there is probably more to read at once.
    ReadLater,
    /// Execute what was received, after others had their turn.
    Resume,
    /// Go on with a long command, after others had their turn.
    Proceed,
    /// Write the replies and close.
    Close,
    /// Write the replies, read away what the client still sends, and close.
    CloseAfterNonsense,
    /// Write the replies, close, and tell the operator that a client spoke HTTP.
    CloseOnHttp,
}

/// Executes the requests of one batch.
struct Batch<'a> {
    session: &'a mut Session,
    around: Surroundings<'a>,
    output: &'a mut Output,
    flow: Flow,
}

impl Executor for Batch<'_> {
    #[inline]
    fn trust(&self) -> Trust {
        self.session.trust()
    }

    #[inline]
    fn execute(&mut self, arguments: Arguments<'_>) -> Next {
        self.flow = self.session.execute(self.around, arguments, self.output);
        let goes_on = self.flow == Flow::Continue && self.output.len() < REPLY_BATCH_BYTES;
        if goes_on { Next::Continue } else { Next::Stop }
    }
}

impl Batch<'_> {
    /// What to do after the batch. A request that makes no sense is answered, and is the last one.
    fn conclude(self, taken: Result<Taken, ProtocolError>) -> Turn {
        match (taken, self.flow) {
            (Err(error), _) => {
                self.output.error(&error.to_string());
                Turn::CloseAfterNonsense
            }
            (Ok(Taken::All), Flow::Rest) => Turn::ReadLater,
            (Ok(Taken::All), _) => Turn::Read,
            (Ok(Taken::Stopped), Flow::Continue | Flow::Rest) => Turn::Resume,
            (Ok(Taken::Stopped), Flow::Again) => Turn::Proceed,
            (Ok(Taken::Stopped), Flow::Close) => Turn::Close,
            (Ok(Taken::Stopped), Flow::CloseOnHttp) => Turn::CloseOnHttp,
        }
    }
}

impl Connection {
    /// The connection over `stream`, which becomes one of the door's clients.
    pub(super) fn new(stream: TcpStream, worker: Rc<Worker>) -> io::Result<Connection> {
        let ends = Ends {
            address: stream.peer_addr()?.to_string(),
            local_address: stream.local_addr()?.to_string(),
        };
        let door = &worker.door;
        let client = Client::new(door.clients().next_id(), ends, door.node().now().millis());
        let peer = door.clients().enter(Arc::new(client));
        let session = Session::new(Arc::clone(peer.client()), &**door);
        let intake = Intake::default();
        Ok(Connection { stream, worker, peer, session, intake, counted_bytes: 0 })
    }

    /// Serves the client until one of both ends has enough.
    pub(super) async fn run(mut self) {
        if let Err(error) = self.converse().await {
            debug!(client = self.peer.client().id(), %error, "RESP connection ended early");
        }
    }

    async fn converse(&mut self) -> io::Result<()> {
        let mut turn = Turn::Read;
        loop {
            let output;
            (turn, output) = match turn {
                Turn::Read => self.receive().await?,
                later => {
                    tokio::task::yield_now().await;
                    match later {
                        Turn::Resume => self.execute(|intake, batch| intake.resume(batch)),
                        Turn::Proceed => self.proceed(),
                        _ => self.receive().await?,
                    }
                }
            };
            self.write(&output).await?;
            self.worker.put_output(output);
            self.count_held(self.held_bytes())?;
            match turn {
                Turn::Close => return Ok(()),
                Turn::CloseAfterNonsense => return self.linger().await,
                Turn::CloseOnHttp => {
                    self.worker.door.warn_of_http(self.peer.client().address());
                    return Ok(());
                }
                _ if self.peer.stopping() != Stop::No => return Ok(()),
                _ => {}
            }
        }
    }

    /// Waits for bytes and executes what they complete.
    async fn receive(&mut self) -> io::Result<(Turn, Output)> {
        match self.intake.room() {
            Room::Scratch { offset } => poll_fn(|cx| self.poll_receive(cx, offset)).await,
            Room::Buffer => {
                let received = self.read_into_buffer().await?;
                self.note_received(received)?;
                Ok(self.execute(|intake, batch| intake.take_buffer(batch)))
            }
        }
    }

    /// Reads into the thread's scratch buffer and executes from there, before another connection
    /// can use it.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        offset: usize,
    ) -> Poll<io::Result<(Turn, Output)>> {
        let worker = Rc::clone(&self.worker);
        let mut scratch = worker.scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch[offset..]);
        // `poll_read` knows that a short read has emptied the socket; `try_read` would ask again.
        if Pin::new(&mut self.stream).poll_read(cx, &mut buffer)?.is_pending() {
            return self.poll_stopped(cx);
        }
        let full = buffer.remaining() == 0;
        let end = offset + buffer.filled().len();
        self.note_received(end - offset)?;
        let taken = &mut scratch[..end];
        let (turn, output) = self.execute(|intake, batch| intake.take_scratch(taken, batch));
        let turn = if full && turn == Turn::Read { Turn::ReadLater } else { turn };
        Poll::Ready(Ok((turn, output)))
    }

    async fn read_into_buffer(&mut self) -> io::Result<usize> {
        let Connection { stream, intake, peer, .. } = self;
        let mut buffer = intake.buffer();
        let mut read = std::pin::pin!(stream.read_buf(&mut buffer));
        poll_fn(|cx| {
            if let Poll::Ready(received) = read.as_mut().poll(cx) {
                return Poll::Ready(received);
            }
            peer.park(cx.waker());
            if peer.stopping() == Stop::No {
                Poll::Pending
            } else {
                Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
            }
        })
        .await
    }

    /// Closes at once where the connection should stop, since it has nothing to answer.
    fn poll_stopped(&self, cx: &Context<'_>) -> Poll<io::Result<(Turn, Output)>> {
        self.peer.park(cx.waker());
        if self.peer.stopping() == Stop::No {
            return Poll::Pending;
        }
        Poll::Ready(Ok((Turn::Close, self.worker.take_output())))
    }

    /// Nothing received is the end of the stream.
    fn note_received(&self, byte_count: usize) -> io::Result<()> {
        if byte_count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.worker.tally.input_bytes.add(byte_count as u64);
        Ok(())
    }

    /// Executes what `take` finds to be whole.
    fn execute(
        &mut self,
        take: impl FnOnce(&mut Intake, &mut Batch<'_>) -> Result<Taken, ProtocolError>,
    ) -> (Turn, Output) {
        let Connection { worker, session, intake, .. } = self;
        let mut output = worker.take_output();
        let around = surroundings(worker);
        session.client().set_active(around.now.millis());
        let flow = Flow::Continue;
        let mut batch = Batch { session, around, output: &mut output, flow };
        let taken = take(intake, &mut batch);
        let turn = batch.conclude(taken);
        (turn, output)
    }

    fn proceed(&mut self) -> (Turn, Output) {
        let Connection { worker, session, .. } = self;
        let mut output = worker.take_output();
        let turn = match session.proceed(surroundings(worker), &mut output) {
            Flow::Continue | Flow::Rest => Turn::Resume,
            Flow::Again => Turn::Proceed,
            Flow::Close => Turn::Close,
            Flow::CloseOnHttp => Turn::CloseOnHttp,
        };
        (turn, output)
    }

    /// Tells the client that nothing more comes, and reads away what it still sends, within bounds.
    ///
    /// A socket that is closed with bytes unread is reset, and the reset overtakes the reply: a
    /// client in the middle of a long request would never see why it was refused.
    async fn linger(&mut self) -> io::Result<()> {
        self.intake = Intake::default();
        self.count_held(self.held_bytes())?;
        self.stream.shutdown().await?;
        let read_away = async {
            let mut byte_count = 0;
            while byte_count < LINGER_BYTES_MAX {
                match poll_fn(|cx| self.poll_read_away(cx)).await? {
                    0 => break,
                    more => byte_count += more,
                }
            }
            Ok(())
        };
        tokio::time::timeout(LINGER_WAIT, read_away).await.unwrap_or(Ok(()))
    }

    /// Reads some bytes and forgets them; 0 at the end of the stream, and where the node stops.
    fn poll_read_away(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let worker = Rc::clone(&self.worker);
        let mut scratch = worker.scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        if Pin::new(&mut self.stream).poll_read(cx, &mut buffer)?.is_ready() {
            let byte_count = buffer.filled().len();
            worker.tally.input_bytes.add(byte_count as u64);
            return Poll::Ready(Ok(byte_count));
        }
        self.peer.park(cx.waker());
        if self.peer.stopping() == Stop::No { Poll::Pending } else { Poll::Ready(Ok(0)) }
    }

    /// Writes all of `output`. Nothing is read meanwhile, so a client that does not read its
    /// replies holds one batch of them; it is closed when it takes nothing for [`WRITE_WAIT`].
    async fn write(&mut self, output: &Output) -> io::Result<()> {
        if output.is_empty() {
            return Ok(());
        }
        let mut progress = Progress::default();
        let first = poll_fn(|cx| Poll::Ready(self.poll_write(cx, output, progress))).await;
        if let Poll::Ready(written) = first {
            progress = output.after(progress, written?);
        }
        if !output.is_written(progress) {
            self.count_held(self.held_bytes() + output.allocated_bytes())?;
        }
        while !output.is_written(progress) {
            let write = poll_fn(|cx| self.poll_write_or_kill(cx, output, progress));
            let Ok(written) = tokio::time::timeout(WRITE_WAIT, write).await else {
                self.worker.tally.stalled.add(1);
                return Err(io::ErrorKind::TimedOut.into());
            };
            progress = output.after(progress, written?);
        }
        self.worker.tally.output_bytes.add(output.len() as u64);
        Ok(())
    }

    fn poll_write_or_kill(
        &mut self,
        cx: &mut Context<'_>,
        output: &Output,
        progress: Progress,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = self.poll_write(cx, output, progress) {
            return Poll::Ready(written);
        }
        self.peer.park(cx.waker());
        if self.peer.stopping() == Stop::Kill {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Poll::Pending
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        output: &Output,
        progress: Progress,
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        let written = match output.plain(progress) {
            Some(bytes) => ready!(stream.poll_write(cx, bytes))?,
            None => {
                let mut slices = [IoSlice::new(&[]); SLICE_COUNT_MAX];
                let count = output.slices(progress, &mut slices);
                ready!(stream.poll_write_vectored(cx, &slices[..count]))?
            }
        };
        Poll::Ready(if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) })
    }

    /// Bytes of memory that the connection holds between two batches.
    fn held_bytes(&self) -> usize {
        self.intake.held_bytes() + self.session.held_bytes()
    }

    /// Counts `held_bytes` with the door where it is much.
    fn count_held(&mut self, held_bytes: usize) -> io::Result<()> {
        let counted = if held_bytes < HELD_COUNTED_BYTES_MIN { 0 } else { held_bytes };
        if counted != self.counted_bytes {
            let before = std::mem::replace(&mut self.counted_bytes, counted);
            self.worker.door.hold(before, counted).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Less is never too much.
        let _ = self.worker.door.hold(self.counted_bytes, 0);
        self.worker.door.clients().leave(self.peer.client().id());
    }
}

fn surroundings(worker: &Worker) -> Surroundings<'_> {
    let node = worker.door.node();
    Surroundings {
        store: node.store(),
        server: &*worker.door,
        tally: &worker.tally,
        now: node.now(),
    }
}
