//! What the store looks like in figures, read at each scrape.

use super::Node;
use atoll_core::store::Stats;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::Weak;

/// Figures of a node for as long as it lives.
#[derive(Debug)]
pub(super) struct Figures {
    node: Weak<Node>,
}

impl Figures {
    pub(super) fn new(node: Weak<Node>) -> Figures {
        Figures { node }
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(node) = self.node.upgrade() else { return Ok(()) };
        let store = node.store();
        let mut gauge = |name, help, value: u64| encode_gauge(&mut encoder, name, help, value);
        gauge("uptime_seconds", "Time since the process started", node.uptime_s())?;
        gauge(
            "ready",
            "Whether the node wants new requests",
            u64::from(node.unreadiness().is_none()),
        )?;
        gauge(
            "memory_used_bytes",
            "Memory of keys, values and their tables",
            store.used_bytes() as u64,
        )?;
        gauge(
            "memory_max_bytes",
            "Budget of that memory; past it writes are refused",
            store.memory_bytes_max() as u64,
        )?;
        gauge("log_bytes", "Memory of changes kept for watchers", store.log_bytes() as u64)?;
        let stats: Vec<(String, Stats)> = store
            .buckets()
            .iter()
            .map(|bucket| (bucket.name().to_string(), bucket.stats()))
            .filter(|(_, stats)| stats.used_bytes > 0)
            .collect();
        for (name, help, pick) in BUCKET_FIGURES {
            encode_by_bucket(&mut encoder, (name, help), &stats, pick)?;
        }
        Ok(())
    }
}

type Pick = fn(&Stats) -> usize;

/// Figures of each bucket: name, help, and where it is.
const BUCKET_FIGURES: [(&str, &str, Pick); 3] = [
    ("keys", "Keys, expired ones included until they are collected", |stats| stats.key_count),
    ("keys_volatile", "Keys with a deadline", |stats| stats.volatile_count),
    ("tombstones", "Deleted keys that wait for collection", |stats| stats.tombstone_count),
];

fn encode_gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: impl EncodeGaugeValue,
) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(value);
    let metric = encoder.encode_descriptor(name, &format!("{help}."), None, gauge.metric_type())?;
    gauge.encode(metric)
}

fn encode_by_bucket(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    stats: &[(String, Stats)],
    pick: Pick,
) -> Result<(), fmt::Error> {
    let kind = ConstGauge::new(0_u64).metric_type();
    let mut metric = encoder.encode_descriptor(name, &format!("{help}."), None, kind)?;
    for (bucket, stats) in stats {
        let gauge = ConstGauge::new(pick(stats) as u64);
        gauge.encode(metric.encode_family(&[("bucket", bucket.as_str())])?)?;
    }
    Ok(())
}
