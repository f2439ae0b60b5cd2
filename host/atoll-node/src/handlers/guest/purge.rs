//! What a guest takes back from the caches: as far as it was granted, by the same records as
//! `/v1/purge`.

use super::{GuestHost, Identity};
use atoll_core::grant::purge::PurgeGrant;
use atoll_core::http_cache::purge::{Scope, Strength};
use atoll_wasm::host::purge::{Purge, PurgeError, Purging};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl GuestHost {
    pub(super) fn begin_purge(&self, purge: &Purge) -> Purging {
        let purged = self.purge_now(purge);
        let purges = Arc::clone(&self.common.purges);
        Box::pin(async move {
            purged?;
            purges.settle_keys().await;
            Ok(())
        })
    }

    fn purge_now(&self, purge: &Purge) -> Result<(), PurgeError> {
        let scopes = scopes(&self.identity, purge)?;
        let strength = if purge.is_soft { Strength::Soft } else { Strength::Hard };
        let later = |refusal: String| PurgeError::Unavailable(refusal);
        self.node().permission().write().map_err(|refusal| later(refusal.to_string()))?;
        self.traces.has_written.store(true, Ordering::Relaxed);
        let purges = &self.common.purges;
        let mut written = scopes.iter().map(|scope| purges.purge(scope, strength));
        written.try_for_each(|written| written.map_err(|error| later(error.to_string())))
    }
}

/// What a purge is about, if it may be purged.
fn scopes(identity: &Identity, purge: &Purge) -> Result<Vec<Scope>, PurgeError> {
    if purge.scopes.is_empty() {
        return Err(PurgeError::Invalid("it names nothing that is to be purged".to_owned()));
    }
    let named = purge.scopes.iter().map(|scope| {
        let (word, name) = scope.parts();
        let scope = Scope::named(word, name);
        let scope = scope.map_err(|error| PurgeError::Invalid(error.to_string()))?;
        if identity.purge.iter().any(|grant| grant.allows(&scope)) {
            return Ok(scope);
        }
        let grant = PurgeGrant::least_for(&scope);
        Err(PurgeError::Denied(format!(
            "{grant} is not granted; deploy the handler with --grant {grant}"
        )))
    });
    named.collect()
}
