//! The frames that nodes exchange: a tag, then a msgpack tuple.
//!
//! A link has two lanes, each in order and neither in order with the other: live ops and control on
//! one, syncs and large values on the other. `Hello` comes first on either; what it says is a map,
//! so that later versions can say more.

use super::audit::Audit;
use crate::clock::Hlc;
use crate::limits::{MEMBER_COUNT_MAX, NODE_NAME_BYTES_MAX};
use crate::replica::status::{Readiness, Role};
use crate::replica::vector::Vector;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Versions of the protocol that this program speaks.
pub const VERSIONS: Versions = Versions { oldest: 2, newest: 2 };

/// A range of versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The oldest spoken.
    pub oldest: u16,
    /// The newest.
    pub newest: u16,
}

impl Versions {
    /// The newest version that both speak.
    pub fn common(self, other: Versions) -> Option<u16> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest && newest >= other.oldest).then_some(newest)
    }
}

/// Who is at the other end, and how far it is. The first frame either way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Versions that the sender speaks.
    pub versions: Versions,
    /// Of the sender's cluster.
    pub cluster: String,
    /// The sender's stable name.
    pub name: String,
    /// The sender's process.
    pub origin: Uuid,
    /// Drawn at the sender's start: tells a process that dialled itself from a copied id.
    pub boot: u64,
    /// Whether the sender takes writes.
    pub role: Role,
    /// The sender's wall clock, µs since the epoch.
    pub wall_us: u64,
    /// What the sender has.
    pub vector: Vector,
}

/// A process, its name and its role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The process.
    pub origin: Uuid,
    /// Its stable name; empty where only the id is known.
    pub name: Box<str>,
    /// Whether it takes writes.
    pub role: Role,
}

/// What one node says of itself to all, passed on by everyone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The node that it is about.
    pub member: Member,
    /// The larger replaces the smaller.
    pub version: u64,
    /// What it has.
    pub vector: Vector,
    /// Processes that it is linked to: their reports need not be passed on to it.
    pub links: Vec<Uuid>,
    /// Processes that it considers gone for good, and of whom it holds nothing that is in nobody's
    /// stream.
    pub gone: Vec<Uuid>,
    /// Those of the gone that an administrator has said will not come back, and the version of each
    /// one's latest report by then: whoever has heard more of it knows better.
    pub forgotten: Vec<(Uuid, u64)>,
    /// All others that it knows of.
    pub members: Vec<Member>,
    /// Whether the floor must not move because of it.
    pub holds: bool,
    /// Whether it should be sent requests.
    pub readiness: Readiness,
}

/// The beginning of a sync.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncBegin {
    /// What the receiver will have at its end.
    pub vector: Vector,
    /// The sender's floor at this moment.
    pub floor: Hlc,
    /// Whether the receiver must drop what the sender has forgotten.
    pub freshness: Freshness,
    /// Everyone that the sender knows of, gone or not.
    pub members: Vec<Member>,
    /// Those of them that are gone.
    pub gone: Vec<Uuid>,
}

/// Whether a receiver may have missed something that the sender has forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Freshness {
    /// It has not.
    Current,
    /// It may have: what the vector covers and the sender does not list is to be dropped.
    Stale,
}

/// Why a link is ended. For the log of whoever reads it, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Farewell {
    /// The node stops for good or for a restart.
    Stopping,
    /// The link is one too many between the two.
    Duplicate,
    /// The node has dialled itself.
    Oneself,
    /// Try again later, for the reason given.
    Later(String),
    /// The peer is not welcome, for the reason given.
    Refused(String),
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Numbers an origin for this direction of this link.
    Origin {
        /// From 0, each once.
        index: u32,
        /// Whom.
        member: Member,
    },
    /// Consecutive ops of one origin.
    Ops {
        /// As numbered on this link.
        index: u32,
        /// Number of the first.
        first_seq: u64,
        /// What the first stamp is the distance from.
        base: Hlc,
        /// How many.
        count: u32,
        /// The ops themselves.
        run: Bytes,
    },
    /// One op with a large value. Names its origin, because it may overtake [`Frame::Origin`].
    Large {
        /// As numbered on this link.
        index: u32,
        /// Whose op it is.
        member: Member,
        /// Its number.
        seq: u64,
        /// What its stamp is the distance from.
        base: Hlc,
        /// The op itself.
        run: Bytes,
    },
    /// What of the peer's frames has been dealt with.
    Ack {
        /// Weight of all live frames so far.
        live: u64,
        /// Weight of all bulk frames so far.
        bulk: u64,
        /// By the origin's number on the other direction: the latest op held.
        marks: Vec<(u32, u64)>,
    },
    /// Send no more of this origin's ops: they come another way.
    Prune(Uuid),
    /// Do send this origin's ops, after the given number.
    Graft(Uuid, u64),
    /// This origin's ops are stamped too far ahead of the clock, by so many ms: send them later.
    Nack(Uuid, u64),
    /// Passed on to everyone once.
    Report(Box<Report>),
    /// The log no longer holds what the peer lacks: it should ask for a sync.
    NeedSync,
    /// Asks for a sync, from what the sender of this frame has; of the kind given at the least.
    SyncRequest(Vector, Freshness),
    /// There is nothing here that would be worth a sync: ask another, or later.
    SyncRefused,
    /// A sync begins.
    SyncBegin(Box<SyncBegin>),
    /// Entries of a sync, or listed outlines of some: see `wire::chunk`.
    Chunk(Bytes),
    /// A sync ends; the receiver now has what its beginning promised. Of these origins a replica that
    /// sends it may have sent what no master answers for.
    SyncEnd(Vec<Uuid>),
    /// The receiver has taken the sync in, and now has this.
    SyncDone(Vector),
    /// Asks for an answer. The sender's wall clock, µs since the epoch, and its monotonic one, ms.
    Ping(u64, u64),
    /// The answer: the answerer's wall clock, µs since the epoch, and the asker's monotonic one.
    Pong(u64, u64),
    /// A message of the audit of this number; the asker numbers.
    Audit(u64, Box<Audit>),
    /// The end, and why.
    Bye(Farewell),
}

/// Which of a link's two streams a frame takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Live ops and control: small frames.
    Live,
    /// Syncs and large values.
    Bulk,
}

/// Why bytes are no frame. The link must be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Nothing at all.
    #[error("an empty frame")]
    Empty,
    /// Of a later version, or garbage.
    #[error("no frame has the tag {0}")]
    Tag(u8),
    /// Not what the tag announces.
    #[error("not a frame: {0}")]
    Content(String),
}

const ORIGIN: u8 = 1;
const OPS: u8 = 2;
const ACK: u8 = 3;
const PRUNE: u8 = 4;
const GRAFT: u8 = 5;
const NACK: u8 = 6;
const REPORT: u8 = 7;
const NEED_SYNC: u8 = 8;
const SYNC_REQUEST: u8 = 9;
const SYNC_BEGIN: u8 = 10;
const CHUNK: u8 = 11;
const SYNC_END: u8 = 12;
const SYNC_DONE: u8 = 13;
const PING: u8 = 15;
const PONG: u8 = 16;
const BYE: u8 = 17;
const LARGE: u8 = 18;
const SYNC_REFUSED: u8 = 19;
const AUDIT: u8 = 20;

impl Frame {
    /// What the frame counts against its lane's window. Equal at both ends.
    pub fn weight(&self) -> u64 {
        match self {
            Frame::Ops { run, .. } | Frame::Large { run, .. } => run.len() as u64 + 32,
            Frame::Chunk(entries) => entries.len() as u64 + 32,
            _ => 0,
        }
    }

    /// Which of a link's lanes the frame takes. Equal at both ends.
    pub fn lane(&self) -> Lane {
        match self {
            Frame::Large { .. }
            | Frame::SyncBegin(_)
            | Frame::Chunk(_)
            | Frame::SyncEnd(_)
            | Frame::Audit(..) => Lane::Bulk,
            _ => Lane::Live,
        }
    }

    /// Appends the frame's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Frame::Origin { index, member } => put(out, ORIGIN, &(index, member)),
            Frame::Ops { index, first_seq, base, count, run } => {
                put(out, OPS, &(index, first_seq, base, count, serde_bytes::Bytes::new(run)));
            }
            Frame::Large { index, member, seq, base, run } => {
                put(out, LARGE, &(index, member, seq, base, serde_bytes::Bytes::new(run)));
            }
            Frame::Ack { live, bulk, marks } => put(out, ACK, &(live, bulk, marks)),
            Frame::Prune(origin) => put(out, PRUNE, origin),
            Frame::Graft(origin, after) => put(out, GRAFT, &(origin, after)),
            Frame::Nack(origin, ahead_ms) => put(out, NACK, &(origin, ahead_ms)),
            Frame::Report(report) => put(out, REPORT, report),
            Frame::NeedSync => out.push(NEED_SYNC),
            Frame::SyncRequest(vector, freshness) => put(out, SYNC_REQUEST, &(vector, freshness)),
            Frame::SyncRefused => out.push(SYNC_REFUSED),
            Frame::SyncBegin(begin) => put(out, SYNC_BEGIN, begin),
            Frame::Chunk(entries) => raw(out, CHUNK, entries),
            Frame::SyncEnd(doubtful) => put(out, SYNC_END, doubtful),
            Frame::SyncDone(vector) => put(out, SYNC_DONE, vector),
            Frame::Ping(wall_us, at_ms) => put(out, PING, &(wall_us, at_ms)),
            Frame::Pong(wall_us, at_ms) => put(out, PONG, &(wall_us, at_ms)),
            Frame::Audit(number, audit) => put(out, AUDIT, &(number, audit)),
            Frame::Bye(farewell) => put(out, BYE, farewell),
        }
    }

    /// Reads a frame.
    pub fn decode(bytes: &Bytes) -> Result<Frame, FrameError> {
        let (&tag, body) = bytes.split_first().ok_or(FrameError::Empty)?;
        Ok(match tag {
            ORIGIN => {
                let (index, member): (u32, Member) = get(body)?;
                Frame::Origin { index, member: checked(member)? }
            }
            OPS => {
                let (index, first_seq, base, count, run): (_, _, _, _, &[u8]) = get(body)?;
                Frame::Ops { index, first_seq, base, count, run: bytes.slice_ref(run) }
            }
            LARGE => {
                let (index, member, seq, base, run): (_, Member, _, _, &[u8]) = get(body)?;
                let (member, run) = (checked(member)?, bytes.slice_ref(run));
                Frame::Large { index, member, seq, base, run }
            }
            ACK => {
                let (live, bulk, marks) = get(body)?;
                Frame::Ack { live, bulk, marks }
            }
            PRUNE => Frame::Prune(get(body)?),
            GRAFT => {
                let (origin, after) = get(body)?;
                Frame::Graft(origin, after)
            }
            NACK => {
                let (origin, ahead_ms) = get(body)?;
                Frame::Nack(origin, ahead_ms)
            }
            REPORT => Frame::Report(Box::new(checked_report(get(body)?)?)),
            NEED_SYNC => Frame::NeedSync,
            SYNC_REQUEST => {
                let (vector, freshness) = get(body)?;
                Frame::SyncRequest(vector, freshness)
            }
            SYNC_REFUSED => Frame::SyncRefused,
            SYNC_BEGIN => {
                let begin: SyncBegin = get(body)?;
                check_members(&begin.members)?;
                Frame::SyncBegin(Box::new(begin))
            }
            CHUNK => Frame::Chunk(bytes.slice(1..)),
            SYNC_END => Frame::SyncEnd(get(body)?),
            SYNC_DONE => Frame::SyncDone(get(body)?),
            PING => {
                let (wall_us, at_ms) = get(body)?;
                Frame::Ping(wall_us, at_ms)
            }
            PONG => {
                let (wall_us, at_ms) = get(body)?;
                Frame::Pong(wall_us, at_ms)
            }
            AUDIT => {
                let (number, audit): (u64, Box<Audit>) = get(body)?;
                audit.check().map_err(|error| FrameError::Content(error.to_string()))?;
                Frame::Audit(number, audit)
            }
            BYE => Frame::Bye(get(body)?),
            other => return Err(FrameError::Tag(other)),
        })
    }
}

impl Hello {
    /// Appends the hello's bytes: a map, of which a later version may say more.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut serializer = rmp_serde::Serializer::new(&mut *out).with_struct_map();
        self.serialize(&mut serializer).expect("memory takes everything");
    }

    /// Reads a hello; what it does not know it leaves out.
    pub fn decode(bytes: &[u8]) -> Result<Hello, FrameError> {
        let hello: Hello = get(bytes)?;
        check_name(&hello.name)?;
        check_name(&hello.cluster)?;
        Ok(hello)
    }
}

fn put<T: Serialize + ?Sized>(out: &mut Vec<u8>, tag: u8, content: &T) {
    out.push(tag);
    rmp_serde::encode::write(out, content).expect("memory takes everything");
}

fn raw(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    out.extend_from_slice(content);
}

fn get<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, FrameError> {
    rmp_serde::from_slice(body).map_err(|error| FrameError::Content(error.to_string()))
}

fn check_name(name: &str) -> Result<(), FrameError> {
    let fits =
        name.len() <= NODE_NAME_BYTES_MAX && name.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(()) } else { Err(FrameError::Content("a name that is none".to_owned())) }
}

fn checked(member: Member) -> Result<Member, FrameError> {
    check_name(&member.name)?;
    Ok(member)
}

fn check_members(members: &[Member]) -> Result<(), FrameError> {
    if members.len() > MEMBER_COUNT_MAX {
        return Err(FrameError::Content(format!("more than {MEMBER_COUNT_MAX} members")));
    }
    members.iter().try_for_each(|member| check_name(&member.name))
}

fn checked_report(report: Report) -> Result<Report, FrameError> {
    check_name(&report.member.name)?;
    check_members(&report.members)?;
    let lens = [report.gone.len(), report.links.len(), report.forgotten.len()];
    if lens.iter().any(|len| *len > MEMBER_COUNT_MAX) {
        return Err(FrameError::Content(format!("more than {MEMBER_COUNT_MAX} processes")));
    }
    Ok(report)
}

#[cfg(test)]
mod tests;
