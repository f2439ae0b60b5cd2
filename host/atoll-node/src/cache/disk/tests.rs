//! What is found again after a restart, and what must not be.

use super::*;
use crate::cache::body::StoredBody;
use crate::cache::purges::Purges;
use crate::cache::stored::{Ingredients, Stored};
use crate::cache::{Cache, Found};
use atoll_core::http_cache::freshness::{Exchanged, Lifetime, Source};
use atoll_core::http_cache::purge::{Scope, Strength};
use atoll_core::http_cache::reuse::Purged;
use atoll_core::http_cache::storing::Meta;
use atoll_core::http_cache::vary::Vary;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

/// A cache whose disk tier is in `folder`, as a process has it that has just started.
fn start(folder: &Path) -> Arc<Cache> {
    start_with(folder, 64 * MIB as u64)
}

fn start_with(folder: &Path, bytes_max: u64) -> Arc<Cache> {
    let settings = Settings { data: folder.to_owned(), bytes_max: Some(bytes_max) };
    let cache = Arc::new(Cache::with_disk(8 * MIB, &settings).expect("a folder"));
    let disk = Arc::clone(cache.disk().expect("a disk"));
    disk.begin(&Metrics::new()).expect("threads");
    let deadline = Instant::now() + Duration::from_secs(120);
    while disk.is_loading.load(Ordering::Acquire) {
        assert!(Instant::now() < deadline, "the index is read");
        std::thread::sleep(Duration::from_millis(1));
    }
    disk.serve();
    cache
}

/// Waits until what was stored is written.
fn flush(cache: &Cache) {
    cache.disk().expect("a disk").flush();
}

fn made_of(cache: &Cache, key: &str, body: StoredBody) -> Ingredients {
    let mut headers = HeaderMap::new();
    headers.insert("cache-tag", HeaderValue::from_static("t"));
    headers.append("x-twice", HeaderValue::from_static("1"));
    headers.append("x-twice", HeaderValue::from_static("2"));
    Ingredients {
        host_bytes: key.find('/').unwrap_or(0),
        route: 3,
        key: key.into(),
        status: StatusCode::NOT_FOUND,
        headers,
        meta: Meta {
            responded_ms: 7,
            initial_age_ms: 8,
            lifetime: Lifetime { lifetime_ms: 9, source: Source::Heuristic },
            always_validate: false,
            never_stale: true,
            stale_if_disconnected: false,
            while_revalidate_ms: 10,
            if_error_ms: 11,
            has_validator: true,
        },
        exchanged: Exchanged { requested_ms: 5, responded_ms: 6 },
        body,
        span: None,
        fetched_us: cache.now_us(),
    }
}

fn short(cache: &Cache, key: &str, text: &str) -> Arc<Stored> {
    let body = StoredBody::of(vec![Bytes::copy_from_slice(text.as_bytes())]);
    Arc::new(Stored::new(made_of(cache, key, body)))
}

/// A body of `bytes` bytes that went to the disk as it came.
async fn long(cache: &Cache, key: &str, bytes: usize) -> Arc<Stored> {
    let spool = cache.disk().expect("a disk").begin_spool(None).await.expect("room");
    let spool = spool.append(vec![Bytes::from(text(bytes))]).await.expect("room");
    let body = StoredBody::Disk(spool.finish());
    Arc::new(Stored::new(made_of(cache, key, body)))
}

fn text(bytes: usize) -> Vec<u8> {
    (0..bytes as u32).map(|number| (number % 251) as u8).collect()
}

fn all() -> Vary {
    Vary::Fields(Box::default())
}

fn store(cache: &Arc<Cache>, stored: &Arc<Stored>) {
    assert!(cache.store(stored, &all(), &HeaderMap::new()));
}

async fn find(cache: &Arc<Cache>, key: &str, request: &HeaderMap) -> Option<(Arc<Stored>, Purged)> {
    let found = match cache.find(key, request) {
        Found::OnDisk => cache.find_on_disk(key, request).await,
        found => found,
    };
    match found {
        Found::Stored(stored, purged) => Some((stored, purged)),
        _ => None,
    }
}

async fn body(cache: &Arc<Cache>, key: &str) -> Option<Result<Vec<u8>, std::io::Error>> {
    let (stored, _) = find(cache, key, &HeaderMap::new()).await?;
    Some(match &stored.body {
        StoredBody::Disk(file) => {
            let sending = file::Sending::new(file, (0, stored.body_bytes), None);
            sending.collect().await.map(|body| body.to_bytes().to_vec())
        }
        held => Ok(held.slice(0, stored.body_bytes - 1).expect("memory").concat()),
    })
}

#[track_caller]
fn check_body(found: Option<Result<Vec<u8>, std::io::Error>>, want: &[u8]) {
    let got = found.expect("it is there").expect("it can be read");
    assert!(got == want, "{} bytes instead of {}", got.len(), want.len());
}

/// The files of responses, with their names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(folder.join("cache/objects")).expect("a folder");
    let mut files: Vec<PathBuf> = folders
        .flat_map(|folder| fs::read_dir(folder.expect("a folder").path()).expect("a folder"))
        .map(|file| file.expect("a file").path())
        .collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_is_found_after_a_restart_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = start(folder.path());
    store(&cache, &short(&cache, "a/short", "text"));
    let long = long(&cache, "a/long", 5 * MIB / 2).await;
    store(&cache, &long);
    check_body(body(&cache, "a/long").await, &text(5 * MIB / 2));
    flush(&cache);
    let restarted = start(folder.path());
    check_body(body(&restarted, "a/short").await, b"text");
    check_body(body(&restarted, "a/long").await, &text(5 * MIB / 2));
    let (found, purged) = find(&restarted, "a/long", &HeaderMap::new()).await.expect("there");
    assert_eq!(purged, Purged::No);
    assert_eq!(found.headers, long.headers);
    assert_eq!((&found.meta, found.exchanged), (&long.meta, long.exchanged));
    assert_eq!((found.status, found.fetched_us), (long.status, long.fetched_us));
    assert_eq!((&found.tags, found.host_bytes), (&long.tags, 1));
    assert!(body(&restarted, "a/other").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn variants_are_found_apart_after_a_restart_and_forgotten_together() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = start(folder.path());
    let vary = Vary::Fields(Box::new([HeaderName::from_static("foo")]));
    let request = |value| {
        let mut headers = HeaderMap::new();
        headers.insert("foo", HeaderValue::from_static(value));
        headers
    };
    for value in ["1", "2"] {
        assert!(cache.store(&short(&cache, "a/v", value), &vary, &request(value)));
    }
    flush(&cache);
    let restarted = start(folder.path());
    for value in ["1", "2"] {
        let (found, _) = find(&restarted, "a/v", &request(value)).await.expect("there");
        assert_eq!(found.body.slice(0, 0).expect("memory").concat(), value.as_bytes());
    }
    assert!(find(&restarted, "a/v", &request("3")).await.is_none());
    restarted.invalidate("a/v");
    let again = start(folder.path());
    assert!(find(&again, "a/v", &request("1")).await.is_none());
    assert!(again.store(&short(&again, "a/v", "3"), &vary, &request("3")));
    flush(&again);
    let again = start(folder.path());
    assert!(find(&again, "a/v", &request("1")).await.is_none());
    assert!(find(&again, "a/v", &request("3")).await.is_some(), "it is of the time after");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_purged_or_made_invalid_stays_so_over_a_restart_even_if_its_file_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = start(folder.path());
    for key in ["a/purged", "a/invalid", "a/soft", "b/kept"] {
        store(&cache, &short(&cache, key, key));
    }
    flush(&cache);
    let there = files(folder.path());
    let copies: Vec<(PathBuf, Vec<u8>)> =
        there.iter().map(|path| (path.clone(), fs::read(path).expect("a file"))).collect();
    cache.purge(&Scope::Url("a/purged".into()), Strength::Hard);
    cache.purge(&Scope::Url("a/soft".into()), Strength::Soft);
    cache.invalidate("a/invalid");
    flush(&cache);
    assert_eq!(files(folder.path()).len(), 3, "the one that is invalid is removed");
    // As a process leaves them that dies before it removes any, or a machine that loses its power.
    copies.iter().for_each(|(path, bytes)| fs::write(path, bytes).expect("written"));
    let restarted = start(folder.path());
    assert!(body(&restarted, "a/purged").await.is_none());
    assert!(body(&restarted, "a/invalid").await.is_none());
    let (_, purged) = find(&restarted, "a/soft", &HeaderMap::new()).await.expect("there");
    assert_eq!(purged, Purged::Softly);
    check_body(body(&restarted, "b/kept").await, b"b/kept");
    // What is fetched afterwards is stored and found.
    for key in ["a/purged", "a/invalid"] {
        store(&restarted, &short(&restarted, key, "new"));
    }
    flush(&restarted);
    let again = start(folder.path());
    check_body(body(&again, "a/purged").await, b"new");
    check_body(body(&again, "a/invalid").await, b"new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_a_purge_takes_effect_once_and_not_at_each_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = crate::config::Config::resolve(crate::config::FileConfig::default());
    let node = crate::node::Node::new(&config.expect("the defaults")).expect("a node");
    let cache = start(folder.path());
    let purges = Purges::new(&node, &cache).expect("a bucket");
    purges.purge(&Scope::All, Strength::Hard).expect("written");
    store(&cache, &short(&cache, "a/after", "text"));
    flush(&cache);
    let restarted = start(folder.path());
    // The records are there again, as from a journal or a peer.
    let purges = Purges::new(&node, &restarted).expect("a bucket");
    purges.look_through();
    check_body(body(&restarted, "a/after").await, b"text");
    // One that came meanwhile takes what was fetched before it.
    let other = Purges::new(&node, &start(tempfile::tempdir().expect("a folder").path()));
    other.expect("a bucket").purge(&Scope::Tag("t".into()), Strength::Hard).expect("written");
    purges.look_through();
    assert!(body(&restarted, "a/after").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_that_is_torn_or_changed_or_of_others_is_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let fill = async |bytes: usize| {
        let cache = start(folder.path());
        store(&cache, &long(&cache, "a/long", bytes).await);
        store(&cache, &short(&cache, "a/short", "text"));
        flush(&cache);
        files(folder.path())
    };
    type Damage = fn(&Path);
    let damage: [(&str, Damage); 4] = [
        ("torn", |path| {
            let bytes = fs::read(path).expect("a file");
            fs::write(path, &bytes[..bytes.len() - 1]).expect("written");
        }),
        ("empty", |path| fs::write(path, "").expect("written")),
        ("changed", |path| {
            let mut bytes = fs::read(path).expect("a file");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).expect("written");
        }),
        ("missing", |path| fs::remove_file(path).expect("removed")),
    ];
    for (name, damage) in damage {
        let there = fill(MIB).await;
        assert_eq!(there.len(), 3, "two heads and a body");
        there.iter().filter(|path| path.extension().is_none()).for_each(|path| damage(path));
        fs::write(folder.path().join("cache/objects/00/notes.txt"), "mine").expect("written");
        let cache = start(folder.path());
        assert!(body(&cache, "a/short").await.is_none(), "{name}");
        assert!(body(&cache, "a/long").await.is_none(), "{name}");
        flush(&cache);
        assert_eq!(files(folder.path()).len(), 1, "{name}: what is not ours is left alone");
        fs::remove_file(folder.path().join("cache/objects/00/notes.txt")).expect("removed");
        for (at, path) in fill(MIB).await.iter().enumerate() {
            if path.extension().is_some() {
                damage(path);
                assert!(at < 3);
            }
        }
        let cache = start(folder.path());
        assert!(body(&cache, "a/long").await.is_none(), "{name}");
        check_body(body(&cache, "a/short").await, b"text");
    }
    // Changed behind the first chunk: found out on the way, and never sent.
    let there = fill(3 * MIB).await;
    let path = there.iter().find(|path| path.extension().is_some()).expect("a body");
    let mut bytes = fs::read(path).expect("a file");
    bytes[5 * MIB / 2] ^= 1;
    fs::write(path, bytes).expect("written");
    let cache = start(folder.path());
    assert!(body(&cache, "a/long").await.expect("its head is right").is_err());
    assert!(body(&cache, "a/long").await.is_none(), "it is dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_budget_bounds_the_files_and_what_is_used_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = start_with(folder.path(), 16 * MIB as u64);
    store(&cache, &short(&cache, "a/used", "text"));
    flush(&cache);
    for number in 0..60 {
        store(&cache, &long(&cache, &format!("a/{number}"), MIB).await);
        cache.disk().expect("a disk").note_use(hash_of(b"a/used"));
        flush(&cache);
    }
    let bytes: u64 =
        files(folder.path()).iter().map(|path| path.metadata().expect("a file").len()).sum();
    assert!((8 * MIB as u64..16 * MIB as u64).contains(&bytes), "{bytes}");
    assert!(cache.disk().expect("a disk").index.contains_key(&hash_of(b"a/used")));
    let found = (0..60).filter(|number| {
        let key = format!("a/{number}");
        matches!(cache.find(&key, &HeaderMap::new()), Found::Stored(..))
    });
    assert!(found.count() <= 14, "what has gone from the disk is not served from memory");
    // Too long for an eighth of it.
    assert!(cache.disk().expect("a disk").begin_spool(Some(3 * MIB as u64)).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_body_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = start(folder.path());
    let new = folder.path().join("cache/new");
    let count = || fs::read_dir(&new).expect("a folder").count();
    let spool = cache.disk().expect("a disk").begin_spool(None).await.expect("room");
    let spool = spool.append(vec![Bytes::from(text(MIB))]).await.expect("room");
    assert_eq!(count(), 1);
    drop(spool);
    assert_eq!(count(), 0);
    drop(long(&cache, "a/never-stored", MIB).await);
    assert_eq!(count(), 0, "one that is whole and goes nowhere");
    fs::write(new.join("0000000000000001"), "of a process that was killed").expect("written");
    start(folder.path());
    assert_eq!(count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_list_of_purges_nothing_is_trusted() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = start(folder.path());
    store(&cache, &short(&cache, "a/b", "text"));
    flush(&cache);
    fs::remove_file(folder.path().join("cache/purges")).expect("removed");
    let restarted = start(folder.path());
    assert!(body(&restarted, "a/b").await.is_none());
    assert!(files(folder.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_disk_fails_what_lies_there_stays_and_nothing_older_than_what_is_known_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = start(folder.path());
    let disk = cache.disk().expect("a disk");
    let kept = long(&cache, "a/long", MIB).await;
    store(&cache, &kept);
    store(&cache, &short(&cache, "a/short", "old"));
    flush(&cache);
    let other = long(&cache, "a/other", MIB).await;
    assert!(disk.room.pause());
    // The same body with a newer head, another body, and a newer short one.
    let renewed = made_of(&cache, "a/long", kept.body.clone());
    store(&cache, &Arc::new(Stored::new(renewed)));
    store(&cache, &other);
    store(&cache, &short(&cache, "a/short", "new"));
    flush(&cache);
    check_body(body(&cache, "a/long").await, &text(MIB));
    check_body(body(&cache, "a/short").await, b"new");
    assert!(body(&cache, "a/other").await.is_none(), "its file has no place");
    assert_eq!(fs::read_dir(folder.path().join("cache/new")).expect("a folder").count(), 0);
    let restarted = start(folder.path());
    check_body(body(&restarted, "a/long").await, &text(MIB));
    assert!(body(&restarted, "a/short").await.is_none(), "the old one is removed");
}
