//! `/`: what a person sees who opens the API's address in a browser.
//!
//! One page, no scripts, nothing loaded from elsewhere; everything that is shown is escaped.

mod replication;

use super::Api;
use super::cluster::replication::ReplicationStatus;
use super::cluster::{BucketStatus, LiveHandler, NodeStatus};
use crate::units::{bytes, duration};
use axum::Router;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, header};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::sync::Arc;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}h3{font-size:1rem;margin-bottom:.3rem}\
table{border-collapse:collapse}\
td,th{text-align:left;padding:.2rem 1.1rem .2rem 0;border-bottom:1px solid #8884}\
td.n,th.n{text-align:right;white-space:nowrap}\
.good{color:#178a3e}.bad{color:#c8321f}\
@media(prefers-color-scheme:dark){.good{color:#5fd38a}.bad{color:#ff8a75}}\
.wide{overflow-x:auto}\
pre{background:#8882;padding:.8rem;overflow-x:auto;border-radius:4px}";

pub(super) fn router() -> Router<Arc<Api>> {
    Router::new().route("/", get(page))
}

async fn page(State(api): State<Arc<Api>>) -> Response {
    let shown = Shown {
        status: NodeStatus::of(&api),
        replication: ReplicationStatus::of(&api.node),
        now_ms: api.node.now().millis(),
    };
    let mut response = Html(render(&shown)).into_response();
    let style = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let policy = HeaderValue::from_str(&policy).expect("base64 is visible ASCII");
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// All that the page draws from.
struct Shown {
    status: NodeStatus,
    replication: ReplicationStatus,
    now_ms: u64,
}

fn render(shown: &Shown) -> String {
    let status = &shown.status;
    let name = escape(&status.name);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>Atoll · {name}</title><style>{STYLE}</style></head><body>\n\
         <h1>Atoll · {name}</h1>\n<p>Version {version}, {state}, up for {uptime}.</p>\n",
        version = escape(status.version),
        state = status.unready.unwrap_or("ready"),
        uptime = duration(status.uptime_s),
    );
    let row = |page: &mut String, left: &str, right: &str| {
        let (left, right) = (escape(left), escape(right));
        writeln!(page, "<tr><th>{left}</th><td>{right}</td></tr>").expect(ANY_TEXT);
    };
    page += "<h2>Node</h2>\n<table>\n";
    let doors = &status.addresses;
    for (door, address) in [("Gateway", &doors.gateway), ("API", &doors.api), ("RESP", &doors.resp)]
    {
        row(&mut page, door, address.as_deref().unwrap_or("off"));
    }
    let memory = &status.memory;
    let used = format!("{} of {}", bytes(memory.used_bytes as u64), bytes(memory.max_bytes as u64));
    row(&mut page, "Memory", &used);
    row(&mut page, "Changes kept for others", &bytes(memory.log_bytes as u64));
    row(&mut page, "Process", &status.origin);
    page += "</table>\n<h2>Cluster</h2>\n";
    page += &replication::render(&shown.replication, shown.now_ms);
    page += "<h2>Buckets</h2>\n";
    page += &buckets(&status.buckets);
    page += "<h2>Handlers</h2>\n";
    page += &handlers(&status.handlers);
    page += "<h2>Next</h2>\n<pre>";
    page += &escape(&commands(status));
    page += "</pre>\n</body></html>\n";
    page
}

fn buckets(buckets: &[BucketStatus]) -> String {
    if buckets.is_empty() {
        return "<p>No keys yet.</p>\n".to_owned();
    }
    let mut table = "<table>\n<tr><th>Name</th><th class=\"n\">Keys</th>\
                     <th class=\"n\">Memory</th></tr>\n"
        .to_owned();
    for bucket in buckets {
        let (name, keys, used) =
            (escape(&bucket.name), bucket.keys, bytes(bucket.used_bytes as u64));
        writeln!(
            table,
            "<tr><td>{name}</td><td class=\"n\">{keys}</td><td class=\"n\">{used}</td></tr>"
        )
        .expect(ANY_TEXT);
    }
    table + "</table>\n"
}

fn handlers(handlers: &[LiveHandler]) -> String {
    if handlers.is_empty() {
        return "<p>No handlers yet: <code>atoll help deploy</code>.</p>\n".to_owned();
    }
    let mut table =
        "<table>\n<tr><th>Name</th><th class=\"n\">Version</th><th>Routes</th></tr>\n".to_owned();
    for handler in handlers {
        let (name, version) = (escape(&handler.name), handler.version);
        let routes = escape(&handler.routes.join(", "));
        writeln!(table, "<tr><td>{name}</td><td class=\"n\">{version}</td><td>{routes}</td></tr>")
            .expect(ANY_TEXT);
    }
    table + "</table>\n"
}

/// Why writing to a string cannot fail.
const ANY_TEXT: &str = "a string takes any text";

fn commands(status: &NodeStatus) -> String {
    let mut text = String::new();
    if let Some(api) = &status.addresses.api {
        text += &format!(
            "curl -T - http://{api}/v1/kv/default/hello <<< world\n\
             curl http://{api}/v1/kv/default/hello\n\
             curl 'http://{api}/v1/kv/default?prefix=h'\n\
             curl -N 'http://{api}/v1/kv/default?watch='\n\
             atoll kv --api http://{api} set greeting hello --ttl 60\n\
             atoll status --api http://{api}\n"
        );
    }
    if let Some((_, port)) = status.addresses.resp.as_ref().and_then(|resp| resp.rsplit_once(':')) {
        text += &format!("redis-cli -p {port} GET hello\n");
    }
    text
}

/// Text for an element's content or a quoted attribute.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_escaped() {
        assert_eq!(escape("<a href='\"&'>ä"), "&lt;a href=&#39;&quot;&amp;&#39;&gt;ä");
    }
}
