//! Connections to one server over HTTP/2, each shared by many requests.
//!
//! Hyper's client drops interim responses over HTTP/2, so these drive the `h2` that it is made of. Over
//! HTTP/1.1 hyper's client keeps connections itself; which of both a server speaks is known here.

use super::UpstreamError;
use super::dial::{Dialler, Parked, Stream, is_http2, refused_certificate};
use super::limits::{
    CLOSING_WAIT, CONNECTION_COUNT_MAX, HEADER_BYTES_MAX, IDLE_LOOK_EVERY, IDLE_WAIT,
    OPENING_COUNT_MAX, SEND_BYTES_MAX, STREAM_COUNT_MAX, STREAM_WINDOW_BYTES,
};
use bytes::Bytes;
use h2::client::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, interval};
use tracing::debug;

/// What a server was last seen to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    Unknown,
    Http1,
    Http2,
}

/// What came of an attempt to open a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opened {
    Http1,
    Http2,
    /// The server has shown no certificate that is accepted.
    Unproved,
    Failed,
}

/// The connections.
#[derive(Debug)]
pub(super) struct Connections {
    dialler: Dialler,
    state: Mutex<State>,
    /// Told when a request may find a place that found none before.
    freed: Notify,
}

#[derive(Debug)]
struct State {
    spoken: Spoken,
    /// Those that take requests.
    listed: Vec<Listed>,
    /// The one that is being opened, for all who wait for it.
    opening: Option<watch::Receiver<Option<Opened>>>,
    parked: Option<Parked>,
}

#[derive(Debug)]
struct Listed {
    connection: Arc<Connection>,
    /// Requests that are under way over it.
    count: usize,
    /// When the last of them ended, or it was opened.
    idle_since: Instant,
}

/// A connection. It ends once nobody has it any more.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Bytes>,
}

/// A place for one request at a connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    connections: Arc<Connections>,
    connection: Arc<Connection>,
}

impl Connections {
    /// Opens none yet.
    pub(super) fn new(dialler: Dialler) -> Arc<Connections> {
        let spoken = if dialler.offers_http2() { Spoken::Unknown } else { Spoken::Http1 };
        let state = State { spoken, listed: Vec::new(), opening: None, parked: None };
        Arc::new(Connections { dialler, state: Mutex::new(state), freed: Notify::new() })
    }

    /// A place at the connection with the fewest requests, or at a new one. `None` where the server
    /// speaks HTTP/1.1.
    pub(super) async fn seat(self: &Arc<Self>) -> Result<Option<Arc<Seat>>, UpstreamError> {
        let mut opening_count = 0;
        loop {
            // Hears what is told from here on, also before it is waited for.
            let freed = self.freed.notified();
            let opening = {
                let mut state = self.state();
                if state.spoken == Spoken::Http1 {
                    return Ok(None);
                }
                if let Some(listed) = state.choose() {
                    listed.count += 1;
                    let connection = Arc::clone(&listed.connection);
                    let connections = Arc::clone(self);
                    return Ok(Some(Arc::new(Seat { connections, connection })));
                }
                (state.listed.len() < CONNECTION_COUNT_MAX).then(|| self.open(&mut state))
            };
            let Some(mut opening) = opening else {
                freed.await;
                continue;
            };
            opening_count += 1;
            let opened = opening.wait_for(Option::is_some).await.map_or(None, |opened| *opened);
            match opened {
                Some(Opened::Http1) => return Ok(None),
                Some(Opened::Http2) if opening_count < OPENING_COUNT_MAX => {}
                // It ends each before it has taken a request.
                Some(Opened::Http2) => return Err(UpstreamError::Closed),
                Some(Opened::Unproved) => return Err(UpstreamError::Certificate),
                Some(Opened::Failed) | None => return Err(UpstreamError::Connect),
            }
        }
    }

    /// A connection for hyper's client.
    pub(super) async fn stream_for_http1(
        self: &Arc<Self>,
    ) -> Result<Stream, Box<dyn std::error::Error + Send + Sync>> {
        let (parked, spoken) = {
            let mut state = self.state();
            (state.parked.take(), state.spoken)
        };
        if let Some(stream) = parked.and_then(Parked::into_fresh) {
            return Ok(stream);
        }
        if self.dialler.offers_http2() && spoken != Spoken::Http2 {
            let stream = self.dialler.dial_any().await?;
            if !is_http2(&stream) {
                self.state().spoken = Spoken::Http1;
                return Ok(stream);
            }
            // It has learnt HTTP/2 since: the next request goes over this one.
            if let Err(error) = self.adopt(TokioIo::new(stream)).await {
                debug!(%error, "no connection over HTTP/2");
            }
        }
        self.dialler.dial_http1().await
    }

    /// Begins to open a connection, unless one is being opened. It goes on if who began it goes.
    fn open(self: &Arc<Self>, state: &mut State) -> watch::Receiver<Option<Opened>> {
        // One whose task has panicked tells nothing any more.
        if let Some(opening) =
            state.opening.as_ref().filter(|opening| opening.has_changed().is_ok())
        {
            return opening.clone();
        }
        let (tell, told) = watch::channel(None);
        state.opening = Some(told.clone());
        let connections = Arc::clone(self);
        tokio::spawn(async move {
            let opened = connections.open_one().await;
            connections.state().opening = None;
            tell.send_replace(Some(opened));
            connections.freed.notify_waiters();
        });
        told
    }

    async fn open_one(self: &Arc<Self>) -> Opened {
        let stream = match self.dialler.dial_any().await {
            Ok(stream) => stream,
            Err(error) => {
                debug!(error = &*error, "no connection");
                return match refused_certificate(&*error) {
                    Some(_) => Opened::Unproved,
                    None => Opened::Failed,
                };
            }
        };
        if !is_http2(&stream) {
            let mut state = self.state();
            state.spoken = Spoken::Http1;
            state.parked = Some(Parked::new(stream));
            return Opened::Http1;
        }
        match self.adopt(TokioIo::new(stream)).await {
            Ok(()) => Opened::Http2,
            Err(error) => {
                debug!(%error, "no connection over HTTP/2");
                Opened::Failed
            }
        }
    }

    /// Begins to speak HTTP/2 over a connection, and takes requests for it from then on.
    pub(super) async fn adopt<S>(self: &Arc<Self>, stream: S) -> Result<(), h2::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = client::Builder::new();
        builder
            .enable_push(false)
            .initial_max_send_streams(STREAM_COUNT_MAX)
            .initial_window_size(STREAM_WINDOW_BYTES)
            // All streams at once: a response that nobody reads takes no room of others.
            .initial_connection_window_size(STREAM_WINDOW_BYTES * STREAM_COUNT_MAX as u32)
            .max_header_list_size(HEADER_BYTES_MAX as u32)
            .max_send_buffer_size(SEND_BYTES_MAX);
        let (sender, driver) = builder.handshake(stream).await?;
        let connection = Arc::new(Connection { sender });
        tokio::spawn(drive(driver, Arc::downgrade(self), Arc::downgrade(&connection)));
        let mut state = self.state();
        state.spoken = Spoken::Http2;
        // One too many, of several that were dialled at once, ends here.
        if state.listed.len() < CONNECTION_COUNT_MAX {
            state.listed.push(Listed { connection, count: 0, idle_since: Instant::now() });
        }
        Ok(())
    }

    /// Lets no more requests go over a connection. Those under way go on.
    fn retire(&self, is_it: impl Fn(&Listed) -> bool) {
        self.state().listed.retain(|listed| !is_it(listed));
        // There is room for a new one.
        self.freed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The connection with the fewest requests that has room for one more.
    fn choose(&mut self) -> Option<&mut Listed> {
        self.listed.retain(|listed| listed.connection.takes_requests());
        let free = self.listed.iter_mut().filter(|listed| {
            listed.count < listed.connection.sender.current_max_send_streams().min(STREAM_COUNT_MAX)
        });
        free.min_by_key(|listed| listed.count)
    }
}

impl Connection {
    /// Whether it is open and the server has not said that it closes.
    fn takes_requests(&self) -> bool {
        // A clone of its own waits for nothing.
        let mut context = Context::from_waker(Waker::noop());
        matches!(self.sender.clone().poll_ready(&mut context), Poll::Ready(Ok(())))
    }
}

impl Seat {
    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.connection.sender.clone()
    }

    /// Lets no more requests go the same way: its connection may be dead without a sign of it.
    pub(super) fn retire(&self) {
        self.connections.retire(|listed| Arc::ptr_eq(&listed.connection, &self.connection));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.connections.state();
        let mut listed = state.listed.iter_mut();
        let own = listed.find(|listed| Arc::ptr_eq(&listed.connection, &self.connection));
        if let Some(own) = own {
            own.count -= 1;
            own.idle_since = Instant::now();
        }
        drop(state);
        self.connections.freed.notify_one();
    }
}

/// Moves a connection on until it ends, and ends it where it is without requests for too long.
async fn drive<S>(
    driver: client::Connection<S, Bytes>,
    connections: Weak<Connections>,
    connection: Weak<Connection>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut driver = pin!(driver);
    let mut looks = interval(IDLE_LOOK_EVERY);
    let mut closing_since = None;
    let is_it =
        |listed: &Listed| std::ptr::eq(Arc::as_ptr(&listed.connection), connection.as_ptr());
    loop {
        tokio::select! {
            ended = &mut driver => {
                if let Err(error) = ended {
                    debug!(%error, "connection to an upstream over HTTP/2 ended");
                }
                break;
            }
            _ = looks.tick() => {}
        }
        if connection.strong_count() == 0 {
            // `h2` ends it by itself, if the server takes what is still to be said.
            let since = *closing_since.get_or_insert_with(Instant::now);
            if since.elapsed() > CLOSING_WAIT {
                break;
            }
        } else if let Some(connections) = connections.upgrade() {
            connections.retire(|listed| {
                is_it(listed) && listed.count == 0 && listed.idle_since.elapsed() >= IDLE_WAIT
            });
        }
    }
    if let Some(connections) = connections.upgrade() {
        connections.retire(is_it);
    }
}

#[cfg(test)]
mod tests;
