//! What the RESP port did in figures, read at each scrape.

use super::door::Door;
use atoll_core::resp::server::Server;
use atoll_core::resp::tally::{Count, Tally};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::Weak;

/// Figures of the door for as long as it is open.
#[derive(Debug)]
pub(super) struct Figures {
    door: Weak<Door>,
}

impl Figures {
    pub(super) fn new(door: Weak<Door>) -> Figures {
        Figures { door }
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(door) = self.door.upgrade() else { return Ok(()) };
        let (facts, tallies) = (door.facts(), door.tallies());
        let sum = |of: fn(&Tally) -> u64| tallies.iter().map(|tally| of(tally)).sum::<u64>();
        let clients = ConstGauge::new(facts.client_count as i64);
        let help = "Connections to the RESP port";
        let inner = encoder.encode_descriptor("resp_clients", help, None, clients.metric_type())?;
        clients.encode(inner)?;
        let counters: [(&str, &str, u64); 7] = [
            ("connections", "Connections that were accepted", facts.connection_count),
            ("rejected", "Connections that were one too many", facts.rejected_count),
            ("commands", "Commands that were run", sum(Tally::call_count)),
            ("failures", "Commands that answered with an error", sum(Tally::failure_count)),
            ("hits", "Keys that a read found", sum(|tally| Count::total(&tally.hits))),
            ("misses", "Keys that a read did not find", sum(|tally| Count::total(&tally.misses))),
            ("stalled", "Clients that took no replies", sum(|tally| Count::total(&tally.stalled))),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            let name = format!("resp_{name}");
            let inner = encoder.encode_descriptor(&name, help, None, counter.metric_type())?;
            counter.encode(inner)?;
        }
        Ok(())
    }
}
