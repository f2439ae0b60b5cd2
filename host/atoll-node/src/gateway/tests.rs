//! The gateway with a handler, without a socket.

use super::*;
use crate::cache::Cache;
use crate::cache::purges::Purges;
use crate::cache::replicated::Shared;
use crate::config::{Config, FileConfig};
use crate::handlers::Settings;
use crate::handlers::deploy::Deployment;
use atoll_core::manifest::HandlerLimits;
use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::pin;
use std::task::Poll;
use tower::ServiceExt as _;

/// A gateway whose handler `hello` answers one request at once, at every path.
async fn gateway() -> impl listen::Door {
    let config = Config::resolve(FileConfig::default()).expect("the defaults");
    let node = Node::new(&config).expect("a node");
    let cache = Arc::new(Cache::new(0));
    let purges = Purges::new(&node, &cache).expect("a bucket");
    let handlers = Handlers::new(Arc::clone(&purges), &Settings::of(&config)).expect("an engine");
    let path = atoll_guests::build().expect("the guests").path("hello");
    let wanted = Deployment {
        name: "hello".to_owned(),
        routes: vec!["/*".to_owned()],
        canary: None,
        watch: None,
        grants: Vec::new(),
        config: BTreeMap::new(),
        limits: HandlerLimits { concurrency: 1, ..HandlerLimits::default() },
        reuse: None,
        cache: false,
        replicate: false,
        pass_on_failure: false,
        component: Bytes::from(std::fs::read(path).expect("a built component")),
    };
    handlers.deploy(wanted).await.expect("it is deployed");
    let shared = Shared::new(&node, &purges, 0).expect("a bucket");
    let proxy = Proxy::new(&node, (&shared, &handlers), &[], None).expect("no routes");
    let telling = Telling { request_log: None, tracer: None };
    service(&node, handlers, proxy, telling).expect("no log to open")
}

fn request(headers: &[(&str, &str)], body: Body) -> Request {
    let builder = Request::builder().uri("/hello/x");
    let builder =
        headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
    builder.body(body).expect("a request")
}

#[tokio::test]
async fn a_body_on_its_way_keeps_no_place_of_the_handler() {
    let router = gateway().await;
    let endless = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let mut slow = pin!(router.clone().oneshot(request(&[("host", "a")], endless)));
    let early = std::future::poll_fn(|context| Poll::Ready(slow.as_mut().poll(context))).await;
    assert!(early.is_pending(), "its body has not come");
    let quick = router.oneshot(request(&[("host", "a")], Body::empty())).await;
    assert_eq!(quick.expect("an answer").status(), StatusCode::OK);
}

#[tokio::test]
async fn a_host_that_is_none_is_refused_before_any_route() {
    let router = gateway().await;
    for headers in [&[("host", "a"), ("host", "b")][..], &[("host", "user@a")], &[]] {
        let answer = router.clone().oneshot(request(headers, Body::empty())).await;
        assert_eq!(answer.expect("an answer").status(), StatusCode::BAD_REQUEST, "{headers:?}");
    }
    let answer = router.oneshot(request(&[("host", "a.:80")], Body::empty())).await;
    assert_eq!(answer.expect("an answer").status(), StatusCode::OK);
}

#[test]
fn an_answer_to_head_has_the_length_of_what_get_would_bring_if_that_has_one() {
    for (status, length) in [(200, Some("5")), (404, Some("5")), (204, None), (304, None)] {
        let text = if length.is_some() { "hello" } else { "" };
        let mut answer = Response::new(Body::from(text));
        *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
        let answer = without_body(&Method::HEAD, answer);
        let got = answer.headers().get(CONTENT_LENGTH).map(|bytes| bytes.to_str().expect("digits"));
        assert_eq!(got, length, "{status}");
    }
}

#[test]
fn a_route_is_suggested_where_there_can_be_one() {
    for (method, target, is_suggested) in
        [("GET", "/a", true), ("OPTIONS", "*", false), ("CONNECT", "h:80", false)]
    {
        let request = Request::builder().method(method).uri(target).body(Body::empty());
        let problem = no_route(&request.expect("a request"));
        assert_eq!(problem.detail().contains("--route"), is_suggested, "{}", problem.detail());
    }
}
