//! Runs seeds: `cargo sim --seeds 100000`, or one again with its story: `cargo sim --seed 17`.
#![allow(clippy::print_stdout, reason = "a command line prints")]

use atoll_core::replica::tuning::Rules;
use atoll_sim::aim::Aim;
use atoll_sim::plan::{Plan, RULES};
use atoll_sim::verdict::{PATIENCE_US, Verdict, judge, verdict};
use atoll_sim::world::World;
use clap::{Parser, ValueEnum};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// As in the node, and a fifth faster than the system's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Runs simulated clusters and judges each.
#[derive(Parser, Debug)]
struct Arguments {
    /// How many seeds to run
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run this one seed and tell its story
    #[arg(long)]
    seed: Option<u64>,
    /// With --seed: also tell what each node holds under this key of database 0 or 1, e.g. 1/a
    #[arg(long)]
    key: Option<String>,
    /// Switch a protective rule off, to see whether that is noticed
    #[arg(long)]
    without: Option<String>,
    /// Aim at one kind of trouble
    #[arg(long, value_enum, default_value_t = Aim::Anything)]
    aim: Aim,
    /// Threads [default: one for each core]
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut rules = Rules::ALL;
    if let Some(name) = &arguments.without {
        let Some((_, switch)) = RULES.iter().find(|(rule, _)| rule == name) else {
            let names: Vec<&str> = RULES.iter().map(|(name, _)| *name).collect();
            println!("no rule is called {name:?}; there are {}", names.join(", "));
            return ExitCode::FAILURE;
        };
        switch(&mut rules);
    }
    if let Some(seed) = arguments.seed {
        let plan = Plan { rules, ..arguments.aim.plan(seed) };
        return tell(plan, arguments.key.as_deref());
    }
    run_many(&arguments, rules)
}

fn tell(plan: Plan, key: Option<&str>) -> ExitCode {
    println!("{plan:#?}");
    let mut world = World::new(plan);
    world.story = Some(Vec::new());
    let followed = key.and_then(|key| key.split_once('/'));
    world.followed =
        followed.map(|(database, key)| (database.parse().unwrap_or(0), key.as_bytes().to_vec()));
    world.run(PATIENCE_US);
    let verdict = verdict(&mut world);
    for line in world.story.iter().flatten() {
        println!("{line}");
    }
    for node in &world.nodes {
        if let Some(process) = &node.process {
            println!("{:#?}", process.replica.status(node.moment(world.now_us())));
            if let Some((database, key)) = &world.followed {
                let entry = process.store.entry(process.store.database(*database), key);
                println!("{} holds in the end {entry:?}", node.name);
            }
        }
    }
    println!("{verdict:#?}");
    if verdict.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What has to be said on the command line to aim so.
fn aim_flag(aim: Aim) -> String {
    let value = aim.to_possible_value().filter(|_| aim != Aim::Anything);
    value.map_or_else(String::new, |value| format!(" --aim {}", value.get_name()))
}

/// Sums over the seeds that were run.
#[derive(Debug, Default)]
struct Sums {
    failed: AtomicU64,
    written: AtomicU64,
    received: AtomicU64,
    syncs: AtomicU64,
    stale: AtomicU64,
    audits: AtomicU64,
}

fn run_many(arguments: &Arguments, rules: Rules) -> ExitCode {
    let (next, sums) = (AtomicU64::new(arguments.from), Sums::default());
    let end = arguments.from + arguments.seeds;
    let started = Instant::now();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.unwrap_or(cores) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let plan = Plan { rules, ..arguments.aim.plan(seed) };
                    sums.add((arguments.aim, seed), &judge(plan));
                    if seed % 10_000 == 9_999 {
                        println!("{} seeds, {:.0?}", seed + 1 - arguments.from, started.elapsed());
                    }
                }
            });
        }
    });
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let Sums { failed, written, received, syncs, stale, audits } = &sums;
    println!(
        "{} seeds, {} failed; {} writes, {} received, {} syncs ({} stale), {} audits; {:.1?}",
        arguments.seeds,
        of(failed),
        of(written),
        of(received),
        of(syncs),
        of(stale),
        of(audits),
        started.elapsed()
    );
    if of(failed) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Sums {
    fn add(&self, (aim, seed): (Aim, u64), verdict: &Verdict) {
        let counts = verdict.counts;
        self.written.fetch_add(verdict.op_count, Ordering::Relaxed);
        self.received.fetch_add(counts.ops_received, Ordering::Relaxed);
        self.syncs.fetch_add(counts.syncs_received, Ordering::Relaxed);
        self.stale.fetch_add(counts.syncs_stale, Ordering::Relaxed);
        self.audits.fetch_add(counts.audits, Ordering::Relaxed);
        if let Some(fault) = verdict.faults.first() {
            self.failed.fetch_add(1, Ordering::Relaxed);
            let aim = aim_flag(aim);
            println!("seed {seed} failed: {fault}\n    its story: cargo sim --seed {seed}{aim}");
        }
    }
}
