//! `cargo bench-peers`: the same load against Atoll and against what a user would pick instead.
//!
//! Starts the servers itself, measures them in turns in one run, and prints Markdown tables on
//! standard output (progress goes to standard error). Processor time is what the kernel has
//! booked for the server's processes, never a guess from the throughput.
//!
//! `cargo bench-peers wasm` measures handlers, beside `wasmtime serve` and `workerd` if they are given; `handlers` a
//! thousand of them on one node, and a hostile one beside another.
//!
//! `cargo bench-peers replication` holds linked nodes against the bars that the project has set
//! itself, and fails where one is missed. `cargo bench-peers cache` measures cached responses beside
//! nginx's proxy_cache and Varnish.

mod cache;
mod handlers;
mod http;
mod http_load;
mod memory;
mod process;
mod redis_benchmark;
mod replication;
mod resp;
mod resp_client;
mod server;
mod summary;
mod table;
mod wasm;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand, ValueEnum};

use crate::replication::Measure;
use crate::wasm::Others;

/// Compares Atoll with redis-server and nginx on this machine and prints Markdown tables.
#[derive(Debug, Parser)]
#[command(name = "cargo bench-peers")]
struct Options {
    #[command(subcommand)]
    task: Option<Task>,
    /// A tenth of the load and three rounds: enough to see whether something broke.
    #[arg(long, global = true)]
    quick: bool,
    /// Measure one part only.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Rounds of the throughput measurements; the median counts. Odd is best, 1 to 99.
    #[arg(long, global = true, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: Option<u32>,
    /// Measure this binary instead of building target/release/atoll from the sources.
    #[arg(long, global = true, value_name = "PATH")]
    atoll: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Holds linked nodes against their bars; fails where one is missed.
    Replication {
        /// What to measure; without any, all of it.
        #[arg(value_enum)]
        measures: Vec<Measure>,
    },
    /// Cached responses of 1 KiB, 100 KiB and 10 MiB beside nginx's proxy_cache and Varnish.
    Cache,
    /// Holds a thousand handlers on a node, and one beside one that loops, against their bars.
    Handlers,
    /// Measures handlers, fresh and reused.
    Wasm {
        /// The program `wasmtime`, to measure `wasmtime serve` beside.
        #[arg(long, value_name = "PATH")]
        wasmtime: Option<PathBuf>,
        /// The program `workerd` (the binary, not npm's script for it), to measure hello beside.
        #[arg(long, value_name = "PATH")]
        workerd: Option<PathBuf>,
        /// A standard component that answers /NAME/hello, NAME being that of its file; may be
        /// repeated.
        #[arg(long, value_name = "COMPONENT.wasm")]
        also: Vec<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// GET and SET beside redis-server.
    Resp,
    /// GET of 1 KiB beside nginx.
    Http,
    /// Resident memory for each key beside redis-server.
    Memory,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Effort {
    rounds: u32,
    /// Divides the operations of every run and the keys of the memory part.
    divisor: u32,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let effort = Effort {
        rounds: options.rounds.unwrap_or(if options.quick { 3 } else { 7 }),
        divisor: if options.quick { 10 } else { 1 },
    };
    match &options.task {
        None => compare(options, effort),
        Some(_) if options.only.is_some() => bail!("--only is for the comparison with peers"),
        Some(Task::Replication { measures }) => hold_to_bars(options, measures, effort),
        Some(Task::Cache) => cached(options, effort),
        Some(Task::Handlers) => {
            let atoll = binary(options)?;
            print(&describe_machine())?;
            Ok(print(&handlers::measure(&atoll, effort)?)?)
        }
        Some(Task::Wasm { wasmtime, workerd, also }) => {
            let (wasmtime, workerd) = (wasmtime.clone(), workerd.clone());
            let others = Others { wasmtime, workerd, components: also.clone() };
            measure_handlers(options, &others, effort)
        }
    }
}

/// Runs the parts that are asked for beside what a user would pick instead.
fn compare(options: &Options, effort: Effort) -> anyhow::Result<()> {
    let wanted = |part: Part| options.only.is_none_or(|only| only == part);
    let redis = wanted(Part::Resp) || wanted(Part::Memory);
    let nginx = wanted(Part::Http);
    server::require_peers(&server::Peers { redis, nginx, ..server::Peers::default() })?;
    let atoll = binary(options)?;
    print(&describe_machine())?;
    if wanted(Part::Resp) {
        print(&resp::measure(&atoll, effort).context("RESP part")?)?;
    }
    if wanted(Part::Http) {
        print(&http::measure(&atoll, effort).context("HTTP part")?)?;
    }
    if wanted(Part::Memory) {
        print(&memory::measure(&atoll, effort).context("memory part")?)?;
    }
    Ok(())
}

/// Measures cached responses beside other caches.
fn cached(options: &Options, effort: Effort) -> anyhow::Result<()> {
    let peers = server::Peers { nginx: true, varnish: true, wrk: true, redis: false };
    server::require_peers(&peers)?;
    let atoll = binary(options)?;
    let varnish = server::varnish_version();
    print(&format!("{}Beside them: {varnish}.\n", describe_machine()))?;
    print(&cache::measure(&atoll, effort)?)?;
    Ok(())
}

/// Measures replication, and fails where a bar is missed.
fn hold_to_bars(options: &Options, measures: &[Measure], effort: Effort) -> anyhow::Result<()> {
    let measures = if measures.is_empty() { Measure::value_variants() } else { measures };
    let redis = measures.contains(&Measure::Throughput);
    server::require_peers(&server::Peers { redis, ..server::Peers::default() })?;
    let atoll = binary(options)?;
    print(&describe_machine())?;
    let sheet = replication::measure(&atoll, measures, effort)?;
    print(&sheet.render())?;
    match sheet.missed() {
        0 => Ok(()),
        missed => bail!("{missed} of {} bars are missed", sheet.bars()),
    }
}

/// Measures handlers, beside what else runs them.
fn measure_handlers(options: &Options, others: &Others, effort: Effort) -> anyhow::Result<()> {
    wasm::check(others)?;
    let atoll = binary(options)?;
    print(&describe_machine())?;
    if let Some(workerd) = &others.workerd {
        print(&format!("Beside {}.\n", server::workerd_version(workerd)))?;
    }
    if let Some(wasmtime) = &others.wasmtime {
        print(&format!("Beside {}.\n", server::wasmtime_version(wasmtime)))?;
    }
    print(&wasm::measure(&atoll, others, effort)?)?;
    Ok(())
}

fn binary(options: &Options) -> anyhow::Result<PathBuf> {
    match &options.atoll {
        // Nodes are started in folders of their own.
        Some(path) => std::path::absolute(path).context("--atoll"),
        None => server::build_atoll(),
    }
}

fn print(section: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{section}")?;
    out.flush()
}

/// One line on where the figures come from.
fn describe_machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = process::processor_model().unwrap_or_else(|| "unknown processor".to_owned());
    let versions = [server::redis_version(), server::nginx_version()].join(", ");
    format!("{cores} cores of {model}; servers and load share them. Peers: {versions}.\n")
}
