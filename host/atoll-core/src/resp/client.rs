//! A connected client, as other clients see it in CLIENT LIST.

use super::command::{COMMANDS, Command};
use super::output::Protocol;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// No command yet.
const NO_COMMAND: u16 = u16::MAX;

/// What is known of a connection. Its session writes, anyone may read.
#[derive(Debug)]
pub struct Client {
    id: u64,
    address: String,
    local_address: String,
    connected_ms: u64,
    active_ms: AtomicU64,
    database: AtomicU8,
    protocol: AtomicU8,
    command: AtomicU16,
    mode: AtomicU8,
    subscriptions: [AtomicU32; 2],
    /// Commands that wait for EXEC; -1 without MULTI.
    queued: AtomicI32,
    labels: Mutex<Labels>,
}

/// What a connection is there for at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// To send commands.
    Normal,
    /// To be told when other nodes hold a write.
    Waiting,
    /// To be sent messages.
    Subscribed,
}

impl Mode {
    /// The letter that CLIENT LIST has for it.
    fn flag(self) -> char {
        match self {
            Mode::Normal => 'N',
            Mode::Waiting => 'b',
            Mode::Subscribed => 'P',
        }
    }
}

/// The names that a client gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO LIB-NAME.
    pub library: String,
    /// CLIENT SETINFO LIB-VER.
    pub library_version: String,
}

/// Both ends of a new connection.
#[derive(Clone, Debug)]
pub struct Ends {
    /// The client's, as `address:port`.
    pub address: String,
    /// Ours.
    pub local_address: String,
}

impl Client {
    /// A client that connected at `now_ms`. Ids are never used twice.
    pub fn new(id: u64, ends: Ends, now_ms: u64) -> Client {
        Client {
            id,
            address: ends.address,
            local_address: ends.local_address,
            connected_ms: now_ms,
            active_ms: AtomicU64::new(now_ms),
            database: AtomicU8::new(0),
            protocol: AtomicU8::new(2),
            command: AtomicU16::new(NO_COMMAND),
            mode: AtomicU8::new(Mode::Normal as u8),
            subscriptions: Default::default(),
            queued: AtomicI32::new(-1),
            labels: Mutex::default(),
        }
    }

    /// Names the connection for as long as the process runs.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The client's end, as `address:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Our end.
    pub fn local_address(&self) -> &str {
        &self.local_address
    }

    /// When it last sent something, in ms since the epoch.
    pub fn active_ms(&self) -> u64 {
        self.active_ms.load(Relaxed)
    }

    /// Notes that it sent something at `now_ms`.
    pub fn set_active(&self, now_ms: u64) {
        self.active_ms.store(now_ms, Relaxed);
    }

    /// What it is there for. While that is not [`Mode::Normal`] it may be silent.
    pub fn mode(&self) -> Mode {
        match self.mode.load(Relaxed) {
            0 => Mode::Normal,
            1 => Mode::Waiting,
            _ => Mode::Subscribed,
        }
    }

    pub(super) fn set_mode(&self, mode: Mode) {
        self.mode.store(mode as u8, Relaxed);
    }

    /// Notes to how many channels and patterns it listens.
    pub(super) fn set_subscriptions(&self, channels: usize, patterns: usize) {
        for (count, now) in self.subscriptions.iter().zip([channels, patterns]) {
            count.store(u32::try_from(now).unwrap_or(u32::MAX), Relaxed);
        }
    }

    /// Notes how many commands wait for EXEC, after a MULTI.
    pub(super) fn set_queued(&self, queued: Option<usize>) {
        let queued = queued.map_or(-1, |queued| i32::try_from(queued).unwrap_or(i32::MAX));
        self.queued.store(queued, Relaxed);
    }

    pub(super) fn set_command(&self, command: &'static Command) {
        self.command.store(command.index() as u16, Relaxed);
    }

    pub(super) fn set_database(&self, database: u8) {
        self.database.store(database, Relaxed);
    }

    pub(super) fn set_protocol(&self, protocol: Protocol) {
        let version = if protocol == Protocol::Resp3 { 3 } else { 2 };
        self.protocol.store(version, Relaxed);
    }

    /// The names that it gave.
    pub fn labels(&self) -> MutexGuard<'_, Labels> {
        // Three strings: whatever a panic left of them is as good as any.
        self.labels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The line of CLIENT LIST, without its end.
    pub fn describe(&self, now_ms: u64) -> String {
        let labels = self.labels().clone();
        let second = |then_ms: u64| now_ms.saturating_sub(then_ms) / 1_000;
        let command = COMMANDS.get(usize::from(self.command.load(Relaxed)));
        let mut line = String::new();
        // Writing to a string cannot fail.
        let _ = write!(
            line,
            "id={id} addr={address} laddr={local} name={name} age={age} idle={idle} flags={flags} \
             db={db} sub={channels} psub={patterns} ssub=0 multi={queued} cmd={command} user=default redir=-1 resp={protocol} \
             lib-name={library} lib-ver={version}",
            id = self.id,
            address = self.address,
            local = self.local_address,
            name = labels.name,
            age = second(self.connected_ms),
            idle = second(self.active_ms()),
            flags = self.mode().flag(),
            channels = self.subscriptions[0].load(Relaxed),
            patterns = self.subscriptions[1].load(Relaxed),
            db = self.database.load(Relaxed),
            queued = self.queued.load(Relaxed),
            command = command.map_or("NULL", |command| command.name),
            protocol = self.protocol.load(Relaxed),
            library = labels.library,
            version = labels.library_version,
        );
        line
    }
}
