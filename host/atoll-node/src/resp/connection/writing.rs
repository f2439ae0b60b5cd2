//! Replies on their way to the client: with one call where it takes them, in its own time where not.

use super::Connection;
use crate::resp::clients::Stop;
use atoll_core::resp::output::{Output, Progress};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWrite;

/// Longest wait for a client to take some of its replies.
const WRITE_WAIT: Duration = Duration::from_secs(60);
/// Parts of an output that one call writes.
const SLICE_COUNT_MAX: usize = 64;

impl Connection {
    /// Writes all of `output`. Nothing is read meanwhile, so a client that does not read its
    /// replies holds one batch of them; it is closed when it takes nothing for [`WRITE_WAIT`].
    pub(super) async fn write(&mut self, output: &Output) -> io::Result<()> {
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
        // A listener that takes nothing is cut off long before its time to write is over.
        if self.session.poll_cut_off(cx).is_ready() {
            self.worker.tally.stalled.add(1);
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
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
}
