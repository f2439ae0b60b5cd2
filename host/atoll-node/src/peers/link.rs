//! One link: its two connections, from the moment when the machine knows it until it has ended.

use super::channel::Stream;
use super::handshake::Messages;
use super::hub::{Hub, Outlets};
use super::lane::{self, End, Reading};
use super::limits::{BULK_WAIT, FAREWELL_WAIT, LAST_WORDS_WAIT};
use atoll_core::wire::frame::Lane;
use std::net::SocketAddr;
use std::rc::Rc;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

/// A link that is up.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) outlets: Rc<Outlets>,
    /// The address at the other end.
    pub(super) address: SocketAddr,
    /// The connection for live ops, which also carries the farewells.
    pub(super) live: Messages<Stream>,
}

/// Runs a link to its end. `bulk` gives its second connection, or says why there is none.
///
/// `on_taken` is called once the peer has taken the link, too. The machine has forgotten the link
/// when this returns; where it is dropped before, it has not.
pub(super) async fn run(
    hub: &Hub,
    link: Link,
    bulk: impl Future<Output = Result<Messages<Stream>, String>>,
    on_taken: impl Fn(),
) -> End {
    let Link { outlets, address, live } = link;
    let on_taken = || {
        info!(peer = %outlets.peer, %address, "link is up");
        on_taken();
    };
    let end = run_live(hub, (&*outlets, live), bulk, &on_taken).await;
    let reason = end.words();
    if outlets.taken.get() && !end.is_duplicate() {
        info!(peer = %outlets.peer, %address, %reason, "link has ended");
    } else {
        debug!(peer = %outlets.peer, %address, %reason, "link has ended");
    }
    end
}

async fn run_live(
    hub: &Hub,
    (outlets, live): (&Outlets, Messages<Stream>),
    bulk: impl Future<Output = Result<Messages<Stream>, String>>,
    on_taken: &dyn Fn(),
) -> End {
    let parts = live.into_parts();
    let (read, mut write) = tokio::io::split(parts.io);
    let mut messages = lane::reader(read, parts.codec, parts.read_buf);
    let reading = Reading { hub, outlets, lane: Lane::Live, on_taken };
    let (end, is_all_written) = tokio::select! {
        end = lane::read(&mut messages, reading) => (end, false),
        end = write_live(&mut write, outlets) => (end, true),
        end = run_bulk(hub, outlets, bulk, on_taken) => (end, false),
        end = outlets.given_up() => (end, false),
    };
    hub.disconnect(outlets.link);
    if let (End::Told(farewell), true) = (&end, is_all_written) {
        lane::take_leave(&mut write, farewell).await;
        // Closed with something unread, the connection would be reset, and the farewell lost.
        drain(messages.get_mut()).await;
    }
    end
}

async fn write_live<W: AsyncWrite + Unpin>(stream: &mut W, outlets: &Outlets) -> End {
    let end = lane::write(stream, (&outlets.live, outlets)).await;
    if let End::Lost(_) = end {
        // What the peer said before it closed tells more, and may still be read.
        sleep(LAST_WORDS_WAIT).await;
    }
    end
}

/// Runs the second connection until it is lost. Its orderly end is the first one's affair.
async fn run_bulk(
    hub: &Hub,
    outlets: &Outlets,
    bulk: impl Future<Output = Result<Messages<Stream>, String>>,
    on_taken: &dyn Fn(),
) -> End {
    let messages = match timeout(BULK_WAIT, bulk).await {
        Ok(Ok(messages)) => messages,
        Ok(Err(reason)) => return End::Lost(format!("no second connection: {reason}")),
        Err(_) => return End::Lost("the second connection did not come in time".to_owned()),
    };
    let parts = messages.into_parts();
    let (read, mut write) = tokio::io::split(parts.io);
    let mut messages = lane::reader(read, parts.codec, parts.read_buf);
    let reading = Reading { hub, outlets, lane: Lane::Bulk, on_taken };
    let end = tokio::select! {
        end = lane::read(&mut messages, reading) => end,
        end = lane::write(&mut write, (&outlets.bulk, outlets)) => end,
    };
    // The first connection is about to end, too, and can say why.
    sleep(FAREWELL_WAIT).await;
    end
}

/// Reads away what still comes, for a while.
async fn drain<R: AsyncRead + Unpin>(stream: &mut R) {
    let mut piece = [0; 4_096];
    let all = async { while stream.read(&mut piece).await.is_ok_and(|count| count > 0) {} };
    // Whoever goes on sending is cut off.
    let _ = timeout(FAREWELL_WAIT, all).await;
}
