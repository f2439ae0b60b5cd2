//! A new copy in the place of one that has an unreadable part.
//!
//! The engine cannot work around such a part: sooner or later it has to read it, and fails. What
//! could be read is in memory by then, so it is written anew, beside, and put in the old one's place
//! when it is whole. The old one is kept, for whoever wants to look into it.

use super::directory::Directory;
use super::disk::{Disk, DiskError, OpenDisk};
use super::engine::Engine;
use super::keeper::changes::Writer;
use super::record;
use super::status::Sums;
use atoll_core::limits::SHARD_COUNT;
use atoll_core::store::Store;
use atoll_core::store::changes::{Selection, Walk};
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use tracing::warn;

/// Where the new copy is made, and where the old one is kept.
struct Places {
    folder: PathBuf,
    store: PathBuf,
    new: PathBuf,
    damaged: PathBuf,
}

impl Places {
    fn of(directory: &Directory) -> Places {
        let (folder, store) = (directory.path().to_owned(), directory.store());
        let (new, damaged) = (folder.join("store.new"), folder.join("store.damaged"));
        Places { folder, store, new, damaged }
    }
}

/// Ends what an earlier process began: a whole new copy takes its place, half a one goes.
pub(super) fn clean_up(directory: &Directory) -> io::Result<()> {
    let places = Places::of(directory);
    if !places.new.exists() {
        return Ok(());
    }
    // The old one makes room only for a new one that is whole.
    if !places.store.exists() && places.damaged.exists() {
        fs::rename(&places.new, &places.store)?;
    } else {
        fs::remove_dir_all(&places.new)?;
    }
    File::open(&places.folder)?.sync_all()
}

/// Writes all of `store` anew. Nothing has the directory's engine open meanwhile.
pub(super) fn rebuild(directory: &Directory, store: &Store) -> Result<(), DiskError> {
    let places = Places::of(directory);
    let mut disk = Engine::new(places.new.clone()).open()?;
    write_all(store, &mut *disk)?;
    disk.sync()?;
    drop(disk);
    if places.damaged.exists() {
        fs::remove_dir_all(&places.damaged)?;
    }
    fs::rename(&places.store, &places.damaged)?;
    fs::rename(&places.new, &places.store)?;
    File::open(&places.folder)?.sync_all()?;
    warn!(kept = %places.damaged.display(), "the data was written anew; the old files are kept");
    Ok(())
}

fn write_all(store: &Store, disk: &mut dyn Disk) -> Result<(), DiskError> {
    let sums = Sums::default();
    let mut writer = Writer::new(disk, &sums);
    for (bucket, stamp) in store.flush_marks() {
        let key = record::flush_key(&bucket);
        let value = record::seal(&key, |out| record::write_stamp(stamp, out));
        writer.put(key, value)?;
    }
    for bucket in store.buckets() {
        for shard in 0..SHARD_COUNT {
            let mut next = Some(Walk::of(shard));
            while let Some(walk) = next {
                next = store.walk(&bucket, (walk, Selection::Copy), |key, entry| {
                    writer.entry(bucket.name(), key, Some(&entry))
                })?;
            }
        }
    }
    writer.commit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn entries(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).expect("it is a folder");
        let names = names.map(|entry| entry.expect("it can be listed").file_name());
        let mut names: Vec<String> =
            names.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[track_caller]
    fn check_cleaned(before: &[&str], want: &[&str]) {
        let folder = tempfile::tempdir().expect("a folder");
        let (directory, _) = Directory::claim(folder.path()).expect("it is empty");
        for name in before {
            fs::create_dir(folder.path().join(name)).expect("it is not there yet");
        }
        clean_up(&directory).expect("it can be cleaned up");
        assert_eq!(entries(folder.path()), [&["FORMAT", "LOCK"], want].concat());
    }

    #[test]
    fn a_rebuild_that_was_broken_off_is_ended_or_undone() {
        check_cleaned(&["store"], &["store"]);
        check_cleaned(&["store", "store.new"], &["store"]);
        check_cleaned(&["store", "store.damaged", "store.new"], &["store", "store.damaged"]);
        check_cleaned(&["store.damaged", "store.new"], &["store", "store.damaged"]);
        check_cleaned(&["store.new"], &[]);
    }
}
