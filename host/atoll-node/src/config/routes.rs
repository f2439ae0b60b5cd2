//! What is said about routes to upstreams: `[[route]]` in the file.

mod edits;

use super::parse_size;
use crate::cache::replicated::{BODY_BYTES_DEFAULT, BODY_BYTES_MAX};
use crate::proxy::settings::{CacheSettings, Replicated, RouteSettings};
use crate::upstream;
use crate::upstream::health::Checks;
use crate::upstream::limits::{
    ADDRESS_COUNT_MAX, BETWEEN_BYTES_WAIT, CONNECT_WAIT, FIRST_BYTE_WAIT, HEALTH_INTERVAL, WAIT_MAX,
};
use anyhow::{Context, bail, ensure};
use atoll_core::http_cache::key::QueryRules;
use atoll_core::http_cache::storing::{Rules, SetCookie};
use atoll_core::manifest::check_name;
use atoll_core::route::Pattern;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// One `[[route]]` as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileRoute {
    /// Which requests it takes, written as for a handler.
    path: String,
    /// Where they go.
    upstream: OneOrSeveral,
    /// Whether responses are cached.
    #[serde(default)]
    cache: bool,
    /// What the upstream is told as Host: what the client asked for, or its own name.
    host: Option<String>,
    connect_ms: Option<u64>,
    first_byte_ms: Option<u64>,
    between_bytes_ms: Option<u64>,
    /// What each address is asked to see whether it is well.
    health_path: Option<String>,
    /// Time from one such question to the next.
    health_interval_ms: Option<u64>,
    /// Lifetime of responses that give none.
    ttl_s: Option<u64>,
    stale_while_revalidate_s: Option<u64>,
    stale_if_error_s: Option<u64>,
    /// Whether a tenth of the time since Last-Modified may be a lifetime.
    heuristic: Option<bool>,
    /// What becomes of responses with Set-Cookie.
    set_cookie: Option<String>,
    /// Whether Cache-Control of requests is followed.
    client_directives: Option<bool>,
    #[serde(default)]
    ignore_query: Vec<String>,
    #[serde(default)]
    sort_query: bool,
    /// Whether stored text is sent with a content coding to those who accept one.
    #[serde(default)]
    compress: bool,
    /// Longest body that is stored.
    object_max: Option<String>,
    #[serde(default)]
    request_headers: edits::FileFields,
    #[serde(default)]
    response_headers: edits::FileFields,
    /// Cookies that the upstream does not see.
    #[serde(default)]
    drop_cookies: Vec<String>,
    /// Protocols to which clients may upgrade.
    upgrades: Option<Vec<String>>,
    strip_prefix: Option<String>,
    add_prefix: Option<String>,
    replace_path: Option<String>,
    /// Whether Location and Content-Location name what clients know.
    #[serde(default)]
    rewrite_location: bool,
    /// Whether one node of the cluster, for each URL another one, fetches for all.
    #[serde(default)]
    shield: bool,
    /// Whether what one node has fetched is shared with all.
    #[serde(default)]
    replicate: bool,
    /// Longest body that is shared.
    replicate_max: Option<String>,
    /// The name of a deployed filter.
    filter: Option<String>,
    /// Upstreams that the filter may choose, by name.
    #[serde(default)]
    upstreams: BTreeMap<String, OneOrSeveral>,
}

/// A list, or its only member.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum OneOrSeveral {
    One(String),
    Several(Vec<String>),
}

/// Longest lifetime that a route can give, in seconds: a year.
const LIFETIME_S_MAX: u64 = 365 * 24 * 3_600;

impl FileRoute {
    /// All that is written of it and shapes its responses: two routes with the same hash make the
    /// same ones, and may use what the other has stored.
    fn hash(&self) -> u64 {
        let shaping = FileRoute {
            connect_ms: None,
            first_byte_ms: None,
            between_bytes_ms: None,
            health_path: None,
            health_interval_ms: None,
            object_max: None,
            shield: false,
            replicate: false,
            replicate_max: None,
            upgrades: None,
            ..self.clone()
        };
        xxhash_rust::xxh3::xxh3_64(format!("{shaping:?}").as_bytes())
    }
}

/// Checks the routes. Those that do not say store bodies of `object_bytes_max` at most.
pub(super) fn resolve(
    routes: &[FileRoute],
    object_bytes_max: u64,
) -> anyhow::Result<Vec<RouteSettings>> {
    let mut resolved: Vec<RouteSettings> = Vec::with_capacity(routes.len());
    for route in routes {
        let route =
            one(route, object_bytes_max).with_context(|| format!("route {:?}", route.path))?;
        let other = resolved.iter().find(|other| other.pattern.conflicts_with(&route.pattern));
        if let Some(other) = other {
            bail!("routes {} and {} take the same requests", other.pattern, route.pattern);
        }
        resolved.push(route);
    }
    Ok(resolved)
}

/// Checks a route that is written as JSON, with the keys of the file. One that does not say stores
/// bodies of `object_bytes_max` at most.
pub(crate) fn of_json(text: &[u8], object_bytes_max: u64) -> anyhow::Result<RouteSettings> {
    let route: FileRoute = serde_json::from_slice(text).context("the route is no such JSON")?;
    one(&route, object_bytes_max)
}

fn one(route: &FileRoute, object_bytes_max: u64) -> anyhow::Result<RouteSettings> {
    let pattern: Pattern = route.path.parse()?;
    pattern.check_new()?;
    let addresses = addresses("upstream", &route.upstream)?;
    let own_host = match route.host.as_deref() {
        None | Some("client") => false,
        Some("upstream") => true,
        Some(other) => bail!("host is {other:?}; write client or upstream"),
    };
    let wait = |name: &str, ms: Option<u64>, otherwise| match ms.map(Duration::from_millis) {
        None => Ok(otherwise),
        Some(wait) if !wait.is_zero() && wait <= WAIT_MAX => Ok(wait),
        Some(_) => bail!("{name} is 1 to {}", WAIT_MAX.as_millis()),
    };
    let times = upstream::Times {
        connect: wait("connect_ms", route.connect_ms, CONNECT_WAIT)?,
        first_byte: wait("first_byte_ms", route.first_byte_ms, FIRST_BYTE_WAIT)?,
        between_bytes: wait("between_bytes_ms", route.between_bytes_ms, BETWEEN_BYTES_WAIT)?,
    };
    let interval = wait("health_interval_ms", route.health_interval_ms, HEALTH_INTERVAL)?;
    let checks = match route.health_path.as_deref() {
        None => None,
        Some(path) if path.starts_with('/') => {
            let path = path.parse().with_context(|| format!("health_path {path:?}"))?;
            Some(Checks { path, interval })
        }
        Some(path) => bail!("health_path is {path:?}; it starts with /"),
    };
    let upstream = upstream::Settings { addresses, times, own_host, checks };
    ensure!(route.cache || !route.shield, "shield is for routes with cache = true");
    let cache = cache(route, object_bytes_max)?;
    check_replicated(route)?;
    let edits = edits::resolve(route)?;
    let (filter, others) = filter(route, &upstream)?;
    let cache = route.cache.then_some(cache);
    let hash = route.hash();
    Ok(RouteSettings { pattern, upstream, cache, edits, filter, others, hash })
}

/// Refuses what does not go together with sharing.
fn check_replicated(route: &FileRoute) -> anyhow::Result<()> {
    ensure!(
        route.replicate || route.replicate_max.is_none(),
        "replicate_max is for routes with replicate = true"
    );
    if !route.replicate {
        return Ok(());
    }
    ensure!(route.cache, "replicate is for routes with cache = true");
    Ok(())
}

fn addresses(name: &str, given: &OneOrSeveral) -> anyhow::Result<Vec<upstream::Address>> {
    let addresses = match given {
        OneOrSeveral::One(address) => std::slice::from_ref(address),
        OneOrSeveral::Several(addresses) => addresses,
    };
    let counts = 1..=ADDRESS_COUNT_MAX;
    ensure!(counts.contains(&addresses.len()), "{name} has 1 to {ADDRESS_COUNT_MAX} addresses");
    addresses.iter().map(|text| text.parse()).collect()
}

/// Upstreams by their names.
type Others = Vec<(Box<str>, upstream::Settings)>;

/// The filter and what it may choose from.
fn filter(
    route: &FileRoute,
    upstream: &upstream::Settings,
) -> anyhow::Result<(Option<Box<str>>, Others)> {
    let Some(name) = &route.filter else {
        ensure!(
            route.upstreams.is_empty(),
            "upstreams are for a filter to choose from; name one: filter = \"NAME\""
        );
        return Ok((None, Vec::new()));
    };
    check_name(name).context("filter")?;
    ensure!(
        route.upstreams.len() <= ADDRESS_COUNT_MAX,
        "upstreams are {ADDRESS_COUNT_MAX} at most"
    );
    let others = route.upstreams.iter().map(|(name, given)| {
        ensure!(!name.is_empty(), "each of upstreams has a name");
        let addresses = addresses(&format!("upstreams.{name}"), given)?;
        Ok((name.as_str().into(), upstream::Settings { addresses, ..upstream.clone() }))
    });
    Ok((Some(name.as_str().into()), others.collect::<anyhow::Result<_>>()?))
}

fn cache(route: &FileRoute, object_bytes_max: u64) -> anyhow::Result<CacheSettings> {
    let ms = |name: &str, seconds: Option<u64>| {
        let fits = seconds.is_none_or(|seconds| seconds <= LIFETIME_S_MAX);
        ensure!(fits, "{name} is at most {LIFETIME_S_MAX}");
        Ok(seconds.map(|seconds| seconds * 1_000))
    };
    let set_cookie = match route.set_cookie.as_deref() {
        None | Some("refuse") => SetCookie::Refuse,
        Some("remove") => SetCookie::Remove,
        Some("store") => SetCookie::Store,
        Some(other) => bail!("set_cookie is {other:?}; write refuse, remove or store"),
    };
    let rules = Rules {
        may_guess: route.heuristic.unwrap_or(true),
        set_cookie,
        lifetime_ms: ms("ttl_s", route.ttl_s)?,
        while_revalidate_ms: ms("stale_while_revalidate_s", route.stale_while_revalidate_s)?,
        if_error_ms: ms("stale_if_error_s", route.stale_if_error_s)?,
    };
    let object_bytes_max = match &route.object_max {
        Some(text) => parse_size(text).context("object_max")? as u64,
        None => object_bytes_max,
    };
    Ok(CacheSettings {
        rules,
        query: QueryRules { ignore: route.ignore_query.clone(), sort: route.sort_query },
        object_bytes_max,
        compresses: route.compress,
        follows_clients: route.client_directives.unwrap_or(true),
        is_shielded: route.shield,
        replicated: replicated(route)?,
    })
}

fn replicated(route: &FileRoute) -> anyhow::Result<Option<Replicated>> {
    let body_bytes_max = match &route.replicate_max {
        None => BODY_BYTES_DEFAULT,
        Some(text) => parse_size(text).context("replicate_max")? as u64,
    };
    ensure!(
        (1..=BODY_BYTES_MAX).contains(&body_bytes_max),
        "replicate_max is 1 to {BODY_BYTES_MAX} bytes"
    );
    Ok(route.replicate.then_some(Replicated { body_bytes_max }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> anyhow::Result<Vec<RouteSettings>> {
        #[derive(Deserialize)]
        struct File {
            route: Vec<FileRoute>,
        }
        let file: File = toml::from_str(text)?;
        resolve(&file.route, 1 << 24)
    }

    const PLAIN: &str = "[[route]]\npath = \"/*\"\nupstream = \"http://127.0.0.1:8000\"\n";

    #[test]
    fn three_lines_are_a_route() {
        let routes = resolved(&format!("{PLAIN}cache = true")).expect("a route");
        assert_eq!(routes[0].pattern.to_string(), "/*");
        assert_eq!(routes[0].upstream.addresses[0].authority, "127.0.0.1:8000");
        let cache = routes[0].cache.as_ref().expect("a cache");
        assert_eq!(cache.rules, Rules::default());
        assert!(resolved(PLAIN).expect("a route")[0].cache.is_none());
    }

    #[test]
    fn a_route_may_change_what_goes_through_it() {
        let text = format!(
            "{PLAIN}strip_prefix = \"/shop\"\ndrop_cookies = [\"_ga*\"]\n\
             request_headers = {{ set = {{ X-Edge = \"1\" }}, remove = [\"DNT\"] }}\n\
             response_headers.add.Link = [\"a\", \"b\"]\n"
        );
        let edits = &resolved(&text).expect("a route")[0].edits;
        assert_eq!(edits.path.stripped(), Some("/shop"));
        assert_eq!(edits.cookies.0, ["_ga*"]);
        assert_eq!(edits.request.set[0].0, "x-edge");
        assert_eq!(edits.request.remove, ["dnt"]);
        assert_eq!(edits.response.add.len(), 2);
    }

    #[track_caller]
    fn check_refused(text: &str, want: &str) {
        let error = format!("{:#}", resolved(text).expect_err("should be refused"));
        assert!(error.contains(want), "{error}");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        check_refused(&format!("{PLAIN}{PLAIN}"), "take the same requests");
        check_refused(&format!("{PLAIN}colour = 1"), "unknown field");
        check_refused(&format!("{PLAIN}set_cookie = \"eat\""), "refuse, remove or store");
        check_refused(&format!("{PLAIN}connect_ms = 0"), "connect_ms is 1 to");
        check_refused(&format!("{PLAIN}health_path = \"x\""), "starts with /");
        check_refused(&format!("{PLAIN}health_interval_ms = 0"), "health_interval_ms is 1 to");
        check_refused(&format!("{PLAIN}host = \"x\""), "client or upstream");
        check_refused(&format!("{PLAIN}filter = \"A b\""), "is no handler name");
        check_refused(&format!("{PLAIN}upstreams.b = \"http://a\""), "for a filter to choose");
        let empty = format!("{PLAIN}filter = \"a\"\nupstreams.b = []");
        check_refused(&empty, "upstreams.b has 1 to 64 addresses");
        check_refused(&format!("{PLAIN}request_headers.set.Host = \"x\""), "not for routes");
        check_refused(&format!("{PLAIN}request_headers.put.x = \"x\""), "unknown field");
        check_refused(&format!("{PLAIN}response_headers.remove = [\"a b\"]"), "no name of a");
        check_refused(&format!("{PLAIN}response_headers.add.x = \"a\\nb\""), "value of x");
        check_refused(&format!("{PLAIN}drop_cookies = [\"a=b\"]"), "no name of a cookie");
        check_refused(&format!("{PLAIN}drop_cookies = [\"a*b\"]"), "no name of a cookie");
        check_refused(&format!("{PLAIN}strip_prefix = \"shop\""), "starts with /");
        check_refused(&format!("{PLAIN}add_prefix = \"/a?b\""), "starts with /");
        check_refused(&format!("{PLAIN}strip_prefix = \"/\""), "starts with /");
        let both = format!("{PLAIN}strip_prefix = \"/a\"\nreplace_path = \"/b\"");
        check_refused(&both, "either replace_path or");
        let rewrites = format!("{PLAIN}rewrite_location = true\n");
        check_refused(&rewrites, "rewrite_location is for routes with");
        check_refused(&format!("{rewrites}replace_path = \"/a\""), "no way back");
        let prefixed = format!("{rewrites}add_prefix = \"/a\"");
        assert!(resolved(&prefixed).expect("a route")[0].edits.rewrites_location);
        check_refused(&format!("{PLAIN}shield = true"), "routes with cache = true");
        check_refused(&format!("{PLAIN}replicate = true"), "routes with cache = true");
        let cached = format!("{PLAIN}cache = true\n");
        check_refused(&format!("{cached}replicate_max = \"1\""), "with replicate = true");
        let cached = format!("{cached}replicate = true\n");
        check_refused(&format!("{cached}replicate_max = \"0\""), "replicate_max is 1 to");
        check_refused(&format!("{cached}replicate_max = \"1GiB\""), "replicate_max is 1 to");
        check_refused("[[route]]\npath = \"/*\"\nupstream = []\n", "1 to 64 addresses");
        for address in ["127.0.0.1:80", "ftp://a", "http://a/path", "http://u@a", "http://"] {
            let text = format!("[[route]]\npath = \"/*\"\nupstream = {address:?}\n");
            check_refused(&text, "without a path");
        }
    }
}
