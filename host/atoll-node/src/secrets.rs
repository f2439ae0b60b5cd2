//! Secrets for handlers: set once, kept encrypted on every node, given to those that were granted
//! them.
//!
//! A value is decrypted when a guest asks for it and nowhere else: no door, log or backup has it.

mod seal;

use crate::config::Secret;
use crate::node::Node;
use crate::system::System;
use atoll_core::limits::{SECRET_BYTES_MAX, SECRET_COUNT_MAX};
use atoll_core::secret::{self, SecretNameError};
use atoll_core::store::edit::{NewValue, WriteError};
use bytes::Bytes;
use seal::Seal;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What the names of variables begin with that hold secrets.
const VARIABLE: &str = "ATOLL_SECRET_";

/// Where secrets come from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// What they are encrypted with; `None`: none can be set.
    pub(crate) key: Option<Secret>,
}

/// The secrets of the cluster, and those of this node's environment.
pub(crate) struct Secrets {
    system: System,
    seal: Option<Seal>,
    /// By name. They come before the cluster's, on this node.
    environment: BTreeMap<String, Secret>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

/// Where a secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Set through a node, and on all of them.
    Cluster,
    /// In the environment of this node.
    Environment,
}

/// What may be known of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) source: Source,
    /// Why this node cannot give it to a handler.
    pub(crate) unreadable: Option<String>,
}

/// Why a secret was not set. What was there still is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetError {
    #[error(transparent)]
    Name(#[from] SecretNameError),
    #[error("a secret has 1 to {SECRET_BYTES_MAX} bytes")]
    Length,
    #[error(
        "this node has no key to encrypt secrets with; start all nodes with the same \
         --secrets-key-file, or with the cluster's key"
    )]
    NoKey,
    #[error("there are {SECRET_COUNT_MAX} secrets, which is the maximum; remove one")]
    TooMany,
    #[error(transparent)]
    Randomness(#[from] seal::NoRandomness),
    #[error(transparent)]
    Store(#[from] WriteError),
}

/// A secret is there, and this node cannot read it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("secret {name} cannot be read on this node: {why}")]
pub(crate) struct Unreadable {
    name: String,
    why: String,
}

impl Secrets {
    /// Opens what the node has; takes what the environment holds.
    pub(crate) fn open(node: Arc<Node>, settings: &Settings) -> anyhow::Result<Secrets> {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.to_str()?.strip_prefix(VARIABLE)?.to_ascii_lowercase();
            let name = name.replace('_', "-");
            secret::check_name(&name).ok()?;
            Some((name, value.into_string().ok()?.parse().ok()?))
        });
        Ok(Secrets {
            system: System::open(node)?,
            seal: settings.key.as_ref().map(Seal::new),
            environment: variables.collect(),
        })
    }

    /// Sets a secret on every node.
    pub(crate) fn set(&self, name: &str, value: &[u8]) -> Result<(), SetError> {
        secret::check_name(name)?;
        if !(1..=SECRET_BYTES_MAX).contains(&value.len()) {
            return Err(SetError::Length);
        }
        let seal = self.seal.as_ref().ok_or(SetError::NoKey)?;
        let key = secret::key(name);
        let is_new = self.system.bytes(&key).is_none();
        if is_new && self.system.list(secret::PREFIX, |_| ()).len() >= SECRET_COUNT_MAX {
            return Err(SetError::TooMany);
        }
        Ok(self.system.put(&key, NewValue::Owned(seal.seal(name, value)?))?)
    }

    /// Removes a secret of the cluster. Returns whether there was one.
    pub(crate) fn remove(&self, name: &str) -> Result<bool, WriteError> {
        let key = secret::key(name);
        let was_there = self.system.bytes(&key).is_some();
        if was_there {
            self.system.delete(&key)?;
        }
        Ok(was_there)
    }

    /// The names of all, in order; one that is in both places is told once, as what counts here.
    pub(crate) fn list(&self) -> Vec<Known> {
        let kept = self.system.list(secret::PREFIX, |view| view.value().to_bytes());
        let kept = kept.into_iter().map(|(name, bytes)| Known {
            unreadable: self.open_sealed(&name, &bytes).err().map(|error| error.why),
            name,
            source: Source::Cluster,
        });
        let kept = kept.filter(|known| !self.environment.contains_key(&known.name));
        let ours = self.environment.keys().map(|name| Known {
            name: name.clone(),
            source: Source::Environment,
            unreadable: None,
        });
        let mut all: Vec<Known> = kept.chain(ours).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The secret itself, for a guest that was granted it.
    pub(crate) fn reveal(&self, name: &str) -> Result<Option<Vec<u8>>, Unreadable> {
        if let Some(ours) = self.environment.get(name) {
            return Ok(Some(ours.reveal().as_bytes().to_vec()));
        }
        let kept: Option<Bytes> = self.system.bytes(&secret::key(name));
        kept.map(|bytes| self.open_sealed(name, &bytes)).transpose()
    }

    fn open_sealed(&self, name: &str, bytes: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let unreadable = |why: String| Unreadable { name: name.to_owned(), why };
        match &self.seal {
            None => Err(unreadable("it has no key, see --secrets-key-file".to_owned())),
            Some(seal) => seal.open(name, bytes).map_err(|error| unreadable(error.to_string())),
        }
    }
}
