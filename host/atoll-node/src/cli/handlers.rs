//! `atoll deploy`, `handlers`, `route`, `rollback`, `remove`, `logs`: the handlers of a cluster.

pub(super) mod canary;
mod everywhere;
pub(super) mod logs;
pub(super) mod route;

use super::client::{Ask, COMPILE_WAIT, Client, ClientArgs, accepted, escape, text};
use super::output::{print, table, visible};
use anyhow::{Context, bail};
use atoll_core::manifest::check_name;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde::Deserialize;
use std::path::PathBuf;
use ureq::SendBody;
use ureq::http::Method;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cargo guests                             build the examples of this repository
  atoll deploy target/wasm32-unknown-unknown/guest/counter.wasm --route '/counter/*'
  atoll deploy page.wasm --route '/page/*' --config theme=dark --grant http:api.example.com
  atoll deploy edge.wasm --name edge       a filter; a route in atoll.toml says filter = \"edge\"
  atoll deploy app.wasm --route '/*' --reuse 1000   for a Python handler: many times faster
  atoll deploy counter.wasm --canary 5%             try a version on some of the requests
  atoll deploy audit.wasm --watch default/user:    told of every change of these keys
  atoll deploy api.wasm --name api --route 'GET example.com/api/*' --grant kv:default/api:=r

Routes: [METHOD[,METHOD...] ][HOST]/PATH. A last segment * takes everything below, * elsewhere
takes one segment. Where several routes match, the more specific one wins.

Grants: kv:BUCKET=rw, kv:BUCKET=r, kv:BUCKET/PREFIX=w for keys; http:HOST[:PORT], http:*.HOST for
requests to others; secret:NAME for a secret; purge, or a part of it with purge:host=HOST,
purge:prefix=HOST/PATH, purge:tag=TAG or purge:tag=START*, for taking back what caches hold. What is
not granted is denied. Without --grant a handler may read and write the
bucket default; --grant none gives it nothing.

Deploying a name again replaces it; requests in flight finish on the version they began with. Every
node takes a deployment over by itself: --wait all returns when the last one serves it.

A component that exports wasi:keyvalue/watcher is told of changes with --watch, one after the other and
at most once: on the node that took the write, or with --watch-on every on each node. What expires, a
flush and a moved deadline are not told. A watcher on one node that writes what is watched, itself or
by requests to handlers and APIs, is cut after nine calls; one on every node may not. That a chain
goes on at another node is seen where the nodes have a --cluster-key.

A canary answers at the routes of the live version, in the place of the canary before it. Each request
is diced for, so a client may meet both; so is each change that it watches. atoll promote NAME gives it all requests, atoll rollback NAME
none; atoll handlers shows how each fares.")]
pub(super) struct DeployArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The handler: a WebAssembly component of the world atoll:edge/handler, wasi:http/proxy (0.2) or
    /// wasi:http/service (0.3); or a filter of the world atoll:edge/filter
    #[arg(value_name = "COMPONENT.wasm")]
    component: PathBuf,
    /// Name of the handler, of a-z, 0-9 and - [default: the file's name, with - for _]
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// Requests that it answers; may be repeated. A filter has none
    #[arg(long, value_name = "PATTERN")]
    route: Vec<String>,
    /// Put it beside the live version and give it this share of the requests, 0.01% to 100%
    #[arg(long, value_name = "SHARE", conflicts_with = "route")]
    canary: Option<String>,
    /// Keys whose changes it is told of; may be repeated
    #[arg(long, value_name = "BUCKET/PREFIX")]
    watch: Vec<String>,
    /// Tell it on the one node that took the write, or on every node
    #[arg(long, value_name = "one|every", requires = "watch")]
    watch_on: Option<String>,
    /// What it may reach; may be repeated
    #[arg(long, value_name = "GRANT", default_value = "kv:default=rw")]
    grant: Vec<String>,
    /// A setting that it can read; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    config: Vec<String>,
    /// Processor time that one request may use, in ms [default: 100]
    #[arg(long, value_name = "MS")]
    cpu_ms: Option<u32>,
    /// Time that one request may take, in ms [default: 10000]
    #[arg(long, value_name = "MS")]
    wall_ms: Option<u32>,
    /// Memory that one request may use, in MiB [default: 64]
    #[arg(long, value_name = "MIB")]
    memory_mib: Option<u32>,
    /// Body of one answer, in MiB [default: 16]
    #[arg(long, value_name = "MIB")]
    response_mib: Option<u32>,
    /// Requests that it answers at once [default: 256]
    #[arg(long, value_name = "COUNT")]
    concurrency: Option<u32>,
    /// Use an instance again, for so many requests, in place of a fresh one for each; what a guest leaves in memory is then seen by its next request
    #[arg(long, value_name = "REQUESTS")]
    reuse: Option<u32>,
    /// How long an instance waits for its next request, in ms [default: 10000]
    #[arg(long, value_name = "MS", requires = "reuse")]
    reuse_idle_ms: Option<u32>,
    /// Requests that one instance works on at once, for components of wasi:http/service; where one of
    /// them ends the instance, the others are made again or fail [default: 1]
    #[arg(long, value_name = "COUNT", requires = "reuse")]
    reuse_at_once: Option<u32>,
    /// Cache its answers, as far as their Cache-Control allows it
    #[arg(long)]
    cache: bool,
    /// What one node has cached, all use, for as long as neither a key that it was made from nor the
    /// handler has changed
    #[arg(long, requires = "cache")]
    replicate: bool,
    /// What becomes of requests of a filter that fails: an error, or on without it and past the cache
    #[arg(long, value_name = "WHAT", value_parser = ["fail", "pass"])]
    on_failure: Option<String>,
    /// Wait until every node serves it, with a line for each
    #[arg(long, value_name = "WHO")]
    wait: Option<Wait>,
}

/// Whom to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Wait {
    /// Every master that was heard in the last ten seconds.
    All,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  atoll rollback counter                   to the version before the live one
  atoll rollback counter --to 3 --wait all

Where a canary is on trial, the live version goes on without it.

The last five versions of a handler are kept. What is brought back is a version of its own, with a
higher number; another rollback goes further back. Keys in the store stay as they are.")]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Name of the handler
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// Number of the version to bring back
    #[arg(long, value_name = "VERSION")]
    to: Option<u64>,
    /// Wait until every node serves it, with a line for each
    #[arg(long, value_name = "WHO")]
    wait: Option<Wait>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  atoll handlers
  atoll handlers --json | jq '.handlers[].routes'")]
pub(super) struct HandlersArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Print the node's answer as it is
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  atoll remove counter                     its keys stay in the store")]
pub(super) struct RemoveArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Name of the handler
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
}

#[derive(Debug, Deserialize)]
struct Handler {
    name: String,
    version: u64,
    world: String,
    #[serde(default)]
    restores: Option<u64>,
    component_bytes: u64,
    routes: Vec<String>,
    grants: Vec<String>,
    requests: u64,
    failures: u64,
    #[serde(default)]
    canary: Option<Canary>,
    #[serde(default)]
    watch: Option<Watch>,
}

/// What it is told of.
#[derive(Debug, Deserialize)]
struct Watch {
    keys: Vec<String>,
    on: String,
}

/// A version on trial.
#[derive(Debug, Deserialize)]
struct Canary {
    share: String,
    version: u64,
    requests: u64,
    failures: u64,
}

impl Handler {
    /// What leads to it.
    fn ways(&self) -> String {
        let watch = self
            .watch
            .iter()
            .map(|watch| format!("watches {} on {} node", watch.keys.join(", "), watch.on));
        let routes = (!self.routes.is_empty()).then(|| self.routes.join(", "));
        let ways: Vec<_> = routes.into_iter().chain(watch).collect();
        // Nothing else can do without routes and keys to watch.
        if ways.is_empty() {
            "a filter, for routes of atoll.toml".to_owned()
        } else {
            ways.join("; ")
        }
    }

    /// The number that nodes tell once they serve it.
    fn newest(&self) -> u64 {
        self.canary.iter().map(|canary| canary.version).fold(self.version, u64::max)
    }
}

#[derive(Debug, Deserialize)]
struct Handlers {
    handlers: Vec<Handler>,
}

/// Sends the component and says what is live.
pub(super) fn deploy(args: &DeployArgs) -> anyhow::Result<()> {
    let client = args.client.client()?;
    let path = args.component.display();
    let component =
        std::fs::read(&args.component).with_context(|| format!("cannot read {path}"))?;
    let ask = Ask { wait: COMPILE_WAIT, ..Ask::new(Method::PUT, args.path()?) };
    let answer = text(accepted(client.send(ask, SendBody::from_reader(&mut &component[..]))?)?)?;
    let handler: Handler = serde_json::from_str(&answer).context(OTHER_VERSION)?;
    if args.wait.is_some() {
        everywhere::wait(&client, &handler.name, handler.newest())?;
    }
    if let Some(canary) = &handler.canary {
        return print(canary::render_deployed(&handler, canary));
    }
    print(render_deployed(&handler, gateway(&client).as_deref()))
}

/// Brings an earlier version back.
pub(super) fn roll_back(args: &RollbackArgs) -> anyhow::Result<()> {
    let client = args.client.client()?;
    let to = args.to.map_or_else(String::new, |to| format!("?to={to}"));
    let path = format!("/v1/handlers/{}/rollback{to}", escape(args.name.as_bytes()));
    let ask = Ask { wait: COMPILE_WAIT, ..Ask::new(Method::POST, path) };
    let handler: Handler =
        serde_json::from_str(&text(client.fetch(ask)?)?).context(OTHER_VERSION)?;
    if args.wait.is_some() {
        everywhere::wait(&client, &handler.name, handler.version)?;
    }
    let (name, version) = (visible(&handler.name), handler.version);
    let restores = handler.restores.unwrap_or(version);
    print(format!("{name} is back at version {restores}, as version {version}\n"))
}

const OTHER_VERSION: &str = "what answers there is no node of this version";

impl DeployArgs {
    fn granted(&self) -> anyhow::Result<impl Iterator<Item = &String>> {
        let is_none = |grant: &&String| *grant == "none";
        if self.grant.len() > 1 && self.grant.iter().any(|grant| is_none(&grant)) {
            bail!("--grant none gives nothing at all; leave it out, or the other grants");
        }
        Ok(self.grant.iter().filter(move |grant| !is_none(grant)))
    }

    /// The name that was given, or that of the file: what compilers write has underscores.
    fn named(&self) -> anyhow::Result<String> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let stem = self.component.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let name = stem.replace('_', "-");
        check_name(&name).with_context(|| {
            format!("{} has no name that a handler can have; give it a --name", visible(stem))
        })?;
        Ok(name)
    }

    fn path(&self) -> anyhow::Result<String> {
        let name = self.named()?;
        let mut path = format!("/v1/handlers/{}", escape(name.as_bytes()));
        let mut separator = '?';
        let mut push = |name: &str, value: &str| {
            path += &format!("{separator}{name}={}", escape(value.as_bytes()));
            separator = '&';
        };
        for route in &self.route {
            push("route", route);
        }
        for keys in &self.watch {
            push("watch", keys);
        }
        let texts = [("canary", &self.canary), ("watch_on", &self.watch_on)];
        for (name, text) in texts {
            if let Some(text) = text {
                push(name, text);
            }
        }
        for grant in self.granted()? {
            push("grant", grant);
        }
        for setting in &self.config {
            push("config", setting);
        }
        if self.cache {
            push("cache", "true");
        }
        if self.replicate {
            push("replicate", "true");
        }
        if let Some(what) = &self.on_failure {
            push("on_failure", what);
        }
        let bytes = |mib: Option<u32>| mib.map(|mib| u64::from(mib) << 20);
        let numbers = [
            ("cpu_ms", self.cpu_ms.map(u64::from)),
            ("wall_ms", self.wall_ms.map(u64::from)),
            ("memory_bytes", bytes(self.memory_mib)),
            ("response_bytes", bytes(self.response_mib)),
            ("concurrency", self.concurrency.map(u64::from)),
            ("reuse", self.reuse.map(u64::from)),
            ("reuse_idle_ms", self.reuse_idle_ms.map(u64::from)),
            ("reuse_at_once", self.reuse_at_once.map(u64::from)),
        ];
        for (name, value) in numbers {
            if let Some(value) = value {
                push(name, &value.to_string());
            }
        }
        Ok(path)
    }
}

/// Where the node's gateway is, for the next command to try.
fn gateway(client: &Client) -> Option<String> {
    let answer = client.fetch(Ask::new(Method::GET, "/v1/cluster")).ok()?;
    let cluster: serde_json::Value = serde_json::from_str(&text(answer).ok()?).ok()?;
    Some(cluster["nodes"][0]["addresses"]["gateway"].as_str()?.to_owned())
}

fn render_deployed(handler: &Handler, gateway: Option<&str>) -> String {
    let grants = if handler.grants.is_empty() { "nothing" } else { &handler.grants.join(", ") };
    let mut text = format!(
        "{name} is live, version {version} ({kib} KiB, {world})\n  routes  {routes}\n  granted {grants}\n",
        name = visible(&handler.name),
        version = handler.version,
        world = visible(&handler.world),
        kib = handler.component_bytes.div_ceil(1_024),
        routes = visible(&handler.ways()),
        grants = visible(grants),
    );
    if handler.routes.is_empty() && handler.watch.is_none() {
        text += &format!(
            "\nName it in a route of atoll.toml: filter = \"{}\"\n",
            visible(&handler.name)
        );
    }
    // A route with a host or a method needs more than an address to be tried.
    let plain = handler.routes.iter().find(|route| route.starts_with('/'));
    if let (Some(gateway), Some(route)) = (gateway, plain) {
        let path = route.replace('*', "x");
        text += &format!("\nTry: curl http://{}{}\n", visible(gateway), visible(&path));
    }
    text
}

/// Asks the node for its handlers and prints them.
pub(super) fn list(args: &HandlersArgs) -> anyhow::Result<()> {
    let answer = text(args.client.client()?.fetch(Ask::new(Method::GET, "/v1/handlers"))?)?;
    if args.json {
        return print(answer + "\n");
    }
    let answer: Handlers = serde_json::from_str(&answer).context(OTHER_VERSION)?;
    print(render_list(&answer.handlers))
}

fn render_list(handlers: &[Handler]) -> String {
    if handlers.is_empty() {
        return "no handlers yet; see: atoll help deploy\n".to_owned();
    }
    let head = ["handler", "version", "requests", "failures", "routes"].map(str::to_owned);
    let mut rows = vec![head.to_vec()];
    for handler in handlers {
        rows.push(vec![
            visible(&handler.name),
            handler.version.to_string(),
            handler.requests.to_string(),
            handler.failures.to_string(),
            visible(&handler.ways()),
        ]);
        rows.extend(handler.canary.as_ref().map(|canary| canary::row(handler, canary)));
    }
    table(&rows)
}

/// Takes the handler away.
pub(super) fn remove(args: &RemoveArgs) -> anyhow::Result<()> {
    let path = format!("/v1/handlers/{}", escape(args.name.as_bytes()));
    args.client.client()?.fetch(Ask::new(Method::DELETE, path))?;
    print(format!("{} is removed\n", visible(&args.name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::FromArgMatches as _;

    fn handler(routes: &[&str], grants: &[&str]) -> Handler {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Handler {
            name: "counter".into(),
            version: 2,
            world: "atoll:edge/handler".into(),
            restores: None,
            component_bytes: 30_000,
            routes: texts(routes),
            grants: texts(grants),
            requests: 7,
            failures: 1,
            canary: None,
            watch: None,
        }
    }

    #[test]
    fn a_handler_is_called_as_its_file_unless_nothing_can_be_called_so() {
        let path = |typed: &[&str]| {
            let command = DeployArgs::augment_args(clap::Command::new("deploy"));
            let typed = std::iter::once("deploy").chain(typed.iter().copied());
            let matches = command.try_get_matches_from(typed)?;
            DeployArgs::from_arg_matches(&matches)?.path()
        };
        let got = path(&["a/rate_limiter.wasm", "--grant", "none"]).expect("a name");
        assert_eq!(got, "/v1/handlers/rate-limiter");
        let got = path(&["A b.wasm", "--name", "ab", "--grant", "none"]).expect("a name");
        assert_eq!(got, "/v1/handlers/ab");
        let refused = path(&["A b.wasm"]).expect_err("no name");
        assert!(format!("{refused:#}").contains("give it a --name: \"A b\" is no"), "{refused:#}");
        assert!(path(&["ab.wasm", "--name", ""]).is_err());
        let both = ["ab.wasm", "--grant", "none", "--grant", "kv:default=r"];
        assert!(path(&both).expect_err("it is either").to_string().contains("--grant none"));
    }

    #[test]
    fn a_deployment_says_what_to_try_next() {
        let plain = handler(&["GET /x", "/counter/*"], &["kv:default=rw"]);
        let text = render_deployed(&plain, Some("127.0.0.1:8080"));
        assert!(
            text.contains("version 2 (30 KiB, atoll:edge/handler)")
                && text.contains("granted kv:default=rw")
        );
        assert!(text.ends_with("Try: curl http://127.0.0.1:8080/counter/x\n"), "{text}");
        let narrow = render_deployed(&handler(&["GET /x"], &[]), Some("127.0.0.1:8080"));
        assert!(narrow.contains("granted nothing") && !narrow.contains("Try"), "{narrow}");
    }

    #[test]
    fn an_empty_list_teaches_and_a_full_one_lines_up() {
        assert!(render_list(&[]).contains("atoll help deploy"));
        let listed = render_list(&[handler(&["/a", "/b"], &[])]);
        assert!(listed.lines().count() == 2 && listed.contains("/a, /b"), "{listed}");
        let canary = Canary { share: "5%".into(), version: 3, requests: 4, failures: 2 };
        let tried = Handler { canary: Some(canary), ..handler(&["/a"], &[]) };
        let listed = render_list(&[tried]);
        assert!(listed.lines().count() == 3 && listed.contains("canary, 5%"), "{listed}");
    }
}
