//! Mending the engine's logs before it opens them.
//!
//! The engine stops at the first bad byte of a log: it drops in silence what comes after, or refuses
//! to open at all. Yet a machine that loses its power may leave holes anywhere in what was not yet
//! safe, and every batch here stands for itself. So batches behind a damaged place are kept, and the
//! place is counted.
//!
//! Knows the logs of fjall 3, whose marker is part of every batch: a file that does not look like
//! that is left alone.
//!
//! ```text
//! batch: 1, item count 4 LE, number 8 LE │ items │ 3, checksum of the items 8 LE, "FJL" 3
//! item:  2, type 1, compression 1, keyspace 8, key length 2 LE, value length 4, 4 LE, key, value
//!        4, keyspace 8
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use tracing::warn;
use xxhash_rust::xxh3::xxh3_64;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const MARK: &[u8; 4] = b"FJL\x03";

/// Bytes of a start, of an item before its key, of a clear, of an end.
const START_BYTES: usize = 1 + 4 + 8;
const ITEM_HEAD_BYTES: usize = 1 + 1 + 1 + 8 + 2 + 4 + 4;
const CLEAR_BYTES: usize = 1 + 8;
const END_BYTES: usize = 1 + 8 + 4;

/// What a log consists of.
#[derive(Debug, Default, PartialEq, Eq)]
struct Anatomy {
    /// The batches that are whole, in runs that lie together.
    whole: Vec<Range<usize>>,
}

impl Anatomy {
    fn of(log: &[u8]) -> Anatomy {
        let mut anatomy = Anatomy::default();
        let mut at = 0;
        loop {
            let from = at;
            while let Some(len) = batch_len(&log[at..]) {
                at += len;
            }
            if at > from {
                anatomy.whole.push(from..at);
            }
            match next_batch(log, at) {
                Some(next) => at = next,
                None => return anatomy,
            }
        }
    }

    /// Places between whole batches that are none.
    fn damaged_count(&self) -> usize {
        let starts_damaged = self.whole.first().is_some_and(|first| first.start > 0);
        self.whole.len().saturating_sub(1) + usize::from(starts_damaged)
    }
}

/// Where, after a damaged place at `at`, a whole batch begins: behind some other batch's end.
fn next_batch(log: &[u8], at: usize) -> Option<usize> {
    let ends = memchr::memmem::find_iter(&log[at..], MARK);
    let mut candidates = ends.map(|end| at + end + MARK.len());
    candidates.find(|candidate| batch_len(&log[*candidate..]).is_some())
}

/// Bytes of the whole batch that `bytes` begins with.
fn batch_len(bytes: &[u8]) -> Option<usize> {
    let (start, _) = bytes.split_first_chunk::<START_BYTES>()?;
    let (tag, count) = (start[0], u32::from_le_bytes(start[1..5].try_into().ok()?));
    if tag != START {
        return None;
    }
    let mut at = START_BYTES;
    for _ in 0..count {
        at += item_len(bytes.get(at..)?)?;
    }
    let (end, _) = bytes.get(at..)?.split_first_chunk::<END_BYTES>()?;
    let checksum = u64::from_le_bytes(end[1..9].try_into().ok()?);
    let is_whole =
        end[0] == END && end[9..] == MARK[..] && checksum == xxh3_64(&bytes[START_BYTES..at]);
    is_whole.then_some(at + END_BYTES)
}

fn item_len(bytes: &[u8]) -> Option<usize> {
    match *bytes.first()? {
        ITEM => {
            let (head, _) = bytes.split_first_chunk::<ITEM_HEAD_BYTES>()?;
            let key_len = usize::from(u16::from_le_bytes(head[11..13].try_into().ok()?));
            let value_len = u32::from_le_bytes(head[17..].try_into().ok()?) as usize;
            let len = ITEM_HEAD_BYTES + key_len + value_len;
            (len <= bytes.len()).then_some(len)
        }
        CLEAR => Some(CLEAR_BYTES),
        _ => None,
    }
}

/// The engine's logs in `folder`.
fn logs(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "jnl");
    let mut logs = paths.collect::<io::Result<Vec<_>>>()?;
    logs.retain(is_log);
    logs.sort();
    Ok(logs)
}

/// Takes damaged places out of the logs that have whole batches behind them. Returns how many there
/// were. A log as it was is kept beside, as `N.jnl.damaged`.
pub(super) fn mend(folder: &Path) -> io::Result<u64> {
    let mut damaged_count = 0;
    for path in logs(folder)? {
        let log = fs::read(&path)?;
        let anatomy = Anatomy::of(&log);
        let count = anatomy.damaged_count();
        if count == 0 {
            continue;
        }
        let (new, old) = (path.with_extension("jnl.new"), path.with_extension("jnl.damaged"));
        let mut file = File::create(&new)?;
        for range in anatomy.whole {
            file.write_all(&log[range])?;
        }
        file.sync_all()?;
        fs::hard_link(&path, &old).or_else(|_| fs::copy(&path, &old).map(drop))?;
        fs::rename(&new, &path)?;
        File::open(folder)?.sync_all()?;
        warn!(log = %path.display(), places = count, kept = %old.display(), "a log was mended");
        damaged_count += count as u64;
    }
    Ok(damaged_count)
}

/// Cuts off what follows the last whole batch of each log: half a batch, and what the power's loss
/// has left behind it. None of it was ever called safe.
pub(super) fn cut_tails(folder: &Path) -> io::Result<()> {
    for path in logs(folder)? {
        let log = fs::read(&path)?;
        let Some(last) = Anatomy::of(&log).whole.last().cloned() else { continue };
        if last.end < log.len() {
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(last.end as u64)?;
            file.sync_all()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A batch of items of these value lengths, as the engine writes it.
    fn batch(number: u64, values: &[usize]) -> Vec<u8> {
        let mut items = Vec::new();
        for (index, len) in values.iter().enumerate() {
            let key = format!("{number}-{index}");
            items.extend_from_slice(&[ITEM, 0, 0]);
            items.extend_from_slice(&1_u64.to_le_bytes());
            items.extend_from_slice(&(key.len() as u16).to_le_bytes());
            items.extend_from_slice(&(*len as u32).to_le_bytes());
            items.extend_from_slice(&(*len as u32).to_le_bytes());
            items.extend_from_slice(key.as_bytes());
            items.extend(std::iter::repeat_n(number as u8, *len));
        }
        let mut batch = vec![START];
        batch.extend_from_slice(&(values.len() as u32).to_le_bytes());
        batch.extend_from_slice(&number.to_le_bytes());
        batch.extend_from_slice(&items);
        batch.push(END);
        batch.extend_from_slice(&xxh3_64(&items).to_le_bytes());
        batch.extend_from_slice(MARK);
        batch
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn only_the_damaged_batch_is_given_up(
            batches in proptest::collection::vec(proptest::collection::vec(0..50_usize, 0..4), 1..6),
            at in any::<proptest::sample::Index>(),
            flip in 1..=255_u8,
            zeros in 0..40_usize,
        ) {
            let parts: Vec<Vec<u8>> = batches.iter().zip(1..).map(|(values, n)| batch(n, values)).collect();
            let log = [parts.concat(), vec![0; zeros]].concat();
            let whole = parts.concat().len();
            prop_assert_eq!(Anatomy::of(&log).whole, vec![0..whole]);
            let mut changed = log.clone();
            let at = at.index(whole);
            changed[at] ^= flip;
            let anatomy = Anatomy::of(&changed);
            // The number of a batch is under no checksum: a change there shows nowhere.
            let mut start = 0;
            let mut want: Vec<Range<usize>> = Vec::new();
            for part in &parts {
                let end = start + part.len();
                let in_number = (start + 5..start + 13).contains(&at);
                if !(start..end).contains(&at) || in_number {
                    match want.last_mut() {
                        Some(last) if last.end == start => last.end = end,
                        _ => want.push(start..end),
                    }
                }
                start = end;
            }
            // Behind a damaged end marker the next batch cannot be found, only the one after it.
            let found: usize = anatomy.whole.iter().map(|range| range.len()).sum();
            let wanted: usize = want.iter().map(|range| range.len()).sum();
            let next = parts.iter().map(Vec::len).max().unwrap_or_default();
            prop_assert!(found <= wanted && found + next >= wanted, "{:?} of {:?}", anatomy, want);
        }

        #[test]
        fn made_up_logs_never_panic(log in proptest::collection::vec(any::<u8>(), 0..300)) {
            let prefixed = [&[START, 1, 0, 0, 0][..], &log].concat();
            for log in [log, prefixed] {
                prop_assert!(Anatomy::of(&log).whole.is_empty());
            }
        }
    }

    #[test]
    fn a_mended_log_has_all_but_the_damaged_place_and_the_old_one_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("3.jnl");
        let parts = [batch(1, &[10]), batch(2, &[20, 5]), batch(3, &[1])];
        let mut log = [parts.concat(), vec![0; 100]].concat();
        log[parts[0].len() + 60] ^= 1;
        fs::write(&path, &log).expect("it can be written");
        fs::write(folder.path().join("other"), [7; 50]).expect("it can be written");
        assert_eq!(mend(folder.path()).expect("it can be mended"), 1);
        let mended = fs::read(&path).expect("it is there");
        assert_eq!(mended, [&parts[0][..], &parts[2]].concat());
        assert_eq!(fs::read(folder.path().join("3.jnl.damaged")).expect("it is kept"), log);
        assert_eq!(mend(folder.path()).expect("it is well"), 0);
        assert_eq!(mend(&folder.path().join("nothing")).expect("there is no log"), 0);
    }

    #[test]
    fn a_torn_tail_is_cut_and_is_no_damage() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("0.jnl");
        let whole = batch(1, &[10]);
        let torn = &batch(2, &[100])[..70];
        fs::write(&path, [&whole[..], torn, &[0; 50]].concat()).expect("it can be written");
        assert_eq!(mend(folder.path()).expect("it can be read"), 0);
        cut_tails(folder.path()).expect("it can be cut");
        assert_eq!(fs::read(&path).expect("it is there"), whole);
        fs::write(&path, [7; 99]).expect("it can be written");
        cut_tails(folder.path()).expect("it is left alone");
        assert_eq!(fs::read(&path).expect("it is there"), [7; 99]);
    }
}
