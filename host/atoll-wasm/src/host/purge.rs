//! What a guest takes back from the HTTP caches of all nodes.

use std::pin::Pin;

/// The future of a purge: it ends when this node no longer shows what was purged.
pub type Purging = Pin<Box<dyn Future<Output = Result<(), PurgeError>> + Send>>;

/// What is to be purged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    /// At most `PURGES_MAX`, as the guest wrote them.
    pub scopes: Vec<PurgeScope>,
    /// Stale rather than gone.
    pub is_soft: bool,
}

/// What one part of a purge is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PurgeScope {
    /// A URL with all its variants.
    Url(String),
    /// What begins with a URL.
    Prefix(String),
    /// What has a tag.
    Tag(String),
    /// What is of a host.
    Host(String),
    /// Everything.
    All,
}

/// Why nothing was purged. The text reaches the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PurgeError {
    /// The handler was not granted this; names the missing grant.
    Denied(String),
    /// It names nothing that can be purged.
    Invalid(String),
    /// One call has purged as much as it may; has the bound.
    TooMany(String),
    /// The same call may work later.
    Unavailable(String),
}

impl PurgeScope {
    /// The word for it, as in `/v1/purge`, and what it names.
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            PurgeScope::Url(name) => ("url", name),
            PurgeScope::Prefix(name) => ("prefix", name),
            PurgeScope::Tag(name) => ("tag", name),
            PurgeScope::Host(name) => ("host", name),
            PurgeScope::All => ("all", ""),
        }
    }
}
