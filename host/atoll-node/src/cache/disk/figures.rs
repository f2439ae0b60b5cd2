//! The figures of the disk tier.

use super::Disk;
use crate::metrics::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// Sums since the start.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// Responses that were found on the disk.
    pub(super) found: Counter,
    /// Responses that were written, and their bytes.
    pub(super) written: Counter,
    pub(super) written_bytes: Counter,
    /// Responses that were not, because the disk was slow, full or broken.
    pub(super) skipped: Counter,
    /// Files that were not as they were written.
    pub(super) damaged: Counter,
    /// Calls that the system has refused.
    pub(super) errors: Counter,
}

impl Figures {
    pub(super) fn register(&self, metrics: &Metrics, disk: &Arc<Disk>) {
        let rows = [
            ("found", "Cached responses that were found on the disk", &self.found),
            ("written", "Cached responses that were written to the disk", &self.written),
            ("written_bytes", "Bytes of cached responses written to the disk", &self.written_bytes),
            ("skipped", "Cached responses that the disk had no time or room for", &self.skipped),
            ("damaged", "Files of cached responses that had changed on the disk", &self.damaged),
            ("errors", "Failures of the disk with cached responses", &self.errors),
        ];
        for (name, help, counter) in rows {
            metrics.register(&format!("cache_disk_{name}"), help, counter.clone());
        }
        metrics.register_collector(Gauges(Arc::downgrade(disk)));
    }
}

struct Gauges(Weak<Disk>);

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gauges")
    }
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(disk) = self.0.upgrade() else { return Ok(()) };
        let used = disk.index.weight() + disk.spooled_bytes.load(Ordering::Relaxed);
        let rows = [
            ("cache_disk_bytes", "Bytes that cached responses take on the disk", used),
            ("cache_disk_bytes_max", "Bytes that they may take there", disk.bytes_max),
            ("cache_disk_entries", "Cached responses on the disk", disk.index.len() as u64),
            (
                "cache_disk_writable",
                "1 while the disk takes cached responses, 0 while it is full or fails",
                disk.room.is_fine().into(),
            ),
            (
                "cache_disk_serving",
                "1 once what is on the disk is served, 0 while purges are caught up on",
                disk.is_serving.load(Ordering::Relaxed).into(),
            ),
            (
                "cache_disk_loading",
                "1 while the index of the disk is read",
                disk.is_loading.load(Ordering::Relaxed).into(),
            ),
        ];
        for (name, help, value) in rows {
            let gauge = ConstGauge::new(value as i64);
            let described = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(described)?;
        }
        Ok(())
    }
}
