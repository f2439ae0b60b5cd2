//! What a deployment leaves behind when it fails, or when nobody waits for it.

use super::changes::Rerouting;
use super::deploy::Deployment;
use super::*;
use crate::cache::Cache;
use crate::config::{Config, FileConfig};
use atoll_core::hex::hex;
use atoll_core::manifest::{HandlerLimits, HandlerRecord};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::pin::pin;
use std::task::Poll;

fn handlers(toml: &str) -> Arc<Handlers> {
    let values: FileConfig = toml::from_str(toml).expect("the test's configuration");
    let config = Config::resolve(values).expect("the test's configuration");
    let node = Node::new(&config).expect("a node");
    let purges = Purges::new(&node, &Arc::new(Cache::new(0))).expect("a bucket");
    Handlers::new(purges, &Settings::of(&config)).expect("an engine")
}

/// A record of a handler that was granted nothing.
pub(super) fn record(name: &str, version: u64, digest: &str) -> HandlerRecord {
    HandlerRecord {
        name: name.to_owned(),
        version,
        digest: digest.to_owned(),
        component_bytes: 1,
        deployed_ms: 1,
        routes: vec![format!("/{name}")],
        grants: Vec::new(),
        config: BTreeMap::new(),
        world: String::new(),
        limits: HandlerLimits::default(),
        reuse: None,
        cache: false,
        replicate: false,
        pass_on_failure: false,
        restores: None,
        canary: None,
        watch: None,
    }
}

/// One of 60,000 bytes.
fn long_record(digest: &str) -> HandlerRecord {
    HandlerRecord { routes: vec!["/".repeat(60_000)], ..record("a", 1, digest) }
}

#[test]
fn a_component_without_its_record_is_not_kept() {
    let handlers = handlers("memory_max = \"4MiB\"");
    let (used, max) = (handlers.node.store().used_bytes(), 4 << 20);
    // The component just fits, and the record of 60,000 bytes does not.
    let component = Bytes::from(vec![1; max - used - 30_000]);
    let failed = handlers.records.keep(&long_record("d"), Some(component));
    assert!(matches!(failed, Err(WriteError::Full { .. })), "{failed:?}");
    assert!(handlers.records.component("d").is_none() && handlers.records.stamps().is_empty());
    let component = Bytes::from(vec![1; 1_000]);
    handlers.records.keep(&long_record("d"), Some(component)).expect("there is room now");
    assert!(handlers.records.component("d").is_some());
    assert_eq!(handlers.records.stamps().len(), 1);
}

fn wanted(name: &str, component: Bytes) -> Deployment {
    Deployment {
        name: name.to_owned(),
        routes: vec![format!("/{name}/*")],
        canary: None,
        watch: None,
        grants: vec!["kv:default=rw".to_owned()],
        config: BTreeMap::new(),
        limits: HandlerLimits::default(),
        reuse: None,
        cache: false,
        replicate: false,
        pass_on_failure: false,
        component,
    }
}

#[tokio::test]
async fn a_deployment_that_nobody_waits_for_ends_before_the_next_begins() {
    let handlers = handlers("");
    {
        let mut abandoned = pin!(handlers.deploy(wanted("hello", hello())));
        let begun = std::future::poll_fn(|context| Poll::Ready(abandoned.as_mut().poll(context)));
        assert!(begun.await.is_pending(), "it compiles");
    }
    assert_eq!(handlers.remove("hello").await, Ok(true), "it was live when its turn was over");
    handlers.settled().await;
}

#[test]
fn old_versions_go_with_their_components_and_shared_ones_stay() {
    let handlers = handlers("");
    let version = |version: u64, digest: &str| record("a", version, digest);
    let digests = ["first", "shared", "third", "fourth", "fifth", "shared", "seventh"];
    for (number, digest) in (1..).zip(digests) {
        let component = Bytes::from(digest.to_owned());
        handlers.records.keep(&version(number, digest), Some(component)).expect("room");
    }
    let kept = handlers.records.versions("a");
    assert_eq!(kept.iter().map(|kept| kept.version).collect::<Vec<_>>(), [3, 4, 5, 6, 7]);
    assert!(handlers.records.component("first").is_none());
    assert!(handlers.records.component("shared").is_some(), "version 6 has it");
    assert_eq!(handlers.records.forget("a"), Ok(true));
    assert!(digests.iter().all(|digest| handlers.records.component(digest).is_none()));
    assert_eq!(handlers.records.forget("a"), Ok(false));
}

fn hello() -> Bytes {
    guest("hello")
}

fn guest(name: &str) -> Bytes {
    let path = atoll_guests::build().expect("the guests").path(name);
    Bytes::from(std::fs::read(path).expect("a built component"))
}

/// A record as another node would have written it.
fn foreign(version: u64, digest: &str) -> HandlerRecord {
    record("a", version, digest)
}

#[tokio::test]
async fn a_component_may_come_after_its_record() {
    let (handlers, hello) = (handlers(""), hello());
    let late = foreign(1, &hex(&Sha256::digest(&hello)));
    handlers.records.keep(&late, None).expect("room");
    assert!(!handlers.take_over("a").await, "it is looked at again");
    assert!(handlers.get("a").is_none() && handlers.states("a").is_empty());
    handlers.records.keep(&late, Some(hello)).expect("room");
    assert!(handlers.take_over("a").await);
    assert_eq!(handlers.get("a").expect("it is live").record, late);
    let state = HandlerState::of(&late, None, None);
    assert_eq!(handlers.states("a"), [(handlers.node.name().to_owned(), state)]);
}

#[tokio::test]
async fn what_cannot_run_leaves_the_version_before_live_and_says_why() {
    #[track_caller]
    fn check(handlers: &Handlers, version: u64, want: &str) {
        assert_eq!(handlers.get("a").expect("it is live").record.version, 1);
        let (_, state) = handlers.states("a").pop().expect("it has said something");
        let error = state.error.expect("it has failed");
        assert!(state.version == version && error.contains(want), "{error}");
    }
    let (handlers, hello) = (handlers(""), hello());
    let first = foreign(1, &hex(&Sha256::digest(&hello)));
    handlers.records.keep(&first, Some(hello.clone())).expect("room");
    assert!(handlers.take_over("a").await);

    let tampered = foreign(2, &hex(&Sha256::digest("what was deployed")));
    handlers.records.keep(&tampered, Some(hello)).expect("room");
    assert!(handlers.take_over("a").await, "to look again would find the same");
    check(&handlers, 2, "did not arrive whole");

    let text = Bytes::from_static(b"no component");
    let broken = foreign(3, &hex(&Sha256::digest(&text)));
    handlers.records.keep(&broken, Some(text)).expect("room");
    assert!(handlers.take_over("a").await);
    check(&handlers, 3, "not a WebAssembly file");
}

#[tokio::test(start_paused = true)]
async fn a_component_that_does_not_come_is_missed_after_a_while() {
    let handlers = handlers("");
    let late = foreign(1, "ab");
    handlers.records.keep(&late, None).expect("room");
    let stop = tokio_util::sync::CancellationToken::new();
    let following = tokio::spawn(Arc::clone(&handlers).follow(stop.clone()));
    let pause = std::time::Duration::from_secs(20);
    tokio::time::sleep(pause).await;
    assert!(handlers.states("a").is_empty(), "it may come yet");
    tokio::time::sleep(pause).await;
    let (_, state) = handlers.states("a").pop().expect("it is said");
    let error = state.error.expect("it is missed");
    assert!(state.version == 1 && error.contains("has not arrived for 30 s"), "{error}");
    stop.cancel();
    following.await.expect("it ends");
}

#[tokio::test]
async fn what_needs_no_compilation_does_not_wait_for_one() {
    let (handlers, slow) = (handlers(""), guest("standard"));
    handlers.deploy(wanted("a", hello())).await.expect("it is deployed");
    let compiling = handlers.code.turns.of(&hex(&Sha256::digest(&slow))).await;
    let other = Arc::clone(&handlers);
    let deployment = tokio::spawn(async move { other.deploy(wanted("b", slow)).await });
    tokio::task::yield_now().await;

    let routes = Rerouting::Replace(vec!["/c".to_owned()]);
    let release = handlers.reroute("a", routes).await.expect("it has other routes");
    assert_eq!(release.record.version, 2);
    let release = handlers.roll_back("a", None).await.expect("it is back");
    assert_eq!((release.record.version, release.record.restores), (3, Some(1)));
    assert_eq!(handlers.remove("a").await, Ok(true));
    assert!(!deployment.is_finished() && handlers.get("b").is_none());
    drop(compiling);
    deployment.await.expect("it ends").expect("it is deployed");
    assert!(handlers.get("b").is_some());
}

#[tokio::test]
async fn what_is_removed_or_comes_from_elsewhere_while_another_compiles_is_followed() {
    let (handlers, slow, hello) = (handlers(""), guest("standard"), hello());
    let compiling = handlers.code.turns.of(&hex(&Sha256::digest(&slow))).await;
    let digest = hex(&Sha256::digest(&slow));
    let first = HandlerRecord { name: "b".to_owned(), ..foreign(1, &digest) };
    handlers.records.keep(&first, Some(slow)).expect("room");
    let stop = tokio_util::sync::CancellationToken::new();
    let following = tokio::spawn(Arc::clone(&handlers).follow(stop.clone()));
    tokio::task::yield_now().await;

    let second = foreign(1, &hex(&Sha256::digest(&hello)));
    handlers.records.keep(&second, Some(hello)).expect("room");
    let patience = std::time::Duration::from_secs(60);
    let live = async {
        while handlers.get("a").is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(patience, live).await.expect("it does not wait for the other");
    assert_eq!(handlers.records.forget("b"), Ok(true));
    drop(compiling);
    // It ends after what waited for the same.
    drop(handlers.code.turns.of(&digest).await);
    assert!(handlers.take_over("a").await);
    assert!(handlers.get("b").is_none() && handlers.states("b").is_empty());
    stop.cancel();
    following.await.expect("it ends");
    handlers.settled().await;
}
