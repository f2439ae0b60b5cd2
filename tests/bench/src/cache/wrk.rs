//! Load by wrk: as many requests as fit into a few seconds.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::cache::Contestant;
use crate::process;
use crate::summary::Sample;

/// Connections that are open at once, on two threads.
pub(crate) const CONNECTIONS: u32 = 50;

/// What a run gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) sample: Sample,
    /// 99 of 100 answers took at most this long.
    pub(crate) p99_ms: f64,
}

/// Asks for `path` for so long.
///
/// # Errors
/// If an answer is not 2xx, or a connection fails.
pub(crate) fn run(
    contestant: &Contestant,
    path: &str,
    duration: Duration,
) -> anyhow::Result<Outcome> {
    let mut command = Command::new("wrk");
    command.args(["-t", "2", "-c", &CONNECTIONS.to_string(), "--latency"]);
    command.args(["-d", &format!("{}s", duration.as_secs().max(1))]);
    // Its own 2 s are too few for 50 bodies of 10 MiB at once where others use the machine.
    command.args(["--timeout", "30s"]);
    command.arg(format!("http://{}{path}", contestant.address));
    let before_us = process::cpu_us(contestant.server.pid())?;
    let output = command.stdin(Stdio::null()).output().context("wrk")?;
    let after_us = process::cpu_us(contestant.server.pid())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let said = parse(&text).with_context(|| format!("wrk says {text:?}"))?;
    #[expect(clippy::cast_precision_loss, reason = "microseconds of minutes fit in 52 bits")]
    let cpu_us = (after_us - before_us) as f64;
    let sample = Sample {
        ops_per_second: said.requests / said.seconds,
        cpu_us_per_op: cpu_us / said.requests,
    };
    Ok(Outcome { sample, p99_ms: said.p99_ms })
}

#[derive(Debug, PartialEq)]
struct Said {
    requests: f64,
    seconds: f64,
    p99_ms: f64,
}

fn parse(text: &str) -> anyhow::Result<Said> {
    for trouble in ["Non-2xx", "Socket errors"] {
        ensure!(!text.contains(trouble), "not every request was answered as it should be");
    }
    let lines = || text.lines().map(str::trim);
    let (requests, rest) = lines()
        .find_map(|line| line.split_once(" requests in "))
        .context("no number of requests")?;
    let seconds = rest.split(',').next().and_then(milliseconds).context("no duration")? / 1_000.0;
    let requests: f64 = requests.parse().context("number of requests")?;
    ensure!(requests > 0.0, "no request was answered");
    let p99_ms = lines().find_map(|line| line.strip_prefix("99%")).and_then(milliseconds);
    Ok(Said { requests, seconds, p99_ms: p99_ms.context("no latency")? })
}

/// `1.23ms` as 1.23.
fn milliseconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let units = [("us", 0.001), ("ms", 1.0), ("m", 60_000.0), ("s", 1_000.0)];
    units.iter().find_map(|(unit, ms)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Running 2s test @ http://127.0.0.1:1/\n  2 threads and 50 connections\n\
        \x20 Latency Distribution\n     50%  800.00us\n     99%    2.50ms\n\
        \x20 12345 requests in 2.50s, 9.99MB read\nRequests/sec:  4938.00\n";

    #[test]
    fn figures_are_found() {
        let said = parse(TEXT).unwrap();
        assert_eq!(said, Said { requests: 12_345.0, seconds: 2.5, p99_ms: 2.5 });
    }

    #[test]
    fn a_run_with_errors_does_not_count() {
        for line in ["  Non-2xx or 3xx responses: 1\n", "  Socket errors: connect 1\n"] {
            assert!(parse(&format!("{TEXT}{line}")).is_err());
        }
        assert!(parse("").is_err());
        assert!(parse(&TEXT.replace("12345", "0")).is_err());
    }
}
