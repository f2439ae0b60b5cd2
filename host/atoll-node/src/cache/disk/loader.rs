//! Reads the index of the disk tier at start: names and sizes, while requests are answered.

use super::{Disk, Entry, FOLDER_COUNT, weight_of};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How often it is said how far it is.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// The files of one key.
#[derive(Debug, Default)]
struct Files {
    head_bytes: Option<u64>,
    /// Numbers and lengths.
    bodies: Vec<(u64, u64)>,
}

/// The name of a file: the hash of its key, and its number where it is a body.
fn parse(name: &str) -> Option<(u128, Option<u64>)> {
    let is_hex = |text: &str, count: usize| {
        text.len() == count && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let (hash, number) = match name.split_once('.') {
        Some((hash, number)) => (hash, Some(number)),
        None => (name, None),
    };
    let fits = is_hex(hash, 32) && number.is_none_or(|number| is_hex(number, 16));
    let hash = fits.then(|| u128::from_str_radix(hash, 16).ok()).flatten()?;
    match number {
        None => Some((hash, None)),
        Some(number) => Some((hash, Some(u64::from_str_radix(number, 16).ok()?))),
    }
}

impl Disk {
    /// Reads the index, and tidies up behind a process that died.
    pub(super) fn load(self: Arc<Self>) {
        let began = Instant::now();
        let mut told = began;
        let mut foreign = 0_u64;
        self.remove_unfinished();
        for number in 0..FOLDER_COUNT {
            let folder = self.root.join("objects").join(format!("{number:02x}"));
            match self.load_folder(number as u8, &folder) {
                Ok(count) => foreign += count,
                Err(error) => warn!(%error, "a folder of cached responses cannot be read"),
            }
            if told.elapsed() > TELL_EVERY {
                told = Instant::now();
                let percent = 100 * (number + 1) / FOLDER_COUNT;
                info!(percent, responses = self.index.len(), "reading the index of the disk cache");
            }
        }
        self.is_loading.store(false, Ordering::Release);
        self.start_invalid().clear();
        if foreign > 0 {
            warn!(foreign, "files in the folder of cached responses are not atoll's; left alone");
        }
        let (responses, bytes) = (self.index.len(), self.index.weight());
        let ms = began.elapsed().as_millis() as u64;
        info!(responses, bytes, ms, "the index of the disk cache is read");
        if let Some(aside) = &self.start.distrusted
            && let Err(error) = fs::remove_dir_all(aside)
        {
            warn!(%error, "cached responses that are not trusted could not be removed");
        }
    }

    /// Removes what earlier processes have not finished.
    fn remove_unfinished(&self) {
        let Ok(entries) = fs::read_dir(self.root.join("new")) else { return };
        let is_earlier =
            |name: &str| u64::from_str_radix(name, 16).is_ok_and(|number| number <= self.start.us);
        for entry in entries.filter_map(Result::ok) {
            if entry.file_name().to_str().is_some_and(is_earlier) {
                // It is tried again at the next start.
                let _ = fs::remove_file(entry.path());
            }
        }
        let Ok(entries) = fs::read_dir(&self.root) else { return };
        let mut dropped = entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| {
            let is_current = self.start.distrusted.as_ref() == Some(path);
            let name = path.file_name().and_then(|name| name.to_str());
            !is_current && name.is_some_and(|name| name.starts_with("dropped-"))
        });
        dropped.by_ref().for_each(|path| drop(fs::remove_dir_all(path)));
    }

    /// Returns how many files are not ours.
    fn load_folder(&self, number: u8, folder: &Path) -> io::Result<u64> {
        let mut by_hash: HashMap<u128, Files> = HashMap::new();
        let mut foreign = 0;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let known =
                name.to_str().and_then(parse).filter(|(hash, _)| (hash >> 120) as u8 == number);
            // One that has gone meanwhile is none.
            let Ok(data) = entry.metadata() else { continue };
            let Some((hash, body)) = known.filter(|_| data.is_file()) else {
                foreign += 1;
                continue;
            };
            let files = by_hash.entry(hash).or_default();
            match body {
                None => files.head_bytes = Some(data.len()),
                Some(number) => files.bodies.push((number, data.len())),
            }
        }
        for (hash, files) in by_hash {
            self.load_files(hash, &files);
            for (hash, entry) in self.evicted.take() {
                self.remove_files(hash, &entry);
            }
        }
        Ok(foreign)
    }

    fn load_files(&self, hash: u128, files: &Files) {
        let stripe = self.stripe(hash);
        if self.index.contains_key(&hash) {
            return;
        }
        let invalid_us = self.start_invalid().get(&hash).copied();
        let is_invalid = invalid_us.is_some_and(|at_us| {
            // One that cannot be read is of no use either.
            self.read_fetched_us(hash).is_none_or(|fetched_us| fetched_us <= at_us)
        });
        let head_bytes = files.head_bytes.filter(|_| !is_invalid && self.head_path(hash).exists());
        let Some(head_bytes) = head_bytes else {
            let _ = fs::remove_file(self.head_path(hash));
            for (number, _) in &files.bodies {
                let _ = fs::remove_file(self.body_path(hash, *number));
            }
            return;
        };
        let lengths = files.bodies.iter().map(|(_, bytes)| *bytes);
        let entry = Entry {
            weight: weight_of(std::iter::once(head_bytes).chain(lengths)),
            fetched_us: None,
            numbers: files.bodies.iter().map(|(number, _)| *number).collect(),
            body: OnceLock::new(),
        };
        self.index.insert(hash, Arc::new(entry));
        drop(stripe);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_known_by_their_form() {
        let hash = "0123456789abcdef0123456789abcdef";
        let value = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
        assert_eq!(parse(hash), Some((value, None)));
        assert_eq!(parse(&format!("{hash}.00000000000000ff")), Some((value, Some(255))));
        for foreign in ["", "x", &hash[1..], &format!("{hash}."), &format!("{hash}.ff"), "+1.txt"] {
            assert_eq!(parse(foreign), None, "{foreign}");
        }
        assert_eq!(parse(&hash.to_uppercase()), None);
    }
}
