//! What clients are told of other nodes, and how they wait for them.

use super::{Conversation, Open, START_MS};
use crate::clock::Now;
use crate::permission::{Circumstances, Links, Permission, StaleReads};
use crate::replica::status::{
    Counts, LinkState, LinkStatus, MemberStatus, Readiness, Role, Status,
};
use crate::resp::client::Mode;
use crate::resp::cluster::Peer;
use crate::resp::output::Output;
use crate::resp::session::{Flow, Wait};
use crate::resp::tests::written;
use crate::wire::op::EffectRef;
use std::sync::Arc;
use uuid::Uuid;

fn set_status(c: &Conversation, status: Status) {
    *c.server.cluster.status.lock().unwrap() = Arc::new(status);
}

/// A link with the node `name`, whose process is `number`.
fn link(name: &str, number: u128, address: &str) -> LinkStatus {
    let origin = Uuid::from_u128(number);
    LinkStatus { name: name.into(), origin, address: address.into(), ..LinkStatus::default() }
}

fn member(number: u128, seq: u64, holds_seq: u64) -> MemberStatus {
    let origin = Uuid::from_u128(number);
    MemberStatus { origin, seq, holds_seq, ..MemberStatus::default() }
}

fn peer(host: &str, node: Option<&str>) -> Peer {
    let since_ms = START_MS - 42_000;
    let node = node.map(str::to_owned);
    Peer { host: host.to_owned(), port: 7_400, is_up: node.is_some(), node, since_ms }
}

/// Linked with `lisbon`, cut off from `dead`, and `inbound` is linked by itself.
fn linked(role: Role) -> Status {
    Status {
        name: "self".to_owned(),
        cluster: "shop".to_owned(),
        role,
        skew_ms: -3,
        floor_age_ms: 20,
        log_bytes: 77,
        links: vec![
            LinkStatus {
                state: LinkState::Receiving,
                lag_ms: 4,
                behind: 2,
                silent_ms: 1_900,
                rtt_us: 350,
                skew_ms: 1,
                sent_bytes: 1_000,
                received_bytes: 2_000,
                ..link("lisbon", 1, "10.0.0.1:7400")
            },
            LinkStatus {
                state: LinkState::Sending,
                lag_ms: 9,
                ..link("inbound", 2, "[::1]:40000")
            },
        ],
        members: vec![member(1, 11, 21), member(2, 12, 22)],
        counts: Counts { divergence_total: 5, ..Counts::default() },
        ..Status::default()
    }
}

#[track_caller]
fn check_info(c: &mut Conversation, want: &[&str], absent: &[&str]) {
    let (reply, _) = c.send(b"INFO replication\r\n");
    let text = String::from_utf8(reply).unwrap();
    let lines: Vec<_> = text.split("\r\n").collect();
    for line in want {
        assert!(lines.contains(line), "{line} in {text}");
    }
    for part in absent {
        assert!(!text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_node_alone_is_a_plain_master() {
    let mut c = Conversation::new();
    c.send(b"SET a 1\r\nSET b 2\r\n");
    check_info(
        &mut c,
        &["role:master", "connected_slaves:0", "master_repl_offset:2", "repl_backlog_active:0"],
        &["master_host", "master_global_link_status", "slave0", "atoll_link0"],
    );
    c.check("ROLE", "*3 $6 master :2 *0");
}

#[test]
fn info_has_the_names_that_scripts_for_keydb_look_for() {
    let mut c = Conversation::new();
    set_status(&c, linked(Role::Master));
    *c.server.cluster.peers.lock().unwrap() = vec![peer("10.0.0.1", Some("lisbon"))];
    check_info(
        &mut c,
        &[
            "role:active-replica",
            "master_global_link_status:up",
            "connected_masters:1",
            "master_host:10.0.0.1",
            "master_port:7400",
            "master_link_status:up",
            "master_last_io_seconds_ago:1",
            "master_sync_in_progress:1",
            "slave_repl_offset:11",
            "slave_read_only:0",
            "connected_slaves:2",
            "slave0:ip=10.0.0.1,port=7400,state=online,offset=21,lag=1",
            "slave1:ip=::1,port=40000,state=send_bulk,offset=22,lag=0",
            "master_replid:0000000000000000000000000000000000000007",
            "atoll_cluster:shop",
            "atoll_readiness:ready",
            "atoll_skew_ms:-3",
            "atoll_floor_age_ms:20",
            "atoll_log_bytes:77",
            "atoll_divergent_keys:0",
            "atoll_divergence_total:5",
            "atoll_lag_ms:9",
            "atoll_link0:node=lisbon,role=master,address=10.0.0.1:7400,state=receiving-sync,\
             lag_ms=4,behind=2,silent_ms=1900,rtt_us=350,skew_ms=1,sent_bytes=1000,\
             received_bytes=2000",
        ],
        &["master_link_down_since_seconds", "master_1_host"],
    );
}

#[test]
fn one_peer_that_cannot_be_reached_shows() {
    let mut c = Conversation::new();
    set_status(&c, linked(Role::Master));
    let never = Peer { since_ms: 0, ..peer("new", None) };
    *c.server.cluster.peers.lock().unwrap() =
        vec![peer("10.0.0.1", Some("lisbon")), peer("dead", None), never];
    check_info(
        &mut c,
        &[
            "master_global_link_status:down",
            "connected_masters:1",
            "master_link_status:up",
            "master_1_host:dead",
            "master_1_port:7400",
            "master_1_link_status:down",
            "master_1_last_io_seconds_ago:-1",
            "master_1_sync_in_progress:0",
            "master_1_link_down_since_seconds:42",
            "master_2_link_down_since_seconds:-1",
        ],
        &["master_link_down_since_seconds"],
    );
}

#[test]
fn who_is_linked_from_outside_only_is_an_active_replica_too() {
    let mut c = Conversation::new();
    set_status(&c, linked(Role::Master));
    let want = ["role:active-replica", "master_global_link_status:up", "connected_masters:0"];
    check_info(&mut c, &want, &["master_host"]);
}

#[test]
fn a_replica_is_a_slave_to_old_clients() {
    let mut c = Conversation::new();
    set_status(&c, linked(Role::Replica));
    c.check("ROLE", "*5 $5 slave $0  :0 $7 connect :-1");
    *c.server.cluster.peers.lock().unwrap() =
        vec![peer("dead", None), peer("10.0.0.1", Some("lisbon"))];
    check_info(&mut c, &["role:slave", "slave_read_only:1", "atoll_role:replica"], &[]);
    c.check("ROLE", "*5 $5 slave $8 10.0.0.1 :7400 $4 sync :11");
    *c.server.cluster.peers.lock().unwrap() = vec![peer("dead", None)];
    c.check("ROLE", "*5 $5 slave $4 dead :7400 $10 connecting :-1");
    let (reply, _) = c.send(b"HELLO\r\n");
    assert!(String::from_utf8(reply).unwrap().contains("role\r\n$7\r\nreplica\r\n"));
    c.check("CONFIG GET replica-read-only", "*2 $17 replica-read-only $3 yes");
}

#[test]
fn a_master_lists_who_follows_it() {
    let mut c = Conversation::new();
    set_status(&c, linked(Role::Master));
    c.check("ROLE", "*3 $6 master :0 *2 *3 $8 10.0.0.1 $4 7400 $2 21 *3 $3 ::1 $5 40000 $2 22");
    c.check("CONFIG GET replica-read-only", "*2 $17 replica-read-only $2 no");
    c.check("CONFIG GET active-replica", "*2 $14 active-replica $3 yes");
}

#[test]
fn peers_are_added_and_taken_away_while_the_node_runs() {
    let mut c = Conversation::new();
    c.check("REPLICAOF 10.0.0.1 7400", "+OK");
    c.check("slaveof ::1 7400", "+OK");
    c.check("REPLICAOF REMOVE 10.0.0.1 7400", "+OK");
    c.check("REPLICAOF no ONE", "+OK");
    c.check("REPLICAOF REMOVE unknown 7400", "-ERR nobody of that name");
    for (port, number) in [("0", 1), ("65536", 2), ("x", 3), ("-1", 4)] {
        c.check(&format!("REPLICAOF host{number} {port}"), "-ERR Invalid master port");
    }
    c.check("REPLICAOF ADD host 7400", "-ERR syntax error");
    c.check("REPLICAOF host", "-ERR wrong number of arguments for 'replicaof' command");
    c.check("REPLICAOF \"\\xff\" 7400", "-ERR syntax error");
    let want = [
        "Add { host: \"10.0.0.1\", port: 7400 }",
        "Add { host: \"::1\", port: 7400 }",
        "Remove { host: \"10.0.0.1\", port: 7400 }",
        "Clear",
    ];
    assert_eq!(*c.server.cluster.changes.lock().unwrap(), want);
}

#[test]
fn a_replica_does_not_pretend_to_become_a_master() {
    let mut c = Conversation::new();
    set_status(&c, linked(Role::Replica));
    let (reply, _) = c.send(b"REPLICAOF NO ONE\r\n");
    let reply = String::from_utf8(reply).unwrap();
    assert!(reply.starts_with("-ERR this node was started as a replica"), "{reply}");
    c.check("REPLICAOF host 7400", "+OK");
    assert_eq!(c.server.cluster.changes.lock().unwrap().len(), 1);
}

#[test]
fn a_wait_that_is_over_already_is_answered_at_once() {
    let mut c = Conversation::new();
    c.send(b"SET a 1\r\nSET b 2\r\n");
    *c.server.cluster.holders.lock().unwrap() = vec![2, 1, 3];
    c.check("WAIT 0 0", ":2");
    c.check("WAIT 2 0", ":2");
    c.check("WAIT -1 100", ":2");
    c.check("WAIT x 0", "-ERR value is not an integer or out of range");
    c.check("WAIT 1 x", "-ERR timeout is not an integer or out of range");
    c.check("WAIT 1 -1", "-ERR timeout is negative");
    c.check("WAIT 1", "-ERR wrong number of arguments for 'wait' command");
    c.check("WAITAOF 0 0 0", "-ERR WAITAOF is not supported; use WAIT for copies on other nodes");
    set_status(&c, linked(Role::Replica));
    c.check("WAIT 0 0", "-ERR WAIT cannot be used with replica instances.");
}

#[test]
fn a_wait_holds_back_its_reply_and_what_follows() {
    let mut c = Conversation::new();
    *c.server.cluster.holders.lock().unwrap() = vec![1];
    let (reply, open) = c.send(b"SET a 1\r\nSET b 2\r\nWAIT 1 250\r\nPING\r\n");
    assert_eq!((reply.as_slice(), open), (&b"+OK\r\n+OK\r\n"[..], Open::No));
    assert_eq!(c.session.waits_for(), Some(Wait { seq: 2, count: 1, timeout_ms: 250 }));
    assert_eq!(c.session.client().mode(), Mode::Waiting);
    let mut output = Output::default();
    assert_eq!(c.session.end_wait(0, &mut output), Flow::Continue);
    assert_eq!(written(&output), b":0\r\n");
    assert_eq!((c.session.waits_for(), c.session.client().mode()), (None, Mode::Normal));
    assert_eq!(c.resume(), (b"+PONG\r\n".to_vec(), Open::Yes));
}

#[test]
fn a_wait_is_for_what_was_written_and_not_for_what_nodes_say_of_one_another() {
    let mut c = Conversation::new();
    c.send(b"SET a 1\r\n");
    *c.server.cluster.holders.lock().unwrap() = vec![1];
    c.check("WAIT 1 0", ":1");
    let join = EffectRef::Join { origin: Uuid::from_u128(7), name: "other" };
    c.store.announce(Now::from_millis(1), join);
    assert_eq!((c.store.seq(), c.store.written_seq()), (2, 1));
    c.check("WAIT 1 0", ":1");
    c.send(b"SET a 2\r\n");
    assert_eq!((c.store.seq(), c.store.written_seq()), (3, 3));
}

#[test]
fn replies_that_are_not_wanted_are_not_wanted_after_a_wait_either() {
    let mut c = Conversation::new();
    let (reply, _) = c.send(b"CLIENT REPLY SKIP\r\nWAIT 1 0\r\n");
    assert_eq!(reply, b"");
    let mut output = Output::default();
    assert_eq!(c.session.end_wait(1, &mut output), Flow::Continue);
    assert_eq!(written(&output), b"");
    c.check("PING", "+PONG");
}

pub(super) fn refused(readiness: Readiness, role: Role, stale_reads: StaleReads) -> Permission {
    let links = Links { configured: 3, up: 1 };
    Permission::of(Circumstances { role, readiness, stale_reads, links })
}

#[test]
fn a_replica_refuses_every_write_and_serves_every_read() {
    let mut c = Conversation::new();
    c.send(b"SET k v\r\n");
    c.permission = refused(Readiness::Ready, Role::Replica, StaleReads::Served);
    let want = "-READONLY You can't write against a read only replica.";
    for write in ["SET k w", "DEL k", "INCR n", "EXPIRE k 10", "GETEX k", "FLUSHALL", "MSET a 1"] {
        c.check(write, want);
    }
    c.check("GET k", "$1 v");
    c.check("PING", "+PONG");
    c.check("SET k", "-ERR wrong number of arguments for 'set' command");
}

#[test]
fn a_skewed_or_superseded_node_says_so_to_writers() {
    let mut c = Conversation::new();
    for (readiness, want) in [
        (
            Readiness::Skewed,
            "-SKEWED this node's clock is too far from its peers'; writes are refused until it is \
             set right",
        ),
        (
            Readiness::Superseded,
            "-SUPERSEDED another process runs under this node's name; writes are refused here",
        ),
    ] {
        c.permission = refused(readiness, Role::Master, StaleReads::Served);
        c.check("SET k v", want);
        c.check("GET k", "$-1");
    }
}

#[test]
fn who_serves_nothing_stale_says_masterdown_below_the_quorum() {
    let mut c = Conversation::new();
    c.permission = refused(Readiness::Ready, Role::Master, StaleReads::Refused);
    let want = "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";
    for command in ["GET k", "SET k v", "SCAN 0", "TTL k", "DBSIZE"] {
        c.check(command, want);
    }
    c.check("PING", "+PONG");
    c.check("CONFIG GET replica-serve-stale-data", "*2 $24 replica-serve-stale-data $3 yes");
    c.check("CONFIG SET replica-serve-stale-data no", "+OK");
    assert_eq!(*c.server.cluster.stale_reads.lock().unwrap(), StaleReads::Refused);
    c.check("CONFIG SET slave-serve-stale-data yes", "+OK");
    c.check("CONFIG GET slave-serve-stale-data", "*2 $22 slave-serve-stale-data $3 yes");
    c.check("CONFIG SET slave-serve-stale-data perhaps", "-ERR CONFIG SET failed (possibly related to argument 'slave-serve-stale-data') - argument must be 'yes' or 'no'");
}
