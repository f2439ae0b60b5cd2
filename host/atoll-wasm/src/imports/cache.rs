//! `atoll:edge/cache` over a [`Host`](crate::host::Host): get, or fill while the others wait; and
//! purges of what HTTP caches hold.

use wasmtime::component::Resource;

use super::kv::lifetime;
use crate::bindings::atoll::edge::cache::{self, Found};
use crate::bindings::atoll::edge::kv;
use crate::host::purge::{Purge, PurgeError, PurgeScope};
use crate::host::{Condition, Host, KvError, Level, Set};
use crate::instance::Guest;
use crate::limits::{HANDLES_MAX, PURGES_MAX};

type Handle = Resource<cache::Filling>;

impl<H: Host> cache::Host for Guest<H> {
    async fn get_or_fill(
        &mut self,
        bucket: String,
        key: String,
    ) -> wasmtime::Result<Result<Found, kv::Error>> {
        let found = get_or_fill(self, &bucket, &key).await;
        self.tell_kv(found)
    }

    async fn purge(
        &mut self,
        scopes: Vec<cache::PurgeScope>,
        strength: cache::PurgeStrength,
    ) -> wasmtime::Result<Result<(), cache::PurgeError>> {
        let is_soft = strength == cache::PurgeStrength::Soft;
        let purged = purge(self, scopes, is_soft).await;
        if let Err(PurgeError::Denied(what)) = &purged {
            self.log().write(Level::Warn, &format!("purge: {what}"));
        }
        Ok(purged.map_err(|error| match error {
            PurgeError::Denied(detail) => cache::PurgeError::Denied(detail),
            PurgeError::Invalid(detail) => cache::PurgeError::Invalid(detail),
            PurgeError::TooMany(detail) => cache::PurgeError::TooMany(detail),
            PurgeError::Unavailable(detail) => cache::PurgeError::Unavailable(detail),
        }))
    }
}

async fn purge<H: Host>(
    guest: &mut Guest<H>,
    scopes: Vec<cache::PurgeScope>,
    is_soft: bool,
) -> Result<(), PurgeError> {
    let count = u32::try_from(scopes.len()).unwrap_or(u32::MAX);
    let left = guest.purges_left.checked_sub(count).ok_or_else(|| {
        PurgeError::TooMany(format!("one call may purge {PURGES_MAX} names, not more"))
    })?;
    guest.purges_left = left;
    let scopes = scopes.into_iter().map(|scope| match scope {
        cache::PurgeScope::Url(name) => PurgeScope::Url(name),
        cache::PurgeScope::Prefix(name) => PurgeScope::Prefix(name),
        cache::PurgeScope::Tag(name) => PurgeScope::Tag(name),
        cache::PurgeScope::Host(name) => PurgeScope::Host(name),
        cache::PurgeScope::All => PurgeScope::All,
    });
    guest.host.purge(Purge { scopes: scopes.collect(), is_soft }).await
}

impl<H: Host> cache::HostFilling for Guest<H> {
    fn finish(
        &mut self,
        handle: Handle,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> wasmtime::Result<Result<(), kv::Error>> {
        let filling = self.fillings.remove(handle.rep());
        let filling = filling.ok_or_else(|| wasmtime::Error::msg("a turn that is over"))?;
        let set = lifetime(ttl_ms).and_then(|ttl_ms| {
            let bucket = self.host.open(filling.bucket())?;
            let set = Set { value: value.into(), ttl_ms, condition: Condition::Always };
            self.host.set(&bucket, filling.key(), set).map(drop)
        });
        // The turn ends after the value is there for those who wait.
        drop(filling);
        self.tell_kv(set)
    }

    fn drop(&mut self, handle: Handle) -> wasmtime::Result<()> {
        self.fillings.remove(handle.rep());
        Ok(())
    }
}

async fn get_or_fill<H: Host>(
    guest: &mut Guest<H>,
    bucket_name: &str,
    key: &str,
) -> Result<Found, KvError> {
    let bucket = guest.host.open(bucket_name)?;
    let fills = guest.fills.clone();
    let fills = fills.ok_or_else(|| KvError::Unavailable("no value can be filled".to_owned()))?;
    loop {
        if let Some(value) = guest.host.get(&bucket, key)? {
            return Ok(Found::Value(value.into()));
        }
        let holds = |filling: &crate::fills::Filling| {
            filling.bucket() == bucket_name && filling.key() == key
        };
        if guest.fillings.iter().any(holds) {
            let text = format!("this call has the turn to fill {key} already");
            return Err(KvError::Invalid(text));
        }
        match fills.claim(bucket_name, key) {
            Err(turn) => turn.over().await,
            Ok(filling) => {
                // Another may have finished since we looked.
                if let Some(value) = guest.host.get(&bucket, key)? {
                    return Ok(Found::Value(value.into()));
                }
                let taken = |_| KvError::Unavailable(format!("{HANDLES_MAX} turns are held"));
                let place = guest.fillings.insert(filling).map_err(taken)?;
                return Ok(Found::Missing(Resource::new_own(place)));
            }
        }
    }
}
