//! A run: events in the order of a made-up time, and what each node does about them.

mod checks;
mod faults;
pub mod script;

use crate::disk::Snapshot;
use crate::network::{Network, Packet};
use crate::node::{Birth, Node};
use crate::oracle::Oracle;
use crate::plan::Plan;
use crate::story;
use crate::verdict;
use crate::workload;
use atoll_core::replica::saved::Saved;
use atoll_core::replica::status::{LinkState, Role};
use atoll_core::replica::{Connected, Dialler, Input, LinkId, Output, Rest, Settings};
use atoll_core::wire::frame::{Farewell, Frame, Lane};
use fastrand::Rng;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::{DefaultHasher, Hash, Hasher};
use uuid::Uuid;

/// Between two ticks of a node, in µs.
const TICK_US: u64 = 1_000;
/// Between two rounds of a sweep, in µs.
const SWEEP_US: u64 = 16_000;
/// Between two attempts to dial, in µs.
const DIAL_US: u64 = 3_000;
/// Between two looks at all keys for values that have come back, in µs.
const WATCH_US: u64 = 4_000;
/// Between two snapshots of a node, in µs.
const SNAPSHOT_US: u64 = 15_000;
/// Snapshots that a disk keeps, for crashes that bring an old one back.
const SNAPSHOTS_MAX: usize = 3;

/// Looks, 10 ms apart, that must find the cluster in order, one after the other, at its end.
const CLEAN_COUNT: usize = 3;

/// Something that happens at a moment.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A packet may have arrived.
    Arrival,
    Tick(usize),
    Poll(usize),
    Dial(usize, usize),
    Write,
    Fault,
    Mend(Vec<(usize, usize)>),
    Speed(usize, usize),
    Restart(usize),
    BeginSnapshot(usize),
    EndSnapshot(usize, Uuid),
}

/// A cluster and its surroundings.
#[derive(Debug)]
pub struct World {
    /// What was planned.
    pub plan: Plan,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// What was written.
    pub oracle: Oracle,
    /// What went wrong so far.
    pub faults: Vec<String>,
    /// Whether some process took itself and those it knew for the whole cluster, and was wrong:
    /// what it forgot then, others may bring back.
    pub strangers: bool,
    /// Whether a disk came back in an old state: what only it had seen may come late.
    pub rewound: bool,
    /// Whether a process wrote before it had met anyone by a clock that was behind what others had
    /// already forgotten: by nobody's fault its values are late. In production clocks differ by
    /// less than what is dead is kept at the least.
    pub slow_clock: bool,
    /// What audits found, in words.
    pub divergences: Vec<String>,
    /// What happened, for a person; only where it is asked for.
    pub story: Option<Vec<String>>,
    /// A key of a database, of which the story says whenever a node holds something else under it.
    pub followed: Option<(u8, Vec<u8>)>,
    network: Network,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    event_count: u64,
    now_us: u64,
    dice: Rng,
    origin_count: u64,
    pending_snapshots: Vec<Option<Saved>>,
    active: bool,
    digest: DefaultHasher,
    codec: bool,
    out: Vec<Output>,
}

impl World {
    /// The cluster of a plan, at its beginning.
    pub fn new(plan: Plan) -> World {
        let nodes = plan.roles.iter().zip(&plan.skews_us).enumerate();
        let nodes = nodes.map(|(index, (role, skew_us))| Node {
            name: format!("n{index}"),
            role: *role,
            skew_us: *skew_us,
            snapshots: Vec::new(),
            process: None,
        });
        let mut world = World {
            nodes: nodes.collect(),
            oracle: Oracle::default(),
            faults: Vec::new(),
            strangers: false,
            rewound: false,
            slow_clock: false,
            divergences: Vec::new(),
            story: None,
            followed: None,
            network: Network::default(),
            events: BinaryHeap::new(),
            event_count: 0,
            now_us: 0,
            dice: Rng::with_seed(plan.seed ^ 0x5eed),
            origin_count: 0,
            pending_snapshots: vec![None; plan.roles.len()],
            active: true,
            digest: DefaultHasher::new(),
            codec: plan.seed.is_multiple_of(8),
            out: Vec::new(),
            plan,
        };
        for index in 0..world.nodes.len() {
            let at_us = world.dice.u64(..2_000);
            world.schedule(at_us, Event::Restart(index));
            world.schedule(SNAPSHOT_US / 2 + at_us, Event::BeginSnapshot(index));
        }
        for (a, b) in world.plan.dials.clone() {
            let at_us = world.dice.u64(..DIAL_US);
            world.schedule(at_us, Event::Dial(a, b));
        }
        world.schedule(2_000, Event::Write);
        if world.plan.stranger_us > 0 {
            let (last, for_us) = (world.nodes.len() - 1, world.plan.stranger_us);
            world.isolate_for(last, for_us);
        }
        if world.plan.fault_gap_us < u64::MAX {
            world.schedule(world.plan.fault_gap_us, Event::Fault);
        }
        world
    }

    /// Runs to the end of the writes and faults, then mends everything and waits until the cluster
    /// is quiet, at most for `patience_us`.
    pub fn run(&mut self, patience_us: u64) {
        self.run_until(self.plan.active_us);
        self.settle();
        let end_us = self.now_us + patience_us;
        while self.now_us < end_us && self.faults.is_empty() && !self.is_even() {
            self.run_until(self.now_us + 10_000);
        }
        while self.now_us < end_us && self.faults.is_empty() && self.is_syncing() {
            self.run_until(self.now_us + 10_000);
        }
        // By any clock, what was written with a deadline has expired before the end.
        let skew_us = self.plan.skews_us.iter().map(|skew| skew.unsigned_abs()).max().unwrap_or(0);
        let expired_us = self.plan.active_us + workload::LIFETIME_MS * 1_000 + 2 * skew_us;
        self.run_until(self.now_us.max(expired_us));
        // Time for what is dead to be forgotten, which it is not while a sync is under way. And
        // whatever could still come back must have the time to.
        let mut quiet_us = 250_000 + 4 * skew_us;
        let mut clean_count = 0;
        while self.now_us < end_us
            && quiet_us > 0
            && self.faults.is_empty()
            && clean_count < CLEAN_COUNT
        {
            self.run_until(self.now_us + 10_000);
            if self.is_even() && !self.is_syncing() {
                quiet_us = quiet_us.saturating_sub(10_000);
            }
            clean_count = if self.is_clean() { clean_count + 1 } else { 0 };
        }
    }

    /// Lets time pass, and nothing else be done, for so long.
    pub fn pass(&mut self, for_us: u64) {
        self.run_until(self.now_us + for_us);
    }

    /// Whether some node is in the middle of a sync: it may drop nothing meanwhile.
    fn is_syncing(&self) -> bool {
        self.nodes.iter().any(|node| {
            node.process.as_ref().is_some_and(|process| {
                let links = process.replica.status(node.moment(self.now_us)).links;
                links.iter().any(|link| link.state != LinkState::Streaming)
            })
        })
    }

    /// Whether everyone is ready and shows the same, and nobody keeps anything dead.
    fn is_clean(&self) -> bool {
        let clean = |node: &Node| {
            node.process.as_ref().is_some_and(|process| {
                process.is_ready(node.moment(self.now_us)) && process.dead_count() == 0
            })
        };
        self.is_even() && self.nodes.iter().all(clean) && verdict::show_the_same(self)
    }

    /// A number that is equal for two runs exactly if they did the same.
    pub fn digest(&self) -> u64 {
        self.digest.finish()
    }

    /// Made-up time since the beginning, in µs.
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Whether all nodes have the same, by their vectors.
    pub fn is_even(&self) -> bool {
        let mut vectors = self.nodes.iter().map(|node| {
            let process = node.process.as_ref()?;
            let marks = process.replica.vector().iter().filter(|(_, mark)| mark.seq > 0);
            Some(marks.map(|(origin, mark)| (origin, mark.seq)).collect::<Vec<_>>())
        });
        let first = vectors.next().flatten();
        first.is_some() && vectors.all(|vector| vector == first)
    }

    fn schedule(&mut self, at_us: u64, event: Event) {
        self.event_count += 1;
        self.events.push(Reverse((at_us, self.event_count, event)));
    }

    fn tell(&mut self, text: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(format!("{:>9.3} ms  {}", self.now_us as f64 / 1_000.0, text()));
        }
    }

    fn run_until(&mut self, until_us: u64) {
        while let Some(Reverse((at_us, _, _))) = self.events.peek() {
            if *at_us > until_us || !self.faults.is_empty() {
                break;
            }
            let Some(Reverse((at_us, _, event))) = self.events.pop() else { break };
            self.now_us = self.now_us.max(at_us);
            self.happen(event);
        }
        self.now_us = self.now_us.max(until_us);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrival => self.deliver(),
            Event::Tick(index) => self.tick(index),
            Event::Poll(index) => self.poll(index),
            Event::Dial(a, b) => self.dial(a, b),
            Event::Write => self.write(),
            Event::Fault => self.break_something(),
            Event::Mend(ways) => self.mend(&ways),
            Event::Speed(a, b) => drop(self.network.slow_us.remove(&(a, b))),
            Event::Restart(index) => self.restart(index),
            Event::BeginSnapshot(index) => self.begin_snapshot(index),
            Event::EndSnapshot(index, origin) => self.end_snapshot(index, origin),
        }
    }

    fn deliver(&mut self) {
        while let Some((number, end, packet)) = self.network.arrive(self.now_us) {
            let Some(connection) = self.network.get(number) else { continue };
            let (index, link) = (connection.nodes[end], connection.links[end]);
            let peer = connection.nodes[1 - end];
            (number, end, std::mem::discriminant(&packet)).hash(&mut self.digest);
            let moment = self.nodes[index].moment(self.now_us);
            if self.story.is_some()
                && let Packet::Frame(frame) = &packet
            {
                let text = story::of(frame);
                self.tell(|| format!("n{peer} > n{index}  {text}"));
            }
            let Some(process) = &mut self.nodes[index].process else { continue };
            let input = match packet {
                Packet::Up(connected) => {
                    process.links.insert(link, (number, end));
                    process.met = true;
                    if matches!(connected.dialler, Dialler::Us(_)) {
                        process.reached.insert(peer);
                    }
                    Input::Connected(connected)
                }
                Packet::Frame(frame) => {
                    let known = process.links.contains_key(&link);
                    if !known {
                        continue;
                    }
                    Input::Frame(link, frame)
                }
                Packet::Down => {
                    process.links.remove(&link);
                    self.network.deafen(number, end);
                    self.network.send(number, 1 - end, (self.now_us, Packet::Down));
                    Input::Disconnected(link)
                }
            };
            process.replica.step(&process.store, moment, input);
            self.poll(index);
        }
    }

    fn tick(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let moment = node.moment(self.now_us);
        if let Some(process) = &mut node.process {
            if (self.now_us / TICK_US).is_multiple_of(SWEEP_US / TICK_US) {
                process.sweep(moment);
            }
            let age_us = self.now_us - process.born_us;
            self.strangers |= !process.met && age_us > self.plan.tuning.start_grace_ms * 1_000;
            self.poll(index);
            self.follow(index);
            if (self.now_us / TICK_US).is_multiple_of(WATCH_US / TICK_US) {
                self.watch(index);
            }
            self.schedule(self.now_us + TICK_US, Event::Tick(index));
        }
    }

    /// Tells what a node holds under the key that is followed, where that has changed.
    fn follow(&mut self, index: usize) {
        let Some((database, key)) = &self.followed else { return };
        let moment = self.nodes[index].moment(self.now_us);
        let Some(process) = &mut self.nodes[index].process else { return };
        let entry = process.store.entry(process.store.database(*database), key);
        let held = entry.as_ref().map_or_else(|| "nothing".to_owned(), story::parts);
        if process.followed.as_ref() != Some(&held) {
            process.followed = Some(held.clone());
            let floor = story::time(process.replica.sweep_floor(moment));
            self.tell(|| format!("n{index} holds {held}, and may forget up to {floor}"));
        }
    }

    /// Polls a node and does what it says.
    fn poll(&mut self, index: usize) {
        let (moment, role) = (self.nodes[index].moment(self.now_us), self.nodes[index].role);
        let Some(process) = &mut self.nodes[index].process else { return };
        let mut out = std::mem::take(&mut self.out);
        let rest = process.replica.poll(&process.store, moment, &mut out);
        // What a replica forgets too early only it can lack.
        let known = match role {
            Role::Master => process.knows_while_forgetting(&self.plan.roles, moment),
            Role::Replica => None,
        };
        let late = process.replica.counts().late_adopted;
        let news = late - std::mem::replace(&mut process.late_told, late);
        for op in process.own_ops() {
            op.stamp.hlc.hash(&mut self.digest);
            self.oracle.note(op);
        }
        self.strangers |= known.is_some_and(|known| self.have_met_their_peers(&known));
        if news > 0 {
            self.tell(|| format!("n{index} writes {news} late values anew"));
        }
        for output in out.drain(..) {
            self.carry_out(index, output);
        }
        self.out = out;
        if rest == Rest::More {
            self.schedule(self.now_us + 50, Event::Poll(index));
        }
    }

    fn carry_out(&mut self, index: usize, output: Output) {
        match output {
            Output::Send(link, frame) => self.send(index, link, frame),
            Output::Close(link, farewell) => self.close(index, link, farewell),
            Output::Message { .. } => {}
            Output::Diverged { peer, key_count } => self.note_divergence(index, &peer, key_count),
        }
    }

    fn note_divergence(&mut self, index: usize, peer: &str, key_count: u64) {
        let moment = self.nodes[index].moment(self.now_us);
        let status =
            self.nodes[index].process.as_ref().map(|process| process.replica.status(moment));
        let sample = status.and_then(|status| status.audit).map(|audit| audit.sample);
        let text = format!("n{index} differs from {peer} in {key_count} keys: {sample:?}");
        self.tell(|| text.clone());
        self.divergences.push(text);
    }

    fn send(&mut self, index: usize, link: LinkId, frame: Frame) {
        let Some(process) = &self.nodes[index].process else { return };
        let Some(&(number, end)) = process.links.get(&link) else { return };
        let Some(connection) = self.network.get(number) else { return };
        let peer = connection.nodes[1 - end];
        if self.codec {
            self.check_codec(&frame);
            self.check_above_floor((index, peer), link, &frame);
        }
        let mut at_us = self.now_us + self.delay_us(index, peer);
        if frame.lane() == Lane::Bulk {
            at_us += self.bulk_delay_us();
        }
        self.network.send(number, 1 - end, (at_us, Packet::Frame(frame)));
        self.schedule(at_us, Event::Arrival);
    }

    fn delay_us(&mut self, a: usize, b: usize) -> u64 {
        let (least, most) = self.plan.delay_us;
        let slow = self.network.slow_us.get(&(a.min(b), a.max(b))).copied().unwrap_or(0);
        self.dice.u64(least..=most) + slow
    }

    fn bulk_delay_us(&mut self) -> u64 {
        let (least, most) = self.plan.bulk_delay_us;
        if most == 0 { 0 } else { self.dice.u64(least..=most) }
    }

    fn close(&mut self, index: usize, link: LinkId, farewell: Farewell) {
        if let Farewell::Refused(why) = &farewell {
            let (why, node) = (why.clone(), index);
            self.tell(|| format!("n{node} refuses a peer: {why}"));
            if !why.contains("named") {
                self.faults.push(format!("n{index} refuses an honest peer: {why}"));
            }
        }
        let Some(process) = &mut self.nodes[index].process else { return };
        let Some((number, end)) = process.links.remove(&link) else { return };
        let at_us = self.now_us + self.plan.delay_us.1;
        self.network.send(number, 1 - end, (at_us, Packet::Frame(Frame::Bye(farewell))));
        self.network.send(number, 1 - end, (at_us, Packet::Down));
        self.network.deafen(number, end);
        self.schedule(at_us, Event::Arrival);
    }

    fn dial(&mut self, a: usize, b: usize) {
        self.schedule(self.now_us + DIAL_US, Event::Dial(a, b));
        let both_up = self.nodes[a].process.is_some() && self.nodes[b].process.is_some();
        let cut = self.network.is_cut(a, b) || self.network.is_cut(b, a);
        let connected = self.network.are_connected(a, b);
        let Some(process) = self.nodes[a].process.as_ref().filter(|_| both_up && !cut) else {
            return;
        };
        // A dialler must get through once to learn whom it reaches.
        if process.reached.contains(&b) && connected {
            return;
        }
        let hello = |index: usize| {
            let process = self.nodes[index].process.as_ref().expect("it is up");
            process.replica.hello(self.nodes[index].moment(self.now_us))
        };
        let hellos = [hello(b), hello(a)];
        let endpoint = format!("n{b}");
        let (number, links) = self.network.open([a, b]);
        let diallers = [Dialler::Us(endpoint), Dialler::Them];
        for (end, (hello, dialler)) in hellos.into_iter().zip(diallers).enumerate() {
            let address = String::new();
            let connected = Connected { link: links[end], hello, dialler, address };
            let at_us = self.now_us + self.delay_us(a, b);
            self.network.send(number, end, (at_us, Packet::Up(Box::new(connected))));
            self.schedule(at_us, Event::Arrival);
        }
    }

    fn write(&mut self) {
        if !self.active {
            return;
        }
        let gap_us = self.dice.u64(1..=2 * self.plan.write_gap_us);
        self.schedule(self.now_us + gap_us, Event::Write);
        let index = self.dice.usize(..self.nodes.len());
        let moment = self.nodes[index].moment(self.now_us);
        if self.nodes[index].role == Role::Replica {
            return;
        }
        self.note_slow_clock(index);
        let Some(process) = &self.nodes[index].process else { return };
        workload::write(&process.store, &mut self.dice, (&self.plan, moment.wall));
        if self.dice.bool() {
            self.poll(index);
        }
    }

    fn restart(&mut self, index: usize) {
        if self.nodes[index].process.is_some() {
            return;
        }
        self.origin_count += 1;
        let origin = Uuid::from_u128(u128::from(self.origin_count) << 64 | index as u128);
        let mine = self.plan.dials.iter().filter(|(a, _)| *a == index);
        let birth = Birth {
            origin,
            settings: Settings {
                name: self.nodes[index].name.clone(),
                cluster: "sim".to_owned(),
                role: self.nodes[index].role,
                boot: self.origin_count,
                tuning: self.plan.tuning,
                rules: self.plan.rules,
            },
            endpoints: mine.map(|(_, b)| format!("n{b}")).collect(),
        };
        let snapshot: Option<Snapshot> = self.nodes[index].snapshots.last().cloned();
        let from = if snapshot.is_some() { "a snapshot" } else { "nothing" };
        self.tell(|| format!("n{index} starts from {from} as {origin}"));
        self.nodes[index].start(birth, snapshot.as_ref(), self.now_us);
        self.schedule(self.now_us, Event::Tick(index));
    }

    fn begin_snapshot(&mut self, index: usize) {
        if !self.active {
            return;
        }
        let gap_us = self.dice.u64(SNAPSHOT_US / 2..2 * SNAPSHOT_US);
        self.schedule(self.now_us + gap_us, Event::BeginSnapshot(index));
        let Some(process) = &self.nodes[index].process else { return };
        let origin = process.store.origin();
        self.pending_snapshots[index] = Some(process.replica.saved());
        let ends_us = self.now_us + self.dice.u64(..3_000);
        self.schedule(ends_us, Event::EndSnapshot(index, origin));
    }

    fn end_snapshot(&mut self, index: usize, origin: Uuid) {
        let Some(saved) = self.pending_snapshots[index].take() else { return };
        let node = &mut self.nodes[index];
        let Some(process) = node.process.as_ref().filter(|p| p.store.origin() == origin) else {
            return;
        };
        node.snapshots.push(Snapshot::take(saved, &process.store));
        if node.snapshots.len() > SNAPSHOTS_MAX {
            node.snapshots.remove(0);
        }
    }

    /// No more writes or faults; everything is mended and everyone up.
    fn settle(&mut self) {
        self.active = false;
        self.tell(|| "no more writes; everything is mended".to_owned());
        self.network.cuts.clear();
        self.network.held.clear();
        self.network.slow_us.clear();
        self.schedule(self.now_us, Event::Arrival);
        for index in 0..self.nodes.len() {
            self.restart(index);
        }
        // Mends that were planned must not undo what is whole.
        let events = std::mem::take(&mut self.events);
        self.events = events
            .into_iter()
            .filter(|Reverse((_, _, event))| !matches!(event, Event::Mend(_)))
            .collect();
    }
}
