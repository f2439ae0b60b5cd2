//! Versions on trial: `atoll promote`, and how they are shown.

use super::super::client::{Ask, COMPILE_WAIT, ClientArgs, escape, text};
use super::super::output::{print, visible};
use super::{Canary, Handler, OTHER_VERSION, Wait, everywhere};
use anyhow::Context;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use ureq::http::Method;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  atoll promote counter                    its canary gets all requests, on every node
  atoll promote counter --wait all

What is promoted is a version of its own, with a higher number; atoll rollback brings back the one
that was live.")]
pub(in crate::cli) struct PromoteArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Name of the handler
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// Wait until every node serves it, with a line for each
    #[arg(long, value_name = "WHO")]
    wait: Option<Wait>,
}

/// Gives the canary all requests.
pub(in crate::cli) fn promote(args: &PromoteArgs) -> anyhow::Result<()> {
    let client = args.client.client()?;
    let path = format!("/v1/handlers/{}/promote", escape(args.name.as_bytes()));
    let ask = Ask { wait: COMPILE_WAIT, ..Ask::new(Method::POST, path) };
    let handler: Handler =
        serde_json::from_str(&text(client.fetch(ask)?)?).context(OTHER_VERSION)?;
    if args.wait.is_some() {
        everywhere::wait(&client, &handler.name, handler.newest())?;
    }
    let (name, version) = (visible(&handler.name), handler.version);
    let promoted = handler.restores.unwrap_or(version);
    print(format!("{name}: version {promoted} gets all requests, as version {version}\n"))
}

pub(super) fn render_deployed(handler: &Handler, canary: &Canary) -> String {
    let (name, share) = (visible(&handler.name), visible(&canary.share));
    format!(
        "{name}: version {} gets {share} of the requests, version {} the rest\n\n\
         Next: atoll handlers, then atoll promote {name} or atoll rollback {name}\n",
        canary.version, handler.version
    )
}

/// Its line below that of the live version.
pub(super) fn row(handler: &Handler, canary: &Canary) -> Vec<String> {
    vec![
        visible(&handler.name),
        canary.version.to_string(),
        canary.requests.to_string(),
        canary.failures.to_string(),
        format!("canary, {}", visible(&canary.share)),
    ]
}
