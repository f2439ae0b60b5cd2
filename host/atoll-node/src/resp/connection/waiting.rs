//! A connection that waits for other nodes, without holding up the others on its thread.

use super::{Connection, Turn};
use crate::replication::progress::Wish;
use crate::resp::clients::Stop;
use atoll_core::resp::output::Output;
use atoll_core::resp::session::Wait;
use futures_util::FutureExt;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::Interest;
use tokio::time::Instant;

/// How often a connection that waits is asked whether its client is still there.
const HANG_UP_CHECK: Duration = Duration::from_secs(1);

impl Connection {
    /// Waits until other nodes hold what was written, and answers how many do. Others on this
    /// thread go on meanwhile.
    pub(super) async fn wait(&mut self) -> io::Result<(Turn, Output)> {
        let worker = Rc::clone(&self.worker);
        let progress = worker.door.node().replication().progress();
        let Some(Wait { seq, count, timeout_ms }) = self.session.waits_for() else {
            return Ok((Turn::Resume, worker.take_output()));
        };
        // A time that cannot be counted is for ever.
        let deadline = match timeout_ms {
            0 => None,
            _ => Instant::now().checked_add(Duration::from_millis(timeout_ms)),
        };
        let holder_count = tokio::select! {
            holder_count = progress.wait(Wish { seq, count }, deadline) => holder_count,
            // The node stops: the truth so far is better than none.
            stop = self.stopped() => match stop {
                Stop::Kill => return Err(io::ErrorKind::ConnectionAborted.into()),
                Stop::Drain | Stop::No => progress.holder_count(seq),
            },
            () = self.hung_up() => return Err(io::ErrorKind::UnexpectedEof.into()),
        };
        let mut output = worker.take_output();
        let turn = Turn::after(self.session.end_wait(holder_count, &mut output));
        Ok((turn, output))
    }

    /// Completes when the connection should end.
    async fn stopped(&self) -> Stop {
        poll_fn(|cx| {
            self.peer.park(cx.waker());
            match self.peer.stopping() {
                Stop::No => Poll::Pending,
                stop => Poll::Ready(stop),
            }
        })
        .await
    }

    /// Completes when the client has ended its side, within [`HANG_UP_CHECK`] of it.
    ///
    /// Nothing is read, so requests that wait to be read must not hide the end behind them: the
    /// readiness of the socket knows of it, and has to be asked.
    async fn hung_up(&self) {
        loop {
            let ready = self.stream.ready(Interest::READABLE).now_or_never();
            if ready.is_some_and(|ready| ready.is_err() || ready.is_ok_and(|r| r.is_read_closed()))
            {
                return;
            }
            tokio::time::sleep(HANG_UP_CHECK).await;
        }
    }
}
