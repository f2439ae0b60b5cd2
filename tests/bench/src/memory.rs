//! Resident memory for each key, beside redis-server.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::Effort;
use crate::process;
use crate::resp_client::{self, Fill, Ttl};
use crate::server::{self, Server};
use crate::summary::ratio;
use crate::table::Table;

pub(crate) const KEYS: u32 = 1_000_000;
pub(crate) const VALUE_BYTES: u32 = 64;

/// Memory counts as settled when it has not changed by more than a thousandth for this long: an
/// allocator that gives pages back over ten seconds does so in steps, seconds apart…
const SETTLED_FOR: Duration = Duration::from_millis(3_000);
/// …and is taken as it is after this.
const SETTLE_WAIT_MAX: Duration = Duration::from_secs(20);

/// Fills fresh servers, with and without deadlines, and returns the section.
pub(crate) fn measure(atoll: &Path, effort: Effort) -> anyhow::Result<String> {
    let keys = KEYS / effort.divisor;
    let mut table = Table::new(&["resident bytes for each key", "atoll", "redis", "ratio"]);
    for (name, ttl) in [("without TTL", Ttl::None), ("with TTL", Ttl::OneDay)] {
        eprintln!("memory: {keys} keys {name}");
        let fill = Fill { keys, value_bytes: VALUE_BYTES, ttl };
        let (server, doors) = server::start_atoll(atoll)?;
        let ours = bytes_per_key(&server, doors.resp, fill)?;
        drop(server);
        let (server, address) = server::start_redis()?;
        let theirs = bytes_per_key(&server, address, fill)?;
        drop(server);
        table.row(vec![
            name.to_owned(),
            format!("{ours:.1}"),
            format!("{theirs:.1}"),
            ratio(ours, theirs),
        ]);
    }
    Ok(format!(
        "{}\n{keys} keys of 16 bytes with values of {VALUE_BYTES} bytes; VmRSS after the load less VmRSS before it.\n",
        table.render(),
    ))
}

fn bytes_per_key(server: &Server, address: SocketAddr, fill: Fill) -> anyhow::Result<f64> {
    let before = settled_bytes(server)?;
    resp_client::fill(address, fill)?;
    let after = settled_bytes(server)?;
    let held = resp_client::key_count(address)?;
    ensure!(held == u64::from(fill.keys), "the server holds {held} of {} keys", fill.keys);
    #[expect(clippy::cast_precision_loss, reason = "bytes of memory fit in 52 bits")]
    let grown = after.saturating_sub(before) as f64;
    Ok(grown / f64::from(fill.keys))
}

/// Resident memory once the allocator has given back what it means to give back.
///
/// # Errors
/// If the server is gone.
pub(crate) fn settled_bytes(server: &Server) -> anyhow::Result<u64> {
    let deadline = Instant::now() + SETTLE_WAIT_MAX;
    let mut last = process::resident_bytes(server.pid())?;
    loop {
        thread::sleep(SETTLED_FOR);
        let now = process::resident_bytes(server.pid())?;
        if now.abs_diff(last) <= last / 1000 || Instant::now() > deadline {
            return Ok(now);
        }
        last = now;
    }
}
