//! GET over HTTP, beside nginx: a stored value, and an answer that a Wasm handler makes.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, ensure};

use crate::Effort;
use crate::http_load::{self, CONNECTIONS, Outcome, Target};
use crate::server::{self, Server};
use crate::summary::{Sample, median, ratio, thousands, typical};
use crate::table::Table;

/// Size of the stored value and of nginx's file.
const BODY_BYTES: usize = 1024;
const OPERATIONS: u32 = 200_000;
/// The example whose answer is measured.
const HANDLER: &str = "pages";

/// One line of the table.
struct Contestant<'a> {
    name: &'static str,
    server: &'a Server,
    target: Target,
    outcomes: Vec<Outcome>,
}

/// Runs the load against all in turns, and returns the section.
pub(crate) fn measure(atoll: &Path, effort: Effort) -> anyhow::Result<String> {
    let (node, doors) = server::start_atoll(atoll)?;
    let (nginx, address) = server::start_nginx(BODY_BYTES)?;
    let contestant =
        |name, server, target| Contestant { name, server, target, outcomes: Vec::new() };
    // The key that the handler reads for `/pages/bench`: both answer with the same value.
    let stored = Target {
        address: doors.api,
        path: "/v1/kv/default/page:%2Fpages%2Fbench".to_owned(),
        body_bytes: Some(BODY_BYTES),
    };
    put(&stored)?;
    let file = Target { address, path: "/file".to_owned(), body_bytes: Some(BODY_BYTES) };
    let mut contestants = vec![
        contestant("nginx, static file", &nginx, file),
        contestant("atoll, GET /v1/kv", &node, stored),
    ];
    let mut note = String::new();
    match deploy(atoll, doors.api, doors.gateway) {
        Ok(target) => {
            contestants.push(contestant("atoll, Wasm handler, the same GET", &node, target))
        }
        Err(error) => note = format!("The handler was not measured: {error:#}\n"),
    }
    for contestant in &contestants {
        http_load::probe(&contestant.target).context(contestant.name)?;
    }
    for round in 1..=effort.rounds {
        eprintln!("HTTP: round {round} of {}", effort.rounds);
        for Contestant { name, server, target, outcomes } in &mut contestants {
            let operations = OPERATIONS / effort.divisor;
            outcomes.push(http_load::run(server.pid(), target, operations).context(*name)?);
        }
    }
    Ok(section(&contestants, effort) + &note)
}

fn section(contestants: &[Contestant<'_>], effort: Effort) -> String {
    let mut table =
        Table::new(&["HTTP", "op/s", "to nginx", "server CPU µs/op", "to nginx", "p99 ms"]);
    let typical_of = |contestant: &Contestant<'_>| -> Sample {
        typical(&contestant.outcomes.iter().map(|outcome| outcome.sample).collect::<Vec<_>>())
    };
    let nginx = typical_of(&contestants[0]);
    for contestant in contestants {
        let own = typical_of(contestant);
        #[expect(clippy::cast_precision_loss, reason = "microseconds of minutes fit in 52 bits")]
        let p99_ms = contestant.outcomes.iter().map(|outcome| outcome.p99_us as f64 / 1000.0);
        table.row(vec![
            contestant.name.to_owned(),
            thousands(own.ops_per_second),
            ratio(own.ops_per_second, nginx.ops_per_second),
            format!("{:.1}", own.cpu_us_per_op),
            ratio(own.cpu_us_per_op, nginx.cpu_us_per_op),
            format!("{:.2}", median(p99_ms.collect())),
        ]);
    }
    let overhead = match contestants {
        [_, stored, handler] => {
            let more_us = typical_of(handler).cpu_us_per_op - typical_of(stored).cpu_us_per_op;
            format!(" The handler costs {more_us:+.1} µs of CPU beside GET /v1/kv.")
        }
        _ => String::new(),
    };
    format!(
        "{}\n{CONNECTIONS} connections kept alive, bodies of {BODY_BYTES} bytes; \
         median of {} rounds in turns.{overhead}\n",
        table.render(),
        effort.rounds,
    )
}

/// Stores the value that is measured.
///
/// # Errors
/// If the node does not take it.
pub(crate) fn put(target: &Target) -> anyhow::Result<()> {
    use std::io::{Read, Write};
    let Target { address, path, .. } = target;
    let mut stream = std::net::TcpStream::connect(address)?;
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {BODY_BYTES}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(&[head.into_bytes(), vec![b'x'; BODY_BYTES]].concat())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.lines().next().unwrap_or_default();
    ensure!(status.starts_with("HTTP/1.1 20"), "PUT {path}: {status}");
    Ok(())
}

/// Builds the example handler and puts it live.
fn deploy(atoll: &Path, api: SocketAddr, gateway: SocketAddr) -> anyhow::Result<Target> {
    eprintln!("building the handler {HANDLER}");
    let component = atoll_guests::build()?.path(HANDLER);
    server::deploy(atoll, api, (HANDLER, &component), &[])?;
    let target = Target {
        address: gateway,
        path: format!("/{HANDLER}/bench"),
        body_bytes: Some(BODY_BYTES),
    };
    http_load::probe(&target)?;
    Ok(target)
}
