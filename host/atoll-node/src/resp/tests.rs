//! The port as a client sees it, over real sockets.

use super::{Config, serve};
use crate::config::{Config as NodeConfig, FileConfig};
use crate::node::Node;
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
