//! Partitions, crashes and restarts: nothing is lost, nothing comes back.

use super::check_after;
use crate::cluster::{Cluster, Shape};
use std::time::Duration;

/// A pair in which `k` is `old` everywhere, then cut.
fn cut_pair() -> Cluster {
    let cluster = Cluster::start(Shape::Pair);
    check_after(&cluster, &[(0, &["SET", "k", "old"])], "k", "$old");
    cluster.cut(0, 1);
    cluster.wait_unlinked(0, 1);
    cluster
}

fn a_moment() {
    // Between two writes whose order matters: their clocks are one machine's.
    std::thread::sleep(Duration::from_millis(20));
}

#[test]
fn after_a_partition_the_newest_write_stands_on_both() {
    let cluster = cut_pair();
    cluster.command(0, &["SET", "k", "first"]);
    a_moment();
    check_after(&cluster, &[(1, &["SET", "k", "second"])], "k", "$second");
}

#[test]
fn a_set_that_is_newer_than_a_delete_elsewhere_stands() {
    let cluster = cut_pair();
    cluster.command(0, &["DEL", "k"]);
    a_moment();
    check_after(&cluster, &[(1, &["SET", "k", "newer"])], "k", "$newer");
}

#[test]
fn a_delete_that_is_newer_than_a_set_elsewhere_stands() {
    let cluster = cut_pair();
    cluster.command(1, &["SET", "k", "older"]);
    a_moment();
    check_after(&cluster, &[(0, &["DEL", "k"])], "k", "$-1");
}

#[test]
fn a_delete_survives_a_partition_in_which_the_log_overflows() {
    let small = |_| vec!["--log-max".to_owned(), "64KiB".to_owned()];
    let cluster = Cluster::start_with(Shape::Pair, small);
    check_after(&cluster, &[(0, &["SET", "k", "old"])], "k", "$old");
    cluster.cut(0, 1);
    cluster.wait_unlinked(0, 1);
    cluster.command(0, &["DEL", "k"]);
    let value = "v".repeat(900);
    for node in 0..2 {
        let mut client = cluster.client(node);
        for number in 0..500 {
            client.command(&["SET", &format!("{node}-{number}"), &value]);
        }
    }
    check_after(&cluster, &[], "k", "$-1");
    for node in 0..2 {
        cluster.wait_for(node, &["DBSIZE"], ":1000");
    }
}

#[test]
fn increments_on_both_sides_of_a_partition_all_count() {
    let small = |_| vec!["--log-max".to_owned(), "16KiB".to_owned()];
    let cluster = Cluster::start_with(Shape::Pair, small);
    cluster.cut(0, 1);
    cluster.wait_unlinked(0, 1);
    for (node, count) in [(0, 1_000), (1, 700)] {
        let mut client = cluster.client(node);
        (0..count).for_each(|_| drop(client.command(&["INCR", "n"])));
    }
    check_after(&cluster, &[], "n", "$1700");
}

#[test]
fn what_a_flush_removed_stays_away_and_what_came_after_it_stays() {
    let cluster = Cluster::start(Shape::Pair);
    let mut client = cluster.client(1);
    for number in 0..500 {
        client.command(&["SET", &format!("k{number}"), "v"]);
    }
    cluster.converge();
    cluster.isolate(0);
    cluster.wait_unlinked(0, 1);
    cluster.command(0, &["FLUSHALL"]);
    a_moment();
    check_after(&cluster, &[(1, &["SET", "after", "v"])], "after", "$v");
    assert_eq!(cluster.converge().len(), 1);
}

#[test]
fn a_delete_made_while_a_node_was_down_holds_after_it_restarts_from_its_disk() {
    let disks: Vec<_> = (0..2).map(|_| tempfile::tempdir().expect("there is a disk")).collect();
    let flags = |node: usize| {
        vec!["--data".to_owned(), disks[node].path().join("data").display().to_string()]
    };
    let mut cluster = Cluster::start_with(Shape::Pair, flags);
    check_after(&cluster, &[(0, &["SET", "k", "v"]), (0, &["SET", "stays", "v"])], "stays", "$v");
    cluster.stop(1);
    cluster.command(0, &["DEL", "k"]);
    cluster.start_node(1);
    cluster.wait_linked();
    check_after(&cluster, &[], "k", "$-1");
    assert_eq!(cluster.command(1, &["GET", "stays"]), "$v");
}

#[test]
fn a_node_that_is_killed_under_load_comes_back_with_everything() {
    let mut cluster = Cluster::start(Shape::Mesh(3));
    for round in 0..3 {
        let victim = round % 3;
        std::thread::scope(|scope| {
            for node in (0..3).filter(|node| *node != victim) {
                let mut client = cluster.client(node);
                scope.spawn(move || {
                    for number in 0..500 {
                        client.command(&["SET", &format!("{round}-{node}-{number}"), "v"]);
                        client.command(&["INCR", "n"]);
                    }
                });
            }
        });
        cluster.kill(victim);
        cluster.command((victim + 1) % 3, &["DEL", &format!("{round}-{}-0", (victim + 1) % 3)]);
        cluster.start_node(victim);
        cluster.wait_linked();
    }
    check_after(&cluster, &[], "n", "$3000");
}

#[test]
fn links_that_break_again_and_again_under_load_end_equal() {
    let cluster = Cluster::start(Shape::Mesh(3));
    std::thread::scope(|scope| {
        for node in 0..3 {
            let mut client = cluster.client(node);
            scope.spawn(move || {
                for number in 0..1_500 {
                    let key = format!("k{}", number % 97);
                    let value = format!("{node}-{number}");
                    match number % 5 {
                        0 => client.command(&["DEL", &key]),
                        1 => client.command(&["INCR", &format!("n{}", number % 7)]),
                        2 => client.command(&["SET", &key, &value, "PX", "60000"]),
                        _ => client.command(&["SET", &key, &value]),
                    };
                }
            });
        }
        for (one, other) in [(0, 1), (1, 2), (0, 2), (0, 1), (1, 2)] {
            cluster.cut(one, other);
            a_moment();
            cluster.heal();
            a_moment();
        }
    });
    cluster.heal();
    let content = cluster.converge();
    assert!(content.len() > 50);
}
