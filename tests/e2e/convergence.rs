//! What a cluster of real nodes must hold, whoever wrote what where, and whatever was cut, killed
//! or stopped meanwhile: the newest write wins on every node.

mod clocks;
mod faults;
mod memory;
mod traffic;

use crate::cluster::{Cluster, Shape};
use crate::node::wait_until;

/// Runs `writes`, pairs of a node and a command, one after the other, and waits until all nodes
/// hold the same.
#[track_caller]
fn check_after(cluster: &Cluster, writes: &[(usize, &[&str])], key: &str, want: &str) {
    for (node, command) in writes {
        let reply = cluster.command(*node, command);
        assert!(!reply.starts_with('-'), "{command:?}: {reply}");
    }
    cluster.heal();
    for node in cluster.up() {
        cluster.wait_for(node, &["GET", key], want);
    }
    cluster.converge();
}

#[test]
fn both_of_a_pair_are_active_replicas_and_take_writes() {
    let cluster = Cluster::start(Shape::Pair);
    for node in 0..2 {
        let info = cluster.command(node, &["INFO", "replication"]);
        assert!(info.contains("role:active-replica"), "{info}");
        assert!(info.contains("master_link_status:up"), "{info}");
    }
    check_after(&cluster, &[(0, &["SET", "a", "x"])], "a", "$x");
    check_after(&cluster, &[(1, &["SET", "b", "nul\0byte"])], "b", "$nul\0byte");
}

#[test]
fn wait_tells_the_truth_while_a_peer_is_stopped() {
    let cluster = Cluster::start(Shape::Pair);
    for node in 0..2 {
        let mut client = cluster.client(node);
        client.command(&["SET", "k", "v"]);
        assert_eq!(client.command(&["WAIT", "1", "60000"]), ":1");
    }
    cluster.node(1).signal("STOP");
    let mut client = cluster.client(0);
    client.command(&["SET", "k", "w"]);
    assert_eq!(client.command(&["WAIT", "1", "200"]), ":0");
    cluster.node(1).signal("CONT");
    assert_eq!(client.command(&["WAIT", "1", "60000"]), ":1");
}

#[test]
fn deadlines_travel_with_their_values_and_pass_without_their_writer() {
    let cluster = Cluster::start(Shape::Pair);
    let mut client = cluster.client(0);
    client.command(&["SET", "long", "v", "PX", "600000"]);
    client.command(&["SET", "short", "v", "PX", "600"]);
    client.command(&["SET", "later", "v"]);
    client.command(&["PEXPIRE", "later", "600"]);
    // It has come with its deadline, and so have those that may have ended meanwhile.
    assert_eq!(client.command(&["WAIT", "1", "60000"]), ":1");
    assert_eq!(cluster.command(1, &["GET", "long"]), "$v");
    let deadline = client.command(&["PEXPIRETIME", "long"]);
    assert_eq!(cluster.command(1, &["PEXPIRETIME", "long"]), deadline);
    cluster.node(0).signal("STOP");
    cluster.wait_for(1, &["GET", "short"], "$-1");
    cluster.wait_for(1, &["GET", "later"], "$-1");
    cluster.node(0).signal("CONT");
    cluster.wait_for(0, &["EXISTS", "short", "later"], ":0");
}

#[test]
fn databases_are_not_mixed_on_the_way() {
    let cluster = Cluster::start(Shape::Pair);
    for database in ["3", "7"] {
        let mut client = cluster.client(0);
        client.command(&["SELECT", database]);
        client.command(&["SET", "k", database]);
    }
    for database in [3, 7] {
        let content = wait_until("the key arrives", || {
            Some(cluster.converge_in(database)).filter(|content| !content.is_empty())
        });
        assert_eq!(content["k"].0, format!("${database}"));
    }
    assert_eq!(cluster.command(1, &["EXISTS", "k"]), ":0");
}

#[test]
fn a_counter_that_three_nodes_count_on_counts_each_once() {
    let cluster = Cluster::start(Shape::Mesh(3));
    for round in 0..30 {
        let key = format!("n{round}");
        cluster.command(0, &["SET", &key, "1"]);
        for node in 1..3 {
            cluster.wait_for(node, &["GET", &key], "$1");
        }
        check_after(&cluster, &[(1, &["INCR", &key]), (2, &["INCR", &key])], &key, "$3");
    }
}

#[test]
fn the_last_of_writes_that_follow_one_another_around_the_nodes_wins() {
    let cluster = Cluster::start(Shape::Mesh(4));
    cluster.delay_ms(20);
    let writes: Vec<[String; 3]> =
        (0..4).map(|node| ["SET".into(), "k".into(), format!("v{node}")]).collect();
    for (node, write) in writes.iter().enumerate() {
        cluster.command(node, &[&write[0], &write[1], &write[2]]);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    check_after(&cluster, &[], "k", "$v3");
}

#[test]
fn writes_from_both_sides_at_once_end_equal() {
    let cluster = Cluster::start(Shape::Pair);
    std::thread::scope(|scope| {
        for node in 0..2 {
            let mut client = cluster.client(node);
            scope.spawn(move || {
                for number in 0..2_000 {
                    let key = format!("k{}", number % 500);
                    client.command(&["SET", &key, &format!("{node}-{number}")]);
                }
            });
        }
    });
    assert_eq!(cluster.converge().len(), 500);
}

#[test]
fn increments_on_one_side_of_a_set_on_the_other_end_equal() {
    let cluster = Cluster::start(Shape::Pair);
    cluster.delay_ms(20);
    std::thread::scope(|scope| {
        let (mut one, mut other) = (cluster.client(0), cluster.client(1));
        scope.spawn(move || (0..200).for_each(|_| drop(one.command(&["INCR", "m"]))));
        scope.spawn(move || (0..5).for_each(|_| drop(other.command(&["SET", "m", "1000"]))));
    });
    cluster.converge();
}

#[test]
fn a_flush_beside_writes_elsewhere_ends_equal() {
    let cluster = Cluster::start(Shape::Pair);
    cluster.delay_ms(20);
    std::thread::scope(|scope| {
        let (mut one, mut other) = (cluster.client(0), cluster.client(1));
        scope.spawn(move || {
            for number in 0..1_000 {
                one.command(&["SET", &format!("k{number}"), "v"]);
            }
        });
        scope.spawn(move || (0..3).for_each(|_| drop(other.command(&["FLUSHALL"]))));
    });
    cluster.converge();
}

#[test]
fn a_message_reaches_every_node_once() {
    let cluster = Cluster::start(Shape::Mesh(3));
    let mut listeners: Vec<_> = (0..3).map(|node| cluster.client(node)).collect();
    for listener in &mut listeners {
        let reply = listener.list(&["SUBSCRIBE", "news"]);
        assert_eq!(reply[1], "$news");
    }
    for number in 0..10 {
        cluster.command(number % 3, &["PUBLISH", "news", &number.to_string()]);
    }
    cluster.command(0, &["PUBLISH", "news", "end"]);
    for listener in &mut listeners {
        let mut heard = Vec::new();
        while heard.iter().filter(|text| **text == "$end").count() < 1 || heard.len() < 11 {
            assert_eq!(listener.reply(), "*3");
            let parts = [listener.reply(), listener.reply(), listener.reply()];
            heard.push(parts[2].clone());
        }
        heard.sort();
        heard.dedup();
        assert_eq!(heard.len(), 11, "each once: {heard:?}");
    }
}

#[test]
fn a_replica_follows_and_refuses_writes() {
    let flags = |node| match node {
        2 => vec!["--role".to_owned(), "replica".to_owned()],
        _ => Vec::new(),
    };
    let cluster = Cluster::start_with(Shape::Mesh(3), flags);
    check_after(&cluster, &[(0, &["SET", "k", "v"]), (1, &["INCR", "n"])], "k", "$v");
    assert!(cluster.command(2, &["SET", "k", "w"]).starts_with("-READONLY"));
    let node = cluster.node(2);
    let reply = node.http("PUT", node.api, "/v1/kv/default/k", b"w");
    assert_eq!(reply.status, 403);
    assert_eq!(cluster.command(0, &["GET", "k"]), "$v");
}

#[test]
fn nodes_that_had_keys_of_their_own_hold_all_of_them_once_they_are_linked() {
    let cluster = Cluster::start_with(Shape::Star(3), |_| Vec::new());
    cluster.cut(0, 1);
    cluster.cut(0, 2);
    for node in 0..3 {
        let mut client = cluster.client(node);
        for number in 0..100 {
            client.command(&["SET", &format!("{node}-{number}"), "v", "EX", "600"]);
        }
    }
    cluster.heal();
    let whole = || Some(cluster.converge()).filter(|content| content.len() == 300);
    let content = wait_until("all keys are everywhere", whole);
    assert!(content.values().all(|(_, deadline)| deadline != ":-1"), "deadlines included");
}

#[test]
fn a_write_passes_along_a_line_whose_last_link_is_slow() {
    let cluster = Cluster::start(Shape::Line(3));
    cluster.proxy(1, 2).limit(200_000);
    let value = "v".repeat(1_000);
    let mut client = cluster.client(0);
    for number in 0..200 {
        client.command(&["SET", &format!("k{number}"), &value]);
    }
    cluster.wait_for(1, &["DBSIZE"], ":200");
    cluster.wait_for(2, &["DBSIZE"], ":200");
    cluster.converge();
}

#[test]
fn writes_of_one_key_on_both_sides_at_once_end_as_one_value() {
    let cluster = Cluster::start(Shape::Pair);
    cluster.delay_ms(20);
    for round in 0..20 {
        let key = format!("k{round}");
        std::thread::scope(|scope| {
            for (node, value) in [(0, "A"), (1, "B")] {
                let (mut client, key) = (cluster.client(node), &key);
                scope.spawn(move || client.command(&["SET", key, value]));
            }
        });
    }
    assert_eq!(cluster.converge().len(), 20);
}

#[test]
fn a_write_shortly_after_another_elsewhere_stands_though_it_had_not_heard_of_it() {
    let cluster = Cluster::start(Shape::Pair);
    cluster.delay_ms(20);
    cluster.command(0, &["SET", "k", "first"]);
    std::thread::sleep(std::time::Duration::from_millis(5));
    check_after(&cluster, &[(1, &["SET", "k", "second"])], "k", "$second");
}

#[test]
fn a_backup_is_not_restored_into_a_node_with_peers() {
    let cluster = Cluster::start(Shape::Pair);
    let node = cluster.node(0);
    let reply = node.http("PUT", node.api, "/v1/restore", b"");
    assert_eq!((reply.status, reply.json()["code"].as_str()), (409, Some("linked")));
    let reply = node.http("PUT", node.api, "/v1/restore?as=told", b"");
    assert_eq!((reply.status, reply.json()["code"].as_str()), (400, Some("bad-parameter")));
}

#[test]
fn a_backup_written_anew_reaches_all_and_hides_nothing_newer() {
    let cluster = Cluster::start(Shape::Pair);
    for (command, key, value) in [
        ("SET", "lost", "v"),
        ("SET", "changed", "old"),
        ("SET", "deleted", "v"),
        ("INCRBY", "count", "7"),
        ("SET", "kept", "v"),
    ] {
        assert!(!cluster.command(0, &[command, key, value]).starts_with('-'));
    }
    cluster.converge();
    let (node, other) = (cluster.node(0), cluster.node(1));
    let backup = node.http("GET", node.api, "/v1/backup", b"");
    for command in [&["SET", "changed", "new"][..], &["DEL", "deleted"], &["DEL", "count", "lost"]]
    {
        assert!(!cluster.command(1, command).starts_with('-'));
    }
    cluster.converge();
    // What was deleted is still known, so nothing is brought back.
    let path = "/v1/restore?as=writes";
    let reply = other.http("PUT", other.api, path, &backup.body);
    assert_eq!((reply.status, reply.json()["restored"].as_u64()), (200, Some(0)));
    // Once the cluster has forgotten it, it is as if it had never been there.
    for index in 0..2 {
        wait_until("the deletes are forgotten", || {
            (cluster.metric(index, "atoll_tombstones{bucket=\"default\"}") == 0.0).then_some(())
        });
    }
    let reply = other.http("PUT", other.api, path, &backup.body);
    assert_eq!((reply.status, reply.json()["restored"].as_u64()), (200, Some(3)));
    assert_eq!(cluster.converge().len(), 5);
    for (key, want) in [("lost", "$v"), ("changed", "$new"), ("count", "$7"), ("kept", "$v")] {
        assert_eq!(cluster.command(0, &["GET", key]), want);
    }
}
