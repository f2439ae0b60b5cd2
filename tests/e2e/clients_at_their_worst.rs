//! Clients that send nonsense, or next to nothing, or never read: the node stays responsive and its
//! memory bounded.

use crate::node::{Ends, RespClient, TestNode, wait_until};
use crate::pace::Pace;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// The node answers every door at once.
#[track_caller]
fn check_responsive(node: &TestNode) {
    assert_eq!(node.resp_client().command(&["PING"]), "+PONG");
    assert_eq!(node.http("GET", node.api, "/livez", b"").status, 200);
    assert_eq!(node.http("GET", node.gateway, "/no/route", b"").status, 404);
}

/// Numbers from a seed: the same at every run.
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the port is open");
    stream.set_read_timeout(Some(Duration::from_millis(500))).expect("a time-out can be set");
    stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a time-out can be set");
    stream
}

/// Sends bytes and reads what comes until nothing does.
fn provoke(address: SocketAddr, bytes: &[u8]) {
    let mut stream = connect(address);
    // The node may close early; that is its right.
    let _ = stream.write_all(bytes);
    let mut answer = [0; 4_096];
    while matches!(stream.read(&mut answer), Ok(read) if read > 0) {}
}

#[test]
fn random_bytes_cost_one_connection_at_most() {
    let node = TestNode::start();
    for door in [node.resp, node.api, node.gateway] {
        std::thread::scope(|threads| {
            for seed in 0..8 {
                threads.spawn(move || {
                    let bytes: Vec<u8> = noise(seed).take(64 * 1_024).collect();
                    provoke(door, &bytes);
                    // Something that begins well is parsed further.
                    provoke(door, &[b"*3\r\n$3\r\nSET\r\n", &bytes[..]].concat());
                    provoke(door, &[b"GET / HTTP/1.1\r\n", &bytes[..]].concat());
                    provoke(door, &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &bytes[..]].concat());
                });
            }
        });
    }
    check_responsive(&node);
}

#[test]
fn an_absurd_length_is_refused_and_costs_no_memory() {
    let node = TestNode::start();
    let before = node.resident_bytes();
    for request in [
        &b"*999999999\r\n"[..],
        b"*-999999999\r\n",
        b"*1\r\n$999999999999\r\n",
        b"*1\r\n$-5\r\n",
        b"*1\r\n$99999999999999999999999999\r\n",
        b"*2\r\n$3\r\nGET\r\n:5\r\n",
    ] {
        let mut client = node.resp_client();
        client.send(request);
        if request.starts_with(b"*-") {
            // Redis ignores an empty command.
            assert_eq!(client.command(&["PING"]), "+PONG");
            continue;
        }
        let reply = client.reply();
        assert!(reply.starts_with("-ERR Protocol error"), "{reply}");
        assert!(client.is_closed());
    }
    let mut client = node.resp_client();
    client.send(&vec![b'a'; 128 * 1_024]);
    assert!(client.reply().starts_with("-ERR Protocol error: too big inline request"));
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < 16 * MIB, "{grown} bytes more");
    check_responsive(&node);
}

#[test]
fn an_oversized_key_is_refused_on_every_door() {
    let node = TestNode::start();
    let key = "k".repeat(1_025);
    let reply = node.resp_client().command(&["SET", &key, "v"]);
    assert!(reply.starts_with("-ERR") && reply.contains("1024"), "{reply}");
    let refused = node.http("PUT", node.api, &format!("/v1/kv/default/{key}"), b"v");
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("1024"), "{}", refused.text());
    check_responsive(&node);
}

#[test]
fn a_frame_that_stops_in_the_middle_holds_nobody_up() {
    let node = TestNode::start();
    let halves: Vec<TcpStream> = (0..100)
        .map(|n| {
            let mut stream = connect(node.resp);
            let request = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$50000\r\nxxxxxxxxxxxxx";
            stream.write_all(&request[..request.len() - n % 20]).expect("the node reads");
            stream
        })
        .collect();
    check_responsive(&node);
    assert_eq!(node.resp_client().command(&["GET", "k"]), "$-1");
    drop(halves);
    check_responsive(&node);
}

#[test]
fn a_client_that_sends_one_byte_at_a_time_is_served() {
    let node = TestNode::start();
    let mut client = node.resp_client();
    client.stream().set_nodelay(true).expect("no delay can be set");
    for byte in b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n" {
        client.send(&[*byte]);
        // Another client in between: nothing waits for the slow one.
        assert_eq!(node.resp_client().command(&["PING"]), "+PONG");
    }
    assert_eq!(client.reply(), "+OK");
}

#[test]
fn a_client_that_never_reads_cannot_fill_the_memory() {
    let node = TestNode::start();
    let mut client = node.resp_client();
    let value = "x".repeat(1 << 20);
    assert_eq!(client.command(&["SET", "large", &value]), "+OK");
    let small = "y".repeat(10_000);
    assert_eq!(client.command(&["SET", "small", &small]), "+OK");
    let before = node.resident_bytes();
    for key in ["large", "small"] {
        let mut deaf = connect(node.resp);
        let request = format!("*2\r\n$3\r\nGET\r\n$5\r\n{key}\r\n").repeat(10_000);
        // The node stops reading when its replies are not taken, so this cannot all be sent.
        let sent = deaf.write_all(request.as_bytes());
        assert!(sent.is_ok() || sent.is_err_and(|e| e.kind() != ErrorKind::ConnectionRefused));
        check_responsive(&node);
        let grown = node.resident_bytes().saturating_sub(before);
        assert!(grown < 32 * MIB, "{grown} bytes more for {key}");
        drop(deaf);
    }
}

#[test]
fn ten_thousand_idle_connections_are_held_and_cheap() {
    rlimit::increase_nofile_limit(u64::MAX).expect("the limit of open files can be raised");
    let limit = rlimit::Resource::NOFILE.get_soft().expect("the limit can be read");
    assert!(limit > 11_000, "raise the limit of open files: ulimit -n 20000");
    let node = TestNode::start();
    let mut pace = Pace::default();
    for _ in 0..5 {
        pace.of(|| check_responsive(&node));
    }
    let before = node.resident_bytes();
    let mut idle: Vec<RespClient> = (0..10_000).map(|_| node.resp_client()).collect();
    assert_eq!(idle[9_999].command(&["PING"]), "+PONG");
    let began = Instant::now();
    for _ in 0..100 {
        check_responsive(&node);
    }
    let (each, bar) = (began.elapsed() / 100, pace.bar(Duration::from_secs(1), 20));
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "{} bytes for each connection", grown / 10_000);
    // Not a benchmark: far above what it takes, far below what a stalled node would need.
    assert!(each < bar, "{each:?} for four requests, held against {bar:?}");
    for client in idle.iter_mut().step_by(997) {
        assert_eq!(client.command(&["PING"]), "+PONG");
    }
}

#[test]
fn one_client_too_many_is_told_so() {
    let node = TestNode::start_with(&["--clients-max", "2"]);
    let mut first = node.resp_client();
    let mut second = node.resp_client();
    assert_eq!([first.command(&["PING"]), second.command(&["PING"])], ["+PONG", "+PONG"]);
    let mut third = node.resp_client();
    assert_eq!(third.reply(), "-ERR max number of clients reached");
    assert!(third.is_closed());
    drop(first);
    wait_until("the place is free again", || {
        let mut again = node.resp_client();
        let mut byte = [0; 1];
        again.send(b"PING\r\n");
        (again.stream().read(&mut byte).is_ok_and(|read| read == 1) && byte == *b"+").then_some(())
    });
}

#[test]
fn a_million_keys_fit_in_the_budget_of_140_bytes_each() {
    let node = TestNode::start();
    let before = node.resident_bytes();
    let mut client = node.resp_client();
    let value = "v".repeat(64);
    for batch in 0..1_000 {
        let mut request = String::new();
        for n in 0..1_000 {
            let key = format!("key:{:012}", batch * 1_000 + n);
            request += &format!(
                "*5\r\n$3\r\nSET\r\n$16\r\n{key}\r\n$64\r\n{value}\r\n$2\r\nEX\r\n$5\r\n86400\r\n"
            );
        }
        client.send(request.as_bytes());
        for _ in 0..1_000 {
            assert_eq!(client.reply(), "+OK");
        }
    }
    assert_eq!(client.command(&["DBSIZE"]), ":1000000");
    // What the commands took for a moment, the allocator gives back a few seconds later.
    wait_until("a key takes 140 bytes at most", || {
        let each = node.resident_bytes().saturating_sub(before) / 1_000_000;
        (each <= 140).then_some(())
    });
    check_responsive(&node);
}

#[test]
fn a_pipeline_of_long_commands_lets_others_have_their_turn() {
    let node = TestNode::start();
    let mut greedy = node.resp_client();
    assert_eq!(greedy.command(&["SETRANGE", "large", "16777215", "x"]), ":16777216");
    let long = ["SETRANGE", "large", "0", "y"];
    (0..200).for_each(|_| greedy.send_command(&long));
    let are_others_answered = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // It never comes to an end before the others have had their turns.
        scope.spawn(|| {
            while !are_others_answered.load(Ordering::SeqCst) {
                assert_eq!(greedy.reply(), ":16777216");
                greedy.send_command(&long);
            }
        });
        let _ends = Ends(&are_others_answered);
        for _ in 0..5 {
            assert_eq!(node.resp_client().command(&["PING"]), "+PONG");
        }
    });
    (0..200).for_each(|_| assert_eq!(greedy.reply(), ":16777216"));
}
