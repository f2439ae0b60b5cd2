//! Cached responses over HTTP, beside nginx's proxy_cache and Varnish.
//!
//! All three stand in front of the same upstream, which counts: a run in which a cache has asked it
//! anything is not one of hits and ends in an error.

mod peers;
mod upstream;
mod wrk;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::Effort;
use crate::cache::peers::Storage;
use crate::cache::upstream::Upstream;
use crate::cache::wrk::{CONNECTIONS, Outcome};
use crate::server::Server;
use crate::summary::{Sample, median, ratio, thousands, typical};
use crate::table::Table;

/// What is asked for: how it is called, and its bytes.
const BODIES: [(&str, usize); 3] =
    [("1 KiB", 1_024), ("100 KiB", 100 * 1_024), ("10 MiB", 10 * 1_024 * 1_024)];
/// One run of one cache, at full effort.
const RUN: Duration = Duration::from_secs(5);
/// No answer takes this long, unless the server hangs.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);

/// A cache that is measured.
#[derive(Debug)]
pub(crate) struct Contestant {
    name: String,
    server: Server,
    address: SocketAddr,
}

/// Runs the load against all in turns, and returns the section.
///
/// # Errors
/// If one does not start, answers wrongly, or asks the upstream for what it should have.
pub(crate) fn measure(atoll: &Path, effort: Effort) -> anyhow::Result<String> {
    let upstream = Upstream::start()?;
    let contestants = [
        peers::atoll(atoll, upstream.address, Storage::Memory)?,
        peers::atoll(atoll, upstream.address, Storage::Disk)?,
        peers::nginx(upstream.address)?,
        peers::varnish(upstream.address)?,
    ];
    let mut table = Table::new(&[
        "cached",
        "by",
        "op/s",
        "atoll to it",
        "server CPU µs/op",
        "atoll to it",
        "p99 ms",
    ]);
    for (name, bytes) in BODIES {
        let path = format!("/{bytes}");
        for contestant in &contestants {
            // The second answer is out of the cache already.
            for _ in 0..2 {
                let got = body_of(contestant.address, &path).context(contestant.name.clone())?;
                ensure!(got == bytes, "{}: {got} bytes for {path}", contestant.name);
            }
        }
        let asked = upstream.requests();
        let outcomes = rounds(&contestants, (name, &path), effort)?;
        let more = upstream.requests() - asked;
        ensure!(more == 0, "{more} requests for {path} went to the upstream");
        add_rows(&mut table, name, &contestants, &outcomes);
    }
    Ok(format!(
        "{}\nwrk, {CONNECTIONS} connections kept alive on two threads; median of {} rounds in turns.\n",
        table.render(),
        effort.rounds
    ))
}

/// The outcomes of each contestant.
fn rounds(
    contestants: &[Contestant],
    (name, path): (&str, &str),
    effort: Effort,
) -> anyhow::Result<Vec<Vec<Outcome>>> {
    let mut outcomes: Vec<Vec<Outcome>> = vec![Vec::new(); contestants.len()];
    for round in 1..=effort.rounds {
        eprintln!("cached {name}: round {round} of {}", effort.rounds);
        for (contestant, outcomes) in contestants.iter().zip(&mut outcomes) {
            let outcome = wrk::run(contestant, path, RUN / effort.divisor);
            outcomes.push(outcome.with_context(|| contestant.name.clone())?);
        }
    }
    Ok(outcomes)
}

fn add_rows(table: &mut Table, name: &str, contestants: &[Contestant], outcomes: &[Vec<Outcome>]) {
    let typical_of = |outcomes: &[Outcome]| -> Sample {
        typical(&outcomes.iter().map(|outcome| outcome.sample).collect::<Vec<_>>())
    };
    let ours = typical_of(&outcomes[0]);
    for (contestant, outcomes) in contestants.iter().zip(outcomes) {
        let own = typical_of(outcomes);
        let p99_ms = outcomes.iter().map(|outcome| outcome.p99_ms).collect();
        table.row(vec![
            name.to_owned(),
            contestant.name.clone(),
            thousands(own.ops_per_second),
            ratio(ours.ops_per_second, own.ops_per_second),
            format!("{:.1}", own.cpu_us_per_op),
            ratio(ours.cpu_us_per_op, own.cpu_us_per_op),
            format!("{:.2}", median(p99_ms)),
        ]);
    }
}

/// The length of a body that comes whole.
fn body_of(address: SocketAddr, path: &str) -> anyhow::Result<usize> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_WAIT_MAX))?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").context("no head")?;
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "not answered with 200");
    Ok(answer.len() - end - 4)
}
