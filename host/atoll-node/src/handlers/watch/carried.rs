//! A chain of watchers' calls that goes on over HTTP: how long it is, in a field of the requests that
//! its calls send.
//!
//! The field is sealed with a key that the nodes of a cluster share, or else with one of this process
//! alone: a client that could write it could cut the chains of others. It holds for a minute, and
//! what is not whole counts as not there.

use super::super::Handlers;
use super::Told;
use super::causes::ChainRefusal;
use crate::config::Secret;
use atoll_core::key::BucketName;
use atoll_core::manifest::watch::WatchOn;
use atoll_core::store::edit::Written;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;
use std::fmt;

/// The field.
pub(crate) const CAUSE: HeaderName = HeaderName::from_static("atoll-cause");
/// Says that this key is used for this and nothing else.
const PURPOSE: &[u8] = b"atoll cause 1";
/// How long a field holds, in ms: longer than a request is on its way, whatever the clocks say.
const VALID_MS: u64 = 60_000;
/// Bytes of the seal that are sent.
const SEAL_BYTES: usize = 16;

/// What seals the field.
pub(crate) struct Seal(Hmac<Sha256>);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// With the key that all nodes have, or one that nobody else has.
    ///
    /// # Errors
    ///
    /// The system gives no random numbers.
    pub(super) fn new(shared: Option<&Secret>) -> anyhow::Result<Seal> {
        let mac = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).expect("any length will do");
        let mut own = [0; 32];
        let mac = match shared {
            Some(key) => mac(key.reveal().as_bytes()),
            None => {
                getrandom::fill(&mut own)?;
                mac(&own)
            }
        };
        Ok(Seal(mac.chain_update(PURPOSE)))
    }

    /// The field of a request that a call sends.
    pub(super) fn write(&self, told: Told, now_ms: u64) -> Option<HeaderValue> {
        let on = match told.on {
            WatchOn::One => "one",
            WatchOn::Every => "every",
        };
        let text = format!("{}.{on}.{}", told.chain, now_ms.saturating_add(VALID_MS));
        let seal = self.0.clone().chain_update(&text).finalize().into_bytes();
        HeaderValue::try_from(format!("{text}.{}", URL_SAFE_NO_PAD.encode(&seal[..SEAL_BYTES])))
            .ok()
    }

    /// What the field of a request says.
    pub(super) fn read(&self, field: &HeaderValue, now_ms: u64) -> Option<Told> {
        let (text, seal) = field.to_str().ok()?.rsplit_once('.')?;
        let seal = URL_SAFE_NO_PAD.decode(seal).ok().filter(|seal| seal.len() == SEAL_BYTES)?;
        self.0.clone().chain_update(text).verify_truncated_left(&seal).ok()?;
        let mut parts = text.split('.');
        let chain = parts.next()?.parse().ok()?;
        let on = match parts.next()? {
            "one" => WatchOn::One,
            "every" => WatchOn::Every,
            _ => return None,
        };
        let until_ms: u64 = parts.next()?.parse().ok()?;
        (now_ms <= until_ms).then_some(Told { chain, on })
    }
}

tokio::task_local! {
    /// In a request that a watcher's call has led to.
    static CAUSED: Told;
}

/// Answers a request; what it writes through [`Handlers::write_of_request`] was caused by `told`.
pub(crate) async fn caused<F: Future>(told: Told, request: F) -> F::Output {
    CAUSED.scope(told, request).await
}

impl Handlers {
    /// What has led to a request, as its head says.
    pub(crate) fn cause(&self, headers: &HeaderMap) -> Option<Told> {
        self.common.watchers.seal.read(headers.get(&CAUSE)?, self.node.now().millis())
    }

    /// The same, for one that ends here: what it says is between nodes, and is taken away.
    pub(crate) fn take_cause(&self, headers: &mut HeaderMap) -> Option<Told> {
        let field = headers.remove(&CAUSE)?;
        self.common.watchers.seal.read(&field, self.node.now().millis())
    }

    /// Makes a write of a client's request, which may be a watcher's call.
    pub(crate) fn write_of_request<R, E: From<ChainRefusal>>(
        &self,
        about: (&BucketName, &[u8]),
        write: impl FnOnce() -> Result<Written<R>, E>,
    ) -> Result<Written<R>, E> {
        match CAUSED.try_with(|told| *told) {
            Err(_) => write(),
            Ok(told) => self.common.watchers.write(&told, about, write),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(seal: &Seal, field: Option<HeaderValue>, now_ms: u64) -> Option<(u8, WatchOn)> {
        seal.read(&field.expect("a value"), now_ms).map(|told| (told.chain, told.on))
    }

    #[test]
    fn what_one_node_writes_another_with_the_same_key_reads_for_a_minute() {
        let key: Secret = "0123456789abcdef".parse().expect("any text");
        let (one, other) = (Seal::new(Some(&key)), Seal::new(Some(&key)));
        let (one, other) = (one.expect("a seal"), other.expect("a seal"));
        let field = |chain, on| one.write(Told { chain, on }, 1_000);
        assert_eq!(taken(&other, field(3, WatchOn::One), 61_000), Some((3, WatchOn::One)));
        assert_eq!(taken(&other, field(0, WatchOn::Every), 0), Some((0, WatchOn::Every)));
        assert_eq!(taken(&other, field(3, WatchOn::One), 61_001), None);
        let stranger = Seal::new(None).expect("a seal");
        assert_eq!(taken(&stranger, field(3, WatchOn::One), 1_000), None);
    }

    #[test]
    fn what_is_not_whole_counts_as_not_there() {
        let seal = Seal::new(None).expect("a seal");
        let whole = seal.write(Told { chain: 1, on: WatchOn::One }, 0).expect("a value");
        let whole = whole.to_str().expect("visible").to_owned();
        assert_eq!(whole.split('.').count(), 4);
        let (text, mac) = whole.rsplit_once('.').expect("a seal");
        for bad in [
            "",
            "8.one.60000",
            text,
            &format!("{text}."),
            &format!("{text}.{}", &mac[..4]),
            &whole.replacen('1', "8", 1),
            &whole.replacen("one", "every", 1),
            &whole.replacen("60000", "99999", 1),
        ] {
            let field = HeaderValue::from_str(bad).expect("a value");
            assert_eq!(taken(&seal, Some(field), 0), None, "{bad}");
        }
    }
}
