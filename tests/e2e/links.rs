//! Links between real nodes: shapes, refusals, protection, and peers that are none.

mod hostile;
mod masters;
mod proofs;

use crate::cluster::{Cluster, Shape, name};
use crate::node::wait_until;
use std::time::{Duration, Instant};

/// How long a node that stops waits for others to have its last writes.
const HANDOVER_WAIT: Duration = Duration::from_secs(2);

/// Writes on every node, its own keys and one that all write.
fn write_everywhere(cluster: &Cluster) {
    for index in cluster.up() {
        let mut client = cluster.client(index);
        for number in 0..20 {
            let key = format!("{}-{number}", name(index));
            assert_eq!(client.command(&["SET", &key, &key]), "+OK");
        }
        assert_eq!(client.command(&["SET", "all", &name(index)]), "+OK");
        assert!(client.command(&["INCR", "count"]).starts_with(':'));
    }
}

#[track_caller]
fn check_shape(shape: Shape) {
    let cluster = Cluster::start(shape);
    write_everywhere(&cluster);
    let count = shape.node_count();
    let is_whole = || {
        let content = cluster.converge();
        (content.len() == 20 * count + 2).then_some(content)
    };
    let content = wait_until("every write is everywhere", is_whole);
    assert_eq!(content["count"].0, format!("${count}"), "each increment counts once");
}

#[test]
fn a_pair_converges() {
    check_shape(Shape::Pair);
}

#[test]
fn a_one_way_ring_converges() {
    check_shape(Shape::Ring(4));
}

#[test]
fn a_mesh_converges() {
    check_shape(Shape::Mesh(4));
}

#[test]
fn a_star_converges() {
    check_shape(Shape::Star(4));
}

#[test]
fn a_line_that_lost_its_middle_is_whole_again() {
    let cluster = Cluster::start(Shape::Line(3));
    cluster.isolate(1);
    cluster.wait_unlinked(0, 1);
    cluster.wait_unlinked(1, 2);
    write_everywhere(&cluster);
    cluster.heal();
    cluster.wait_linked();
    let content = wait_until("every write is everywhere", || {
        let content = cluster.converge();
        (content.len() == 62).then_some(content)
    });
    assert_eq!((&*content["all"].0, &*content["count"].0), ("$n2", "$3"), "the newest, and all");
}

#[test]
fn a_slow_link_holds_nobody_up() {
    let cluster = Cluster::start(Shape::Mesh(3));
    // Two megabytes take 100 seconds over one of these.
    let limit = |bytes_per_s| {
        [0, 1].iter().for_each(|one| cluster.between(*one, 2).for_each(|it| it.limit(bytes_per_s)));
    };
    limit(20_000);
    let mut client = cluster.client(0);
    let value = "x".repeat(10_000);
    for number in 0..200 {
        assert_eq!(client.command(&["SET", &format!("k{number}"), &value]), "+OK");
    }
    assert_eq!(client.command(&["WAIT", "1", "60000"]), ":1");
    let slow = cluster.command(2, &["DBSIZE"]);
    assert_ne!(slow, ":200", "the one at the slow links was not waited for");
    limit(0);
    assert_eq!(client.command(&["WAIT", "2", "60000"]), ":2");
    assert_eq!(cluster.converge().len(), 200);
}

#[test]
fn values_of_any_size_arrive() {
    let cluster = Cluster::start(Shape::Pair);
    let sizes = [0, 1, 1_000, 16 << 10, 70_000, 300 << 10, 5 << 20];
    let mut client = cluster.client(0);
    for size in sizes {
        let value: String = (0..size).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
        assert_eq!(client.command(&["SET", &size.to_string(), &value]), "+OK");
    }
    assert_eq!(client.command(&["WAIT", "1", "60000"]), ":1");
    assert_eq!(cluster.converge().len(), sizes.len());
}

#[test]
fn large_values_pass_over_a_slow_link_once() {
    // A peer that is told of an op which takes longer to come than it waits asks for it again.
    let cluster = Cluster::start(Shape::Pair);
    for way in cluster.between(0, 1) {
        way.delay_ms(10);
        way.limit(4_000_000);
    }
    let passed = || cluster.between(0, 1).map(|way| way.bytes()).sum::<u64>();
    let before = passed();
    let mut number = 1_u32;
    let mut next = || {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'0' + (number >> 24) as u8 % 75)
    };
    let value: String = (0..1 << 20).map(|_| next()).collect();
    let mut client = cluster.client(0);
    for key in 0..6 {
        assert_eq!(client.command(&["SET", &key.to_string(), &value]), "+OK");
    }
    assert_eq!(client.command(&["WAIT", "1", "30000"]), ":1");
    let passed = passed() - before;
    println!("{passed} bytes for 6 MiB");
    assert!(passed < 7 << 20, "{passed} bytes for 6 MiB");
}

#[test]
fn a_cut_link_comes_back_and_with_it_what_was_written_meanwhile() {
    let cluster = Cluster::start(Shape::Pair);
    cluster.cut(0, 1);
    cluster.wait_unlinked(0, 1);
    write_everywhere(&cluster);
    cluster.wait_for(0, &["GET", "all"], "$n0");
    cluster.heal();
    cluster.wait_linked();
    let content = wait_until("both have both", || {
        let content = cluster.converge();
        (content.len() == 42).then_some(content)
    });
    assert_eq!((&*content["all"].0, &*content["count"].0), ("$n1", "$2"));
}

#[test]
fn a_link_that_is_silent_one_way_is_given_up_and_made_anew() {
    let cluster = Cluster::start(Shape::Pair);
    // Both of its connections are up once a large value has come.
    assert_eq!(cluster.command(0, &["SET", "large", &"x".repeat(100_000)]), "+OK");
    cluster.wait_for(1, &["STRLEN", "large"], ":100000");
    cluster.mute(0, 1);
    assert_eq!(cluster.command(0, &["SET", "k", "v"]), "+OK");
    // Node 1 hears nothing any more, though what it says arrives.
    cluster.node(1).wait_for_log("nothing was heard for too long");
    cluster.heal();
    cluster.wait_for(1, &["GET", "k"], "$v");
}

#[test]
fn a_restarted_node_gets_everything_again() {
    let mut cluster = Cluster::start(Shape::Mesh(3));
    write_everywhere(&cluster);
    let is_everywhere = || (cluster.converge().len() == 62).then_some(());
    wait_until("every write is everywhere", is_everywhere);
    cluster.kill(1);
    assert_eq!(cluster.command(0, &["SET", "late", "1"]), "+OK");
    cluster.start_node(1);
    cluster.wait_linked();
    let content = wait_until("the third has it, too", || {
        let content = cluster.converge();
        content.contains_key("late").then_some(content)
    });
    assert_eq!(content.len(), 63);
}

#[test]
fn a_node_that_stops_hands_over_its_last_writes() {
    // It has two seconds for that: on a machine where that is not enough it is tried again.
    wait_until("there was time for it", || {
        let mut cluster = Cluster::start(Shape::Pair);
        cluster.delay_ms(50);
        let mut client = cluster.client(0);
        for number in 0..1_000 {
            client.send_command(&["SET", &format!("k{number}"), "v"]);
        }
        for _ in 0..1_000 {
            assert_eq!(client.reply(), "+OK");
        }
        let began = Instant::now();
        cluster.stop(0);
        let (took, count) = (began.elapsed(), cluster.content(1, 0).len());
        assert!(count == 1_000 || took >= HANDOVER_WAIT, "{count} of 1000, in {took:?}");
        cluster.node(1).wait_for_log("the node there stops");
        (count == 1_000).then_some(())
    });
}

#[test]
fn peers_are_added_and_removed_while_nodes_run() {
    let cluster = Cluster::start_unlinked(Shape::Star(3), |_| Vec::new());
    cluster.wait_linked();
    let dialled = cluster.proxy(1, 0).address();
    let (host, port) = (dialled.ip().to_string(), dialled.port().to_string());
    assert_eq!(cluster.command(1, &["REPLICAOF", "REMOVE", &host, &port]), "+OK");
    cluster.wait_unlinked(0, 1);
    assert_eq!(cluster.command(0, &["SET", "k", "v"]), "+OK");
    cluster.wait_for(2, &["GET", "k"], "$v");
    assert_eq!(cluster.command(1, &["GET", "k"]), "$-1");
    assert_eq!(cluster.command(1, &["REPLICAOF", &host, &port]), "+OK");
    cluster.wait_for(1, &["GET", "k"], "$v");
}

#[test]
fn a_node_whose_peer_was_faster_does_not_dial_it_as_well() {
    let cluster = Cluster::start(Shape::Pair);
    cluster.cut(0, 1);
    cluster.wait_unlinked(0, 1);
    cluster.proxy(1, 0).heal();
    wait_until("node 1 has dialled", || cluster.is_linked(0, 1).then_some(()));
    // Node 0 has looked again, and is content: no dial of before is under way any more.
    wait_until("node 0 is content", || cluster.has_dialled(0, 1).then_some(()));
    let before = cluster.proxy(0, 1).connections();
    cluster.proxy(0, 1).heal();
    cluster.wait_linked();
    assert_eq!(cluster.proxy(0, 1).connections(), before);
    assert_eq!(cluster.command(0, &["SET", "k", "v"]), "+OK");
    cluster.wait_for(1, &["GET", "k"], "$v");
    // Without that link it dials.
    cluster.proxy(1, 0).cut();
    // It may be so soon that nobody sees them without a link.
    wait_until("node 0 has dialled", || {
        (cluster.proxy(0, 1).connections() > before && cluster.is_linked(0, 1)).then_some(())
    });
}

#[test]
fn a_node_that_is_told_to_dial_itself_lets_it_be() {
    let cluster = Cluster::start(Shape::Pair);
    let own = cluster.node(0).peers();
    let (host, port) = (own.ip().to_string(), own.port().to_string());
    assert_eq!(cluster.command(0, &["REPLICAOF", &host, &port]), "+OK");
    let name = format!("dns:localhost:{port}");
    let body = serde_json::json!({ "add": name }).to_string();
    let node = cluster.node(0);
    let added = node.http("POST", node.api, "/v1/cluster/peers", body.as_bytes());
    assert_eq!(added.status, 200, "{}", added.text());
    wait_until("it knows itself", || {
        let view = cluster.view(0);
        let peers = view["replication"]["peers"].as_array()?;
        let own = peers.iter().filter(|peer| peer["state"] == "itself").count();
        (own >= 2 && view["replication"]["floor_held"] == false).then_some(())
    });
    assert_eq!(cluster.command(0, &["SET", "k", "v"]), "+OK");
    cluster.wait_for(1, &["GET", "k"], "$v");
}

#[test]
fn all_nodes_behind_a_name_are_linked() {
    let cluster = Cluster::start_unlinked(Shape::Star(2), |index| match index {
        0 => vec!["--peers-listen".into(), "127.0.0.1:0".into()],
        _ => Vec::new(),
    });
    cluster.wait_linked();
    let name = format!("dns:localhost:{}", cluster.node(1).peers().port());
    let body = serde_json::json!({ "add": name }).to_string();
    let node = cluster.node(0);
    assert_eq!(node.http("POST", node.api, "/v1/cluster/peers", body.as_bytes()).status, 200);
    wait_until("the name is one more way to the same node", || {
        let view = cluster.view(0);
        let peers = view["replication"]["peers"].as_array()?;
        let named = peers.iter().find(|peer| peer["endpoint"] == name && peer["state"] == "up")?;
        (named["node"] == "n1").then_some(())
    });
}
