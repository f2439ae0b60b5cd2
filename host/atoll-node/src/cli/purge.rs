//! `atoll purge`: takes cached responses back, on every node.

use super::client::{Ask, Client, ClientArgs, accepted, text};
use super::output::{print, visible};
use anyhow::{Context, bail};
use clap::Args;
use serde::Deserialize;
use ureq::SendBody;
use ureq::http::Method;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  atoll purge --url http://example.com/news        one URL, with all its variants
  atoll purge --tag news --tag sport               what has one of these tags
  atoll purge --prefix /static/ --soft             stale from now on, on every host
  atoll purge --all --wait                         everything, once every linked node has it

Tags are those of the fields Surrogate-Key, Cache-Tag and Cache-Groups. Without --soft, keys of the store
that were written with the tag (Cache-Tag) end as well.")]
pub(super) struct PurgeArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// A URL as clients ask for it; without a host it is for every host
    #[arg(long = "url", value_name = "URL")]
    urls: Vec<String>,
    /// What has this tag, keys of the store included
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// What begins with this URL
    #[arg(long = "prefix", value_name = "URL")]
    prefixes: Vec<String>,
    /// Everything of this host
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// Everything
    #[arg(long)]
    all: bool,
    /// Make it stale instead: it is used while it is validated
    #[arg(long)]
    soft: bool,
    /// Wait until every linked node has it, ten seconds at most
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Deserialize)]
struct Done {
    purged: usize,
    confirmed: Vec<String>,
    missing: Vec<String>,
}

/// Purges.
pub(super) fn purge(args: &PurgeArgs) -> anyhow::Result<()> {
    let client: Client = args.client.client()?;
    let order = serde_json::json!({
        "urls": args.urls,
        "tags": args.tags,
        "prefixes": args.prefixes,
        "hosts": args.hosts,
        "all": args.all,
        "soft": args.soft,
    });
    let path = if args.wait { "/v1/purge?wait=all&timeout=10000" } else { "/v1/purge" };
    let order = order.to_string();
    let mut bytes = order.as_bytes();
    let answer = client.send(Ask::new(Method::POST, path), SendBody::from_reader(&mut bytes))?;
    let answer = text(accepted(answer)?)?;
    let done: Done =
        serde_json::from_str(&answer).context("what answers there is no node of this version")?;
    if args.wait && !done.missing.is_empty() {
        let names: Vec<String> = done.missing.iter().map(|name| visible(name)).collect();
        bail!(
            "purged here; not confirmed yet by {}, which may still answer with what was purged: it hears \
             of this once it is linked again, as atoll status shows; until then send it no clients",
            names.join(", ")
        );
    }
    let others =
        if args.wait { format!(" on {} other nodes", done.confirmed.len()) } else { String::new() };
    print(format!("purged {}{others}\n", done.purged))
}
