//! `atoll upstream`: routes to upstreams that hold on every node.

use super::client::{Ask, ClientArgs, accepted, escape, text};
use super::output::{print, visible};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Map, Value};
use ureq::SendBody;
use ureq::http::Method;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  atoll upstream set shop path='/shop/*' upstream=http://127.0.0.1:8000 cache=true
  atoll upstream set shop path='/shop/*' 'upstream=[\"http://a:80\", \"http://b:80\"]' ttl_s=60
  atoll upstream list
  atoll upstream remove shop

Keys are those of [[route]] in atoll.toml. A route holds on every node; those of a node's own
atoll.toml go before it.")]
pub(super) struct UpstreamArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: UpstreamCommand,
}

#[derive(Debug, Subcommand)]
enum UpstreamCommand {
    /// Write a route, in place of the one of this name
    Set {
        /// Of a-z, 0-9 and -
        name: String,
        /// What atoll.toml would say of it
        #[arg(required = true, value_name = "KEY=VALUE")]
        settings: Vec<String>,
    },
    /// List the routes that hold on every node
    List,
    /// Take a route away
    Remove {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Deserialize)]
struct Status {
    name: String,
    route: Value,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Statuses {
    routes: Vec<Status>,
}

/// Runs the command.
pub(super) fn upstream(args: &UpstreamArgs) -> anyhow::Result<()> {
    let client = args.client.client()?;
    let path = |name: &str| format!("/v1/routes/{}", escape(name.as_bytes()));
    match &args.command {
        UpstreamCommand::Set { name, settings } => {
            let body = object(settings)?.to_string();
            let mut bytes = body.as_bytes();
            let ask = Ask::new(Method::PUT, path(name));
            text(accepted(client.send(ask, SendBody::from_reader(&mut bytes))?)?)?;
            print(format!("{} is live\n", visible(name)))
        }
        UpstreamCommand::Remove { name } => {
            client.fetch(Ask::new(Method::DELETE, path(name)))?;
            print(format!("{} is removed\n", visible(name)))
        }
        UpstreamCommand::List => {
            let answer = text(client.fetch(Ask::new(Method::GET, "/v1/routes"))?)?;
            let answer: Statuses = serde_json::from_str(&answer)
                .context("what answers there is no node of this version")?;
            print(rendered(&answer.routes))
        }
    }
}

fn rendered(routes: &[Status]) -> String {
    if routes.is_empty() {
        return "no routes but those of atoll.toml; see: atoll help route\n".to_owned();
    }
    let mut lines = String::new();
    for Status { name, route, error } in routes {
        lines += &format!("{} {}\n", visible(name), visible(&route.to_string()));
        if let Some(error) = error {
            lines += &format!("  not live: {}\n", visible(error));
        }
    }
    lines
}

/// The settings as an object. A value that is not written as in TOML is text.
fn object(settings: &[String]) -> anyhow::Result<Value> {
    let mut object = Map::new();
    for setting in settings {
        let Some((key, value)) = setting.split_once('=') else {
            bail!("{setting:?} is no KEY=VALUE");
        };
        let parsed = toml::from_str::<Map<String, Value>>(&format!("value = {value}"));
        let parsed = parsed.ok().filter(|table| table.len() == 1);
        let value = parsed.and_then(|mut table| table.remove("value"));
        let value = value.unwrap_or_else(|| Value::String(setting[key.len() + 1..].to_owned()));
        object.insert(key.to_owned(), value);
    }
    Ok(Value::Object(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_toml_and_anything_else_is_text() {
        let given =
            ["path=/a/*", "cache=true", "ttl_s=5", "ignore_query=[\"a\"]", "host=\"client\""];
        let found = object(&given.map(str::to_owned)).expect("settings");
        let want = serde_json::json!({
            "path": "/a/*", "cache": true, "ttl_s": 5, "ignore_query": ["a"], "host": "client",
        });
        assert_eq!(found, want);
        assert!(object(&["x".to_owned()]).is_err());
    }
}
