//! WAIT over real sockets: who waits, who does not, and how it ends.

use super::{PATIENCE, Port, expect, send, until};
use crate::replication::progress::Held;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::net::Shutdown;
use std::time::{Duration, Instant};

fn publish(port: &Port, holders: &[(&str, u64)]) {
    let holders: BTreeMap<_, _> =
        holders.iter().map(|(name, seq)| (name.to_string(), *seq)).collect();
    port.node.replication().progress().publish(Held { holders, vector: HashMap::new() });
}

fn waiter_count(port: &Port) -> usize {
    port.node.replication().progress().waiter_count()
}

#[test]
fn who_waits_holds_up_nobody_and_is_told_the_number() {
    let port = Port::open();
    let (mut waiter, mut other) = (port.connect(), port.connect());
    send(&mut waiter, "SET a 1\r\nWAIT 2 0\r\nGET a\r\n");
    expect(&mut waiter, "+OK\r\n");
    until(|| waiter_count(&port) == 1);
    send(&mut other, "SET b 2\r\nGET a\r\nCLIENT LIST ID 1\r\n");
    expect(&mut other, "+OK\r\n$1\r\n1\r\n");
    publish(&port, &[("lisbon", 2), ("porto", 0)]);
    assert_eq!(waiter_count(&port), 1, "one of two is not enough");
    publish(&port, &[("lisbon", 2), ("porto", 1)]);
    expect(&mut waiter, ":2\r\n$1\r\n1\r\n");
    send(&mut waiter, "WAIT 1 0\r\n");
    expect(&mut waiter, ":1\r\n");
}

#[test]
fn a_wait_ends_in_time_with_the_true_number() {
    let port = Port::open();
    let mut client = port.connect();
    send(&mut client, "SET a 1\r\n");
    expect(&mut client, "+OK\r\n");
    publish(&port, &[("lisbon", 1)]);
    let begun = Instant::now();
    send(&mut client, "WAIT 2 100\r\nPING\r\n");
    expect(&mut client, ":1\r\n+PONG\r\n");
    assert!(begun.elapsed() >= Duration::from_millis(100));
    assert!(begun.elapsed() < PATIENCE);
}

#[test]
fn a_client_that_leaves_waits_no_longer() {
    let port = Port::open();
    for later in ["", "PING\r\n"] {
        let mut client = port.connect();
        send(&mut client, "SET a 1\r\nWAIT 1 0\r\n");
        expect(&mut client, "+OK\r\n");
        until(|| waiter_count(&port) == 1);
        // Bytes that nobody reads must not hide the end behind them.
        send(&mut client, later);
        client.shutdown(Shutdown::Write).expect("the client ends its side");
        until(|| waiter_count(&port) == 0);
    }
}

#[test]
fn a_silent_client_that_waits_is_not_idle() {
    let port = Port::open();
    let (mut waiter, mut other) = (port.connect(), port.connect());
    send(&mut other, "CONFIG SET timeout 1\r\n");
    expect(&mut other, "+OK\r\n");
    send(&mut waiter, "SET a 1\r\nWAIT 1 0\r\n");
    expect(&mut waiter, "+OK\r\n");
    // The other one is idle, and goes after its second.
    let mut rest = Vec::new();
    other.read_to_end(&mut rest).expect("it is closed");
    assert_eq!(waiter_count(&port), 1);
    publish(&port, &[("lisbon", 1)]);
    expect(&mut waiter, ":1\r\n");
}

#[test]
fn at_the_end_of_the_node_a_waiter_is_told_the_truth_so_far() {
    let port = Port::open();
    let mut client = port.connect();
    send(&mut client, "SET a 1\r\nWAIT 1 0\r\n");
    expect(&mut client, "+OK\r\n");
    until(|| waiter_count(&port) == 1);
    port.shutdown.cancel();
    let mut rest = String::new();
    client.read_to_string(&mut rest).expect("it ends in peace");
    assert_eq!(rest, ":0\r\n");
}

#[test]
fn a_killed_client_is_not_waited_for() {
    let port = Port::open();
    let (mut waiter, mut other) = (port.connect(), port.connect());
    send(&mut waiter, "SET a 1\r\nWAIT 1 0\r\n");
    expect(&mut waiter, "+OK\r\n");
    until(|| waiter_count(&port) == 1);
    send(&mut other, "CLIENT KILL ID 1\r\n");
    expect(&mut other, ":1\r\n");
    until(|| waiter_count(&port) == 0);
}
