//! `atoll secret`: passwords and keys for handlers. None is ever printed.

use super::client::{Ask, Client, ClientArgs, accepted, escape, text};
use super::output::{print, table, visible};
use anyhow::{Context, ensure};
use atoll_core::limits::SECRET_BYTES_MAX;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use serde::Deserialize;
use std::io::{IsTerminal as _, Read as _};
use ureq::SendBody;
use ureq::http::Method;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  atoll secret set stripe-key < key.txt
  openssl rand -hex 32 | atoll secret set session-key
  atoll secret list
  atoll secret remove stripe-key

A handler reads a secret that it was granted: atoll deploy ... --grant secret:stripe-key. In Rust that
is atoll_guest::secret::text(\"stripe-key\"), in any other language the setting secret:stripe-key of
wasi:config.

Secrets are encrypted on every node, with the cluster's key or that of --secrets-key-file. A node takes
one from its environment instead where it has the variable: ATOLL_SECRET_STRIPE_KEY.")]
pub(super) struct SecretArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: SecretCommand,
}

#[derive(Debug, Subcommand)]
enum SecretCommand {
    /// Set a secret to what comes on stdin, on every node; one line break at its end is dropped
    Set {
        /// Name of the secret, of a-z, 0-9 and -
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        name: String,
    },
    /// List the names of all secrets, and who may read them
    List {
        /// Print the node's answer as it is
        #[arg(long)]
        json: bool,
    },
    /// Remove a secret, from every node
    Remove {
        /// Name of the secret
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        name: String,
    },
}

#[derive(Debug, Deserialize)]
struct Secrets {
    secrets: Vec<Known>,
}

#[derive(Debug, Deserialize)]
struct Known {
    name: String,
    source: String,
    handlers: Vec<String>,
    #[serde(default)]
    unreadable: Option<String>,
}

/// Does what was asked for.
pub(super) fn secret(args: &SecretArgs) -> anyhow::Result<()> {
    let client = args.client.client()?;
    match &args.command {
        SecretCommand::Set { name } => set(&client, name),
        SecretCommand::List { json } => list(&client, *json),
        SecretCommand::Remove { name } => {
            client.fetch(Ask::new(Method::DELETE, path(name)))?;
            print(format!("{} is removed\n", visible(name)))
        }
    }
}

fn path(name: &str) -> String {
    format!("/v1/secrets/{}", escape(name.as_bytes()))
}

fn set(client: &Client, name: &str) -> anyhow::Result<()> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        eprintln!("Type the secret, which shows, then Enter and Ctrl-D.");
    }
    let mut value = Vec::new();
    // Two more than there may be: a line break is dropped, and what is then too long is refused.
    let most = SECRET_BYTES_MAX as u64 + 2;
    stdin.lock().take(most + 1).read_to_end(&mut value).context("stdin cannot be read")?;
    let line_end = if value.ends_with(b"\r\n") { 2 } else { usize::from(value.ends_with(b"\n")) };
    value.truncate(value.len() - line_end);
    ensure!(!value.is_empty(), "stdin is empty; write e.g. atoll secret set {name} < FILE");
    let ask = Ask::new(Method::PUT, path(name));
    accepted(client.send(ask, SendBody::from_reader(&mut &value[..]))?)?;
    print(format!(
        "{name} is set; a handler reads it with --grant secret:{name}\n",
        name = visible(name)
    ))
}

fn list(client: &Client, as_json: bool) -> anyhow::Result<()> {
    let answer = text(client.fetch(Ask::new(Method::GET, "/v1/secrets"))?)?;
    if as_json {
        return print(answer + "\n");
    }
    let other_version = "what answers there is no node of this version";
    let answer: Secrets = serde_json::from_str(&answer).context(other_version)?;
    if answer.secrets.is_empty() {
        return print("no secrets yet; see: atoll secret --help\n");
    }
    let mut rows = vec![["secret", "from", "handlers"].map(str::to_owned).to_vec()];
    rows.extend(answer.secrets.iter().map(|known| {
        let handlers = match (&known.unreadable, known.handlers.is_empty()) {
            (Some(why), _) => format!("unreadable here: {why}"),
            (None, true) => "none".to_owned(),
            (None, false) => known.handlers.join(", "),
        };
        vec![visible(&known.name), visible(&known.source), visible(&handlers)]
    }));
    print(table(&rows))
}
