//! How components become code: from the cache on disk, or compiled.

use super::guest::GuestHost;
use super::turns::Turns;
use crate::metrics::Metrics;
use atoll_wasm::code_cache::{CodeCache, Origin};
use atoll_wasm::component::Component;
use atoll_wasm::engine::Engine;
use atoll_wasm::error::CompileError;
use bytes::Bytes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::Semaphore;
use tracing::warn;

/// Components that are loaded, compiled or wait for it at once; each has a thread. The engine compiles
/// one after the other, and what the cache holds does not wait for that.
const AT_ONCE_MAX: usize = 64;

/// Where compiled code is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) directory: PathBuf,
    /// What all files in it may take together, in bytes.
    pub(crate) bytes_max: u64,
}

/// Turns components into code.
#[derive(Debug)]
pub(super) struct Code {
    cache: Option<Arc<CodeCache>>,
    places: Semaphore,
    /// One digest after the other: the second handler with a component finds it made.
    pub(super) turns: Turns,
    /// By digest, as long as somebody has them.
    recent: Mutex<BTreeMap<String, Weak<Component<GuestHost>>>>,
    made: Family<Made, Counter>,
}

/// How a component's code came: `compiled`, or `loaded` from the cache.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Made {
    how: &'static str,
}

impl Code {
    /// Opens the cache. A node does without if it must, and says so.
    pub(super) fn open(settings: Option<&Settings>, metrics: &Metrics) -> Code {
        let made = Family::<Made, Counter>::default();
        let help = "Components made ready to run, compiled or loaded from the cache on disk";
        metrics.register("handler_components", help, made.clone());
        let cache = settings.and_then(|settings| {
            let opened = CodeCache::open(&settings.directory, settings.bytes_max);
            opened
                .map(Arc::new)
                .inspect_err(|error| warn!(%error, "no cache of compiled code"))
                .ok()
        });
        Code {
            cache,
            places: Semaphore::new(AT_ONCE_MAX),
            turns: Turns::default(),
            recent: Mutex::default(),
            made,
        }
    }

    /// Makes a component ready to run. `None` if that was given up.
    pub(super) async fn component(
        &self,
        engine: &Engine<GuestHost>,
        digest: &str,
        wasm: Bytes,
    ) -> Option<Result<Arc<Component<GuestHost>>, CompileError>> {
        let _turn = self.turns.of(digest).await;
        if let Some(component) = self.recent(digest) {
            return Some(Ok(component));
        }
        let _place = self.places.acquire().await.ok()?;
        let (engine, cache) = (engine.clone(), self.cache.clone());
        let made = tokio::task::spawn_blocking(move || match cache {
            Some(cache) => engine.load_or_compile(&wasm, &cache),
            None => engine
                .compile(&wasm)
                .map(|component| (component, Origin::Compiled { refused: None, kept: Ok(true) })),
        });
        Some(made.await.ok()?.map(|(component, origin)| {
            self.note(&origin);
            let component = Arc::new(component);
            self.remember(digest, &component);
            component
        }))
    }

    fn recent(&self, digest: &str) -> Option<Arc<Component<GuestHost>>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.get(digest)?.upgrade()
    }

    fn remember(&self, digest: &str, component: &Arc<Component<GuestHost>>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|_, component| component.strong_count() > 0);
        recent.insert(digest.to_owned(), Arc::downgrade(component));
    }

    fn note(&self, origin: &Origin) {
        let how = match origin {
            Origin::Loaded => "loaded",
            Origin::Compiled { refused, kept } => {
                if let Some(reason) = refused {
                    warn!(%reason, "a file of compiled code was not used; compiled again");
                }
                match kept {
                    Ok(true) => {}
                    Ok(false) => warn!("compiled code is larger than --code-cache-max: not kept"),
                    Err(error) => warn!(%error, "compiled code could not be kept"),
                }
                "compiled"
            }
        };
        self.made.get_or_create(&Made { how }).inc();
    }
}
