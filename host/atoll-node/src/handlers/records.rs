//! Where handlers are kept: records and components in the replicated bucket `_sys`.

mod components;

use crate::node::Node;
use crate::proxy;
use crate::system::System;
use atoll_core::limits::VERSION_COUNT_MAX;
use atoll_core::manifest::{HandlerRecord, HandlerState};
use atoll_core::route::Pattern;
use atoll_core::store::edit::{NewValue, WriteError};
use bytes::Bytes;
use components::Components;
use std::sync::{Arc, Mutex};

/// The records in the node's own bucket.
#[derive(Debug)]
pub(super) struct Records {
    node: Arc<Node>,
    system: System,
    components: Mutex<Components>,
}

impl Records {
    pub(super) fn open(node: Arc<Node>) -> anyhow::Result<Records> {
        let system = System::open(Arc::clone(&node))?;
        Ok(Records { node, system, components: Mutex::default() })
    }

    /// The names of all handlers, each with what changes whenever its record is written.
    pub(super) fn stamps(&self) -> Vec<(String, String)> {
        self.system.list(HandlerRecord::PREFIX, |view| view.version().to_string())
    }

    /// The record of a handler; a value that is none counts as none.
    pub(super) fn get(&self, name: &str) -> Option<HandlerRecord> {
        let bytes = self.system.bytes(&HandlerRecord::key(name))?;
        HandlerRecord::decode(&bytes).ok().filter(|record| record.name == name)
    }

    /// The component of a digest, as it arrived: it was not compared with the digest.
    pub(super) fn component(&self, digest: &str) -> Option<Bytes> {
        self.system.bytes(&HandlerRecord::blob_key(digest))
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
        let is_new = component.is_some() && self.system.bytes(&blob).is_none();
        if let Some(component) = component.filter(|_| is_new) {
            self.system.put(&blob, NewValue::Shared(component))?;
        }
        // Another node may be about to delete it.
        self.hold(added);
        // A canary is a version like any other, and its record that of what is new.
        let newest = record.newest().without_canary();
        let version = newest.version_key();
        let written = self.system.put(&version, NewValue::Owned(newest.encode())).and_then(|()| {
            self.system.put(&HandlerRecord::key(&record.name), NewValue::Owned(record.encode()))
        });
        if let Err(error) = written {
            self.system.delete(&version)?;
            if is_new {
                self.system.delete(&blob)?;
            }
            return Err(error);
        }
        let versions = self.versions(&record.name);
        let surplus = versions.len().saturating_sub(VERSION_COUNT_MAX);
        self.forget_versions(&versions[..surplus])
    }

    /// Forgets a handler with all its versions. Returns whether there was one.
    pub(super) fn forget(&self, name: &str) -> Result<bool, WriteError> {
        let was_there = self.system.bytes(&HandlerRecord::key(name)).is_some();
        self.system.delete(&HandlerRecord::key(name))?;
        self.forget_versions(&self.versions(name))?;
        let states = HandlerRecord::states_of(name);
        for (node, ()) in self.system.list(&states, |_| ()) {
            self.system.delete(&format!("{states}{node}"))?;
        }
        Ok(was_there)
    }

    /// The first of these routes that is an upstream's, and the name of that.
    pub(super) fn upstream_at(&self, patterns: &[Pattern]) -> Option<(Pattern, String)> {
        proxy::routes::taken(&self.system, patterns)
    }

    /// Says what this node makes of a handler, if it may write.
    pub(super) fn tell(&self, name: &str, state: &HandlerState) -> Result<(), WriteError> {
        let key = format!("{}{}", HandlerRecord::states_of(name), self.node.name());
        let bytes = state.encode();
        let is_told = self.system.bytes(&key).is_some_and(|told| told[..] == bytes[..]);
        if is_told || self.node.permission().write().is_err() {
            return Ok(());
        }
        self.system.put(&key, NewValue::Owned(bytes))
    }

    /// Takes back what this node has said of a handler that is gone.
    pub(super) fn take_back(&self, name: &str) {
        let key = format!("{}{}", HandlerRecord::states_of(name), self.node.name());
        let is_told = self.system.bytes(&key).is_some();
        if is_told && self.node.permission().write().is_ok() {
            // What fails now is done where it is found without a record for long.
            let _ = self.system.delete(&key);
        }
    }

    /// What each node has said of a handler.
    pub(super) fn states(&self, name: &str) -> Vec<(String, HandlerState)> {
        let states = self.system.list(&HandlerRecord::states_of(name), |view| {
            HandlerState::decode(&view.value().to_bytes()).ok()
        });
        states.into_iter().filter_map(|(node, state)| Some((node, state?))).collect()
    }

    fn all_versions(&self, prefix: &str) -> Vec<HandlerRecord> {
        let records =
            self.system.list(prefix, |view| HandlerRecord::decode(&view.value().to_bytes()));
        records.into_iter().filter_map(|(_, record)| record.ok()).collect()
    }

    /// Deletes versions, and the components that no other version has.
    fn forget_versions(&self, versions: &[HandlerRecord]) -> Result<(), WriteError> {
        for version in versions {
            self.system.delete(&version.version_key())?;
        }
        if versions.is_empty() {
            return Ok(());
        }
        // One may be live for longer than it is kept as a version, beside one canary after the other.
        let mut kept = self.all_versions(HandlerRecord::VERSION_PREFIX);
        kept.extend(self.all_versions(HandlerRecord::PREFIX));
        for version in versions {
            if !kept.iter().any(|other| other.has_digest(&version.digest)) {
                self.system.delete(&HandlerRecord::blob_key(&version.digest))?;
            }
        }
        Ok(())
    }
}
