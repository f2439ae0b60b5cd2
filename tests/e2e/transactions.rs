//! MULTI and EXEC: as redis-server has them, as one for everybody who looks, and on other nodes.

use crate::cluster::{Cluster, Shape};
use crate::dice::Dice;
use crate::node::TestNode;
use crate::redis_equality::{RedisServer, comparable, random_command, same, timed};
use crate::reply::{Client, Reply};
use std::time::Duration;

/// Transactions for each seed.
const ROUND_COUNT: usize = 600;
/// Commands that Redis takes into a transaction and Atoll does not, or that end one.
const APART: &[&str] = &[
    "KEYS", "SCAN", "HELLO", "AUTH", "CLIENT", "CONFIG", "COMMAND", "FUNCTION", "CLUSTER",
    "READONLY", "ROLE", "RESET",
];

#[test]
fn transactions_equal_those_of_redis_server() {
    let (redis, node) = (RedisServer::start(), TestNode::start());
    for seed in 1..=2 {
        let mut dice = Dice::new(seed);
        let mut clients = [node.resp, redis.resp].map(|at| [(); 2].map(|()| Client::connect(at)));
        call(&mut clients, 0, &words("FLUSHALL"));
        for round in 0..ROUND_COUNT {
            let [got, want] = transaction(&mut clients, &mut dice);
            assert_eq!(got.len(), want.len());
            for ((name, got), (_, want)) in got.iter().zip(&want) {
                let at = format!("seed {seed}, round {round}, {name}");
                assert!(same(name, got, want), "{at}\n ours {got:?}\nredis {want:?}");
            }
        }
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Gives both servers a command by the client of that number.
fn call(clients: &mut [[Client; 2]; 2], by: usize, command: &[String]) -> [Reply; 2] {
    let arguments: Vec<&[u8]> = command.iter().map(|word| word.as_bytes()).collect();
    timed(|| clients.each_mut().map(|of| comparable(&command[0], of[by].call(&arguments))))
}

/// One transaction, in the middle of which another client writes. Returns the replies of both
/// servers, each with its command.
fn transaction(clients: &mut [[Client; 2]; 2], dice: &mut Dice) -> [Vec<(String, Reply)>; 2] {
    let mut replies: [Vec<(String, Reply)>; 2] = Default::default();
    let mut note = |name: &str, both: [Reply; 2]| {
        for (of, reply) in replies.iter_mut().zip(both) {
            of.push((name.to_owned(), reply));
        }
    };
    let mut next = || loop {
        let command = random_command(dice);
        if !APART.contains(&command[0].to_ascii_uppercase().as_str()) {
            return (command, dice.below(8));
        }
    };
    let mut queued = Vec::new();
    // What was absent, and is absent again, Redis takes for changed, and Atoll does not.
    call(clients, 1, &words("MSET a 1 k1 1"));
    for step in ["WATCH a k1", "MULTI"] {
        note(step, call(clients, 0, &words(step)));
    }
    for _ in 0..6 {
        let (command, die) = next();
        let both = call(clients, 0, &command);
        if both[0] == Reply::simple("QUEUED") {
            queued.push(command[0].clone());
        }
        note(&command[0], both);
        if die == 0 {
            let (command, _) = next();
            note(&command[0], call(clients, 1, &command));
        }
        // What is refused spoils the transaction: without it more of them come to an end.
        if die == 1 {
            note("MULTI", call(clients, 0, &words("MULTI")));
        }
    }
    let both = call(clients, 0, &words("EXEC"));
    let whole = both.each_ref().map(|reply| match reply {
        Reply::Many(..) => Reply::simple("executed"),
        other => other.clone(),
    });
    note("EXEC", whole);
    if let [Reply::Many(_, ours), Reply::Many(_, theirs)] = both {
        assert_eq!((ours.len(), theirs.len()), (queued.len(), queued.len()));
        for ((name, ours), theirs) in queued.iter().zip(ours).zip(theirs) {
            note(name, [ours, theirs]);
        }
    }
    replies
}

#[test]
fn money_that_many_move_at_once_is_never_seen_on_its_way() {
    const ACCOUNTS: [&[u8]; 4] = [b"acc:1", b"acc:2", b"acc:3", b"acc:4"];
    const MOVES: usize = 300;
    let node = TestNode::start();
    let mut bank = Client::connect(node.resp);
    for account in ACCOUNTS {
        assert_eq!(bank.call(&[b"SET", account, b"1000"]), Reply::simple("OK"));
    }
    let sum = |reply: Reply| match reply {
        Reply::Many(_, values) => values.iter().map(number).sum::<i64>(),
        other => panic!("{other:?}"),
    };
    std::thread::scope(|threads| {
        let movers: Vec<_> =
            (0..3).map(|n| threads.spawn(move || move_money(node.resp, n))).collect();
        while movers.iter().any(|mover| !mover.is_finished()) {
            let [a, b, c, d] = ACCOUNTS;
            assert_eq!(sum(bank.call(&[b"MGET", a, b, c, d])), 4_000);
        }
        let retries: usize = movers.into_iter().map(|mover| mover.join().expect("it ended")).sum();
        assert!(retries > 0, "the movers met now and then");
    });

    fn number(reply: &Reply) -> i64 {
        match reply {
            Reply::Bulk(bytes) => std::str::from_utf8(bytes).unwrap().parse().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Moves what it read a moment ago, as often as it takes; returns how often it began anew.
    fn move_money(at: std::net::SocketAddr, seed: u64) -> usize {
        let (mut client, mut dice) = (Client::connect(at), Dice::new(seed));
        let mut retries = 0;
        for _ in 0..MOVES {
            let from = ACCOUNTS[dice.below(4)];
            let to = *ACCOUNTS.iter().find(|account| **account != from).expect("there are four");
            loop {
                assert_eq!(client.call(&[b"WATCH", from, to]), Reply::simple("OK"));
                let [from_sum, to_sum] = [from, to].map(|key| number(&client.call(&[b"GET", key])));
                let [less, more] = [from_sum - 7, to_sum + 7].map(|sum| sum.to_string());
                assert_eq!(client.call(&[b"MULTI"]), Reply::simple("OK"));
                client.call(&[b"SET", from, less.as_bytes()]);
                client.call(&[b"SET", to, more.as_bytes()]);
                match client.call(&[b"EXEC"]) {
                    Reply::Many(_, replies) => break assert_eq!(replies.len(), 2),
                    _ => retries += 1,
                }
            }
        }
        retries
    }
}

#[test]
fn a_transaction_that_stays_open_for_seconds_arrives_as_a_whole() {
    let cluster = Cluster::start(Shape::Pair);
    let [a, b] = [0, 1].map(|n| cluster.node(n).resp);
    let (mut writer, mut reader) = (Client::connect(a), Client::connect(b));
    let mut listener = Client::connect(b);
    assert!(matches!(listener.call(&[b"SUBSCRIBE", b"done"]), Reply::Many(..)));
    assert_eq!(writer.call(&[b"MULTI"]), Reply::simple("OK"));
    for command in [&[&b"INCR"[..], b"n"][..], &[b"INCR", b"n"], &[b"PUBLISH", b"done", b"now"]] {
        assert_eq!(writer.call(command), Reply::simple("QUEUED"));
    }
    for _ in 0..20 {
        assert_eq!(reader.call(&[b"GET", b"n"]), Reply::Null, "nothing of it is anywhere yet");
        std::thread::sleep(Duration::from_millis(100));
    }
    let want = Reply::Many('*', vec![Reply::Integer(1), Reply::Integer(2), Reply::Integer(0)]);
    assert_eq!(writer.call(&[b"EXEC"]), want);
    let message = [&b"message"[..], b"done", b"now"].map(|word| Reply::Bulk(word.to_vec()));
    assert_eq!(listener.read(), Reply::Many('*', message.into()));
    assert_eq!(
        reader.call(&[b"GET", b"n"]),
        Reply::Bulk(b"2".to_vec()),
        "its message came after it"
    );
    cluster.wait_for(1, &["DBSIZE"], ":1");
}

#[test]
fn a_client_that_leaves_in_the_middle_leaves_nothing_behind() {
    let node = TestNode::start();
    let mut client = Client::connect(node.resp);
    client.send(b"MULTI\r\nSET a 1\r\nSET b 1\r\n");
    for want in ["OK", "QUEUED", "QUEUED"] {
        assert_eq!(client.read(), Reply::simple(want));
    }
    drop(client);
    let mut other = Client::connect(node.resp);
    assert_eq!(other.call(&[b"EXISTS", b"a", b"b"]), Reply::Integer(0));
    // All in one piece, as pipelines send it.
    other.send(b"MULTI\r\nSET a 1\r\nGET a\r\nEXEC\r\nGET a\r\n");
    for want in ["OK", "QUEUED", "QUEUED"] {
        assert_eq!(other.read(), Reply::simple(want));
    }
    let one = || Reply::Bulk(b"1".to_vec());
    assert_eq!(other.read(), Reply::Many('*', vec![Reply::simple("OK"), one()]));
    assert_eq!(other.read(), one());
}
