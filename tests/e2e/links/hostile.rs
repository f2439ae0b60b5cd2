//! Peers that are none, or are broken: whoever is well must not notice.

use crate::cluster::{Cluster, Shape};
use crate::node::{PATIENCE, TestNode, wait_until};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A server that does with each connection what it is told to, on a thread of its own.
struct Server {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
}

impl Server {
    fn start(serve: impl Fn(TcpStream, &AtomicBool) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, serve) = (Arc::clone(&is_over), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (over, serve) = (Arc::clone(&over), Arc::clone(&serve));
                if over.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::spawn(move || serve(stream, &over));
            }
        });
        Server { address, is_over }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes whoever accepts.
        let _ = TcpStream::connect(self.address);
    }
}

/// Waits until somebody else ends the connection, or the test does.
fn hang(mut stream: TcpStream, is_over: &AtomicBool) {
    stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
    let mut piece = [0; 1_000];
    while !is_over.load(Ordering::Relaxed) && !matches!(stream.read(&mut piece), Ok(0)) {}
}

/// A pair, of which node 0 is also told to link with `peer`.
fn pair_beside(peer: SocketAddr) -> Cluster {
    let cluster = Cluster::start_unlinked(Shape::Star(2), |_| Vec::new());
    let (host, port) = (peer.ip().to_string(), peer.port().to_string());
    assert_eq!(cluster.command(0, &["REPLICAOF", &host, &port]), "+OK");
    cluster.wait_linked();
    cluster
}

/// The pair links, and goes on replicating, at its usual pace.
#[track_caller]
fn check_well(cluster: &Cluster) {
    let mut client = cluster.client(0);
    let begun = Instant::now();
    for number in 0..20 {
        assert_eq!(client.command(&["SET", "k", &number.to_string()]), "+OK");
        assert_eq!(client.command(&["WAIT", "1", "60000"]), ":1", "round {number}");
    }
    assert!(begun.elapsed() < PATIENCE / 3, "20 rounds took {:?}", begun.elapsed());
}

/// Why node 0 has no link with `peer`.
#[track_caller]
fn reason(cluster: &Cluster, peer: SocketAddr) -> String {
    wait_until("there is a reason", || {
        let view = cluster.view(0);
        let peers = view["replication"]["peers"].as_array()?;
        let peer = peers.iter().find(|shown| shown["endpoint"] == peer.to_string())?;
        Some(peer["reason"].as_str()?.to_owned())
    })
}

#[track_caller]
fn check_beside(server: Server, want: &str) {
    let cluster = pair_beside(server.address);
    check_well(&cluster);
    let reason = reason(&cluster, server.address);
    assert!(reason.contains(want), "{reason:?} should contain {want:?}");
    check_well(&cluster);
}

#[test]
fn a_peer_that_accepts_and_never_answers_disturbs_nobody() {
    check_beside(Server::start(hang), "did not say who it is within 5 s");
}

#[test]
fn a_peer_that_says_a_byte_a_second_disturbs_nobody() {
    let drip = |mut stream: TcpStream, is_over: &AtomicBool| {
        for byte in b"ATOLLP\x01pmore" {
            let sent = stream.write_all(&[*byte]);
            if sent.is_err() || is_over.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    };
    check_beside(Server::start(drip), "did not say who it is within 5 s");
}

#[test]
fn a_peer_that_sends_garbage_disturbs_nobody() {
    let garbage = |mut stream: TcpStream, is_over: &AtomicBool| {
        // It may close at once.
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        hang(stream, is_over);
    };
    check_beside(Server::start(garbage), "no Atoll node's peers port");
    let garbage = |mut stream: TcpStream, is_over: &AtomicBool| {
        let _ = stream.write_all(b"ATOLLP\x01p\x00\x00\x00\x05\x40abcd");
        hang(stream, is_over);
    };
    check_beside(Server::start(garbage), "not an introduction");
}

#[test]
fn a_peer_that_is_suspended_is_given_up_and_taken_back() {
    let cluster = Cluster::start(Shape::Mesh(3));
    cluster.node(2).signal("STOP");
    let mut client = cluster.client(0);
    for number in 0..200 {
        let key = format!("k{number}");
        assert_eq!(client.command(&["SET", &key, &"x".repeat(50_000)]), "+OK");
    }
    assert_eq!(client.command(&["WAIT", "1", "60000"]), ":1");
    assert_eq!(client.command(&["WAIT", "2", "1"]), ":1");
    cluster.node(0).wait_for_log("nothing was heard for too long");
    check_well(&cluster);
    cluster.node(2).signal("CONT");
    assert_eq!(client.command(&["WAIT", "2", "60000"]), ":2");
    assert_eq!(cluster.converge().len(), 201);
}

/// Connects to a node's port for peers and sends something.
fn knock(node: &TestNode, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(node.peers()).expect("the port is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(bytes).expect("the node is there");
    stream
}

/// What a node answers to a stranger until it closes.
fn answer(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is as good an end as any.
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

#[test]
fn strangers_are_shown_the_door() {
    let cluster = Cluster::start(Shape::Pair);
    let node = cluster.node(0);
    assert_eq!(answer(knock(node, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")), b"");
    node.wait_for_log("the other end is no Atoll node's peers port, or dials none");
    assert_eq!(answer(knock(node, b"ATOLLP\x01p")), b"ATOLLP\x01p", "until its time is up");
    // A message of 4 GiB, and one of just too many bytes.
    for length in [u32::MAX, 4_097] {
        let preface = [&b"ATOLLP\x01p"[..], &length.to_be_bytes(), &[0; 5_000]].concat();
        assert_eq!(answer(knock(node, &preface)), b"ATOLLP\x01p");
    }
    check_well(&cluster);
}

#[test]
fn many_strangers_at_once_keep_no_peer_out() {
    let mut cluster = Cluster::start(Shape::Star(2));
    // All from one address, as the peer: more than one address may hold.
    let strangers: Vec<TcpStream> =
        (0..15).map(|_| knock(cluster.node(0), b"ATOLLP\x01")).collect();
    cluster.kill(1);
    cluster.start_node(1);
    cluster.wait_linked();
    check_well(&cluster);
    let begun = Instant::now();
    strangers.into_iter().for_each(|stream| drop(answer(stream)));
    assert!(begun.elapsed() < PATIENCE, "they were let go");
}
