//! The one thread that writes and removes files, behind the answers.

use super::limits::{QUEUE_BYTES_MAX, QUEUE_COUNT_MAX};
use super::record::{self, Head, Kind, Place, Response};
use super::room::NoRoom;
use super::{Disk, Entry, weight_of};
use crate::cache::body::StoredBody;
use crate::cache::stored::Stored;
use serde_bytes::ByteBuf;
use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tracing::warn;
use xxhash_rust::xxh3::Xxh3;

/// How often the list of purges is made safe from a failure of the machine.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How often the list says that the node is there.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// What is to be written under a key.
pub(super) struct Put {
    pub(super) hash: u128,
    pub(super) slot_key: Box<[u8]>,
    pub(super) what: What,
    /// Whether nothing has purged it or made it invalid so far.
    pub(super) is_valid: Box<dyn Fn() -> bool + Send>,
}

/// A response, or what tells the responses of a key apart.
pub(super) enum What {
    Response(Arc<Stored>),
    Varies { names: Vec<String>, number: u64, fetched_us: u64 },
}

/// What there is to do.
pub(super) enum Job {
    Put(Put),
    Remove(u128, Arc<Entry>),
    /// Makes the list of purges safe.
    Sync,
}

/// What waits to be done.
pub(super) struct Jobs {
    queue: Mutex<Queue>,
    changed: Condvar,
    emptied: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    puts: usize,
    bytes: u64,
    is_busy: bool,
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jobs")
    }
}

impl Put {
    /// Bytes that it keeps in memory.
    fn bytes(&self) -> u64 {
        match &self.what {
            What::Response(stored) if !matches!(stored.body, StoredBody::Disk(_)) => {
                stored.body_bytes
            }
            _ => 0,
        }
    }
}

impl Jobs {
    pub(super) fn new() -> Jobs {
        Jobs { queue: Mutex::default(), changed: Condvar::new(), emptied: Condvar::new() }
    }

    /// Takes a job.
    pub(super) fn push(&self, job: Job) {
        self.queue().jobs.push_back(job);
        self.changed.notify_one();
    }

    /// Takes the files of what has left the index: there are no more of those than entries.
    pub(super) fn push_removal(&self, hash: u128, entry: Arc<Entry>) {
        self.push(Job::Remove(hash, entry));
    }

    /// Takes something to write, unless too much waits already.
    pub(super) fn try_push(&self, put: Put) -> bool {
        let mut queue = self.queue();
        let bytes = put.bytes();
        if queue.puts >= QUEUE_COUNT_MAX || queue.bytes + bytes > QUEUE_BYTES_MAX {
            return false;
        }
        queue.puts += 1;
        queue.bytes += bytes;
        queue.jobs.push_back(Job::Put(put));
        drop(queue);
        self.changed.notify_one();
        true
    }

    /// The next job; `None` where none came within `wait`.
    fn next(&self, wait: Duration) -> Option<Job> {
        let mut queue = self.queue();
        queue.is_busy = false;
        if queue.jobs.is_empty() {
            self.emptied.notify_all();
            let waited = self.changed.wait_timeout_while(queue, wait, |q| q.jobs.is_empty());
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let job = queue.jobs.pop_front();
        queue.is_busy = job.is_some();
        if let Some(Job::Put(put)) = &job {
            queue.puts -= 1;
            queue.bytes -= put.bytes();
        }
        job
    }

    /// Waits until nothing is left to do, for `wait` at most.
    pub(super) fn wait_until_empty(&self, wait: Duration) {
        let is_at_work = |queue: &mut Queue| queue.is_busy || !queue.jobs.is_empty();
        drop(self.emptied.wait_timeout_while(self.queue(), wait, is_at_work));
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    /// Does what there is to do, for as long as the process lives.
    pub(super) fn work(&self) {
        let (mut synced, mut touched) = (Instant::now(), Instant::now());
        loop {
            let job = self.jobs.next(SYNC_EVERY);
            let is_due = synced.elapsed() >= SYNC_EVERY || matches!(job, Some(Job::Sync));
            match job {
                Some(Job::Put(put)) => self.put(put),
                Some(Job::Remove(hash, entry)) => self.remove_files(hash, &entry),
                Some(Job::Sync) | None => {}
            }
            for (hash, entry) in self.evicted.take() {
                self.remove_files(hash, &entry);
            }
            if is_due {
                self.care_for_list();
                synced = Instant::now();
            }
            if touched.elapsed() >= TOUCH_EVERY {
                self.list().touch();
                touched = Instant::now();
            }
        }
    }

    /// Makes the list of purges safe, and short where it has grown long.
    fn care_for_list(&self) {
        let unsynced = self.list().unsynced();
        let synced = match unsynced {
            // Not under the lock: purges do not wait for the disk.
            Some(file) => file.and_then(|file| file.sync_data()),
            None => Ok(()),
        };
        let wants_rewrite = self.list().wants_rewrite();
        let rewritten = if wants_rewrite { self.shorten_list() } else { Ok(()) };
        if let Err(error) = synced.and(rewritten) {
            self.note_failure(&error);
        }
    }

    fn shorten_list(&self) -> io::Result<()> {
        // What was removed stays so over a failure of the machine, before its reason is forgotten.
        sync_file_system(&File::open(&self.root)?)?;
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now_us = since.unwrap_or_default().as_micros() as u64;
        self.list().shorten(now_us)
    }

    fn put(&self, put: Put) {
        let hash = put.hash;
        let written = match self.room.check() {
            Ok(()) => self.write(&put).map_err(Some),
            Err(NoRoom::Short { shortage_bytes }) => {
                self.yield_room(shortage_bytes);
                Err(None)
            }
            Err(NoRoom::Paused) => Err(None),
        };
        let failure = match written {
            Ok(true) => return,
            // It was purged or made invalid, or is of no use.
            Ok(false) => None,
            Err(failure) => {
                self.figures.skipped.inc();
                failure
            }
        };
        let body = match &put.what {
            What::Response(stored) => match &stored.body {
                StoredBody::Disk(body) => Some(body),
                _ => None,
            },
            What::Varies { .. } => None,
        };
        let is_there = body.is_some_and(|body| self.has_body(hash, body));
        // An older head may stay beside the same body: it is validated the sooner. Anything else that
        // was there before is older.
        if !is_there || failure.is_some() || !(put.is_valid)() {
            self.remove_all(hash);
            if let Some(body) = body {
                body.drop_out();
            }
        }
        if let Some(error) = failure {
            self.note_failure(&error);
        }
    }

    /// Writes what is put. Returns whether it is there now.
    fn write(&self, put: &Put) -> io::Result<bool> {
        let Put { hash, slot_key, what, is_valid } = put;
        let (kind, inline) = match what {
            What::Varies { names, number, fetched_us } => {
                let (names, number, fetched_us) = (names.clone(), *number, *fetched_us);
                (Kind::Varies { names, number, fetched_us }, Vec::new())
            }
            What::Response(stored) => {
                let (place, inline) = place_of(&stored.body)?;
                (Kind::Response(Box::new(Response::of(stored, place))), inline)
            }
        };
        let head = Head { key: ByteBuf::from(&slot_key[..]), kind };
        let Some(mut bytes) = record::encode(&head) else { return Ok(false) };
        inline.iter().for_each(|piece| bytes.extend_from_slice(piece));
        let new = self.new_path(self.next_number());
        create_new(&new)?.write_all(&bytes).inspect_err(|_| drop(fs::remove_file(&new)))?;

        let stripe = self.stripe(*hash);
        let old = self.index.peek(hash);
        let entry = Arc::new(entry_of(what, bytes.len() as u64));
        if entry.body.get().is_some_and(|body| body.is_gone()) {
            drop(fs::remove_file(&new));
            return Ok(false);
        }
        // Before it is asked whether it is valid: an invalidation that comes later finds it here, and
        // puts it on the list.
        self.index.insert(*hash, Arc::clone(&entry));
        let placed =
            if is_valid() { self.move_in(*hash, &entry, &new).map(|()| true) } else { Ok(false) };
        if !matches!(placed, Ok(true)) {
            drop(fs::remove_file(&new));
            drop(stripe);
            return placed;
        }
        if let Some(old) = old {
            self.drop_bodies(*hash, &old, &entry.numbers);
        }
        drop(stripe);
        self.figures.written.inc();
        let body_bytes = entry.body.get().map_or(0, |body| body.bytes());
        self.figures.written_bytes.inc_by(bytes.len() as u64 + body_bytes);
        Ok(true)
    }

    /// Gives the files of a key their names: the body first, so that no head is without it.
    fn move_in(&self, hash: u128, entry: &Entry, head: &std::path::Path) -> io::Result<()> {
        if let Some(body) = entry.body.get() {
            let path = self.body_path(hash, body.number);
            if body.path() != path {
                fs::rename(body.path(), &path)?;
                body.moved_in(path);
            }
        }
        fs::rename(head, self.head_path(hash))
    }

    /// Removes the bodies of `old` that are none of `kept`.
    fn drop_bodies(&self, hash: u128, old: &Entry, kept: &[u64]) {
        for number in old.numbers.iter().filter(|number| !kept.contains(number)) {
            // It may have gone by itself.
            let _ = fs::remove_file(self.body_path(hash, *number));
        }
        if let Some(body) = old.body.get().filter(|body| !kept.contains(&body.number)) {
            body.forget();
        }
    }

    /// Removes the files of what has left the index, unless something newer lies there.
    pub(super) fn remove_files(&self, hash: u128, entry: &Entry) {
        let _stripe = self.stripe(hash);
        entry.forget_unless(self.index.peek(&hash).as_deref());
        let kept = match self.index.peek(&hash) {
            Some(newer) => newer.numbers.clone(),
            None => {
                let _ = fs::remove_file(self.head_path(hash));
                Box::default()
            }
        };
        self.drop_bodies(hash, entry, &kept);
    }

    /// Removes whatever lies under a key, from the index as well.
    pub(super) fn remove_all(&self, hash: u128) {
        if let Some((_, entry)) = self.index.remove(&hash) {
            entry.forget();
            self.remove_files(hash, &entry);
        } else {
            let _stripe = self.stripe(hash);
            if !self.index.contains_key(&hash) {
                let _ = fs::remove_file(self.head_path(hash));
            }
        }
    }

    /// Lets go of so many bytes, which others on the file system need.
    fn yield_room(&self, shortage_bytes: u64) {
        if self.room.pause() {
            warn!(shortage_bytes, "the disk is nearly full; cached responses on it make room");
        }
        let left = self.index.weight().saturating_sub(shortage_bytes);
        self.index.set_capacity(left);
        self.index.set_capacity(self.bytes_max - self.bytes_max / super::limits::SPOOL_SHARE);
    }

    /// Writes nothing for a while. Reading goes on.
    pub(super) fn note_failure(&self, error: &io::Error) {
        self.figures.errors.inc();
        if self.room.pause() {
            warn!(%error, "the disk takes no cached response now; they are kept in memory only");
        }
    }

    /// Bytes of bodies that are coming, up to their share.
    pub(super) fn charge(&self, bytes: u64) -> bool {
        let taken = self.spooled_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let fits = taken <= self.body_bytes_max();
        if !fits {
            self.spooled_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }
}

impl Entry {
    /// Forgets its body, unless it is that of `newer` as well.
    fn forget_unless(&self, newer: Option<&Entry>) {
        let Some(body) = self.body.get() else { return };
        let is_shared = newer.is_some_and(|newer| newer.numbers.contains(&body.number));
        if !is_shared {
            body.forget();
        }
    }
}

fn entry_of(what: &What, head_bytes: u64) -> Entry {
    let What::Response(stored) = what else {
        let weight = weight_of([head_bytes]);
        return Entry {
            weight,
            fetched_us: Some(0),
            numbers: Box::default(),
            body: OnceLock::new(),
        };
    };
    let body = match &stored.body {
        StoredBody::Disk(body) => Some(body),
        _ => None,
    };
    let weight = weight_of([head_bytes].into_iter().chain(body.map(|body| body.bytes())));
    let numbers = body.iter().map(|body| body.number).collect();
    let cell = OnceLock::new();
    if let Some(body) = body {
        // Just made.
        let _ = cell.set(Arc::clone(body));
    }
    Entry { weight, fetched_us: Some(stored.fetched_us), numbers, body: cell }
}

/// Where a body will be, and what is written behind the head.
fn place_of(body: &StoredBody) -> io::Result<(Place, Vec<bytes::Bytes>)> {
    if let StoredBody::Disk(body) = body {
        let hashes = body.hashes().to_vec();
        return Ok((Place::Apart { bytes: body.bytes(), number: body.number, hashes }, Vec::new()));
    }
    let bytes = body.bytes();
    let pieces = if bytes == 0 { Vec::new() } else { body.slice(0, bytes - 1)? };
    let mut hash = Xxh3::new();
    pieces.iter().for_each(|piece| hash.update(piece));
    Ok((Place::Here { bytes, hash: hash.digest() }, pieces))
}

/// A file that was not there before.
pub(super) fn create_new(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(target_os = "linux")]
fn sync_file_system(folder: &File) -> io::Result<()> {
    Ok(rustix::fs::syncfs(folder)?)
}

#[cfg(not(target_os = "linux"))]
fn sync_file_system(folder: &File) -> io::Result<()> {
    folder.sync_all()
}
