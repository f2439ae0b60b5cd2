//! A connection that gives up on a client that does not read.
//!
//! Hyper has no time-out for writes: without one, whoever asks for a large value and never reads it
//! holds that value for ever, also after it was deleted.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A stream whose writes fail once the other end has taken nothing for `wait`.
#[derive(Debug)]
pub(super) struct WriteStall<S> {
    stream: S,
    wait: Duration,
    /// Runs while a write is waiting; most connections never have one.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> WriteStall<S> {
    pub(super) fn new(stream: S, wait: Duration) -> WriteStall<S> {
        WriteStall { stream, wait, stalled: None }
    }

    /// Passes on what came of a write, unless it has been waiting for too long.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let wait = self.wait;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(wait)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteStall<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteStall<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, written)
    }

    // Hyper gathers no small body into its own buffer where this is true.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;

    const WAIT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_reads_is_given_up() {
        let (near, _far) = tokio::io::duplex(10);
        let mut near = WriteStall::new(near, WAIT);
        let started = Instant::now();
        let error = near.write_all(&[0; 11]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), WAIT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_and_a_quiet_one_are_waited_for() {
        let (near, mut far) = tokio::io::duplex(10);
        let mut near = WriteStall::new(near, WAIT);
        let reader = tokio::spawn(async move {
            let mut got = Vec::new();
            while got.len() < 100 {
                sleep(WAIT - Duration::from_secs(1)).await;
                let mut piece = [0; 5];
                let count = far.read(&mut piece).await.expect("a read");
                got.extend_from_slice(&piece[..count]);
            }
            // Nothing is being written now, for as long as it likes.
            sleep(WAIT * 10).await;
            let count = far.read(&mut [0; 5]).await.expect("a read");
            got.len() + count
        });
        near.write_all(&[7; 100]).await.expect("each piece is taken in time");
        sleep(WAIT * 5).await;
        near.write_all(b"x").await.expect("the wait begins with the write");
        assert_eq!(reader.await.expect("no panic"), 101);
    }
}
