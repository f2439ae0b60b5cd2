//! Which of the logged ops nobody will ask for any more, and letting go of them.
//!
//! An op is settled once every process that this node knows, and that is not gone, has it. One that
//! is cut off is known all the same, and so the log grows for it up to its budget. Nothing but the
//! cost of a return depends on this: whoever asks for an op that was let go gets a sync.

use super::link::Link;
use super::members::Members;
use super::{Circumstances, LinkId, Replica};
use crate::replica::vector::Vector;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use uuid::Uuid;

/// The share of the log's budget that settled ops may take: a process that dies may have
/// acknowledged a little more than its disk has, and comes back for that.
const TAIL_SHARE: usize = 16;

/// How much more often than reports come ops are let go of under load.
const GAP_SHARE: u64 = 20;

impl Replica {
    /// Lets go of settled ops: while some are let go of, often enough for the log to stay small
    /// under load, else as often as reports may bring news.
    pub(super) fn settle_logs(&mut self, around: Circumstances<'_>) {
        let tuning = &self.settings.tuning;
        let (at_ms, tail_bytes) = (around.now.at_ms, tuning.log_bytes_max / TAIL_SHARE);
        let is_early = at_ms < self.settle_at_ms;
        // Who has yet to meet its peers does not know for whom it keeps its ops.
        if self.logs.bytes() <= tail_bytes || is_early || self.holds(at_ms) {
            return;
        }
        let gap_ms = tuning.report_gap_ms;
        self.settle_at_ms = at_ms + gap_ms;
        let Some(vectors) = vectors(&self.links, &self.members) else { return };
        let settled = |origin: Uuid| {
            let lowest = vectors.iter().map(|vector| vector.seq(origin)).min();
            lowest.unwrap_or(u64::MAX)
        };
        let before = self.logs.bytes();
        self.logs.settle(settled, tail_bytes);
        if self.logs.bytes() < before {
            self.settle_at_ms = at_ms + gap_ms / GAP_SHARE;
        }
    }
}

/// What each process that is known and not gone has, this one included, for all that is known here.
/// `None` where one has not said so.
fn vectors<'a>(links: &'a BTreeMap<LinkId, Link>, members: &'a Members) -> Option<Vec<&'a Vector>> {
    // A peer's acknowledgements are newer than its reports.
    let linked = links.values().map(|link| (link.peer.origin, &link.known));
    let mut vectors: BTreeMap<Uuid, &Vector> = linked.collect();
    for known in members.all().filter(|known| !known.gone) {
        if let Entry::Vacant(place) = vectors.entry(known.member.origin) {
            place.insert(&known.report.as_ref()?.vector);
        }
    }
    Some(vectors.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;
    use crate::entry::Deadline;
    use crate::replica::status::{Readiness, Role};
    use crate::replica::tuning::{Rules, Tuning};
    use crate::replica::{Connected, Dialler, Input, Moment, Output, Settings};
    use crate::store::edit::{Edit, NewValue};
    use crate::store::{Dice, Store, StoreConfig};
    use crate::wire::frame::{Frame, Hello, Member, Report, VERSIONS};
    use std::collections::BTreeSet;

    const LOG_BYTES_MAX: usize = 1 << 20;
    const LINK: LinkId = LinkId(1);

    /// A node with one peer, which is played by the test.
    struct Stage {
        store: Store,
        replica: Replica,
        at_ms: u64,
        written: u64,
        sent: u64,
        reports: u64,
    }

    impl Stage {
        fn new() -> Stage {
            let config = StoreConfig {
                memory_bytes_max: 1 << 30,
                log_bytes_max: LOG_BYTES_MAX,
                change_bytes_max: None,
            };
            let dice = Dice { origin: Uuid::from_u128(1), hash_seed: 1 };
            let store = Store::new(config, dice, Box::new(|| ()));
            let settings = Settings {
                name: "this".to_owned(),
                cluster: "test".to_owned(),
                role: Role::Master,
                boot: 1,
                tuning: Tuning { log_bytes_max: LOG_BYTES_MAX, ..Tuning::default() },
                rules: Rules::ALL,
            };
            let replica = Replica::new(settings, None, (&store, moment(0)));
            let mut stage = Stage { store, replica, at_ms: 0, written: 0, sent: 0, reports: 0 };
            let hello = Hello {
                versions: VERSIONS,
                cluster: "test".to_owned(),
                name: "peer".to_owned(),
                origin: Uuid::from_u128(2),
                boot: 2,
                role: Role::Master,
                wall_us: moment(0).wall.micros(),
                vector: Vector::default(),
            };
            let (dialler, address) = (Dialler::Us("peer".to_owned()), "peer".to_owned());
            stage.step(Input::Endpoints(BTreeSet::from(["peer".to_owned()])));
            let connected = Connected { link: LINK, hello, dialler, address };
            stage.step(Input::Connected(Box::new(connected)));
            // From here on what is written is kept for the peer.
            stage.pass_a_second();
            stage
        }

        fn step(&mut self, input: Input) {
            self.replica.step(&self.store, moment(self.at_ms), input);
        }

        /// Writes a good deal more than the tail, and lets a second pass.
        fn write(&mut self) {
            for _ in 0..500 {
                self.written += 1;
                let (edit, key) = (NewValue::Copy(&[7; 1_000]), self.written.to_le_bytes());
                let edit = Edit::set(edit, Deadline::NEVER);
                let (bucket, now) = (self.store.database(0), moment(self.at_ms).wall);
                self.store.write(bucket, &key, now, |_| (edit, ())).expect("there is room");
            }
            self.pass_a_second();
        }

        fn pass_a_second(&mut self) {
            self.at_ms += 1_000;
            let mut outputs = Vec::new();
            self.replica.poll(&self.store, moment(self.at_ms), &mut outputs);
            for output in outputs {
                if let Output::Send(LINK, frame @ Frame::Ops { .. }) = output {
                    self.sent += frame.weight();
                }
            }
        }

        fn acknowledge(&mut self) {
            let marks = vec![(0, self.written)];
            self.step(Input::Frame(LINK, Frame::Ack { live: self.sent, bulk: 0, marks }));
        }

        /// The peer says whom it knows, and passes on what one of them has.
        fn report(&mut self, of: u128, knows: &[u128], held: u64) {
            self.reports += 1;
            let mut vector = Vector::default();
            let mark = crate::replica::vector::Mark { seq: held, head: crate::clock::Hlc::ZERO };
            vector.raise(Uuid::from_u128(1), mark);
            let report = Report {
                member: member(of),
                version: self.reports,
                vector,
                links: Vec::new(),
                gone: Vec::new(),
                forgotten: Vec::new(),
                members: knows.iter().map(|id| member(*id)).collect(),
                holds: false,
                readiness: Readiness::Ready,
            };
            self.step(Input::Frame(LINK, Frame::Report(Box::new(report))));
        }

        fn holds_all(&self) -> bool {
            self.replica.logs.find(Uuid::from_u128(1), 0).is_some()
        }
    }

    fn member(id: u128) -> Member {
        Member { origin: Uuid::from_u128(id), name: format!("n{id}").into(), role: Role::Master }
    }

    fn moment(at_ms: u64) -> Moment {
        Moment { wall: Now::from_millis(1_000_000 + at_ms), at_ms }
    }

    #[test]
    fn what_the_only_peer_has_goes_but_for_a_tail() {
        let mut stage = Stage::new();
        stage.write();
        assert!(stage.holds_all() && stage.sent > 0, "nothing was acknowledged");
        stage.acknowledge();
        stage.pass_a_second();
        assert!(!stage.holds_all());
        assert!(stage.replica.logs.bytes() <= LOG_BYTES_MAX / TAIL_SHARE);
    }

    #[test]
    fn for_one_that_is_cut_off_everything_stays() {
        let mut stage = Stage::new();
        stage.report(2, &[2, 3], 0);
        stage.write();
        stage.acknowledge();
        stage.pass_a_second();
        assert!(stage.holds_all(), "nobody knows what the third has");
        stage.report(3, &[2, 3], stage.written - 1);
        stage.write();
        stage.acknowledge();
        stage.pass_a_second();
        let third = stage.written - 501;
        assert!(!stage.holds_all(), "the third has the first of it");
        let find = |after| stage.replica.logs.find(Uuid::from_u128(1), after);
        assert!(find(third).is_some(), "but not the rest");
    }

    #[test]
    fn a_link_that_went_does_not_make_its_peer_forgotten() {
        let mut stage = Stage::new();
        stage.report(2, &[2], 0);
        stage.step(Input::Disconnected(LINK));
        stage.write();
        stage.pass_a_second();
        assert!(stage.holds_all());
    }
}
