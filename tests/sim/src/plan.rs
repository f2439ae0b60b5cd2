//! What a seed means: how many nodes, linked how, what goes wrong and when.

use atoll_core::replica::status::Role;
use atoll_core::replica::tuning::{Rules, Tuning};
use fastrand::Rng;

/// How many nodes there may be. What goes wrong mostly does so between three; a run of nine costs
/// as much as ten of those.
const NODE_COUNTS: [usize; 32] = [
    2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 5, 5, 5, 6, 7, 9,
];

/// How long writes and faults may go on, in µs. Of an hour of testing, many short runs find more
/// than few long ones; some things need a long one.
const ACTIVE_US: [u64; 10] =
    [8_000, 15_000, 15_000, 25_000, 25_000, 40_000, 40_000, 60_000, 120_000, 300_000];

/// How nodes are linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// Everyone with everyone.
    Mesh,
    /// Each with the next, in a circle.
    Ring,
    /// All with the first.
    Star,
    /// Each with the next.
    Line,
    /// A tree, and some links more.
    Random,
}

/// Everything that is decided before a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What everything else comes from.
    pub seed: u64,
    /// For the errors of the shape.
    pub topology: Topology,
    /// Roles of the nodes; the first is a master.
    pub roles: Vec<Role>,
    /// Who dials whom.
    pub dials: Vec<(usize, usize)>,
    /// Clock of each node against the true time, in µs.
    pub skews_us: Vec<i64>,
    /// Time of a frame on each link, in µs, at the least and at the most.
    pub delay_us: (u64, u64),
    /// How long writes and faults go on, in µs.
    pub active_us: u64,
    /// Mean time between two writes anywhere, in µs.
    pub write_gap_us: u64,
    /// Mean time between two faults, in µs.
    pub fault_gap_us: u64,
    /// What bulk frames take beyond that, in µs, at the least and at the most: a full connection.
    pub bulk_delay_us: (u64, u64),
    /// How long the last node is alone before anyone hears of it, in µs.
    pub stranger_us: u64,
    /// Which keys are written.
    pub key_count: usize,
    /// What is written.
    pub edits: Edits,
    /// How much of each kind goes wrong.
    pub faults: Faults,
    /// How long a cut may last, in µs.
    pub cuts_us: [u64; 4],
    /// What becomes of the disk of a process that dies.
    pub disks: Disks,
    /// Times and sizes of the machine.
    pub tuning: Tuning,
    /// The protective rules.
    pub rules: Rules,
}

/// Weights of the kinds of faults.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// A link is cut, in one direction or both, for a while.
    pub cut: u32,
    /// Everything to and from a node is cut for a while.
    pub isolate: u32,
    /// A link's connection is reset; what was under way is lost.
    pub reset: u32,
    /// A process dies; another with its name starts later.
    pub crash: u32,
    /// A link becomes slow for a while.
    pub slow: u32,
    /// A clock steps.
    pub step: u32,
    /// All processes but one die at once.
    pub blackout: u32,
}

/// Weights of what may become of a disk.
#[derive(Clone, Copy, Debug)]
pub struct Disks {
    /// It is lost.
    pub lost: u32,
    /// An old state of it comes back.
    pub old: u32,
    /// It stays.
    pub kept: u32,
}

/// Which kinds of edits there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edits {
    /// All.
    All,
    /// Values with and without a deadline, and deletes.
    Values,
}

impl Plan {
    /// The plan that `seed` stands for.
    pub fn of(seed: u64) -> Plan {
        let mut dice = Rng::with_seed(seed);
        let count = *pick(&mut dice, &NODE_COUNTS);
        let topology = *pick(
            &mut dice,
            &[
                Topology::Mesh,
                Topology::Mesh,
                Topology::Ring,
                Topology::Star,
                Topology::Line,
                Topology::Random,
            ],
        );
        let replicas = if count > 2 && dice.u8(..4) == 0 { dice.usize(1..count - 1) } else { 0 };
        let roles = (0..count)
            .map(|index| if index + replicas >= count { Role::Replica } else { Role::Master })
            .collect();
        let skew_us = *pick(&mut dice, &[0, 0, 3_000, 3_000, 50_000]);
        let skews_us = (0..count)
            .map(|_| if skew_us == 0 { 0 } else { dice.i64(-skew_us..=skew_us) })
            .collect();
        let delay_us = *pick(&mut dice, &[(50, 200), (50, 3_000), (1_000, 1_500), (500, 8_000)]);
        let dials = links(&mut dice, topology, count);
        let calm = dice.u8(..8) == 0;
        Plan {
            seed,
            topology,
            roles,
            dials,
            skews_us,
            delay_us,
            active_us: *pick(&mut dice, &ACTIVE_US),
            write_gap_us: *pick(&mut dice, &[100, 300, 1_000]),
            fault_gap_us: if calm { u64::MAX } else { *pick(&mut dice, &[4_000, 10_000, 25_000]) },
            bulk_delay_us: (0, 0),
            stranger_us: 0,
            key_count: *pick(&mut dice, &[2, 4, 8, 16]),
            edits: Edits::All,
            faults: Faults {
                cut: dice.u32(0..6),
                isolate: dice.u32(0..3),
                reset: dice.u32(0..6),
                crash: dice.u32(0..5),
                slow: dice.u32(0..3),
                step: dice.u32(0..2),
                blackout: 0,
            },
            cuts_us: [3_000, 20_000, 60_000, 150_000],
            disks: Disks { lost: 2, old: 1, kept: 3 },
            tuning: Tuning {
                log_bytes_max: *pick(&mut dice, &[2_000, 8_000, 60_000, 1 << 20]),
                max_skew_ms: 2_000,
                min_age_ms: 10,
                report_ms: 5,
                report_gap_ms: 2,
                horizon_ms: 3_600_000,
                silence_ms: *pick(&mut dice, &[30, 100]),
                ping_ms: 10,
                graft_ms: 4,
                nack_ms: 10,
                start_grace_ms: 50,
                live_window_bytes: *pick(&mut dice, &[500, 5_000, 1 << 20]),
                bulk_window_bytes: *pick(&mut dice, &[500, 5_000, 1 << 20]),
                chunk_bytes: *pick(&mut dice, &[200, 1_000, 64 << 10]),
                audit_ms: 30,
                audit_retry_ms: 5,
                audit_patience_ms: 400,
            },
            rules: Rules::ALL,
        }
    }
}

/// A rule's name, and how it is switched off.
pub type Switch = (&'static str, fn(&mut Rules));

/// Rules that can be switched off by name.
pub const RULES: [Switch; 14] = [
    ("proof", |rules| rules.proof = false),
    ("second-order", |rules| rules.second_order = false),
    ("receiver", |rules| rules.receiver = false),
    ("stale", |rules| rules.stale = false),
    ("exclusive", |rules| rules.exclusive = false),
    ("hold", |rules| rules.hold = false),
    ("relay", |rules| rules.relay = false),
    ("pin", |rules| rules.pin = false),
    ("floor-travels", |rules| rules.floor_travels = false),
    ("above-floor", |rules| rules.above_floor = false),
    ("adopt", |rules| rules.adopt = false),
    ("join", |rules| rules.join = false),
    ("retire", |rules| rules.retire = false),
    ("prune", |rules| rules.prune = false),
];

/// One of `choices`.
pub fn pick<'c, T>(dice: &mut Rng, choices: &'c [T]) -> &'c T {
    &choices[dice.usize(..choices.len())]
}

pub(crate) fn links(dice: &mut Rng, topology: Topology, count: usize) -> Vec<(usize, usize)> {
    let mut dials = Vec::new();
    match topology {
        Topology::Mesh => {
            for a in 0..count {
                dials.extend((0..count).filter(|b| *b != a).map(|b| (a, b)));
            }
        }
        Topology::Ring => dials.extend((0..count).map(|a| (a, (a + 1) % count))),
        Topology::Star => dials.extend((1..count).map(|a| (a, 0))),
        Topology::Line => dials.extend((1..count).map(|a| (a - 1, a))),
        Topology::Random => {
            dials.extend((1..count).map(|a| (a, dice.usize(..a))));
            for _ in 0..dice.usize(..count) {
                let (a, b) = (dice.usize(..count), dice.usize(..count));
                if a != b {
                    dials.push((a, b));
                }
            }
        }
    }
    dials
}
