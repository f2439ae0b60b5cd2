//! A network that is made up: connections whose frames come late, or not until a cut is mended, or
//! are lost with the connection.

use atoll_core::replica::{Connected, LinkId};
use atoll_core::wire::frame::{Frame, Lane};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What travels.
#[derive(Debug)]
pub enum Packet {
    /// The connection is up at this end.
    Up(Box<Connected>),
    /// A frame.
    Frame(Frame),
    /// The other end has closed.
    Down,
}

/// One connection: two ends, two lanes each way.
#[derive(Debug)]
pub struct Connection {
    /// The nodes at its ends; the first has dialled.
    pub nodes: [usize; 2],
    /// What each end calls it.
    pub links: [LinkId; 2],
    /// What is under way to each end.
    ways: [Way; 2],
}

/// What is under way in one direction.
#[derive(Debug, Default)]
struct Way {
    live: VecDeque<(u64, Packet)>,
    bulk: VecDeque<(u64, Packet)>,
    /// Whether the far end is up: bulk frames wait for that.
    up: bool,
    /// Nothing more will come.
    closed: bool,
}

/// All connections.
#[derive(Debug, Default)]
pub struct Network {
    connections: BTreeMap<usize, Connection>,
    next: usize,
    next_link: u64,
    /// Directions that are cut: (from, to).
    pub cuts: BTreeMap<(usize, usize), u32>,
    /// Directions in which nothing bulky gets through.
    pub held: BTreeSet<(usize, usize)>,
    /// Extra time on the link of two nodes, in µs.
    pub slow_us: BTreeMap<(usize, usize), u64>,
}

impl Network {
    /// Opens a connection; returns its number and what each end calls it.
    pub fn open(&mut self, nodes: [usize; 2]) -> (usize, [LinkId; 2]) {
        let links = [LinkId(self.next_link), LinkId(self.next_link + 1)];
        self.next_link += 2;
        let number = self.next;
        self.next += 1;
        self.connections.insert(number, Connection { nodes, links, ways: Default::default() });
        (number, links)
    }

    /// Puts a packet under way to the end given; it comes at `at_us`, or later.
    pub fn send(&mut self, number: usize, to: usize, (at_us, packet): (u64, Packet)) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let way = &mut connection.ways[to];
        if way.closed {
            return;
        }
        way.closed = matches!(packet, Packet::Down);
        let lane = match &packet {
            Packet::Frame(frame) => frame.lane(),
            _ => Lane::Live,
        };
        let queue = match lane {
            Lane::Live => &mut way.live,
            Lane::Bulk => &mut way.bulk,
        };
        let at_us = queue.back().map_or(at_us, |(last, _)| at_us.max(*last));
        queue.push_back((at_us, packet));
    }

    /// Takes out a packet that has arrived: connection, end, packet.
    pub fn arrive(&mut self, now_us: u64) -> Option<(usize, usize, Packet)> {
        let cuts = &self.cuts;
        for (number, connection) in &mut self.connections {
            for (to, way) in connection.ways.iter_mut().enumerate() {
                let direction = (connection.nodes[1 - to], connection.nodes[to]);
                if cuts.contains_key(&direction) {
                    continue;
                }
                let up = way.up;
                if way.live.front().is_some_and(|(at, _)| *at <= now_us)
                    && let Some((_, packet)) = way.live.pop_front()
                {
                    way.up |= matches!(packet, Packet::Up(_));
                    return Some((*number, to, packet));
                }
                if up
                    && !self.held.contains(&direction)
                    && way.bulk.front().is_some_and(|(at, _)| *at <= now_us)
                    && let Some((_, packet)) = way.bulk.pop_front()
                {
                    return Some((*number, to, packet));
                }
            }
        }
        None
    }

    /// Whether nothing gets from one node to another.
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.contains_key(&(from, to))
    }

    /// Cuts a direction. Cuts add up.
    pub fn cut(&mut self, from: usize, to: usize) {
        *self.cuts.entry((from, to)).or_default() += 1;
    }

    /// Takes one cut of a direction back.
    pub fn mend(&mut self, from: usize, to: usize) {
        if let Some(count) = self.cuts.get_mut(&(from, to)) {
            *count -= 1;
            if *count == 0 {
                self.cuts.remove(&(from, to));
            }
        }
    }

    /// A connection.
    pub fn get(&self, number: usize) -> Option<&Connection> {
        self.connections.get(&number)
    }

    /// Whether two nodes have a connection that neither has closed.
    pub fn are_connected(&self, a: usize, b: usize) -> bool {
        self.connections.values().any(|connection| {
            let same = connection.nodes == [a, b] || connection.nodes == [b, a];
            same && connection.ways.iter().all(|way| !way.closed)
        })
    }

    /// The connections between two nodes, or of one where only it is given.
    pub fn of(&self, a: usize, b: Option<usize>) -> Vec<usize> {
        let touches = |connection: &Connection| {
            connection.nodes.contains(&a) && b.is_none_or(|b| connection.nodes.contains(&b))
        };
        let of = self.connections.iter().filter(|(_, connection)| touches(connection));
        of.map(|(number, _)| *number).collect()
    }

    /// Forgets what is under way to an end, and all that would come.
    pub fn deafen(&mut self, number: usize, end: usize) {
        if let Some(connection) = self.connections.get_mut(&number) {
            let way = &mut connection.ways[end];
            (way.live, way.bulk, way.closed) = (VecDeque::new(), VecDeque::new(), true);
            if connection.ways.iter().all(|way| way.closed && way.live.is_empty()) {
                self.connections.remove(&number);
            }
        }
    }

    /// Loses what is under way in both directions; both ends will notice.
    pub fn reset(&mut self, number: usize, at_us: [u64; 2]) {
        if let Some(connection) = self.connections.get_mut(&number) {
            for (way, at_us) in connection.ways.iter_mut().zip(at_us) {
                if !way.closed {
                    let up = way.up;
                    *way = Way { up, ..Way::default() };
                    way.live.push_back((at_us, Packet::Down));
                    way.closed = true;
                }
            }
        }
    }
}
