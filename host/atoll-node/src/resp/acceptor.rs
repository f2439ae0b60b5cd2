//! Takes new connections from the listener and hands them to the threads in turn.
//!
//! One listener instead of one for each thread: the kernel would spread ten connections by their
//! addresses, and all of them may land on the same thread.

use super::door::{Admission, Door};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Connections that wait for a thread to take them; past it the kernel's queue fills.
pub(super) const QUEUE_COUNT_MAX: usize = 256;
/// Pause after a failed accept: it fails again at once while file descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Silence after which the kernel asks whether the other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(300);

/// Accepts until `shutdown`.
pub(super) async fn accept(
    listener: std::net::TcpListener,
    threads: Vec<mpsc::Sender<std::net::TcpStream>>,
    (door, shutdown): (&Door, CancellationToken),
) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut turn = threads.iter().cycle();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if door.admit() == Admission::Full {
            // As much of it as fits at once: nobody waits for a client that is turned away.
            let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
            continue;
        }
        match prepare(stream) {
            Ok(stream) => {
                let thread = turn.next().expect("there is at least one thread");
                if thread.send(stream).await.is_err() {
                    return Ok(());
                }
            }
            Err(error) => debug!(%error, "connection lost before it was served"),
        }
    }
}

fn prepare(stream: TcpStream) -> std::io::Result<std::net::TcpStream> {
    // Without it small answers wait for the client's acknowledgement.
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE);
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    stream.into_std()
}
