//! GET and SET on the RESP port, beside redis-server.

use std::path::Path;

use crate::Effort;
use crate::redis_benchmark::{self, CONNECTIONS, KEYS, Load, VALUE_BYTES};
use crate::resp_client::{self, Fill, Ttl};
use crate::server;
use crate::summary::{Sample, ratio, thousands, typical};
use crate::table::Table;

/// Enough for seconds of each, so that the 10 ms steps of processor time do not matter.
const LOADS: [Load; 4] = [
    Load { command: "get", pipeline: 1, operations: 300_000 },
    Load { command: "set", pipeline: 1, operations: 300_000 },
    Load { command: "get", pipeline: 16, operations: 3_000_000 },
    Load { command: "set", pipeline: 16, operations: 3_000_000 },
];

/// Runs every load against both servers in turns, and returns the section.
pub(crate) fn measure(atoll: &Path, effort: Effort) -> anyhow::Result<String> {
    let (ours, doors) = server::start_atoll(atoll)?;
    let (theirs, redis) = server::start_redis()?;
    let contestants = [(&ours, doors.resp), (&theirs, redis)];
    // GET finds what it asks for, and SET overwrites: what a cache does once it is warm.
    for (_, address) in contestants {
        let value_bytes = VALUE_BYTES;
        resp_client::fill(address, Fill { keys: KEYS, value_bytes, ttl: Ttl::None })?;
    }
    let mut samples = vec![[Vec::new(), Vec::new()]; LOADS.len()];
    for round in 1..=effort.rounds {
        eprintln!("RESP: round {round} of {}", effort.rounds);
        for (load, of_load) in LOADS.iter().zip(&mut samples) {
            let load = Load { operations: load.operations / effort.divisor, ..*load };
            for ((server, address), of_server) in contestants.into_iter().zip(of_load) {
                of_server.push(redis_benchmark::run(server, address, load)?);
            }
        }
    }
    Ok(section(&samples, effort))
}

fn section(samples: &[[Vec<Sample>; 2]], effort: Effort) -> String {
    let mut table = Table::new(&[
        "RESP",
        "atoll op/s",
        "redis op/s",
        "ratio",
        "atoll CPU µs/op",
        "redis CPU µs/op",
        "ratio",
    ]);
    for (load, [ours, theirs]) in LOADS.iter().zip(samples) {
        let (ours, theirs) = (typical(ours), typical(theirs));
        table.row(vec![
            format!("{}, pipeline {}", load.command.to_uppercase(), load.pipeline),
            thousands(ours.ops_per_second),
            thousands(theirs.ops_per_second),
            ratio(ours.ops_per_second, theirs.ops_per_second),
            format!("{:.2}", ours.cpu_us_per_op),
            format!("{:.2}", theirs.cpu_us_per_op),
            ratio(ours.cpu_us_per_op, theirs.cpu_us_per_op),
        ]);
    }
    format!(
        "{}\nredis-benchmark, {CONNECTIONS} connections, {KEYS} keys of 16 bytes, values of {VALUE_BYTES} bytes; \
         median of {} rounds in turns.\n",
        table.render(),
        effort.rounds,
    )
}
