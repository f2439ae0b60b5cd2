//! `atoll status`: what a node is and holds.

use super::client::{Ask, ClientArgs, text};
use super::output::{print, table, visible};
use anyhow::Context;
use clap::Args;
use serde::Deserialize;
use ureq::http::Method;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  atoll status
  atoll status --api http://10.0.0.7:8081
  atoll status --json | jq .nodes[0].memory")]
pub(super) struct StatusArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Print the node's answer as it is
    #[arg(long)]
    json: bool,
}

/// The answer of `/v1/cluster`.
#[derive(Debug, Deserialize)]
struct Cluster {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    name: String,
    origin: String,
    version: String,
    uptime_s: u64,
    ready: bool,
    addresses: Addresses,
    memory: Memory,
    buckets: Vec<Bucket>,
}

#[derive(Debug, Deserialize)]
struct Addresses {
    gateway: Option<String>,
    api: Option<String>,
    resp: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Memory {
    used_bytes: u64,
    max_bytes: u64,
    log_bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Bucket {
    name: String,
    keys: u64,
    volatile_keys: u64,
    used_bytes: u64,
}

/// Asks the node and prints what it says.
pub(super) fn status(args: &StatusArgs) -> anyhow::Result<()> {
    let answer = text(args.client.client()?.fetch(Ask::new(Method::GET, "/v1/cluster"))?)?;
    if args.json {
        print(answer + "\n")?;
        return Ok(());
    }
    let cluster: Cluster =
        serde_json::from_str(&answer).context("what answers there is no node of this version")?;
    print(cluster.nodes.iter().map(render).collect::<Vec<_>>().join("\n"))?;
    Ok(())
}

fn render(node: &Node) -> String {
    let door = |address: &Option<String>| visible(address.as_deref().unwrap_or("off"));
    let (used, max) = (mib(node.memory.used_bytes), mib(node.memory.max_bytes));
    let mut text = format!(
        "{name}  {state}\n\n  \
         version  {version}\n  process  {origin}\n  uptime   {uptime} s\n  \
         gateway  {gateway}\n  API      {api}\n  RESP     {resp}\n  \
         memory   {used} of {max} MiB, and {log} MiB of changes kept for watchers\n\n",
        name = visible(&node.name),
        state = if node.ready { "ready" } else { "draining" },
        version = visible(&node.version),
        origin = visible(&node.origin),
        uptime = node.uptime_s,
        gateway = door(&node.addresses.gateway),
        api = door(&node.addresses.api),
        resp = door(&node.addresses.resp),
        log = mib(node.memory.log_bytes),
    );
    if node.buckets.is_empty() {
        return text + "no keys yet; store one with: atoll kv set hello world\n";
    }
    let head = ["bucket", "keys", "with a deadline", "MiB"].map(str::to_owned).to_vec();
    let mut rows = vec![head];
    rows.extend(node.buckets.iter().map(|bucket| {
        vec![
            visible(&bucket.name),
            bucket.keys.to_string(),
            bucket.volatile_keys.to_string(),
            mib(bucket.used_bytes),
        ]
    }));
    text += &table(&rows);
    text
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}
