//! What the threads of the RESP port share, and what commands may ask of the process.

use super::Config;
use super::clients::Clients;
use super::process;
use crate::node::Node;
use atoll_core::limits::{REQUEST_MEMORY_BYTES_MAX, REQUEST_MEMORY_BYTES_MIN};
use atoll_core::resp::client::Client;
use atoll_core::resp::cluster::Cluster;
use atoll_core::resp::server::{DiskFacts, Facts, Limits, Password, Server, Settings};
use atoll_core::resp::tally::Tally;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use subtle::ConstantTimeEq;
use tracing::warn;

/// Between two warnings of the same kind: whoever can cause them must not fill the log.
const WARNING_GAP_MS: u64 = 60_000;

/// The shared state of the RESP port.
#[derive(Debug)]
pub(crate) struct Door {
    node: Arc<Node>,
    port: u16,
    clients: Clients,
    clients_max: AtomicU32,
    idle_s_max: AtomicU32,
    password: Option<PasswordDigest>,
    tallies: Vec<Arc<Tally>>,
    connection_count: AtomicU64,
    rejected_count: AtomicU64,
    /// Memory that connections hold for unfinished requests and unwritten replies, where it is
    /// much.
    held_bytes: AtomicUsize,
    /// A part of the store's budget, and room for one request of the largest value.
    held_bytes_max: usize,
    /// When the operator was last told that a client spoke HTTP; 0 is never.
    warned_of_http_ms: AtomicU64,
}

/// The digest of a password: comparing digests tells nothing about length or content.
struct PasswordDigest([u8; 32]);

impl std::fmt::Debug for PasswordDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// The connections' shared budget for unfinished requests and unwritten replies is spent.
#[derive(Debug, thiserror::Error)]
#[error("too much memory is held for unfinished requests and unwritten replies")]
pub(super) struct HeldTooMuch;

impl Door {
    pub(super) fn new(node: Arc<Node>, config: &Config, port: u16) -> Door {
        let digest = |text: &str| PasswordDigest(Sha256::digest(text).into());
        let held_bytes_max = (node.store().memory_bytes_max() / 4)
            .clamp(REQUEST_MEMORY_BYTES_MIN, REQUEST_MEMORY_BYTES_MAX);
        Door {
            node,
            port,
            clients: Clients::default(),
            clients_max: AtomicU32::new(config.clients_max),
            idle_s_max: AtomicU32::new(0),
            password: config.password.as_ref().map(|password| digest(password.reveal())),
            tallies: (0..config.thread_count).map(|_| Arc::default()).collect(),
            connection_count: AtomicU64::new(0),
            rejected_count: AtomicU64::new(0),
            held_bytes: AtomicUsize::new(0),
            held_bytes_max,
            warned_of_http_ms: AtomicU64::new(0),
        }
    }

    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    pub(super) fn clients(&self) -> &Clients {
        &self.clients
    }

    /// The counts of the thread of this index.
    pub(super) fn tally(&self, index: usize) -> Arc<Tally> {
        Arc::clone(&self.tallies[index])
    }

    /// Notes a new connection; returns whether there is a place for it.
    pub(super) fn admit(&self) -> Admission {
        self.connection_count.fetch_add(1, Relaxed);
        if self.clients.count() < u64::from(self.clients_max.load(Relaxed)) {
            return Admission::Welcome;
        }
        self.rejected_count.fetch_add(1, Relaxed);
        Admission::Full
    }

    /// Changes what a connection holds from `before` to `after` bytes.
    pub(super) fn hold(&self, before: usize, after: usize) -> Result<(), HeldTooMuch> {
        // Two's complement: adding a negative difference wraps to the right sum.
        let difference = after.wrapping_sub(before);
        let held = self.held_bytes.fetch_add(difference, Relaxed).wrapping_add(difference);
        if after > before && held > self.held_bytes_max { Err(HeldTooMuch) } else { Ok(()) }
    }

    /// Tells the operator that the client at `address` spoke HTTP, at most once a minute.
    pub(super) fn warn_of_http(&self, address: &str) {
        let now_ms = self.node.now().millis();
        let warned_ms = self.warned_of_http_ms.load(Relaxed);
        let is_due = warned_ms == 0 || now_ms.saturating_sub(warned_ms) >= WARNING_GAP_MS;
        // Of several threads at once, one warns.
        let claim = || self.warned_of_http_ms.compare_exchange(warned_ms, now_ms, Relaxed, Relaxed);
        if is_due && claim().is_ok() {
            warn!(address, "http request to the resp port; a web page may be attacking");
        }
    }

    fn disk_facts(&self) -> Option<DiskFacts> {
        let status = self.node.journal()?.status();
        Some(DiskFacts {
            state: status.state,
            reason: status.reason,
            fsync: status.fsync,
            unsaved_count: self.node.store().seq().saturating_sub(status.saved_seq),
            saved_at_ms: status.saved_at_ms,
            loaded_bytes: status.loaded_bytes,
            loaded_percent: status.loaded_percent,
            damaged_count: status.damaged_records,
        })
    }

    /// The longest silence that a connection is allowed, in ms.
    pub(super) fn idle_ms_max(&self) -> Option<u64> {
        match self.idle_s_max.load(Relaxed) {
            0 => None,
            seconds => Some(u64::from(seconds) * 1_000),
        }
    }
}

/// Whether a new connection may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may.
    Welcome,
    /// There are as many as there may be.
    Full,
}

impl Server for Door {
    fn facts(&self) -> Facts {
        Facts {
            node_name: self.node.name().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            system: std::env::consts::OS,
            process_id: std::process::id(),
            port: self.port,
            uptime_s: self.node.uptime_s(),
            thread_count: self.tallies.len(),
            client_count: self.clients.count(),
            connection_count: self.connection_count.load(Relaxed),
            waiting_count: self.clients.waiting_count(),
            rejected_count: self.rejected_count.load(Relaxed),
            resident_bytes: process::resident_bytes(),
            cpu_ms: process::cpu_ms(),
            disk: self.disk_facts(),
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            password: match self.password {
                Some(_) => Password::Asked,
                None => Password::NotAsked,
            },
            limits: Limits {
                clients_max: self.clients_max.load(Relaxed),
                idle_s_max: self.idle_s_max.load(Relaxed),
            },
        }
    }

    fn set_limits(&self, limits: Limits) {
        self.clients_max.store(limits.clients_max, Relaxed);
        self.idle_s_max.store(limits.idle_s_max, Relaxed);
    }

    fn tallies(&self) -> Vec<Arc<Tally>> {
        self.tallies.clone()
    }

    fn clients(&self) -> Vec<Arc<Client>> {
        self.clients.all()
    }

    fn close_client(&self, id: u64) {
        self.clients.kill(id);
    }

    fn cluster(&self) -> &dyn Cluster {
        self.node.replication()
    }

    fn is_password(&self, given: &[u8]) -> bool {
        let Some(PasswordDigest(wanted)) = &self.password else { return true };
        let given: [u8; 32] = Sha256::digest(given).into();
        given.ct_eq(wanted).into()
    }
}
