//! What is said about a route to an upstream.

use crate::upstream;
use atoll_core::http::edits::{CookieNames, FieldEdits, PathRewrite};
use atoll_core::http_cache::key::QueryRules;
use atoll_core::http_cache::storing::Rules;
use atoll_core::route::Pattern;

/// A route of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct RouteSettings {
    /// Which requests it takes.
    pub(crate) pattern: Pattern,
    /// Where they go.
    pub(crate) upstream: upstream::Settings,
    /// How their responses are cached; `None` is not at all.
    pub(crate) cache: Option<CacheSettings>,
    /// What is changed in what goes through.
    pub(crate) edits: RouteEdits,
    /// The name of the filter that stands around its cache.
    pub(crate) filter: Option<Box<str>>,
    /// Upstreams that the filter may choose.
    pub(crate) others: Vec<(Box<str>, upstream::Settings)>,
    /// Of all that is written of it and shapes responses: routes with the same hash make the same ones.
    pub(crate) hash: u64,
}

impl RouteSettings {
    /// Whether one node of the cluster fetches for all.
    pub(crate) fn is_shielded(&self) -> bool {
        self.cache.as_ref().is_some_and(|cache| cache.is_shielded)
    }

    /// Whether what one node has fetched is shared with all.
    pub(crate) fn is_replicated(&self) -> bool {
        self.cache.as_ref().is_some_and(|cache| cache.replicated.is_some())
    }
}

/// What a route changes in requests and responses.
#[derive(Clone, Debug, Default)]
pub(crate) struct RouteEdits {
    /// Cookies that the upstream does not see.
    pub(crate) cookies: CookieNames,
    /// Fields of requests.
    pub(crate) request: FieldEdits,
    /// Fields of responses, before they are stored.
    pub(crate) response: FieldEdits,
    /// Protocols to which clients may upgrade a connection through it.
    pub(crate) upgrades: Vec<String>,
    /// Paths that the upstream is asked for.
    pub(crate) path: PathRewrite,
    /// Whether references in responses to what the upstream knows become what clients know.
    pub(crate) rewrites_location: bool,
}

/// How the responses of a route are cached.
#[derive(Clone, Debug)]
pub(crate) struct CacheSettings {
    pub(crate) rules: Rules,
    pub(crate) query: QueryRules,
    /// Longest body that is stored.
    pub(crate) object_bytes_max: u64,
    /// Whether stored responses are sent with a content coding.
    pub(crate) compresses: bool,
    /// Whether what clients ask of a cache is followed.
    pub(crate) follows_clients: bool,
    /// Whether one node of the cluster fetches for all.
    pub(crate) is_shielded: bool,
    /// How what one node has fetched is shared with all; `None` is not at all.
    pub(crate) replicated: Option<Replicated>,
}

/// How responses are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replicated {
    /// Longest body that is shared, in bytes.
    pub(crate) body_bytes_max: u64,
}
