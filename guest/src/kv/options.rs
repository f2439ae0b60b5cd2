//! How a value is written: [`SetOptions`].

use std::time::Duration;

use crate::bindings::atoll::edge::kv;

/// Conditions, lifetime and tags of a write. As made by [`SetOptions::new`] it is unconditional and lasts
/// until deleted.
#[derive(Debug, Clone)]
pub struct SetOptions {
    ttl: Option<Duration>,
    condition: Condition,
    tags: Vec<String>,
}

/// What must hold for the write to be done.
#[derive(Debug, Clone)]
enum Condition {
    Always,
    IfAbsent,
    IfPresent,
    IfVersion(String),
}

impl SetOptions {
    /// Makes options that change nothing about a plain `set`.
    pub fn new() -> SetOptions {
        SetOptions { ttl: None, condition: Condition::Always, tags: Vec::new() }
    }

    /// Ends the value after this time; less than a millisecond counts as one.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> SetOptions {
        SetOptions { ttl: Some(ttl), ..self }
    }

    /// Writes only if the key holds nothing.
    #[must_use]
    pub fn if_absent(self) -> SetOptions {
        SetOptions { condition: Condition::IfAbsent, ..self }
    }

    /// Writes only if the key holds something.
    #[must_use]
    pub fn if_present(self) -> SetOptions {
        SetOptions { condition: Condition::IfPresent, ..self }
    }

    /// Writes only if the key holds exactly this version.
    #[must_use]
    pub fn if_version(self, version: impl Into<String>) -> SetOptions {
        SetOptions { condition: Condition::IfVersion(version.into()), ..self }
    }

    /// Gives the value a tag: a name by which a hard purge ends it, on every node and wherever it was
    /// purged ([`cache::Purge`](crate::cache::Purge), `atoll purge --tag`). At most 8, each of 1 to 256
    /// visible ASCII characters without commas. A later write of the key has tags of its own, or none.
    ///
    /// ```
    /// use atoll_guest::cache::Purge;
    /// use atoll_guest::kv::{self, SetOptions};
    ///
    /// let _node = atoll_guest::testing::Node::start().with_grants(&["kv:default=rw", "purge"]);
    /// let bucket = kv::open("default")?;
    /// bucket.set_with("price:7", "49", SetOptions::new().tag("shoe-7").tag("prices"))?;
    /// assert_eq!(bucket.tags("price:7")?, Some(vec!["shoe-7".to_owned(), "prices".to_owned()]));
    /// Purge::new().tag("prices").send().unwrap();
    /// assert_eq!(bucket.get("price:7")?, None);
    /// # Ok::<(), kv::Error>(())
    /// ```
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> SetOptions {
        self.tags.push(tag.into());
        self
    }

    pub(super) fn into_raw(self) -> (kv::SetOptions, Vec<String>) {
        let condition = match self.condition {
            Condition::Always => kv::Condition::Always,
            Condition::IfAbsent => kv::Condition::IfAbsent,
            Condition::IfPresent => kv::Condition::IfPresent,
            Condition::IfVersion(version) => kv::Condition::IfVersion(version),
        };
        (kv::SetOptions { ttl_ms: self.ttl.map(whole_ms), condition }, self.tags)
    }
}

impl Default for SetOptions {
    fn default() -> SetOptions {
        SetOptions::new()
    }
}

/// Returns the time in milliseconds, at least 1, at most what fits.
pub(crate) fn whole_ms(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_never_zero_and_never_wraps() {
        assert_eq!(whole_ms(Duration::ZERO), 1);
        assert_eq!(whole_ms(Duration::from_micros(1_999)), 1);
        assert_eq!(whole_ms(Duration::from_secs(60)), 60_000);
        assert_eq!(whole_ms(Duration::MAX), u64::MAX);
    }
}
