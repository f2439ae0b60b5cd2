//! The engine as the journal uses it, on real files.

use super::*;
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::ops::ControlFlow;

fn put(disk: &mut dyn Disk, key: &str, value: &[u8]) {
    let mut batch = Batch::default();
    batch.put(key.as_bytes().to_vec(), value.to_vec());
    disk.commit(batch).expect("there is room");
}

/// All records, in the order in which they are read.
fn all(disk: &dyn Disk) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let reading = disk.read_all(&mut |key, value| {
        all.push((String::from_utf8_lossy(key).into_owned(), value.to_vec()));
        ControlFlow::Continue(())
    });
    assert_eq!(reading.expect("it can be read"), Reading::Whole);
    all
}

fn keys(disk: &dyn Disk) -> Vec<String> {
    all(disk).into_iter().map(|(key, _)| key).collect()
}

#[test]
fn what_was_committed_is_there_when_it_is_opened_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::new(folder.path().join("store"));
    let mut disk = engine.open().expect("it is new");
    for key in ["b", "a", "c", "d"] {
        put(&mut *disk, key, key.as_bytes());
    }
    let mut batch = Batch::default();
    batch.remove(b"c".to_vec());
    batch.put(b"a".to_vec(), vec![7; 100_000]);
    disk.commit(batch).expect("there is room");
    disk.sync().expect("it can be made safe");
    drop(disk);
    let disk = engine.open().expect("it is well");
    assert_eq!(keys(&*disk), ["a", "b", "d"]);
    assert_eq!(disk.get(b"a").expect("it can be read"), Some(Bytes::from(vec![7; 100_000])));
    assert_eq!(disk.get(b"c").expect("it can be read"), None);
    let after = |key: &[u8], count| disk.keys_after(key, count).expect("it can be read");
    assert_eq!(after(b"a", 1), ["b"]);
    assert_eq!(after(b"a\0", 9), ["b", "d"]);
    assert!(after(b"d", 9).is_empty());
    assert_eq!(disk.damaged_places(), 0);
    assert!(engine.used_bytes() > 100_000 && engine.free_bytes().is_some());
    engine.check_room().expect("the machine of the tests has room");
}

/// Changes a byte of the only log that lies `back` before its end, zeros left out.
fn damage_log(engine: &Engine, needle: &[u8]) {
    let path = engine.path.join("0.jnl");
    let mut file = OpenOptions::new().read(true).write(true).open(path).expect("it is there");
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("it can be read");
    let at = memchr::memmem::find(&bytes, needle).expect("it was written");
    file.seek(SeekFrom::Start(at as u64)).expect("it can be sought");
    file.write_all(&[!bytes[at]]).expect("it can be written");
}

#[test]
fn damage_in_a_log_costs_one_batch_wherever_it_is() {
    for (needle, want) in [
        ("value-1", ["k0", "k2", "k3"]),
        ("value-2", ["k0", "k1", "k3"]),
        // The last batch: as if the power had gone while it was written.
        ("value-3", ["k0", "k1", "k2"]),
        // A record's own head.
        ("k1value-1", ["k0", "k2", "k3"]),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = Engine::new(folder.path().join("store"));
        let mut disk = engine.open().expect("it is new");
        for n in 0..4 {
            put(&mut *disk, &format!("k{n}"), format!("value-{n}").as_bytes());
        }
        disk.sync().expect("it can be made safe");
        drop(disk);
        damage_log(&engine, needle.as_bytes());
        let mut disk = engine.open().expect("it is mended");
        assert_eq!(keys(&*disk), want, "{needle}");
        assert_eq!(disk.damaged_places(), u64::from(needle != "value-3"), "{needle}");
        put(&mut *disk, "later", b"v");
        drop(disk);
        let disk = engine.open().expect("it is well");
        assert_eq!(keys(&*disk).len(), 4, "{needle}");
        assert_eq!(disk.damaged_places(), 0);
    }
}

/// Writes so much that there are files beside the log, and says how many records.
fn filled(engine: &Engine) -> usize {
    let mut disk = engine.open().expect("it is new");
    let value: Vec<u8> = (0..8_000_u32).flat_map(|n| n.to_le_bytes()).collect();
    let count = 2_500;
    for n in 0..count {
        put(&mut *disk, &format!("key-{n:05}"), &value);
    }
    disk.sync().expect("it can be made safe");
    let begun = Instant::now();
    while largest_table(engine).is_none() {
        assert!(begun.elapsed() < Duration::from_secs(120), "nothing becomes a file");
        std::thread::sleep(STALL_PAUSE);
    }
    count
}

fn largest_table(engine: &Engine) -> Option<PathBuf> {
    let keyspace = engine.path.join("keyspaces/1");
    let changed = |path: &Path| path.metadata().and_then(|about| about.modified()).ok();
    // One that is still being written is no part of the data yet.
    let listed = changed(&keyspace.join("current"))?;
    let tables = fs::read_dir(keyspace.join("tables")).ok()?;
    let tables = tables.filter_map(|entry| Some(entry.ok()?.path()));
    let len = |path: &PathBuf| path.metadata().map_or(0, |data| data.len());
    let is_whole = |path: &PathBuf| changed(path).is_some_and(|written| written <= listed);
    tables.filter(|path| len(path) > 1 << 20 && is_whole(path)).max_by_key(len)
}

#[test]
fn what_lies_on_both_sides_of_an_unreadable_block_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::new(folder.path().join("store"));
    let count = filled(&engine);
    let table = largest_table(&engine).expect("there is one");
    let mut file = OpenOptions::new().write(true).open(&table).expect("it is there");
    let middle = table.metadata().expect("it is there").len() / 2;
    file.seek(SeekFrom::Start(middle)).expect("it can be sought");
    file.write_all(&[0xA5; 64]).expect("it can be written");
    drop(file);
    let disk = engine.open().expect("it opens: blocks are read when they are needed");
    let mut seen = std::collections::BTreeSet::new();
    let reading = disk.read_all(&mut |key, _| {
        seen.insert(key.to_vec());
        ControlFlow::Continue(())
    });
    assert_eq!(reading.expect("it can be read around"), Reading::Gap);
    assert!(seen.contains(&b"key-00000"[..]) && seen.contains(&b"key-02499"[..]));
    assert!((count - 20..count).contains(&seen.len()), "{} of {count}", seen.len());
}

#[test]
fn a_table_that_is_missing_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::new(folder.path().join("store"));
    filled(&engine);
    fs::remove_file(largest_table(&engine).expect("there is one")).expect("it is there");
    assert!(engine.open().is_err());
}
