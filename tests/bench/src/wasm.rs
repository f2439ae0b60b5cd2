//! What a handler costs: beside the plain path of the same node, `wasmtime serve` and `workerd`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::Effort;
use crate::http::put;
use crate::http_load::{self, CONNECTIONS, Outcome, Target};
use crate::server::{self, Server};
use crate::summary::{Sample, median, thousands, typical};
use crate::table::Table;

/// Size of the stored value.
const BODY_BYTES: usize = 1024;
const OPERATIONS: u32 = 200_000;
/// An interpreter takes a hundred times as long.
const OPERATIONS_SLOW: u32 = 4_000;
/// Where reuse is measured, nobody waits for a new instance.
const REUSED: &[&str] = &["--reuse", "1000000", "--cpu-ms", "1000", "--memory-mib", "128"];
/// The same where requests share instances, as many as in `wasmtime serve` by default.
const SHARED: &[&str] =
    &["--reuse", "1000000", "--reuse-at-once", "16", "--cpu-ms", "1000", "--memory-mib", "128"];
const FRESH: &[&str] = &["--cpu-ms", "1000", "--memory-mib", "128"];
/// How `wasmtime serve` uses instances of `wasi:http` 0.2: each once, unless it is told otherwise.
const SERVE_0_2: &[(&str, &[&str])] =
    &[("fresh", &[]), ("reused", &["--max-instance-reuse-count", "1000000"])];
/// The same of 0.3: each 128 times and for 16 requests at once, unless it is told otherwise.
const SERVE_0_3: &[(&str, &[&str])] = &[
    ("fresh", &["--max-instance-reuse-count", "1"]),
    (
        "reused",
        &["--max-instance-reuse-count", "1000000", "--max-instance-concurrent-reuse-count", "1"],
    ),
    ("shared", &["--max-instance-reuse-count", "1000000"]),
];
/// The bars that the project has set itself, in microseconds above the plain path.
const FRESH_BAR_US: f64 = 18.0;
const REUSED_BAR_US: f64 = 3.0;

/// What is measured beside the node's own handlers.
#[derive(Debug, Default)]
pub(crate) struct Others {
    /// The program `wasmtime`.
    pub(crate) wasmtime: Option<PathBuf>,
    /// The program `workerd`.
    pub(crate) workerd: Option<PathBuf>,
    /// Standard components that answer `/NAME/hello`, NAME being that of their file.
    pub(crate) components: Vec<PathBuf>,
}

/// One line of the tables.
struct Contestant {
    name: String,
    target: Target,
    pid: u32,
    operations: u32,
    outcomes: Vec<Outcome>,
}

/// The node, and what is deployed on it.
struct Bench<'a> {
    atoll: &'a Path,
    api: SocketAddr,
    gateway: SocketAddr,
    pid: u32,
    contestants: Vec<Contestant>,
    /// Those beside it; stopped at the end.
    servers: Vec<Server>,
}

/// Runs the load against all in turns, and returns the section.
pub(crate) fn measure(atoll: &Path, others: &Others, effort: Effort) -> anyhow::Result<String> {
    let (node, doors) = server::start_atoll(atoll)?;
    let (api, gateway, pid) = (doors.api, doors.gateway, node.pid());
    let mut bench =
        Bench { atoll, api, gateway, pid, contestants: Vec::new(), servers: vec![node] };
    eprintln!("building the handlers");
    let guests = atoll_guests::build()?;
    bench.add_reads(&guests.path("pages"))?;
    bench.add_both("hello, atoll:edge", "edge", &guests.path("hello"), OPERATIONS)?;
    bench.add_both("hello, wasi:http", "portable", &guests.path("portable"), OPERATIONS)?;
    if let Some(wasmtime) = &others.wasmtime {
        bench.add_wasmtime(
            wasmtime,
            ("portable", &guests.path("portable")),
            OPERATIONS,
            SERVE_0_2,
        )?;
    }
    bench.add_0_3(&guests.path("portable-async"), others.wasmtime.as_deref())?;
    if let Some(workerd) = &others.workerd {
        let (server, address) = server::start_workerd(workerd)?;
        let target = any(address, "/hello");
        bench.add("hello in workerd, JavaScript", server.pid(), target, OPERATIONS)?;
        bench.servers.push(server);
    }
    for component in &others.components {
        let name = component.file_stem().and_then(|stem| stem.to_str());
        let name = name.context("a component's file has a name")?;
        bench.add_both(&format!("{name}, wasi:http"), name, component, OPERATIONS_SLOW)?;
        if let Some(wasmtime) = &others.wasmtime {
            bench.add_wasmtime(wasmtime, (name, component), OPERATIONS_SLOW, SERVE_0_2)?;
        }
    }
    for round in 1..=effort.rounds {
        eprintln!("Wasm: round {round} of {}", effort.rounds);
        for Contestant { name, pid, target, operations, outcomes } in &mut bench.contestants {
            let operations = *operations / effort.divisor;
            outcomes.push(http_load::run(*pid, target, operations).context(name.clone())?);
        }
    }
    Ok(section(&bench.contestants, effort))
}

impl Bench<'_> {
    /// The plain GET, and the handler that makes the same.
    fn add_reads(&mut self, component: &Path) -> anyhow::Result<()> {
        let (api, gateway) = (self.api, self.gateway);
        let key = |handler: &str| format!("/v1/kv/default/page:%2F{handler}%2Fbench");
        for name in ["fresh", "reused"] {
            put(&body(api, &key(name)))?;
        }
        self.add("GET /v1/kv, no handler", self.pid, body(api, &key("fresh")), OPERATIONS)?;
        for (name, arguments) in [("fresh", FRESH), ("reused", REUSED)] {
            self.deploy(name, component, arguments)?;
            let target = body(gateway, &format!("/{name}/bench"));
            self.add(&format!("handler, the same GET, {name}"), self.pid, target, OPERATIONS)?;
        }
        Ok(())
    }

    /// A handler that says hello, fresh and reused.
    fn add_both(
        &mut self,
        title: &str,
        name: &str,
        component: &Path,
        operations: u32,
    ) -> anyhow::Result<()> {
        for how in [("fresh", FRESH), ("reused", REUSED)] {
            self.add_one(title, (name, component), how, operations)?;
        }
        Ok(())
    }

    /// A handler that says hello, with its instances used in one way.
    fn add_one(
        &mut self,
        title: &str,
        (name, component): (&str, &Path),
        (how, arguments): (&str, &[&str]),
        operations: u32,
    ) -> anyhow::Result<()> {
        let handler = format!("{name}-{how}");
        self.deploy(&handler, component, arguments)?;
        let target = any(self.gateway, &format!("/{handler}/hello"));
        // Reuse breaks some components: then there is nothing to measure.
        let mut probes = (0..20).map(|_| http_load::probe(&target));
        match probes.find_map(Result::err) {
            None => self.add(&format!("{title}, {how}"), self.pid, target, operations)?,
            Some(error) => eprintln!("{title}, {how}: not measured: {error:#}"),
        }
        Ok(())
    }

    /// A component of 0.3, also with instances that requests share.
    fn add_0_3(&mut self, component: &Path, wasmtime: Option<&Path>) -> anyhow::Result<()> {
        let (title, named) = ("hello, wasi:http 0.3", ("async", component));
        for how in [("fresh", FRESH), ("reused", REUSED), ("shared", SHARED)] {
            self.add_one(title, named, how, OPERATIONS)?;
        }
        match wasmtime {
            Some(wasmtime) => self.add_wasmtime(wasmtime, named, OPERATIONS, SERVE_0_3),
            None => Ok(()),
        }
    }

    /// The same component in `wasmtime serve`, with its instances used in each of these ways.
    fn add_wasmtime(
        &mut self,
        wasmtime: &Path,
        (name, component): (&str, &Path),
        operations: u32,
        ways: &[(&str, &[&str])],
    ) -> anyhow::Result<()> {
        for (how, reuse) in ways {
            let title = format!("{name} in wasmtime serve, {how}");
            let (server, address) = server::start_wasmtime(wasmtime, component, reuse)?;
            let target = any(address, &format!("/{name}/hello"));
            let mut probes = (0..20).map(|_| http_load::probe(&target));
            match probes.find_map(Result::err) {
                None => self.add(&title, server.pid(), target, operations)?,
                Some(error) => eprintln!("{title}: not measured: {error:#}"),
            }
            self.servers.push(server);
        }
        Ok(())
    }

    fn deploy(&self, name: &str, component: &Path, arguments: &[&str]) -> anyhow::Result<()> {
        server::deploy(self.atoll, self.api, (name, component), arguments)
    }

    fn add(&mut self, name: &str, pid: u32, target: Target, operations: u32) -> anyhow::Result<()> {
        http_load::probe(&target).context(name.to_owned())?;
        let name = name.to_owned();
        self.contestants.push(Contestant { name, target, pid, operations, outcomes: Vec::new() });
        Ok(())
    }
}

fn body(address: SocketAddr, path: &str) -> Target {
    Target { address, path: path.to_owned(), body_bytes: Some(BODY_BYTES) }
}

fn any(address: SocketAddr, path: &str) -> Target {
    Target { address, path: path.to_owned(), body_bytes: None }
}

fn section(contestants: &[Contestant], effort: Effort) -> String {
    let mut table = Table::new(&["Wasm", "op/s", "server CPU µs/op", "p99 ms"]);
    for contestant in contestants {
        let own = contestant.typical();
        #[expect(clippy::cast_precision_loss, reason = "microseconds of minutes fit in 52 bits")]
        let p99_ms = contestant.outcomes.iter().map(|outcome| outcome.p99_us as f64 / 1000.0);
        table.row(vec![
            contestant.name.clone(),
            thousands(own.ops_per_second),
            format!("{:.1}", own.cpu_us_per_op),
            format!("{:.2}", median(p99_ms.collect())),
        ]);
    }
    let mut text = format!(
        "{}\n{CONNECTIONS} connections kept alive; median of {} rounds in turns.\n",
        table.render(),
        effort.rounds,
    );
    if let [plain, fresh, reused, ..] = contestants {
        for (name, handler, bar_us) in
            [("fresh", fresh, FRESH_BAR_US), ("reused", reused, REUSED_BAR_US)]
        {
            let more_us = handler.typical().cpu_us_per_op - plain.typical().cpu_us_per_op;
            let verdict = if more_us <= bar_us { "held" } else { "missed" };
            text += &format!(
                "A GET by a handler, {name}: {more_us:+.1} µs of CPU above the plain one \
                 (bar {bar_us:.0}: {verdict}).\n"
            );
        }
    }
    text
}

impl Contestant {
    fn typical(&self) -> Sample {
        typical(&self.outcomes.iter().map(|outcome| outcome.sample).collect::<Vec<_>>())
    }
}

/// Fails early where a component is not there.
///
/// # Errors
/// If one cannot be read.
pub(crate) fn check(others: &Others) -> anyhow::Result<()> {
    for path in others.components.iter().chain(&others.wasmtime) {
        ensure!(path.is_file(), "{} is no file", path.display());
    }
    Ok(())
}
