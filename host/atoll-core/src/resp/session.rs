//! One client's conversation: its state, and the way of each request from name to reply.

use super::client::Client;
use super::command::{self, Access, Command, Run, Within};
use super::commands::keyspace::Walk;
use super::fault::{Fault, excerpt};
use super::output::{Output, Protocol};
use super::request::{Arguments, Trust};
use super::server::{Password, Server};
use super::tally::Tally;
use super::transaction::{Held, Queue, Watch};
use crate::clock::Now;
use crate::entry::Deadline;
use crate::entry::counter::parse_integer;
use crate::limits::{KEY_BYTES_MAX, TURN_WORK_BYTES};
use crate::messages::subscriber::Subscriber;
use crate::permission::Permission;
use crate::store::edit::{Edit, WriteError};
use crate::store::gate::Obstacle;
use crate::store::transaction::{Scope, Transaction};
use crate::store::view::View;
use crate::store::{Bucket, Store};
use std::sync::Arc;

/// The number of databases behind SELECT.
pub const DATABASE_COUNT: u8 = 16;

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    pub(super) client: Arc<Client>,
    pub(super) protocol: Protocol,
    pub(super) database: u8,
    pub(super) trust: Trust,
    pub(super) replies: Replies,
    pub(super) walk: Option<Box<Walk>>,
    /// Where it listens to messages.
    pub(super) subscriber: Option<Box<Subscriber>>,
    wait: Option<Wait>,
    /// The commands since MULTI.
    pub(super) queue: Option<Box<Queue>>,
    /// The keys under WATCH.
    pub(super) watch: Option<Box<Watch>>,
    /// Whether what the current request writes is no reply, so that CLIENT REPLY leaves it alone.
    pub(super) pushes: bool,
    closing: bool,
    /// Bytes that were copied within values since others had their turn.
    pub(super) worked_bytes: usize,
    /// Whether a command that writes was executed since the shell last asked.
    pub(super) has_written: bool,
}

/// Which replies the client wants: CLIENT REPLY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replies {
    All,
    None,
    /// All but that of the next command.
    SkipNext,
    /// All but that of this command.
    SkipThis,
}

/// What the shell should do after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Take the next request.
    Continue,
    /// Let others run, then call [`Session::proceed`] before the next request.
    Again,
    /// Let others run, then take the next request: this one was long.
    Rest,
    /// Write what there is, wait for what [`Session::waits_for`] says, then call
    /// [`Session::end_wait`] before the next request.
    Wait,
    /// Write what there is and close.
    Close,
    /// As `Close`: the client speaks HTTP, so it may be a browser that a foreign page has sent
    /// here.
    CloseOnHttp,
}

/// What a connection waits for: so many other nodes that hold this process's ops up to `seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Up to here.
    pub seq: u64,
    /// So many.
    pub count: usize,
    /// At most so long; 0 is for ever.
    pub timeout_ms: u64,
}

/// What a session works with during one batch.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Where the keys are.
    pub store: &'a Store,
    /// The process around.
    pub server: &'a dyn Server,
    /// The counts of this thread.
    pub tally: &'a Tally,
    /// Read once for the batch.
    pub now: Now,
    /// What clients may do; read once for the batch.
    pub permission: Permission,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("now", &self.now).finish_non_exhaustive()
    }
}

/// One request in execution.
pub(super) struct Call<'c> {
    pub(super) around: Surroundings<'c>,
    pub(super) session: &'c mut Session,
    pub(super) arguments: Arguments<'c>,
    pub(super) output: &'c mut Output,
    /// The transaction that it is a part of.
    pub(super) held: Option<&'c dyn Held>,
}

/// Where a call's keys are, and when it looks at them.
#[derive(Clone, Copy)]
pub(super) struct Place<'c> {
    pub(super) store: &'c Store,
    pub(super) bucket: &'c Bucket,
    pub(super) now: Now,
    held: Option<&'c dyn Held>,
}

impl Session {
    /// The session of a client that has just connected.
    pub fn new(client: Arc<Client>, server: &dyn Server) -> Session {
        Session {
            client,
            protocol: Protocol::Resp2,
            database: 0,
            trust: initial_trust(server),
            replies: Replies::All,
            walk: None,
            subscriber: None,
            wait: None,
            queue: None,
            watch: None,
            pushes: false,
            closing: false,
            worked_bytes: 0,
            has_written: false,
        }
    }

    /// The client, as others see it.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// How much the client may ask for.
    #[inline]
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// Bytes of memory that a command or a transaction under way has collected.
    #[inline]
    pub fn held_bytes(&self) -> usize {
        self.walk.as_ref().map_or(0, |walk| walk.held_bytes())
            + self.queue.as_ref().map_or(0, |queue| queue.bytes())
            + self.watch.as_ref().map_or(0, |watch| watch.bytes())
    }

    /// Whether a command that writes was executed since this was last asked: its reply may have to
    /// wait for a disk.
    #[inline]
    pub fn take_has_written(&mut self) -> bool {
        std::mem::take(&mut self.has_written)
    }

    /// Executes one request and appends its reply.
    #[inline]
    pub fn execute(
        &mut self,
        around: Surroundings<'_>,
        arguments: Arguments<'_>,
        output: &mut Output,
    ) -> Flow {
        if self.subscriber.is_some() && self.write_messages(output) == Flow::Close {
            return Flow::Close;
        }
        let mark = output.begin(self.protocol);
        if self.replies == Replies::SkipNext {
            self.replies = Replies::SkipThis;
        }
        let outcome = match command::find(arguments.get(0)) {
            Some(command) => {
                let held = None;
                let mut call = Call { around, session: self, arguments, output, held };
                if call.session.queue.is_some() && command.within != Within::AtOnce {
                    call.enqueue(command)
                } else {
                    let outcome = call.run(command);
                    self.has_written |= command.writes();
                    self.client.set_command(command);
                    outcome
                }
            }
            None => {
                around.tally.unknown.add(1);
                if is_of_http(arguments.get(0)) {
                    return Flow::CloseOnHttp;
                }
                self.spoil();
                Err(unknown_command(arguments))
            }
        };
        self.conclude(outcome, mark, output)
    }

    /// Goes on with a command that returned [`Flow::Again`].
    pub fn proceed(&mut self, around: Surroundings<'_>, output: &mut Output) -> Flow {
        let mark = output.begin(self.protocol);
        let outcome = match self.walk.take() {
            Some(walk) => walk.step(self, around, output),
            None => Ok(()),
        };
        self.conclude(outcome, mark, output)
    }

    /// What the connection waits for after [`Flow::Wait`].
    pub fn waits_for(&self) -> Option<Wait> {
        self.wait
    }

    /// Answers what was waited for with the number of nodes that hold it.
    pub fn end_wait(&mut self, holder_count: usize, output: &mut Output) -> Flow {
        let mark = output.begin(self.protocol);
        self.wait = None;
        self.settle_mode();
        output.count(holder_count);
        self.conclude(Ok(()), mark, output)
    }

    /// Holds the reply to the current request back until the wait ends.
    pub(super) fn hold_for(&mut self, wait: Wait) {
        self.wait = Some(wait);
        self.settle_mode();
    }

    /// Asks for the connection to be closed after the current reply.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// As at the start of the connection, but for what the client said about itself.
    pub(super) fn reset(&mut self, server: &dyn Server) {
        self.set_protocol(Protocol::Resp2);
        self.set_database(0);
        self.trust = initial_trust(server);
        self.replies = Replies::All;
        self.take_subscriber();
        self.settle_subscriptions();
        (self.queue, self.watch) = (None, None);
        self.settle_queue();
        self.client.labels().name.clear();
    }

    pub(super) fn set_database(&mut self, database: u8) {
        self.database = database;
        self.client.set_database(database);
    }

    pub(super) fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.client.set_protocol(protocol);
    }

    fn conclude(
        &mut self,
        outcome: Result<(), Fault>,
        mark: super::output::Mark,
        output: &mut Output,
    ) -> Flow {
        let fault = match outcome {
            Ok(()) if output.has_overflowed() => Some(Fault::ReplyLength),
            Ok(()) => None,
            Err(fault) => Some(fault),
        };
        if let Some(fault) = fault {
            output.truncate(mark);
            output.error(&fault.to_string());
        }
        if self.walk.is_some() {
            return Flow::Again;
        }
        if self.wait.is_some() {
            return Flow::Wait;
        }
        match self.replies {
            Replies::All | Replies::SkipNext => {}
            Replies::None | Replies::SkipThis if self.pushes => {}
            Replies::None | Replies::SkipThis => output.truncate(mark),
        }
        if self.replies == Replies::SkipThis {
            self.replies = Replies::All;
        }
        self.pushes = false;
        if self.closing {
            return Flow::Close;
        }
        if self.worked_bytes < TURN_WORK_BYTES {
            return Flow::Continue;
        }
        self.worked_bytes = 0;
        Flow::Rest
    }
}

fn initial_trust(server: &dyn Server) -> Trust {
    match server.settings().password {
        Password::Asked => Trust::Stranger,
        Password::NotAsked => Trust::Client,
    }
}

/// Whether a command's name is what a web page can make a browser begin a line with. A page may
/// post anything to a port of its visitor's machine, and commands could follow in the body: nothing
/// after such a line may be executed. GET is a command, so it is the header after it that tells.
fn is_of_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

fn unknown_command(arguments: Arguments<'_>) -> Fault {
    let mut given = String::new();
    for argument in arguments.from(1) {
        if given.len() >= 128 {
            break;
        }
        given += &format!("'{}' ", excerpt(argument, 128 - given.len()));
    }
    let name = excerpt(arguments.get(0), 128);
    Fault::other(format!("unknown command '{name}', with args beginning with: {given}"))
}

impl<'c> Call<'c> {
    /// Checks whether the command may run, then runs and counts it.
    #[inline]
    pub(super) fn run(&mut self, command: &'static Command) -> Result<(), Fault> {
        let resolved = self.resolve(command).inspect_err(|_| self.session.spoil());
        let outcome = resolved.and_then(|run| run(self));
        self.around.tally.called(command.index());
        if outcome.is_err() {
            self.around.tally.failed(command.index());
        }
        outcome
    }

    /// Checks the number of arguments and the client's rights; returns what then is to run.
    #[inline]
    pub(super) fn resolve(&self, command: &'static Command) -> Result<Run, Fault> {
        if !command.arity.accepts(self.arguments.len()) {
            return Err(Fault::Arity(command.name.to_owned()));
        }
        if self.session.trust == Trust::Stranger && !command.is_allowed_before_auth() {
            return Err(Fault::Stranger);
        }
        self.session.check_listening(command)?;
        if self.around.permission != Permission::default() {
            match command.access {
                Access::None => {}
                Access::Read => self.around.permission.read()?,
                Access::Write => self.around.permission.write()?,
            }
        }
        if command.subcommands.is_empty() {
            return Ok(command.run);
        }
        let name = self.arguments.get(1);
        let subcommand = command.subcommand(name).ok_or_else(|| {
            let (name, whole) = (excerpt(name, 128), command.name.to_ascii_uppercase());
            Fault::other(format!("unknown subcommand '{name}'. Try {whole} HELP."))
        })?;
        if !subcommand.arity.accepts(self.arguments.len()) {
            return Err(Fault::Arity(format!("{}|{}", command.name, subcommand.name)));
        }
        Ok(subcommand.run)
    }

    /// Arguments, the command's name included.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.arguments.len()
    }

    /// The argument at `index`; 0 is the command's name.
    #[inline]
    pub(super) fn argument(&self, index: usize) -> &'c [u8] {
        self.arguments.get(index)
    }

    /// Whether the argument at `index` is `word`, in any case.
    pub(super) fn is(&self, index: usize, word: &str) -> bool {
        self.argument(index).eq_ignore_ascii_case(word.as_bytes())
    }

    /// The argument at `index` as a key.
    #[inline]
    pub(super) fn key(&self, index: usize) -> Result<&'c [u8], Fault> {
        checked_key(self.argument(index))
    }

    /// The argument at `index` as an integer.
    pub(super) fn integer(&self, index: usize) -> Result<i64, Fault> {
        parse_integer(self.argument(index)).ok_or(Fault::NotInteger)
    }

    /// Every `step`th argument from `first` on, as keys.
    pub(super) fn keys(
        &self,
        first: usize,
        step: usize,
    ) -> Result<impl ExactSizeIterator<Item = &'c [u8]> + Clone + use<'c>, Fault> {
        let keys = self.arguments.from(first).step_by(step);
        keys.clone().try_for_each(|key| checked_key(key).map(drop))?;
        Ok(keys)
    }

    /// Where the call's keys are.
    #[inline]
    pub(super) fn place(&self) -> Place<'c> {
        let (Surroundings { store, now, .. }, held) = (self.around, self.held);
        Place { store, bucket: store.database(self.session.database), now, held }
    }

    /// The time of the batch, in ms since the epoch.
    #[inline]
    pub(super) fn now_ms(&self) -> u64 {
        self.around.now.millis()
    }
}

fn checked_key(key: &[u8]) -> Result<&[u8], Fault> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX { Err(Fault::Key) } else { Ok(key) }
}

impl Place<'_> {
    /// Calls `look` with what `key` shows.
    #[inline]
    pub(super) fn read<R>(self, key: &[u8], look: impl FnOnce(Option<View<'_>>) -> R) -> R {
        match self.held {
            None => self.store.read(self.bucket, key, self.now, look),
            Some(held) => within(held, |transaction| transaction.read(self.bucket, key, look)),
        }
    }

    /// Calls `look` with what each of `keys` shows, all as of one moment.
    pub(super) fn read_many<'k>(
        self,
        keys: impl Iterator<Item = &'k [u8]> + Clone,
        mut look: impl FnMut(Option<View<'_>>),
    ) {
        match self.held {
            None => self.store.read_many(self.bucket, keys, self.now, look),
            Some(_) => keys.for_each(|key| self.read(key, &mut look)),
        }
    }

    /// Lets `decide` look at `key` and makes the edit that it decides on.
    #[inline]
    pub(super) fn write<'e, R>(
        self,
        key: &[u8],
        decide: impl FnOnce(Option<View<'_>>) -> (Edit<'e>, R),
    ) -> Result<R, Fault> {
        let written = match self.held {
            None => self.store.write(self.bucket, key, self.now, decide),
            Some(held) => within(held, |transaction| transaction.write(self.bucket, key, decide)),
        };
        Ok(written?.answer)
    }

    /// Lets `body` look at and change `keys` as one.
    pub(super) fn transaction<'k, R>(
        self,
        keys: impl Iterator<Item = &'k [u8]>,
        body: impl FnOnce(&mut Transaction<'_>) -> R,
    ) -> R {
        match self.held {
            None => {
                let scope = Scope::of(self.store, self.bucket, keys);
                self.store.transaction(&scope, self.now, body)
            }
            Some(held) => within(held, body),
        }
    }
}

/// Calls `body` with the transaction that the call is a part of.
#[cold]
fn within<R>(held: &dyn Held, body: impl FnOnce(&mut Transaction<'_>) -> R) -> R {
    let (mut body, mut answer) = (Some(body), None);
    held.with(&mut |transaction| answer = body.take().map(|body| body(transaction)));
    answer.expect("a transaction calls back at once, and once")
}

impl From<WriteError> for Fault {
    fn from(error: WriteError) -> Fault {
        match error {
            WriteError::Full { .. } => Fault::Memory,
            WriteError::TooLarge { .. } => Fault::ValueLength,
            WriteError::Obstacle(obstacle) => obstacle.into(),
        }
    }
}

impl From<Obstacle> for Fault {
    fn from(obstacle: Obstacle) -> Fault {
        match obstacle {
            Obstacle::Loading => Fault::Loading,
            Obstacle::Disk => Fault::Disk,
        }
    }
}

/// The deadline at `millis`, or `None` where that is not after `now_ms`: the key then goes at once.
pub(super) fn future(millis: i64, now_ms: u64) -> Option<Deadline> {
    let millis = u64::try_from(millis).ok().filter(|&millis| millis > now_ms)?;
    Some(Deadline::at_millis(millis))
}
