//! Where handlers are kept: records and components in the replicated bucket `_sys`.

use crate::node::Node;
use anyhow::Context;
use atoll_core::entry::Deadline;
use atoll_core::key::BucketName;
use atoll_core::limits::{LIST_PAGE_MAX, VERSION_COUNT_MAX};
use atoll_core::manifest::{HandlerRecord, HandlerState};
use atoll_core::store::Bucket;
use atoll_core::store::edit::{Edit, NewValue, WriteError};
use atoll_core::store::list::ListQuery;
use atoll_core::store::view::View;
use bytes::Bytes;
use std::sync::Arc;

/// The bucket, and the node that it is in.
#[derive(Debug)]
pub(super) struct Records {
    node: Arc<Node>,
    bucket: Arc<Bucket>,
}

impl Records {
    pub(super) fn open(node: Arc<Node>) -> anyhow::Result<Records> {
        let name = BucketName::new("_sys").context("the name of the node's own bucket")?;
        let bucket = node.store().open_bucket(&name)?;
        Ok(Records { node, bucket })
    }

    /// The names of all handlers, each with what changes whenever its record is written.
    pub(super) fn stamps(&self) -> Vec<(String, String)> {
        self.list(HandlerRecord::PREFIX, |view| view.version().to_string())
    }

    /// The record of a handler; a value that is none counts as none.
    pub(super) fn get(&self, name: &str) -> Option<HandlerRecord> {
        let bytes = self.bytes(&HandlerRecord::key(name))?;
        HandlerRecord::decode(&bytes).ok().filter(|record| record.name == name)
    }

    /// The component of a digest, as it arrived: it was not compared with the digest.
    pub(super) fn component(&self, digest: &str) -> Option<Bytes> {
        self.bytes(&HandlerRecord::blob_key(digest))
    }

    /// The versions of a handler that are kept, oldest first.
    pub(super) fn versions(&self, name: &str) -> Vec<HandlerRecord> {
        self.all_versions(&HandlerRecord::versions_of(name))
    }

    /// Writes the component unless it is there, then the record that names it, and forgets the
    /// oldest version if there are too many.
    pub(super) fn keep(
        &self,
        record: &HandlerRecord,
        component: Option<Bytes>,
    ) -> Result<(), WriteError> {
        let added = record.canary.as_ref().map_or(&record.digest, |canary| &canary.record.digest);
        let blob = HandlerRecord::blob_key(added);
        let is_new = component.is_some() && self.bytes(&blob).is_none();
        if let Some(component) = component.filter(|_| is_new) {
            self.put(&blob, NewValue::Shared(component))?;
        }
        // A canary is a version like any other, and its record that of what is new.
        let newest = match &record.canary {
            Some(canary) if canary.record.version > record.version => (*canary.record).clone(),
            _ => record.without_canary(),
        };
        let version = newest.version_key();
        let written = self.put(&version, NewValue::Owned(newest.encode())).and_then(|()| {
            self.put(&HandlerRecord::key(&record.name), NewValue::Owned(record.encode()))
        });
        if let Err(error) = written {
            self.delete(&version)?;
            if is_new {
                self.delete(&blob)?;
            }
            return Err(error);
        }
        let versions = self.versions(&record.name);
        let surplus = versions.len().saturating_sub(VERSION_COUNT_MAX);
        self.forget_versions(&versions[..surplus])
    }

    /// Forgets a handler with all its versions. Returns whether there was one.
    pub(super) fn forget(&self, name: &str) -> Result<bool, WriteError> {
        let was_there = self.bytes(&HandlerRecord::key(name)).is_some();
        self.delete(&HandlerRecord::key(name))?;
        self.forget_versions(&self.versions(name))?;
        let states = HandlerRecord::states_of(name);
        for (node, ()) in self.list(&states, |_| ()) {
            self.delete(&format!("{states}{node}"))?;
        }
        Ok(was_there)
    }

    /// Says what this node makes of a handler, if it may write.
    pub(super) fn tell(&self, name: &str, state: &HandlerState) -> Result<(), WriteError> {
        let key = format!("{}{}", HandlerRecord::states_of(name), self.node.name());
        let bytes = state.encode();
        let is_told = self.bytes(&key).is_some_and(|told| told[..] == bytes[..]);
        if is_told || self.node.permission().write().is_err() {
            return Ok(());
        }
        self.put(&key, NewValue::Owned(bytes))
    }

    /// What each node has said of a handler.
    pub(super) fn states(&self, name: &str) -> Vec<(String, HandlerState)> {
        let states = self.list(&HandlerRecord::states_of(name), |view| {
            HandlerState::decode(&view.value().to_bytes()).ok()
        });
        states.into_iter().filter_map(|(node, state)| Some((node, state?))).collect()
    }

    fn all_versions(&self, prefix: &str) -> Vec<HandlerRecord> {
        let records = self.list(prefix, |view| HandlerRecord::decode(&view.value().to_bytes()));
        records.into_iter().filter_map(|(_, record)| record.ok()).collect()
    }

    /// Deletes versions, and the components that no other version has.
    fn forget_versions(&self, versions: &[HandlerRecord]) -> Result<(), WriteError> {
        for version in versions {
            self.delete(&version.version_key())?;
        }
        if versions.is_empty() {
            return Ok(());
        }
        // One may be live for longer than it is kept as a version, beside one canary after the other.
        let mut kept = self.all_versions(HandlerRecord::VERSION_PREFIX);
        kept.extend(self.all_versions(HandlerRecord::PREFIX));
        for version in versions {
            if !kept.iter().any(|other| other.has_digest(&version.digest)) {
                self.delete(&HandlerRecord::blob_key(&version.digest))?;
            }
        }
        Ok(())
    }

    /// All keys with a prefix, without it, in order.
    fn list<T>(&self, prefix: &str, mut pick: impl FnMut(View<'_>) -> T) -> Vec<(String, T)> {
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

    fn bytes(&self, key: &str) -> Option<Bytes> {
        let now = self.node.now();
        self.node.store().read(&self.bucket, key.as_bytes(), now, |view| {
            view.map(|view| view.value().to_bytes())
        })
    }

    fn put(&self, key: &str, value: NewValue<'_>) -> Result<(), WriteError> {
        let edit = Edit::set(value, Deadline::NEVER);
        self.node.store().write(&self.bucket, key.as_bytes(), self.node.now(), |_| (edit, ()))?;
        Ok(())
    }

    fn delete(&self, key: &str) -> Result<(), WriteError> {
        let now = self.node.now();
        self.node.store().write(&self.bucket, key.as_bytes(), now, |_| (Edit::Delete, ()))?;
        Ok(())
    }
}
