//! A node without room for what another writes: it says so, so does the other, and with room it
//! gets what it lacks.

use crate::cluster::{Cluster, Shape};
use crate::node::{ATOLL, RespClient, wait_until};
use crate::tools::run;

/// Keys that are written to the node with room for them.
const KEY_COUNT: usize = 20_000;
/// Bytes of each value.
const VALUE_BYTES: usize = 200;

/// Sends all commands and then reads all replies, in parts that fit any buffer.
fn pipeline(client: &mut RespClient, commands: impl Iterator<Item = Vec<String>>) {
    let commands: Vec<Vec<String>> = commands.collect();
    for some in commands.chunks(500) {
        for command in some {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            client.send_command(&words);
        }
        for command in some {
            let reply = client.reply();
            assert!(!reply.starts_with('-'), "{command:?}: {reply}");
        }
    }
}

fn key_count(cluster: &Cluster, index: usize) -> usize {
    let reply = cluster.command(index, &["DBSIZE"]);
    reply[1..].parse().expect("a number")
}

/// A pair whose second node has no room for half of what was written to the first, and says so.
fn full_pair(log_max: &str) -> Cluster {
    let flags = |index| match index {
        0 => vec!["--log-max".to_owned(), log_max.to_owned()],
        _ => vec!["--memory-max".to_owned(), "3MiB".to_owned()],
    };
    let cluster = Cluster::start_with(Shape::Pair, flags);
    let value = "v".repeat(VALUE_BYTES);
    let set = |number| vec!["SET".to_owned(), format!("k{number}"), value.clone()];
    pipeline(&mut cluster.client(0), (0..KEY_COUNT).map(set));
    wait_until("the second node is full", || {
        let is_over = cluster.metric(1, "atoll_memory_used_bytes")
            > cluster.metric(1, "atoll_memory_max_bytes");
        is_over.then_some(())
    });
    cluster
}

/// What is seen of it on both sides.
#[track_caller]
fn check_seen(cluster: &Cluster) {
    // It took a little more than its budget, and nothing since.
    assert!(is_within_bounds(cluster));
    let refused = cluster.command(1, &["SET", "own", "v"]);
    assert!(refused.starts_with("-OOM"), "{refused}");
    let node = cluster.node(1);
    let shown = run(ATOLL, &["status", "--api", &format!("http://{}", node.api)]);
    assert!(shown.contains("! memory is full: writes are refused"), "{shown}");
    // The other sees how far it is behind, and is linked with it all the same.
    wait_until("what it lacks shows", || {
        let behind = cluster.view(0)["replication"]["links"][0]["behind"].as_u64()?;
        let lacks = KEY_COUNT - key_count(cluster, 1);
        (behind as usize >= lacks && lacks > KEY_COUNT / 4).then_some(())
    });
    assert!(cluster.metric(0, "atoll_link_behind_ops{peer=\"n1\"}") > 0.0);
    wait_until("the full node says why nothing comes", || {
        let link = &cluster.view(1)["replication"]["links"][0];
        (link["state"] == "paused-memory-full").then_some(())
    });
    assert_eq!(cluster.command(0, &["WAIT", "1", "100"]), ":0");
}

#[track_caller]
fn wait_for_lag(cluster: &Cluster) {
    wait_until("the lag shows", || {
        let lag_s = cluster.metric(0, "atoll_link_lag_seconds{peer=\"n1\"}");
        (lag_s > 0.5).then_some(())
    });
}

fn is_within_bounds(cluster: &Cluster) -> bool {
    let max = cluster.metric(1, "atoll_memory_max_bytes");
    cluster.metric(1, "atoll_memory_used_bytes") < max * 1.3
}

/// Makes room on the full node, and waits until it has all that it lacked.
#[track_caller]
fn check_repaired(cluster: &Cluster) {
    // It serves what it has. Without that there is room for all the rest.
    let mut client = cluster.client(1);
    let held = client.list(&["KEYS", "*"]);
    let delete = |key: &String| vec!["DEL".to_owned(), key[1..].to_owned()];
    pipeline(&mut client, held.iter().map(delete));
    let want = format!(":{}", KEY_COUNT - held.len());
    cluster.wait_for(1, &["DBSIZE"], &want);
    cluster.wait_for(0, &["DBSIZE"], &want);
    assert_eq!(cluster.command(0, &["WAIT", "1", "60000"]), ":1");
    assert!(is_within_bounds(cluster));
    assert_eq!(cluster.converge().len(), KEY_COUNT - held.len());
}

#[test]
fn a_node_without_room_is_seen_and_goes_on_with_the_log_once_it_has_some() {
    let cluster = full_pair("64MiB");
    check_seen(&cluster);
    wait_for_lag(&cluster);
    check_repaired(&cluster);
}

#[test]
fn a_node_without_room_is_seen_and_compares_once_it_has_some() {
    let cluster = full_pair("256KiB");
    check_seen(&cluster);
    check_repaired(&cluster);
}

#[test]
fn the_lag_of_a_node_that_the_log_does_not_reach_shows() {
    wait_for_lag(&full_pair("256KiB"));
}
