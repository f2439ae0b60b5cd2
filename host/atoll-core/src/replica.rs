//! Active-active replication: what to send to whom, what to accept, what to forget.
//!
//! Knows no sockets, clocks or tasks: a shell hands in frames and the time, and carries out what
//! comes back. One invariant carries everything: a version vector's mark of an origin means that
//! the node's state includes the effect of every op of that origin up to `seq`, and of every one
//! stamped up to `head`. Streaming, resume, duplicates, syncs, collection of garbage, WAIT and
//! sessions all follow from it.
//!
//! Source: Leitão et al., "Epidemic Broadcast Trees" (2007), for pruning and grafting, here by
//! origin and with the version vector in the place of message ids; Wuu & Bernstein, "Efficient
//! Solutions to the Replicated Log and Dictionary Problems" (1984), for the floor.

mod accept;
mod audit;
mod floor;
mod key_hash;
mod link;
mod links;
mod log;
mod members;
mod relay;
mod reports;
pub mod saved;
mod settled;
pub mod status;
mod stream;
mod summary;
mod sync_receive;
mod sync_serve;
pub mod tuning;
pub mod vector;

use crate::clock::{Hlc, Now};
use crate::store::Store;
use crate::store::outbox::Reader;
use crate::wire::frame::{Farewell, Frame, Hello, VERSIONS};
use audit::Audits;
use bytes::Bytes;
use floor::Floor;
use link::Link;
use log::Logs;
use members::Members;
use relay::Relaying;
use saved::Saved;
use status::{Counts, Role};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use sync_receive::Receiving;
use tuning::{Rules, Tuning};
use uuid::Uuid;
use vector::{Mark, Vector};

/// The present, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The wall clock: what stamps are compared with. May be wrong, may step.
    pub wall: Now,
    /// Milliseconds on a clock that only goes forward: what waits are measured by.
    pub at_ms: u64,
}

/// Names a link for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// Who a node is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its stable name.
    pub name: String,
    /// The cluster that it belongs to.
    pub cluster: String,
    /// Whether it takes writes.
    pub role: Role,
    /// Drawn at start.
    pub boot: u64,
    /// Times and sizes.
    pub tuning: Tuning,
    /// The protective rules; all on, but in tests that prove their worth.
    pub rules: Rules,
}

/// What a link turned out to lead to.
#[derive(Clone, Debug)]
pub struct Connected {
    /// Names the link from here on.
    pub link: LinkId,
    /// What the peer said of itself. Its identity has been proved, where the shell asks for that.
    pub hello: Hello,
    /// Who dialled.
    pub dialler: Dialler,
    /// The address at the other end, for people.
    pub address: String,
}

/// Who opened a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialler {
    /// This node, because of the configured peer named.
    Us(String),
    /// The other.
    Them,
}

/// What a shell hands in.
#[derive(Debug)]
pub enum Input {
    /// A connection is up and both have said hello.
    Connected(Box<Connected>),
    /// A frame came.
    Frame(LinkId, Frame),
    /// A connection is gone.
    Disconnected(LinkId),
    /// The configured peers are now these.
    Endpoints(BTreeSet<String>),
    /// An administrator says that this process will not come back. One that is linked stays.
    Forget(Uuid),
    /// The node is about to stop.
    Stop,
}

/// What a shell has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a frame.
    Send(LinkId, Frame),
    /// Send a last frame and close; no frame of the link may be handed in any more.
    Close(LinkId, Farewell),
    /// Hand a message to this node's subscribers.
    Message {
        /// Where it was published.
        channel: Bytes,
        /// What was.
        payload: Bytes,
    },
    /// Tell an administrator that a neighbour holds something else although it must not. That is a
    /// bug, which [`Replica::status`] says more of.
    Diverged {
        /// The neighbour's name.
        peer: String,
        /// Keys in which the two differed, at the least.
        key_count: u64,
    },
}

/// Whether there is more to do at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nothing, until something comes or time passes.
    Idle,
    /// A sync is under way and there is room to send: poll again soon.
    More,
}

/// One node's part in replication.
#[derive(Debug)]
pub struct Replica {
    settings: Settings,
    /// This process.
    me: Uuid,
    vector: Vector,
    logs: Logs,
    /// When the logs may let go of what is settled, ms.
    settle_at_ms: u64,
    links: BTreeMap<LinkId, Link>,
    /// The link over which each origin's ops come.
    parents: BTreeMap<Uuid, LinkId>,
    /// Since when a neighbour has had more of an origin, ms.
    behind_since: BTreeMap<Uuid, u64>,
    members: Members,
    /// Origins that this process has announced in its own stream.
    joined: BTreeSet<Uuid>,
    floor: Floor,
    receiving: Option<Receiving>,
    /// Parts of a sync that wait for room in the store.
    deferred: VecDeque<(LinkId, Frame)>,
    /// Origins of whom the store may hold effects that the vector does not cover and that are in
    /// nobody's stream.
    uncovered: BTreeSet<Uuid>,
    /// Those of them whose effects are being put into this process's own stream.
    relaying: Option<Relaying>,
    /// The newest effects that a sync brought this replica, by origin, where its vector does not
    /// cover them: masters had them, and may yet lose them.
    beyond: BTreeMap<Uuid, Hlc>,
    /// Whether this replica has to take everything anew.
    begins_anew: bool,
    /// Whether the node must finish a sync before what it holds may be believed.
    stale: bool,
    /// Whether a first sync is still to come.
    joining: bool,
    /// Whether this node once had all that its neighbours had.
    caught_up: bool,
    endpoints: BTreeSet<String>,
    met: BTreeSet<String>,
    /// This node's clock against the others', in ms.
    skew_ms: i64,
    counts: Counts,
    audits: Audits,
    report_version: u64,
    reported_at_ms: Option<u64>,
    changed: bool,
    /// Whether there are reports that have not been passed on to everyone.
    reports_to_pass: bool,
    /// When links were last tended, ms.
    tended_ms: Option<u64>,
    started_ms: u64,
    outputs: VecDeque<Output>,
}

/// What every step is made with.
#[derive(Clone, Copy, Debug)]
struct Circumstances<'a> {
    store: &'a Store,
    now: Moment,
}

/// A peer that breaks the protocol. Its link is closed; nothing else is touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
struct Violation(String);

impl Violation {
    fn new(text: impl Into<String>) -> Violation {
        Violation(text.into())
    }
}

impl Replica {
    /// A node that has just started, over a store that was loaded from what `saved` describes.
    pub fn new(
        settings: Settings,
        saved: Option<Saved>,
        (store, now): (&Store, Moment),
    ) -> Replica {
        let me = store.origin();
        let logs = Logs::new(settings.tuning.log_bytes_max);
        let mut replica = Replica {
            me,
            vector: Vector::default(),
            logs,
            settle_at_ms: 0,
            links: BTreeMap::new(),
            parents: BTreeMap::new(),
            behind_since: BTreeMap::new(),
            members: Members::new(&settings, me, now.at_ms),
            joined: BTreeSet::from([me]),
            floor: Floor::default(),
            receiving: None,
            deferred: VecDeque::new(),
            uncovered: BTreeSet::new(),
            relaying: None,
            beyond: BTreeMap::new(),
            begins_anew: false,
            stale: false,
            joining: false,
            caught_up: false,
            endpoints: BTreeSet::new(),
            met: BTreeSet::new(),
            skew_ms: 0,
            counts: Counts::default(),
            audits: Audits::new(me, (settings.tuning.audit_ms, now.at_ms)),
            report_version: 0,
            reported_at_ms: None,
            changed: true,
            reports_to_pass: false,
            tended_ms: None,
            started_ms: now.at_ms,
            outputs: VecDeque::new(),
            settings,
        };
        if let Some(saved) = saved {
            replica.restore(saved, Circumstances { store, now });
        }
        replica.vector.raise(me, Mark { seq: store.seq(), head: Hlc::ZERO });
        replica
    }

    /// What this node says of itself on a new connection.
    pub fn hello(&self, now: Moment) -> Hello {
        Hello {
            versions: VERSIONS,
            cluster: self.settings.cluster.clone(),
            name: self.settings.name.clone(),
            origin: self.me,
            boot: self.settings.boot,
            role: self.settings.role,
            wall_us: now.wall.micros(),
            vector: self.vector.clone(),
        }
    }

    /// Takes something in. What is to be done comes out of [`Replica::poll`].
    pub fn step(&mut self, store: &Store, now: Moment, input: Input) {
        let around = Circumstances { store, now };
        match input {
            Input::Connected(connected) => self.connect(around, *connected),
            Input::Disconnected(link) => self.disconnect(link),
            Input::Endpoints(endpoints) => {
                self.joining =
                    !endpoints.is_empty() && self.vector.len() <= 1 && self.met.is_empty();
                self.endpoints = endpoints;
                self.changed = true;
            }
            Input::Forget(origin) => {
                if !self.is_linked_with(origin) {
                    self.members.forget(origin);
                    self.changed = true;
                }
            }
            Input::Stop => self.say_goodbye(),
            Input::Frame(link, frame) => {
                if let Err(violation) = self.receive(around, link, frame) {
                    self.close(link, Farewell::Refused(violation.to_string()));
                }
            }
        }
    }

    /// Does what is due, and hands out what the shell has to do.
    ///
    /// To be called after each batch of steps, when the store's outbox has something, and at
    /// least every few ms of [`Tuning::report_gap_ms`].
    pub fn poll(&mut self, store: &Store, now: Moment, out: &mut Vec<Output>) -> Rest {
        let around = Circumstances { store, now };
        self.take_own_ops(around);
        if self.tended_ms != Some(now.at_ms) {
            // None of these is finer than the clock that it waits by.
            self.tended_ms = Some(now.at_ms);
            self.tend_links(around);
            self.relay(around);
            self.advance_floor(around);
            self.audit(around);
            self.settle_logs(around);
        }
        self.take_deferred(around);
        self.report(around);
        self.stream(around);
        self.request_sync(around);
        let rest = self.serve_syncs(around);
        self.acknowledge();
        out.extend(self.outputs.drain(..));
        rest
    }

    /// Up to where what is dead may be dropped from the store.
    pub fn sweep_floor(&self, now: Moment) -> Hlc {
        if self.is_alone() && !self.holds(now.at_ms) {
            return Hlc::from_wall(now.wall);
        }
        let floor =
            if self.settings.rules.second_order { self.floor.second } else { self.floor.first };
        let floor = if self.settings.rules.proof {
            floor.min(self.floor.proved)
        } else {
            let age_us = self.settings.tuning.min_age_ms * 1_000;
            Hlc::from_wall(Now::from_micros(now.wall.micros().saturating_sub(age_us)))
        };
        let is_pinned = self.settings.rules.pin && self.is_syncing();
        if is_pinned { Hlc::ZERO } else { floor }
    }

    /// Whether a sync is under way, out or in, or was asked for. What it lists and what its vector
    /// says must agree: a write that comes in meanwhile must not find what is dead, and others find
    /// it forgotten.
    fn is_syncing(&self) -> bool {
        self.receiving.is_some() || self.links.values().any(|link| link.serve.is_some())
    }

    /// Whether there is a link with this process.
    fn is_linked_with(&self, origin: Uuid) -> bool {
        self.links.values().any(|link| link.peer.origin == origin)
    }

    /// Whether no other node was ever heard of, nor is one configured.
    fn is_alone(&self) -> bool {
        self.endpoints.is_empty() && self.links.is_empty() && self.members.is_single()
    }

    /// What this node has.
    pub fn vector(&self) -> &Vector {
        &self.vector
    }

    /// Sums since the start.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Moves what this process wrote into its log.
    fn take_own_ops(&mut self, around: Circumstances<'_>) {
        let reader = match self.wants_log() {
            true => Reader::Present,
            false => Reader::Absent,
        };
        let (runs, mark) = around.store.take_outbox(reader);
        for run in runs {
            self.logs.push(self.me, run);
        }
        if mark.seq > self.vector.seq(self.me) {
            self.changed = true;
        }
        self.vector.raise(self.me, mark);
    }

    /// Whether there is, or soon may be, a link that wants this process's ops.
    fn wants_log(&self) -> bool {
        !self.links.is_empty() || !self.endpoints.is_empty() || !self.members.is_single()
    }

    fn send(&mut self, link: LinkId, frame: Frame) {
        self.outputs.push_back(Output::Send(link, frame));
    }

    /// Ends a link from this side.
    fn close(&mut self, link: LinkId, farewell: Farewell) {
        if matches!(farewell, Farewell::Refused(_)) {
            self.counts.links_refused += 1;
        }
        self.outputs.push_back(Output::Close(link, farewell));
        self.disconnect(link);
    }

    fn say_goodbye(&mut self) {
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.close(link, Farewell::Stopping);
        }
    }

    /// The latest stamp that this node accepts from others.
    fn skew_limit(&self, now: Moment) -> Hlc {
        let limit_us = now.wall.micros() + self.settings.tuning.max_skew_ms * 1_000;
        Hlc::from_wall(Now::from_micros(limit_us))
    }

    /// Stamps nothing earlier from now on than what others say that they have: a process whose clock
    /// is slow would write below what they have forgotten.
    fn witness_heads(&self, around: Circumstances<'_>, theirs: &Vector) {
        let limit = self.skew_limit(around.now);
        let heads = theirs.iter().map(|(_, mark)| mark.head);
        if let Some(newest) = heads.filter(|head| *head <= limit).max() {
            around.store.witness(newest);
        }
    }

    /// Whether the store has no room for what others write.
    fn is_full(&self, store: &Store) -> bool {
        // Others' writes may pass the budget a little: they were accepted elsewhere.
        let max = store.memory_bytes_max();
        store.used_bytes() > max.saturating_add(max / 16)
    }
}
