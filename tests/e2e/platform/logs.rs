//! What a handler says on all nodes, in one place.

use super::{deploy, get, ok};
use crate::api::atoll;
use crate::cluster::{Cluster, Shape};
use crate::node::{ATOLL, PATIENCE, TestNode, serve, wait_until};
use crate::proxy::Proxy;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;

#[test]
fn the_log_of_a_handler_comes_from_all_nodes_and_each_line_names_its_own() {
    let mut cluster = Cluster::start(Shape::Line(3));
    let (first, last) = (cluster.node(0), cluster.node(2));
    deploy(first, "standard", &["--name", "s", "--route", "/s/*", "--wait", "all"]);
    wait_until("all have said where their APIs are", || {
        (!atoll(first, &["logs", "s"]).2.contains("is not asked")).then_some(())
    });
    assert_eq!((get(first, "/s/log").status, get(last, "/s/log").status), (200, 200));
    let lines = ok(first, &["logs", "s"]);
    for node in ["n0", "n2"] {
        assert!(
            lines.lines().any(|line| line.starts_with(node) && line.ends_with("a line")),
            "{lines}"
        );
    }
    assert!(!lines.contains("n1"), "it has said nothing: {lines}");
    let alone = ok(first, &["logs", "s", "--this-node"]);
    assert!(alone.contains("nearly full") && !alone.contains("n0"), "{alone}");
    let also = ok(first, &["logs", "s", "--json", "--also", &last.api.to_string()]);
    assert!(also.contains(r#""node":"n2""#), "{also}");

    let mut follower = Command::new(ATOLL)
        .args(["logs", "s", "--tail", "0", "--follow"])
        .env("ATOLL_API_URL", format!("http://{}", first.api))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("atoll starts");
    let (sender, followed) = mpsc::channel();
    let stdout = follower.stdout.take().expect("stdout is piped");
    std::thread::spawn(move || {
        BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    for (index, node) in ["n0", "n1", "n2"].into_iter().enumerate() {
        wait_until(&format!("{node} is followed"), || {
            assert_eq!(get(cluster.node(index), "/s/log").status, 200);
            followed.try_iter().any(|line| line.starts_with(node)).then_some(())
        });
    }
    // One that is gone takes nothing from the others.
    cluster.kill(2);
    wait_until("the others go on", || {
        assert_eq!(get(cluster.node(1), "/s/log").status, 200);
        followed.try_iter().any(|line| line.starts_with("n1")).then_some(())
    });
    follower.kill().expect("it runs");
    follower.wait().expect("it has ended");
}

/// The lines that something prints, as they come.
fn lines(output: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    lines
}

#[test]
fn a_log_is_followed_beyond_a_removal_and_another_deployment() {
    let node = TestNode::start();
    let deploy = || deploy(&node, "standard", &["--name", "s", "--route", "/s/*"]);
    deploy();
    assert_eq!(get(&node, "/s/log").status, 200);
    let mut follower = Command::new(ATOLL)
        .args(["logs", "s", "--follow"])
        .env("ATOLL_API_URL", format!("http://{}", node.api))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("atoll starts");
    let said = lines(follower.stdout.take().expect("stdout is piped"));
    let told = lines(follower.stderr.take().expect("stderr is piped"));
    // Each request makes two lines.
    let check = |what: &str| {
        let both = [0, 1].map(|_| said.recv_timeout(PATIENCE).expect(what));
        for want in ["nearly full", "a line"] {
            assert!(both.iter().any(|line| line.ends_with(want)), "{what}: {both:?}");
        }
    };
    check("what was there");
    ok(&node, &["remove", "s"]);
    let ended = told.recv_timeout(PATIENCE).expect("it is said");
    assert!(ended.contains("has ended") && ended.contains("goes on here"), "{ended}");
    deploy();
    for what in ["that of the next handler", "and what follows"] {
        assert_eq!(get(&node, "/s/log").status, 200);
        check(what);
    }
    follower.kill().expect("it runs");
    follower.wait().expect("it has ended");
}

#[test]
fn a_node_is_asked_where_it_says_that_its_api_is() {
    let way = Proxy::start();
    let advertised = way.address().to_string();
    let cluster = Cluster::start_with(Shape::Pair, |index| match index {
        // As in a container: what it binds is nobody else's business.
        1 => ["--api", "0.0.0.0:0", "--insecure", "--api-advertise", &advertised]
            .map(str::to_owned)
            .to_vec(),
        _ => Vec::new(),
    });
    let (first, second) = (cluster.node(0), cluster.node(1));
    way.lead_to(std::net::SocketAddr::from(([127, 0, 0, 1], second.api.port())));
    deploy(first, "standard", &["--name", "s", "--route", "/s/*", "--wait", "all"]);
    assert_eq!(get(second, "/s/log").status, 200);
    wait_until("both have said where their APIs are", || {
        (!atoll(first, &["logs", "s"]).2.contains("is not asked")).then_some(())
    });
    let told = first.http("GET", first.api, "/v1/handlers/s/nodes", b"");
    assert!(told.text().contains(&advertised), "{}", told.text());
    let before = way.connections();
    let lines = ok(first, &["logs", "s"]);
    assert!(lines.lines().any(|line| line.starts_with("n1") && line.contains("a line")), "{lines}");
    assert!(way.connections() > before, "it was asked there");

    let output = serve(&["--api-advertise", "nowhere"]).output().expect("atoll runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("--api-advertise \"nowhere\" is no address; write HOST:PORT"), "{told}");
}
