//! What a guest learns of keys that it was not granted: nothing.

use super::*;
use crate::cache::Cache;
use crate::config::{Config, FileConfig};
use crate::handlers::tests::record;
use atoll_core::replica::status::{Readiness, Status};
use atoll_core::store::list::ListQuery;
use atoll_wasm::host::KeyPage;
use atoll_wasm::host::purge::{PurgeError, PurgeScope};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::io::Write;
use std::sync::Mutex;

const KEYS: [&str; 8] = ["a", "app/1", "app/2", "app/3", "apq", "b/1", "b/2", "secret"];

/// A guest with these grants, in a bucket that holds [`KEYS`].
fn guest(grants: &[&str]) -> (GuestHost, GuestBucket) {
    let config = Config::resolve(FileConfig::default()).expect("the defaults");
    let node = Node::new(&config).expect("a node");
    let grants = grants.iter().map(|text| text.parse().expect("a grant")).collect();
    let record = record("test", 1, "");
    let identity =
        Arc::new(Identity::new(&record, grants, Arc::default(), ReleaseFigures::default()));
    let secrets = Secrets::open(Arc::clone(&node), &config.secrets).expect("a bucket");
    let watchers = Watchers::new(Arc::clone(&node), None).expect("random numbers");
    let purges = Purges::new(&node, &Arc::new(Cache::new(0))).expect("a bucket");
    let common = Common { node, client: Arc::new(Client::new()), secrets, purges, watchers };
    let mut guest = GuestHost::new(Arc::new(common), identity);
    let bucket = guest.open("default").expect("it is granted");
    for key in KEYS {
        let edit = Edit::set(NewValue::Shared(Bytes::from_static(b"1")), Deadline::NEVER);
        let now = guest.node().now();
        let write = |_: Option<View<'_>>| (edit, ());
        guest.node().store().write(&bucket.bucket, key.as_bytes(), now, write).expect("room");
    }
    (guest, bucket)
}

fn page(
    (guest, bucket): &mut (GuestHost, GuestBucket),
    prefix: &str,
    (limit, cursor): (usize, Option<String>),
) -> Result<KeyPage, KvError> {
    let mut listing = guest.list(bucket, List { prefix: prefix.to_owned(), limit, cursor })?;
    Ok(std::iter::repeat_with(|| listing.step()).flatten().next().expect("it ends"))
}

/// Lists by pages of every size; each cursor must be a key that was listed.
#[track_caller]
fn check_listed(grants: &[&str], prefix: &str, want: &[&str]) {
    let mut guest = guest(grants);
    for limit in 1..=KEYS.len() + 1 {
        let (mut got, mut cursor) = (Vec::new(), None);
        loop {
            let page = page(&mut guest, prefix, (limit, cursor)).expect("it is granted");
            assert!(page.keys.len() <= limit);
            got.extend(page.keys);
            let Some(next) = page.cursor else { break };
            let key = URL_SAFE_NO_PAD.decode(&next).expect("base64");
            assert_eq!(got.last().map(String::as_bytes), Some(&key[..]), "a key that it has seen");
            cursor = Some(next);
        }
        assert_eq!(got, want, "{grants:?} {prefix:?} by {limit}");
    }
}

#[track_caller]
fn check_denied<T: std::fmt::Debug>(got: Result<T, KvError>, want: &str) {
    assert_eq!(got.expect_err("it is not granted"), denied(want));
}

#[test]
fn only_keys_that_may_be_read_are_listed() {
    check_listed(&["kv:default=rw"], "", &KEYS);
    check_listed(&["kv:default=r"], "app/", &["app/1", "app/2", "app/3"]);
    check_listed(&["kv:default/app/=r"], "", &["app/1", "app/2", "app/3"]);
    check_listed(&["kv:default/app/=r"], "app/2", &["app/2"]);
    check_listed(&["kv:default/app/=r"], "a", &["app/1", "app/2", "app/3"]);
    let both = ["kv:default/b/=r", "kv:default/app/=rw", "kv:default/app/2=r", "kv:default/c=r"];
    check_listed(&both, "", &["app/1", "app/2", "app/3", "b/1", "b/2"]);
    check_listed(&["kv:default=w", "kv:default/b/=r"], "", &["b/1", "b/2"]);
    check_listed(&["kv:other=r", "kv:default/b/=r"], "", &["b/1", "b/2"]);
}

#[test]
fn what_may_not_be_read_is_not_listed_at_all() {
    let mut part = guest(&["kv:default/app/=r"]);
    check_denied(page(&mut part, "secret", (10, None)), "kv:default/secret=r");
    let own = part.0.open("_sys").expect_err("nobody may");
    assert_eq!(own, KvError::Denied("_sys is a bucket of the node's own".to_owned()));
    let mut blind = guest(&["kv:default=w"]);
    check_denied(page(&mut blind, "", (10, None)), "kv:default/=r");
    // A cursor that a guest makes up takes it no further.
    let forged = URL_SAFE_NO_PAD.encode("b");
    let rest = page(&mut part, "", (10, Some(forged))).expect("it is granted");
    assert_eq!(rest, KeyPage::default());
}

#[test]
fn a_grant_to_write_tells_nothing_of_what_is_there() {
    let (mut guest, bucket) = guest(&["kv:default=w"]);
    let set = |condition| Set { value: Bytes::new(), ttl_ms: None, condition };
    for condition in
        [Condition::IfAbsent, Condition::IfPresent, Condition::IfVersion("x".to_owned())]
    {
        check_denied(guest.set(&bucket, "a", set(condition)), "kv:default/a=r");
    }
    let by = Increment { delta: 1, ttl_ms: None };
    check_denied(guest.increment(&bucket, "a", by), "kv:default/a=r");
    assert_eq!(guest.delete(&bucket, "a"), Ok(false));
    assert_eq!(guest.delete(&bucket, "a"), Ok(false), "as where there is nothing");
    let found =
        guest.node().store().read(&bucket.bucket, b"a", guest.node().now(), |v| v.is_some());
    assert!(!found, "it is deleted all the same");
    guest.set(&bucket, "a", set(Condition::Always)).expect("it is granted");
}

/// What is written to it can be read afterwards.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_guest_cannot_forge_a_line_of_the_log() {
    let (guest, _) = guest(&["kv:default=r"]);
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        guest.logger().log(Level::Warn, "harmless\n2026-01-01 ERROR node is on fire \u{1b}[2J");
    });
    let bytes = lines.0.lock().expect("no panic").clone();
    let text = String::from_utf8(bytes).expect("text");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("handler says handler=\"test\" text=\"harmless\\n2026"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn a_guest_on_a_node_that_refuses_writes_still_reads() {
    let (mut guest, bucket) = guest(&["kv:default/=rw"]);
    let status = Status { readiness: Readiness::Superseded, ..Status::default() };
    guest.node().replication().publish_status(status);
    let set = Set { value: Bytes::from_static(b"2"), ttl_ms: None, condition: Condition::Always };
    let by = Increment { delta: 1, ttl_ms: None };
    let refused = |error| assert!(matches!(error, Some(KvError::Unavailable(_))), "{error:?}");
    refused(guest.set(&bucket, "a", set).err());
    refused(guest.delete(&bucket, "a").err());
    refused(guest.increment(&bucket, "a", by).err());
    assert_eq!(guest.get(&bucket, "a"), Ok(Some(Bytes::from_static(b"1"))));
}

async fn purge(guest: &mut GuestHost, scopes: &[PurgeScope]) -> Result<(), PurgeError> {
    Host::purge(guest, Purge { scopes: scopes.to_vec(), is_soft: false }).await
}

/// The records of purges that were written, by word and name.
fn purged(guest: &GuestHost) -> usize {
    let name = BucketName::new("_purge").expect("a name");
    let bucket = guest.node().store().find_bucket(&name).expect("it is made at start");
    let query = ListQuery { prefix: b"", after: b"", delimiter: None, limit: 100 };
    guest.node().store().list(&bucket, query, guest.node().now(), |_| ()).items.len()
}

#[tokio::test]
async fn what_may_not_be_purged_is_denied_by_name_and_nothing_is_purged() {
    let (mut guest, _) = guest(&["kv:default=rw", "purge:host=a.example", "purge:tag=news"]);
    let url = |text: &str| PurgeScope::Url(text.to_owned());
    let tag = |text: &str| PurgeScope::Tag(text.to_owned());
    let denied = |grant: &str| {
        let text = format!("{grant} is not granted; deploy the handler with --grant {grant}");
        Err(PurgeError::Denied(text))
    };
    let mixed = [tag("news"), url("https://b.example/x?y"), tag("sport")];
    assert_eq!(purge(&mut guest, &mixed).await, denied("purge:prefix=b.example/x?y"));
    assert_eq!(purge(&mut guest, &[tag("sport")]).await, denied("purge:tag=sport"));
    assert_eq!(purge(&mut guest, &[PurgeScope::All]).await, denied("purge"));
    assert!(matches!(purge(&mut guest, &[]).await, Err(PurgeError::Invalid(_))));
    assert!(matches!(purge(&mut guest, &[url("no url")]).await, Err(PurgeError::Invalid(_))));
    assert_eq!((purged(&guest), guest.traces.has_written()), (0, false));
    assert_eq!(purge(&mut guest, &[tag("news"), url("http://A.example/x")]).await, Ok(()));
    assert_eq!((purged(&guest), guest.traces.has_written()), (2, true));
}
