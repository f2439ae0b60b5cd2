//! Brings spans to the collector: OTLP over HTTP, as protobuf, in batches.
//!
//! Whatever the collector does, requests are none the wiser: spans wait in a bounded queue, and what
//! does not fit is dropped and counted.

use super::attribute::text;
use super::settings::{Batches, Settings};
use super::tracer::Figures;
use crate::https;
use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use std::error::Error as _;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often a batch is sent at most.
const TRIES_MAX: u32 = 4;
/// Pause before the second try; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause that a collector can ask for.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Longest wait for a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// Longest wait for the collector at the end of the node.
const LAST_WAIT: Duration = Duration::from_secs(3);
/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What brings spans to the collector.
#[derive(Debug)]
pub(super) struct Delivery {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    endpoint: Uri,
    headers: HeaderMap,
    resource: Resource,
    batches: Batches,
    waiting: mpsc::Receiver<Span>,
    figures: Figures,
    is_failing: bool,
}

/// A delivery that is under way.
#[derive(Debug)]
pub(crate) struct Delivering {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Why the collector has not taken a batch.
#[derive(Debug, thiserror::Error)]
enum Undelivered {
    /// It may take it later, after this pause if it says so.
    #[error("{0}")]
    ForNow(String, Option<Duration>),
    /// It never will.
    #[error("{0}")]
    ForGood(String),
}

impl Delivery {
    pub(super) fn new(
        settings: Settings,
        waiting: mpsc::Receiver<Span>,
        figures: Figures,
    ) -> anyhow::Result<Delivery> {
        let Settings { endpoint, headers, sampler: _, resource, batches } = settings;
        let tls = match endpoint.scheme_str() {
            Some("https") => https::trusting_the_system().context(
                "the system has no certificates of authorities to check the collector's with",
            )?,
            _ => https::trusting_nobody(),
        };
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let connector = connector.enable_all_versions().wrap_connector(https::tcp(CONNECT_WAIT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .build(connector);
        let agent = HeaderValue::from_static(concat!("atoll/", env!("CARGO_PKG_VERSION")));
        let own = [
            (header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf")),
            (header::USER_AGENT, agent),
        ];
        let headers = headers.into_iter().chain(own).collect::<HeaderMap<HeaderValue>>();
        let resource = Resource {
            attributes: resource.into_iter().map(attribute).collect(),
            ..Resource::default()
        };
        let is_failing = false;
        Ok(Delivery { client, endpoint, headers, resource, batches, waiting, figures, is_failing })
    }

    /// Begins to deliver.
    pub(super) fn start(self) -> Delivering {
        let stop = CancellationToken::new();
        let task = tokio::spawn(self.run(stop.clone()));
        Delivering { stop, task }
    }

    /// Delivers until `stop`, and then what still waits.
    async fn run(mut self, stop: CancellationToken) {
        loop {
            let spans = self.gather(&stop).await;
            if spans.is_empty() {
                return;
            }
            self.deliver(spans, &stop).await;
        }
    }

    /// Waits for a batch. None has no spans, but for the last.
    async fn gather(&mut self, stop: &CancellationToken) -> Vec<Span> {
        let (mut spans, mut due) = (Vec::new(), None);
        while spans.len() < self.batches.spans_max {
            let room = self.batches.spans_max - spans.len();
            tokio::select! {
                biased;
                count = self.waiting.recv_many(&mut spans, room) => {
                    if count == 0 {
                        return spans;
                    }
                    due.get_or_insert(Instant::now() + self.batches.delay);
                }
                // What waits is still read; nothing is added.
                () = stop.cancelled(), if !self.waiting.is_closed() => self.waiting.close(),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => break,
            }
        }
        spans
    }

    /// Sends a batch, again if need be. What cannot be delivered is dropped.
    async fn deliver(&mut self, spans: Vec<Span>, stop: &CancellationToken) {
        let count = spans.len() as u64;
        let body = Bytes::from(self.encode(spans));
        let mut pause = FIRST_PAUSE;
        for number in 1..=TRIES_MAX {
            let error = match self.post(body.clone()).await {
                Ok(answer) => return self.taken(count, answer),
                Err(error) => error,
            };
            self.complain(&error);
            let Undelivered::ForNow(_, asked) = error else { break };
            if number == TRIES_MAX || stop.is_cancelled() {
                break;
            }
            tokio::select! {
                () = sleep(asked.unwrap_or(pause).min(PAUSE_MAX)) => {}
                // Once more, and then never.
                () = stop.cancelled() => {}
            }
            pause *= 2;
        }
        self.figures.undelivered.inc_by(count);
    }

    fn encode(&self, spans: Vec<Span>) -> Vec<u8> {
        let scope = InstrumentationScope {
            name: "atoll".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scoped = ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() };
        let of_this_node = ResourceSpans {
            resource: Some(self.resource.clone()),
            scope_spans: vec![scoped],
            ..ResourceSpans::default()
        };
        ExportTraceServiceRequest { resource_spans: vec![of_this_node] }.encode_to_vec()
    }

    async fn post(&self, body: Bytes) -> Result<ExportTraceServiceResponse, Undelivered> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        *request.headers_mut() = self.headers.clone();
        let for_now = |why: String| Undelivered::ForNow(why, None);
        let exchange = async {
            let sent = self.client.request(request).await;
            let (head, body) = sent.map_err(|error| for_now(reason(&error)))?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| for_now(error.to_string()))?.to_bytes();
            match head.status {
                // What cannot be read says nothing against the batch.
                status if status.is_success() => {
                    Ok(ExportTraceServiceResponse::decode(body).unwrap_or_default())
                }
                status if may_be_taken_later(status) => {
                    Err(Undelivered::ForNow(status.to_string(), pause_of(&head.headers)))
                }
                status => Err(Undelivered::ForGood(status.to_string())),
            }
        };
        let answer = timeout(self.batches.answer_wait, exchange).await;
        answer.unwrap_or_else(|_| Err(for_now("it did not answer in time".to_owned())))
    }

    fn taken(&mut self, count: u64, answer: ExportTraceServiceResponse) {
        let partly = answer.partial_success.unwrap_or_default();
        let rejected = u64::try_from(partly.rejected_spans).unwrap_or_default().min(count);
        self.figures.exported.inc_by(count - rejected);
        self.figures.undelivered.inc_by(rejected);
        if rejected > 0 {
            self.complain(&Undelivered::ForGood(format!("{rejected}: {}", partly.error_message)));
        } else if std::mem::take(&mut self.is_failing) {
            info!(endpoint = %self.endpoint, "the collector takes traces again");
        }
    }

    /// Says so once, until it takes them again.
    fn complain(&mut self, error: &Undelivered) {
        if !std::mem::replace(&mut self.is_failing, true) {
            let endpoint = &self.endpoint;
            warn!(%endpoint, %error, "the collector does not take traces; spans are dropped");
        }
    }
}

impl Delivering {
    /// Delivers what still waits, within a few seconds: no spans come any more.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        if timeout(LAST_WAIT, &mut self.task).await.is_err() {
            self.task.abort();
            warn!("the collector did not take the last spans in time");
        }
    }
}

/// The statuses that OTLP lets a batch be sent again for.
fn may_be_taken_later(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

fn pause_of(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The last cause says what is wrong; those before it only where.
fn reason(error: &hyper_util::client::legacy::Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        said = cause.to_string();
        source = cause.source();
    }
    said
}

fn attribute((key, value): (String, String)) -> KeyValue {
    let value = Some(AnyValue { value: Some(text(value)) });
    KeyValue { key, value, ..KeyValue::default() }
}
