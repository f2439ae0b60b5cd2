//! The node's figures: one registry into which every door puts its own, read by `/metrics`.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::{Metric, Registry};
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// What each name begins with.
const PREFIX: &str = "atoll";

/// The registry. Doors keep handles on what they register and count through those.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// An empty registry.
    pub(crate) fn new() -> Metrics {
        Metrics { registry: Mutex::new(Registry::with_prefix(PREFIX)) }
    }

    /// Shows `metric` as `atoll_NAME` from now on. `help` is a sentence without its full stop.
    /// Counters are shown with `_total` at the end: leave it out of the name.
    pub(crate) fn register(&self, name: &str, help: &str, metric: impl Metric) {
        self.registry().register(name, help, metric);
    }

    /// Asks `collector` for its figures at each scrape. Their names get the prefix as well.
    pub(crate) fn register_collector(&self, collector: impl Collector) {
        self.registry().register_collector(Box::new(collector));
    }

    /// All figures in the text format of OpenMetrics 1.0.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry())?;
        Ok(text)
    }

    fn registry(&self) -> std::sync::MutexGuard<'_, Registry> {
        // Registering only appends, so the registry is whole even after a panic.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn what_a_door_registers_is_shown() {
        let metrics = Metrics::new();
        let seen = Counter::<u64>::default();
        metrics.register("things_seen", "Things that were seen", seen.clone());
        seen.inc();
        let text = metrics.text().expect("text can be written");
        assert!(text.contains("atoll_things_seen_total 1"), "{text}");
        assert!(text.contains("# HELP atoll_things_seen Things that were seen."), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
