//! `atoll cache`: what a node has stored of an upstream's responses.

use super::client::{Ask, ClientArgs, escape, text};
use super::output::{print, visible};
use anyhow::Context;
use clap::{Args, Subcommand};
use serde::Deserialize;
use ureq::http::Method;

#[derive(Args, Debug)]
pub(super) struct CacheArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// Show what is stored under a URL, and why it is used or not
    Inspect {
        /// As it is stored: with its host, and without parameters that the route ignores
        url: String,
    },
}

#[derive(Debug, Deserialize)]
struct Inspection {
    key: String,
    passes: bool,
    responses: Vec<Inspected>,
}

#[derive(Debug, Deserialize)]
struct Inspected {
    status: u16,
    bytes: u64,
    why: String,
    vary: Option<String>,
    tags: Vec<String>,
    /// Where it is; not told by nodes of an older version.
    #[serde(default)]
    tiers: Vec<String>,
    #[serde(default)]
    parts: Vec<String>,
    #[serde(default)]
    keys: Vec<String>,
}

/// Runs the command.
pub(super) fn cache(args: &CacheArgs) -> anyhow::Result<()> {
    let CacheCommand::Inspect { url } = &args.command;
    let path = format!("/v1/cache?url={}", escape(url.as_bytes()));
    let answer = text(args.client.client()?.fetch(Ask::new(Method::GET, path))?)?;
    let found: Inspection =
        serde_json::from_str(&answer).context("what answers there is no node of this version")?;
    let mut lines = String::new();
    if found.responses.is_empty() {
        let what = if found.passes {
            "the last response could not be shared; requests go upstream side by side"
        } else {
            "nothing is stored"
        };
        lines += &format!("{}: {what}\n", visible(&found.key));
    }
    for response in &found.responses {
        let Inspected { status, bytes, why, vary, tags, tiers, parts, keys } = response;
        lines += &format!("{}: {status}, {bytes} bytes, {why}\n", visible(&found.key));
        if !tiers.is_empty() {
            let places: Vec<String> = tiers.iter().map(|tier| place(tier)).collect();
            lines += &format!("  {}\n", visible(&places.join(" and ")));
        }
        if let Some(vary) = vary {
            lines += &format!("  differs by {}\n", visible(vary));
        }
        if !tags.is_empty() {
            lines += &format!("  tags {}\n", visible(&tags.join(", ")));
        }
        if !parts.is_empty() {
            lines += &format!("  key with {}\n", visible(&parts.join(", ")));
        }
        if !keys.is_empty() {
            lines += &format!("  made from {}\n", visible(&keys.join(", ")));
        }
    }
    print(lines)
}

/// Where a tier is, in words.
fn place(tier: &str) -> String {
    let preposition = if tier == "disk" { "on" } else { "in" };
    format!("{preposition} {tier}")
}
