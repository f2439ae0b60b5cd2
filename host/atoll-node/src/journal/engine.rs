//! The disk behind the journal: fjall, a log-structured store.
//!
//! What is avoided of it: `clear`, which is known to lose data, and its own waits for its
//! background threads, which never end once those have failed.

mod salvage;

use super::disk::{Batch, Disk, DiskError, OpenDisk, Reading, Visit};
use bytes::Bytes;
use fjall::{AbstractTree, Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes that are gathered in memory before they become a file. There are up to four of them.
const MEMTABLE_BYTES: u64 = 32 << 20;
/// Blocks are read once, at start, and to compare.
const CACHE_BYTES: u64 = 8 << 20;
/// Logs beyond this are worked off early. 64 MiB is one log.
const LOG_BYTES_MAX: u64 = 256 << 20;
/// One for what is urgent, one for the rest.
const WORKER_COUNT: usize = 2;
/// From these on a commit would wait inside the engine: 4 and 20 there, and one commit adds one.
const SEALED_COUNT_MAX: usize = 2;
const RUN_COUNT_MAX: usize = 16;
/// Between two looks whether the engine has caught up, and the longest time for that.
const STALL_PAUSE: Duration = Duration::from_millis(5);
const STALL_WAIT: Duration = Duration::from_secs(60);
/// Room that the engine needs in order to go on after a failure: a file from memory, and a log. On
/// a small disk a quarter of it has to do.
const ROOM_BYTES: u64 = 96 << 20;
const PROBE_BYTES: usize = 64 * 1024;
/// The engine's folders lie three deep.
const FOLDER_DEPTH_MAX: usize = 4;

/// Where the engine keeps its files.
#[derive(Debug)]
pub(super) struct Engine {
    path: PathBuf,
}

/// The engine, running.
struct OpenEngine {
    // Declared and so dropped first: it holds the engine's own lock.
    records: Keyspace,
    database: Database,
    damaged_places: u64,
}

impl Engine {
    /// Does not touch anything yet. `path` exists, or its parent does.
    pub(super) fn new(path: PathBuf) -> Engine {
        Engine { path }
    }

    fn open_database(&self) -> fjall::Result<Database> {
        Database::builder(&self.path)
            .cache_size(CACHE_BYTES)
            .worker_threads(WORKER_COUNT)
            .max_journaling_size(LOG_BYTES_MAX)
            .manual_journal_persist(true)
            .open()
    }

    /// The folder to ask the system about.
    fn folder(&self) -> &Path {
        if self.path.is_dir() { &self.path } else { self.path.parent().unwrap_or(&self.path) }
    }
}

impl OpenDisk for Engine {
    fn open(&self) -> Result<Box<dyn Disk>, DiskError> {
        let damaged_places = salvage::mend(&self.path)?;
        let database = match self.open_database() {
            Err(fjall::Error::JournalRecovery(_)) => {
                salvage::cut_tails(&self.path)?;
                self.open_database()?
            }
            opened => opened?,
        };
        // One keyspace for everything: a second one that is seldom written would keep old logs alive.
        let records = database.keyspace("records", || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(MEMTABLE_BYTES)
                .manual_journal_persist(true)
        })?;
        Ok(Box::new(OpenEngine { records, database, damaged_places }))
    }

    fn check_room(&self) -> Result<(), DiskError> {
        probe(self.folder())?;
        let stat = rustix::fs::statvfs(self.folder()).map_err(io::Error::from)?;
        let (free, all) = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
        let wanted = ROOM_BYTES.min(all / 4);
        if free < wanted {
            return Err(DiskError::NoRoom { free_mib: free >> 20, wanted_mib: wanted >> 20 });
        }
        Ok(())
    }

    fn used_bytes(&self) -> u64 {
        allocated_bytes(&self.path, FOLDER_DEPTH_MAX)
    }

    fn free_bytes(&self) -> Option<u64> {
        let stat = rustix::fs::statvfs(self.folder()).ok()?;
        Some(stat.f_bavail * stat.f_frsize)
    }
}

/// Bytes that the files below `folder` really take: logs are made larger than what is in them. A file
/// that goes meanwhile takes nothing.
fn allocated_bytes(folder: &Path, depth_left: usize) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.filter_map(Result::ok).map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() && depth_left > 0 => {
            allocated_bytes(&entry.path(), depth_left - 1)
        }
        Ok(data) => data.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

/// Writes a little and takes it away again: the system's own word for what is wrong.
fn probe(folder: &Path) -> io::Result<()> {
    let path = folder.join("probe");
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&[0; PROBE_BYTES])?;
        file.sync_all()
    });
    let removed = fs::remove_file(&path);
    written.and(removed)
}

impl OpenEngine {
    /// Waits until a commit will not wait inside the engine.
    fn wait_for_workers(&self) -> Result<(), DiskError> {
        let begun = Instant::now();
        while self.records.sealed_memtable_count() >= SEALED_COUNT_MAX
            || self.records.tree.l0_run_count() >= RUN_COUNT_MAX
        {
            // Says whether a worker has failed; else it does next to nothing.
            self.database.persist(PersistMode::Buffer)?;
            if begun.elapsed() > STALL_WAIT {
                return Err(DiskError::Stalled { wait_s: STALL_WAIT.as_secs() });
            }
            std::thread::sleep(STALL_PAUSE);
        }
        Ok(())
    }
}

impl Disk for OpenEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DiskError> {
        Ok(self.records.get(key)?.map(Bytes::from))
    }

    fn commit(&mut self, batch: Batch) -> Result<(), DiskError> {
        self.wait_for_workers()?;
        // To the system's buffers: from there it outlives the process.
        let mut writes = self.database.batch().durability(Some(PersistMode::Buffer));
        for (key, value) in batch.records {
            match value {
                Some(value) => writes.insert(&self.records, key, value),
                None => writes.remove(&self.records, key),
            }
        }
        Ok(writes.commit()?)
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        Ok(self.database.persist(PersistMode::SyncData)?)
    }

    fn read_all(&self, visit: &mut Visit<'_>) -> Result<Reading, DiskError> {
        let mut last: Vec<u8> = Vec::new();
        for guard in self.records.iter() {
            let Ok((key, value)) = Guard::into_inner(guard) else {
                return self.read_backwards_to(&last, visit);
            };
            if visit(&key, Bytes::from(value)).is_break() {
                return Ok(Reading::Whole);
            }
            last.clear();
            last.extend_from_slice(&key);
        }
        Ok(Reading::Whole)
    }

    fn keys_after(&self, after: &[u8], count_max: usize) -> Result<Vec<Bytes>, DiskError> {
        let range = (Bound::Excluded(after), Bound::Unbounded);
        let keys = self.records.range::<&[u8], _>(range).take(count_max).map(Guard::key);
        keys.map(|key| Ok(Bytes::from(key?))).collect()
    }

    fn record_count(&self) -> usize {
        self.records.approximate_len()
    }

    fn damaged_places(&self) -> u64 {
        self.damaged_places
    }
}

impl OpenEngine {
    /// Reads from the end down to where reading broke off, or to where it breaks off again.
    fn read_backwards_to(&self, last: &[u8], visit: &mut Visit<'_>) -> Result<Reading, DiskError> {
        // Without a lower bound: looking for one would stumble over the same place at once.
        for guard in self.records.iter().rev() {
            let Ok((key, value)) = Guard::into_inner(guard) else { break };
            if &key[..] <= last || visit(&key, Bytes::from(value)).is_break() {
                break;
            }
        }
        Ok(Reading::Gap)
    }
}

impl From<fjall::Error> for DiskError {
    fn from(error: fjall::Error) -> DiskError {
        match error {
            fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
                DiskError::Io(error)
            }
            fjall::Error::Poisoned => DiskError::Background,
            other => DiskError::Engine(format!("{other:?}")),
        }
    }
}

#[cfg(test)]
mod tests;
