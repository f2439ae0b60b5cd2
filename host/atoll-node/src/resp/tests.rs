//! The port as a client sees it, over real sockets.

use super::{Config, serve};
use crate::config::{Config as NodeConfig, FileConfig};
use crate::node::Node;
use atoll_core::limits::VALUE_BYTES_MAX;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Longer than any answer here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A port with one thread, until the test ends.
struct Port {
    listener_address: std::net::SocketAddr,
    shutdown: CancellationToken,
}

impl Port {
    fn open() -> Port {
        let values: FileConfig = toml::from_str("").expect("the defaults");
        let node = Node::new(&NodeConfig::resolve(values).expect("the defaults")).expect("a node");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let listener_address = listener.local_addr().expect("an address");
        let shutdown = CancellationToken::new();
        let config = Config { thread_count: 1, clients_max: 10, password: None };
        serve(listener, node, config, shutdown.clone()).expect("a thread");
        Port { listener_address, shutdown }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.listener_address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        stream.set_write_timeout(Some(PATIENCE)).expect("a deadline");
        stream
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
    client.write_all(&vec![b'v'; len]).expect("the value is sent");
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
