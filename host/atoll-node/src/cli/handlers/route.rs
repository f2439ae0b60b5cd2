//! `atoll route`: which requests a handler answers, changed while it runs.

use super::super::client::{Ask, ClientArgs, escape, text};
use super::super::output::{print, visible};
use super::{Handler, OTHER_VERSION, Wait, everywhere};
use anyhow::Context;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use ureq::http::Method;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  atoll route counter '/counter/*' '/count/*'      these and no others
  atoll route counter --add 'GET example.com/n'    one more
  atoll route counter --remove '/count/*' --add '/counts/*' --wait all

Nothing is compiled or started again: the change is a record that every node takes over. It is a
version of its own, so atoll rollback undoes it. A route that another handler has is refused.

Routes: [METHOD[,METHOD...] ][HOST]/PATH, as in atoll help deploy.")]
pub(in crate::cli) struct RouteArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Name of the handler
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// The requests that it answers from now on
    #[arg(value_name = "PATTERN", required_unless_present_any = ["add", "remove"])]
    routes: Vec<String>,
    /// A route that it gets beside those it has; may be repeated
    #[arg(long, value_name = "PATTERN", conflicts_with = "routes")]
    add: Vec<String>,
    /// A route that it loses; may be repeated
    #[arg(long, value_name = "PATTERN", conflicts_with = "routes")]
    remove: Vec<String>,
    /// Wait until every node serves it, with a line for each
    #[arg(long, value_name = "WHO")]
    wait: Option<Wait>,
}

/// Changes the routes and says what they are.
pub(in crate::cli) fn route(args: &RouteArgs) -> anyhow::Result<()> {
    let client = args.client.client()?;
    let method = if args.routes.is_empty() { Method::POST } else { Method::PUT };
    let answer = text(client.fetch(Ask::new(method, args.path()))?)?;
    let handler: Handler = serde_json::from_str(&answer).context(OTHER_VERSION)?;
    if args.wait.is_some() {
        everywhere::wait(&client, &handler.name, handler.newest())?;
    }
    let (name, routes) = (visible(&handler.name), visible(&handler.routes.join(", ")));
    print(format!("{name} answers {routes}, as version {}\n", handler.version))
}

impl RouteArgs {
    fn path(&self) -> String {
        let named = [("route", &self.routes), ("add", &self.add), ("remove", &self.remove)];
        let pairs = named.into_iter().flat_map(|(name, routes)| {
            routes.iter().map(move |route| format!("{name}={}", escape(route.as_bytes())))
        });
        let query = pairs.collect::<Vec<_>>().join("&");
        format!("/v1/handlers/{}/routes?{query}", escape(self.name.as_bytes()))
    }
}
