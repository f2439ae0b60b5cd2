//! What one node has written and another one takes, and what it must not take.

use super::*;
use crate::cache::Found;
use crate::config::{Config, FileConfig};
use atoll_core::clock::Hlc;
use atoll_core::http_cache::freshness::{Lifetime, Source};
use atoll_core::http_cache::purge::{Scope, Strength};
use atoll_core::http_cache::storing::Meta;
use http::{HeaderValue, StatusCode};

const KEY: &str = "example.com/a?b";
const MAKER: Maker = Maker { route: 7, version: (5, 2) };

/// A node with what it shares.
struct Side {
    shared: Arc<Shared>,
    cache: Arc<Cache>,
    body_bytes_max: u64,
}

fn side(bytes_max: usize) -> Side {
    let config = Config::resolve(FileConfig::default()).expect("the defaults");
    let node = Node::new(&config).expect("a node");
    let cache = Arc::new(Cache::new(8 << 20));
    let purges = Purges::new(&node, &cache).expect("a bucket");
    let shared = Shared::new(&node, &purges, bytes_max).expect("a bucket");
    shared.begin();
    Side { shared, cache, body_bytes_max: 1_000 }
}

fn all() -> Vary {
    Vary::Fields(Box::default())
}

fn by_language() -> Vary {
    Vary::Fields(Box::new([HeaderName::from_static("accept-language")]))
}

fn request(language: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("accept-language", HeaderValue::from_static(language));
    headers
}

impl Side {
    fn node(&self) -> &Arc<Node> {
        &self.shared.node
    }

    fn stored(&self, body: &str, fields: &[(&'static str, &'static str)]) -> Stored {
        let now_us = self.cache.now_us();
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        let now_ms = crate::cache::ms_of(now_us);
        Stored::new(Ingredients {
            key: KEY.into(),
            host_bytes: 11,
            route: MAKER.route,
            status: StatusCode::OK,
            headers,
            meta: Meta {
                responded_ms: now_ms,
                initial_age_ms: 5_000,
                lifetime: Lifetime { lifetime_ms: 60_000, source: Source::MaxAge },
                always_validate: false,
                never_stale: false,
                stale_if_disconnected: true,
                while_revalidate_ms: 0,
                if_error_ms: 0,
                has_validator: false,
            },
            exchanged: Exchanged { requested_ms: now_ms, responded_ms: now_ms },
            body: StoredBody::of(vec![Bytes::copy_from_slice(body.as_bytes())]),
            span: None,
            fetched_us: now_us,
        })
    }

    fn share(&self, stored: &Stored, vary: &Vary, request: &HeaderMap, marks: &Vector) -> Outcome {
        let body_bytes_max = self.body_bytes_max;
        let sharing = Sharing { maker: MAKER, body_bytes_max, marks, stored, vary, request };
        self.shared.share(&sharing).expect("there is room")
    }

    /// Receives all that the other side has in `bucket`, as by replication.
    fn receive(&self, other: &Side, bucket: &str) {
        let name = BucketName::new(bucket).expect("a name");
        let (from, to) = (other.node().store(), self.node().store());
        let theirs = from.open_bucket(&name).expect("a bucket");
        let ours = to.open_bucket(&name).expect("a bucket");
        let mut keys = Vec::new();
        from.scan(&theirs, (0, 10_000), other.node().now(), |key, _| keys.push(key.to_vec()));
        for key in keys {
            let entry = from.entry(&theirs, &key).expect("it is there");
            to.merge(&ours, &key, &entry).expect("there is room");
        }
    }

    /// Includes all that the other side has written, as replication tells it.
    fn include(&self, other: &Side) {
        let progress = self.node().replication().progress();
        let mut vector = Vector::clone(&progress.vector());
        vector.join(&other.shared.marks());
        progress.publish_vector(&vector);
    }

    fn take(&self, request: &HeaderMap) -> Option<String> {
        match self.shared.take((MAKER, KEY), request, None) {
            Taken::Stored(stored, vary) => {
                assert!(self.cache.store_taken(&stored, &vary, request));
                assert!(stored.meta.initial_age_ms >= 5_000, "it has its age");
                let pieces = stored.body.slice(0, stored.body_bytes - 1).expect("memory");
                Some(String::from_utf8(pieces.concat()).expect("text"))
            }
            Taken::Outdated => Some("outdated".to_owned()),
            Taken::Unlike | Taken::Nothing => None,
        }
    }
}

#[test]
fn what_one_node_has_fetched_another_takes_for_the_requests_that_it_answers() {
    let (one, two) = (side(1 << 20), side(1 << 20));
    let marks = one.shared.marks();
    for language in ["en", "de"] {
        let stored = one.stored(language, &[("vary", "Accept-Language")]);
        let outcome = one.share(&stored, &by_language(), &request(language), &marks);
        assert_eq!(outcome, Outcome::Written);
    }
    assert_eq!(two.take(&request("en")), None, "nothing has come yet");
    two.receive(&one, "_cache");
    assert_eq!(two.take(&request("en")).as_deref(), Some("en"));
    assert_eq!(two.take(&request("de")).as_deref(), Some("de"));
    assert_eq!(two.take(&request("fr")), None);
    assert!(matches!(two.cache.find(KEY, &request("en")), Found::Stored(..)));
    for other in [Maker { route: 8, ..MAKER }, Maker { version: (5, 3), ..MAKER }] {
        assert!(matches!(two.shared.take((other, KEY), &request("en"), None), Taken::Unlike));
    }
    assert!(matches!(
        two.shared.take((MAKER, "example.com/a"), &request("en"), None),
        Taken::Nothing
    ));
    // Where this node has one itself, the more recent one is used, and of two the one that lasts.
    let dated = |date: &'static str, lifetime_s: u64| {
        let mut own = two.stored("own", &[("date", date)]);
        own.meta.lifetime.lifetime_ms = lifetime_s * 1_000;
        matches!(two.shared.take((MAKER, KEY), &request("en"), Some(&own)), Taken::Stored(..))
    };
    assert!(dated("Sun, 22 Nov 2020 00:00:00 GMT", 6));
    assert!(!dated("Sun, 22 Nov 2020 00:00:00 GMT", 3_600));
    assert!(!dated("Sun, 22 Nov 2099 00:00:00 GMT", 6));
    // Without Vary there is one for all.
    one.share(&one.stored("any", &[]), &all(), &request("en"), &marks);
    two.receive(&one, "_cache");
    assert_eq!(two.take(&request("fr")).as_deref(), Some("any"));
}

#[test]
fn no_response_is_taken_that_was_fetched_without_knowing_of_a_purge() {
    let scopes = [
        Scope::All,
        Scope::Host("example.com".into()),
        Scope::Url(KEY.into()),
        Scope::Url("/a?b".into()),
        Scope::Prefix("example.com/".into()),
        Scope::Prefix("/a".into()),
        Scope::Tag("t".into()),
        Scope::Group("example.com t".into()),
        Scope::Place(sharing::place_of(KEY)),
    ];
    for scope in scopes {
        let (one, two) = (side(1 << 20), side(1 << 20));
        let before = one.shared.marks();
        let stored = one.stored("old", &[("cache-tag", "t")]);
        one.share(&stored, &all(), &HeaderMap::new(), &before);
        two.receive(&one, "_cache");
        let other = Scope::Tag("other".into());
        two.shared.purges.purge(&other, Strength::Hard).expect("written");
        assert_eq!(two.take(&HeaderMap::new()).as_deref(), Some("old"), "{scope:?}");
        // From when it was taken on it is covered like any other.
        two.shared.purges.purge(&scope, Strength::Hard).expect("written");
        assert!(matches!(two.cache.find(KEY, &HeaderMap::new()), Found::Miss), "{scope:?}");
        assert_eq!(two.take(&HeaderMap::new()).as_deref(), Some("outdated"), "{scope:?}");
        // Fetched once more, by a node that knows of it by now.
        one.receive(&two, "_purge");
        one.include(&two);
        let stored = one.stored("new", &[("cache-tag", "t")]);
        one.share(&stored, &all(), &HeaderMap::new(), &one.shared.marks());
        two.receive(&one, "_cache");
        assert_eq!(two.take(&HeaderMap::new()).as_deref(), Some("new"), "{scope:?}");
    }
}

#[test]
fn a_purge_that_could_not_be_written_holds_on_its_node_until_clocks_say_that_it_is_long_ago() {
    let (one, two, three) = (side(1 << 20), side(1 << 20), side(1 << 20));
    let share_at = |two: &Side, began_s: u64| {
        let mut stored = one.stored("text", &[]);
        stored.fetched_us += began_s * 1_000_000;
        one.share(&stored, &all(), &HeaderMap::new(), &one.shared.marks());
        two.receive(&one, "_cache");
        two.take(&HeaderMap::new())
    };
    assert_eq!(share_at(&two, 0).as_deref(), Some("text"));
    two.shared.purges.purge_here(&Scope::Prefix("/a".into()), Strength::Hard);
    for number in 0..10_001 {
        let scope = Scope::Tag(number.to_string().into());
        three.shared.purges.purge_here(&scope, Strength::Hard);
    }
    assert_eq!(share_at(&two, 1).as_deref(), Some("outdated"));
    assert_eq!(share_at(&three, 2).as_deref(), Some("outdated"), "any may have been forgotten");
    assert_eq!(share_at(&two, 50).as_deref(), Some("outdated"));
    assert_eq!(share_at(&two, 80).as_deref(), Some("text"));
    assert_eq!(share_at(&three, 81).as_deref(), Some("text"));
}

#[test]
fn a_page_made_from_a_key_is_taken_where_no_write_was_missed() {
    let (one, two) = (side(1 << 20), side(1 << 20));
    let name = BucketName::new("default").expect("a name");
    let write = |side: &Side| {
        let store = side.node().store();
        let bucket = store.open_bucket(&name).expect("a bucket");
        let edit = Edit::set(NewValue::Copy(b"x"), Deadline::NEVER);
        store.write(&bucket, b"news", side.node().now(), |_| (edit, ())).expect("there is room");
    };
    write(&one);
    two.receive(&one, "default");
    two.cache.follow_keys(two.node());
    let page = |text: &str| {
        let stored = one.stored(text, &[("atoll-keys", "default/news")]);
        one.share(&stored, &all(), &HeaderMap::new(), &one.shared.marks());
        two.receive(&one, "_cache");
    };
    page("first");
    assert_eq!(two.take(&HeaderMap::new()).as_deref(), Some("first"));
    write(&two);
    page("second");
    assert_eq!(two.take(&HeaderMap::new()).as_deref(), Some("outdated"));
    one.receive(&two, "default");
    one.include(&two);
    page("third");
    assert_eq!(two.take(&HeaderMap::new()).as_deref(), Some("third"));
}

#[test]
fn what_an_earlier_version_has_made_replaces_nothing_of_a_later_one() {
    let (node, none) = (side(1 << 20), HeaderMap::new());
    let share = |text: &str, version: (u64, u64)| {
        let (marks, stored) = (node.shared.marks(), node.stored(text, &[]));
        let maker = Maker { version, ..MAKER };
        let (vary, stored) = (all(), &stored);
        let sharing = Sharing {
            maker,
            body_bytes_max: 9,
            marks: &marks,
            stored,
            vary: &vary,
            request: &none,
        };
        node.shared.share(&sharing).expect("there is room")
    };
    assert_eq!(share("new", MAKER.version), Outcome::Written);
    assert_eq!(share("old", (5, 1)), Outcome::Kept, "although it began later");
    assert_eq!(node.take(&none).as_deref(), Some("new"));
    assert_eq!(share("newer", (5, 3)), Outcome::Written);
    assert_eq!(node.take(&none), None, "it is of a later version");
}

#[test]
fn what_is_not_for_others_or_has_no_room_is_not_there_and_nor_is_what_was_before() {
    let (one, none) = (HeaderMap::new(), all());
    let check = |side: &Side, stored: &Stored, want: Outcome| {
        // Before `stored`, which was made first: a newer one of another node would be kept.
        let mut short = side.stored("short", &[]);
        short.fetched_us -= 30_000_000;
        let marks = side.shared.marks();
        if side.shared.bytes_max > 1_000_000 {
            assert_eq!(side.share(&short, &none, &one, &marks), Outcome::Written);
        }
        assert_eq!(side.share(stored, &none, &one, &marks), want);
        assert_eq!(side.take(&one).as_deref(), (want == Outcome::Kept).then_some("short"));
    };
    let node = side(1 << 20);
    check(&node, &node.stored(&"x".repeat(1_001), &[]), Outcome::NotForOthers);
    let mut stale = node.stored("stale", &[]);
    stale.meta.lifetime.lifetime_ms = 5_000;
    check(&node, &stale, Outcome::NotForOthers);
    let mut asked = node.stored("asked", &[]);
    asked.meta.always_validate = true;
    check(&node, &asked, Outcome::NotForOthers);
    let mut older = node.stored("older", &[]);
    older.fetched_us -= 60_000_000;
    check(&node, &older, Outcome::Kept);
    let full = side(100);
    check(&full, &full.stored("full", &[]), Outcome::Full);
}

#[test]
fn a_record_of_another_version_or_a_torn_one_is_nothing() {
    let node = side(1 << 20);
    let marks = Vector::of_all([Uuid::from_u128(1)]);
    node.share(&node.stored("text", &[]), &all(), &HeaderMap::new(), &marks);
    let slot = slot(KEY, &[], &[]);
    let read =
        |view: Option<atoll_core::store::view::View<'_>>| view.map(|view| view.value().to_bytes());
    let (store, bucket) = (node.node().store(), &node.shared.bucket);
    let value = store.read(bucket, &slot, node.node().now(), read).expect("it is there");
    let deadline = Deadline::NEVER;
    for len in 0..value.len() {
        node.shared.write(&slot, value[..len].to_vec(), deadline).expect("there is room");
        assert!(
            matches!(node.shared.take((MAKER, KEY), &HeaderMap::new(), None), Taken::Nothing),
            "{len}"
        );
    }
    let mut other = value.to_vec();
    other[6] = b'9';
    node.shared.write(&slot, other, deadline).expect("there is room");
    assert!(matches!(node.shared.take((MAKER, KEY), &HeaderMap::new(), None), Taken::Nothing));
    assert_eq!(marks.get(Uuid::from_u128(1)).head, Hlc::MAX);
}

#[test]
fn a_long_body_lies_in_pieces_and_none_is_left_of_what_is_gone() {
    let none = HeaderMap::new();
    let one = Side { body_bytes_max: 1 << 20, ..side(1 << 20) };
    let two = side(1 << 20);
    let keys = || one.shared.bucket.stats().key_count;
    let text: String = (0..100_000_u32).map(|at| char::from(b'a' + (at / 7 % 26) as u8)).collect();
    let marks = one.shared.marks();
    let share = |text: &str| one.share(&one.stored(text, &[]), &all(), &none, &marks);
    for (bytes, want) in [(1, 1), (PIECE_BYTES, 2), (PIECE_BYTES + 1, 3), (100_000, 8)] {
        assert_eq!(share(&text[..bytes]), Outcome::Written);
        assert_eq!(keys(), want, "those of the one before are gone");
        two.receive(&one, "_cache");
        assert_eq!(two.take(&none).as_deref(), Some(&text[..bytes]));
    }
    let store = one.node().store();
    one.node().store().scan(&one.shared.bucket, (0, 100), one.node().now(), |_, view| {
        assert!(view.value().to_bytes().len() <= PIECE_BYTES, "none goes by itself");
    });
    // Fetched once more, and the same.
    let before = store.seq();
    assert_eq!(share(&text), Outcome::Written);
    assert!(store.seq() - before <= 8, "what is there is kept for longer");
    // One piece is another, or is not there.
    let slot = slot(KEY, &[], &[]);
    let (hash, count) = one.shared.pieces_of(&slot).expect("pieces");
    let (last, deadline) = (piece_slot(&slot, hash, count - 1), Deadline::NEVER);
    one.shared.write(&last, vec![b'x'; 100_000 % PIECE_BYTES], deadline).expect("there is room");
    assert!(matches!(one.shared.take((MAKER, KEY), &none, None), Taken::Nothing));
    one.shared.remove(&last).expect("there is room");
    assert!(matches!(one.shared.take((MAKER, KEY), &none, None), Taken::Nothing));
    assert_eq!(share(&text), Outcome::Written, "and is written again");
    assert_eq!(one.take(&none).as_deref(), Some(&*text));
    let mut stale = one.stored("stale", &[]);
    stale.meta.lifetime.lifetime_ms = 5_000;
    assert_eq!(one.share(&stale, &all(), &none, &marks), Outcome::NotForOthers);
    assert_eq!(keys(), 0);
}
