//! INFO: sections of `name:value` lines, in the words that clients and exporters look for.

use super::connection::REDIS_VERSION;
use super::replication;
use crate::clock::Now;
use crate::replica::status::Status;
use crate::resp::cluster::Cluster;
use crate::resp::command::COMMANDS;
use crate::resp::fault::Fault;
use crate::resp::server::{DiskState, Facts, Settings};
use crate::resp::session::{Call, DATABASE_COUNT};
use crate::resp::tally::Tally;
use crate::store::Store;
use std::fmt::Write as _;
use std::sync::Arc;

/// Everything that the sections draw from.
pub(crate) struct Source<'a> {
    facts: Facts,
    settings: Settings,
    tallies: Vec<Arc<Tally>>,
    pub(super) cluster: &'a dyn Cluster,
    pub(super) status: Arc<Status>,
    pub(super) store: &'a Store,
    pub(super) now: Now,
}

/// A section's name, and the function that writes its lines.
type Section = (&'static str, fn(&Source<'_>, &mut String));

const SECTIONS: &[Section] = &[
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication::section::replication),
    ("CPU", cpu),
    ("Commandstats", command_stats),
    ("Cluster", cluster),
    ("Keyspace", keyspace),
];

/// Shown only where they are asked for.
const EXTRA: &[&str] = &["Commandstats"];

pub(crate) fn info(call: &mut Call<'_>) -> Result<(), Fault> {
    let wanted = |name: &str| {
        let asked = |word: &str| {
            call.arguments.from(1).any(|argument| argument.eq_ignore_ascii_case(word.as_bytes()))
        };
        let by_default = call.len() == 1 || asked("default");
        asked("all") || asked("everything") || asked(name) || (by_default && !EXTRA.contains(&name))
    };
    let source = Source {
        facts: call.around.server.facts(),
        settings: call.around.server.settings(),
        tallies: call.around.server.tallies(),
        cluster: call.around.server.cluster(),
        status: call.around.server.cluster().status(),
        store: call.around.store,
        now: call.around.now,
    };
    let mut text = String::new();
    for (name, write) in SECTIONS.iter().filter(|(name, _)| wanted(name)) {
        if !text.is_empty() {
            text += "\r\n";
        }
        line(&mut text, format_args!("# {name}"));
        write(&source, &mut text);
    }
    call.output.text(&text);
    Ok(())
}

pub(super) fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{content}\r\n");
}

fn server(source: &Source<'_>, text: &mut String) {
    let facts = &source.facts;
    line(text, format_args!("redis_version:{REDIS_VERSION}"));
    line(text, format_args!("redis_mode:standalone"));
    line(text, format_args!("server_name:atoll"));
    line(text, format_args!("atoll_version:{}", facts.version));
    line(text, format_args!("atoll_node:{}", facts.node_name));
    line(text, format_args!("os:{}", facts.system));
    line(text, format_args!("arch_bits:{}", usize::BITS));
    line(text, format_args!("process_id:{}", facts.process_id));
    line(text, format_args!("run_id:{:0>40}", source.store.origin().simple().to_string()));
    line(text, format_args!("tcp_port:{}", facts.port));
    line(text, format_args!("server_time_usec:{}", source.now.micros()));
    line(text, format_args!("uptime_in_seconds:{}", facts.uptime_s));
    line(text, format_args!("uptime_in_days:{}", facts.uptime_s / 86_400));
    line(text, format_args!("io_threads_active:{}", facts.thread_count));
}

fn clients(source: &Source<'_>, text: &mut String) {
    line(text, format_args!("connected_clients:{}", source.facts.client_count));
    line(text, format_args!("maxclients:{}", source.settings.limits.clients_max));
    line(text, format_args!("pubsub_clients:{}", source.cluster.messages().counts().listeners));
    line(text, format_args!("blocked_clients:{}", source.facts.waiting_count));
}

fn memory(source: &Source<'_>, text: &mut String) {
    let (used, max) = (source.store.used_bytes(), source.store.memory_bytes_max());
    line(text, format_args!("used_memory:{used}"));
    line(text, format_args!("used_memory_human:{}", human(used)));
    line(text, format_args!("used_memory_dataset:{used}"));
    if let Some(resident) = source.facts.resident_bytes {
        line(text, format_args!("used_memory_rss:{resident}"));
    }
    line(text, format_args!("atoll_log_bytes:{}", source.store.log_bytes()));
    line(text, format_args!("maxmemory:{max}"));
    line(text, format_args!("maxmemory_human:{}", human(max)));
    line(text, format_args!("maxmemory_policy:noeviction"));
    line(text, format_args!("mem_allocator:jemalloc"));
}

/// Bytes as Redis writes them for people: `1.50M`.
fn human(bytes: usize) -> String {
    let units = [(1 << 30, 'G'), (1 << 20, 'M'), (1 << 10, 'K')];
    match units.iter().find(|(size, _)| bytes >= *size) {
        Some(&(size, unit)) => format!("{:.2}{unit}", bytes as f64 / size as f64),
        None => format!("{bytes}B"),
    }
}

fn persistence(source: &Source<'_>, text: &mut String) {
    let disk = source.facts.disk.as_ref();
    let is = |state: DiskState| disk.is_some_and(|disk| disk.state == state);
    let loading = is(DiskState::Loading);
    line(text, format_args!("loading:{}", u8::from(loading)));
    line(text, format_args!("async_loading:{}", u8::from(loading)));
    if let Some(disk) = disk.filter(|_| loading) {
        line(text, format_args!("loading_loaded_bytes:{}", disk.loaded_bytes));
        line(text, format_args!("loading_loaded_perc:{}", disk.loaded_percent));
    }
    let unsaved = disk.map_or(0, |disk| disk.unsaved_count);
    line(text, format_args!("rdb_changes_since_last_save:{unsaved}"));
    line(text, format_args!("rdb_bgsave_in_progress:0"));
    let status = if is(DiskState::Failing) { "err" } else { "ok" };
    line(text, format_args!("rdb_last_bgsave_status:{status}"));
    let saved_at_ms = disk.map_or(0, |disk| disk.saved_at_ms);
    line(text, format_args!("rdb_last_save_time:{}", saved_at_ms / 1_000));
    line(text, format_args!("aof_enabled:{}", u8::from(disk.is_some())));
    line(text, format_args!("aof_rewrite_in_progress:0"));
    line(text, format_args!("aof_last_write_status:{status}"));
    line(text, format_args!("atoll_disk:{}", disk.map_or("none", |disk| disk.state.as_str())));
    if let Some(disk) = disk {
        line(text, format_args!("atoll_disk_fsync:{}", disk.fsync));
        line(text, format_args!("atoll_disk_damaged_records:{}", disk.damaged_count));
        if let Some(reason) = &disk.reason {
            line(text, format_args!("atoll_disk_reason:{reason}"));
        }
    }
}

fn stats(source: &Source<'_>, text: &mut String) {
    let sum =
        |count: fn(&Tally) -> u64| source.tallies.iter().map(|tally| count(tally)).sum::<u64>();
    line(text, format_args!("total_connections_received:{}", source.facts.connection_count));
    line(text, format_args!("total_commands_processed:{}", sum(Tally::call_count)));
    line(text, format_args!("total_net_input_bytes:{}", sum(|tally| tally.input_bytes.get())));
    line(text, format_args!("total_net_output_bytes:{}", sum(|tally| tally.output_bytes.get())));
    line(text, format_args!("rejected_connections:{}", source.facts.rejected_count));
    line(text, format_args!("keyspace_hits:{}", sum(|tally| tally.hits.get())));
    line(text, format_args!("keyspace_misses:{}", sum(|tally| tally.misses.get())));
    line(text, format_args!("total_error_replies:{}", sum(Tally::failure_count)));
    let stalled = sum(|tally| tally.stalled.get());
    line(text, format_args!("client_output_buffer_limit_disconnections:{stalled}"));
    line(text, format_args!("evicted_keys:0"));
    let names = source.cluster.messages().name_counts();
    line(text, format_args!("pubsub_channels:{}", names.channels));
    line(text, format_args!("pubsub_patterns:{}", names.patterns));
}

fn cpu(source: &Source<'_>, text: &mut String) {
    if let Some((kernel_ms, user_ms)) = source.facts.cpu_ms {
        let seconds = |ms: u64| ms as f64 / 1_000.0;
        line(text, format_args!("used_cpu_sys:{:.3}", seconds(kernel_ms)));
        line(text, format_args!("used_cpu_user:{:.3}", seconds(user_ms)));
    }
}

fn command_stats(source: &Source<'_>, text: &mut String) {
    for command in &COMMANDS {
        let (mut calls, mut failures) = (0, 0);
        for tally in &source.tallies {
            let (called, failed) = tally.of_command(command.index());
            calls += called;
            failures += failed;
        }
        if calls > 0 {
            let name = command.name;
            line(text, format_args!("cmdstat_{name}:calls={calls},failed_calls={failures}"));
        }
    }
}

fn cluster(_: &Source<'_>, text: &mut String) {
    line(text, format_args!("cluster_enabled:0"));
}

fn keyspace(source: &Source<'_>, text: &mut String) {
    for database in 0..DATABASE_COUNT {
        let stats = source.store.database(database).stats();
        if stats.key_count > 0 {
            let (keys, volatile) = (stats.key_count, stats.volatile_count);
            line(text, format_args!("db{database}:keys={keys},expires={volatile},avg_ttl=0"));
        }
    }
}
