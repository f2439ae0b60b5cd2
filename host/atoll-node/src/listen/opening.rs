//! A connection that gives up on a client that does not say what it speaks.
//!
//! Hyper's own time-outs begin once it knows the version of HTTP, for which it waits as long as the
//! client likes: without one, whoever connects and sends nothing holds a place for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How every HTTP/2 connection begins (RFC 9113 section 3.4). What begins otherwise is HTTP/1.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose reads fail where its version of HTTP is not known in time.
#[derive(Debug)]
pub(super) struct Opening<S> {
    stream: S,
    /// `None` once the version is known.
    unknown: Option<Unknown>,
}

#[derive(Debug)]
struct Unknown {
    /// How much of the preface has been read.
    seen: usize,
    known_by: Instant,
    /// Runs while a read is waiting; most connections never have one.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Opening<S> {
    /// The client has `wait` from now.
    pub(super) fn new(stream: S, wait: Duration) -> Opening<S> {
        let unknown = Unknown { seen: 0, known_by: Instant::now() + wait, waiting: None };
        Opening { stream, unknown: Some(unknown) }
    }
}

impl Unknown {
    /// Whether the version is known after `bytes` more.
    fn is_settled_by(&mut self, bytes: &[u8]) -> bool {
        let rest = &PREFACE[self.seen..];
        self.seen += bytes.len().min(rest.len());
        !rest.starts_with(bytes) || self.seen == PREFACE.len()
    }

    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        let known_by = self.known_by;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep_until(known_by)));
        waiting.as_mut().poll(context).is_ready()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opening<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Some(unknown) = &mut self.unknown {
            if unknown.is_settled_by(&buffer.filled()[before..]) {
                self.unknown = None;
            } else if read.is_pending() && unknown.is_over(context) {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)));
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opening<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

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
    use tokio::time::{sleep, timeout};

    const WAIT: Duration = Duration::from_secs(30);

    /// A client that sends `pieces`, one a second, and then nothing more: whether it is given up.
    async fn is_given_up(pieces: &[&[u8]]) -> bool {
        let (near, mut far) = tokio::io::duplex(100);
        let mut near = Opening::new(near, WAIT);
        let reader = tokio::spawn(async move {
            let mut piece = [0; 100];
            let started = Instant::now();
            loop {
                match timeout(WAIT * 10, near.read(&mut piece)).await {
                    Ok(Ok(count)) => assert!(count > 0, "the client stays connected"),
                    Ok(Err(error)) => {
                        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                        assert_eq!(started.elapsed().as_secs(), WAIT.as_secs());
                        return true;
                    }
                    Err(_) => return false,
                }
            }
        });
        for piece in pieces {
            // The reader may have left.
            let _ = far.write_all(piece).await;
            sleep(Duration::from_secs(1)).await;
        }
        reader.await.expect("no panic")
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_say_what_it_speaks_is_given_up() {
        assert!(is_given_up(&[]).await);
        assert!(is_given_up(&[b"P"]).await);
        let dripping: Vec<&[u8]> = PREFACE[..23].chunks(1).collect();
        assert!(is_given_up(&dripping).await);
    }

    #[tokio::test(start_paused = true)]
    async fn one_whose_version_is_known_is_left_to_hyper() {
        for pieces in [
            &[b"GET / HTTP/1.1\r\n".as_slice()][..],
            &[b"P", b"U"],
            &[b"x"],
            &[PREFACE],
            &[&PREFACE[..10], &PREFACE[10..]],
            &[&[&PREFACE[..], b"more"].concat()],
        ] {
            assert!(!is_given_up(pieces).await, "{pieces:?}");
        }
    }
}
