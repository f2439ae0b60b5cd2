//! What a deployment leaves behind when it fails, or when nobody waits for it.

use super::*;
use crate::config::{Config, FileConfig};
use std::pin::pin;
use std::task::Poll;

fn handlers(toml: &str) -> Arc<Handlers> {
    let values: FileConfig = toml::from_str(toml).expect("the test's configuration");
    let config = Config::resolve(values).expect("the test's configuration");
    Handlers::new(Node::new(&config).expect("a node")).expect("an engine")
}

fn record(digest: &str) -> HandlerRecord {
    HandlerRecord {
        name: "a".to_owned(),
        version: 1,
        digest: digest.to_owned(),
        component_bytes: 1,
        deployed_ms: 1,
        routes: vec!["/".repeat(60_000)],
        grants: Vec::new(),
        config: BTreeMap::new(),
        world: String::new(),
        limits: HandlerLimits::default(),
    }
}

impl Handlers {
    fn holds(&self, key: &str) -> bool {
        let store = self.node.store();
        store.read(&self.records, key.as_bytes(), self.node.now(), |view| view.is_some())
    }
}

#[test]
fn a_component_without_its_record_is_not_kept() {
    let handlers = handlers("memory_max = \"4MiB\"");
    let (used, max) = (handlers.node.store().used_bytes(), 4 << 20);
    // The component just fits, and the record of 60,000 bytes does not.
    let component = Bytes::from(vec![1; max - used - 30_000]);
    let failed = handlers.keep(&record("d"), component);
    assert!(matches!(failed, Err(DeployError::Store(WriteError::Full { .. }))), "{failed:?}");
    assert!(!handlers.holds("blob/d"));
    handlers.keep(&record("d"), Bytes::from(vec![1; 1_000])).expect("there is room now");
    assert!(handlers.holds("blob/d") && handlers.holds("handler/a"));
}

#[tokio::test]
async fn a_deployment_that_nobody_waits_for_ends_before_the_next_begins() {
    let handlers = handlers("");
    let path = atoll_guests::build().expect("the guests").path("hello");
    let wanted = Deployment {
        name: "hello".to_owned(),
        routes: vec!["/*".to_owned()],
        grants: Vec::new(),
        config: BTreeMap::new(),
        limits: HandlerLimits::default(),
        component: Bytes::from(std::fs::read(path).expect("a built component")),
    };
    {
        let mut abandoned = pin!(handlers.deploy(wanted));
        let begun = std::future::poll_fn(|context| Poll::Ready(abandoned.as_mut().poll(context)));
        assert!(begun.await.is_pending(), "it compiles");
    }
    assert_eq!(handlers.remove("hello").await, Ok(true), "it was live when its turn was over");
    handlers.settled().await;
}
