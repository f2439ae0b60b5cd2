//! The disk in figures, read at each scrape.

use super::Journal;
use atoll_core::resp::server::DiskState;
use atoll_core::store::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::fmt;
use std::sync::Weak;
use std::sync::atomic::Ordering::Relaxed;

/// Figures of a journal for as long as it lives.
#[derive(Debug)]
pub(super) struct Figures {
    journal: Weak<Journal>,
    store: Weak<Store>,
}

impl Figures {
    pub(super) fn new(journal: Weak<Journal>, store: Weak<Store>) -> Figures {
        Figures { journal, store }
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (Some(journal), Some(store)) = (self.journal.upgrade(), self.store.upgrade()) else {
            return Ok(());
        };
        let (status, sums) = (journal.status(), &journal.board.sums);
        let is_ok = u64::from(status.state == DiskState::Ok);
        let mut gauge =
            |name, help, value: u64| encode(&mut encoder, (name, help), &ConstGauge::new(value));
        gauge("disk_ok", "Whether the disk takes what is written.", is_ok)?;
        gauge("disk_used_bytes", "Bytes that the data takes on the disk.", status.used_bytes)?;
        if let Some(free_bytes) = status.free_bytes {
            gauge("disk_free_bytes", "Bytes that are free on the disk.", free_bytes)?;
        }
        gauge("disk_loaded_keys", "Keys that were read at the start.", status.loaded_keys)?;
        let help = "Records that were damaged and left out at the start.";
        gauge("disk_damaged_records", help, status.damaged_records)?;
        let unsaved = store.seq().saturating_sub(status.saved_seq);
        gauge("disk_unsaved_writes", "Writes of this process that are not safe yet.", unsaved)?;
        let noted = store.change_bytes() as u64;
        gauge("disk_noted_bytes", "Memory for the names of keys to be written.", noted)?;
        let mut counter =
            |name, help, value: u64| encode(&mut encoder, (name, help), &ConstCounter::new(value));
        counter("disk_outages", "Times that the disk began to fail.", status.outages)?;
        counter("disk_written_records", "Records written.", sums.records.load(Relaxed))?;
        counter("disk_written_bytes", "Bytes of records written.", sums.bytes.load(Relaxed))?;
        let help = "Times that the disk was told to make everything safe.";
        counter("disk_syncs", help, sums.syncs.load(Relaxed))?;
        let seconds = ConstCounter::new(sums.sync_us.load(Relaxed) as f64 / 1e6);
        let help = "Time that this took.";
        let unit = Unit::Seconds;
        let metric =
            encoder.encode_descriptor("disk_sync", help, Some(&unit), seconds.metric_type())?;
        seconds.encode(metric)
    }
}

fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    metric: &impl EncodeMetric,
) -> Result<(), fmt::Error> {
    let encoder = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
    metric.encode(encoder)
}
