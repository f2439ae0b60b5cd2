//! The request log: one line of JSON for each request at the gateway, once its answer has ended.
//!
//! Off unless asked for: paths and addresses are the users' own. Lines go to a thread that writes
//! them, through a queue of a bounded length; one that finds it full is counted and left out.

use super::server_span::cache_status;
use crate::followed::{Follower, followed};
use crate::listen::{PeerAddress, host};
use crate::node::Node;
use anyhow::Context as _;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{StatusCode, Version, header};
use http_body::Frame;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};
use tracing::warn;

/// Lines that may wait for the disk.
const WAITING_COUNT_MAX: usize = 8_192;

/// Where lines go.
#[derive(Clone, Debug)]
pub(super) struct RequestLog {
    lines: SyncSender<Line>,
    lost: Counter,
}

/// What is told of a request. The order is that of the keys in the line.
#[derive(Clone, Debug, Serialize)]
struct Line {
    /// When its head had come: RFC 3339, UTC, milliseconds.
    time: String,
    client: String,
    protocol: &'static str,
    method: String,
    host: String,
    /// With the query, as it was sent.
    path: String,
    status: u16,
    /// Bytes of the body that were sent; fewer than it has where the client went away.
    bytes: u64,
    /// From the head of the request to the end of the answer.
    ms: f64,
    /// Until the head of the answer was there.
    head_ms: f64,
    /// What the cache has done, as in Cache-Status; empty where there is none.
    cache: String,
    user_agent: String,
    /// W3C Trace Context: the trace that the request is part of, and its own id there.
    trace: String,
    span: String,
}

impl RequestLog {
    /// Opens `target`, a file that is appended to or `-` for standard output.
    pub(super) fn open(node: &Node, target: &Path) -> anyhow::Result<RequestLog> {
        let out: Box<dyn Write + Send> =
            if target == Path::new("-") {
                Box::new(io::stdout())
            } else {
                let file = OpenOptions::new().create(true).append(true).open(target);
                Box::new(file.with_context(|| {
                    format!("--request-log {} cannot be opened", target.display())
                })?)
            };
        let lost = Counter::default();
        let help = "Lines of the request log that were left out because its disk was too slow";
        node.metrics().register("request_log_lost", help, lost.clone());
        let (lines, waiting) = sync_channel(WAITING_COUNT_MAX);
        let writer = std::thread::Builder::new().name("request-log".to_owned());
        writer.spawn(move || write(&waiting, BufWriter::new(out)))?;
        Ok(RequestLog { lines, lost })
    }

    /// Takes note of a request whose head has come.
    pub(super) fn began(&self, request: &mut Request) -> Began {
        let trace = super::trace::of(request, None);
        let headers = request.headers();
        let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let client = request.extensions().get::<PeerAddress>();
        let authority = host::asked_for(request).ok().flatten();
        let path = request.uri().path_and_query();
        Began {
            log: self.clone(),
            at: Instant::now(),
            line: Line {
                time: timestamp(SystemTime::now()),
                client: client.map(|peer| peer.0.ip().to_string()).unwrap_or_default(),
                protocol: protocol(request.version()),
                method: request.method().to_string(),
                host: authority.map(|host| host.to_string()).unwrap_or_default(),
                path: path.map_or_else(|| request.uri().to_string(), ToString::to_string),
                status: 0,
                bytes: 0,
                ms: 0.0,
                head_ms: 0.0,
                cache: String::new(),
                user_agent: text(header::USER_AGENT).unwrap_or_default().into_owned(),
                trace: trace.context.trace_id(),
                span: trace.context.span_id(),
            },
        }
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Began {
    log: RequestLog,
    at: Instant,
    line: Line,
}

impl Began {
    /// Watches the answer to its end.
    pub(super) fn answered(mut self, response: Response) -> Response {
        self.line.status = response.status().as_u16();
        self.line.head_ms = ms(self.at.elapsed());
        self.line.cache = cache_status(&response).unwrap_or_default().to_owned();
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // Its connection is taken from it.
            return response;
        }
        response.map(|body| followed(body, self))
    }
}

impl Drop for Began {
    fn drop(&mut self) {
        self.line.ms = ms(self.at.elapsed());
        if self.log.lines.try_send(self.line.clone()).is_err() {
            self.log.lost.inc();
        }
    }
}

impl Follower for Began {
    fn see(&mut self, frame: Option<&Result<Frame<Bytes>, axum::Error>>) {
        if let Some(Ok(frame)) = frame {
            self.line.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
    }
}

fn write(waiting: &Receiver<Line>, mut out: BufWriter<Box<dyn Write + Send>>) {
    let mut is_broken = false;
    while let Ok(first) = waiting.recv() {
        let mut written = put(&mut out, &first);
        for line in waiting.try_iter() {
            written = written.and(put(&mut out, &line));
        }
        let written = written.and(out.flush());
        if let (Err(error), false) = (&written, is_broken) {
            warn!(%error, "request log cannot be written");
        }
        is_broken = written.is_err();
    }
}

fn put(out: &mut impl Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

/// RFC 3339 in UTC with milliseconds.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": eras of 400 years, which begin
    // in March so that the leap day is a year's last.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!(
        "{:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}.{:03}Z",
        era * 400 + year + later,
        second / 3_600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339_has_it() {
        let check = |ms: u64, want: &str| {
            assert_eq!(timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(ms)), want);
        };
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_399_999, "2000-02-28T23:59:59.999Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(951_868_800_000, "2000-03-01T00:00:00.000Z");
        check(1_795_824_000_001, "2026-11-28T00:00:00.001Z");
        check(4_102_444_799_000, "2099-12-31T23:59:59.000Z");
    }
}
