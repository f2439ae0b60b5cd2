//! EXPIRE, TTL and their relatives.

use super::{Conversation, START_MS};

#[test]
fn a_key_goes_when_its_time_has_come() {
    let mut c = Conversation::new();
    c.check("SET k v", "+OK");
    c.check("TTL k", ":-1");
    c.check("TTL none", ":-2");
    c.check("EXPIRE k 10", ":1");
    c.check("EXPIRE none 10", ":0");
    c.sleep_ms(8_001);
    c.check("TTL k", ":2");
    c.check("PTTL k", ":1999");
    c.check(&format!("PEXPIREAT k {}", START_MS + 9_000), ":1");
    c.check("PEXPIRETIME k", &format!(":{}", START_MS + 9_000));
    c.check("EXPIRETIME k", &format!(":{}", START_MS / 1_000 + 9));
    c.sleep_ms(998);
    c.check("EXISTS k", ":1");
    c.sleep_ms(1);
    c.check("EXISTS k", ":0");
    c.check("PTTL k", ":-2");
}

#[test]
fn a_deadline_in_the_past_deletes() {
    let mut c = Conversation::new();
    for command in ["EXPIRE k 0", "EXPIRE k -5", "EXPIREAT k 1", "PEXPIREAT k 1", "PEXPIRE k -1"] {
        c.check("SET k v", "+OK");
        c.check(command, ":1");
        c.check("GET k", "$-1");
    }
}

#[test]
fn conditions_compare_the_old_deadline_with_the_new() {
    let mut c = Conversation::new();
    c.check("SET k v", "+OK");
    c.check("EXPIRE k 10 XX", ":0");
    c.check("EXPIRE k 10 GT", ":0");
    c.check("EXPIRE k 10 LT", ":1");
    c.check("EXPIRE k 20 NX", ":0");
    c.check("EXPIRE k 20 LT", ":0");
    c.check("EXPIRE k 20 GT", ":1");
    c.check("EXPIRE k 30 XX GT", ":1");
    c.check("PTTL k", ":30000");
    c.check("PERSIST k", ":1");
    c.check("PERSIST k", ":0");
    c.check("PERSIST none", ":0");
    c.check("EXPIRE k 10 NX", ":1");
    let words = "-ERR NX and XX, GT or LT options at the same time are not compatible";
    c.check("EXPIRE k 10 NX XX", words);
    c.check("EXPIRE k 10 GT LT", "-ERR GT and LT options at the same time are not compatible");
    c.check("EXPIRE k 10 ZZ", "-ERR Unsupported option ZZ");
    c.check("EXPIRE k x", "-ERR value is not an integer or out of range");
    c.check("EXPIRE k 9223372036854775807", "-ERR invalid expire time in 'expire' command");
    c.check("PEXPIRE k 9223372036854775807", "-ERR invalid expire time in 'pexpire' command");
    c.check("EXPIREAT k 9223372036854775807", "-ERR invalid expire time in 'expireat' command");
}

#[test]
fn a_counter_keeps_its_deadline_and_can_get_another() {
    let mut c = Conversation::new();
    c.check("INCR n", ":1");
    c.check("EXPIRE n 10 NX", ":1");
    c.check("INCR n", ":2");
    c.check("PTTL n", ":10000");
    c.check("PEXPIRE n 500", ":1");
    c.check("PERSIST n", ":1");
    c.check("TTL n", ":-1");
    c.check("GET n", "$1 2");
    c.check("PEXPIRE n 500", ":1");
    c.sleep_ms(500);
    c.check("INCR n", ":1");
    c.check("TTL n", ":-1");
}
