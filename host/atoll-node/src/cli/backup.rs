//! `atoll backup` and `atoll restore`: all keys of a node in a file, and back.

use super::client::{Ask, ClientArgs, accepted, text};
use super::output::print;
use crate::backup::{Decoder, Item};
use crate::journal::import::Import;
use anyhow::{Context, bail};
use clap::Args;
use serde::Deserialize;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use ureq::SendBody;
use ureq::http::Method;

/// Bytes that are read and checked at once.
const PIECE_BYTES: usize = 256 * 1024;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  atoll backup /backups/atoll-$(date +%F).bak
  atoll backup today.bak --api node2:8081

The node serves reads and writes meanwhile. The file holds every key as it was at some moment
during the backup; it is there only once it is whole.")]
pub(super) struct BackupArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// File to write; one that is there is replaced
    file: PathBuf,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  atoll restore today.bak                        into the running node: what is newer there stays,
                                                 and so do deletes and flushes made since
  atoll restore today.bak --data /var/lib/atoll  into an empty directory, for the next start

  atoll restore today.bak --as-writes            into a node with peers, for all of them

A restored key keeps the version that it had; with --as-writes it gets a new one, unless the node
knows of something newer. What was deleted so long ago that it is forgotten comes back then.")]
pub(super) struct RestoreArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// File that atoll backup wrote
    file: PathBuf,
    /// Write to this data directory, which is empty and which no node uses, instead of to a node
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
    /// Write every key anew, which a node with peers needs: they have seen the old versions
    #[arg(long, conflicts_with = "data")]
    as_writes: bool,
}

/// What a node says of a restore.
#[derive(Debug, Deserialize)]
struct Restored {
    keys: u64,
    restored: u64,
    known: u64,
}

/// Fetches all keys of a node into a file.
pub(super) fn backup(args: &BackupArgs) -> anyhow::Result<()> {
    let answer = args.client.client()?.fetch(Ask::new(Method::GET, "/v1/backup"))?;
    let partial = beside(&args.file);
    let fetched = fetch(answer.into_body().into_reader(), &partial).and_then(|key_count| {
        fs::rename(&partial, &args.file)
            .with_context(|| format!("cannot write {}", args.file.display()))?;
        Ok(key_count)
    });
    if fetched.is_err() {
        // A part of a backup is none. It may not even have been begun.
        let _ = fs::remove_file(&partial);
    }
    print(format!("{} keys in {}\n", fetched?, args.file.display()))
}

/// The file that becomes `file` once it is whole.
fn beside(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    file.with_file_name(name)
}

/// Writes a backup to a file and checks it on the way. Returns how many keys it holds.
fn fetch(mut source: impl Read, path: &Path) -> anyhow::Result<u64> {
    let cannot = || format!("cannot write {}", path.display());
    // It holds everything that the node does: for its owner's eyes.
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).with_context(cannot)?;
    let mut decoder = Decoder::default();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let len = source.read(&mut piece).context("the node broke off")?;
        if len == 0 {
            break;
        }
        file.write_all(&piece[..len]).with_context(cannot)?;
        decoder.push(&piece[..len]);
        while decoder.next()?.is_some() {}
    }
    let key_count = decoder.finish()?;
    file.sync_all().with_context(cannot)?;
    Ok(key_count)
}

/// Brings the keys of a file back.
pub(super) fn restore(args: &RestoreArgs) -> anyhow::Result<()> {
    let path = &args.file;
    // First all of it is checked: half a backup is not to be restored.
    let key_count = read(path, |_| Ok(()))?;
    let Some(directory) = &args.data else { return restore_into_node(args) };
    Import::new(directory)?.fill(|filling| {
        read(path, |item| match item {
            Item::Header(_) | Item::End => Ok(()),
            Item::Flush(bucket, stamp) => filling.flush(&bucket, stamp),
            Item::Entry { bucket, key, entry } => filling.entry((&bucket, &key), &entry),
        })?;
        Ok(())
    })?;
    let directory = directory.display();
    print(format!("{key_count} keys in {directory}; start with: atoll serve --data {directory}\n"))
}

fn restore_into_node(args: &RestoreArgs) -> anyhow::Result<()> {
    let mut file = open(&args.file)?;
    let client = args.client.client()?;
    let path = if args.as_writes { "/v1/restore?as=writes" } else { "/v1/restore" };
    let ask = Ask::new(Method::PUT, path);
    let answer = text(accepted(client.send(ask, SendBody::from_reader(&mut file))?)?)?;
    let restored: Restored =
        serde_json::from_str(&answer).context("what answers there is no node of this version")?;
    let Restored { keys, restored, known } = restored;
    print(format!("{restored} of {keys} keys restored; the node knew {known}, or newer\n"))
}

fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Reads a whole backup. Returns how many keys it holds.
fn read(path: &Path, mut take: impl FnMut(Item) -> anyhow::Result<()>) -> anyhow::Result<u64> {
    let mut file = open(path)?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        bail!("{} is a directory; name the file that atoll backup wrote", path.display());
    }
    let mut decoder = Decoder::default();
    let mut piece = vec![0; PIECE_BYTES];
    let mut read = || -> anyhow::Result<u64> {
        loop {
            let len = file.read(&mut piece)?;
            if len == 0 {
                return Ok(decoder.finish()?);
            }
            decoder.push(&piece[..len]);
            while let Some(item) = decoder.next()? {
                take(item)?;
            }
        }
    };
    read().with_context(|| format!("cannot restore {}", path.display()))
}
