//! `atoll cluster`: what an administrator changes about the other nodes.

use super::client::{Ask, Client, ClientArgs, escape, text};
use super::output::{print, visible};
use anyhow::Context;
use clap::{Args, Subcommand};
use serde::Deserialize;
use ureq::http::Method;

#[derive(Args, Debug)]
pub(super) struct ClusterArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Let go of a node that will not come back
    Forget(ForgetArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  atoll cluster forget tokyo               a node that was destroyed
  atoll cluster forget 0198c2a4-5b1e-7c33-9d7a-0f3f5f1f5a10

What is deleted is kept until every node is known to have heard of it; a node that has gone is
waited for 24 hours. This ends the wait, on all nodes. One that comes back all the same is taken
for one that was away for very long. Take it out of the other nodes' --peer lists, too.")]
struct ForgetArgs {
    /// Name of the node, or the id of its process
    name: String,
}

#[derive(Debug, Deserialize)]
struct Forgotten {
    forgotten: String,
}

/// Runs one of the commands.
pub(super) fn cluster(args: &ClusterArgs) -> anyhow::Result<()> {
    let client = args.client.client()?;
    match &args.command {
        ClusterCommand::Forget(args) => forget(&client, args),
    }
}

fn forget(client: &Client, args: &ForgetArgs) -> anyhow::Result<()> {
    let path = format!("/v1/cluster/nodes/{}", escape(args.name.as_bytes()));
    let answer = text(client.fetch(Ask::new(Method::DELETE, path))?)?;
    let Forgotten { forgotten } =
        serde_json::from_str(&answer).context("what answers there is no node of this version")?;
    print(format!("forgot {}\n", visible(&forgotten)))
}
