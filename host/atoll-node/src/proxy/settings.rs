//! What is said about a route to an upstream.

use crate::upstream;
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
}
