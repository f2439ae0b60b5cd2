//! `atoll status`: what a node is and holds, and how it stands with the others.

mod answer;
mod replication;

use super::client::{Ask, Client, ClientArgs, text};
use super::output::{print, visible};
use super::paint::{Cell, Colours, Paint, Side, Table};
use crate::units::{bytes, duration};
use answer::{Cluster, Disk, Node};
use anyhow::Context;
use clap::Args;
use std::io::IsTerminal as _;
use std::time::Duration;
use ureq::http::Method;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  atoll status
  atoll status --watch                   redrawn each second until Ctrl-C
  atoll status --api http://10.0.0.7:8081
  atoll status --json | jq '.replication.links[] | {node, lag_ms}'

lag       age of the oldest write of this node that the other has not acknowledged
behind    changes of any node that the other has not acknowledged
clock     how far the other's clock is ahead of this node's")]
pub(super) struct StatusArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Print the node's answer as it is; with --watch one line each time
    #[arg(long)]
    json: bool,
    /// Ask again every so many seconds [default: 1]
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "1",
        value_parser = clap::value_parser!(u64).range(1..=3_600)
    )]
    watch: Option<u64>,
}

/// Asks the node and prints what it says, once or again and again.
pub(super) fn status(args: &StatusArgs) -> anyhow::Result<()> {
    let client = args.client.client()?;
    let colours = Colours::of_stdout();
    let Some(seconds) = args.watch else {
        return print(shown(&client, args, colours)?);
    };
    loop {
        // A node that is away for a moment is what a person may be watching for.
        let shown = shown(&client, args, colours).unwrap_or_else(|error| {
            Paint::Bad.on(&format!("atoll: {}\n", visible(&format!("{error:#}"))), colours)
        });
        let clear = if std::io::stdout().is_terminal() { "\u{1b}[H\u{1b}[2J" } else { "" };
        print(format!("{clear}{shown}"))?;
        std::thread::sleep(Duration::from_secs(seconds));
    }
}

fn shown(client: &Client, args: &StatusArgs, colours: Colours) -> anyhow::Result<String> {
    let answer = text(client.fetch(Ask::new(Method::GET, "/v1/cluster"))?)?;
    if args.json {
        return Ok(answer + "\n");
    }
    let cluster: Cluster =
        serde_json::from_str(&answer).context("what answers there is no node of this version")?;
    Ok(render(&cluster, colours))
}

fn render(cluster: &Cluster, colours: Colours) -> String {
    let mut parts: Vec<String> = cluster.nodes.iter().map(|node| about(node, colours)).collect();
    parts.push(replication::render(cluster, colours));
    parts.extend(cluster.nodes.iter().map(|node| buckets(node, colours)));
    parts.join("\n")
}

fn about(node: &Node, colours: Colours) -> String {
    let door = |address: &Option<String>| visible(address.as_deref().unwrap_or("off"));
    let state = match &node.unready {
        None => Paint::Good.on("ready", colours),
        Some(reason) => Paint::Bad.on(&visible(reason), colours),
    };
    format!(
        "{name}  {state}\n\n  \
         version  {version}\n  process  {origin}\n  uptime   {uptime}\n  \
         gateway  {gateway}\n  API      {api}\n  RESP     {resp}\n  \
         memory   {used} of {max}, and {log} of changes kept for watchers and links\n{full}{disk}",
        name = Paint::Head.on(&visible(&node.name), colours),
        version = visible(&node.version),
        origin = visible(&node.origin),
        uptime = duration(node.uptime_s),
        gateway = door(&node.addresses.gateway),
        api = door(&node.addresses.api),
        resp = door(&node.addresses.resp),
        used = bytes(node.memory.used_bytes),
        max = bytes(node.memory.max_bytes),
        log = bytes(node.memory.log_bytes),
        full = if is_full(node) { Paint::Bad.on(FULL, colours) + "\n" } else { String::new() },
        disk = node.disk.as_ref().map(|disk| on_disk(disk, colours)).unwrap_or_default(),
    )
}

/// What a node without room for more says.
const FULL: &str = "  ! memory is full: writes are refused, and what other nodes write waits; raise \
                    --memory-max or delete keys";

/// Whether the node has no room for more. A write that would just not fit leaves some.
fn is_full(node: &Node) -> bool {
    node.memory.used_bytes >= node.memory.max_bytes - node.memory.max_bytes / 64
}

/// The line about the node's disk.
fn on_disk(disk: &Disk, colours: Colours) -> String {
    let state = match (disk.state.as_str(), disk.reason.as_deref()) {
        ("ok", _) => format!(
            "{used} in {directory}, fsync {fsync}{free}",
            used = bytes(disk.used_bytes),
            directory = visible(&disk.directory),
            fsync = visible(&disk.fsync),
            free =
                disk.free_bytes.map(|free| format!(", {} free", bytes(free))).unwrap_or_default(),
        ),
        ("loading", _) => format!("loading, {} %", disk.loaded_percent),
        (state, reason) => {
            let writes = if disk.on_error == "refuse" { "refused" } else { "in memory only" };
            let reason = reason.unwrap_or("no reason is known");
            let text = format!("{}: {}; writes are {writes}", visible(state), visible(reason));
            Paint::Bad.on(&text, colours)
        }
    };
    let damaged = match disk.damaged_records {
        0 => String::new(),
        count => format!("\n           {count} damaged records were left out at the start"),
    };
    format!("  disk     {state}{damaged}\n")
}

fn buckets(node: &Node, colours: Colours) -> String {
    if node.buckets.is_empty() {
        return "no keys yet; store one with: atoll kv set hello world\n".to_owned();
    }
    let mut table = Table::new(&[
        ("bucket", Side::Left),
        ("keys", Side::Right),
        ("with a deadline", Side::Right),
        ("memory", Side::Right),
    ]);
    for bucket in &node.buckets {
        table.push(vec![
            Cell::new(&bucket.name),
            Cell::new(bucket.keys.to_string()),
            Cell::new(bucket.volatile_keys.to_string()),
            Cell::new(bytes(bucket.used_bytes)),
        ]);
    }
    table.text(colours)
}

#[cfg(test)]
mod tests;
