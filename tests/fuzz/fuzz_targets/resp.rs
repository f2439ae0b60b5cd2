//! Any bytes on the RESP port, in pieces of any size: the same requests, and commands that never
//! panic.
#![no_main]

use std::sync::Arc;

use atoll_core::clock::Now;
use atoll_core::messages::Messages;
use atoll_core::permission::{Permission, StaleReads};
use atoll_core::replica::status::Status;
use atoll_core::resp::client::{Client, Ends};
use atoll_core::resp::cluster::{Cluster, Peer, PeerChange};
use atoll_core::resp::intake::{Executor, Intake, Next, Room, Taken};
use atoll_core::resp::output::Output;
use atoll_core::resp::request::{Arguments, ProtocolError, Trust};
use atoll_core::resp::server::{Facts, Limits, Password, Server, Settings};
use atoll_core::resp::session::{Flow, Session, Surroundings};
use atoll_core::resp::tally::Tally;
use atoll_core::store::{Dice, Store, StoreConfig};
use bytes::{BufMut, Bytes};
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;

const START_MS: u64 = 1_800_000_000_000;
const MEMORY_BYTES: usize = 64 * 1024 * 1024;
const SCRATCH_BYTES: usize = 64 * 1024;

fuzz_target!(|input: (u8, &[u8])| {
    let (piece_len, bytes) = (usize::from(input.0) + 1, input.1);
    let (mut whole, mut pieces) = (Collector::default(), Collector::default());
    let whole_result = feed(&mut whole, bytes, bytes.len().max(1));
    let pieces_result = feed(&mut pieces, bytes, piece_len);
    assert_eq!(whole_result, pieces_result, "pieces do not matter");
    assert_eq!(whole.requests, pieces.requests, "pieces do not matter");
    execute(bytes, piece_len);
});

/// Collects requests instead of executing them.
#[derive(Default)]
struct Collector {
    requests: Vec<Vec<Vec<u8>>>,
}

impl Executor for Collector {
    fn trust(&self) -> Trust {
        Trust::Client
    }

    fn execute(&mut self, arguments: Arguments<'_>) -> Next {
        self.requests.push(arguments.from(0).map(<[u8]>::to_vec).collect());
        Next::Continue
    }
}

/// Executes requests over a store.
struct Batch<'a> {
    session: &'a mut Session,
    around: Surroundings<'a>,
    output: &'a mut Output,
}

impl Executor for Batch<'_> {
    fn trust(&self) -> Trust {
        self.session.trust()
    }

    fn execute(&mut self, arguments: Arguments<'_>) -> Next {
        self.output.clear();
        let mut flow = self.session.execute(self.around, arguments, self.output);
        loop {
            flow = match flow {
                Flow::Again => self.session.proceed(self.around, self.output),
                // Nobody is there to hold a copy.
                Flow::Wait => self.session.end_wait(0, self.output),
                Flow::Close | Flow::CloseOnHttp => return Next::Stop,
                Flow::Continue | Flow::Rest => return Next::Continue,
            };
        }
    }
}

fn execute(bytes: &[u8], piece_len: usize) {
    let config =
        StoreConfig { memory_bytes_max: MEMORY_BYTES, log_bytes_max: 0, change_bytes_max: None };
    let dice = Dice { origin: Uuid::from_u128(1), hash_seed: 1 };
    let store = Store::new(config, dice, Box::new(|| {}));
    let server = Process::default();
    let ends = Ends { address: "a:1".to_owned(), local_address: "b:2".to_owned() };
    let client = Arc::new(Client::new(1, ends, START_MS));
    let mut session = Session::new(client, &server);
    let now = Now::from_millis(START_MS);
    let permission = Permission::default();
    let around =
        Surroundings { store: &store, server: &server, tally: &server.tally, now, permission };
    let mut output = Output::default();
    let mut batch = Batch { session: &mut session, around, output: &mut output };
    // A refusal is an answer like any other.
    let _ = feed(&mut batch, bytes, piece_len);
}

/// Feeds `bytes` as a socket would, `piece_len` at a time; ends where the executor stops.
fn feed(executor: &mut impl Executor, bytes: &[u8], piece_len: usize) -> Result<(), ProtocolError> {
    let (mut intake, mut scratch) = (Intake::default(), vec![0; SCRATCH_BYTES]);
    for mut piece in bytes.chunks(piece_len) {
        while !piece.is_empty() {
            let taken = match intake.room() {
                Room::Scratch { offset } => {
                    let len = piece.len().min(scratch.len() - offset);
                    scratch[offset..offset + len].copy_from_slice(&piece[..len]);
                    piece = &piece[len..];
                    intake.take_scratch(&mut scratch[..offset + len], executor)?
                }
                Room::Buffer => {
                    let mut buffer = intake.buffer();
                    let len = piece.len().min(buffer.remaining_mut());
                    buffer.put_slice(&piece[..len]);
                    drop(buffer);
                    piece = &piece[len..];
                    intake.take_buffer(executor)?
                }
            };
            if taken == Taken::Stopped {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A process with nobody else connected, linked with nobody.
#[derive(Default)]
struct Process {
    tally: Arc<Tally>,
    status: Arc<Status>,
    messages: Arc<Messages>,
}

impl Cluster for Process {
    fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    fn peers(&self) -> Vec<Peer> {
        Vec::new()
    }

    fn change_peers(&self, _: PeerChange<'_>) -> Result<(), String> {
        Ok(())
    }

    fn holder_count(&self, _: u64) -> usize {
        0
    }

    fn messages(&self) -> &Arc<Messages> {
        &self.messages
    }

    fn check_message(&self, _: &[u8], _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn tell_others(&self, _: &Bytes, _: &Bytes) {}

    fn stale_reads(&self) -> StaleReads {
        StaleReads::Served
    }

    fn set_stale_reads(&self, _: StaleReads) {}
}

impl Server for Process {
    fn facts(&self) -> Facts {
        Facts::default()
    }

    fn settings(&self) -> Settings {
        let limits = Limits { clients_max: 1, idle_s_max: 0 };
        Settings { password: Password::NotAsked, limits }
    }

    fn set_limits(&self, _: Limits) {}

    fn tallies(&self) -> Vec<Arc<Tally>> {
        vec![Arc::clone(&self.tally)]
    }

    fn clients(&self) -> Vec<Arc<Client>> {
        Vec::new()
    }

    fn close_client(&self, _: u64) {}

    fn cluster(&self) -> &dyn Cluster {
        self
    }

    fn is_password(&self, _: &[u8]) -> bool {
        true
    }
}
