//! What a session keeps between MULTI and EXEC, and how it is executed as one.

use super::command::{Access, Command};
use super::commands::connection;
use super::fault::Fault;
use super::output::Output;
use super::request::KeptArguments;
use super::session::{Call, DATABASE_COUNT, Session, Surroundings};
use crate::entry::Deadline;
use crate::limits::{TRANSACTION_BYTES_MAX, TRANSACTION_COMMAND_COUNT_MAX, WATCHED_KEY_COUNT_MAX};
use crate::store::transaction::{Scope, Transaction};
use crate::store::view::{Version, View};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// What the store may need for a new key beside key and value, in bytes: an upper bound.
pub(super) const RECORD_OVERHEAD_BYTES: usize = 256;

/// A transaction that is being executed, as its commands see it.
pub(super) trait Held {
    /// Calls `body` with it: at once, and once. Nobody may call the store meanwhile.
    fn with(&self, body: &mut dyn FnMut(&mut Transaction<'_>));
    /// Leaves for afterwards what takes the store's locks itself.
    fn afterwards(&self, errand: Errand);
}

/// What is left to do once the transaction is over.
#[derive(Debug)]
pub(super) enum Errand {
    /// To free what a flush of a database has killed.
    DropFlushed { database: u8 },
    /// To publish a message on the other nodes.
    TellOthers { channel: Bytes, payload: Bytes },
}

/// The commands since MULTI.
#[derive(Debug)]
pub(super) struct Queue {
    commands: Vec<Queued>,
    bytes: usize,
    /// The database that the next command will find selected.
    database: u8,
    /// Whether a command was refused: none is executed then.
    is_spoilt: bool,
}

#[derive(Debug)]
struct Queued {
    command: &'static Command,
    arguments: KeptArguments,
    /// Where its keys are.
    database: u8,
}

/// What a key under WATCH showed.
type Sight = Option<(Version, Deadline)>;

/// The keys under WATCH.
#[derive(Debug, Default)]
pub(super) struct Watch {
    seen: HashMap<(u8, Box<[u8]>), Sight>,
    bytes: usize,
}

fn sight(view: Option<View<'_>>) -> Sight {
    view.map(|view| (view.version(), view.deadline()))
}

impl Queue {
    /// An empty one, of a client in `database`.
    pub(super) fn new(database: u8) -> Queue {
        Queue { commands: Vec::new(), bytes: 0, database, is_spoilt: false }
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.commands.len()
    }

    pub(super) fn is_spoilt(&self) -> bool {
        self.is_spoilt
    }

    fn push(&mut self, command: &'static Command, arguments: KeptArguments) -> Result<(), Fault> {
        if self.commands.len() >= TRANSACTION_COMMAND_COUNT_MAX {
            let max = TRANSACTION_COMMAND_COUNT_MAX;
            return Err(Fault::other(format!("a transaction has at most {max} commands")));
        }
        let bytes = self.bytes + size_of::<Queued>() + arguments.bytes();
        if bytes > TRANSACTION_BYTES_MAX {
            let max = TRANSACTION_BYTES_MAX;
            return Err(Fault::other(format!("a transaction holds at most {max} bytes")));
        }
        self.bytes = bytes;
        if command.name == "select"
            && let Ok(database) = connection::database(arguments.get().get(1))
        {
            self.database = database;
        }
        self.commands.push(Queued { command, arguments, database: self.database });
        Ok(())
    }

    /// Refuses all of it where a part of it would be refused.
    pub(super) fn check(&self, around: Surroundings<'_>) -> Result<(), Fault> {
        let mut needed = 0;
        for Queued { command, arguments, .. } in &self.commands {
            match command.access {
                Access::None => continue,
                Access::Read => around.permission.read()?,
                Access::Write => {
                    around.permission.write()?;
                    around.store.check_writable()?;
                }
            }
            if command.grows() {
                let keys = command.keys.of(arguments.get()).count();
                needed += arguments.bytes() + keys * RECORD_OVERHEAD_BYTES;
            }
        }
        Ok(if needed > 0 { around.store.make_room(needed) } else { Ok(()) }?)
    }

    fn add_to<'a>(&self, scope: &mut Scope<'a>, around: Surroundings<'a>) {
        let store = around.store;
        for Queued { command, arguments, database } in &self.commands {
            let bucket = store.database(*database);
            match command.name {
                "flushdb" => scope.add_all(bucket),
                "flushall" => {
                    (0..DATABASE_COUNT).for_each(|other| scope.add_all(store.database(other)));
                }
                _ => {
                    let keys = command.keys.of(arguments.get());
                    keys.for_each(|key| scope.add(store, bucket, key));
                }
            }
        }
    }
}

impl Watch {
    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes what `key` shows, unless it is under WATCH already.
    fn add(&mut self, database: u8, key: &[u8], look: impl FnOnce() -> Sight) -> Result<(), Fault> {
        let is_full = self.seen.len() >= WATCHED_KEY_COUNT_MAX;
        match self.seen.entry((database, key.into())) {
            Entry::Occupied(_) => {}
            Entry::Vacant(_) if is_full => {
                let max = WATCHED_KEY_COUNT_MAX;
                return Err(Fault::other(format!("a client watches at most {max} keys")));
            }
            Entry::Vacant(place) => {
                self.bytes += key.len() + 2 * size_of::<((u8, Box<[u8]>), Sight)>();
                place.insert(look());
            }
        }
        Ok(())
    }

    fn add_to<'a>(&self, scope: &mut Scope<'a>, around: Surroundings<'a>) {
        for (database, key) in self.seen.keys() {
            scope.add(around.store, around.store.database(*database), key);
        }
    }

    fn has_changed(&self, transaction: &mut Transaction<'_>, around: Surroundings<'_>) -> bool {
        self.seen.iter().any(|((database, key), seen)| {
            transaction.read(around.store.database(*database), key, sight) != *seen
        })
    }
}

impl Session {
    /// Notes that what the client sent cannot be executed: no more can the transaction that it is
    /// a part of.
    pub(super) fn spoil(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.is_spoilt = true;
        }
    }

    /// Shows others how many commands wait for EXEC.
    pub(super) fn settle_queue(&self) {
        self.client.set_queued(self.queue.as_ref().map(|queue| queue.len()));
    }
}

impl Call<'_> {
    /// Keeps the command for EXEC.
    #[cold]
    pub(super) fn enqueue(&mut self, command: &'static Command) -> Result<(), Fault> {
        let outcome = self.resolve(command).and_then(|_| {
            if command.within == super::command::Within::Refused {
                let name = command.name.to_ascii_uppercase();
                let words =
                    format!("{name} cannot be a part of a transaction; send it before MULTI");
                return Err(Fault::other(words));
            }
            let arguments = KeptArguments::of(self.arguments);
            self.session.queue.as_mut().map_or(Ok(()), |queue| queue.push(command, arguments))
        });
        if outcome.is_err() {
            self.session.spoil();
        } else {
            self.output.simple("QUEUED");
        }
        self.session.settle_queue();
        outcome
    }

    /// Notes what the keys from the first argument on show now.
    pub(super) fn watch_keys(&mut self) -> Result<(), Fault> {
        let (keys, place, database) = (self.keys(1, 1)?, self.place(), self.session.database);
        let watch = self.session.watch.get_or_insert_default();
        for key in keys {
            watch.add(database, key, || place.read(key, sight))?;
        }
        Ok(())
    }

    /// Executes all of `queue` as one, unless a key under `watch` has changed.
    pub(super) fn execute_all(&mut self, queue: &Queue, watch: &Watch) {
        let around = self.around;
        let mut scope = Scope::default();
        watch.add_to(&mut scope, around);
        queue.add_to(&mut scope, around);
        let errands = around.store.transaction(&scope, around.now, |transaction| {
            if watch.has_changed(transaction, around) {
                self.output.null_array();
                return Vec::new();
            }
            let running =
                Running { transaction: RefCell::new(transaction), errands: RefCell::default() };
            self.output.array(queue.len());
            for queued in &queue.commands {
                execute_one(queued, (around, &mut *self.session), (&running, &mut *self.output));
            }
            running.errands.into_inner()
        });
        for errand in errands {
            errand.run(around);
        }
    }
}

fn execute_one(
    Queued { command, arguments, database }: &Queued,
    (around, session): (Surroundings<'_>, &mut Session),
    (held, output): (&dyn Held, &mut Output),
) {
    debug_assert!(command.name == "select" || session.database == *database, "locks are taken");
    let mark = output.mark();
    session.has_written |= command.writes();
    let arguments = arguments.get();
    let mut call = Call { around, session, arguments, output, held: Some(held) };
    if let Err(fault) = call.run(command) {
        output.truncate(mark);
        output.error(&fault.to_string());
    }
}

/// The transaction under way, and what comes after it.
struct Running<'r, 'a> {
    transaction: RefCell<&'r mut Transaction<'a>>,
    errands: RefCell<Vec<Errand>>,
}

impl Held for Running<'_, '_> {
    fn with(&self, body: &mut dyn FnMut(&mut Transaction<'_>)) {
        let transaction = &mut **self.transaction.borrow_mut();
        body(transaction);
        transaction.end_reservation();
    }

    fn afterwards(&self, errand: Errand) {
        self.errands.borrow_mut().push(errand);
    }
}

impl Errand {
    fn run(self, around: Surroundings<'_>) {
        match self {
            Errand::DropFlushed { database } => {
                around.store.drop_flushed(around.store.database(database), around.now);
            }
            Errand::TellOthers { channel, payload } => {
                around.server.cluster().tell_others(&channel, &payload);
            }
        }
    }
}
