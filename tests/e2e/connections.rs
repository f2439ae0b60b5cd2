//! What a RESP connection costs, and how it ends.

use crate::node::{TestNode, wait_until};
use crate::reply::{Client, Reply, request};

#[test]
fn a_part_of_the_largest_value_is_shared_while_others_do_not_read_theirs() {
    let node = TestNode::start();
    let mut client = Client::connect(node.resp);
    let large: Vec<u8> = (0..64 << 20).map(|n: u32| (n >> 7) as u8).collect();
    assert_eq!(client.call(&[b"SET", b"k", &large]), Reply::simple("OK"));
    let before = node.resident_bytes();
    let mut unread: Vec<_> = (0..10).map(|_| Client::connect(node.resp)).collect();
    for client in &mut unread {
        client.send(&request(&[b"GET", b"k"]));
    }
    let part = client.call(&[b"GETRANGE", b"k", b"1000", b"1999"]);
    assert!(part == Reply::Bulk(large[1_000..2_000].to_vec()));
    let growth = node.resident_bytes().saturating_sub(before);
    assert!(growth < 16 << 20, "{growth} bytes for ten readers of one value");
    assert!(unread[9].read() == Reply::Bulk(large));
}

#[test]
fn a_promise_of_64_mib_costs_what_was_sent_of_it() {
    const COUNT: usize = 1_000;
    let node = TestNode::start();
    let mut first = Client::connect(node.resp);
    assert_eq!(first.call(&[b"PING"]), Reply::simple("PONG"));
    let before = node.resident_bytes();
    let mut clients: Vec<_> = (0..COUNT).map(|_| Client::connect(node.resp)).collect();
    for client in &mut clients {
        assert_eq!(client.call(&[b"PING"]), Reply::simple("PONG"));
        client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$67108864\r\nx");
    }
    assert_eq!(first.call(&[b"PING"]), Reply::simple("PONG"));
    let each = node.resident_bytes().saturating_sub(before) / COUNT as u64;
    assert!(each < 16 << 10, "{each} bytes for one byte of a value");
    drop(clients);
    wait_until("the node has noticed that they left", || {
        let Reply::Bulk(info) = first.call(&[b"INFO", b"clients"]) else { panic!("a bulk") };
        String::from_utf8(info).ok().filter(|info| info.contains("connected_clients:1\r\n"))
    });
}

#[test]
fn a_killed_and_a_silent_client_are_closed() {
    let node = TestNode::start();
    let mut client = Client::connect(node.resp);
    let mut victim = Client::connect(node.resp);
    let id = victim.call(&[b"CLIENT", b"ID"]).integer().to_string();
    assert_eq!(client.call(&[b"CLIENT", b"KILL", b"ID", id.as_bytes()]), Reply::Integer(1));
    assert_eq!(victim.try_read(), None);
    assert_eq!(client.call(&[b"CONFIG", b"SET", b"timeout", b"1"]), Reply::simple("OK"));
    assert_eq!(client.try_read(), None);
}

#[test]
fn nothing_is_executed_after_quit() {
    let node = TestNode::start();
    let mut client = Client::connect(node.resp);
    client.send(b"SET k 1\r\nQUIT\r\nSET k 2\r\n");
    assert_eq!(client.read(), Reply::simple("OK"));
    assert_eq!(client.read(), Reply::simple("OK"));
    assert_eq!(client.try_read(), None);
    let mut other = Client::connect(node.resp);
    assert_eq!(other.call(&[b"GET", b"k"]), Reply::Bulk(b"1".to_vec()));
}
