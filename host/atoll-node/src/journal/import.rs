//! From a backup into a data directory that no node uses.

use super::directory::{Content, Directory};
use super::disk::Disk;
use super::keeper::changes::Writer;
use super::record;
use super::status::Sums;
use super::{DiskError, open_engine};
use anyhow::ensure;
use atoll_core::clock::Stamp;
use atoll_core::entry::Entry;
use atoll_core::key::BucketName;
use std::path::Path;

/// An empty data directory that is being filled.
pub(crate) struct Import {
    directory: Directory,
    disk: Box<dyn Disk>,
    sums: Sums,
}

/// Fills the directory. What is not finished is of no use.
pub(crate) struct Filling<'i> {
    writer: Writer<'i>,
}

impl Import {
    /// Takes the directory, which is empty or not there.
    pub(crate) fn new(path: &Path) -> anyhow::Result<Import> {
        let (directory, content) = Directory::claim(path)?;
        let (_, disk) = open_engine(&directory)?;
        ensure!(
            content == Content::New || disk.record_count() == 0,
            "{} holds data already; name an empty directory, or restore into the running node \
             with --api",
            path.display()
        );
        Ok(Import { directory, disk, sums: Sums::default() })
    }

    /// Lets `fill` write everything, and waits until it is safe.
    pub(crate) fn fill(
        mut self,
        fill: impl FnOnce(&mut Filling<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut filling = Filling { writer: Writer::new(&mut *self.disk, &self.sums) };
        fill(&mut filling)?;
        filling.writer.commit()?;
        self.disk.sync()?;
        drop(self.disk);
        // Last, so that nobody else opens it before.
        drop(self.directory);
        Ok(())
    }
}

impl Filling<'_> {
    /// Writes the latest flush of a bucket.
    pub(crate) fn flush(&mut self, bucket: &BucketName, stamp: Stamp) -> anyhow::Result<()> {
        let key = record::flush_key(bucket);
        let value = record::seal(&key, |out| record::write_stamp(stamp, out));
        self.writer.put(key, value).map_err(cannot)
    }

    /// Writes what a key holds.
    pub(crate) fn entry(
        &mut self,
        (bucket, key): (&BucketName, &[u8]),
        entry: &Entry,
    ) -> anyhow::Result<()> {
        self.writer.entry(bucket, key, Some(entry)).map_err(cannot)
    }
}

fn cannot(error: DiskError) -> anyhow::Error {
    anyhow::Error::from(error).context("cannot write to the data directory")
}
