//! What is found again, and what no longer is.

use super::stored::Ingredients;
use super::*;
use crate::cache::body::StoredBody;
use atoll_core::http_cache::freshness::{Exchanged, Lifetime, Source};
use atoll_core::http_cache::storing::Meta;
use bytes::Bytes;
use http::{HeaderValue, StatusCode};

const KEY: &str = "example.com/a";

fn stored(cache: &Arc<Cache>, tag: &'static str) -> Arc<Stored> {
    let mut headers = HeaderMap::new();
    headers.insert("cache-tag", HeaderValue::from_static(tag));
    Arc::new(Stored::new(Ingredients {
        key: KEY.into(),
        host_bytes: 11,
        status: StatusCode::OK,
        headers,
        meta: Meta {
            responded_ms: 0,
            initial_age_ms: 0,
            lifetime: Lifetime { lifetime_ms: 1_000, source: Source::MaxAge },
            always_validate: false,
            never_stale: false,
            stale_if_disconnected: true,
            while_revalidate_ms: 0,
            if_error_ms: 0,
            has_validator: false,
        },
        exchanged: Exchanged { requested_ms: 0, responded_ms: 0 },
        body: StoredBody::of(vec![Bytes::from_static(b"0123"), Bytes::from_static(b"456789")]),
        span: None,
        fetched_us: cache.now_us(),
    }))
}

fn request(value: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("foo", HeaderValue::from_static(value));
    headers
}

fn varies() -> Vary {
    Vary::Fields(Box::new([HeaderName::from_static("foo")]))
}

const ALL: fn() -> Vary = || Vary::Fields(Box::default());

/// Sleeps until the clock shows another microsecond.
fn tick(cache: &Arc<Cache>) {
    let now_us = cache.now_us();
    while cache.now_us() == now_us {
        std::hint::spin_loop();
    }
}

fn is_found(cache: &Arc<Cache>, request: &HeaderMap) -> bool {
    matches!(cache.find(KEY, request), Found::Stored(..))
}

#[test]
fn variants_are_found_apart_and_forgotten_together() {
    let cache = Arc::new(Cache::new(1 << 20));
    for value in ["1", "2"] {
        assert!(cache.store(&stored(&cache, "t"), &varies(), &request(value)));
    }
    assert!(is_found(&cache, &request("1")) && is_found(&cache, &request("2")));
    assert!(matches!(cache.find(KEY, &request("3")), Found::VaryMiss));
    tick(&cache);
    cache.invalidate(KEY);
    assert!(matches!(cache.find(KEY, &request("1")), Found::Miss));
    tick(&cache);
    assert!(cache.store(&stored(&cache, "t"), &varies(), &request("1")));
    assert!(!is_found(&cache, &request("2")), "it was of the time before");
}

#[test]
fn what_was_fetched_before_a_purge_or_an_invalidation_is_neither_kept_nor_stored() {
    let cache = Arc::new(Cache::new(1 << 20));
    let nothing = HeaderMap::new();
    let before = stored(&cache, "t");
    assert!(cache.store(&before, &ALL(), &nothing));
    cache.purge(&Scope::Tag("t".into()), Strength::Hard);
    assert!(!is_found(&cache, &nothing));
    assert!(!cache.store(&before, &ALL(), &nothing));
    tick(&cache);
    let after = stored(&cache, "t");
    assert!(cache.store(&after, &ALL(), &nothing) && is_found(&cache, &nothing));
    cache.invalidate(KEY);
    assert!(!cache.store(&after, &ALL(), &nothing) && !is_found(&cache, &nothing));
}

#[test]
fn a_soft_purge_is_seen_at_the_next_look_and_an_older_response_replaces_no_newer_one() {
    let cache = Arc::new(Cache::new(1 << 20));
    let nothing = HeaderMap::new();
    let old = stored(&cache, "old");
    tick(&cache);
    let new = stored(&cache, "new");
    assert!(cache.store(&new, &ALL(), &nothing));
    assert!(!cache.store(&old, &ALL(), &nothing));
    cache.purge(&Scope::Tag("old".into()), Strength::Soft);
    assert!(matches!(cache.find(KEY, &nothing), Found::Stored(_, Purged::No)));
    cache.purge(&Scope::Tag("new".into()), Strength::Soft);
    assert!(matches!(cache.find(KEY, &nothing), Found::Stored(_, Purged::Softly)));
}

#[test]
fn a_mark_lets_requests_pass_and_takes_the_place_of_nothing_stored() {
    let cache = Arc::new(Cache::new(1 << 20));
    cache.mark_pass(KEY);
    assert!(matches!(cache.find(KEY, &HeaderMap::new()), Found::Pass));
    assert!(cache.store(&stored(&cache, "t"), &ALL(), &HeaderMap::new()));
    cache.mark_pass(KEY);
    assert!(is_found(&cache, &HeaderMap::new()));
}

#[test]
fn the_budget_bounds_what_is_kept() {
    let cache = Arc::new(Cache::new(100_000));
    for number in 0..1_000 {
        let key: Box<[u8]> = format!("{number}").as_bytes().into();
        cache.slots.insert(key, Slot::Stored(stored(&cache, "t")));
    }
    assert!(cache.slots.weight() <= 100_000 && !cache.slots.is_empty());
}

#[test]
fn a_slice_of_a_body_crosses_its_pieces() {
    let cache = Arc::new(Cache::new(0));
    let stored = stored(&cache, "t");
    let slice = |first, last| stored.body.slice(first, last).expect("memory").concat();
    assert_eq!(slice(0, 9), b"0123456789");
    assert_eq!(slice(2, 5), b"2345");
    assert_eq!(slice(4, 4), b"4");
    assert_eq!(slice(9, 9), b"9");
}

/// What a request is that has found nothing.
fn join(cache: &Arc<Cache>) -> Role {
    cache.join((KEY, &HeaderMap::new()), b"f".to_vec(), 0, |_| true)
}

#[test]
fn who_comes_as_a_fetch_ends_finds_what_it_has_stored_and_does_not_fetch_again() {
    let cache = Arc::new(Cache::new(1 << 20));
    let request = HeaderMap::new();
    let Role::Leader(lead) = join(&cache) else { panic!("nobody else") };
    // Another one has looked, and then:
    assert!(matches!(cache.find(KEY, &request), Found::Miss));
    let first = stored(&cache, "a");
    assert!(cache.store(&first, &ALL(), &request));
    drop(lead);
    assert!(matches!(join(&cache), Role::Late));
    assert!(!cache.is_under_way(b"f"));
    // One that has seen it has a reason to fetch.
    let seen = |us| cache.join((KEY, &request), b"f".to_vec(), us, |_| true);
    assert!(matches!(seen(first.fetched_us), Role::Leader(_)));
    tick(&cache);
    assert!(cache.store(&stored(&cache, "b"), &ALL(), &request));
    assert!(matches!(seen(first.fetched_us), Role::Late));
    cache.invalidate(KEY);
    assert!(matches!(seen(first.fetched_us), Role::Leader(_)));
}

#[tokio::test]
async fn who_waits_for_a_fetch_that_is_given_up_is_told_so() {
    let cache = Arc::new(Cache::new(0));
    let Role::Leader(lead) = join(&cache) else { panic!("nobody else") };
    let Role::Follower(waiting) = join(&cache) else { panic!("one leads") };
    assert!(cache.is_under_way(b"f"));
    drop(lead);
    assert!(flight::landing(waiting).await.is_none());
    assert!(!cache.is_under_way(b"f"));
}

#[test]
fn who_comes_behind_the_head_of_a_response_that_is_not_for_him_fetches_himself() {
    let cache = Arc::new(Cache::new(0));
    let refuses = || cache.join((KEY, &HeaderMap::new()), b"f".to_vec(), 0, |_| false);
    let Role::Leader(old) = join(&cache) else { panic!("nobody else") };
    assert!(matches!(refuses(), Role::Follower(_)), "it may yet be for him");
    old.land(Landing::Private);
    assert!(matches!(join(&cache), Role::Follower(_)));
    let Role::Leader(new) = refuses() else { panic!("it is not for him") };
    drop(old);
    assert!(matches!(join(&cache), Role::Follower(_)), "the new one is joined");
    drop(new);
    assert!(!cache.is_under_way(b"f"));
}

#[tokio::test]
async fn a_fetch_that_began_before_a_purge_is_not_joined_and_its_end_ends_no_other() {
    let cache = Arc::new(Cache::new(0));
    let Role::Leader(old) = join(&cache) else { panic!("nobody else") };
    cache.purge(&Scope::All, Strength::Soft);
    let Role::Leader(new) = join(&cache) else { panic!("a purge between") };
    drop(old);
    assert!(matches!(join(&cache), Role::Follower(_)));
    new.land(Landing::Private);
}
