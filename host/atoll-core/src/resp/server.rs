//! What commands ask of the process around them.

use super::client::Client;
use super::cluster::Cluster;
use super::tally::Tally;
use std::sync::Arc;

/// The process, as commands see it.
pub trait Server {
    /// What INFO says about the process.
    fn facts(&self) -> Facts;
    /// What the operator chose.
    fn settings(&self) -> Settings;
    /// Changes what CONFIG SET can change.
    fn set_limits(&self, limits: Limits);
    /// The counts of every thread.
    fn tallies(&self) -> Vec<Arc<Tally>>;
    /// Everyone who is connected, by id.
    fn clients(&self) -> Vec<Arc<Client>>;
    /// Closes a client's connection once its current batch is done.
    fn close_client(&self, id: u64);
    /// Replication.
    fn cluster(&self) -> &dyn Cluster;
    /// Whether `given` is the password. Takes the same time whatever is wrong with it.
    fn is_password(&self, given: &[u8]) -> bool;
}

/// What is true of the process right now.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The node's stable name.
    pub node_name: String,
    /// Of this program.
    pub version: String,
    /// The operating system's name.
    pub system: &'static str,
    /// Its number for this process.
    pub process_id: u32,
    /// Where clients connect.
    pub port: u16,
    /// Since the start.
    pub uptime_s: u64,
    /// Threads of the RESP port.
    pub thread_count: usize,
    /// Connected now.
    pub client_count: u64,
    /// Connected since the start.
    pub connection_count: u64,
    /// Connections that wait for other nodes.
    pub waiting_count: u64,
    /// Turned away since the start: there were too many.
    pub rejected_count: u64,
    /// Resident memory of the process, where known.
    pub resident_bytes: Option<u64>,
    /// Processor time of the process in kernel and user mode, where known, in ms.
    pub cpu_ms: Option<(u64, u64)>,
    /// The disk, where there is one.
    pub disk: Option<DiskFacts>,
}

/// What is true of the disk right now.
#[derive(Clone, Debug)]
pub struct DiskFacts {
    /// Whether it takes what is written.
    pub state: DiskState,
    /// Why not.
    pub reason: Option<String>,
    /// When what is written is safe: `always`, `everysec`, `never`.
    pub fsync: &'static str,
    /// Writes of this process that are not safe yet.
    pub unsaved_count: u64,
    /// When everything was last safe, in ms since the epoch; 0 is never.
    pub saved_at_ms: u64,
    /// Bytes on the disk that were read at the start so far.
    pub loaded_bytes: u64,
    /// About how much of all that is, in percent.
    pub loaded_percent: u64,
    /// Records that were damaged and left out.
    pub damaged_count: u64,
}

/// Whether a disk takes what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskState {
    /// What was saved is still being read.
    Loading,
    /// It does.
    Ok,
    /// It does not.
    Failing,
}

impl DiskState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            DiskState::Loading => "loading",
            DiskState::Ok => "ok",
            DiskState::Failing => "failing",
        }
    }
}

/// What the operator chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Clients must authenticate.
    pub password: Password,
    /// What can change while the node runs.
    pub limits: Limits,
}

/// Whether clients must authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Password {
    /// Everyone who can connect may do everything.
    NotAsked,
    /// AUTH comes first.
    Asked,
}

/// What CONFIG SET can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most connections at once.
    pub clients_max: u32,
    /// A connection that sends nothing for so long is closed; 0 is never. In seconds.
    pub idle_s_max: u32,
}
