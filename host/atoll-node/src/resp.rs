//! The RESP door: existing Redis clients.
//!
//! Threads of its own, so that bursts of HTTP and Wasm work do not delay it. A connection lives on
//! one thread; its commands run where they are read. This shell moves bytes: `atoll_core::resp`
//! decides.

mod acceptor;
mod clients;
mod connection;
mod door;
mod figures;
mod process;
mod worker;

use crate::config::Secret;
use crate::node::Node;
use anyhow::Context;
use door::Door;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What the operator chose for this door.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Threads that serve connections, at least 1.
    pub(crate) thread_count: usize,
    /// Most connections at once.
    pub(crate) clients_max: u32,
    /// Asked for by AUTH, where given.
    pub(crate) password: Option<Secret>,
}

/// The running threads of this door.
#[derive(Debug)]
pub(crate) struct Threads {
    handles: Vec<JoinHandle<()>>,
    /// Open for as long as a thread runs.
    running: mpsc::Receiver<std::convert::Infallible>,
}

/// Starts the threads that serve `listener`, which does not block, until `shutdown`.
pub(crate) fn serve(
    listener: TcpListener,
    node: Arc<Node>,
    config: Config,
    shutdown: CancellationToken,
) -> anyhow::Result<Threads> {
    let port = listener.local_addr().context("the RESP listener has no address")?.port();
    let door = Arc::new(Door::new(Arc::clone(&node), &config, port));
    node.metrics().register_collector(figures::Figures::new(Arc::downgrade(&door)));
    let (alive, running) = mpsc::channel(1);
    let mut listener = Some(listener);
    let mut handles = Vec::new();
    let (senders, inboxes): (Vec<_>, Vec<_>) =
        (0..config.thread_count).map(|_| mpsc::channel(acceptor::QUEUE_COUNT_MAX)).unzip();
    for (index, inbox) in inboxes.into_iter().enumerate() {
        // The first thread also accepts, for all of them.
        let accepting = listener.take().map(|listener| (listener, senders.clone()));
        let seat = worker::Seat { door: Arc::clone(&door), index, inbox, accepting };
        let (alive, shutdown) = (alive.clone(), shutdown.clone());
        let runtime = worker::runtime;
        let handle = std::thread::Builder::new()
            .name(format!("atoll-resp-{index}"))
            .spawn(move || {
                let result = runtime()
                    .and_then(|runtime| runtime.block_on(worker::run(seat, shutdown.clone())));
                if let Err(error) = result {
                    tracing::error!(%error, "a RESP thread could not start; the node stops");
                    shutdown.cancel();
                }
                drop(alive);
            })
            .context("cannot start a RESP thread")?;
        handles.push(handle);
    }
    Ok(Threads { handles, running })
}

impl Threads {
    /// Completes when every connection has ended after a shutdown.
    pub(crate) async fn stopped(mut self) {
        // Nothing is ever sent: the channel closes with the last thread.
        let _ = self.running.recv().await;
        for handle in self.handles {
            // It was at its end; a panic in it was logged where it happened.
            let _ = handle.join();
        }
    }
}

#[cfg(test)]
mod tests;
