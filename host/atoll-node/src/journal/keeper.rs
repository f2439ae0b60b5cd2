//! The thread that keeps the copy on the disk up to date, and what it does while the disk fails.
//!
//! In each turn it writes what has changed (`keeper/changes.rs`), makes it safe when that is due and
//! says how far that goes. A disk that fails is closed and tried again and again; everything that
//! was not yet safe is then noted as changed once more, so nothing that memory holds is lost.

pub(super) mod changes;
mod purge;

use super::directory::Directory;
use super::disk::{Disk, DiskError, OpenDisk};
use super::record::{self, CHECKPOINT, Checkpoint};
use super::{Fsync, Journal, Loss, OnDiskError, Saved};
use atoll_core::clock::Stamp;
use atoll_core::key::BucketName;
use atoll_core::store::Store;
use atoll_core::store::gate::Obstacle;
use bytes::Bytes;
use changes::{Known, Window};
use purge::Purges;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// Between two turns where nobody waits: with `never` at most this much is lost when the process is
/// killed.
const TURN_PAUSE: Duration = Duration::from_millis(100);
/// Between two turns while there is something to tidy up.
const TIDY_PAUSE: Duration = Duration::from_millis(5);
/// How often everything is made safe with `everysec`, and the free space looked at.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Between two tries of a disk that fails: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Gives what the node keeps beside its keys. It is asked for before the changes that it covers are
/// taken, and written after them.
pub(crate) type NodeState = Box<dyn Fn() -> Vec<u8> + Send>;

/// Why a turn begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// It is time.
    Time,
    /// Somebody waits to be answered until what was written is as safe as was promised.
    Waiter,
    /// The node stops.
    Stop,
}

/// What the thread works with.
pub(super) struct Keeper {
    store: Arc<Store>,
    journal: Arc<Journal>,
    node_state: NodeState,
    opener: Box<dyn OpenDisk>,
    disk: Condition,
    copy: Copied,
    window: Window,
    purges: Purges,
    unsynced: Unsynced,
    space_told: Option<Instant>,
    _directory: Option<Directory>,
}

/// Whether there is a disk to write to.
enum Condition {
    Up(Box<dyn Disk>),
    Down { retry_at: Instant, delay: Duration },
}

/// What is known to be on the disk beside entries.
#[derive(Default)]
struct Copied {
    checkpoint: Checkpoint,
    written_at: Option<Instant>,
    flushes: HashMap<BucketName, Stamp>,
    /// The checkpoint that is safe.
    safe_number: u64,
}

/// What was written and is not safe yet.
struct Unsynced {
    any: bool,
    /// The last op of this process's own that was written.
    seq: u64,
    synced_at: Instant,
}

/// What a keeper starts with.
pub(super) struct Start {
    pub(super) store: Arc<Store>,
    pub(super) journal: Arc<Journal>,
    pub(super) node_state: NodeState,
    pub(super) opener: Box<dyn OpenDisk>,
    pub(super) disk: Box<dyn Disk>,
    /// As it was loaded, even where it is not to be relied on: numbers go up from it.
    pub(super) number: u64,
    /// Buckets of which the disk holds more than memory.
    pub(super) with_dead: Vec<BucketName>,
    pub(super) directory: Option<Directory>,
}

impl Keeper {
    pub(super) fn new(start: Start) -> Keeper {
        let Start { store, journal, node_state, opener, disk, number, with_dead, directory } =
            start;
        let checkpoint = Checkpoint { number, state: Bytes::new() };
        // What was loaded is on the disk, flushes included.
        let flushes = store.flush_marks().into_iter().collect();
        let copy = Copied { checkpoint, written_at: None, flushes, safe_number: number };
        Keeper {
            store,
            journal,
            node_state,
            opener,
            disk: Condition::Up(disk),
            copy,
            window: Window::default(),
            purges: Purges::of(with_dead),
            unsynced: Unsynced { any: false, seq: 0, synced_at: Instant::now() },
            space_told: None,
            _directory: directory,
        }
    }

    /// Works until the node stops; then everything is safe, unless the disk fails.
    pub(super) fn run(mut self) {
        loop {
            let pause = if self.purges.is_empty() { TURN_PAUSE } else { TIDY_PAUSE };
            let call = self.journal.bell.wait(pause);
            // A bug in the engine must not end in silence, with writes that nobody saves.
            if catch_unwind(AssertUnwindSafe(|| self.turn(call))).is_err() {
                self.fail(&DiskError::Engine("it panicked".to_owned()), RETRY_FIRST);
            }
            if call == Call::Stop {
                return self.conclude();
            }
        }
    }

    /// One turn: what has changed is written, or a disk that failed is tried again.
    pub(super) fn turn(&mut self, call: Call) {
        let down = Condition::Down { retry_at: Instant::now(), delay: RETRY_FIRST };
        let mut disk = match std::mem::replace(&mut self.disk, down) {
            Condition::Up(disk) => disk,
            Condition::Down { retry_at, delay }
                if Instant::now() < retry_at && call != Call::Stop =>
            {
                self.disk = Condition::Down { retry_at, delay };
                return;
            }
            Condition::Down { delay, .. } => match self.reopen() {
                Ok(disk) => disk,
                Err(error) => return self.fail(&error, delay),
            },
        };
        match self.save(&mut *disk, call) {
            Ok(()) => {
                self.note_space();
                self.disk = Condition::Up(disk);
                self.note_ok();
            }
            Err(error) => {
                self.fail(&error, RETRY_FIRST);
                // Last: closing an engine that failed may take its time.
                drop(disk);
            }
        }
    }

    /// Writes what has changed, makes it safe if that is due, and says so.
    fn save(&mut self, disk: &mut dyn Disk, call: Call) -> Result<(), DiskError> {
        self.write_changes(disk, call)?;
        let is_due = match self.journal.settings.fsync {
            Fsync::Always => true,
            Fsync::EverySecond => self.unsynced.synced_at.elapsed() >= SYNC_EVERY,
            Fsync::Never => false,
        };
        if self.unsynced.any && (is_due || call == Call::Stop || self.is_failing()) {
            let began = Instant::now();
            disk.sync()?;
            self.unsynced.any = false;
            self.unsynced.synced_at = Instant::now();
            let sums = &self.journal.board.sums;
            sums.syncs.fetch_add(1, Relaxed);
            sums.sync_us.fetch_add(micros(began.elapsed()), Relaxed);
        }
        if !self.unsynced.any || self.journal.settings.fsync == Fsync::Never {
            self.copy.safe_number = self.copy.checkpoint.number;
            self.window.clear();
            self.journal.board.note_saved(self.unsynced.seq);
        }
        Ok(())
    }

    fn is_failing(&self) -> bool {
        self.journal.saved.borrow().loss == Loss::Possible
    }

    /// Says how far everything is as safe as was promised, and that writes are taken again where they
    /// were not.
    fn note_ok(&mut self) {
        if self.journal.board.note_ok() {
            info!("the disk takes writes again; everything is saved");
            if self.store.obstacle() == Some(Obstacle::Disk) {
                self.store.set_obstacle(None);
            }
        }
        // The system has it; where more was promised, so has the disk.
        let now = Saved { seq: self.unsynced.seq, loss: Loss::None };
        self.journal.saved.send_if_modified(|saved| std::mem::replace(saved, now) != now);
    }

    /// Says that the disk fails, and when it will be tried again.
    fn fail(&mut self, error: &DiskError, delay: Duration) {
        let reason = error.to_string();
        self.disk =
            Condition::Down { retry_at: Instant::now() + delay, delay: (delay * 2).min(RETRY_MAX) };
        if self.journal.settings.on_error == OnDiskError::Refuse {
            self.store.set_obstacle(Some(Obstacle::Disk));
        }
        if self.journal.board.note_failing(reason.clone()) {
            let writes = self.journal.settings.on_error.consequence();
            error!(reason, writes, "the disk takes no writes");
        }
        self.journal.saved.send_modify(|saved| saved.loss = Loss::Possible);
    }

    /// Opens the disk again and has everything written again that it may not hold.
    fn reopen(&mut self) -> Result<Box<dyn Disk>, DiskError> {
        self.opener.check_room()?;
        let disk = self.opener.open()?;
        let found =
            disk.get(CHECKPOINT)?.and_then(|sealed| record::unseal(CHECKPOINT, &sealed).ok());
        let found = found.and_then(|value| Checkpoint::read(&value).ok()).unwrap_or_default();
        // The disk holds everything up to this number; another disk in its place does not.
        let is_older = found.number < self.copy.safe_number || disk.damaged_places() > 0;
        if is_older || self.window.note_again(&self.store) != Known::All {
            warn!("the disk is older than it should be; all of it is compared with memory");
            self.store.note_all_changed();
        }
        self.window.clear();
        let number = found.number.max(self.copy.checkpoint.number);
        let checkpoint = Checkpoint { number, state: Bytes::new() };
        // Flushes are written again as well, and with that what they killed is looked for.
        self.copy = Copied { checkpoint, safe_number: self.copy.safe_number, ..Copied::default() };
        Ok(disk)
    }

    fn note_space(&mut self) {
        if self.space_told.is_none_or(|told| told.elapsed() >= SYNC_EVERY) {
            self.space_told = Some(Instant::now());
            let (used, free) = (self.opener.used_bytes(), self.opener.free_bytes());
            self.journal.board.note_space(used, free);
        }
    }

    fn conclude(self) {
        match self.disk {
            Condition::Up(_) => info!("everything is saved"),
            Condition::Down { .. } => error!("the last writes were not saved: the disk takes none"),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
