//! Spans, at a collector that reads what it is sent: who is whose parent, across nodes, and what a
//! collector that is down costs.

use super::{deploy, figure};
use crate::cache::origin::{Act, Message, Origin, ask, response};
use crate::node::{TestNode, wait_until};
use crate::pace::Pace;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{Span, status};
use prost::Message as _;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector of traces.
struct Collector(Origin);

/// A span as it has arrived.
#[derive(Clone, Debug)]
struct Told {
    node: String,
    name: String,
    kind: SpanKind,
    trace: String,
    id: String,
    parent: String,
    is_error: bool,
    ns: u64,
    attributes: BTreeMap<String, String>,
}

impl Collector {
    fn start() -> Collector {
        Collector(Origin::start(|_, _| {
            Act::Send(response(200, &[("Content-Type", "application/x-protobuf")], ""))
        }))
    }

    /// Variables for a node whose spans it is to get, at once.
    fn environment(&self) -> Vec<(String, String)> {
        environment(self.0.address)
    }

    /// What has come so far.
    fn told(&self) -> Vec<Told> {
        self.0.seen("/v1/traces").iter().flat_map(told).collect()
    }

    /// Waits until the span of this name has come from this node; there is one.
    #[track_caller]
    fn wait_for(&self, node: &str, name: &str) -> Told {
        let found = |told: &Told| told.node == node && told.name == name;
        let all = wait_until(&format!("{name} of {node} in {:#?}", self.told()), || {
            let all: Vec<Told> = self.told().into_iter().filter(found).collect();
            (!all.is_empty()).then_some(all)
        });
        assert_eq!(all.len(), 1, "{all:#?}");
        all[0].clone()
    }
}

impl Told {
    fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

fn environment(collector: SocketAddr) -> Vec<(String, String)> {
    let endpoint = format!("http://{collector}");
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b"),
        ("OTEL_SERVICE_NAME", "edge"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
    ];
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.as_ref().and_then(|it| it.value.clone()) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    };
    pairs.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

fn told(request: &Message) -> Vec<Told> {
    assert_eq!(request.field("content-type"), "application/x-protobuf");
    assert_eq!(request.field("x-tenant"), "a b");
    let batch = ExportTraceServiceRequest::decode(&request.body[..]).expect("OTLP");
    let spans = batch.resource_spans.into_iter().flat_map(|of_node| {
        let resource = attributes(&of_node.resource.expect("it says who it is").attributes);
        assert_eq!(resource["service.name"], "edge");
        assert_eq!(resource["deployment.environment.name"], "test");
        let node = resource["service.instance.id"].clone();
        let spans = of_node.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.map(move |span| of_span(&node, &span)).collect::<Vec<_>>()
    });
    spans.collect()
}

fn of_span(node: &str, span: &Span) -> Told {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(span.trace_id.len() == 16 && span.span_id.len() == 8, "{span:?}");
    assert!(span.start_time_unix_nano > 1_700_000_000_000_000_000, "{span:?}");
    Told {
        node: node.to_owned(),
        name: span.name.clone(),
        kind: span.kind(),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        is_error: span.status.as_ref().is_some_and(|it| it.code() == status::StatusCode::Error),
        ns: span.end_time_unix_nano - span.start_time_unix_nano,
        attributes: attributes(&span.attributes),
    }
}

/// A node with these lines of configuration.
fn start(name: &str, config: &str, environment: &[(String, String)], flags: &[&str]) -> TestNode {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), config).expect("the file is written");
    let path = file.path().to_str().expect("a path").to_owned();
    let own = ["--name", name, "--config", &path];
    TestNode::start_in(environment, &[&own[..], flags].concat())
}

fn traced(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

#[test]
fn spans_lead_from_the_client_through_a_handler_and_another_node_to_the_upstream() {
    let collector = Collector::start();
    let origin = Origin::start(|request, count| match (request.path(), count) {
        // The first request ends without an answer, and is sent once more.
        ("/data/again", 0) => Act::SendAndClose(Vec::new()),
        ("/data/failing", _) => Act::Send(response(503, &[], "no")),
        _ => Act::Send(response(200, &[], "ok")),
    });
    let route =
        format!("[[route]]\npath = \"/data/*\"\nupstream = \"http://{}\"\n", origin.address);
    let back = start("back", &route, &collector.environment(), &[]);
    let front = start("front", "", &collector.environment(), &[]);
    let grant = format!("http:{}", back.gateway);
    deploy(
        &front,
        "standard",
        &["--name", "s", "--route", "/s/*", "--grant", "kv:default=rw", "--grant", &grant],
    );
    let path = format!("/s/fetch?{}/data/again", back.gateway);
    let fields = [("traceparent", traced("01")), ("tracestate", "vendor=1".to_owned())];
    let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(ask(&front, "GET", &path, &fields).text(), "200 ok");

    let server = collector.wait_for("front", "GET /s/*");
    assert_eq!((server.trace.as_str(), server.parent.as_str()), (TRACE, PARENT));
    assert_eq!(server.kind, SpanKind::Server);
    for (name, want) in [
        ("http.request.method", "GET"),
        ("http.route", "/s/*"),
        ("http.response.status_code", "200"),
        ("url.path", "/s/fetch"),
        ("url.scheme", "http"),
        ("server.address", "example.com"),
        ("server.port", "80"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("atoll.handler.name", "s"),
        ("atoll.handler.version", "1"),
        ("atoll.handler.release", "live"),
    ] {
        assert_eq!(server.attribute(name), want, "{name} in {server:#?}");
    }
    let run = collector.wait_for("front", "handler s");
    assert_eq!((run.parent.as_str(), run.kind), (server.id.as_str(), SpanKind::Internal));
    assert_eq!(run.attribute("atoll.handler.instance"), "fresh");
    let cpu_ms: f64 = run.attribute("atoll.handler.cpu_ms").parse().expect("a number");
    assert!(cpu_ms > 0.0 && cpu_ms * 1e6 < run.ns as f64, "{run:#?}");
    let fetch = collector.wait_for("front", "GET");
    assert_eq!((fetch.parent.as_str(), fetch.kind), (run.id.as_str(), SpanKind::Client));
    let asked = format!("http://{}/data/again", back.gateway);
    assert_eq!(fetch.attribute("url.full"), asked);
    assert_eq!(fetch.attribute("server.port"), back.gateway.port().to_string());

    let there = collector.wait_for("back", "GET /data/*");
    assert_eq!((there.parent.as_str(), there.kind), (fetch.id.as_str(), SpanKind::Server));
    wait_until("both tries have come", || {
        let all = collector.told();
        let tries: Vec<&Told> = all.iter().filter(|it| it.parent == there.id).collect();
        let [first, second] = tries[..] else { return None };
        assert!(first.kind == SpanKind::Client && second.kind == SpanKind::Client);
        assert_eq!((first.is_error, first.attribute("error.type")), (true, "upstream-closed"));
        assert_eq!((second.is_error, second.attribute("http.request.resend_count")), (false, "1"));
        let told = origin.seen("/data/again");
        for (attempt, request) in [(first, &told[0]), (second, &told[1])] {
            let want = format!("00-{TRACE}-{}-01", attempt.id);
            assert_eq!(request.field("traceparent"), want);
            assert_eq!(request.field("tracestate"), "vendor=1");
        }
        Some(())
    });
    assert!(collector.told().iter().all(|told| told.trace == TRACE));

    // Errors: of the upstream, of the handler, and of who asked for what is not there.
    let fields = [("traceparent", traced("01"))];
    let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
    ask(&back, "PATCH", "/data/failing", &fields);
    let failing = collector.wait_for("back", "PATCH /data/*");
    assert_eq!((failing.is_error, failing.attribute("error.type")), (true, "503"));
    ask(&front, "POST", "/s/panic", &fields);
    let failing = collector.wait_for("front", "POST /s/*");
    assert_eq!((failing.is_error, failing.attribute("error.type")), (true, "502"));
    let runs = || collector.told().into_iter().filter(|told| told.name == "handler s");
    let trapped = wait_until("the trap is told", || runs().find(|told| told.is_error));
    assert_eq!(trapped.attribute("error.type"), "trap");
    ask(&front, "BREW", "/nowhere", &fields);
    let nowhere = collector.wait_for("front", "HTTP");
    assert_eq!((nowhere.is_error, nowhere.attribute("http.response.status_code")), (false, "404"));
    assert_eq!(nowhere.attribute("http.request.method_original"), "BREW");
    // Counted when the collector has answered.
    wait_until("they are counted", || {
        (figure(&front, "atoll_spans_exported_total") > 4).then_some(())
    });
}

#[test]
fn what_another_node_fetches_is_in_the_trace_and_a_hit_is_told_as_one() {
    let collector = Collector::start();
    let origin =
        Origin::start(|_, _| Act::Send(response(200, &[("Cache-Control", "max-age=600")], "ok")));
    let route = format!(
        "[[route]]\npath = \"/*\"\nupstream = \"http://{}\"\ncache = true\nshield = true\n",
        origin.address
    );
    let first = start("first", &route, &collector.environment(), &[]);
    let peer = first.peers().to_string();
    let second = start("second", &route, &collector.environment(), &["--peer", &peer]);
    // Some key is the other node's.
    let shield = wait_until("the other node is asked", || {
        let path = format!("/{}", origin_count(&origin));
        assert_eq!(ask(&second, "GET", &path, &[]).text(), "ok");
        let spans = collector.told();
        spans.into_iter().find(|told| told.node == "second" && told.name == "shield")
    });
    assert_eq!(shield.attribute("atoll.shield.node"), "first");
    let of = |parent: &Told, what: &str| {
        let found = || collector.told().into_iter().find(|told| told.parent == parent.id);
        wait_until(what, found)
    };
    let asking = of(&shield, "the request to the other node");
    assert_eq!((asking.node.as_str(), asking.kind), ("second", SpanKind::Client));
    let asked = of(&asking, "the request at the other node");
    assert_eq!((asked.node.as_str(), asked.kind), ("first", SpanKind::Server));
    let status = asked.attribute("atoll.cache.status");
    assert!(status.starts_with("fwd=uri-miss; ") && status.contains("; stored"), "{status}");
    let fetch = of(&asked, "the fetch");
    assert_eq!((fetch.node.as_str(), fetch.kind), ("first", SpanKind::Client));
    assert_eq!(fetch.trace, shield.trace);

    let path = asked.attribute("url.path");
    let hit = [("traceparent", traced("01"))];
    let hit = hit.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(ask(&second, "GET", path, &hit).text(), "ok");
    let hit = wait_until("the hit is told", || {
        collector.told().into_iter().find(|told| told.parent == PARENT)
    });
    assert!(hit.attribute("atoll.cache.status").starts_with("hit; ttl="), "{hit:#?}");
    assert!(!collector.told().iter().any(|told| told.parent == hit.id), "nobody was asked");
}

fn origin_count(origin: &Origin) -> usize {
    (0..).take_while(|number| !origin.seen(&format!("/{number}")).is_empty()).count()
}

#[test]
fn a_handler_of_our_own_world_is_timed_and_its_second_request_meets_the_same_instance() {
    let collector = Collector::start();
    let node = start("node", "", &collector.environment(), &[]);
    deploy(&node, "hello", &["--name", "hi", "--route", "/hi/*", "--reuse", "5"]);
    for _ in 0..2 {
        assert_eq!(ask(&node, "GET", "/hi/x", &[]).status(), 200);
    }
    let mut runs: Vec<Told> = wait_until("both runs are told", || {
        let all = collector.told().into_iter();
        let runs: Vec<Told> = all.filter(|told| told.name == "handler hi").collect();
        (runs.len() == 2).then_some(runs)
    });
    runs.sort_by_key(|run| run.attribute("atoll.handler.instance").to_owned());
    let instances = [0, 1].map(|at| runs[at].attribute("atoll.handler.instance"));
    assert_eq!(instances, ["fresh", "reused"]);
    for run in &runs {
        let cpu_ms: f64 = run.attribute("atoll.handler.cpu_ms").parse().expect("a number");
        assert!(cpu_ms > 0.0, "{run:#?}");
    }
}

#[test]
fn the_hooks_of_a_filter_are_told_and_one_that_fails_says_how() {
    let collector = Collector::start();
    let origin = Origin::start(|_, _| Act::Send(response(200, &[], "ok")));
    let route = format!(
        "[[route]]\npath = \"/*\"\nupstream = \"http://{}\"\ncache = true\nfilter = \"f\"\n",
        origin.address
    );
    let node = start("node", &route, &collector.environment(), &[]);
    deploy(&node, "hostile-filter", &["--name", "f"]);
    assert_eq!(ask(&node, "GET", "/x", &[]).text(), "ok");
    let server = collector.wait_for("node", "GET /*");
    for hook in ["on-request", "cache-key", "on-response", "on-deliver"] {
        let told = collector.wait_for("node", &format!("filter f {hook}"));
        assert_eq!((&told.parent, told.attribute("atoll.filter.hook")), (&server.id, hook));
        assert_eq!((told.attribute("atoll.handler.version"), told.is_error), ("1", false));
    }
    let failing = [("X-Hook", "on-request"), ("X-Do", "panic")];
    assert_eq!(ask(&node, "GET", "/x", &failing).status(), 502);
    let failed = wait_until("the failure is told", || {
        let mut spans = collector.told().into_iter();
        spans.find(|told| told.is_error && told.name == "filter f on-request")
    });
    assert_eq!(failed.attribute("error.type"), "trap");
}

#[test]
fn a_request_that_is_not_sampled_is_not_told_and_who_is_asked_knows_it() {
    let collector = Collector::start();
    let origin = Origin::start(|_, _| Act::Send(response(200, &[], "ok")));
    let route = format!("[[route]]\npath = \"/*\"\nupstream = \"http://{}\"\n", origin.address);
    let node = start("node", &route, &collector.environment(), &["--trace-ratio", "0"]);
    let unsampled = [("traceparent", traced("00"))];
    let unsampled = unsampled.each_ref().map(|(name, value)| (*name, value.as_str()));
    ask(&node, "GET", "/declined", &unsampled);
    ask(&node, "GET", "/begun", &[]);
    let sampled = [("traceparent", traced("01"))];
    let sampled = sampled.each_ref().map(|(name, value)| (*name, value.as_str()));
    ask(&node, "GET", "/sampled", &sampled);
    wait_until("server and client are told", || (collector.told().len() == 2).then_some(()));
    assert!(collector.told().iter().all(|told| told.trace == TRACE));
    let parent = |path: &str| origin.seen(path)[0].field("traceparent");
    assert!(parent("/declined").starts_with(&format!("00-{TRACE}-")));
    assert!(parent("/declined").ends_with("-00") && parent("/begun").ends_with("-02"));
    assert!(parent("/sampled").ends_with("-01"));
    // Without a collector the request goes on as it came.
    let node = start("other", &route, &[], &[]);
    ask(&node, "GET", "/plain", &sampled);
    assert_eq!(parent("/plain"), traced("01"));
}

/// What requests take just now that no span is of.
fn pace_of(node: &TestNode) -> Pace {
    let mut pace = Pace::default();
    for _ in 0..5 {
        pace.of(|| node.http("GET", node.api, "/livez", b""));
    }
    pace
}

#[test]
fn a_collector_that_is_down_or_hangs_costs_requests_nothing_and_the_end_little() {
    let origin = Origin::start(|_, _| Act::Send(response(200, &[], "ok")));
    let route = format!("[[route]]\npath = \"/*\"\nupstream = \"http://{}\"\n", origin.address);
    // Nobody listens there.
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut node = start("node", &route, &environment(nobody), &[]);
    for _ in 0..50 {
        assert_eq!(ask(&node, "GET", "/x", &[]).text(), "ok");
    }
    node.wait_for_log("the collector does not take traces");
    let dropped = "atoll_spans_dropped_total{why=\"collector\"}";
    wait_until("they are given up", || (figure(&node, dropped) > 0).then_some(()));
    assert_eq!(node.log().matches("does not take traces").count(), 1, "it is said once");
    let mut pace = pace_of(&node);
    let began = Instant::now();
    node.signal("TERM");
    assert!(node.wait().success());
    let (took, bar) = (began.elapsed(), pace.bar(Duration::from_secs(3), 500));
    assert!(took < bar, "{took:?}, held against {bar:?}");

    // One that takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut variables = environment(silent.local_addr().expect("it is bound"));
    variables.push(("OTEL_BSP_MAX_QUEUE_SIZE".to_owned(), "8".to_owned()));
    let mut node = start("node", &route, &variables, &[]);
    pace = pace_of(&node);
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let began = Instant::now();
        assert_eq!(ask(&node, "GET", "/x", &[]).text(), "ok");
        slowest = slowest.max(began.elapsed());
    }
    let bar = pace.bar(Duration::from_secs(5), 500);
    assert!(slowest < bar, "{slowest:?}, held against {bar:?}");
    assert!(figure(&node, "atoll_spans_dropped_total{why=\"queue-full\"}") > 50);
    let began = Instant::now();
    node.signal("TERM");
    assert!(node.wait().success());
    let (took, bar) = (began.elapsed(), pace.bar(Duration::from_secs(8), 500));
    assert!(took < bar, "{took:?}, held against {bar:?}");
    node.wait_for_log("did not take the last spans in time");
}

#[test]
fn what_still_waits_is_told_at_the_end_of_the_node() {
    let collector = Collector::start();
    let mut variables = collector.environment();
    variables.retain(|(name, _)| name != "OTEL_BSP_SCHEDULE_DELAY");
    variables.push(("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "600000".to_owned()));
    let mut node = start("node", "", &variables, &[]);
    ask(&node, "GET", "/nowhere", &[]);
    assert!(collector.told().is_empty());
    node.signal("TERM");
    assert!(node.wait().success());
    assert_eq!(collector.told().len(), 1);
}
