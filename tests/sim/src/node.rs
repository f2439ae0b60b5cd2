//! One node: a name and a disk that last, a process that does not.

use crate::disk::Snapshot;
use atoll_core::clock::{Hlc, Now};
use atoll_core::key::BucketName;
use atoll_core::replica::status::{Readiness, Role};
use atoll_core::replica::{LinkId, Moment, Replica, Settings};
use atoll_core::store::log::LogRead;
use atoll_core::store::sweep::Sweeper;
use atoll_core::store::{Dice, Store, StoreConfig};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// True time at the beginning of a run, in µs since the epoch.
pub const START_US: u64 = 1_800_000_000_000_000;

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Kept over restarts.
    pub name: String,
    /// Kept over restarts.
    pub role: Role,
    /// Its clock against the true time, in µs.
    pub skew_us: i64,
    /// What its disk holds, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// The process, while there is one.
    pub process: Option<Process>,
}

/// A process.
#[derive(Debug)]
pub struct Process {
    /// Its store.
    pub store: Store,
    /// Its machine.
    pub replica: Replica,
    /// Where its sweep stands.
    pub sweeper: Sweeper,
    /// Its links: which connection, and which end of it this is.
    pub links: BTreeMap<LinkId, (usize, usize)>,
    /// How far its log has been read.
    pub log_position: u64,
    /// The newest register stamp that each key was seen with while the node was ready.
    pub seen: BTreeMap<(BucketName, Vec<u8>), atoll_core::clock::Stamp>,
    /// When it started, µs.
    pub born_us: u64,
    /// Whether it has ever been linked.
    pub met: bool,
    /// Nodes that it has dialled.
    pub reached: BTreeSet<usize>,
    /// Whether it has heard of every master that there is.
    pub knows_all: bool,
    /// What it held when it was last told under the key that the story follows.
    pub followed: Option<String>,
    /// The origins of the streams that it sends, by link and number.
    pub numbered: BTreeMap<(LinkId, u32), Uuid>,
    /// Late values of which the story has told.
    pub late_told: u64,
}

/// What a process starts with.
#[derive(Clone, Debug)]
pub struct Birth {
    /// Of the process.
    pub origin: Uuid,
    /// The machine's settings.
    pub settings: Settings,
    /// Whom it dials.
    pub endpoints: BTreeSet<String>,
}

impl Node {
    /// The node's clock.
    pub fn moment(&self, now_us: u64) -> Moment {
        let wall_us = (START_US + now_us).saturating_add_signed(self.skew_us);
        Moment { wall: Now::from_micros(wall_us), at_ms: now_us / 1_000 }
    }

    /// Starts a process, over a snapshot where one is given.
    pub fn start(&mut self, birth: Birth, snapshot: Option<&Snapshot>, now_us: u64) {
        let config = StoreConfig {
            memory_bytes_max: 1 << 30,
            log_bytes_max: 1 << 20,
            change_bytes_max: None,
        };
        let dice = Dice { origin: birth.origin, hash_seed: birth.settings.boot };
        let store = Store::new(config, dice, Box::new(|| {}));
        let log_position = store.log_subscribe();
        let moment = self.moment(now_us);
        if let Some(snapshot) = snapshot {
            snapshot.load(&store, moment.wall);
        }
        let saved = snapshot.map(|snapshot| snapshot.saved.clone());
        let mut replica = Replica::new(birth.settings, saved, (&store, moment));
        replica.step(&store, moment, atoll_core::replica::Input::Endpoints(birth.endpoints));
        self.process = Some(Process {
            store,
            replica,
            sweeper: Sweeper::default(),
            links: BTreeMap::new(),
            log_position,
            seen: BTreeMap::new(),
            born_us: now_us,
            met: false,
            reached: BTreeSet::new(),
            knows_all: false,
            followed: None,
            numbered: BTreeMap::new(),
            late_told: 0,
        });
    }
}

impl Process {
    /// The ops that the process itself has made since the last time.
    pub fn own_ops(&mut self) -> Vec<atoll_core::entry::op::Op> {
        let origin = self.store.origin();
        match self.store.log_read(self.log_position, usize::MAX) {
            LogRead::Ops { ops, next } => {
                self.log_position = next;
                ops.into_iter().filter(|op| op.stamp.origin == origin).collect()
            }
            LogRead::Fallen { .. } => panic!("the log of the oracle is large enough"),
        }
    }

    /// Whom it knows, by name, where it drops what is dead although there are masters that it has
    /// never heard of.
    pub fn knows_while_forgetting(
        &mut self,
        roles: &[Role],
        moment: Moment,
    ) -> Option<BTreeSet<String>> {
        if self.knows_all || self.replica.sweep_floor(moment) == Hlc::ZERO {
            return None;
        }
        let members = self.replica.status(moment).members;
        let names: BTreeSet<String> = members.into_iter().map(|member| member.name).collect();
        let mut masters = roles.iter().enumerate().filter(|(_, role)| **role == Role::Master);
        self.knows_all = masters.all(|(index, _)| names.contains(&format!("n{index}")));
        Some(names).filter(|_| !self.knows_all)
    }

    /// Records that it keeps although nothing is alive in them.
    pub fn dead_count(&self) -> usize {
        (0..2).map(|database| self.store.database(database).stats().tombstone_count).sum()
    }

    /// Whether it should be sent requests.
    pub fn is_ready(&self, moment: Moment) -> bool {
        self.replica.status(moment).readiness == Readiness::Ready
    }

    /// Drops what is dead and settled.
    pub fn sweep(&mut self, moment: Moment) {
        let floor: Hlc = self.replica.sweep_floor(moment);
        loop {
            if self.store.sweep(&mut self.sweeper, moment.wall, floor).round_done {
                break;
            }
        }
    }
}
