//! One client's connection: read a batch, execute it, write its replies with one call.

mod waiting;
mod writing;

use super::clients::{Peer, Stop};
use super::worker::Worker;
use atoll_core::limits::REPLY_BATCH_BYTES;
use atoll_core::resp::client::{Client, Ends};
use atoll_core::resp::intake::{Executor, Intake, Next, Room, Taken};
use atoll_core::resp::output::Output;
use atoll_core::resp::request::{Arguments, ProtocolError, Trust};
use atoll_core::resp::session::{Flow, Session, Surroundings};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tracing::debug;

/// Longest time for which what a client goes on to send after nonsense is read away, as for HTTP,
/// and most bytes: a value of the maximum takes some seconds over many a link.
const LINGER_WAIT: Duration = Duration::from_secs(30);
const LINGER_BYTES_MAX: usize = 128 * 1024 * 1024;
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
    /// The node's latest op before the batch, where replies wait until writes are safe.
    seq_before: u64,
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
    /// Wait for other nodes to hold what was written.
    Wait,
    /// Write the replies and close.
    Close,
    /// Write the replies, read away what the client still sends, and close.
    CloseAfterNonsense,
    /// Write the replies, close, and tell the operator that a client spoke HTTP.
    CloseOnHttp,
}

/// What a connection that receives a long request got.
enum Came {
    /// So many bytes more of it.
    Bytes(usize),
    /// Messages of others.
    Messages,
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
            (Ok(Taken::Stopped), flow) => Turn::after(flow),
        }
    }
}

impl Turn {
    /// What to do where the intake still holds requests.
    fn after(flow: Flow) -> Turn {
        match flow {
            Flow::Continue | Flow::Rest => Turn::Resume,
            Flow::Again => Turn::Proceed,
            Flow::Wait => Turn::Wait,
            Flow::Close => Turn::Close,
            Flow::CloseOnHttp => Turn::CloseOnHttp,
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
        Ok(Connection { stream, worker, peer, session, intake, counted_bytes: 0, seq_before: 0 })
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
                        Turn::Wait => self.wait().await?,
                        _ => self.receive().await?,
                    }
                }
            };
            self.settle(&output).await?;
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

    /// Notes how far the node's writes go before a batch.
    fn note_seq(&mut self) {
        let node = self.worker.door.node();
        if node.is_synchronous() {
            self.seq_before = node.store().seq();
        }
    }

    /// Waits until what the batch has written is safe, if that was promised. Where it cannot be made
    /// so the connection ends without its replies: the client must not take them for true.
    async fn settle(&mut self, output: &Output) -> io::Result<()> {
        let node = self.worker.door.node();
        let has_written = self.session.take_has_written();
        if has_written {
            node.writes().note();
        }
        let has_written = has_written && node.is_synchronous();
        // What was refused, or changed nothing, need not wait.
        if !has_written || node.store().seq() == self.seq_before {
            return Ok(());
        }
        self.count_held(self.held_bytes() + output.allocated_bytes())?;
        self.worker.door.node().settle().await.map_err(io::Error::other)
    }

    /// Waits for bytes and executes what they complete.
    async fn receive(&mut self) -> io::Result<(Turn, Output)> {
        match self.intake.room() {
            Room::Scratch { offset } => poll_fn(|cx| self.poll_receive(cx, offset)).await,
            Room::Buffer => {
                let received = match self.read_into_buffer().await? {
                    Came::Bytes(received) => received,
                    Came::Messages => return Ok(self.write_messages()),
                };
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
            drop(scratch);
            return match self.poll_messages(cx) {
                Poll::Ready(turn) => Poll::Ready(Ok(turn)),
                Poll::Pending => self.poll_stopped(cx),
            };
        }
        let full = buffer.remaining() == 0;
        let end = offset + buffer.filled().len();
        self.note_received(end - offset)?;
        let taken = &mut scratch[..end];
        let (turn, output) = self.execute(|intake, batch| intake.take_scratch(taken, batch));
        let turn = if full && turn == Turn::Read { Turn::ReadLater } else { turn };
        Poll::Ready(Ok((turn, output)))
    }

    async fn read_into_buffer(&mut self) -> io::Result<Came> {
        let Connection { stream, intake, peer, session, .. } = self;
        let mut buffer = intake.buffer();
        let mut read = std::pin::pin!(stream.read_buf(&mut buffer));
        poll_fn(|cx| {
            if let Poll::Ready(received) = read.as_mut().poll(cx) {
                return Poll::Ready(received.map(Came::Bytes));
            }
            if session.poll_messages(cx).is_ready() {
                return Poll::Ready(Ok(Came::Messages));
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

    /// Messages that wait for the client, where it listens.
    fn poll_messages(&mut self, cx: &Context<'_>) -> Poll<(Turn, Output)> {
        if self.session.poll_messages(cx).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(self.write_messages())
    }

    fn write_messages(&mut self) -> (Turn, Output) {
        let mut output = self.worker.take_output();
        match self.session.write_messages(&mut output) {
            Flow::Close => {
                self.worker.tally.stalled.add(1);
                (Turn::Close, output)
            }
            _ => (Turn::Read, output),
        }
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
        self.note_seq();
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
        self.note_seq();
        let Connection { worker, session, .. } = self;
        let mut output = worker.take_output();
        let turn = Turn::after(session.proceed(surroundings(worker), &mut output));
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
        permission: node.replication().permission(),
    }
}
