//! Messages for whoever listens at the moment: PUBLISH and SUBSCRIBE.
//!
//! Nothing is kept for those who do not listen, and nobody waits for those who are slow: a listener
//! whose queue outgrows its bound is cut off.

mod queue;
pub mod subscriber;

use crate::limits::{CHANNEL_BYTES_MAX, GLOB_BYTES_MAX, PATTERN_COUNT_MAX, SUBSCRIPTION_BYTES_MAX};
use crate::resp::glob::{self, Letters};
use bytes::Bytes;
use queue::Queue;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

/// What a subscription costs beside its name, in bytes: its places in two tables.
const SUBSCRIPTION_OVERHEAD_BYTES: usize = 256;

/// Who listens to what on this node.
#[derive(Debug, Default)]
pub struct Messages {
    registry: RwLock<Registry>,
    latest_id: AtomicU64,
    subscription_bytes: AtomicUsize,
    queued_bytes: AtomicUsize,
    listener_count: AtomicUsize,
    cut_off_count: AtomicU64,
    delivered_count: AtomicU64,
}

/// Queues by name, in the order in which their listeners came.
#[derive(Debug, Default)]
struct Registry {
    channels: HashMap<Bytes, Listeners>,
    patterns: BTreeMap<Bytes, Listeners>,
}

type Listeners = BTreeMap<u64, Arc<Queue>>;

/// One message, as one listener gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The pattern by which it was wanted; `None` where it was by the channel's own name.
    pub pattern: Option<Bytes>,
    /// Where it was published.
    pub channel: Bytes,
    /// What was published.
    pub payload: Bytes,
}

/// What a listener may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// One channel, by name.
    Channel,
    /// Every channel that a glob-style pattern matches.
    Pattern,
}

/// Why a subscription was refused. Those that were there stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The name is longer than `CHANNEL_BYTES_MAX` or `GLOB_BYTES_MAX`.
    #[error("a channel or pattern of {len} bytes exceeds the maximum of {CHANNEL_BYTES_MAX} bytes")]
    TooLong {
        /// Bytes that were given.
        len: usize,
    },
    /// The names of all subscriptions together take `SUBSCRIPTION_BYTES_MAX`.
    #[error("this node has no room for more subscriptions")]
    Full,
    /// There are `PATTERN_COUNT_MAX` different patterns.
    #[error("this node already matches {PATTERN_COUNT_MAX} patterns, which is the maximum")]
    TooManyPatterns,
}

impl Messages {
    /// Hands a message to everyone who listens; returns how many subscriptions it met.
    ///
    /// `channel` and `payload` are shared with every queue: they should not be slices of a larger
    /// buffer, which would live for as long.
    pub fn deliver(&self, channel: &Bytes, payload: &Bytes) -> usize {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        let mut hand = |pattern: Option<&Bytes>, listeners: &Listeners| {
            for queue in listeners.values() {
                let (channel, payload) = (channel.clone(), payload.clone());
                queue.push(Message { pattern: pattern.cloned(), channel, payload }, self);
            }
            count += listeners.len();
        };
        if let Some(listeners) = registry.channels.get(channel) {
            hand(None, listeners);
        }
        for (pattern, listeners) in &registry.patterns {
            if glob::matches(pattern, channel, Letters::Exact) {
                hand(Some(pattern), listeners);
            }
        }
        self.delivered_count.fetch_add(count as u64, Relaxed);
        count
    }

    /// The channels that somebody listens to by name and that match `pattern`, in order.
    pub fn channels(&self, pattern: Option<&[u8]>) -> Vec<Bytes> {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        let wanted = |channel: &Bytes| {
            pattern.is_none_or(|pattern| glob::matches(pattern, channel, Letters::Exact))
        };
        let mut channels: Vec<_> =
            registry.channels.keys().filter(|channel| wanted(channel)).cloned().collect();
        channels.sort_unstable();
        channels
    }

    /// How many listen to `channel` by name.
    pub fn listener_count_of(&self, channel: &[u8]) -> usize {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        registry.channels.get(channel).map_or(0, BTreeMap::len)
    }

    /// How many different channels and patterns are listened to.
    pub fn name_counts(&self) -> NameCounts {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        NameCounts { channels: registry.channels.len(), patterns: registry.patterns.len() }
    }

    /// Sums for metrics.
    pub fn counts(&self) -> Counts {
        Counts {
            listeners: self.listener_count.load(Relaxed),
            queued_bytes: self.queued_bytes.load(Relaxed),
            delivered: self.delivered_count.load(Relaxed),
            cut_off: self.cut_off_count.load(Relaxed),
        }
    }

    fn enter(
        &self,
        (interest, name): (Interest, &Bytes),
        id: u64,
        queue: &Arc<Queue>,
    ) -> Result<(), SubscribeError> {
        let mut registry = self.registry.write().unwrap_or_else(PoisonError::into_inner);
        let Registry { channels, patterns } = &mut *registry;
        let listeners = match interest {
            Interest::Channel => channels.entry(name.clone()).or_default(),
            Interest::Pattern => {
                if patterns.len() >= PATTERN_COUNT_MAX && !patterns.contains_key(name) {
                    return Err(SubscribeError::TooManyPatterns);
                }
                patterns.entry(name.clone()).or_default()
            }
        };
        listeners.insert(id, Arc::clone(queue));
        Ok(())
    }

    fn leave(&self, (interest, name): (Interest, &Bytes), id: u64) {
        let mut registry = self.registry.write().unwrap_or_else(PoisonError::into_inner);
        let Registry { channels, patterns } = &mut *registry;
        let listeners = match interest {
            Interest::Channel => channels.get_mut(name),
            Interest::Pattern => patterns.get_mut(name),
        };
        let Some(listeners) = listeners else { return };
        listeners.remove(&id);
        if listeners.is_empty() {
            match interest {
                Interest::Channel => drop(channels.remove(name)),
                Interest::Pattern => drop(patterns.remove(name)),
            }
        }
    }

    /// Reserves room for a subscription to `name`.
    fn reserve(&self, interest: Interest, name: &[u8]) -> Result<(), SubscribeError> {
        let longest = match interest {
            Interest::Channel => CHANNEL_BYTES_MAX,
            Interest::Pattern => GLOB_BYTES_MAX,
        };
        if name.len() > longest {
            return Err(SubscribeError::TooLong { len: name.len() });
        }
        let bytes = subscription_bytes(name);
        let used = self.subscription_bytes.fetch_add(bytes, Relaxed) + bytes;
        if used > SUBSCRIPTION_BYTES_MAX {
            self.release(name);
            return Err(SubscribeError::Full);
        }
        Ok(())
    }

    fn release(&self, name: &[u8]) {
        self.subscription_bytes.fetch_sub(subscription_bytes(name), Relaxed);
    }
}

fn subscription_bytes(name: &[u8]) -> usize {
    name.len() + SUBSCRIPTION_OVERHEAD_BYTES
}

/// How many different names are listened to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameCounts {
    /// Channels.
    pub channels: usize,
    /// Patterns.
    pub patterns: usize,
}

/// Sums over all listeners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Subscribers now.
    pub listeners: usize,
    /// Bytes that wait for them now.
    pub queued_bytes: usize,
    /// Messages handed to a subscription since the start.
    pub delivered: u64,
    /// Listeners that were cut off since the start.
    pub cut_off: u64,
}

#[cfg(test)]
mod tests;
