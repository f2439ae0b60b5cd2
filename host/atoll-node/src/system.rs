//! The node's own bucket, `_sys`: what is to be the same on every node beside the users' keys.
//!
//! It is replicated like any other, and no door opens it.

use crate::node::Node;
use anyhow::Context;
use atoll_core::entry::Deadline;
use atoll_core::key::BucketName;
use atoll_core::limits::LIST_PAGE_MAX;
use atoll_core::store::Bucket;
use atoll_core::store::edit::{Edit, NewValue, WriteError};
use atoll_core::store::list::ListQuery;
use atoll_core::store::view::View;
use bytes::Bytes;
use std::sync::Arc;

/// The name of the bucket.
pub(crate) const SYSTEM: &str = "_sys";

/// The bucket, and the node that it is in.
#[derive(Debug)]
pub(crate) struct System {
    node: Arc<Node>,
    bucket: Arc<Bucket>,
}

impl System {
    /// Opens the bucket.
    pub(crate) fn open(node: Arc<Node>) -> anyhow::Result<System> {
        let name = BucketName::new(SYSTEM).context("the name of the node's own bucket")?;
        let bucket = node.store().open_bucket(&name)?;
        Ok(System { node, bucket })
    }

    /// All keys with a prefix, without it, in order.
    pub(crate) fn list<T>(
        &self,
        prefix: &str,
        mut pick: impl FnMut(View<'_>) -> T,
    ) -> Vec<(String, T)> {
        let (mut found, mut after) = (Vec::new(), Vec::new());
        loop {
            let query = ListQuery {
                prefix: prefix.as_bytes(),
                after: &after,
                delimiter: None,
                limit: LIST_PAGE_MAX,
            };
            let page = self.node.store().list(&self.bucket, query, self.node.now(), &mut pick);
            after = page.items.last().map(|(key, _)| key.clone()).unwrap_or_default();
            found.extend(page.items.into_iter().filter_map(|(key, value)| {
                let rest = String::from_utf8(key[prefix.len()..].to_vec()).ok()?;
                Some((rest, value?))
            }));
            if !page.has_more {
                return found;
            }
        }
    }

    /// The value of a key.
    pub(crate) fn bytes(&self, key: &str) -> Option<Bytes> {
        let now = self.node.now();
        self.node.store().read(&self.bucket, key.as_bytes(), now, |view| {
            view.map(|view| view.value().to_bytes())
        })
    }

    /// Writes a value that lives until it is deleted.
    pub(crate) fn put(&self, key: &str, value: NewValue<'_>) -> Result<(), WriteError> {
        let edit = Edit::set(value, Deadline::NEVER);
        self.node.store().write(&self.bucket, key.as_bytes(), self.node.now(), |_| (edit, ()))?;
        Ok(())
    }

    /// Deletes a key.
    pub(crate) fn delete(&self, key: &str) -> Result<(), WriteError> {
        let now = self.node.now();
        self.node.store().write(&self.bucket, key.as_bytes(), now, |_| (Edit::Delete, ()))?;
        Ok(())
    }
}
