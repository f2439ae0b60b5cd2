//! The port as a client sees it, over real sockets.

mod pubsub;
mod waiting;

use super::door::Door;
use super::{Config, serve};
use crate::config::{Config as NodeConfig, FileConfig};
use crate::node::Node;
use atoll_core::limits::VALUE_BYTES_MAX;
use atoll_core::permission::Permission;
use atoll_core::resp::client::{Client, Ends};
use atoll_core::resp::output::{self, Output};
use atoll_core::resp::request::{Parser, Progress, Trust};
use atoll_core::resp::session::{Session, Surroundings};
use rustix::time::{ClockId, clock_gettime};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Longer than any answer here takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(120);

const CONFIG: Config = Config { thread_count: 1, clients_max: 10, password: None };

fn node() -> Arc<Node> {
    let values: FileConfig = toml::from_str("").expect("the defaults");
    Node::new(&NodeConfig::resolve(values).expect("the defaults")).expect("a node")
}

/// A port with one thread, until the test ends.
struct Port {
    node: Arc<Node>,
    listener_address: std::net::SocketAddr,
    shutdown: CancellationToken,
}

impl Port {
    fn open() -> Port {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let listener_address = listener.local_addr().expect("an address");
        let (node, shutdown) = (node(), CancellationToken::new());
        serve(listener, Arc::clone(&node), CONFIG, shutdown.clone()).expect("a thread");
        Port { node, listener_address, shutdown }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.listener_address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        stream.set_write_timeout(Some(PATIENCE)).expect("a deadline");
        stream
    }
}

/// Sends `request`.
#[track_caller]
fn send(client: &mut TcpStream, request: &str) {
    client.write_all(request.as_bytes()).expect("it is sent");
}

/// Reads exactly `want`.
#[track_caller]
fn expect(client: &mut TcpStream, want: &str) {
    let mut reply = vec![0; want.len()];
    client.read_exact(&mut reply).expect("an answer");
    assert_eq!(String::from_utf8_lossy(&reply), want);
}

/// Waits until `is_so`, at most for [`PATIENCE`].
#[track_caller]
fn until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came about");
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[test]
fn a_web_page_is_hung_up_on() {
    let port = Port::open();
    let mut page = port.connect();
    page.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\n").expect("it is sent");
    let mut reply = Vec::new();
    page.read_to_end(&mut reply).expect("the connection is closed");
    assert_eq!(reply, b"");
}

/// The socket was closed with most of the value unread, which resets the connection: clients saw
/// "connection reset by peer" and no reason.
#[test]
fn a_value_that_is_too_long_is_refused_in_words() {
    let port = Port::open();
    let mut client = port.connect();
    let len = VALUE_BYTES_MAX + 1;
    let head = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${len}\r\n");
    client.write_all(head.as_bytes()).expect("the head is sent");
    // It takes its time: a slow link, or a busy machine, where this failed by chance.
    let value = vec![b'v'; len];
    client.write_all(&value[..len / 2]).expect("half of the value is sent");
    std::thread::sleep(Duration::from_millis(2_500));
    client.write_all(&value[len / 2..]).expect("the rest is sent");
    let mut reply = String::new();
    client.read_to_string(&mut reply).expect("the connection ends in peace");
    assert_eq!(reply, "-ERR Protocol error: invalid bulk length\r\n");
}

#[test]
fn a_client_that_never_ends_its_nonsense_is_closed() {
    let port = Port::open();
    let mut client = port.connect();
    client.write_all(b"*nonsense\r\n").expect("it is sent");
    let (piece, mut byte_count) = (vec![b'n'; 1 << 20], 0_usize);
    while client.write_all(&piece).is_ok() {
        byte_count += piece.len();
        assert!(byte_count < 1 << 30, "nobody reads a gigabyte of nonsense");
    }
}

/// The processor time of this thread: unlike the wall's, it does not depend on what else the
/// machine does.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).expect("a time that has passed");
    Duration::from_secs(seconds) + Duration::from_nanos(time.tv_nsec as u64)
}

/// Every id was compared with every client: one request could hold up its thread for minutes.
#[test]
fn many_ids_do_not_make_a_list_of_clients_slow() {
    let node = node();
    let door = Door::new(Arc::clone(&node), &CONFIG, 0);
    for id in 1..=40_000 {
        let ends = Ends { address: String::new(), local_address: String::new() };
        door.clients().enter(Arc::new(Client::new(id, ends, 0)));
    }
    // All but the last name nobody.
    let ids = (1_000_000..2_000_000).chain([7]).map(|id: u64| id.to_string());
    let ids = ids.map(|id| format!("${}\r\n{id}\r\n", id.len())).collect::<String>();
    let request = format!("*1000004\r\n$6\r\nCLIENT\r\n$4\r\nLIST\r\n$2\r\nID\r\n{ids}");
    let (mut parser, mut output) = (Parser::default(), Output::default());
    let progress = parser.advance(request.as_bytes(), Trust::Client);
    assert_eq!(progress, Ok(Progress::Ready));
    let client = Arc::clone(&door.clients().all()[0]);
    let tally = door.tally(0);
    let around = Surroundings {
        store: node.store(),
        server: &door,
        tally: &tally,
        now: node.now(),
        permission: Permission::default(),
    };
    let begun = thread_time();
    Session::new(client, &door).execute(around, parser.arguments(request.as_bytes()), &mut output);
    let took = thread_time() - begun;
    assert!(took < Duration::from_secs(5), "{took:?}, and 30 s once");
    let written = output.plain(output::Progress::default()).expect("nothing is shared");
    let text = String::from_utf8_lossy(written);
    assert_eq!(text.matches("id=").count(), 1, "{text}");
    assert!(text.contains("\r\nid=7 "), "{text}");
}
