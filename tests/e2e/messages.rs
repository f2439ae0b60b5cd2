//! PUBLISH and SUBSCRIBE on one node, as redis-server has them and as its command line uses them.

use crate::node::{TestNode, wait_until};
use crate::redis_equality::RedisServer;
use crate::reply::{Client, Reply};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

/// A line of a script: who says it, and what.
type Line = (usize, &'static str);

/// Says each line as its client, each of which ends by asking for an echo that nobody else could
/// have sent; returns all that the clients were sent, by line.
fn play(address: SocketAddr, hello: &str, script: &[Line]) -> Vec<Vec<Reply>> {
    let mut clients = [Client::connect(address), Client::connect(address)];
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut say = |who: usize, text: &str| {
        let words = words(text);
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        clients[who].send(&crate::reply::request(&words));
        // The answer to this comes last, in either mode of a listener.
        clients[who].send(&crate::reply::request(&[b"PING", b"end"]));
        let mut replies = Vec::new();
        loop {
            let reply = clients[who].read();
            let is_end = match &reply {
                Reply::Bulk(bytes) => bytes == b"end",
                Reply::Many('*', parts) => parts.last() == Some(&Reply::Bulk(b"end".to_vec())),
                _ => false,
            };
            if is_end {
                return replies;
            }
            replies.push(reply);
        }
    };
    (0..2).for_each(|who| drop(say(who, hello)));
    script.iter().map(|(who, text)| say(*who, text)).collect()
}

const SCRIPT: &[Line] = &[
    (0, "PUBLISH news nobody"),
    (0, "UNSUBSCRIBE"),
    (0, "UNSUBSCRIBE x y"),
    (0, "PUNSUBSCRIBE"),
    (0, "SUBSCRIBE news news other"),
    (0, "PSUBSCRIBE n* n? *s"),
    (0, "SUBSCRIBE"),
    (1, "PUBLISH news 1"),
    (1, "PUBLISH nx 2"),
    (1, "PUBLISH nobody 3"),
    (0, "PING"),
    (0, "PING text"),
    (1, "PUBSUB NUMSUB news other nobody"),
    (1, "PUBSUB NUMPAT"),
    (1, "PUBSUB CHANNELS new*"),
    (0, "UNSUBSCRIBE news nosuch"),
    (1, "PUBLISH news 4"),
    (0, "PUNSUBSCRIBE n*"),
    (1, "PUBLISH other 5"),
    (0, "UNSUBSCRIBE other"),
    (0, "PUNSUBSCRIBE n? *s"),
    (1, "PUBLISH news 6"),
    (0, "GET absent"),
    (0, "SUBSCRIBE again"),
    (0, "RESET"),
    (0, "GET absent"),
    (1, "PUBLISH again 7"),
];

#[test]
fn messages_go_as_they_go_with_redis_server() {
    let (redis, node) = (RedisServer::start(), TestNode::start());
    for hello in ["HELLO 2", "HELLO 3"] {
        let ours = play(node.resp, hello, SCRIPT);
        let theirs = play(redis.resp, hello, SCRIPT);
        for ((line, ours), theirs) in SCRIPT.iter().zip(ours).zip(theirs) {
            assert_eq!(sorted(ours), sorted(theirs), "{hello}, {line:?}");
        }
    }
}

/// Redis tells matching patterns in the order of their subscription, a node in that of their names.
fn sorted(mut replies: Vec<Reply>) -> Vec<Reply> {
    replies.sort_by_key(|reply| format!("{reply:?}"));
    replies
}

#[test]
fn what_a_listener_of_resp2_may_not_do_is_refused_in_the_words_of_redis() {
    let (redis, node) = (RedisServer::start(), TestNode::start());
    let script = [(0, "SUBSCRIBE a"), (0, "GET k"), (0, "PUBLISH a 1"), (0, "NOSUCH")];
    let (ours, theirs) =
        (play(node.resp, "HELLO 2", &script), play(redis.resp, "HELLO 2", &script));
    assert_eq!(ours[1], theirs[1]);
    assert_eq!(ours[2], theirs[2]);
}

#[test]
fn redis_cli_listens() {
    let node = TestNode::start();
    let port = node.resp.port().to_string();
    let mut listener = Command::new("redis-cli")
        .args(["-p", &port, "SUBSCRIBE", "news"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-cli runs");
    let mut speaker = node.resp_client();
    wait_until("it listens", || {
        (speaker.command(&["PUBLISH", "news", "hello"]) == ":1").then_some(())
    });
    let mut lines = BufReader::new(listener.stdout.take().expect("it is piped")).lines();
    let heard = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("hello")));
    assert!(heard.is_some(), "the message is shown");
    listener.kill().expect("it can be killed");
    listener.wait().expect("it ends");
    wait_until("nobody listens", || {
        (speaker.command(&["PUBLISH", "news", "x"]) == ":0").then_some(())
    });
}
