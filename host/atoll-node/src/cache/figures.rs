//! How full the cache is, for `/metrics`.

use super::Cache;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::{Arc, Weak};

/// Reads it when it is asked.
pub(super) struct Figures(Weak<Cache>);

impl Figures {
    pub(super) fn of(cache: &Arc<Cache>) -> Figures {
        Figures(Arc::downgrade(cache))
    }
}

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Figures")
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(cache) = self.0.upgrade() else { return Ok(()) };
        let rows = [
            ("cache_bytes", "Bytes that cached responses take", cache.slots.weight()),
            ("cache_bytes_max", "Bytes that they may take", cache.slots.capacity()),
            ("cache_entries", "Cached responses and marks", cache.slots.len() as u64),
            ("cache_fill_bytes", "Bytes of bodies that are coming, kept", cache.fills.taken()),
            ("cache_fill_bytes_max", "Bytes that they may take", cache.fills.bytes_max()),
        ];
        for (name, help, value) in rows {
            let gauge = ConstGauge::new(value as i64);
            let described = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(described)?;
        }
        Ok(())
    }
}
