//! One version of one handler that can be called, and the release that it is part of.

use super::guest::{GuestHost, Identity};
use atoll_core::manifest::HandlerRecord;
use atoll_core::manifest::canary::Share;
use atoll_core::manifest::watch::{WatchOn, WatchedKeys};
use atoll_core::route::{Pattern, Target};
use atoll_wasm::component::Component;
use atoll_wasm::component::filter::Hooks;
use atoll_wasm::host::Level;
use atoll_wasm::limits::Limits;
use atoll_wasm::reuse::Pool;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Semaphore;
use tracing::warn;

/// What answers for a handler: its live version, and perhaps one on trial.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    /// As it is kept.
    pub(crate) record: HandlerRecord,
    pub(crate) live: Arc<Deployed>,
    pub(crate) canary: Option<(Share, Arc<Deployed>)>,
}

/// Which requests of its handler a version gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// All that no canary takes.
    Live,
    /// A share.
    Canary,
}

impl Standing {
    /// The word for it in figures.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Standing::Live => "live",
            Standing::Canary => "canary",
        }
    }
}

/// One version of one handler, ready to be called.
#[derive(Debug)]
pub(crate) struct Deployed {
    /// As it was deployed, without the canary beside it.
    pub(crate) record: HandlerRecord,
    /// What it is told of, and where, if anything.
    pub(super) watch: Option<(WatchOn, Vec<WatchedKeys>)>,
    /// Which requests it gets.
    pub(crate) standing: Standing,
    /// The compiled component.
    pub(crate) component: Arc<Component<GuestHost>>,
    /// That of the version before, by its digest: it may be wanted back at once.
    pub(super) before: Option<(String, Arc<Component<GuestHost>>)>,
    /// What its guests may do, and who they are.
    pub(crate) identity: Arc<Identity>,
    /// What one request may use.
    pub(crate) limits: Limits,
    /// Instances that may be used again, if the record asks for that.
    pub(crate) pool: Option<Arc<Pool<GuestHost>>>,
    /// Whether it was said that using them again seems to break the handler.
    pub(super) is_reuse_doubted: AtomicBool,
    /// Whether it was said that they are not used again after all.
    pub(super) is_pool_given_up: AtomicBool,
    /// Places for requests at once.
    pub(crate) places: Arc<Semaphore>,
    /// What has become of its requests.
    pub(crate) counts: Counts,
    /// Which functions a filter has.
    pub(crate) hooks: Hooks,
    pub(super) patterns: Vec<Pattern>,
}

/// Sums over the requests of one version.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Requests that have ended.
    pub(crate) requests: AtomicU64,
    /// Those that got a 5xx of the node's in the place of an answer.
    pub(crate) failures: AtomicU64,
}

impl Deployed {
    /// The most specific of its patterns that takes a request.
    pub(crate) fn pattern(&self, target: Target<'_>) -> Option<&Pattern> {
        let matching = self.patterns.iter().filter(|pattern| pattern.matches(target));
        matching.min_by(|a, b| a.specificity(b))
    }

    /// Whether one of its patterns takes the same requests.
    pub(crate) fn conflicts_with(&self, other: &Pattern) -> bool {
        self.patterns.iter().any(|pattern| pattern.conflicts_with(other))
    }

    /// Says once what becomes of using instances again. Returns how many requests were given to a fresh
    /// one meanwhile because a used one had failed.
    pub(super) fn look_at_pool(&self) -> u64 {
        let Some(pool) = &self.pool else { return 0 };
        let HandlerRecord { name, version, .. } = &self.record;
        if let Some(why) = pool.doubt()
            && !self.is_reuse_doubted.swap(true, Ordering::Relaxed)
        {
            warn!(handler = name, version, why, "reuse seems to break this handler");
            self.identity.remark(Level::Warn, &format!("reuse seems to break this handler: {why}"));
        }
        if let Some(why) = pool.broken()
            && !self.is_pool_given_up.swap(true, Ordering::Relaxed)
        {
            warn!(handler = name, version, why, "reuse is given up: a fresh instance each time");
            self.identity.remark(Level::Warn, &format!("reuse is given up: {why}"));
        }
        pool.take_retries()
    }
}

impl Release {
    /// The version for one request. Each request is diced for: a client may meet both.
    pub(crate) fn choose(&self) -> &Arc<Deployed> {
        match &self.canary {
            // Without dice the version that has proved itself.
            Some((share, canary)) if getrandom::u64().is_ok_and(|dice| share.takes(dice)) => canary,
            _ => &self.live,
        }
    }

    /// Both versions, or the one.
    pub(crate) fn versions(&self) -> impl Iterator<Item = &Arc<Deployed>> {
        std::iter::once(&self.live).chain(self.canary.as_ref().map(|(_, canary)| canary))
    }
}
