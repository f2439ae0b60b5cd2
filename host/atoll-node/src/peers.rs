//! Links to other nodes: bytes in and out for the replication machine of the core.
//!
//! One thread of its own runs everything: the machine, the connections, the dialling. What is
//! replicated, to whom and when is decided in `atoll_core::replica`; keys and values are opaque
//! here.

mod accept;
mod backoff;
mod certificates;
mod channel;
mod complaints;
mod dial;
mod handshake;
mod hub;
mod introduction;
mod lane;
mod limits;
mod link;
mod meeting;
mod packing;
mod preface;
mod proof;
mod queue;
mod roster;
pub(crate) mod settings;
mod supervise;
mod switchboard;

use crate::listen;
use crate::node::Node;
use anyhow::Context;
use atoll_core::replica::saved::Saved;
use atoll_core::wire::frame::VERSIONS;
use channel::Security;
use hub::{Hub, Question};
use introduction::{Introduction, Purpose};
use limits::{FAREWELL_WAIT, QUESTION_COUNT_MAX};
use meeting::Meeting;
use settings::{Compression, Listen, Settings};
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use switchboard::Switchboard;
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// The running links of a node.
#[derive(Debug)]
pub(crate) struct Links {
    thread: JoinHandle<()>,
    /// Open for as long as the thread runs.
    running: mpsc::Receiver<std::convert::Infallible>,
    checkpoints: Checkpoints,
}

/// Says what a disk should keep of replication, from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoints {
    questions: mpsc::Sender<Question>,
    /// The state when it was asked for last, or at the end.
    last: Arc<Mutex<Saved>>,
}

/// When links end.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    /// Cancelled by the node once it takes no more writes: links hand over what they have and end.
    pub(crate) stop: CancellationToken,
    /// Cancelled by the links where they cannot go on: the node has to stop.
    pub(crate) failed: CancellationToken,
}

/// What the thread starts with.
struct Seat {
    node: Arc<Node>,
    settings: Settings,
    security: Security,
    listener: Option<TcpListener>,
    saved: Option<Saved>,
    questions: mpsc::Receiver<Question>,
    last: Arc<Mutex<Saved>>,
    stop: CancellationToken,
}

/// Binds the peers' port. Where the default one is taken, and nobody asked for it, the node goes
/// without: a second node on one machine.
pub(crate) fn bind(listen: Listen) -> anyhow::Result<Option<TcpListener>> {
    match listen {
        Listen::Off => Ok(None),
        Listen::Asked(address) => listen::bind("--peers-listen", address).map(Some),
        Listen::Offered(address) => match listen::bind("--peers-listen", address) {
            Ok(listener) => Ok(Some(listener)),
            Err(error) => {
                let error = format!("{error:#}");
                warn!(error, "no port for peers; this node can dial them and not be dialled");
                Ok(None)
            }
        },
    }
}

/// Starts the thread that links this node with others.
///
/// `saved` describes what the store was loaded from; it must have been loaded.
pub(crate) fn serve(
    listener: Option<TcpListener>,
    node: Arc<Node>,
    (settings, saved): (Settings, Option<Saved>),
    ends: Ends,
) -> anyhow::Result<Links> {
    let security = Security::new(&settings)?;
    info!(cluster = settings.cluster, proof = security.as_str(), "links to peers are ready");
    let (alive, running) = mpsc::channel(1);
    let (sender, questions) = mpsc::channel(QUESTION_COUNT_MAX);
    let forgetting = sender.clone();
    node.replication().set_forgetter(Box::new(move |origin| {
        forgetting.try_send(Question::Forget(origin)).is_ok()
    }));
    let last = Arc::new(Mutex::new(saved.clone().unwrap_or_default()));
    let checkpoints = Checkpoints { questions: sender, last: Arc::clone(&last) };
    let Ends { stop, failed } = ends;
    let seat = Seat { node, settings, security, listener, saved, questions, last, stop };
    let work = move || {
        // Dropped on a panic, too: nobody waits for a thread that is gone.
        let _alive = alive;
        let guard = failed.clone().drop_guard();
        match run_thread(seat) {
            Ok(()) => drop(guard.disarm()),
            Err(error) => error!(%error, "links cannot go on; the node stops"),
        }
    };
    let thread = std::thread::Builder::new().name("atoll-links".to_owned()).spawn(work);
    Ok(Links { thread: thread.context("cannot start the thread of links")?, running, checkpoints })
}

impl Links {
    /// Says what a disk should keep, for as long as it is asked.
    pub(crate) fn checkpoints(&self) -> Checkpoints {
        self.checkpoints.clone()
    }

    /// Completes when every link has ended after the node was told to stop.
    pub(crate) async fn stopped(mut self) {
        // Nothing is ever sent: the channel closes with the thread.
        let _ = self.running.recv().await;
        // It was at its end; a panic in it was logged where it happened.
        let _ = self.thread.join();
    }
}

impl Checkpoints {
    /// What a disk should keep at this moment: whatever it covers is in the store already. The
    /// latest answer again, which is as true and a little old, where the links have ended.
    ///
    /// Waits for the thread of links, some milliseconds at most. Not to be called from a task.
    pub(crate) fn take(&self) -> Saved {
        let (back, answer) = std::sync::mpsc::sync_channel(1);
        let is_asked = self.questions.blocking_send(Question::Saved(back)).is_ok();
        let saved = if is_asked { answer.recv().ok() } else { None };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(saved) = saved {
            *last = saved;
        }
        last.clone()
    }
}

fn run_thread(seat: Seat) -> anyhow::Result<()> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(run(seat))
}

async fn run(seat: Seat) -> anyhow::Result<()> {
    let Seat { node, settings, security, listener, saved, questions, last, stop } = seat;
    let hub = Hub::new(Arc::clone(&node), &settings, saved)?;
    let ours = Introduction {
        versions: VERSIONS,
        cluster: settings.cluster.clone(),
        name: node.name().to_owned(),
        origin: node.store().origin(),
        nonce: Default::default(),
        purpose: Purpose::Link,
        reads_zstd: settings.compression != Compression::Off,
    };
    let switchboard = Rc::new(Switchboard::new(hub, Meeting { security, ours }));
    let end = CancellationToken::new();
    let accepting = async {
        match listener {
            Some(listener) => {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                Ok(accept::accept(Rc::clone(&switchboard), listener, stop.clone()).await?)
            }
            None => anyhow::Ok(()),
        }
    };
    let dialling = async {
        let dialled: Result<(), JoinError> =
            supervise::supervise(Rc::clone(&switchboard), stop.clone()).await;
        anyhow::Ok(dialled?)
    };
    let linking = async {
        let links = async { tokio::try_join!(accepting, dialling) };
        let mut links = std::pin::pin!(links);
        tokio::select! {
            // Before the stop, only a failure ends them.
            ended = &mut links => { ended?; }
            () = async { stop.cancelled().await; switchboard.hub.take_leave().await } => {
                // Whoever has not left by now is not waited for.
                if let Ok(ended) = timeout(2 * FAREWELL_WAIT, links).await {
                    ended?;
                }
            }
        }
        end.cancel();
        anyhow::Ok(())
    };
    let (linked, ()) = tokio::join!(linking, switchboard.hub.run(questions, end.clone()));
    linked?;
    *last.lock().unwrap_or_else(PoisonError::into_inner) = switchboard.hub.saved();
    Ok(())
}
