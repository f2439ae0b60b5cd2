//! Shielding: one node of a cluster fetches for all, for each key another one.
//!
//! A node that lacks a response asks the key's owner at its gateway, and the upstream itself where
//! the owner does not answer. A request that comes from a node is never passed to another one, so no
//! views of the cluster, however different, make a loop. What the owner has may be older than a
//! purge that the asking node knows: it says how long ago its fetch began, and the asking node takes
//! the response for one that it has fetched itself at that time. So a purge covers it as any other,
//! and no clocks are compared.
//!
//! The owner looks at the request as it came to the node that asks, through a filter as well: where it
//! finds another key, route or version of the filter than that node, it does not say when its fetch
//! began, and the response is not taken. A client cannot pass for a node: who asks names a secret of
//! the owner's, which lies in the store.

use super::fetch::Asked;
use super::records::ShieldFigures;
use super::{Proxy, Route};
use crate::node::Node;
use crate::trace;
use crate::trace::attribute::{self, text};
use crate::trace::span::Kind;
use crate::upstream::limits::{BETWEEN_BYTES_WAIT, FIRST_BYTE_WAIT};
use crate::upstream::{Address, ResponseBody, Settings, Times, Upstream, UpstreamError};
use anyhow::Context as _;
use atoll_core::entry::Deadline;
use atoll_core::key::BucketName;
use atoll_core::replica::status::{MemberStatus, Readiness, Status};
use atoll_core::store::Bucket;
use atoll_core::store::edit::{Edit, NewValue};
use axum::body::Body;
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// On a request of a node to another one the secret of that one, and what the response is to be for;
/// on its answer how many microseconds before that request the fetch of it began.
pub(super) const SHIELD: HeaderName = HeaderName::from_static("atoll-shield");

/// A node that was not heard of for longer is not asked, nor waited for.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// The same where no link leads there, and others tell of it.
const HEARSAY_SILENCE_MAX: Duration = Duration::from_secs(15);
/// How often it is looked whether the owner that is waited for is still there.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Longest wait for a connection to another node.
const CONNECT_WAIT: Duration = Duration::from_millis(500);
/// How often it is tried to say where this node's gateway is.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(500);

/// A request is one of a node, and what its response is to be for: an extension of requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct ForNode {
    purpose: u64,
}

/// When the fetch began of what an answer was made from, in microseconds: an extension of answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct FetchedUs(pub(super) u64);

/// The nodes that fetch for one another.
#[derive(Debug)]
pub(super) struct Shield {
    node: Arc<Node>,
    /// Where others reach this node's gateway.
    own: Authority,
    /// Where the gateways of all nodes are, by name.
    gateways: Arc<Bucket>,
    ways: Mutex<HashMap<String, Way>>,
    pub(super) figures: ShieldFigures,
}

/// The connections to a node's gateway.
#[derive(Clone, Debug)]
struct Way {
    authority: Authority,
    upstream: Arc<Upstream>,
}

/// What a node tells the others of its gateway.
#[derive(Clone, PartialEq, Eq)]
struct Gateway {
    authority: String,
    /// Known to who reads the store.
    secret: String,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gateway").field(&self.authority).finish()
    }
}

impl Gateway {
    fn parse(text: &str) -> Option<Gateway> {
        let (authority, secret) = text.split_once(' ')?;
        Some(Gateway { authority: authority.to_owned(), secret: secret.to_owned() })
    }
}

/// A node that fetches for this one.
pub(super) struct Owner {
    name: String,
    secret: String,
    way: Way,
}

impl Shield {
    /// Knows no other node yet.
    pub(super) fn new(node: &Arc<Node>, own: Authority) -> anyhow::Result<Shield> {
        let name = BucketName::new("_gateways").context("the name of the bucket of gateways")?;
        let gateways = node.store().open_bucket(&name)?;
        let figures = ShieldFigures::register(node.metrics());
        Ok(Shield { node: Arc::clone(node), own, gateways, ways: Mutex::default(), figures })
    }

    /// Tells the other nodes where this one's gateway is, once it may write.
    pub(super) async fn announce(&self, shutdown: CancellationToken) {
        let mut tries = interval(ANNOUNCE_EVERY);
        let own = self.own.as_str();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tries.tick() => {}
            }
            if self.gateway_of(self.node.name()).is_some_and(|told| told.authority == own) {
                return;
            }
            let mut secret = [0; 16];
            if let Err(error) = getrandom::fill(&mut secret) {
                warn!(%error, "the system gives no random numbers; other nodes cannot ask this one");
                continue;
            }
            let value = format!("{own} {:032x}", u128::from_ne_bytes(secret));
            let value = NewValue::Owned(value.into_bytes());
            let edit = Edit::set(value, Deadline::NEVER);
            let key = self.node.name().as_bytes();
            let now = self.node.now();
            if let Err(error) = self.node.store().write(&self.gateways, key, now, |_| (edit, ())) {
                warn!(%error, "other nodes cannot be told where this node's gateway is yet");
            }
        }
    }

    fn gateway_of(&self, name: &str) -> Option<Gateway> {
        let now = self.node.now();
        self.node.store().read(&self.gateways, name.as_bytes(), now, |view| {
            Gateway::parse(std::str::from_utf8(&view?.value().to_bytes()).ok()?)
        })
    }

    /// What a node that knows this one's secret asks for.
    fn asked_by_a_node(&self, field: &HeaderValue) -> Option<ForNode> {
        let (secret, purpose) = field.to_str().ok()?.split_once(' ')?;
        let own = self.gateway_of(self.node.name())?;
        let purpose = u64::from_str_radix(purpose, 16).ok()?;
        (own.secret == secret).then_some(ForNode { purpose })
    }

    /// The node that fetches `key` for all; `None` is this one.
    pub(super) fn owner(&self, key: &str) -> Option<Owner> {
        let status = self.node.replication().status();
        let own = self.node.name();
        let mut best: (u64, Option<(String, Way, String)>) = (weight(own, key), None);
        let others = status.members.iter().filter(|member| member.name != own);
        for member in others.filter(|member| is_there(&status, member)) {
            let Some((way, secret)) = self.way(&member.name) else { continue };
            let weight = weight(&member.name, key);
            if (weight, Some(&member.name)) > (best.0, best.1.as_ref().map(|(name, ..)| name)) {
                best = (weight, Some((member.name.clone(), way, secret)));
            }
        }
        best.1.map(|(name, way, secret)| Owner { name, secret, way })
    }

    fn way(&self, name: &str) -> Option<(Way, String)> {
        let Gateway { authority, secret } = self.gateway_of(name)?;
        let authority: Authority = authority.parse().ok()?;
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(way) = ways.get(name).filter(|way| way.authority == authority) {
            return Some((way.clone(), secret));
        }
        let settings = Settings {
            addresses: vec![Address { scheme: Scheme::HTTP, authority: authority.clone() }],
            times: Times {
                connect: CONNECT_WAIT,
                first_byte: FIRST_BYTE_WAIT * 2,
                between_bytes: BETWEEN_BYTES_WAIT,
            },
            own_host: false,
            checks: None,
        };
        let way = Way { authority, upstream: Arc::new(Upstream::new(settings).ok()?) };
        ways.insert(name.to_owned(), way.clone());
        Some((way, secret))
    }

    /// Asks `owner` for a response to be used for `purpose`, for as long as it is there. `None` where the upstream has to be asked instead;
    /// else the response and how many microseconds before the request its fetch began.
    pub(super) async fn ask(
        &self,
        owner: &Owner,
        (mut parts, purpose): (Parts, u64),
    ) -> Option<(http::Response<ResponseBody>, u64)> {
        let mut span =
            trace::descend(&mut parts.extensions, Kind::Internal, || "shield".to_owned());
        if let Some(span) = &mut span {
            span.set(attribute::SHIELD_NODE, text(owner.name.as_str()));
        }
        let mut tell = |outcome: &str| {
            if let Some(span) = &mut span {
                span.set(attribute::SHIELD_OUTCOME, text(outcome));
            }
        };
        let field = format!("{} {purpose:016x}", owner.secret);
        parts.headers.insert(SHIELD, HeaderValue::try_from(field).ok()?);
        let request = http::Request::from_parts(parts, Body::empty());
        let answer = tokio::select! {
            answer = owner.way.upstream.send(request) => answer,
            () = self.gone(&owner.name) => Err(UpstreamError::Late),
        };
        let Ok(mut response) = answer else {
            self.figures.failed.inc();
            tell("failed");
            return None;
        };
        // Without it the other node has no such route, or has not got the response itself.
        let ago =
            response.headers_mut().remove(&SHIELD).and_then(|ago| ago.to_str().ok()?.parse().ok());
        match ago {
            Some(ago_us) => {
                self.figures.answered.inc();
                tell("answered");
                Some((response, ago_us))
            }
            None => {
                self.figures.refused.inc();
                tell("refused");
                None
            }
        }
    }

    /// Completes once a node is no longer there.
    async fn gone(&self, name: &str) {
        loop {
            sleep(LOOK_EVERY).await;
            let status = self.node.replication().status();
            let mut members = status.members.iter().filter(|member| member.name == name);
            if !members.any(|member| is_there(&status, member)) {
                return;
            }
        }
    }
}

/// The larger, the more a key is this node's (rendezvous hashing): a node that goes or comes moves
/// its own keys alone.
fn weight(name: &str, key: &str) -> u64 {
    xxh3_64_with_seed(key.as_bytes(), xxh3_64_with_seed(name.as_bytes(), 0))
}

/// Whether a node can be expected to answer.
fn is_there(status: &Status, member: &MemberStatus) -> bool {
    let link = status.links.iter().find(|link| link.origin == member.origin);
    let is_heard = match link {
        Some(link) => link.silent_ms <= SILENCE_MAX.as_millis() as u64,
        None => !member.linked && member.silent_ms <= HEARSAY_SILENCE_MAX.as_millis() as u64,
    };
    is_heard && member.readiness == Readiness::Ready
}

impl Asked {
    /// Whether another node asks.
    pub(super) fn is_for_a_node(&self) -> bool {
        self.parts.extensions.get::<ForNode>().is_some()
    }

    /// What the response is for: the same on two nodes where they would store the same.
    pub(super) fn purpose(&self, route: &Route) -> u64 {
        let (deployed_ms, number) = self.version(route);
        let text = format!("{:x} {deployed_ms} {number} {}", route.hash, self.key);
        xxh3_64_with_seed(text.as_bytes(), 0)
    }

    /// Whether another node asks for what this one would store.
    pub(super) fn is_for_the_purpose(&self, route: &Route) -> bool {
        let asked = self.parts.extensions.get::<ForNode>();
        asked.is_some_and(|asked| asked.purpose == self.purpose(route))
    }
}

/// Whether another node asks.
pub(super) fn is_of_a_node(parts: &Parts) -> bool {
    parts.extensions.get::<ForNode>().is_some()
}

impl Proxy {
    /// Notes whether another node asks. What a client says of that means nothing.
    pub(super) fn note_node(&self, parts: &mut Parts) {
        if let Some(field) = parts.headers.remove(&SHIELD)
            && let Some(shield) = self.shield.get()
            && let Some(asked) = shield.asked_by_a_node(&field)
        {
            parts.extensions.insert(asked);
        }
    }

    /// Fetches for others, and lets others fetch, from now on. Returns whether it can be done: this
    /// node has to know where others reach it.
    pub(super) fn begin_shield(&self) -> anyhow::Result<bool> {
        let Some(own) = self.own_gateway.clone() else { return Ok(false) };
        if self.shield.get().is_none() {
            let shield = Arc::new(Shield::new(&self.node, own)?);
            if self.shield.set(Arc::clone(&shield)).is_ok() {
                let end = self.announcing.clone();
                self.fetches.spawn(async move { shield.announce(end).await });
            }
        }
        Ok(true)
    }
}

/// Tells the node that has asked how long before its request, which came at `asked_us`, the fetch of
/// `answer` began. Answers that came of none do not say.
pub(super) fn tell_age(headers: &mut HeaderMap, fetched: Option<&FetchedUs>, asked_us: u64) {
    if let Some(FetchedUs(fetched_us)) = fetched {
        headers.insert(SHIELD, HeaderValue::from(asked_us.saturating_sub(*fetched_us)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_owns_its_share_and_one_that_goes_moves_its_own_keys_alone() {
        let names = ["one", "two", "three"];
        let owner = |names: &[&'static str], key: &str| {
            *names.iter().max_by_key(|name| weight(name, key)).expect("a node")
        };
        let mut counts = HashMap::new();
        for number in 0..3_000 {
            let key = format!("example.com/{number}");
            let all = owner(&names, &key);
            *counts.entry(all).or_insert(0) += 1;
            let left = owner(&names[..2], &key);
            assert!(all == left || all == "three", "{key} moved from {all} to {left}");
        }
        assert!(counts.values().all(|count| (900..1_100).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_gateway_is_told_with_its_secret() {
        let want = Gateway { authority: "a:1".to_owned(), secret: "b".to_owned() };
        assert_eq!(Gateway::parse("a:1 b"), Some(want));
        assert_eq!(Gateway::parse("a:1"), None);
    }

    #[test]
    fn the_age_is_counted_from_the_request_and_never_negative() {
        let check = |fetched: Option<u64>, want: Option<&str>| {
            let mut headers = HeaderMap::new();
            tell_age(&mut headers, fetched.map(FetchedUs).as_ref(), 1_000);
            assert_eq!(headers.get(&SHIELD).map(|value| value.to_str().expect("text")), want);
        };
        check(Some(400), Some("600"));
        check(Some(1_200), Some("0"));
        check(None, None);
    }
}
