//! The one owner of the replication machine: hands it what came, carries out what it decides.
//!
//! Everything here runs on one thread. A connection that has read a frame hands it in at once and
//! rings; the machine is then polled, once for all that came meanwhile. While many ops pass, it
//! waits a millisecond first, so that no op costs a wake-up of its own.

use super::complaints::Complaints;
use super::lane::End;
use super::limits::{
    BATCH_OP_COUNT, BATCH_WAIT, BULK_QUEUE_BYTES_MAX, FAR_RTT_US, FAREWELL_WAIT, HANDOVER_WAIT,
    IDLE_TICK, LIVE_QUEUE_BYTES_MAX, STATUS_INTERVAL, TICK,
};
use super::packing::Squeeze;
use super::queue::Queue;
use super::settings::{Compression, Settings};
use crate::node::Node;
use crate::replication::progress::Held;
use atoll_core::replica::saved::Saved;
use atoll_core::replica::tuning::{Rules, Tuning};
use atoll_core::replica::{Connected, Input, LinkId, Moment, Output, Replica, Rest};
use atoll_core::wire::frame::{Farewell, Frame, Hello, Lane};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::error;
use uuid::Uuid;

/// A question to the machine, and where the answer goes.
#[derive(Debug)]
pub(super) enum Question {
    /// What a disk should keep.
    Saved(std::sync::mpsc::SyncSender<Saved>),
    /// A process will not come back; there is nothing to answer.
    Forget(Uuid),
}

/// The machine and what surrounds it.
pub(super) struct Hub {
    pub(super) node: Arc<Node>,
    pub(super) complaints: Complaints,
    compression: Compression,
    replica: RefCell<Replica>,
    links: RefCell<BTreeMap<LinkId, Rc<Outlets>>>,
    latest_link: Cell<u64>,
    outputs: RefCell<Vec<Output>>,
    started: Instant,
    /// Rung when the machine should be polled.
    bell: Notify,
    /// Ops that have come or gone since the machine was last polled.
    moved: Cell<u64>,
    polled: Cell<Instant>,
    shown: Cell<Option<Instant>>,
    /// Whether the machine knows whom this node should be linked with. Before, it takes itself for
    /// alone.
    introduced: Cell<bool>,
    /// Told when a link has come or gone.
    changed: Notify,
}

/// The ways out of one link.
#[derive(Debug)]
pub(super) struct Outlets {
    pub(super) link: LinkId,
    /// The node at the other end.
    pub(super) peer: String,
    pub(super) live: Queue,
    pub(super) bulk: Queue,
    /// Whether frames are compressed now.
    pub(super) squeeze: Cell<Squeeze>,
    /// Whether the peer reads compressed messages.
    reads_zstd: bool,
    /// Whether a frame of the peer has come: it has taken the link, too.
    pub(super) taken: Cell<bool>,
    /// Why the link ends, where this node ends it.
    farewell: RefCell<Option<Farewell>>,
    ended: Notify,
    overfull: Notify,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("links", &self.links.borrow().len()).finish_non_exhaustive()
    }
}

/// Whether the machine still knows a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It does.
    Yes,
    /// It has ended it.
    No,
}

impl Hub {
    /// A machine over the node's store, which was loaded from what `saved` describes.
    pub(super) fn new(
        node: Arc<Node>,
        settings: &Settings,
        saved: Option<Saved>,
    ) -> anyhow::Result<Hub> {
        let mut boot = [0; 8];
        getrandom::fill(&mut boot)?;
        let machine = atoll_core::replica::Settings {
            name: node.name().to_owned(),
            cluster: settings.cluster.clone(),
            role: node.replication().role(),
            boot: u64::from_ne_bytes(boot),
            tuning: Tuning {
                log_bytes_max: settings.log_bytes_max,
                max_skew_ms: settings.max_skew_ms,
                ..Tuning::default()
            },
            rules: Rules::ALL,
        };
        let now = Instant::now();
        let moment = Moment { wall: node.now(), at_ms: 0 };
        let replica = Replica::new(machine, saved, (node.store(), moment));
        Ok(Hub {
            node,
            complaints: Complaints::default(),
            compression: settings.compression,
            replica: RefCell::new(replica),
            links: RefCell::default(),
            latest_link: Cell::new(0),
            outputs: RefCell::default(),
            started: now,
            bell: Notify::new(),
            moved: Cell::new(0),
            polled: Cell::new(now),
            shown: Cell::new(None),
            introduced: Cell::new(false),
            changed: Notify::new(),
        })
    }

    /// Polls the machine when there is reason to, until `end`.
    pub(super) async fn run(
        &self,
        mut questions: mpsc::Receiver<Question>,
        end: CancellationToken,
    ) {
        loop {
            tokio::select! {
                biased;
                () = end.cancelled() => return,
                question = questions.recv() => match question {
                    Some(question) => self.answer(question),
                    None => return,
                },
                () = self.bell.notified() => {}
                () = self.node.log_bell().heard() => {}
                () = self.node.replication().progress().wanted() => {}
                () = sleep_until(self.polled.get() + self.tick()) => {}
            }
            self.gather().await;
            if self.drive() == Rest::More {
                self.bell.notify_one();
                // What came meanwhile has its turn first.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits for more, where much is under way and nobody waits for it.
    async fn gather(&self) {
        let is_busy = self.moved.get() >= BATCH_OP_COUNT;
        if is_busy && self.node.replication().progress().waiter_count() == 0 {
            sleep_until(self.polled.get() + BATCH_WAIT).await;
        }
    }

    fn tick(&self) -> std::time::Duration {
        if self.links.borrow().is_empty() { IDLE_TICK } else { TICK }
    }

    /// The present.
    fn moment(&self) -> Moment {
        let at_ms = self.started.elapsed().as_millis() as u64;
        Moment { wall: self.node.now(), at_ms }
    }

    /// What this node says of itself on a new connection.
    pub(super) fn hello(&self) -> Hello {
        self.replica.borrow().hello(self.moment())
    }

    /// Hands in that a link is up.
    pub(super) fn connect(
        &self,
        connected: impl FnOnce(LinkId) -> Connected,
        reads_zstd: bool,
    ) -> Rc<Outlets> {
        self.latest_link.set(self.latest_link.get() + 1);
        let link = LinkId(self.latest_link.get());
        let connected = connected(link);
        let squeeze = match self.compression {
            Compression::On if reads_zstd => Squeeze::Yes,
            _ => Squeeze::No,
        };
        let outlets = Rc::new(Outlets {
            link,
            peer: connected.hello.name.clone(),
            live: Queue::new(LIVE_QUEUE_BYTES_MAX),
            bulk: Queue::new(BULK_QUEUE_BYTES_MAX),
            squeeze: Cell::new(squeeze),
            reads_zstd,
            taken: Cell::new(false),
            farewell: RefCell::default(),
            ended: Notify::new(),
            overfull: Notify::new(),
        });
        self.links.borrow_mut().insert(link, Rc::clone(&outlets));
        self.step(Input::Connected(Box::new(connected)));
        // At once: whether it stays is known when this returns.
        self.drive();
        self.changed.notify_waiters();
        outlets
    }

    /// Hands in a frame. A link that the machine has ended takes none.
    pub(super) fn receive(&self, link: LinkId, frame: Frame) -> Known {
        if !self.links.borrow().contains_key(&link) {
            return Known::No;
        }
        if let Frame::Ops { count, .. } = &frame {
            self.moved.set(self.moved.get() + u64::from(*count));
        }
        self.step(Input::Frame(link, frame));
        self.bell.notify_one();
        Known::Yes
    }

    /// Hands in that a link is gone.
    pub(super) fn disconnect(&self, link: LinkId) {
        self.links.borrow_mut().remove(&link);
        self.step(Input::Disconnected(link));
        self.bell.notify_one();
        self.changed.notify_waiters();
    }

    /// Ends a link from this side, for a reason that is not the machine's.
    pub(super) fn close(&self, link: LinkId, farewell: Farewell) {
        let outlets = self.links.borrow_mut().remove(&link);
        if let Some(outlets) = outlets {
            self.disconnect(link);
            outlets.end(farewell);
        }
    }

    /// Hands in whom this node should be linked with.
    pub(super) fn set_endpoints(&self, endpoints: BTreeSet<String>) {
        self.step(Input::Endpoints(endpoints));
        self.introduced.set(true);
        self.bell.notify_one();
    }

    /// Whether a link with the node of this name is up.
    pub(super) fn is_linked(&self, peer: &str) -> bool {
        self.links.borrow().values().any(|outlets| outlets.peer == peer)
    }

    /// Completes when a link comes or goes, from now on.
    pub(super) fn changed(&self) -> impl Future<Output = ()> + '_ {
        self.changed.notified()
    }

    fn step(&self, input: Input) {
        self.replica.borrow_mut().step(self.node.store(), self.moment(), input);
        self.node.arrivals().meet();
    }

    /// Polls the machine and carries out what it says.
    fn drive(&self) -> Rest {
        // First: what is logged from here on rings again.
        self.node.log_bell().clear();
        let now = self.moment();
        let mut outputs = self.outputs.take();
        let rest = {
            let mut replica = self.replica.borrow_mut();
            let rest = replica.poll(self.node.store(), now, &mut outputs);
            self.node.set_sweep_floor(replica.sweep_floor(now));
            // Before anybody is told that this node has it.
            self.node.arrivals().meet();
            let progress = self.node.replication().progress();
            if progress.is_vector_wanted() {
                progress.publish_vector(replica.vector());
            }
            rest
        };
        self.moved.set(0);
        for output in outputs.drain(..) {
            self.carry_out(output);
        }
        self.outputs.replace(outputs);
        self.polled.set(Instant::now());
        self.show(now);
        rest
    }

    fn carry_out(&self, output: Output) {
        match output {
            Output::Send(link, frame) => self.send(link, frame),
            Output::Close(link, farewell) => {
                let outlets = self.links.borrow_mut().remove(&link);
                if let Some(outlets) = outlets {
                    outlets.end(farewell);
                    self.changed.notify_waiters();
                }
            }
            Output::Message { channel, payload } => {
                self.node.replication().deliver(&channel, &payload);
            }
            Output::Diverged { peer, key_count } => {
                // Which ones, `/v1/cluster` says to those who may know: no key goes into a log.
                error!(%peer, key_count, "keys differed where none may; they were made equal");
            }
        }
    }

    fn send(&self, link: LinkId, frame: Frame) {
        let links = self.links.borrow();
        let Some(outlets) = links.get(&link) else { return };
        if let Frame::Ops { count, .. } = &frame {
            self.moved.set(self.moved.get() + u64::from(*count));
        }
        let queue = match frame.lane() {
            Lane::Live => &outlets.live,
            Lane::Bulk => &outlets.bulk,
        };
        if queue.push(frame).is_err() {
            outlets.overfull.notify_one();
        }
    }

    /// Shows the doors how replication stands, if it is time.
    fn show(&self, now: Moment) {
        let due = self.shown.get().is_none_or(|shown| shown.elapsed() >= STATUS_INTERVAL);
        let replication = self.node.replication();
        if due || replication.progress().waiter_count() > 0 {
            let replica = self.replica.borrow();
            let vector = replica.vector().iter().map(|(origin, mark)| (origin, mark.seq));
            let held = Held { holders: replica.holders(), vector: vector.collect() };
            replication.progress().publish(held);
        }
        if !due || !self.introduced.get() {
            return;
        }
        self.shown.set(Some(Instant::now()));
        let status = self.replica.borrow().status(now);
        if self.compression == Compression::Auto {
            let far: BTreeSet<&str> = status
                .links
                .iter()
                .filter(|link| link.rtt_lowest_us > Some(FAR_RTT_US))
                .map(|link| link.name.as_str())
                .collect();
            for outlets in self.links.borrow().values().filter(|outlets| outlets.reads_zstd) {
                let is_far = far.contains(outlets.peer.as_str());
                outlets.squeeze.set(if is_far { Squeeze::Yes } else { Squeeze::No });
            }
        }
        replication.publish_status(status);
    }

    /// What a disk should keep at this moment.
    pub(super) fn saved(&self) -> Saved {
        self.replica.borrow().saved()
    }

    fn answer(&self, question: Question) {
        match question {
            Question::Saved(back) => {
                // Whoever asked may have gone.
                let _ = back.try_send(self.saved());
            }
            Question::Forget(origin) => {
                self.step(Input::Forget(origin));
                self.bell.notify_one();
            }
        }
    }

    /// Waits, within bounds, until the peers have what this process wrote; then takes leave of all.
    pub(super) async fn take_leave(&self) {
        let started = Instant::now();
        while self.is_handing_over(started.elapsed()) {
            self.bell.notify_one();
            tokio::time::sleep(TICK).await;
        }
        self.step(Input::Stop);
        self.drive();
    }

    /// Whether it is worth waiting for peers to take what this process wrote. What one of them has,
    /// all will have; the others are waited for a little, lest that one stops as well.
    fn is_handing_over(&self, waited: std::time::Duration) -> bool {
        let replica = self.replica.borrow();
        let (holders, seq) = (replica.holders(), self.node.store().seq());
        let links = self.links.borrow();
        let has_all = |peer: &String| holders.get(peer).is_some_and(|held| *held >= seq);
        let behind = links.values().filter(|outlets| !has_all(&outlets.peer)).count();
        match behind {
            0 => false,
            _ if behind < links.len() => waited < HANDOVER_WAIT / 4,
            _ => waited < HANDOVER_WAIT,
        }
    }
}

impl Outlets {
    fn end(&self, farewell: Farewell) {
        self.farewell.replace(Some(farewell.clone()));
        self.ended.notify_one();
        self.bulk.end(farewell.clone());
        self.live.end(farewell);
    }

    /// Completes when the link has ended and what was still to be written has had its time, or when
    /// the peer takes so little of what it is sent that it must end.
    pub(super) async fn given_up(&self) -> End {
        tokio::select! {
            () = self.overfull.notified() => {
                return End::Lost("the peer takes less than it is sent".to_owned());
            }
            () = self.ended.notified() => {}
        }
        tokio::time::sleep(FAREWELL_WAIT).await;
        let farewell = self.farewell.borrow().clone();
        End::Told(farewell.unwrap_or(Farewell::Stopping))
    }
}
