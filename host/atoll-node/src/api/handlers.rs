//! `/v1/handlers`: deploying, listing and removing handlers.

mod canary;
mod logs;
mod routes;

use super::Api;
use super::query::Query;
use crate::handlers::deploy::{DeployError, Deployment};
use crate::handlers::deployed::{Deployed, Release};
use crate::problem::Problem;
use atoll_core::limits::COMPONENT_BYTES_MAX;
use atoll_core::manifest::watch::{Watch, WatchOn};
use atoll_core::manifest::{HandlerLimits, HandlerRecord, HandlerReuse, HandlerState};
use atoll_core::store::edit::WriteError;
use atoll_wasm::reuse::PoolCounts;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use http::StatusCode;
use http::request::Parts;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Parameters of a deployment that are given once; `route`, `grant` and `config` may
/// be repeated.
const ONCE: [&str; 13] = [
    "watch_on",
    "canary",
    "on_failure",
    "cache",
    "replicate",
    "cpu_ms",
    "wall_ms",
    "memory_bytes",
    "response_bytes",
    "concurrency",
    "reuse",
    "reuse_idle_ms",
    "reuse_at_once",
];

pub(super) fn router() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/handlers", get(list))
        .route("/v1/handlers/{name}", get(show).put(deploy).delete(remove))
        .route("/v1/handlers/{name}/logs", get(logs::logs))
        .route("/v1/handlers/{name}/nodes", get(nodes))
        .route("/v1/handlers/{name}/promote", post(canary::promote))
        .route("/v1/handlers/{name}/rollback", post(roll_back))
        .route("/v1/handlers/{name}/routes", put(routes::replace).post(routes::edit))
}

/// One handler as the API shows it.
#[derive(Debug, Serialize)]
struct HandlerStatus {
    #[serde(flatten)]
    live: VersionStatus,
    /// The version on trial beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    canary: Option<CanaryStatus>,
}

/// A version on trial.
#[derive(Debug, Serialize)]
struct CanaryStatus {
    /// Of all requests, in percent: `5%`.
    share: String,
    #[serde(flatten)]
    version: VersionStatus,
}

/// One version of a handler.
#[derive(Debug, Serialize)]
struct VersionStatus {
    #[serde(flatten)]
    record: HandlerRecord,
    /// Requests that have ended, of this version on this node, and changes that it was told of.
    requests: u64,
    /// Those of them that got an error of the node's in the place of an answer.
    failures: u64,
    /// What has become of the instances, where they are used again.
    #[serde(skip_serializing_if = "Option::is_none")]
    instances: Option<Instances>,
}

/// The instances of one version on this node.
#[derive(Debug, Serialize)]
struct Instances {
    /// Those that were made.
    started: u64,
    /// Requests that an instance answered which had answered another before.
    reused: u64,
    /// Requests that a used one failed at and a fresh one was given.
    retried: u64,
    /// Those that wait for their next request.
    idle: usize,
    /// Why they are not used again any more.
    given_up: Option<String>,
}

impl Instances {
    fn of(deployed: &Deployed) -> Option<Instances> {
        let pool = deployed.pool.as_ref()?;
        let PoolCounts { started, reused, retried, idle } = pool.counts();
        let given_up = pool.broken().map(str::to_owned);
        Some(Instances { started, reused, retried, idle, given_up })
    }
}

impl HandlerStatus {
    fn of(release: &Release) -> HandlerStatus {
        let canary = release.canary.as_ref().map(|(share, canary)| CanaryStatus {
            share: share.to_string(),
            version: VersionStatus::of(canary),
        });
        HandlerStatus { live: VersionStatus::of(&release.live), canary }
    }
}

impl VersionStatus {
    fn of(deployed: &Deployed) -> VersionStatus {
        VersionStatus {
            record: deployed.record.clone(),
            requests: deployed.counts.requests.load(Ordering::Relaxed),
            failures: deployed.counts.failures.load(Ordering::Relaxed),
            instances: Instances::of(deployed),
        }
    }
}

#[derive(Debug, Serialize)]
struct HandlerList {
    handlers: Vec<HandlerStatus>,
}

async fn list(State(api): State<Arc<Api>>) -> Json<HandlerList> {
    let handlers = api.handlers.list();
    let handlers = handlers.iter().map(|release| HandlerStatus::of(release)).collect();
    Json(HandlerList { handlers })
}

async fn show(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Result<Json<HandlerStatus>, Problem> {
    let release = api.handlers.get(&name).ok_or_else(|| unknown(&name))?;
    Ok(Json(HandlerStatus::of(&release)))
}

/// `PUT /v1/handlers/NAME?route=PATTERN[&grant=GRANT][&config=KEY=VALUE][&LIMIT=N]` with the component as
/// the body; `canary=SHARE` in the place of routes puts it beside the live version.
async fn deploy(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<(StatusCode, Json<HandlerStatus>), Problem> {
    let (parts, body) = request.into_parts();
    let query =
        Query::parse_repeatable(parts.uri.query(), &ONCE, &["route", "grant", "config", "watch"])?;
    let routes = once_each(texts(&query, "route")?);
    let canary = canary::share(&query)?;
    let watch = watch(&query)?;
    let grants = texts(&query, "grant")?;
    check_prefixes(&grants, watch.as_ref())?;
    let config = config(&query)?;
    let (limits, reuse) = (limits(&query)?, reuse(&query)?);
    let (cache, replicate) = (number(&query, "cache", false)?, number(&query, "replicate", false)?);
    let pass_on_failure = pass_on_failure(&query)?;
    api.node.permission().write()?;
    let gathered = api.uploads.gather(&parts.headers, body, COMPONENT_BYTES_MAX).await?;
    let component = gathered.bytes.clone();
    let wanted = Deployment {
        name,
        routes,
        canary,
        watch,
        grants,
        config,
        limits,
        reuse,
        cache,
        replicate,
        pass_on_failure,
        component,
    };
    let release = api.handlers.deploy(wanted).await.map_err(refusal)?;
    let status = match release.record.newest_version() {
        1 => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    Ok((status, Json(HandlerStatus::of(&release))))
}

async fn remove(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    api.node.permission().write()?;
    match api.handlers.remove(&name).await {
        Ok(true) => Ok(StatusCode::NO_CONTENT),
        Ok(false) => Err(unknown(&name)),
        Err(error) => Err(refusal(DeployError::Store(error))),
    }
}

/// What one node says of a handler.
#[derive(Debug, Serialize)]
struct NodeState {
    node: String,
    #[serde(flatten)]
    state: HandlerState,
}

#[derive(Debug, Serialize)]
struct NodeList {
    nodes: Vec<NodeState>,
}

/// `GET /v1/handlers/NAME/nodes`: which version each node has looked at last, and what came of it.
async fn nodes(State(api): State<Arc<Api>>, Path(name): Path<String>) -> Json<NodeList> {
    let states = api.handlers.states(&name).into_iter();
    Json(NodeList { nodes: states.map(|(node, state)| NodeState { node, state }).collect() })
}

/// `POST /v1/handlers/NAME/rollback[?to=VERSION]`.
async fn roll_back(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<HandlerStatus>, Problem> {
    let (parts, body) = request.into_parts();
    no_body(&api, &parts, body, "the version goes into the query, ?to=VERSION").await?;
    let query = Query::parse(parts.uri.query(), &["to"])?;
    let number = |to: &[u8]| {
        let to = std::str::from_utf8(to).ok().and_then(|to| to.parse().ok());
        to.ok_or_else(|| Problem::bad_request("bad-parameter", "to is the number of a version"))
    };
    let to = query.get("to").map(number).transpose()?;
    api.node.permission().write()?;
    let release = api.handlers.roll_back(&name, to).await.map_err(refusal)?;
    Ok(Json(HandlerStatus::of(&release)))
}

/// Sees to it that the body is empty; `hint` is for who sent one. A chunked one says so late: unread,
/// it would end the connection.
async fn no_body(api: &Api, parts: &Parts, body: Body, hint: &str) -> Result<(), Problem> {
    let gathered = api.uploads.gather(&parts.headers, body, 0).await;
    gathered.map(drop).map_err(|problem| match problem.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::bad_request("unexpected-body", format!("this takes no body: {hint}"))
        }
        _ => problem,
    })
}

/// The values of a repeated parameter, as text.
fn texts(query: &Query, name: &'static str) -> Result<Vec<String>, Problem> {
    let text = |value: &[u8]| {
        String::from_utf8(value.to_vec()).map_err(|_| {
            Problem::bad_request("bad-parameter", format!("{name} is not text in UTF-8"))
        })
    };
    query.get_all(name).map(text).collect()
}

/// Without those that were there before.
fn once_each(mut texts: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    texts.retain(|text| seen.insert(text.clone()));
    texts
}

/// Refuses a star at the end of a prefix of keys, where it would stand for itself alone. Not where
/// records are read: one that was kept goes on as it is.
fn check_prefixes(grants: &[String], watch: Option<&Watch>) -> Result<(), Problem> {
    let granted = grants.iter().filter_map(|grant| {
        let (keys, access) = grant.strip_prefix("kv:")?.rsplit_once('=')?;
        Some((grant, format!("kv:{}={access}", keys.strip_suffix('*')?)))
    });
    let watched = watch.iter().flat_map(|watch| &watch.keys);
    let watched = watched.filter_map(|keys| Some((keys, keys.strip_suffix('*')?.to_owned())));
    match granted.chain(watched).next() {
        None => Ok(()),
        Some((given, meant)) => {
            let detail =
                format!("{given}: a prefix takes all keys that begin with it; write {meant}");
            Err(Problem::bad_request("bad-deployment", detail))
        }
    }
}

/// The settings, each `KEY=VALUE`.
fn config(query: &Query) -> Result<BTreeMap<String, String>, Problem> {
    let settings = texts(query, "config")?;
    let pair = |setting: String| match setting.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(Problem::bad_request("bad-parameter", "a setting is config=KEY=VALUE")),
    };
    settings.into_iter().map(pair).collect()
}

/// What the handler is to be told of, if anything.
fn watch(query: &Query) -> Result<Option<Watch>, Problem> {
    let keys = texts(query, "watch")?;
    let on = match query.get("watch_on") {
        None | Some(b"one") => WatchOn::One,
        Some(b"every") => WatchOn::Every,
        Some(_) => {
            let detail = "watch_on is one, the node that took the write, or every";
            return Err(Problem::bad_request("bad-parameter", detail));
        }
    };
    match keys.is_empty() {
        false => Ok(Some(Watch { keys, on })),
        true if query.get("watch_on").is_none() => Ok(None),
        true => {
            let detail = "watch_on says where; say with watch=BUCKET/PREFIX what is watched";
            Err(Problem::bad_request("bad-parameter", detail))
        }
    }
}

fn number<T: std::str::FromStr>(query: &Query, name: &str, default: T) -> Result<T, Problem> {
    let Some(value) = query.get(name) else { return Ok(default) };
    let text = std::str::from_utf8(value).unwrap_or_default();
    text.parse().map_err(|_| {
        Problem::bad_request(
            "bad-parameter",
            format!(
                "{name} is out of range: cache and replicate are true or false, all others are \
                 whole numbers"
            ),
        )
    })
}

/// Whether instances are to be used again, and for how long.
fn reuse(query: &Query) -> Result<Option<HandlerReuse>, Problem> {
    let idle_ms = number(query, "reuse_idle_ms", HandlerReuse::IDLE_MS_DEFAULT)?;
    let at_once = number(query, "reuse_at_once", 1)?;
    let is_given = |name| query.get(name).is_some();
    match query.get("reuse") {
        Some(_) => {
            let requests = number(query, "reuse", 0)?;
            Ok(Some(HandlerReuse { requests, idle_ms, at_once }))
        }
        None if is_given("reuse_idle_ms") || is_given("reuse_at_once") => {
            Err(Problem::bad_request(
                "bad-parameter",
                "reuse_idle_ms says how long an instance waits for its next request and \
                 reuse_at_once how many it works on at once; say with reuse how many it answers",
            ))
        }
        None => Ok(None),
    }
}

/// What becomes of requests of a filter that fails.
fn pass_on_failure(query: &Query) -> Result<bool, Problem> {
    match query.get("on_failure").map(std::str::from_utf8) {
        None | Some(Ok("fail")) => Ok(false),
        Some(Ok("pass")) => Ok(true),
        Some(_) => Err(Problem::bad_request("bad-parameter", "on_failure is fail or pass")),
    }
}

/// The limits that were given, and the defaults of the others.
fn limits(query: &Query) -> Result<HandlerLimits, Problem> {
    let default = HandlerLimits::default();
    Ok(HandlerLimits {
        cpu_ms: number(query, "cpu_ms", default.cpu_ms)?,
        wall_ms: number(query, "wall_ms", default.wall_ms)?,
        memory_bytes: number(query, "memory_bytes", default.memory_bytes)?,
        response_bytes: number(query, "response_bytes", default.response_bytes)?,
        concurrency: number(query, "concurrency", default.concurrency)?,
    })
}

fn unknown(name: &str) -> Problem {
    let detail = format!("no handler is called {name}; GET /v1/handlers lists those there are");
    Problem::new(StatusCode::NOT_FOUND, "unknown-handler", detail)
}

fn refusal(error: DeployError) -> Problem {
    let (status, code) = match &error {
        DeployError::Manifest(_) => (StatusCode::BAD_REQUEST, "bad-deployment"),
        DeployError::RouteTaken { .. } => (StatusCode::CONFLICT, "route-taken"),
        DeployError::Compile(_) => (StatusCode::UNPROCESSABLE_ENTITY, "bad-component"),
        DeployError::NoWatcher
        | DeployError::NoHandler
        | DeployError::NoFilter
        | DeployError::CannotShare => (StatusCode::UNPROCESSABLE_ENTITY, "wrong-world"),
        DeployError::NotGranted(_) | DeployError::NoPurgeGranted => {
            (StatusCode::UNPROCESSABLE_ENTITY, "not-granted")
        }
        DeployError::Start(_) => (StatusCode::UNPROCESSABLE_ENTITY, "cannot-start"),
        DeployError::Unknown(name) => return unknown(name),
        DeployError::NoRoute { .. } => (StatusCode::CONFLICT, "no-such-route"),
        DeployError::NoVersion { .. } => (StatusCode::CONFLICT, "no-such-version"),
        DeployError::NothingLive(_) => (StatusCode::CONFLICT, "nothing-live"),
        DeployError::NoCanary(_) => (StatusCode::CONFLICT, "no-canary"),
        DeployError::NotHere => return Problem::busy("not-here-yet", error.to_string(), 1),
        DeployError::Damaged => (StatusCode::UNPROCESSABLE_ENTITY, "bad-component"),
        DeployError::Store(WriteError::Obstacle(obstacle)) => return (*obstacle).into(),
        DeployError::Store(WriteError::TooLarge { .. }) => {
            (StatusCode::PAYLOAD_TOO_LARGE, "too-large")
        }
        DeployError::Store(WriteError::Full { .. }) | DeployError::TooMany => {
            (StatusCode::INSUFFICIENT_STORAGE, "full")
        }
        DeployError::GivenUp => {
            return Problem::busy("compilation-given-up", error.to_string(), 1);
        }
    };
    Problem::new(status, code, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_that_is_given_twice_is_one() {
        let routes = ["/b", "/a", "/b"].map(str::to_owned).to_vec();
        assert_eq!(once_each(routes), ["/b", "/a"]);
    }

    #[test]
    fn a_star_after_a_prefix_of_keys_is_refused_with_what_was_meant() {
        let check = |grants: &[&str], keys: &[&str]| {
            let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            let watch = Watch { keys: texts(keys), on: WatchOn::One };
            let grants: Vec<String> = texts(grants);
            let refused = check_prefixes(&grants, Some(&watch));
            refused.err().map(|problem| problem.detail().to_owned()).unwrap_or_default()
        };
        assert_eq!(check(&["kv:default/user:=rw", "http:*.a", "purge:tag=a*"], &["default/a"]), "");
        let granted = check(&["kv:default/user:*=rw"], &[]);
        assert!(granted.ends_with("write kv:default/user:=rw"), "{granted}");
        let watched = check(&[], &["default/in:*"]);
        assert!(watched.ends_with("write default/in:"), "{watched}");
    }
}
