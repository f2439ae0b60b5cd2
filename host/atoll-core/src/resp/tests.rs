//! What clients send and what they get, bytes in and bytes out, over a real store.

mod codec;
mod connection;
mod expiry;
mod keyspace;
mod output;
mod pubsub;
mod replication;
mod server;
mod strings;
mod transaction;

use super::client::{Client, Ends};
use super::cluster::{Cluster, Peer, PeerChange};
use super::intake::{Executor, Intake, Next, Taken};
use super::output::{Output, Progress};
use super::request::{Arguments, ProtocolError, Trust};
use super::server::{Facts, Limits, Password, Server, Settings};
use super::session::{Flow, Session, Surroundings};
use super::tally::Tally;
use crate::clock::Now;
use crate::messages::Messages;
use crate::permission::{Permission, StaleReads};
use crate::replica::status::Status;
use crate::store::{Dice, Store, StoreConfig};
use bytes::Bytes;
use std::io::IoSlice;
use std::sync::{Arc, Mutex};
use uuid::Uuid;

/// A process with one client, or with a few of which only the first talks.
struct TestServer {
    password: Option<&'static [u8]>,
    limits: Mutex<Limits>,
    clients: Mutex<Vec<Arc<Client>>>,
    closed: Mutex<Vec<u64>>,
    tally: Arc<Tally>,
    cluster: TestCluster,
}

/// Replication that is whatever a test says it is.
#[derive(Default)]
struct TestCluster {
    status: Mutex<Arc<Status>>,
    peers: Mutex<Vec<Peer>>,
    /// What REPLICAOF asked for, as text.
    changes: Mutex<Vec<String>>,
    /// Up to where each other node holds what this one wrote.
    holders: Mutex<Vec<u64>>,
    messages: Arc<Messages>,
    stale_reads: Mutex<StaleReads>,
}

impl Cluster for TestCluster {
    fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status.lock().unwrap())
    }

    fn peers(&self) -> Vec<Peer> {
        self.peers.lock().unwrap().clone()
    }

    fn change_peers(&self, change: PeerChange<'_>) -> Result<(), String> {
        if let PeerChange::Remove { host: "unknown", .. } = change {
            return Err("nobody of that name".to_owned());
        }
        self.changes.lock().unwrap().push(format!("{change:?}"));
        Ok(())
    }

    fn holder_count(&self, seq: u64) -> usize {
        self.holders.lock().unwrap().iter().filter(|held| **held >= seq).count()
    }

    fn messages(&self) -> &Arc<Messages> {
        &self.messages
    }

    fn check_message(&self, _: &[u8], _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn tell_others(&self, channel: &Bytes, payload: &Bytes) {
        let words = [channel, payload].map(|bytes| String::from_utf8_lossy(bytes)).join(" ");
        self.changes.lock().unwrap().push(format!("publish {words}"));
    }

    fn stale_reads(&self) -> StaleReads {
        *self.stale_reads.lock().unwrap()
    }

    fn set_stale_reads(&self, stale_reads: StaleReads) {
        *self.stale_reads.lock().unwrap() = stale_reads;
    }
}

impl Server for TestServer {
    fn facts(&self) -> Facts {
        Facts { node_name: "test".to_owned(), version: "9.9.9".to_owned(), ..Facts::default() }
    }

    fn settings(&self) -> Settings {
        let password = match self.password {
            Some(_) => Password::Asked,
            None => Password::NotAsked,
        };
        Settings { password, limits: *self.limits.lock().unwrap() }
    }

    fn set_limits(&self, limits: Limits) {
        *self.limits.lock().unwrap() = limits;
    }

    fn tallies(&self) -> Vec<Arc<Tally>> {
        vec![Arc::clone(&self.tally)]
    }

    fn clients(&self) -> Vec<Arc<Client>> {
        self.clients.lock().unwrap().clone()
    }

    fn close_client(&self, id: u64) {
        self.closed.lock().unwrap().push(id);
    }

    fn cluster(&self) -> &dyn Cluster {
        &self.cluster
    }

    fn is_password(&self, given: &[u8]) -> bool {
        self.password.is_none_or(|password| password == given)
    }
}

/// A store, a server and one client's connection.
struct Conversation {
    store: Store,
    server: TestServer,
    session: Session,
    intake: Intake,
    now: Now,
    permission: Permission,
    /// What the session held after each step of long commands.
    held_bytes: Vec<usize>,
}

/// When every test begins.
const START_MS: u64 = 1_700_000_000_000;

struct Batch<'a> {
    session: &'a mut Session,
    around: Surroundings<'a>,
    output: &'a mut Output,
    flow: Flow,
    held_bytes: &'a mut Vec<usize>,
}

impl Executor for Batch<'_> {
    fn trust(&self) -> Trust {
        self.session.trust()
    }

    fn execute(&mut self, arguments: Arguments<'_>) -> Next {
        self.flow = self.session.execute(self.around, arguments, self.output);
        while self.flow == Flow::Again {
            self.held_bytes.push(self.session.held_bytes());
            self.flow = self.session.proceed(self.around, self.output);
        }
        if self.flow == Flow::Continue { Next::Continue } else { Next::Stop }
    }
}

impl Conversation {
    fn new() -> Conversation {
        Conversation::with(None, 1 << 30)
    }

    fn with(password: Option<&'static [u8]>, memory_bytes_max: usize) -> Conversation {
        let store = Store::new(
            StoreConfig { memory_bytes_max, log_bytes_max: 1 << 20, change_bytes_max: None },
            Dice { origin: Uuid::from_u128(7), hash_seed: 7 },
            Box::new(|| {}),
        );
        let client = |id: u64| {
            let ends = Ends {
                address: format!("127.0.0.1:{}", 5_000 + id),
                local_address: "127.0.0.1:6379".to_owned(),
            };
            Arc::new(Client::new(id, ends, START_MS))
        };
        let clients: Vec<_> = [1, 2].map(client).into();
        let own = Arc::clone(&clients[0]);
        let server = TestServer {
            password,
            limits: Mutex::new(Limits { clients_max: 100, idle_s_max: 0 }),
            clients: Mutex::new(clients),
            closed: Mutex::default(),
            tally: Arc::default(),
            cluster: TestCluster::default(),
        };
        let session = Session::new(own, &server);
        let now = Now::from_millis(START_MS);
        let (intake, held_bytes) = (Intake::default(), Vec::new());
        let permission = Permission::default();
        Conversation { store, server, session, intake, now, permission, held_bytes }
    }

    /// Sends bytes in one piece; returns the replies and whether the connection stays open.
    fn send(&mut self, bytes: &[u8]) -> (Vec<u8>, Open) {
        let mut scratch = vec![0; bytes.len() + 64 * 1024];
        let super::intake::Room::Scratch { offset } = self.intake.room() else {
            panic!("only whole requests are sent here");
        };
        scratch[offset..offset + bytes.len()].copy_from_slice(bytes);
        let scratch = &mut scratch[..offset + bytes.len()];
        self.take(|intake, batch| intake.take_scratch(scratch, batch))
    }

    /// Executes what was held back.
    fn resume(&mut self) -> (Vec<u8>, Open) {
        self.take(|intake, batch| intake.resume(batch))
    }

    fn take(
        &mut self,
        take: impl FnOnce(&mut Intake, &mut Batch<'_>) -> Result<Taken, ProtocolError>,
    ) -> (Vec<u8>, Open) {
        let mut output = Output::default();
        let around = Surroundings {
            store: &self.store,
            server: &self.server,
            tally: &self.server.tally,
            now: self.now,
            permission: self.permission,
        };
        let flow = Flow::Continue;
        let (session, held_bytes) = (&mut self.session, &mut self.held_bytes);
        let mut batch = Batch { session, around, output: &mut output, flow, held_bytes };
        let open = match take(&mut self.intake, &mut batch) {
            Ok(Taken::All) => Open::Yes,
            Ok(Taken::Stopped) => Open::No,
            Err(error) => {
                output.error(&error.to_string());
                Open::No
            }
        };
        (written(&output), open)
    }

    /// Sends one inline command, and checks its reply, in which CRLF is written as a space.
    #[track_caller]
    fn check(&mut self, command: &str, want: &str) {
        let (reply, _) = self.send(format!("{command}\r\n").as_bytes());
        let reply = String::from_utf8_lossy(&reply).replace("\r\n", " ");
        let reply = reply.strip_suffix(' ').unwrap_or(&reply);
        assert_eq!(reply, want, "{}", &command[..command.len().min(100)]);
    }

    fn sleep_ms(&mut self, millis: u64) {
        self.now = Now::from_millis(self.now.millis() + millis);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Yes,
    No,
}

/// The bytes of an output, as a client would read them.
fn written(output: &Output) -> Vec<u8> {
    let (mut bytes, mut progress) = (Vec::new(), Progress::default());
    while !output.is_written(progress) {
        let mut slices = [IoSlice::new(&[]); 8];
        let count = output.slices(progress, &mut slices);
        assert!(count > 0, "something is left to write");
        let mut len = 0;
        for slice in &slices[..count] {
            bytes.extend_from_slice(slice);
            len += slice.len();
        }
        progress = output.after(progress, len);
    }
    bytes
}

/// One request as an array of bulks.
fn request(arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
