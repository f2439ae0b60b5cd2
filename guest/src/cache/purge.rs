//! Purges: what HTTP caches hold, taken back on every node.

use std::fmt;

use crate::bindings::atoll::edge::cache::{PurgeError, PurgeScope, PurgeStrength};
use crate::node::cache::purge as ask;

/// Why nothing was purged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The handler was not granted this; the text names the missing grant.
    Denied(String),
    /// It names nothing that can be purged.
    Invalid(String),
    /// More than 64 names in one call of the handler.
    TooMany(String),
    /// The node takes no writes now, and the same call may work later.
    Unavailable(String),
}

/// What is to be taken back from the HTTP caches of all nodes, as far as the handler was granted it:
/// `--grant purge`, `purge:host=HOST`, `purge:prefix=HOST/PATH`, `purge:tag=TAG`.
///
/// ```
/// use atoll_guest::cache::{Purge, PurgeError};
/// use atoll_guest::testing::Node;
/// use atoll_guest::{Request, Response, handler};
///
/// #[handler]
/// fn changed(request: Request) -> Result<Response, PurgeError> {
///     let shoe = request.query("shoe").unwrap_or_default();
///     Purge::new().tag(format!("shoe-{shoe}")).url("https://shop.example.com/").send()?;
///     Ok(Response::new(204))
/// }
///
/// let node = Node::start().with_grants(&["purge:tag=shoe-*", "purge:host=shop.example.com"]);
/// assert_eq!(node.run(changed, Request::new("POST", "/?shoe=7")).status_code(), 204);
/// assert_eq!(node.purged(), ["hard tag shoe-7", "hard url https://shop.example.com/"]);
/// assert!(matches!(Purge::new().all().send(), Err(PurgeError::Denied(_))));
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is purged before `send`"]
pub struct Purge {
    scopes: Vec<PurgeScope>,
    strength: PurgeStrength,
}

impl Purge {
    /// Makes a purge of nothing yet.
    pub fn new() -> Purge {
        Purge { scopes: Vec::new(), strength: PurgeStrength::Hard }
    }

    /// Adds all that have this tag.
    pub fn tag(self, tag: impl Into<String>) -> Purge {
        self.and(PurgeScope::Tag(tag.into()))
    }

    /// Adds one URL with all its variants. Without scheme and host it is that of every host.
    pub fn url(self, url: impl Into<String>) -> Purge {
        self.and(PurgeScope::Url(url.into()))
    }

    /// Adds all whose URL begins so.
    pub fn prefix(self, prefix: impl Into<String>) -> Purge {
        self.and(PurgeScope::Prefix(prefix.into()))
    }

    /// Adds all of a host.
    pub fn host(self, host: impl Into<String>) -> Purge {
        self.and(PurgeScope::Host(host.into()))
    }

    /// Adds everything.
    pub fn all(self) -> Purge {
        self.and(PurgeScope::All)
    }

    /// Makes it stale rather than gone: it is used while it is validated.
    pub fn soft(self) -> Purge {
        Purge { strength: PurgeStrength::Soft, ..self }
    }

    /// Purges: on this node before this returns, on every other one a moment later. All of it is
    /// checked before any is done.
    pub fn send(&self) -> Result<(), Error> {
        ask(&self.scopes, self.strength).map_err(|error| match error {
            PurgeError::Denied(detail) => Error::Denied(detail),
            PurgeError::Invalid(detail) => Error::Invalid(detail),
            PurgeError::TooMany(detail) => Error::TooMany(detail),
            PurgeError::Unavailable(detail) => Error::Unavailable(detail),
        })
    }

    fn and(mut self, scope: PurgeScope) -> Purge {
        self.scopes.push(scope);
        self
    }
}

impl Default for Purge {
    fn default() -> Purge {
        Purge::new()
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, detail) = match self {
            Error::Denied(detail) => ("denied", detail),
            Error::Invalid(detail) => ("invalid", detail),
            Error::TooMany(detail) => ("too many", detail),
            Error::Unavailable(detail) => ("unavailable", detail),
        };
        write!(formatter, "purge: {kind}: {detail}")
    }
}
