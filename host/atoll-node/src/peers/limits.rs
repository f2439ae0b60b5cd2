//! The bound of every size, count and wait on connections between nodes.

use atoll_core::limits::{CHUNK_BYTES, FRAME_BYTES_MAX, NODE_NAME_BYTES_MAX};
use std::time::Duration;

/// A frame over this many bytes is sent in fragments.
pub(super) const WHOLE_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a frame in one fragment.
pub(super) const FRAGMENT_BYTES: usize = 64 * 1024;
/// Longest message on an open link: a whole frame, and what says that it is compressed.
pub(super) const MESSAGE_BYTES_MAX: usize = WHOLE_BYTES_MAX + 16;
/// Frames from this many bytes on are worth compressing.
pub(super) const COMPRESSED_BYTES_MIN: usize = 1024;
/// Bytes of an assembled frame for which memory is taken before they have come.
pub(super) const ASSEMBLY_BYTES_START: usize = 1024 * 1024;

/// Longest message of somebody who has proved nothing yet.
pub(super) const STRANGER_BYTES_MAX: usize = 4 * 1024;
/// Longest hello of a peer that has proved who it is: a mark for each process that ever was.
pub(super) const HELLO_BYTES_MAX: usize = 1024 * 1024;
/// Longest reason that a stranger may give, in bytes.
pub(super) const REASON_BYTES_MAX: usize = 512;
/// Longest wait for a connection to be made.
pub(super) const CONNECT_WAIT: Duration = Duration::from_secs(3);
/// Longest time that both ends take to say and to prove who they are.
pub(super) const HANDSHAKE_WAIT: Duration = Duration::from_secs(5);
/// Longest time for a stranger to read why it is refused.
pub(super) const REFUSAL_WAIT: Duration = Duration::from_secs(1);
/// Most connections at once whose ends have yet to prove who they are.
pub(super) const STRANGER_COUNT_MAX: usize = 64;
/// Most of them from one address: one stranger alone cannot keep others out.
pub(super) const STRANGER_COUNT_MAX_EACH: usize = 16;
/// Most connections of proven peers that were accepted: two for each link.
pub(super) const ACCEPTED_COUNT_MAX: usize = 1_024;
/// Longest wait for the second connection of a link.
pub(super) const BULK_WAIT: Duration = Duration::from_secs(10);

/// Bytes that one write gathers.
pub(super) const WRITE_BYTES: usize = 256 * 1024;
/// Room that one read offers.
pub(super) const READ_BYTES: usize = 64 * 1024;
/// Bytes of frames that a connection is read for before the others have their turn.
pub(super) const TURN_BYTES: usize = 256 * 1024;
/// Bytes that a buffer may keep while nothing is to be written.
pub(super) const IDLE_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Longest time in which a peer may take nothing of what is written to it.
pub(super) const WRITE_WAIT: Duration = Duration::from_secs(10);
/// Longest time for the last frames of a link, once it is to end.
pub(super) const FAREWELL_WAIT: Duration = Duration::from_secs(2);
/// How long what a peer said before it closed is still looked for.
pub(super) const LAST_WORDS_WAIT: Duration = Duration::from_millis(200);
/// Bytes of live frames that may wait to be written. The machine's windows keep them far below.
pub(super) const LIVE_QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The same for syncs and large values.
pub(super) const BULK_QUEUE_BYTES_MAX: usize = 4 * FRAME_BYTES_MAX;

/// Silence after which the kernel asks whether the other end is still there.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(15);
/// Pause after a failed accept: it fails again at once while file descriptors are short.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Shortest wait before a peer is dialled again.
pub(super) const RETRY_MIN: Duration = Duration::from_millis(100);
/// Longest wait before a peer is dialled again. A network that heals after a long or restless time
/// is used again within this, and one dial a second costs neither side anything.
pub(super) const RETRY_MAX: Duration = Duration::from_secs(1);
/// Shortest wait before a peer is dialled again that has declined, or was declined.
pub(super) const REFUSED_RETRY_MIN: Duration = Duration::from_secs(5);
/// Longest wait before such a peer is dialled again.
pub(super) const REFUSED_RETRY_MAX: Duration = Duration::from_secs(30);
/// Wait before an address is dialled again at which this node found itself.
pub(super) const ONESELF_RETRY: Duration = Duration::from_secs(60);
/// A link that has lived so long was a good one: the next wait begins anew.
pub(super) const GOOD_LINK: Duration = Duration::from_secs(10);
/// How often a name that stands for several nodes is looked up.
pub(super) const LOOKUP_INTERVAL: Duration = Duration::from_secs(5);
/// Longest wait for an answer about a name.
pub(super) const LOOKUP_WAIT: Duration = Duration::from_secs(5);
/// Most addresses behind the name of one node that are tried.
pub(super) const ADDRESS_COUNT_MAX: usize = 8;

/// Longest pause of the machine while links are up.
pub(super) const TICK: Duration = Duration::from_millis(20);
/// Longest pause of the machine while none is.
pub(super) const IDLE_TICK: Duration = Duration::from_millis(250);
/// Ops are gathered for so long while many come.
pub(super) const BATCH_WAIT: Duration = Duration::from_millis(1);
/// So many ops at once are many.
pub(super) const BATCH_OP_COUNT: u64 = 8;
/// How often the board shows how replication stands.
pub(super) const STATUS_INTERVAL: Duration = Duration::from_millis(100);
/// Longest wait, at the end, for peers to take what they lack.
pub(super) const HANDOVER_WAIT: Duration = Duration::from_secs(2);
/// Most questions to the machine that wait for it.
pub(super) const QUESTION_COUNT_MAX: usize = 64;
/// Most complaints that are remembered so as not to be logged again.
pub(super) const COMPLAINT_COUNT_MAX: usize = 256;
/// After this long a complaint is news again.
pub(super) const COMPLAINT_AGAIN: Duration = Duration::from_secs(600);

/// Round trip above which frames are compressed unless told otherwise, in microseconds.
pub(super) const FAR_RTT_US: u64 = 5_000;

const _: () = assert!(CHUNK_BYTES < WHOLE_BYTES_MAX, "most of a sync goes in whole frames");
const _: () = assert!(FRAGMENT_BYTES < WHOLE_BYTES_MAX, "a fragment is a message");
const _: () = assert!(FRAME_BYTES_MAX < u32::MAX as usize, "lengths have 32 bits");
const _: () = assert!(4 * NODE_NAME_BYTES_MAX < STRANGER_BYTES_MAX, "names fit");
