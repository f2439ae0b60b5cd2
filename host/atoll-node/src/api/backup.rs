//! `/v1/backup`: everything that the node holds, as one stream. `/v1/restore`: the way back.
//!
//! Both go on beside reads and writes. A backup holds every key as it was at some moment between its
//! begin and its end. A restored key keeps its stamps, so what is newer on this node stays. With
//! `?as=writes` it is written anew, so that nodes that have seen its stamps take it, too.

use super::Api;
use super::limits::{BACKUP_CHUNK_BYTES, RESTORE_READ_WAIT, RESTORE_TURN_COUNT};
use super::query::Query;
use crate::backup::{BackupError, Decoder, Encoder, Header, Item};
use crate::cache::replicated::CACHE;
use crate::problem::Problem;
use atoll_core::clock::Stamp;
use atoll_core::entry::Entry;
use atoll_core::key::{BucketName, check_key};
use atoll_core::limits::SHARD_COUNT;
use atoll_core::store::changes::{Selection, Walk};
use atoll_core::store::edit::WriteError;
use atoll_core::store::{Bucket, Store};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use serde::Serialize;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

pub(super) fn router() -> Router<Arc<Api>> {
    Router::new().route("/v1/backup", get(backup)).route("/v1/restore", put(restore))
}

/// What came of a restore.
#[derive(Debug, Default, Serialize)]
struct Restored {
    /// Keys that the backup holds.
    keys: u64,
    /// Those of which this node has learnt something.
    restored: u64,
    /// Those that it knew, or had in a newer version, deletes and flushes included; written anew, those
    /// that show nothing any more, too.
    known: u64,
}

async fn backup(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    let place = place(&api.backups)?;
    let writing = Writing::begin(&api, place);
    let chunks = stream::unfold(writing, |mut writing| async move {
        let chunk = writing.next_chunk()?;
        Some((Ok::<_, Infallible>(chunk), writing))
    });
    let form = HeaderValue::from_static("application/octet-stream");
    let no_store = HeaderValue::from_static("no-store");
    let headers = [(header::CONTENT_TYPE, form), (header::CACHE_CONTROL, no_store)];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

/// A backup or restore takes processor time and memory: few at once.
fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Problem> {
    Arc::clone(places).try_acquire_owned().map_err(|_| {
        Problem::busy("backup-busy", "this node is busy with another backup or restore", 5)
    })
}

/// A backup that is being written.
struct Writing {
    api: Arc<Api>,
    encoder: Encoder,
    /// What is not sent yet: at first the header and the flushes.
    buffer: Vec<u8>,
    /// Still to come, the next one last.
    buckets: Vec<Arc<Bucket>>,
    walk: Option<Walk>,
    shard: usize,
    end: End,
    _place: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Ahead,
    Written,
}

impl Writing {
    fn begin(api: &Arc<Api>, place: OwnedSemaphorePermit) -> Writing {
        let (store, mut encoder, mut buffer) = (api.node.store(), Encoder::default(), Vec::new());
        let header = Header {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: api.node.name().to_owned(),
            at_ms: api.node.now().millis(),
        };
        encoder.begin(&header, &mut buffer);
        for (bucket, stamp) in store.flush_marks() {
            encoder.flush(&bucket, stamp, &mut buffer);
        }
        // What others have fetched may be purged by the time at which this is restored.
        let is_kept = |bucket: &Arc<Bucket>| bucket.name().as_str() != CACHE;
        let buckets = store.buckets().into_iter().filter(is_kept).collect();
        let walk = Some(Walk::of(0));
        let (api, end) = (Arc::clone(api), End::Ahead);
        Writing { api, encoder, buffer, buckets, walk, shard: 0, end, _place: place }
    }

    /// The next piece of the file, or `None` after its end. A few hundred records are looked at.
    fn next_chunk(&mut self) -> Option<Bytes> {
        while self.buffer.len() < BACKUP_CHUNK_BYTES && self.end == End::Ahead {
            self.step();
        }
        let chunk = std::mem::take(&mut self.buffer);
        (!chunk.is_empty()).then(|| Bytes::from(chunk))
    }

    fn step(&mut self) {
        let Some(bucket) = self.buckets.last() else {
            self.encoder.end(&mut self.buffer);
            self.end = End::Written;
            return;
        };
        let Some(walk) = self.walk else {
            self.shard += 1;
            if self.shard == SHARD_COUNT {
                self.shard = 0;
                self.buckets.pop();
            }
            self.walk = Some(Walk::of(self.shard));
            return;
        };
        let (encoder, buffer) = (&mut self.encoder, &mut self.buffer);
        let stepped = self.api.node.store().walk(bucket, (walk, Selection::Copy), |key, entry| {
            encoder.entry((bucket.name(), key), &entry, buffer);
            Ok::<_, Infallible>(())
        });
        let Ok(next) = stepped;
        self.walk = next;
    }
}

async fn restore(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let _place = place(&api.backups)?;
    api.node.permission().write()?;
    api.node.store().check_writable()?;
    let query = Query::parse(request.uri().query(), &["as"])?;
    let mut restoring = Restoring::new(query.get("as"))?;
    if restoring.way == Way::Stamps {
        check_unlinked(&api)?;
    }
    let mut body = request.into_body();
    let (mut decoder, mut since_turn) = (Decoder::default(), 0);
    loop {
        let Ok(frame) = timeout(RESTORE_READ_WAIT, body.frame()).await else {
            let detail = "the backup stopped coming; what came before is restored";
            return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", detail));
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| Problem::bad_request("bad-body", "the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        decoder.push(&data);
        while let Some(item) = decoder.next()? {
            restoring.take(&api, item)?;
            since_turn += 1;
            // Others have their turn: a fast sender would keep this thread for itself.
            if since_turn >= RESTORE_TURN_COUNT {
                since_turn = 0;
                tokio::task::yield_now().await;
            }
        }
    }
    decoder.finish()?;
    Ok(Json(restoring.restored).into_response())
}

/// Refuses a restore on a node with peers: restored keys keep their stamps, which the others have
/// seen, so they would not take them, and this node alone would hold them.
fn check_unlinked(api: &Api) -> Result<(), Problem> {
    let replication = api.node.replication();
    if replication.peers().all().is_empty() && replication.status().links.is_empty() {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::CONFLICT,
        "linked",
        "this node has peers, which would not take what keeps its versions; restore with as=writes \
         (atoll restore --as-writes), or into an empty data directory",
    ))
}

/// How what is restored is brought in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Under the stamps that it had.
    Stamps,
    /// As writes of this node.
    Writes,
}

/// A restore under way.
struct Restoring {
    way: Way,
    /// The flushes of the backup: what they killed is not written again.
    flushes: HashMap<BucketName, Stamp>,
    restored: Restored,
}

impl Restoring {
    fn new(way: Option<&[u8]>) -> Result<Restoring, Problem> {
        let way = match way {
            None | Some(b"stamps") => Way::Stamps,
            Some(b"writes") => Way::Writes,
            Some(_) => {
                let detail = "as is stamps, which is the default, or writes";
                return Err(Problem::bad_request("bad-parameter", detail));
            }
        };
        Ok(Restoring { way, flushes: HashMap::new(), restored: Restored::default() })
    }

    /// Brings a part of a backup into what the node holds.
    fn take(&mut self, api: &Api, item: Item) -> Result<(), Problem> {
        let (store, now) = (api.node.store(), api.node.now());
        match item {
            Item::Header(_) | Item::End => {}
            Item::Flush(name, stamp) => {
                let bucket = store.open_bucket(&name)?;
                match self.way {
                    Way::Stamps => {
                        if store.flush_at(&bucket, stamp, now) {
                            store.log_flush_arrival(now, &bucket, stamp);
                        }
                    }
                    // As many as there are buckets, at the most.
                    Way::Writes => {
                        self.flushes.insert(name, stamp);
                    }
                }
            }
            Item::Entry { bucket: name, key, entry } => {
                store.check_writable()?;
                check_key(&key).map_err(|error| bad_backup(error.to_string()))?;
                let bucket = store.open_bucket(&name)?;
                let is_news = match self.way {
                    Way::Stamps => {
                        let is_news = merge(store, &bucket, (&key, &entry))?;
                        if is_news {
                            store.log_arrival(now, &bucket, &key);
                        }
                        is_news
                    }
                    Way::Writes => {
                        let flushed = self.flushes.get(&name).copied().unwrap_or(Stamp::ZERO);
                        store.write_again(&bucket, &key, &entry, (now, flushed))?
                    }
                };
                self.restored.keys += 1;
                self.restored.restored += u64::from(is_news);
                self.restored.known += u64::from(!is_news);
            }
        }
        Ok(())
    }
}

/// Joins an entry into what the node holds, where there is room. Returns whether it was news.
fn merge(store: &Store, bucket: &Bucket, (key, entry): (&[u8], &Entry)) -> Result<bool, Problem> {
    let (used, max) = (store.used_bytes(), store.memory_bytes_max());
    if used >= max {
        return Err(WriteError::Full { used, max }.into());
    }
    let merged = || store.merge(bucket, key, entry).map_err(|error| bad_backup(error.to_string()));
    Ok(!store.is_flushed(bucket, entry) && merged()?)
}

fn bad_backup(detail: String) -> Problem {
    Problem::bad_request("bad-backup", detail)
}

impl From<BackupError> for Problem {
    fn from(error: BackupError) -> Problem {
        bad_backup(error.to_string())
    }
}
