//! kill -9 under load, again and again: what was promised is there.
//!
//! The number of rounds is ATOLL_KILL_ROUNDS; 50 are run before a release.

mod pair;

use super::{folder, start};
use crate::node::{PATIENCE, RespClient, TestNode, wait_until};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Rounds where nothing else is said.
const ROUND_COUNT: usize = 3;
/// Connections that write at once.
const WRITER_COUNT: usize = 4;
/// How long they write at least before the node is killed.
const LOAD: Duration = Duration::from_millis(1_500);
/// What each of them has been answered by then, at least: less is no load.
const WRITES_EACH: usize = 20;

fn round_count() -> usize {
    let wanted = std::env::var("ATOLL_KILL_ROUNDS").ok();
    wanted.map_or(ROUND_COUNT, |text| text.parse().expect("ATOLL_KILL_ROUNDS is a number"))
}

/// A write that was answered.
#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    number: u64,
    at: Instant,
}

/// What those who write share with who kills the node.
#[derive(Debug)]
struct Load {
    is_over: AtomicBool,
    /// How much each of them was answered so far.
    counts: Vec<AtomicUsize>,
}

impl Load {
    fn of(writer_count: usize) -> Arc<Load> {
        let counts = (0..writer_count).map(|_| AtomicUsize::new(0)).collect();
        Arc::new(Load { is_over: AtomicBool::new(false), counts })
    }

    /// Lets them write for so long, and longer where the machine is too busy for a load.
    fn last(&self, length: Duration) {
        // The load itself is what takes time here; nothing is waited for.
        std::thread::sleep(length);
        wait_until("everybody has written", || {
            self.counts.iter().all(|it| it.load(Ordering::Relaxed) >= WRITES_EACH).then_some(())
        });
    }
}

/// Writes `KEY-0`, `KEY-1` ... one after the other, every fifth one twice with a delete in between,
/// every fifth one in a transaction, and counts them in a counter, until the node is gone or the load is
/// over. Returns what was answered.
fn write(address: SocketAddr, key: String, (load, writer): (&Load, usize)) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    let Ok(stream) = TcpStream::connect(address) else { return acknowledged };
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    let mut connection = BufReader::new(stream);
    let mut ask = |commands: String, reply_count: usize| -> Option<()> {
        connection.get_mut().write_all(commands.as_bytes()).ok()?;
        for _ in 0..reply_count {
            let mut line = String::new();
            // The end of the stream is an empty line; half a reply is none.
            let len = connection.read_line(&mut line).ok()?;
            let is_whole = len > 0 && line.ends_with('\n');
            assert!(!line.starts_with('-'), "refused: {line}");
            is_whole.then_some(())?;
        }
        Some(())
    };
    for number in 0.. {
        if load.is_over.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("{key}-{number}");
        let answered = if number % 5 == 4 {
            let deleted = format!("SET {name} early\r\nDEL {name}\r\nINCR {key}-count\r\n");
            ask(deleted, 3)
        } else if number % 5 == 1 {
            let sets = format!("SET {name} {number}\r\nINCR {key}-count\r\n");
            // OK, QUEUED twice, an array and what is in it.
            ask(format!("MULTI\r\n{sets}EXEC\r\n"), 6)
        } else {
            ask(format!("SET {name} {number}\r\nINCR {key}-count\r\n"), 2)
        };
        if answered.is_none() {
            break;
        }
        acknowledged.push(Acknowledged { number, at: Instant::now() });
        load.counts[writer].fetch_add(1, Ordering::Relaxed);
    }
    acknowledged
}

/// Writes on all connections until the node is killed. Returns what was answered, by key.
fn load_and_kill(node: TestNode, round: usize) -> (Vec<(String, Vec<Acknowledged>)>, Instant) {
    let load = Load::of(WRITER_COUNT);
    let writers: Vec<(String, JoinHandle<Vec<Acknowledged>>)> = (0..WRITER_COUNT)
        .map(|writer| {
            let (key, address, load) = (format!("r{round}-w{writer}"), node.resp, load.clone());
            (key.clone(), std::thread::spawn(move || write(address, key, (&load, writer))))
        })
        .collect();
    load.last(LOAD);
    let killed_at = Instant::now();
    drop(node);
    let acknowledged = writers
        .into_iter()
        .map(|(key, writer)| (key, writer.join().expect("a writer ends")))
        .collect();
    (acknowledged, killed_at)
}

/// How much of what was answered may be missing where that is `least` on a machine that has time: on a
/// busy one the threads that pass it on wait for their turns as those do that answer, of whom the
/// longest silence is known.
fn lost(least: Duration, acknowledged: &[&[Acknowledged]]) -> Duration {
    let silences =
        acknowledged.iter().flat_map(|of| of.windows(2)).map(|two| two[1].at - two[0].at);
    least.max(silences.max().unwrap_or_default() * 5)
}

/// Looks whether everything that was answered before `until` is there.
fn check(client: &mut RespClient, key: &str, acknowledged: &[Acknowledged], until: Instant) {
    let safe = acknowledged.iter().filter(|one| one.at <= until);
    let mut count = 0;
    for Acknowledged { number, .. } in safe {
        let name = format!("{key}-{number}");
        let got = client.command(&["GET", &name]);
        let want = if number % 5 == 4 { "$-1".to_owned() } else { format!("${number}") };
        assert_eq!(got, want, "{name}, of {} that were answered", acknowledged.len());
        count += 1;
    }
    let counted = client.command(&["GET", &format!("{key}-count")]);
    let counted: u64 = counted.trim_start_matches('$').parse().unwrap_or(0);
    assert!(counted >= count, "{key}: {counted} of {count} increments");
    // One more may have been made than was answered, and none twice.
    assert!(counted <= acknowledged.len() as u64 + 1, "{key}: {counted} are too many");
}

fn check_rounds(data: &Path, fsync: &str, promised: Duration) {
    for round in 0..round_count() {
        let node = start(data, &["--fsync", fsync]);
        let (acknowledged, killed_at) = load_and_kill(node, round);
        let node = start(data, &["--fsync", fsync]);
        let mut client = node.resp_client();
        let answered: Vec<&[Acknowledged]> = acknowledged.iter().map(|(_, of)| &of[..]).collect();
        let lost = lost(promised, &answered);
        for (key, acknowledged) in &acknowledged {
            check(&mut client, key, acknowledged, killed_at - lost);
        }
    }
}

#[track_caller]
fn check_nothing_missing(fsync: &str) {
    let folder = folder();
    // Whatever was answered, also in the very moment of the kill.
    let folder_path = folder.path();
    for round in 0..round_count() {
        let node = start(folder_path, &["--fsync", fsync]);
        let (acknowledged, _) = load_and_kill(node, round);
        let node = start(folder_path, &["--fsync", fsync]);
        let mut client = node.resp_client();
        for (key, acknowledged) in &acknowledged {
            check(&mut client, key, acknowledged, Instant::now());
        }
    }
}

#[test]
fn with_always_no_answered_write_is_missing_after_a_kill() {
    check_nothing_missing("always");
}

#[test]
fn with_everysec_no_answered_write_is_missing_after_a_kill() {
    check_nothing_missing("everysec");
}

#[test]
fn with_never_at_most_the_last_second_is_missing_after_a_kill() {
    check_rounds(folder().path(), "never", Duration::from_secs(1));
}
