//! The node's own disk: a copy of the store that is kept up to date behind its writers' backs.
//!
//! A thread of its own takes what has changed and writes it to an embedded log-structured store.
//! Writers are answered once the system has what they wrote, so that it outlives the process, or
//! once the disk has it (`--fsync always`): they wait together, once for each batch. With `--fsync
//! never` nobody waits, and the thread writes a few times a second.

mod directory;
mod disk;
mod engine;
mod figures;
pub(crate) mod import;
pub(crate) mod keeper;
mod load;
mod rebuild;
mod record;
pub(crate) mod status;

#[cfg(test)]
mod tests;

use anyhow::Context;
use atoll_core::store::Store;
use bytes::Bytes;
use directory::{Content, Directory};
use disk::{Disk, DiskError, OpenDisk, Reading};
use engine::Engine;

use keeper::{Call, Keeper, NodeState};
use load::{LoadError, Loaded};
use prometheus_client::collector::Collector;
use status::{Board, DiskStatus};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;
use tracing::info;

/// Longest wait until a write is safe; then it is as if the disk failed.
const SETTLE_WAIT: Duration = Duration::from_secs(10);
/// Longest wait for the last writes when the node stops.
const STOP_WAIT: Duration = Duration::from_secs(30);

/// What the operator chose for the disk.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where the data is.
    pub(crate) directory: PathBuf,
    /// When it is safe.
    pub(crate) fsync: Fsync,
    /// What happens to writes while the disk fails.
    pub(crate) on_error: OnDiskError,
}

/// When what was written is safe from a failure of the machine, and of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fsync {
    /// From both before it is answered.
    Always,
    /// From the process's before it is answered, from the machine's within a second.
    EverySecond,
    /// From the process's within a tenth of a second, from the machine's when the operating system
    /// sees fit.
    Never,
}

impl Fsync {
    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Fsync::Always => "always",
            Fsync::EverySecond => "everysec",
            Fsync::Never => "never",
        }
    }
}

/// What happens to writes while the disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnDiskError {
    /// They are refused.
    Refuse,
    /// They are in memory only, until the disk works again.
    Memory,
}

impl OnDiskError {
    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            OnDiskError::Refuse => "refuse",
            OnDiskError::Memory => "memory",
        }
    }

    /// What it means for writes.
    fn consequence(self) -> &'static str {
        match self {
            OnDiskError::Refuse => "refused",
            OnDiskError::Memory => "in memory only",
        }
    }
}

/// A write that was made in memory is not known to be safe. It may be lost, or may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the write was made in memory but could not be saved; it is lost if this node ends now")]
pub(crate) struct Unsettled;

/// What the process knows of its disk. Shared by whoever writes and whoever asks.
#[derive(Debug)]
pub(crate) struct Journal {
    settings: Settings,
    board: Board,
    saved: watch::Sender<Saved>,
    bell: Bell,
}

/// How far everything is as safe as whoever is answered may expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Saved {
    /// This process's ops up to here.
    seq: u64,
    loss: Loss,
}

/// Whether what comes after may never become safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    None,
    /// The disk fails.
    Possible,
}

/// Wakes the journal's thread.
#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<Rung>,
    heard: Condvar,
}

#[derive(Debug, Default)]
struct Rung {
    waiter: bool,
    stop: bool,
}

impl Bell {
    fn ring(&self, call: Call) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        match call {
            Call::Time => {}
            Call::Waiter => rung.waiter = true,
            Call::Stop => rung.stop = true,
        }
        drop(rung);
        self.heard.notify_one();
    }

    /// Waits for somebody to ring, or for `pause`.
    fn wait(&self, pause: Duration) -> Call {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let is_quiet = |rung: &mut Rung| !rung.waiter && !rung.stop;
        let waited = self.heard.wait_timeout_while(rung, pause, is_quiet);
        let (mut rung, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let waiter = std::mem::take(&mut rung.waiter);
        match (rung.stop, waiter) {
            (true, _) => Call::Stop,
            (false, true) => Call::Waiter,
            (false, false) => Call::Time,
        }
    }
}

impl Journal {
    fn new(settings: Settings, record_count: u64) -> Arc<Journal> {
        let (saved, _) = watch::channel(Saved { seq: 0, loss: Loss::None });
        let (board, bell) = (Board::new(record_count), Bell::default());
        Arc::new(Journal { settings, board, saved, bell })
    }

    /// What the disk is like now.
    pub(crate) fn status(&self) -> DiskStatus {
        self.board.status(&self.settings)
    }

    /// Whether writes wait until they are written.
    #[inline]
    pub(crate) fn is_synchronous(&self) -> bool {
        self.settings.fsync != Fsync::Never
    }

    /// Waits until this process's ops up to `seq` are as safe as was promised. Everybody who waits
    /// meanwhile is served by the same write.
    pub(crate) async fn settle(&self, seq: u64) -> Result<(), Unsettled> {
        if !self.is_synchronous() {
            return Ok(());
        }
        let mut saved = self.saved.subscribe();
        let is_over = |saved: &Saved| saved.seq >= seq || saved.loss == Loss::Possible;
        if !is_over(&saved.borrow_and_update()) {
            self.bell.ring(Call::Waiter);
        }
        let waited = tokio::time::timeout(SETTLE_WAIT, saved.wait_for(is_over)).await;
        let is_safe = matches!(waited, Ok(Ok(saved)) if saved.seq >= seq);
        match (is_safe, self.settings.on_error) {
            (true, _) | (false, OnDiskError::Memory) => Ok(()),
            (false, OnDiskError::Refuse) => Err(Unsettled),
        }
    }

    /// The journal's figures, for as long as it lives.
    pub(crate) fn figures(self: &Arc<Self>, store: &Arc<Store>) -> impl Collector {
        figures::Figures::new(Arc::downgrade(self), Arc::downgrade(store))
    }
}

/// A data directory that is open and was not read yet.
pub(crate) struct Opened {
    journal: Arc<Journal>,
    directory: Directory,
    opener: Engine,
    disk: Box<dyn Disk>,
}

/// A data directory that was read.
pub(crate) struct Read {
    opened: Opened,
    loaded: Loaded,
}

/// A data directory that is kept up to date.
#[derive(Debug)]
pub(crate) struct Keeping {
    journal: Arc<Journal>,
    thread: JoinHandle<()>,
}

/// Takes the data directory for this process and opens what is in it.
pub(crate) fn open(settings: Settings) -> anyhow::Result<Opened> {
    let (directory, content) = Directory::claim(&settings.directory)?;
    let (opener, disk) = open_engine(&directory)?;
    let shown = directory.path().display();
    match content {
        Content::New => info!(directory = %shown, "data directory created"),
        Content::Data => info!(directory = %shown, "data directory opened"),
    }
    let journal = Journal::new(settings, disk.record_count() as u64);
    Ok(Opened { journal, directory, opener, disk })
}

fn open_engine(directory: &Directory) -> anyhow::Result<(Engine, Box<dyn Disk>)> {
    rebuild::clean_up(directory).with_context(|| {
        format!("cannot clean up the data directory {}", directory.path().display())
    })?;
    let engine = Engine::new(directory.store());
    // The engine may also panic over what it finds.
    let opened = catch_unwind(AssertUnwindSafe(|| engine.open()));
    let opened = opened.unwrap_or_else(|_| Err(DiskError::Engine("it panicked".to_owned())));
    let disk = opened.with_context(|| {
        format!(
            "cannot open the data in {}; if the disk is well, the data is damaged: move the \
             directory aside and start again (a node with peers refills itself), or restore a backup",
            directory.path().display()
        )
    })?;
    Ok((engine, disk))
}

impl Opened {
    /// What the rest of the process should know of the disk.
    pub(crate) fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Reads everything into `store`, which holds nothing yet. Takes seconds for millions of keys.
    /// `None` where it was given up.
    pub(crate) fn load(self, store: &Store, give_up: &AtomicBool) -> anyhow::Result<Option<Read>> {
        match load::load(&*self.disk, store, (&self.journal.board, give_up)) {
            Ok(loaded) if loaded.reading == Some(Reading::Gap) => {
                Ok(Some(Read { opened: self.rebuild(store)?, loaded }))
            }
            Ok(loaded) => Ok(Some(Read { opened: self, loaded })),
            Err(LoadError::GivenUp) => Ok(None),
            Err(LoadError::Disk(error)) => Err(error).with_context(|| {
                format!("cannot read the data in {}", self.directory.path().display())
            }),
        }
    }
}

impl Opened {
    /// The same with what is in `store` written anew.
    fn rebuild(self, store: &Store) -> anyhow::Result<Opened> {
        let Opened { journal, directory, disk, .. } = self;
        drop(disk);
        rebuild::rebuild(&directory, store).with_context(|| {
            let shown = directory.path().display();
            format!(
                "a part of the data in {shown} cannot be read, and the rest cannot be written anew; \
                 make room, or move the directory aside and start again"
            )
        })?;
        let (opener, disk) = open_engine(&directory)?;
        Ok(Opened { journal, directory, opener, disk })
    }
}

impl Read {
    /// What the node kept beside its keys. Nothing where it promises more than was read: the node
    /// then has everything to learn from its peers.
    pub(crate) fn node_state(&self) -> Option<&Bytes> {
        self.loaded.checkpoint.as_ref().map(|checkpoint| &checkpoint.state)
    }

    /// Starts to write what changes in `store`.
    pub(crate) fn keep(self, store: Arc<Store>, node_state: NodeState) -> anyhow::Result<Keeping> {
        let Read { opened: Opened { journal, directory, opener, disk }, loaded } = self;
        let keeper = Keeper::new(keeper::Start {
            store,
            journal: Arc::clone(&journal),
            node_state,
            opener: Box::new(opener),
            disk,
            number: loaded.number,
            with_dead: loaded.with_dead.into_iter().collect(),
            directory: Some(directory),
        });
        let thread = std::thread::Builder::new()
            .name("atoll-journal".to_owned())
            .spawn(move || keeper.run())
            .context("cannot start the journal's thread")?;
        Ok(Keeping { journal, thread })
    }
}

impl Keeping {
    /// Writes what is left and closes the directory. Returns whether that was done in time.
    pub(crate) async fn stop(self) -> bool {
        self.journal.bell.ring(Call::Stop);
        let join = tokio::task::spawn_blocking(move || self.thread.join());
        matches!(tokio::time::timeout(STOP_WAIT, join).await, Ok(Ok(Ok(()))))
    }
}
