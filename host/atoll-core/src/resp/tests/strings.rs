//! GET, SET and what changes parts of a value.

use super::{Conversation, START_MS, request};
use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

#[test]
fn a_value_is_read_as_it_was_set() {
    let mut c = Conversation::new();
    c.check("GET k", "$-1");
    c.check("SET k v", "+OK");
    c.check("get k", "$1 v");
    c.check("SET k ''", "+OK");
    c.check("GET k", "$0 ");
    c.check("GETSET k new", "$0 ");
    c.check("GETDEL k", "$3 new");
    c.check("GETDEL k", "$-1");
    c.check("HELLO 3", "%7 $6 server $5 redis $7 version $5 7.4.0 $5 proto :3 $2 id :1 $4 mode $10 standalone $4 role $6 master $7 modules *0");
    c.check("GET k", "_");
}

#[test]
fn set_obeys_its_conditions() {
    let mut c = Conversation::new();
    c.check("SET k v XX", "$-1");
    c.check("SET k v NX", "+OK");
    c.check("SET k w NX", "$-1");
    c.check("SET k w NX GET", "$1 v");
    c.check("SET k w XX GET", "$1 v");
    c.check("GET k", "$1 w");
    c.check("SET n 1 NX GET", "$-1");
    c.check("GET n", "$1 1");
    c.check("SET k v NX XX", "-ERR syntax error");
    c.check("SET k v foo", "-ERR syntax error");
    c.check("SETNX k x", ":0");
    c.check("SETNX fresh x", ":1");
}

#[test]
fn set_gives_keeps_and_drops_deadlines() {
    let mut c = Conversation::new();
    c.check("SET k v EX 10", "+OK");
    c.check("PTTL k", ":10000");
    c.check("SET k w KEEPTTL", "+OK");
    c.check("PTTL k", ":10000");
    c.check("SET k w", "+OK");
    c.check("TTL k", ":-1");
    c.check("SET k v PX 1500", "+OK");
    c.check("PTTL k", ":1500");
    c.check(&format!("SET k v PXAT {}", START_MS + 7), "+OK");
    c.check("PTTL k", ":7");
    c.check("SET k v EXAT 1", "+OK");
    c.check("GET k", "$-1");
    c.check("SETEX k 5 v", "+OK");
    c.check("PTTL k", ":5000");
    c.check("PSETEX k 5 v", "+OK");
    c.sleep_ms(5);
    c.check("GET k", "$-1");
    for (command, want) in [
        ("SET k v EX 0", "-ERR invalid expire time in 'set' command"),
        ("SET k v PX -1", "-ERR invalid expire time in 'set' command"),
        ("SET k v EX 9223372036854775807", "-ERR invalid expire time in 'set' command"),
        ("SET k v EX abc", "-ERR value is not an integer or out of range"),
        ("SET k v EX", "-ERR syntax error"),
        ("SET k v EX 1 PX 1", "-ERR syntax error"),
        ("SET k v EX 1 KEEPTTL", "-ERR syntax error"),
        ("SETEX k 0 v", "-ERR invalid expire time in 'setex' command"),
        ("PSETEX k -5 v", "-ERR invalid expire time in 'psetex' command"),
    ] {
        c.check(command, want);
    }
}

#[test]
fn getex_changes_the_deadline_only_where_it_is_told_to() {
    let mut c = Conversation::new();
    c.check("GETEX k EX 10", "$-1");
    c.check("SET k v EX 10", "+OK");
    c.check("GETEX k", "$1 v");
    c.check("PTTL k", ":10000");
    c.check("GETEX k PX 5", "$1 v");
    c.check("PTTL k", ":5");
    c.check("GETEX k PERSIST", "$1 v");
    c.check("TTL k", ":-1");
    c.check("GETEX k EX 0", "-ERR invalid expire time in 'getex' command");
    c.check("GETEX k PERSIST EX 1", "-ERR syntax error");
    c.check("GETEX k EXAT 1", "$1 v");
    c.check("EXISTS k", ":0");
}

#[test]
fn several_keys_are_set_together_or_not_at_all() {
    let mut c = Conversation::new();
    c.check("MSET a 1 b 2", "+OK");
    c.check("MGET a b c a", "*4 $1 1 $1 2 $-1 $1 1");
    c.check("MSETNX c 3 a 9", ":0");
    c.check("GET c", "$-1");
    c.check("MSETNX c 3 d 4", ":1");
    c.check("MSET a", "-ERR wrong number of arguments for 'mset' command");
    c.check("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command");
    c.check("MSETNX a 1 b", "-ERR wrong number of arguments for 'msetnx' command");
    c.check("MSET a 5 a 6", "+OK");
    c.check("GET a", "$1 6");
}

#[test]
fn counters_count_and_refuse_what_is_no_number() {
    let mut c = Conversation::new();
    c.check("INCR n", ":1");
    c.check("INCRBY n 41", ":42");
    c.check("DECR n", ":41");
    c.check("DECRBY n 50", ":-9");
    c.check("GET n", "$2 -9");
    c.check("SET n 9223372036854775806", "+OK");
    c.check("INCR n", ":9223372036854775807");
    c.check("INCR n", "-ERR increment or decrement would overflow");
    c.check("DECRBY n -9223372036854775808", "-ERR decrement would overflow");
    c.check("INCRBY n x", "-ERR value is not an integer or out of range");
    c.check("SET t text EX 10", "+OK");
    c.check("INCR t", "-ERR value is not an integer or out of range");
    c.check("SET t 5 EX 10", "+OK");
    c.check("INCR t", ":6");
    c.check("PTTL t", ":10000");
    c.check("INCRBYFLOAT f 0.1", "$3 0.1");
    c.check("INCRBYFLOAT f 0.2", "$3 0.3");
    c.check("INCRBYFLOAT t 1.5", "$3 7.5");
    c.check("PTTL t", ":10000");
    c.check("INCRBYFLOAT f abc", "-ERR value is not a valid float");
    c.check("INCRBYFLOAT f inf", "-ERR increment would produce NaN or Infinity");
}

#[test]
fn parts_of_a_value_are_read_and_changed() {
    let mut c = Conversation::new();
    c.check("APPEND k Hello", ":5");
    c.check("EXPIRE k 10", ":1");
    c.check("APPEND k ' World'", ":11");
    c.check("PTTL k", ":10000");
    c.check("GETRANGE k 0 4", "$5 Hello");
    c.check("GETRANGE k -5 -1", "$5 World");
    c.check("SUBSTR k 5 1", "$0 ");
    c.check("GETRANGE none 0 -1", "$0 ");
    c.check("SETRANGE k 6 Redis", ":11");
    c.check("GET k", "$11 Hello Redis");
    c.check("SETRANGE z 3 x", ":4");
    c.check("STRLEN z", ":4");
    c.check("SETRANGE none 3 ''", ":0");
    c.check("EXISTS none", ":0");
    c.check("SETRANGE k -1 x", "-ERR offset is out of range");
    let too_long = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    c.check(&format!("SETRANGE k {VALUE_BYTES_MAX} x"), too_long);
    c.check("SETRANGE k 9223372036854775807 x", too_long);
    c.check("INCR n", ":1");
    c.check("APPEND n 0", ":2");
    c.check("INCR n", ":11");
}

#[test]
fn a_large_value_comes_back_whole_and_in_parts() {
    let mut c = Conversation::new();
    let large: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    let (reply, _) = c.send(&request(&[b"SET", b"k", &large]));
    assert_eq!(reply, b"+OK\r\n");
    let (reply, _) = c.send(b"GET k\r\n");
    assert!(reply == [&b"$200000\r\n"[..], &large, b"\r\n"].concat());
    let (reply, _) = c.send(b"GETRANGE k 100 99999\r\n");
    assert!(reply == [&b"$99900\r\n"[..], &large[100..100_000], b"\r\n"].concat());
    c.check("STRLEN k", ":200000");
}

#[test]
fn a_key_has_a_longest_length_and_a_shortest() {
    let mut c = Conversation::new();
    let longest = "k".repeat(KEY_BYTES_MAX);
    c.check(&format!("SET {longest} v"), "+OK");
    c.check(&format!("GET {longest}"), "$1 v");
    let refusal = "-ERR invalid key: a key has 1 to 1024 bytes";
    for command in ["SET %k v", "GET %k", "MSET a 1 %k 2", "DEL a %k", "INCR %k", "TTL %k"] {
        c.check(&command.replace("%k", &format!("{longest}k")), refusal);
        c.check(&command.replace("%k", "''"), refusal);
    }
    c.check("EXISTS a", ":0");
}

#[test]
fn a_full_store_refuses_writes_and_serves_reads() {
    let mut c = Conversation::with(None, 100_000);
    c.check("SET k v", "+OK");
    let oom = "-OOM command not allowed when used memory > 'maxmemory'.";
    let large = "x".repeat(60_000);
    c.check(&format!("SET a {large}"), "+OK");
    c.check(&format!("SET b {large}"), oom);
    // The first of the two would fit.
    let (part, rest) = ("x".repeat(20_000), "x".repeat(30_000));
    c.check(&format!("MSET c {part} d {rest}"), oom);
    c.check("MGET k c d", "*3 $1 v $-1 $-1");
    c.check("DEL a", ":1");
    c.check("SET b v GET", "$-1");
}
