//! Finds a response on the disk. Waits for the disk: for threads that may.

use super::file::{BodyFile, Written};
use super::record::{self, Damage, Head, Kind, Place, Response};
use super::{Disk, Entry, weight_of};
use crate::cache::body::StoredBody;
use crate::cache::stored::{Ingredients, Stored};
use bytes::Bytes;
use std::fs;
use std::io;
use std::sync::{Arc, OnceLock};
use tracing::warn;
use xxhash_rust::xxh3::xxh3_64;

/// What lies under a key.
#[derive(Debug)]
pub(crate) enum OnDisk {
    Response(Box<Stored>),
    /// These fields tell its responses apart, and their keys hold this number.
    Varies {
        names: Vec<String>,
        number: u64,
    },
}

/// Why something that should be there is not.
enum Lost {
    Gone,
    Damaged(Damage),
    Failed(io::Error),
}

impl Disk {
    /// What lies under `slot_key`, whose hash is `hash`. What is not as it was written is removed.
    pub(crate) fn read(&self, hash: u128, slot_key: &[u8]) -> Option<OnDisk> {
        let found = self.find(hash, slot_key);
        match found {
            Ok(found) => {
                if matches!(found, Some(OnDisk::Response(_))) {
                    self.figures.found.inc();
                }
                return found;
            }
            Err(Lost::Gone) => {}
            Err(Lost::Damaged(damage)) => {
                self.figures.damaged.inc();
                warn!(%damage, "a file of a cached response is not as it was written; removed");
            }
            Err(Lost::Failed(error)) => {
                self.figures.errors.inc();
                warn!(%error, "a cached response cannot be read from the disk; removed");
            }
        }
        self.remove_all(hash);
        None
    }

    fn find(&self, hash: u128, slot_key: &[u8]) -> Result<Option<OnDisk>, Lost> {
        // Also takes note of the use.
        let entry = self.index.get(&hash);
        let file = match fs::read(self.head_path(hash)) {
            Ok(file) => file,
            // While the index is read, whatever it may have is looked for.
            Err(error) if error.kind() == io::ErrorKind::NotFound && entry.is_none() => {
                return Ok(None);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Lost::Gone),
            Err(error) => return Err(Lost::Failed(error)),
        };
        let (Head { key, kind }, at) = record::decode(&file).map_err(Lost::Damaged)?;
        if key[..] != *slot_key {
            // Another key with the same hash: it stays.
            return Ok(None);
        }
        if entry.as_ref().is_none_or(|entry| entry.fetched_us.is_none())
            && self.is_untimely(hash, kind.fetched_us())
        {
            return Err(Lost::Gone);
        }
        let response = match kind {
            Kind::Varies { names, number, .. } => {
                return Ok(Some(OnDisk::Varies { names, number }));
            }
            Kind::Response(response) => response,
        };
        let body = match &response.body {
            Place::Here { bytes, hash: checksum } => {
                let body = &file[at..];
                let damage = match body.len() as u64 == *bytes {
                    false => Some(Damage::Torn),
                    true => (xxh3_64(body) != *checksum).then_some(Damage::Checksum),
                };
                if let Some(damage) = damage {
                    return Err(Lost::Damaged(damage));
                }
                StoredBody::of(vec![Bytes::from(file).slice(at..)])
            }
            Place::Apart { .. } => {
                let entry = entry.unwrap_or_else(|| self.enter(hash, &response, file.len() as u64));
                StoredBody::Disk(self.body_of(hash, &entry, &response)?)
            }
        };
        let parts = response.parts().map_err(Lost::Damaged)?;
        let stored = Stored::new(Ingredients {
            key: response.url_key.into(),
            host_bytes: response.host_bytes,
            route: response.route,
            status: parts.status,
            headers: parts.headers,
            meta: parts.meta,
            exchanged: parts.exchanged,
            body,
            span: parts.span,
            fetched_us: response.fetched_us,
        });
        Ok(Some(OnDisk::Response(Box::new(stored.taken(response.is_taken)))))
    }

    /// Whether what an earlier process has stored must not be used: it was made invalid, or the clock
    /// was set back and cannot say whether a purge came before it.
    fn is_untimely(&self, hash: u128, fetched_us: u64) -> bool {
        let invalid_us = self.start_invalid().get(&hash).copied();
        fetched_us >= self.start.us || invalid_us.is_some_and(|at_us| fetched_us <= at_us)
    }

    /// Puts what was found before the index came to it into the index.
    fn enter(&self, hash: u128, response: &Response, head_bytes: u64) -> Arc<Entry> {
        let (bytes, number) = match &response.body {
            Place::Apart { bytes, number, .. } => (*bytes, vec![*number]),
            Place::Here { .. } => (0, Vec::new()),
        };
        let entry = Arc::new(Entry {
            weight: weight_of([head_bytes, bytes]),
            fetched_us: None,
            numbers: number.into(),
            body: OnceLock::new(),
        });
        let _stripe = self.stripe(hash);
        match self.index.peek(&hash) {
            Some(other) => other,
            None => {
                self.index.insert(hash, Arc::clone(&entry));
                entry
            }
        }
    }

    /// The body file that a response names, checked at its beginning.
    fn body_of(
        &self,
        hash: u128,
        entry: &Entry,
        response: &Response,
    ) -> Result<Arc<BodyFile>, Lost> {
        let Place::Apart { bytes, number, hashes } = &response.body else {
            return Err(Lost::Damaged(Damage::Format));
        };
        let body = entry.body.get_or_init(|| {
            Arc::new(BodyFile::new(Written {
                bytes: *bytes,
                hashes: hashes.clone(),
                number: *number,
                path: self.body_path(hash, *number),
                open: None,
            }))
        });
        if body.number != *number || body.is_gone() {
            return Err(Lost::Gone);
        }
        let file = body.open().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Lost::Gone,
            io::ErrorKind::InvalidData => Lost::Damaged(Damage::Torn),
            _ => Lost::Failed(error),
        })?;
        body.check(&file, 0).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => Lost::Damaged(Damage::Checksum),
            _ => Lost::Failed(error),
        })?;
        self.keep_open(body);
        Ok(Arc::clone(body))
    }

    /// When the fetch of what lies there began; `None` where it cannot be read.
    pub(super) fn read_fetched_us(&self, hash: u128) -> Option<u64> {
        let file = fs::read(self.head_path(hash)).ok()?;
        Some(record::decode(&file).ok()?.0.kind.fetched_us())
    }
}
