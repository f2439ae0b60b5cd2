//! Many handlers on one node, and a hostile one beside another: held against the project's bars.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::Effort;
use crate::process::{cpu_us, resident_bytes};
use crate::server::{self, Doors, Server};
use crate::summary::median;
use crate::table::Table;

const HANDLER_COUNT: usize = 1_000;
/// How long a node may take until it answers for all of them.
const START_WAIT_MAX: Duration = Duration::from_secs(120);
/// Requests of the neighbour in one round, on each connection.
const REQUESTS: usize = 2_000;
const CONNECTIONS: usize = 4;
/// What the hostile handler may use for one request.
const LOOP_CPU_MS: &str = "100";

/// Measures both, and returns the section.
pub(crate) fn measure(atoll: &Path, effort: Effort) -> anyhow::Result<String> {
    eprintln!("building the handlers");
    let many = many(atoll, HANDLER_COUNT / effort.divisor as usize)?;
    Ok(many + &neighbours(atoll, effort)?)
}

/// Deploys so many different components, and starts the node again.
fn many(atoll: &Path, count: usize) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data").display().to_string();
    let flags = ["--data".to_owned(), data, "--peers-listen".to_owned(), "off".to_owned()];
    let hello = std::fs::read(atoll_guests::build()?.path("hello"))?;
    let (node, doors) = server::start_atoll_with(atoll, &flags)?;
    let empty = resident_bytes(node.pid())?;
    eprintln!("deploying {count} handlers");
    let began = Instant::now();
    for number in 0..count {
        let path = folder.path().join("handler.wasm");
        std::fs::write(&path, atoll_guests::with_note(&hello, &number.to_string()))?;
        server::deploy(atoll, doors.api, (&format!("h{number}"), &path), &[])?;
    }
    let deployed = began.elapsed();
    let last = format!("/h{}/x", count - 1);
    Client::connect(doors.gateway)?.get(&last)?;
    let full = resident_bytes(node.pid())?;
    drop(node);
    let began = Instant::now();
    let (mut node, doors) = server::start_atoll_with(atoll, &flags)?;
    let up = began.elapsed();
    wait_until_ready(&mut node, &doors)?;
    let ready = began.elapsed();
    for number in 0..count {
        Client::connect(doors.gateway)?.get(&format!("/h{number}/x"))?;
    }
    let again = resident_bytes(node.pid())?;
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let mut table = Table::new(&["handlers on one node", "measured"]);
    let rows = [
        (
            format!("{count} deployed one after the other"),
            format!("{:.1} s", deployed.as_secs_f64()),
        ),
        ("resident: none, all".to_owned(), format!("{}, {}", mib(empty), mib(full))),
        ("started again: doors open".to_owned(), format!("{:.2} s", up.as_secs_f64())),
        ("all ready".to_owned(), format!("{:.2} s", ready.as_secs_f64())),
        ("resident once each has answered".to_owned(), mib(again)),
    ];
    rows.into_iter().for_each(|(what, measured)| table.row(vec![what, measured]));
    Ok(table.render() + "\n")
}

fn wait_until_ready(node: &mut Server, doors: &Doors) -> anyhow::Result<()> {
    let deadline = Instant::now() + START_WAIT_MAX;
    while Client::connect(doors.api).and_then(|mut client| client.get("/readyz")).is_err() {
        ensure!(Instant::now() < deadline, "it is not ready in time");
        node.wait_until(|| true)?;
    }
    Ok(())
}

/// Latencies of a handler, alone and while another misbehaves in each way.
fn neighbours(atoll: &Path, effort: Effort) -> anyhow::Result<String> {
    let guests = atoll_guests::build()?;
    let (node, doors) = server::start_atoll(atoll)?;
    server::deploy(atoll, doors.api, ("hello", &guests.path("hello")), &[])?;
    let hostile = ("hostile", &*guests.path("hostile"));
    server::deploy(atoll, doors.api, hostile, &["--cpu-ms", LOOP_CPU_MS])?;
    let mut table = Table::new(&[
        "a handler beside one that",
        "p50 ms",
        "p99 ms",
        "p99 to alone",
        "cores used",
    ]);
    let mut worst: f64 = 0.0;
    for (what, path, status) in HOSTILE {
        let (mut alone, mut beside, mut shares) = (Vec::new(), Vec::new(), Vec::new());
        for round in 1..=effort.rounds {
            eprintln!("beside one that {what}: round {round} of {}", effort.rounds);
            alone.push(load(doors.gateway, effort)?);
            let before = (Instant::now(), cpu_us(node.pid())?);
            beside.push(load_beside(doors.gateway, (path, *status), effort)?);
            let used = cpu_us(node.pid())? - before.1;
            shares.push(used as f64 / before.0.elapsed().as_micros() as f64);
        }
        // Rounds in turns: what the machine does meanwhile, both had.
        let ratios =
            alone.iter().zip(&beside).map(|(alone, beside)| at(beside, 99) / at(alone, 99));
        let ratio = median(ratios.collect());
        worst = worst.max(ratio);
        let cell = |percent| {
            let of =
                |rounds: &[Vec<u64>]| median(rounds.iter().map(|us| at(us, percent)).collect());
            format!("{:.2}, {:.2}", of(&alone), of(&beside))
        };
        let shares = format!("{:.2}", median(shares));
        table.row(vec![(*what).to_owned(), cell(50), cell(99), format!("{ratio:.2}x"), shares]);
    }
    let verdict = if worst <= 2.0 { "held" } else { "missed" };
    Ok(format!(
        "{}\n{CONNECTIONS} connections, median of {} rounds in turns, alone and beside; a client keeps \
         the other at it, which has {LOOP_CPU_MS} ms of CPU for a request. The worst p99: {worst:.2}x \
         (bar 2: {verdict}).\n",
        table.render(),
        effort.rounds,
    ))
}

/// How a handler misbehaves, at which path, and what its caller is told.
///
/// The first behaves: what it does to its neighbour, any other client of the node does.
const HOSTILE: &[(&str, &str, u16)] = &[
    ("behaves, and is asked as often", "/hello/y", 200),
    ("loops", "/hostile/loop", 504),
    ("calls the host without end", "/hostile/clock", 504),
    ("recurses", "/hostile/recursion", 502),
    ("takes all memory", "/hostile/memory", 502),
    ("answers too much", "/hostile/big", 502),
    ("answers 100,000 fields", "/hostile/headers", 502),
    ("opens buckets without end", "/hostile/handles", 200),
    ("logs without end", "/hostile/logs", 200),
];

/// Milliseconds of the request at this percentile.
fn at(sorted_us: &[u64], percent: usize) -> f64 {
    sorted_us[(sorted_us.len() - 1) * percent / 100] as f64 / 1_000.0
}

/// The load while a client asks for `path` again and again.
fn load_beside(
    gateway: SocketAddr,
    (path, want): (&str, u16),
    effort: Effort,
) -> anyhow::Result<Vec<u64>> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let hostile = threads.spawn(|| -> anyhow::Result<u32> {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                let status = Client::connect(gateway)?.status(path)?;
                ensure!(status == want, "{path} is answered with {status}");
                count += 1;
            }
            Ok(count)
        });
        let loaded = load(gateway, effort);
        stop.store(true, Ordering::Relaxed);
        let count = hostile.join().map_err(|_| anyhow::anyhow!("a thread of ours"))??;
        ensure!(count > 0, "{path} did not end once");
        loaded
    })
}

/// Microseconds of each request, sorted.
fn load(gateway: SocketAddr, effort: Effort) -> anyhow::Result<Vec<u64>> {
    let requests = REQUESTS / effort.divisor as usize;
    let run = || -> anyhow::Result<Vec<u64>> {
        let mut client = Client::connect(gateway)?;
        let mut took = Vec::with_capacity(requests);
        for _ in 0..requests {
            let began = Instant::now();
            client.get("/hello/x")?;
            took.push(u64::try_from(began.elapsed().as_micros())?);
        }
        Ok(took)
    };
    let mut all = std::thread::scope(|threads| -> anyhow::Result<Vec<u64>> {
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| threads.spawn(run)).collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.join().map_err(|_| anyhow::anyhow!("a thread of ours"))??);
        }
        Ok(all)
    })?;
    all.sort_unstable();
    Ok(all)
}

/// A connection that is kept, one request after the other.
struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: SocketAddr) -> anyhow::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(START_WAIT_MAX))?;
        Ok(Client { reader: BufReader::new(stream) })
    }

    /// An answer that is not 200 is an error.
    fn get(&mut self, path: &str) -> anyhow::Result<()> {
        let status = self.status(path)?;
        ensure!(status == 200, "GET {path} is answered with {status}");
        Ok(())
    }

    fn status(&mut self, path: &str) -> anyhow::Result<u16> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.reader.get_mut().write_all(request.as_bytes())?;
        let (mut status, mut body_bytes) = (None, 0);
        loop {
            let mut line = String::new();
            ensure!(self.reader.read_line(&mut line)? > 0, "GET {path}: the connection ended");
            let line = line.trim_end().to_ascii_lowercase();
            if status.is_none() {
                status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
            } else if let Some(length) = line.strip_prefix("content-length:") {
                body_bytes = length.trim().parse()?;
            } else if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; body_bytes];
        self.reader.read_exact(&mut body)?;
        status.context("an answer without a status")
    }
}
