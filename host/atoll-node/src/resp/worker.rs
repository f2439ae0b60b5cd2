//! One thread of the RESP port: its runtime, its buffers, its connections.

use super::acceptor;
use super::connection::Connection;
use super::door::Door;
use atoll_core::limits::REQUEST_SCRATCH_BYTES;
use atoll_core::resp::output::Output;
use atoll_core::resp::tally::Tally;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::{LocalOptions, LocalRuntime};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

/// How often connections are asked whether they have been silent for too long.
const IDLE_CHECK: Duration = Duration::from_secs(1);
/// An output buffer that grew over this is given back instead of kept.
const OUTPUT_KEPT_BYTES_MAX: usize = 64 * 1024;

/// What a thread starts with.
pub(super) struct Seat {
    pub(super) door: Arc<Door>,
    /// Of this thread among all.
    pub(super) index: usize,
    /// Its new connections.
    pub(super) inbox: mpsc::Receiver<std::net::TcpStream>,
    /// Where this thread accepts for all: the listener and the threads' inboxes.
    pub(super) accepting: Option<(std::net::TcpListener, Vec<mpsc::Sender<std::net::TcpStream>>)>,
}

/// What the connections of a thread share.
pub(super) struct Worker {
    pub(super) door: Arc<Door>,
    pub(super) tally: Arc<Tally>,
    /// What a connection reads into while it holds no long request.
    pub(super) scratch: RefCell<Box<[u8]>>,
    /// The buffer for replies; taken while a batch is executed and written.
    output: RefCell<Option<Output>>,
}

impl Worker {
    /// An empty output: the shared one, or a new one while another connection waits to write.
    pub(super) fn take_output(&self) -> Output {
        self.output.borrow_mut().take().unwrap_or_default()
    }

    /// Takes back an output.
    pub(super) fn put_output(&self, mut output: Output) {
        output.clear();
        if output.allocated_bytes() <= OUTPUT_KEPT_BYTES_MAX {
            *self.output.borrow_mut() = Some(output);
        }
    }
}

/// The runtime of a RESP thread: one thread, tasks that never move.
pub(super) fn runtime() -> anyhow::Result<LocalRuntime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    Ok(builder.enable_all().build_local(LocalOptions::default())?)
}

/// Serves the connections that arrive at this seat until `shutdown`, then lets them end.
pub(super) async fn run(seat: Seat, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Seat { door, index, inbox, accepting } = seat;
    let worker = Rc::new(Worker {
        tally: door.tally(index),
        door: Arc::clone(&door),
        scratch: RefCell::new(vec![0; REQUEST_SCRATCH_BYTES].into()),
        output: RefCell::new(None),
    });
    let accept = async {
        match accepting {
            Some((listener, threads)) => {
                acceptor::accept(listener, threads, (&door, shutdown.clone())).await
            }
            None => Ok(()),
        }
    };
    let serve = serve(worker, inbox, shutdown.clone());
    let (accepted, ()) = tokio::join!(accept, serve);
    accepted
}

async fn serve(
    worker: Rc<Worker>,
    mut inbox: mpsc::Receiver<std::net::TcpStream>,
    shutdown: CancellationToken,
) {
    let mut connections = JoinSet::new();
    let mut idle_check = tokio::time::interval(IDLE_CHECK);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            stream = inbox.recv() => match stream {
                Some(stream) => start(&worker, stream, &mut connections),
                None => break,
            },
            Some(ended) = connections.join_next() => note_end(ended),
            _ = idle_check.tick() => kill_idle(&worker.door),
        }
    }
    // Connections of other threads hear of it too, and again: that does no harm.
    worker.door.clients().drain();
    while let Some(ended) = connections.join_next().await {
        note_end(ended);
    }
}

fn start(worker: &Rc<Worker>, stream: std::net::TcpStream, connections: &mut JoinSet<()>) {
    let connection =
        TcpStream::from_std(stream).and_then(|stream| Connection::new(stream, Rc::clone(worker)));
    match connection {
        Ok(connection) => {
            connections.spawn_local(connection.run());
        }
        Err(error) => debug!(%error, "connection lost before it was served"),
    }
}

/// A panic costs its connection only; it is our bug all the same.
fn note_end(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        error!(%error, "a RESP connection ended by a panic");
    }
}

fn kill_idle(door: &Door) {
    if let Some(idle_ms_max) = door.idle_ms_max() {
        door.clients().kill_idle(door.node().now().millis().saturating_sub(idle_ms_max));
    }
}
