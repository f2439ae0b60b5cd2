//! MULTI, EXEC, DISCARD, WATCH.

use super::replication::refused;
use super::{Conversation, START_MS, request};
use crate::limits::{TRANSACTION_COMMAND_COUNT_MAX, WATCHED_KEY_COUNT_MAX};
use crate::permission::StaleReads;
use crate::replica::status::{Readiness, Role};
use crate::resp::command::{COMMANDS, Within};
use crate::store::gate::Obstacle;

impl Conversation {
    /// What another client does meanwhile.
    fn elsewhere(&mut self, command: &str) {
        let (queue, watch) = (self.session.queue.take(), self.session.watch.take());
        let (reply, _) = self.send(format!("{command}\r\n").as_bytes());
        assert_ne!(reply.first(), Some(&b'-'), "{}", String::from_utf8_lossy(&reply));
        (self.session.queue, self.session.watch) = (queue, watch);
    }
}

#[test]
fn commands_wait_for_exec_and_answer_together() {
    let mut c = Conversation::new();
    c.check("multi", "+OK");
    for command in ["set a 1", "incr a", "get a", "mset b x c y", "mget a b c d", "del b c"] {
        c.check(command, "+QUEUED");
    }
    assert_eq!(c.store.database(0).stats().key_count, 0, "nothing is written yet");
    let together = "*6 +OK :2 $1 2 +OK *4 $1 2 $1 x $1 y $-1 :2";
    c.check("exec", together);
    c.check("get a", "$1 2");
    c.check("exec", "-ERR EXEC without MULTI");
    c.check("discard", "-ERR DISCARD without MULTI");
    c.check("multi", "+OK");
    c.check("set a 5", "+QUEUED");
    c.check("discard", "+OK");
    c.check("get a", "$1 2");
    c.check("multi", "+OK");
    c.check("exec", "*0");
}

#[test]
fn a_command_that_fails_leaves_the_others_alone() {
    let mut c = Conversation::new();
    c.check("set a text", "+OK");
    c.check("multi", "+OK");
    for command in ["set b 1", "incr a", "getdel b"] {
        c.check(command, "+QUEUED");
    }
    let failed = "-ERR value is not an integer or out of range";
    c.check("exec", &format!("*3 +OK {failed} $1 1"));
}

#[test]
fn a_transaction_with_a_refused_command_is_discarded() {
    let mut c = Conversation::new();
    let aborted = "-EXECABORT Transaction discarded because of previous errors.";
    for (bad, fault) in [
        ("get", "-ERR wrong number of arguments for 'get' command"),
        ("nonsense", "-ERR unknown command 'nonsense', with args beginning with: "),
        ("keys *", "-ERR KEYS cannot be a part of a transaction; send it before MULTI"),
        ("wait 1 0", "-ERR WAIT cannot be a part of a transaction; send it before MULTI"),
        ("subscribe x", "-ERR SUBSCRIBE cannot be a part of a transaction; send it before MULTI"),
        ("exec now", "-ERR wrong number of arguments for 'exec' command"),
    ] {
        c.check("multi", "+OK");
        c.check("set a 1", "+QUEUED");
        c.check(bad, fault);
        c.check("set b 1", "+QUEUED");
        c.check("exec", aborted);
    }
    c.check("exists a b", ":0");
    // What is only out of place spoils nothing.
    c.check("multi", "+OK");
    c.check("multi", "-ERR MULTI calls can not be nested");
    c.check("watch a", "-ERR WATCH inside MULTI is not allowed");
    c.check("set a 1", "+QUEUED");
    c.check("exec", "*1 +OK");
}

#[test]
fn exec_does_nothing_once_a_watched_key_has_changed() {
    for (meanwhile, changed) in [
        ("set w 2", true),
        ("set w 1", true),
        ("incr w", true),
        ("del w", true),
        ("pexpire w 100000", true),
        ("flushdb", true),
        ("get w", false),
        ("set other 1", false),
        ("persist w", false),
    ] {
        let mut c = Conversation::new();
        c.check("set w 1", "+OK");
        c.check("watch w absent", "+OK");
        c.elsewhere(meanwhile);
        c.check("multi", "+OK");
        c.check("set a 1", "+QUEUED");
        c.check("exec", if changed { "*-1" } else { "*1 +OK" });
        assert_eq!(c.session.held_bytes(), 0, "{meanwhile}");
        // EXEC forgets what was watched.
        c.elsewhere("set w 3");
        c.check("multi", "+OK");
        c.check("exec", "*0");
    }
    let mut c = Conversation::new();
    c.send(
        b"hello 3
",
    );
    c.check("set w 1 px 100", "+OK");
    c.check("watch w", "+OK");
    c.sleep_ms(101);
    c.check("multi", "+OK");
    c.check("exec", "_");
    c.check("watch w", "+OK");
    c.elsewhere("set w 1");
    c.check("unwatch", "+OK");
    c.check("multi", "+OK");
    c.check("exec", "*0");
}

#[test]
fn a_transaction_may_change_databases_flush_and_publish() {
    let mut c = Conversation::new();
    c.check("set a 0", "+OK");
    c.check("multi", "+OK");
    for command in [
        "select 3",
        "set a 3",
        "select 99",
        "get a",
        "publish ch hello",
        "select 0",
        "get a",
        "flushdb",
        "get a",
        "set b 1",
        "ping",
        "echo hi",
        "unwatch",
        "select 5",
    ] {
        c.check(command, "+QUEUED");
    }
    let want = "*14 +OK +OK -ERR DB index is out of range $1 3 :0 +OK $1 0 +OK $-1 +OK +PONG \
                $2 hi +OK +OK";
    c.check("exec", want);
    assert_eq!(*c.server.cluster.changes.lock().unwrap(), ["publish ch hello"]);
    c.check("dbsize", ":0");
    c.check("select 3", "+OK");
    c.check("get a", "$1 3");
    c.check("multi", "+OK");
    c.check("flushall", "+QUEUED");
    c.check("set z 1", "+QUEUED");
    c.check("exec", "*2 +OK +OK");
    c.check("mget a z", "*2 $-1 $1 1");
}

#[test]
fn every_command_that_waits_for_exec_can_be_executed() {
    for command in COMMANDS.iter().filter(|command| command.within == Within::Queued) {
        let mut c = Conversation::new();
        let least = usize::from(command.arity.0.unsigned_abs());
        for more in 0..4 {
            let words: Vec<String> = (1..least + more)
                .map(|n| if n == 1 { "7".into() } else { format!("{n}") })
                .collect();
            let mut arguments = vec![command.name.as_bytes()];
            arguments.extend(words.iter().map(|word| word.as_bytes()));
            c.check("multi", "+OK");
            c.send(&request(&arguments));
            let (reply, _) = c.send(b"exec\r\n");
            assert!(matches!(reply[0], b'*' | b'-'), "{}: {reply:?}", command.name);
        }
        c.check("ping", "+PONG");
    }
}

#[test]
fn what_a_node_refuses_at_exec_leaves_everything_as_it_was() {
    let mut c = Conversation::with(None, 1 << 20);
    c.check("multi", "+OK");
    c.check("set a 1", "+QUEUED");
    c.store.set_obstacle(Some(Obstacle::Loading));
    let because = "-EXECABORT Transaction discarded because of:";
    c.check("exec", &format!("{because} LOADING Redis is loading the dataset in memory"));
    c.store.set_obstacle(None);
    c.check("multi", "+OK");
    c.check("set a 1", "+QUEUED");
    c.send(&request(&[b"set", b"b", &vec![0; 1 << 20]]));
    let full = "OOM command not allowed when used memory > 'maxmemory'.";
    c.check("exec", &format!("{because} {full}"));
    c.permission = refused(Readiness::Ready, Role::Replica, StaleReads::Served);
    c.check("multi", "+OK");
    c.check("get a", "+QUEUED");
    c.check("set a 1", "-READONLY You can't write against a read only replica.");
    c.check("exec", "-EXECABORT Transaction discarded because of previous errors.");
    c.check("exists a b", ":0");
}

#[test]
fn what_is_kept_for_exec_is_bounded_and_counted() {
    let mut c = Conversation::new();
    c.check("multi", "+OK");
    let value = vec![b'v'; 10_000];
    c.send(&request(&[b"set", b"a", &value]));
    assert!((10_000..11_000).contains(&c.session.held_bytes()), "{}", c.session.held_bytes());
    for _ in 1..TRANSACTION_COMMAND_COUNT_MAX {
        c.send(b"ping\r\n");
    }
    c.check("ping", "-ERR a transaction has at most 65536 commands");
    c.check("exec", "-EXECABORT Transaction discarded because of previous errors.");
    assert_eq!(c.session.held_bytes(), 0);
    for n in 0..WATCHED_KEY_COUNT_MAX {
        c.send(format!("watch {n}\r\n").as_bytes());
    }
    assert!(c.session.held_bytes() > WATCHED_KEY_COUNT_MAX * 8);
    c.check("watch 7", "+OK");
    c.check("watch one-more", "-ERR a client watches at most 65536 keys");
    c.check("reset", "+RESET");
    assert_eq!(c.session.held_bytes(), 0);
    assert_eq!(c.now.millis(), START_MS);
}

#[test]
fn others_see_how_many_commands_wait() {
    let mut c = Conversation::new();
    let shown = |c: &Conversation| c.session.client().describe(START_MS);
    assert!(shown(&c).contains(" multi=-1 "));
    c.check("multi", "+OK");
    assert!(shown(&c).contains(" multi=0 "));
    c.check("get a", "+QUEUED");
    assert!(shown(&c).contains(" multi=1 "));
    c.check("exec", "*1 $-1");
    assert!(shown(&c).contains(" multi=-1 "));
}
