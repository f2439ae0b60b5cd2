//! The load on RESP ports: redis-benchmark, because its figures are the ones that people know.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::process;
use crate::server::Server;
use crate::summary::Sample;

/// Connections that are open at once, as in redis-benchmark's own defaults.
pub(crate) const CONNECTIONS: u32 = 50;
/// Keys that the load picks from: `key:000000000000` and so on, 16 bytes each.
pub(crate) const KEYS: u32 = 100_000;
/// Size of each value.
pub(crate) const VALUE_BYTES: u32 = 64;

/// One kind of load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// `get` or `set`.
    pub(crate) command: &'static str,
    /// Commands that a connection sends before it waits for their replies.
    pub(crate) pipeline: u32,
    pub(crate) operations: u32,
}

/// Runs `load` once against `server`.
///
/// # Errors
/// If redis-benchmark fails, or prints something else than a rate.
pub(crate) fn run(server: &Server, address: SocketAddr, load: Load) -> anyhow::Result<Sample> {
    let mut command = Command::new("redis-benchmark");
    command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
    command.args(["-c", &CONNECTIONS.to_string(), "-r", &KEYS.to_string()]);
    command.args(["-d", &VALUE_BYTES.to_string(), "-P", &load.pipeline.to_string()]);
    command.args(["-n", &load.operations.to_string(), "-t", load.command, "--csv"]);
    let before_us = process::cpu_us(server.pid())?;
    let output = command.output().context("redis-benchmark")?;
    let after_us = process::cpu_us(server.pid())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "redis-benchmark: {} {text} {errors}", output.status);
    ensure!(!text.contains("-ERR") && !errors.contains("Error"), "{text} {errors}");
    #[expect(clippy::cast_precision_loss, reason = "microseconds of minutes fit in 52 bits")]
    let cpu_us = (after_us - before_us) as f64;
    Ok(Sample {
        ops_per_second: parse_rate(&text)?,
        cpu_us_per_op: cpu_us / f64::from(load.operations),
    })
}

/// The rate in redis-benchmark's output with `--csv`: a header, and a line for each test.
fn parse_rate(csv: &str) -> anyhow::Result<f64> {
    let cells = |line: &str| -> Vec<String> {
        line.split(',').map(|cell| cell.trim().trim_matches('"').to_owned()).collect()
    };
    let mut lines = csv.lines().skip_while(|line| !line.contains("\"rps\""));
    let (Some(header), Some(figures)) = (lines.next(), lines.next()) else {
        bail!("not the output of redis-benchmark 7: {csv:?}");
    };
    let column = cells(header).iter().position(|cell| cell == "rps").context("no column rps")?;
    let rate = cells(figures).get(column).cloned().context("no figure for rps")?;
    rate.parse().with_context(|| format!("rate {rate:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_found_by_the_name_of_its_column() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\"\n\"GET\",\"123456.78\",\"0.2\"\n";
        assert!((parse_rate(csv).unwrap() - 123_456.78).abs() < 1e-6);
        let warned = format!("WARNING: Could not fetch server CONFIG\n{csv}");
        assert!((parse_rate(&warned).unwrap() - 123_456.78).abs() < 1e-6);
    }

    #[test]
    fn other_output_is_an_error() {
        assert!(parse_rate("").is_err());
        assert!(parse_rate("\"GET\",\"123456.78\"\n").is_err());
        assert!(parse_rate("\"test\",\"rps\"\n").is_err());
        assert!(parse_rate("\"test\",\"rps\"\n\"GET\",\"fast\"\n").is_err());
    }
}
