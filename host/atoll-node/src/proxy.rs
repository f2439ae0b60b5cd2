//! Routes to upstreams: requests passed on, with the cache in front where the route has one.

mod answer;
mod drive;
mod edits;
mod fetch;
pub(crate) mod filters;
mod forward;
pub(crate) mod guest;
mod head;
mod keys;
mod latest;
mod lookup;
mod outgoing;
mod parts;
mod post;
mod records;
mod replicate;
pub(crate) mod routes;
pub(crate) mod settings;
mod shield;
mod upgrade;

use crate::cache::Cache;
use crate::cache::replicated::Shared;
use crate::handlers::Handlers;
use crate::node::Node;
use crate::problem::Problem;
use crate::upstream::Upstream;
use arc_swap::ArcSwap;
use atoll_core::route::{Pattern, RouteTable, Target};
use axum::extract::Request;
use axum::response::Response;
use guest::Guest;
use http::uri::Authority;
use latest::Latest;
use outgoing::Outgoing;
use records::{Figures, From, Records};
use settings::{CacheSettings, RouteEdits, RouteSettings};
use shield::Shield;
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The routes of a node and its cache.
#[derive(Debug)]
pub(crate) struct Proxy {
    routes: ArcSwap<RouteTable<Arc<Routed>>>,
    /// Those of the node's own file.
    fixed_routes: Vec<Arc<Routed>>,
    route_records: routes::Records,
    cache: Arc<Cache>,
    shared: Arc<Shared>,
    outgoing: Arc<Outgoing>,
    /// Its name is that by which it knows its own requests again.
    node: Arc<Node>,
    /// Fetches that go on without the client that began them.
    fetches: TaskTracker,
    figures: Figures,
    /// Where a route asks for it.
    shield: OnceLock<Arc<Shield>>,
    /// Where others reach this node's gateway, where that is known.
    own_gateway: Option<Authority>,
    /// Ends what tells them.
    announcing: CancellationToken,
    /// The routes to handlers.
    guests: Latest<Arc<Route>>,
    handlers: Arc<Handlers>,
    filter_versions: Latest<()>,
}

/// A route in the table.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) pattern: Pattern,
    pub(crate) route: Arc<Route>,
}

/// One route.
#[derive(Debug)]
pub(crate) struct Route {
    source: Source,
    cache: Option<CacheSettings>,
    edits: RouteEdits,
    /// The name of its filter.
    filter: Option<Box<str>>,
    /// Upstreams that its filter may choose, by name.
    others: Vec<(Box<str>, Arc<Upstream>)>,
    records: Records,
    /// All that it says.
    hash: u64,
}

/// Where requests of a route go.
#[derive(Debug)]
enum Source {
    Upstream(Arc<Upstream>),
    Guest(Guest),
}

impl Route {
    fn new(settings: &RouteSettings, figures: &Figures) -> anyhow::Result<Route> {
        Ok(Route {
            source: Source::Upstream(Arc::new(Upstream::new(settings.upstream.clone())?)),
            cache: settings.cache.clone(),
            edits: settings.edits.clone(),
            filter: settings.filter.clone(),
            others: others(settings)?,
            records: figures.records(&settings.pattern.to_string()),
            hash: settings.hash,
        })
    }

    /// Whether one node of the cluster fetches for all.
    fn is_shielded(&self) -> bool {
        self.cache.as_ref().is_some_and(|cache| cache.is_shielded)
    }
}

impl Proxy {
    /// Opens no connection yet.
    ///
    /// `own` is where other nodes reach this node's gateway.
    pub(crate) fn new(
        node: &Arc<Node>,
        (shared, handlers): (&Arc<Shared>, &Arc<Handlers>),
        settings: &[RouteSettings],
        own: Option<Authority>,
    ) -> anyhow::Result<Arc<Proxy>> {
        let figures = Figures::register(node.metrics());
        let cache = shared.purges().cache();
        let fixed_routes = settings.iter().map(|settings| {
            let route = Arc::new(Route::new(settings, &figures)?);
            Ok(Arc::new(Routed { pattern: settings.pattern.clone(), route }))
        });
        let fixed_routes = fixed_routes.collect::<anyhow::Result<Vec<Arc<Routed>>>>()?;
        let all = fixed_routes.iter().map(|routed| (routed.pattern.clone(), Arc::clone(routed)));
        let routes = ArcSwap::from_pointee(RouteTable::new(all.collect()));
        if settings.iter().any(RouteSettings::is_replicated) {
            shared.begin();
        }
        Ok(Arc::new(Proxy {
            shield: OnceLock::new(),
            own_gateway: own,
            announcing: CancellationToken::new(),
            routes,
            fixed_routes,
            route_records: routes::Records::open(node)?,
            cache: Arc::clone(cache),
            shared: Arc::clone(shared),
            outgoing: Outgoing::new(shared),
            node: Arc::clone(node),
            fetches: TaskTracker::new(),
            figures,
            guests: Latest::default(),
            handlers: Arc::clone(handlers),
            filter_versions: Latest::default(),
        }))
    }

    /// Begins to check the health of upstreams, where that is asked for, until `shutdown`.
    pub(crate) fn watch_health(&self, tasks: &TaskTracker, shutdown: &CancellationToken) {
        self.fixed_routes.iter().for_each(|routed| self.watch_route(routed, tasks, shutdown));
    }

    fn watch_route(&self, routed: &Routed, tasks: &TaskTracker, shutdown: &CancellationToken) {
        let Routed { pattern, route } = routed;
        let others = route.others.iter().map(|(_, upstream)| upstream);
        let Source::Upstream(upstream) = &route.source else { return };
        for upstream in std::iter::once(upstream).chain(others) {
            let Some((count, _)) = upstream.checks() else { continue };
            for index in 0..count {
                let address = upstream.name_of(index);
                let is_up = self.figures.upstream_up(&pattern.to_string(), address);
                let (upstream, shutdown) = (Arc::clone(upstream), shutdown.clone());
                tasks.spawn(async move { upstream.watch(index, is_up, shutdown).await });
            }
        }
    }

    /// Begins to tell other nodes where this one's gateway is, where that is of use, until `shutdown`.
    pub(crate) fn announce(
        self: &Arc<Self>,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        let (announcing, shutdown) = (self.announcing.clone(), shutdown.clone());
        tasks.spawn(async move {
            shutdown.cancelled().await;
            announcing.cancel();
        });
        let is_shielded = |routed: &Arc<Routed>| routed.route.is_shielded();
        if self.fixed_routes.iter().any(is_shielded) {
            self.begin_shield()?;
        }
        Ok(())
    }

    /// The route that takes a request.
    pub(crate) fn find(&self, target: Target<'_>) -> Option<Arc<Routed>> {
        self.routes.load().find(target).cloned()
    }

    /// Answers a request of `route`.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        route: &Arc<Route>,
        request: Request,
        authority: Option<&Authority>,
    ) -> Result<Response, Problem> {
        // From here on the request is what these make of it: what the upstream does not see cannot
        // matter to the cache.
        let (mut parts, body) = request.into_parts();
        self.note_node(&mut parts);
        route.edits.of_request(&mut parts.headers);
        let request = Request::from_parts(parts, body);
        match &route.filter {
            Some(name) => self.serve_filtered((route, name), request, authority).await,
            None => self.serve_unfiltered(route, request, authority).await,
        }
    }

    async fn serve_unfiltered(
        self: &Arc<Self>,
        route: &Arc<Route>,
        request: Request,
        authority: Option<&Authority>,
    ) -> Result<Response, Problem> {
        match &route.cache {
            Some(settings) => self.serve_cached(route, settings, request, authority).await,
            None => self
                .pass(route, request, authority)
                .await
                .map(|answer| route.records.sent(answer, From::Upstream)),
        }
    }
}

fn others(settings: &RouteSettings) -> anyhow::Result<Vec<(Box<str>, Arc<Upstream>)>> {
    let others = settings.others.iter();
    others
        .map(|(name, settings)| Ok((name.clone(), Arc::new(Upstream::new(settings.clone())?))))
        .collect()
}
