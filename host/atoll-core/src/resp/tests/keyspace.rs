//! Whole keys and whole databases.

use super::{Conversation, request};
use std::collections::BTreeSet;

#[test]
fn keys_are_counted_named_and_deleted() {
    let mut c = Conversation::new();
    c.check("MSET a 1 b 2 c 3", "+OK");
    c.check("EXISTS a b nope a", ":3");
    c.check("TOUCH a nope", ":1");
    c.check("TYPE a", "+string");
    c.check("TYPE nope", "+none");
    c.check("DBSIZE", ":3");
    c.check("DEL a a nope", ":1");
    c.check("UNLINK b", ":1");
    c.check("KEYS *", "*1 $1 c");
    c.check("KEYS x*", "*0");
    c.check("OBJECT ENCODING c", "$3 int");
    c.check("SET e embedded", "+OK");
    c.check("OBJECT ENCODING e", "$6 embstr");
    c.check(&format!("SET r {}", "r".repeat(45)), "+OK");
    c.check("OBJECT ENCODING r", "$3 raw");
    c.check("OBJECT ENCODING nope", "$-1");
    let pattern = "k".repeat(1_025);
    c.check(&format!("KEYS {pattern}"), "-ERR a pattern has at most 1024 bytes");
}

#[test]
fn databases_are_apart() {
    let mut c = Conversation::new();
    c.check("SET k zero", "+OK");
    c.check("SELECT 15", "+OK");
    c.check("GET k", "$-1");
    c.check("SET k fifteen", "+OK");
    c.check("SELECT 16", "-ERR DB index is out of range");
    c.check("SELECT -1", "-ERR DB index is out of range");
    c.check("SELECT x", "-ERR value is not an integer or out of range");
    c.check("GET k", "$7 fifteen");
    c.check("FLUSHDB", "+OK");
    c.check("DBSIZE", ":0");
    c.check("SELECT 0", "+OK");
    c.check("GET k", "$4 zero");
    c.check("FLUSHDB foo", "-ERR syntax error");
    c.check("SELECT 3", "+OK");
    c.check("FLUSHALL ASYNC", "+OK");
    c.check("SELECT 0", "+OK");
    c.check("GET k", "$-1");
}

/// The bulks of a reply, without the headers.
fn bulks(reply: &[u8]) -> Vec<String> {
    let text = String::from_utf8(reply.to_vec()).unwrap();
    let lines = text.split("\r\n").filter(|line| !line.is_empty());
    lines.filter(|line| !line.starts_with(['*', '$'])).map(str::to_owned).collect()
}

fn fill(c: &mut Conversation, count: usize) -> BTreeSet<String> {
    let names: BTreeSet<String> = (0..count).map(|n| format!("key:{n}")).collect();
    for name in &names {
        c.send(&request(&[b"SET", name.as_bytes(), b"v"]));
    }
    names
}

#[test]
fn a_scan_visits_every_key_in_small_steps() {
    let mut c = Conversation::new();
    let names = fill(&mut c, 2_000);
    for options in ["", "COUNT 1", "COUNT 7", "COUNT 999999999", "TYPE string", "MATCH key:*"] {
        let (mut seen, mut cursor) = (BTreeSet::new(), "0".to_owned());
        loop {
            let (reply, _) = c.send(format!("SCAN {cursor} {options}\r\n").as_bytes());
            let mut answer = bulks(&reply);
            cursor = answer.remove(0);
            seen.extend(answer);
            if cursor == "0" {
                break;
            }
        }
        assert!(seen == names, "SCAN {options}");
    }
    c.check("SCAN 0 TYPE list COUNT 9999999", "*2 $1 0 *0");
    c.check("SCAN 0 MATCH key:77 COUNT 9999999", "*2 $1 0 *1 $6 key:77");
    c.check("SCAN x", "-ERR invalid cursor");
    c.check("SCAN 0 COUNT 0", "-ERR syntax error");
    c.check("SCAN 0 COUNT x", "-ERR value is not an integer or out of range");
    c.check("SCAN 0 MATCH", "-ERR syntax error");
    c.check("SCAN 0 FOO bar", "-ERR syntax error");
}

#[test]
fn keys_of_a_large_database_come_once_each() {
    let mut c = Conversation::new();
    let names = fill(&mut c, 20_000);
    let (reply, _) = c.send(b"KEYS *\r\n");
    let answer = bulks(&reply);
    assert_eq!(answer.len(), names.len());
    assert!(answer.into_iter().collect::<BTreeSet<_>>() == names);
    let (reply, _) = c.send(b"KEYS key:1999?\r\n");
    assert_eq!(bulks(&reply).len(), 10);
}

#[test]
fn what_a_long_walk_collects_is_counted_as_it_grows() {
    let mut c = Conversation::new();
    let names = fill(&mut c, 40_000);
    let (reply, _) = c.send(b"KEYS *\r\n");
    let (first, last) = (c.held_bytes[0], c.held_bytes[c.held_bytes.len() - 1]);
    assert!(first < reply.len(), "{first} bytes for the first step");
    // The last step that was not the end had collected nearly all keys, and a digest of each.
    let keys = reply.len() + names.len() * size_of::<u128>();
    assert!(last > keys * 8 / 10, "{last} bytes for {keys}");
    assert!(last < keys * 4, "{last} bytes for {keys}");
    assert!(c.held_bytes.is_sorted());
    assert_eq!(c.session.held_bytes(), 0);
}
