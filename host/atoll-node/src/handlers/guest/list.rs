//! A page of the keys that a guest may read, a step at a time: a bucket's keys are in no order, so each
//! page costs a look at all of them.

use super::{GuestBucket, GuestHost};
use crate::node::Node;
use atoll_core::store::Bucket;
use atoll_core::store::list::{ListQuery, Listing};
use atoll_wasm::host::{KeyPage, KvError, List};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::sync::Arc;

/// A page in the making.
pub(super) struct Keys {
    node: Arc<Node>,
    bucket: Arc<Bucket>,
    /// What is still to be listed, in order: none is the start of another, so what begins with one
    /// sorts before what begins with the next.
    prefixes: std::vec::IntoIter<String>,
    listing: Option<Listing<()>>,
    after: Vec<u8>,
    limit: usize,
    keys: Vec<Vec<u8>>,
    has_more: bool,
}

impl GuestHost {
    pub(super) fn begin_list(&self, bucket: &GuestBucket, list: &List) -> Result<Keys, KvError> {
        let foreign = || KvError::Invalid("the cursor is not one of this node's".to_owned());
        let after = match &list.cursor {
            None => Vec::new(),
            Some(cursor) => URL_SAFE_NO_PAD.decode(cursor).map_err(|_| foreign())?,
        };
        let permitted = self.node().permission().read();
        permitted.map_err(|refusal| KvError::Unavailable(refusal.to_string()))?;
        let prefixes = self.readable(bucket.bucket.name(), &list.prefix)?;
        let is_past =
            |prefix: &str| prefix.as_bytes() < &after[..] && !after.starts_with(prefix.as_bytes());
        let left = prefixes.into_iter().filter(|prefix| !is_past(prefix));
        Ok(Keys {
            node: Arc::clone(self.node()),
            bucket: Arc::clone(&bucket.bucket),
            prefixes: left.map(str::to_owned).collect::<Vec<_>>().into_iter(),
            listing: None,
            after,
            limit: list.limit,
            keys: Vec::new(),
            has_more: false,
        })
    }
}

impl Keys {
    fn next_listing(&mut self) -> Option<Listing<()>> {
        let prefix = self.prefixes.next()?;
        self.has_more = self.keys.len() == self.limit;
        if self.has_more {
            return None;
        }
        let limit = self.limit - self.keys.len();
        let prefix = prefix.as_bytes();
        Some(Listing::new(ListQuery { prefix, after: &self.after, delimiter: None, limit }))
    }

    fn finish(&mut self) -> KeyPage {
        // A cursor can be read, so it is made of nothing but a key that may be.
        let last = self.keys.last().filter(|_| self.has_more);
        let cursor = last.map(|key| URL_SAFE_NO_PAD.encode(key));
        let keys = self.keys.drain(..).filter_map(|key| String::from_utf8(key).ok());
        KeyPage { keys: keys.collect(), cursor }
    }
}

impl atoll_wasm::host::Listing for Keys {
    fn step(&mut self) -> Option<KeyPage> {
        let Some(mut listing) = self.listing.take().or_else(|| self.next_listing()) else {
            return Some(self.finish());
        };
        let now = self.node.now();
        if !self.node.store().list_step(&self.bucket, &mut listing, now, |_| ()) {
            self.listing = Some(listing);
            return None;
        }
        let page = listing.finish();
        self.keys.extend(page.items.into_iter().map(|(key, _)| key));
        self.has_more = page.has_more;
        let is_last = self.prefixes.as_slice().is_empty();
        is_last.then(|| self.finish())
    }
}
