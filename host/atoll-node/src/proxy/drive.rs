//! A body that may be stored, read to its end: into memory, or to the disk as it comes.

use super::fetch::Asked;
use super::settings::CacheSettings;
use super::{Proxy, Route, parts};
use crate::cache::Found;
use crate::cache::body::StoredBody;
use crate::cache::disk::limits::{SPOOL_BYTES_MIN, SPOOL_WRITE_BYTES};
use crate::cache::disk::spool::Spool;
use crate::cache::fill::Fill;
use crate::cache::flight::{Landing, Lead};
use crate::cache::limits::{OBJECT_BYTES_DEFAULT, WINDOW_BYTES_MIN};
use crate::cache::stored::{Ingredients, Stored};
use crate::upstream::ResponseBody;
use atoll_core::http_cache::reuse::Purged;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use std::sync::Arc;

/// Where a body goes as it comes.
enum Way {
    /// Into memory: it is short, or nobody knows yet that it is not.
    Memory,
    /// To the disk; so many bytes have yet to be written.
    Disk(Spool, usize),
    /// To its readers alone.
    Nowhere,
}

impl Proxy {
    /// Reads the body to its end, and stores it then. Those who wait are told as soon as there is
    /// something to read; the end of it they get once it is stored. Returns whether it was given up
    /// to store it.
    pub(super) async fn drive(
        &self,
        route: &Route,
        asked: &Asked,
        (fill, mut body): (Arc<Fill>, ResponseBody),
        lead: Lead,
    ) -> bool {
        let expected = fill.head.span.map(|span| span.length()).or(fill.head.length);
        // All of an empty one is its head.
        let is_empty = expected == Some(0);
        if !is_empty {
            lead.land(Landing::Filling(Arc::clone(&fill)));
        }
        let mut lead = Some(lead);
        let came = (&*fill, &mut body);
        let Some(way) = self.read(route, asked, came, (expected, &mut lead)).await else {
            fill.fail();
            return lead.is_none();
        };
        let is_given_up = lead.is_none();
        let stored = match way {
            Way::Disk(spool, _) => Some(StoredBody::Disk(spool.finish())),
            Way::Memory => Some(StoredBody::of(fill.pieces())),
            Way::Nowhere => None,
        };
        if let Some(stored) = stored.filter(|_| lead.is_some()) {
            self.store(route, asked, (&fill, stored), fill.head.fetched_us);
        }
        fill.complete();
        if let Some(lead) = lead.filter(|_| is_empty) {
            lead.land(Landing::Filling(fill));
        }
        // Whoever sends may have something to do behind the last byte.
        while let Some(Ok(_)) = body.frame().await {}
        is_given_up
    }

    /// Reads the body until so many bytes as are expected have come, or its end has. `None` where it
    /// broke off or nobody reads it any more; else where it has gone. Lets go of the lead where it
    /// will not be stored.
    async fn read(
        &self,
        route: &Route,
        asked: &Asked,
        (fill, body): (&Fill, &mut ResponseBody),
        (expected, lead): (Option<u64>, &mut Option<Lead>),
    ) -> Option<Way> {
        let settings = route.cache.as_ref();
        let bytes_max = settings.map_or(0, |settings| settings.object_bytes_max);
        let memory_bytes_max = settings.map_or(0, |settings| self.memory_bytes_max(settings));
        let mut bytes = 0;
        let mut way = self.way_for(fill, 0).await;
        while expected != Some(bytes) {
            let Some(frame) = body.frame().await else { break };
            // Trailers are not kept.
            let Ok(data) = frame.ok()?.into_data() else { continue };
            bytes = fill.push(&data);
            way = match way {
                Way::Memory if bytes >= SPOOL_BYTES_MIN => self.way_for(fill, bytes).await,
                Way::Disk(spool, waiting) if waiting + data.len() >= SPOOL_WRITE_BYTES => {
                    write(fill, spool).await
                }
                Way::Disk(spool, waiting) => Way::Disk(spool, waiting + data.len()),
                way => way,
            };
            // Short ones are not worth it.
            let is_too_much = matches!(way, Way::Memory)
                && bytes > WINDOW_BYTES_MIN as u64
                && self.cache.fills().is_over();
            if is_too_much && lead.is_some() {
                // The next one may find room: no mark that it cannot be stored.
                fill.give_up_storing();
                self.cache.fills().note_given_up();
                (*lead, way) = (None, Way::Nowhere);
            }
            let is_given_up = match way {
                Way::Memory => bytes > memory_bytes_max,
                Way::Disk(..) => bytes > bytes_max,
                Way::Nowhere => true,
            };
            if is_given_up && lead.is_some() {
                // Who comes from now on begins anew: the beginning will not be kept.
                fill.give_up_storing();
                self.cache.mark_pass(&asked.key);
                (*lead, way) = (None, Way::Nowhere);
            }
            if lead.is_none() && !fill.has_room().await {
                // Who comes too late is told.
                return None;
            }
        }
        if expected.is_some_and(|length| length != bytes) {
            return None;
        }
        match way {
            Way::Disk(spool, _) => Some(write(fill, spool).await),
            way => Some(way),
        }
    }

    /// Longest body that is gathered in memory, in bytes: where there is a disk, long ones go there or
    /// are not stored.
    pub(super) fn memory_bytes_max(&self, settings: &CacheSettings) -> u64 {
        match self.cache.disk() {
            Some(_) => settings.object_bytes_max.min(OBJECT_BYTES_DEFAULT),
            None => settings.object_bytes_max,
        }
    }

    /// The way of a body of which `bytes` have come.
    async fn way_for(&self, fill: &Fill, bytes: u64) -> Way {
        let length = fill.head.span.map(|span| span.length()).or(fill.head.length);
        let is_long = bytes.max(length.unwrap_or(0)) >= SPOOL_BYTES_MIN;
        // Parts are put together in memory.
        let Some(disk) = self.cache.disk().filter(|_| is_long && fill.head.span.is_none()) else {
            return Way::Memory;
        };
        match disk.begin_spool(length).await {
            Some(spool) => {
                fill.begin_spooling(spool.file());
                write(fill, spool).await
            }
            None => Way::Memory,
        }
    }

    fn store(
        &self,
        route: &Route,
        asked: &Asked,
        (fill, body): (&Arc<Fill>, StoredBody),
        fetched_us: u64,
    ) {
        let mut headers = fill.head.headers.clone();
        let body_bytes = body.bytes();
        // What came in chunks has a length now.
        if fill.head.status != StatusCode::NO_CONTENT {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body_bytes));
        }
        let mut made_of = Ingredients {
            key: asked.key.as_str().into(),
            host_bytes: asked.host_bytes,
            status: fill.head.status,
            headers,
            meta: fill.head.meta.clone(),
            exchanged: fill.head.exchanged,
            body,
            span: fill.head.span,
            fetched_us,
        };
        let bytes_max = route.cache.as_ref().map_or(0, |settings| settings.object_bytes_max);
        if made_of.span.is_some()
            && let Found::Stored(older, Purged::No) =
                self.cache.find(&asked.key, &asked.parts.headers)
        {
            made_of = parts::combined(&older, made_of, bytes_max);
        }
        let stored = Arc::new(Stored::new(made_of));
        if self.cache.store(&stored, &fill.head.vary, &asked.parts.headers) {
            route.records.stored_bytes.inc_by(body_bytes);
            // Some of what was put together was fetched before.
            let marks = fill.head.marks.as_deref().filter(|_| fill.head.span.is_none());
            self.share((route, asked), (&stored, &fill.head.vary), marks);
        }
    }
}

/// Writes what has come since the last time.
async fn write(fill: &Fill, spool: Spool) -> Way {
    let pieces: Vec<Bytes> = fill.unspooled();
    let count = pieces.len();
    if count == 0 {
        return Way::Disk(spool, 0);
    }
    match spool.append(pieces).await {
        Some(spool) => {
            fill.note_spooled(count);
            Way::Disk(spool, 0)
        }
        None => Way::Nowhere,
    }
}
