//! GET and SET on a node, one after the other, to see whether anything holds it up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::resp::{Connection, Reply};

/// Pause between two probes.
const PROBE_EVERY: Duration = Duration::from_millis(2);

/// A prober at work. Dropping it lets it end by itself.
#[derive(Debug)]
pub(super) struct Probe {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<Worst>>>,
}

/// What was seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Worst {
    pub(super) latency: Duration,
    pub(super) count: u32,
}

impl Probe {
    /// Probes the RESP port at `address` with `key`, which need not exist.
    pub(super) fn start(address: SocketAddr, key: String) -> anyhow::Result<Probe> {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut connection = Connection::open(address)?;
        let theirs = Arc::clone(&is_over);
        let thread = thread::spawn(move || run(&mut connection, key.as_bytes(), &theirs));
        Ok(Probe { is_over, thread: Some(thread) })
    }

    /// Ends it and returns the worst that it saw.
    ///
    /// # Errors
    /// If a probe was refused, or answered wrongly.
    pub(super) fn end(mut self) -> anyhow::Result<Worst> {
        self.is_over.store(true, Relaxed);
        let thread = self.thread.take().context("it was ended")?;
        thread.join().expect("probes do not panic")
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
    }
}

fn run(connection: &mut Connection, key: &[u8], is_over: &AtomicBool) -> anyhow::Result<Worst> {
    let mut worst = Worst::default();
    while !is_over.load(Relaxed) {
        let value = worst.count.to_string().into_bytes();
        let (set, get) = ([b"SET", key, &value], [b"GET", key]);
        let probes: [(&[&[u8]], Reply); 2] =
            [(&set, Reply::Status("OK".to_owned())), (&get, Reply::Bulk(value.clone()))];
        for (arguments, want) in probes {
            let begun = Instant::now();
            let reply = connection.command(arguments)?;
            worst.latency = worst.latency.max(begun.elapsed());
            worst.count += 1;
            ensure!(reply == want, "a probe says {reply:?} instead of {want:?}");
        }
        thread::sleep(PROBE_EVERY);
    }
    Ok(worst)
}
