//! What a person is shown, from the JSON that a node answers.

use super::*;
use serde_json::json;

fn node() -> serde_json::Value {
    json!({
        "name": "lisbon", "origin": "o", "version": "1.2.3", "uptime_s": 61, "ready": true,
        "unready": null, "handlers": [],
        "addresses": {"gateway": null, "api": "127.0.0.1:8081", "resp": null},
        "memory": {"used_bytes": 1_536, "max_bytes": 1_u64 << 30, "log_bytes": 5},
        "buckets": [{"name": "default", "keys": 2, "volatile_keys": 1, "used_bytes": 1_024}],
    })
}

fn alone() -> serde_json::Value {
    json!({
        "cluster": "", "role": "master", "seq": 0, "floor_age_ms": 0, "floor_held": false,
        "skew_ms": 0, "quorum": {"nodes": 1, "reached": 1, "has_quorum": true},
        "peers": [], "links": [], "members": [], "counts": {"divergence_total": 0},
    })
}

fn linked() -> serde_json::Value {
    let member = |name: &str, is_self: bool, readiness: &str| {
        json!({
            "name": name, "is_self": is_self, "role": "master", "seq": 5, "own_seq": 7,
            "holds_seq": 40, "linked": true, "silent_ms": 1_200, "readiness": readiness,
        })
    };
    let mut status = alone();
    status["cluster"] = json!("shop");
    status["seq"] = json!(42);
    status["quorum"] = json!({"nodes": 3, "reached": 2, "has_quorum": true});
    status["peers"] = json!([
        {"endpoint": "porto:7400", "target": "10.0.0.2:7400", "state": "up", "reason": null,
         "since_ms": 1_000},
        {"endpoint": "faro:7400", "target": "faro:7400", "state": "failed",
         "reason": "connection refused", "since_ms": 60_000},
    ]);
    status["links"] = json!([{
        "node": "porto", "role": "replica", "address": "10.0.0.2:7400", "since_ms": 1_000,
        "state": "streaming", "lag_ms": 3, "behind": 1, "rtt_us": 350, "skew_ms": -2,
        "sent_bytes": 2_048, "received_bytes": 9,
    }]);
    status["members"] = json!([member("lisbon", true, "ready"), member("porto", false, "joining")]);
    status
}

#[track_caller]
fn shown(replication: serde_json::Value) -> String {
    let answer = json!({"now_ms": 100_000, "nodes": [node()], "replication": replication});
    render(&serde_json::from_value(answer).expect("an answer"), Colours::Off)
}

#[test]
fn a_node_alone_says_so() {
    let want = "\
lisbon  ready

  version  1.2.3
  process  o
  uptime   1 min 1 s
  gateway  off
  API      127.0.0.1:8081
  RESP     off
  memory   1.5 KiB of 1.0 GiB, and 5 B of changes kept for watchers and links

cluster  master, linked with nobody; add a peer with --peer HOST:PORT

bucket   keys  with a deadline   memory
default     2                1  1.0 KiB
";
    assert_eq!(shown(alone()), want);
}

#[test]
fn what_is_wrong_comes_before_the_links() {
    let text = shown(linked());
    let want = "\
cluster  master of shop, 2 of 3 configured nodes reached, 1 linked
  ! porto is joining

link             address        state      lag  behind  round trip  clock     sent  received    up for
porto (replica)  10.0.0.2:7400  streaming  3 ms       1      0.3 ms  -2 ms  2.0 KiB       9 B  1 min 39 s

not linked  state    for  why
faro:7400   failed  40 s  connection refused

member  role    state    reached    lacks of ours  we lack    heard
lisbon  master  ready    this node
porto   master  joining  directly               2        2  1 s ago
";
    let squeezed = |text: &str| {
        text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let (text, want) = (squeezed(&text), squeezed(want));
    assert!(text.windows(want.len()).any(|part| part == want), "{text:#?}");
}

#[test]
fn each_trouble_has_its_line() {
    let trouble = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut status = linked();
        change(&mut status);
        shown(status)
    };
    for (path, value, want) in [
        ("quorum", json!({"nodes": 3, "reached": 1, "has_quorum": false}), "fewer than half"),
        ("counts", json!({"divergence_total": 2}), "2 keys differed"),
        ("skew_ms", json!(900), "900 ms ahead of the others'"),
        ("skew_ms", json!(-900), "900 ms behind the others'"),
        ("floor_held", json!(true), "a configured peer was never met"),
        ("floor_age_ms", json!(61_000), "received nothing for 1 min 1 s"),
    ] {
        let text = trouble(&|status| status[path] = value.clone());
        assert!(text.lines().any(|line| line.starts_with("  ! ") && line.contains(want)), "{text}");
        assert!(!shown(linked()).contains(want), "{want}");
    }
}

#[test]
fn a_node_without_peers_that_has_just_started_has_no_trouble() {
    let mut status = alone();
    status["floor_held"] = json!(true);
    let text = shown(status);
    assert!(!text.contains("  ! "), "{text}");
}

#[test]
fn a_hostile_name_is_shown_and_not_obeyed() {
    let mut status = linked();
    status["links"][0]["node"] = json!("\u{1b}[2J");
    status["members"][1]["name"] = json!("\u{1b}[2J");
    status["peers"][1]["reason"] = json!("\u{1b}[2J");
    status["cluster"] = json!("\u{1b}[2J");
    assert!(!shown(status).contains('\u{1b}'));
}

#[track_caller]
fn check_disk(change: serde_json::Value, want: &str) {
    let mut disk = json!({
        "directory": "/data", "state": "ok", "fsync": "everysec", "on_error": "refuse",
        "used_bytes": 2_048, "free_bytes": 1 << 20, "loaded_percent": 100, "damaged_records": 0,
    });
    let members = change.as_object().expect("an object").clone();
    disk.as_object_mut().expect("an object").extend(members);
    let disk: Disk = serde_json::from_value(disk).expect("a disk");
    assert_eq!(on_disk(&disk, Colours::Off), want);
}

#[test]
fn a_disk_says_what_it_does_and_why_not() {
    let well = "  disk     2.0 KiB in /data, fsync everysec, 1.0 MiB free\n";
    check_disk(json!({}), well);
    let loading = json!({"state": "loading", "loaded_percent": 40});
    check_disk(loading, "  disk     loading, 40 %\n");
    let failing = json!({"state": "failing", "reason": "No space left"});
    check_disk(failing, "  disk     failing: No space left; writes are refused\n");
    let memory = json!({"state": "failing", "on_error": "memory", "reason": "x"});
    check_disk(memory, "  disk     failing: x; writes are in memory only\n");
    let damaged = format!("{well}           7 damaged records were left out at the start\n");
    check_disk(json!({"damaged_records": 7}), &damaged);
}

#[test]
fn a_node_without_room_says_what_it_refuses_and_what_helps() {
    let check = |used_bytes: u64, is_said: bool| {
        let mut node = node();
        node["memory"]["used_bytes"] = used_bytes.into();
        let cluster = json!({"now_ms": 0, "nodes": [node], "replication": alone()});
        let cluster: Cluster = serde_json::from_value(cluster).expect("a cluster");
        let text = render(&cluster, Colours::Off);
        assert_eq!(text.contains("\n  ! memory is full: writes are refused"), is_said, "{text}");
    };
    check(1 << 29, false);
    check((1 << 30) - 1_000, true);
    check(1 << 31, true);
}
