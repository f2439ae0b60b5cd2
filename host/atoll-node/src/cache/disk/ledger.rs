//! What was purged and when, on disk: so that a restart undoes no purge.
//!
//! A file to which each purge is added before it is answered. It is whole or it is not trusted: a
//! node without it, or with a damaged one, empties its disk tier. A torn last record is that of a
//! purge that was never answered.

use super::limits::{AWAY_MAX, INVALIDATION_KEPT, LEDGER_BYTES_MIN};
use atoll_core::clock::Stamp;
use atoll_core::http_cache::purge::{Scope, Strength};
use atoll_core::limits::PURGE_RECORD_COUNT_MAX;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tracing::warn;
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 8] = b"atollp1\n";
/// Before each line: its length, a checksum of that, and one of the line.
const FRAME_BYTES: usize = 16;

/// One line of the file.
#[derive(Clone, Debug, Deserialize, Serialize)]
enum Line {
    Purge {
        scope: String,
        name: String,
        soft: bool,
        at_us: u64,
        /// The key and the stamp of its record in the store, where it has one.
        record: Option<(ByteBuf, String)>,
    },
    /// All that lies under the key with this hash and was fetched by then.
    Invalid { key_hash: u128, at_us: u64 },
}

impl Line {
    fn of(purge: &Purge) -> Line {
        let (word, name) = purge.scope.parts();
        Line::Purge {
            scope: word.to_owned(),
            name: name.to_owned(),
            soft: purge.strength == Strength::Soft,
            at_us: purge.at_us,
            record: purge
                .record
                .as_ref()
                .map(|(key, stamp)| (ByteBuf::from(&key[..]), stamp.to_string())),
        }
    }
}

/// A purge that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Purge {
    pub(crate) scope: Scope,
    pub(crate) strength: Strength,
    /// When this node learned of it, in microseconds.
    pub(crate) at_us: u64,
    pub(crate) record: Option<(Vec<u8>, Stamp)>,
}

/// The list, and its file.
#[derive(Debug)]
pub(super) struct PurgeList {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// Length from which on it is written anew.
    rewrite_bytes: u64,
    purges: BTreeMap<(&'static str, Box<str>, bool), Purge>,
    invalid: Vec<(u128, u64)>,
    is_dirty: bool,
    /// Something could not be added: the file is no longer all that is known.
    is_behind: bool,
}

/// What a list says at start.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) list: PurgeList,
    /// Why nothing on the disk may be used, if so.
    pub(super) distrust: Option<&'static str>,
}

impl PurgeList {
    /// Reads the list at `path`, or begins it.
    pub(super) fn open(path: &Path) -> io::Result<Opened> {
        let file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let mut list = PurgeList {
            path: path.to_owned(),
            file,
            bytes: 0,
            rewrite_bytes: LEDGER_BYTES_MIN,
            purges: BTreeMap::new(),
            invalid: Vec::new(),
            is_dirty: false,
            is_behind: false,
        };
        let bytes = std::fs::read(path)?;
        let changed = list.file.metadata()?.modified()?;
        let away = SystemTime::now().duration_since(changed).unwrap_or_default();
        let distrust = match list.read(&bytes) {
            Read::Whole if away > AWAY_MAX => {
                Some("the node was away for longer than purges are kept")
            }
            Read::Whole => None,
            Read::Nothing => Some("there is no list of purges"),
            Read::Damaged => Some("the list of purges is damaged"),
        };
        if distrust.is_some() {
            list.purges.clear();
            list.invalid.clear();
            list.rewrite()?;
        }
        Ok(Opened { list, distrust })
    }

    fn read(&mut self, bytes: &[u8]) -> Read {
        if bytes.is_empty() {
            return Read::Nothing;
        }
        let Some(mut rest) = bytes.strip_prefix(MAGIC) else { return Read::Damaged };
        while !rest.is_empty() {
            match line(rest) {
                Next::Line(line, after) => {
                    self.apply(line);
                    rest = after;
                }
                Next::Torn => {
                    let kept = (bytes.len() - rest.len()) as u64;
                    if self.file.set_len(kept).is_err() {
                        return Read::Damaged;
                    }
                    break;
                }
                Next::Damaged => return Read::Damaged,
            }
        }
        self.bytes = (bytes.len() - rest.len()) as u64;
        Read::Whole
    }

    fn apply(&mut self, line: Line) {
        match line {
            Line::Invalid { key_hash, at_us } => self.invalid.push((key_hash, at_us)),
            Line::Purge { scope, name, soft, at_us, record } => {
                // One of a later version: more than it asked for is purged, never less.
                let scope = match Scope::of(&scope, &name) {
                    Some(Ok(scope)) => scope,
                    Some(Err(_)) | None => Scope::All,
                };
                let strength = if soft { Strength::Soft } else { Strength::Hard };
                let record = record
                    .and_then(|(key, stamp)| Some((key.into_vec(), stamp.parse::<Stamp>().ok()?)));
                self.keep(Purge { scope, strength, at_us, record });
            }
        }
    }

    fn keep(&mut self, purge: Purge) {
        let (word, name) = purge.scope.parts();
        let key = (word, name.into(), purge.strength == Strength::Soft);
        match self.purges.get_mut(&key) {
            Some(known) => {
                known.at_us = known.at_us.max(purge.at_us);
                if purge.record.is_some() {
                    known.record = purge.record;
                }
            }
            None => {
                self.purges.insert(key, purge);
            }
        }
        if self.purges.len() > PURGE_RECORD_COUNT_MAX {
            // As the list in memory does it: everything is purged rather than something forgotten.
            let at_us = self.purges.values().map(|purge| purge.at_us).max().unwrap_or(0);
            self.purges.clear();
            let all = (Scope::All, Strength::Hard);
            let all = Purge { scope: all.0, strength: all.1, at_us, record: None };
            self.purges.insert(("all", "".into(), false), all);
        }
    }

    /// What is known.
    pub(super) fn purges(&self) -> Vec<Purge> {
        self.purges.values().cloned().collect()
    }

    /// The keys that were made invalid, by their hashes, and when.
    pub(super) fn invalid(&self) -> &[(u128, u64)] {
        &self.invalid
    }

    /// Adds a purge: it outlives the process from here on.
    pub(super) fn add(&mut self, purge: Purge) -> io::Result<()> {
        let line = Line::of(&purge);
        self.keep(purge);
        self.write(&line)
    }

    /// Adds an invalidation of a key.
    pub(super) fn add_invalid(&mut self, key_hash: u128, at_us: u64) -> io::Result<()> {
        self.invalid.push((key_hash, at_us));
        self.write(&Line::Invalid { key_hash, at_us })
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        let frame = frame(line)?;
        self.is_dirty = true;
        match self.file.write_all(&frame) {
            Ok(()) => {
                self.bytes += frame.len() as u64;
                Ok(())
            }
            Err(error) => {
                // A part of it would make what is added later unreadable.
                let _ = self.file.set_len(self.bytes);
                self.is_behind = true;
                Err(error)
            }
        }
    }

    /// Whether it should be written anew: it is long, or lacks something.
    pub(super) fn wants_rewrite(&self) -> bool {
        self.is_behind || self.bytes > self.rewrite_bytes
    }

    /// Lets go of invalidations that are older than their files, at `now_us`, and writes it anew.
    /// Whoever calls has seen to it that files that were removed stay so.
    pub(super) fn shorten(&mut self, now_us: u64) -> io::Result<()> {
        let kept_us = INVALIDATION_KEPT.as_micros() as u64;
        self.invalid.retain(|(_, at_us)| at_us + kept_us > now_us);
        self.rewrite()
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        for purge in self.purges.values() {
            bytes.extend(frame(&Line::of(purge))?);
        }
        for &(key_hash, at_us) in &self.invalid {
            bytes.extend(frame(&Line::Invalid { key_hash, at_us })?);
        }
        let new = self.path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        self.file = OpenOptions::new().append(true).open(&self.path)?;
        self.bytes = bytes.len() as u64;
        self.rewrite_bytes = (2 * self.bytes).max(LEDGER_BYTES_MIN);
        (self.is_dirty, self.is_behind) = (false, false);
        Ok(())
    }

    /// A handle to wait on until all of it outlives the machine; `None` where it does.
    pub(super) fn unsynced(&mut self) -> Option<io::Result<File>> {
        std::mem::take(&mut self.is_dirty).then(|| self.file.try_clone())
    }

    /// Says that the node is there: see `AWAY_MAX`.
    pub(super) fn touch(&self) {
        if let Err(error) = self.file.set_modified(SystemTime::now()) {
            warn!(%error, "the list of purges takes no time");
        }
    }
}

enum Read {
    Whole,
    Nothing,
    Damaged,
}

enum Next<'b> {
    Line(Line, &'b [u8]),
    Torn,
    Damaged,
}

fn frame(line: &Line) -> io::Result<Vec<u8>> {
    let packed = rmp_serde::to_vec_named(line).map_err(io::Error::other)?;
    let length = (packed.len() as u32).to_le_bytes();
    let mut frame = Vec::with_capacity(packed.len() + FRAME_BYTES);
    frame.extend_from_slice(&length);
    frame.extend_from_slice(&(xxh3_64(&length) as u32).to_le_bytes());
    frame.extend_from_slice(&xxh3_64(&packed).to_le_bytes());
    frame.extend_from_slice(&packed);
    Ok(frame)
}

fn line(bytes: &[u8]) -> Next<'_> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Next::Torn };
    let Some((check, rest)) = rest.split_first_chunk::<4>() else { return Next::Torn };
    // Of its own: a length that is wrong would look like a torn end.
    if xxh3_64(length) as u32 != u32::from_le_bytes(*check) {
        return Next::Damaged;
    }
    let Some((hash, rest)) = rest.split_first_chunk::<8>() else { return Next::Torn };
    let length = u32::from_le_bytes(*length) as usize;
    let Some((packed, rest)) = rest.split_at_checked(length) else { return Next::Torn };
    if xxh3_64(packed) != u64::from_le_bytes(*hash) {
        return Next::Damaged;
    }
    match rmp_serde::from_slice(packed) {
        Ok(line) => Next::Line(line, rest),
        Err(_) => Next::Damaged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purge(name: &str, at_us: u64) -> Purge {
        Purge { scope: Scope::Tag(name.into()), strength: Strength::Hard, at_us, record: None }
    }

    fn open(path: &Path) -> (PurgeList, bool) {
        let opened = PurgeList::open(path).expect("it can be read");
        (opened.list, opened.distrust.is_some())
    }

    #[test]
    fn what_was_added_is_there_again_and_later_times_win() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("purges");
        let (mut list, is_distrusted) = open(&path);
        assert!(is_distrusted, "a new list knows nothing of what is there");
        let stamp = Stamp::default();
        list.add(purge("a", 5)).expect("written");
        list.add(Purge { record: Some((b"k".to_vec(), stamp)), ..purge("a", 3) }).expect("written");
        list.add_invalid(7, 9).expect("written");
        drop(list);
        let (mut list, is_distrusted) = open(&path);
        assert!(!is_distrusted);
        let want = Purge { record: Some((b"k".to_vec(), stamp)), ..purge("a", 5) };
        assert_eq!((list.purges(), list.invalid()), (vec![want.clone()], &[(7, 9)][..]));
        list.shorten(9 + INVALIDATION_KEPT.as_micros() as u64).expect("written");
        drop(list);
        let (list, is_distrusted) = open(&path);
        assert!(!is_distrusted && list.invalid().is_empty());
        assert_eq!(list.purges(), [want]);
    }

    #[test]
    fn a_torn_end_is_cut_and_anything_else_that_is_wrong_is_not_trusted() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("purges");
        let (mut list, _) = open(&path);
        list.add(purge("a", 5)).expect("written");
        let whole = std::fs::read(&path).expect("it is there").len();
        list.add(purge("b", 6)).expect("written");
        let bytes = std::fs::read(&path).expect("it is there");
        drop(list);
        for len in [whole, whole + 5, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..len]).expect("written");
            let (mut list, is_distrusted) = open(&path);
            assert!(!is_distrusted && list.purges() == [purge("a", 5)], "cut at {len}");
            list.add(purge("c", 7)).expect("written");
            drop(list);
            assert_eq!(open(&path).0.purges().len(), 2, "what comes behind the cut is read");
        }
        for at in [0, 9, 13, 17, 30, whole + 1] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).expect("written");
            let (list, is_distrusted) = open(&path);
            assert!(is_distrusted && list.purges().is_empty(), "changed at {at}");
            assert!(!open(&path).1, "and is begun anew");
        }
    }

    #[test]
    fn a_node_that_was_away_for_longer_than_purges_are_kept_trusts_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("purges");
        let (list, _) = open(&path);
        list.file.set_modified(SystemTime::now() - AWAY_MAX * 2).expect("a time can be set");
        assert!(open(&path).1);
    }
}
