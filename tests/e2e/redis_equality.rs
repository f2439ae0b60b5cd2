//! The same commands to a node and to redis-server give the same replies.
//!
//! The commands come from a seed; a difference prints the seed and the step. Not asked: what Redis
//! 7.0 does not know or answers by its internals (`OBJECT ENCODING` after `APPEND`, `DBSIZE` with
//! keys that have expired and are still counted, fractions beyond the digits of its long double).

use crate::dice::Dice;
use crate::node::{TestNode, wait_until};
use crate::reply::{Client, Reply};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

/// Commands for each seed.
const STEP_COUNT: usize = 4_000;
/// Replies in time may differ by as much, in ms, and by what it took to ask one server after the other.
const TIME_DIFFERENCE_MAX: i64 = 1_500;
/// Deadlines later than the year 10889 are cut there.
const DEADLINE_S_MAX: i64 = 281_474_976_710;
/// The longest that it has taken to ask one server after the other, in ms: on a busy machine a key may
/// have got its deadline so much earlier on one than on the other.
static APART_MS: AtomicI64 = AtomicI64::new(0);

#[test]
fn replies_equal_those_of_redis_server() {
    let redis = RedisServer::start();
    let node = TestNode::start();
    for seed in 1..=3 {
        let mut dice = Dice::new(seed);
        let (mut ours, mut theirs) = (Client::connect(node.resp), Client::connect(redis.resp));
        assert_eq!(ours.call(&[b"FLUSHALL"]), theirs.call(&[b"FLUSHALL"]));
        for step in 0..STEP_COUNT {
            let command = random_command(&mut dice);
            let arguments: Vec<&[u8]> = command.iter().map(|word| word.as_bytes()).collect();
            let (got, want) = timed(|| (ours.call(&arguments), theirs.call(&arguments)));
            let (got, want) = (comparable(&command[0], got), comparable(&command[0], want));
            assert!(
                same(&command[0], &got, &want),
                "seed {seed}, step {step}: {:?}\n ours {:?}\nredis {:?}",
                command.iter().map(|word| shortened(word)).collect::<Vec<_>>(),
                shortened(&format!("{got:?}")),
                shortened(&format!("{want:?}")),
            );
        }
    }
}

/// Asks both servers, and notes how long that took.
pub(crate) fn timed<T>(both: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let replies = both();
    APART_MS.fetch_max(began.elapsed().as_millis() as i64, Ordering::Relaxed);
    replies
}

/// A redis-server on a free port; killed when it is dropped.
pub(crate) struct RedisServer {
    child: Child,
    pub(crate) resp: SocketAddr,
}

impl RedisServer {
    pub(crate) fn start() -> RedisServer {
        // Between the look for a free port and its start another may take that port.
        wait_until("redis-server has a port", RedisServer::try_start)
    }

    fn try_start() -> Option<RedisServer> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let resp = listener.local_addr().expect("a bound port");
        drop(listener);
        let child = Command::new("redis-server")
            .args(["--port", &resp.port().to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("redis-server cannot be run ({error}); on Debian: apt-get install redis-server")
        });
        let mut server = RedisServer { child, resp };
        let is_this_one = wait_until("redis-server listens or ends", || {
            if server.child.try_wait().expect("it can be waited for").is_some() {
                return Some(false);
            }
            Some(server.listens()).filter(|listens| *listens)
        });
        is_this_one.then_some(server)
    }

    /// Whether it is this process that answers at its port.
    fn listens(&self) -> bool {
        if TcpStream::connect(self.resp).is_err() {
            return false;
        }
        let info = Client::connect(self.resp).try_call(&[b"INFO", b"server"]);
        let own = format!("process_id:{}\r\n", self.child.id());
        matches!(info, Some(Reply::Bulk(text)) if String::from_utf8_lossy(&text).contains(&own))
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

/// The reply without what may differ: the order of keys.
pub(crate) fn comparable(name: &str, reply: Reply) -> Reply {
    let by_text = |reply: &Reply| format!("{reply:?}");
    match (name.to_ascii_uppercase().as_str(), reply) {
        ("KEYS", Reply::Many(mark, mut keys)) => {
            keys.sort_by_key(by_text);
            Reply::Many(mark, keys)
        }
        ("SCAN", Reply::Many(mark, mut parts)) => {
            if let Some(Reply::Many(_, keys)) = parts.get_mut(1) {
                keys.sort_by_key(by_text);
            }
            Reply::Many(mark, parts)
        }
        // Versions and ids are their own.
        ("HELLO", Reply::Many(mark, parts)) => Reply::Many(mark, parts[..1].to_vec()),
        // How much was written: a Redis that nobody follows does not count.
        ("ROLE", Reply::Many(mark, mut parts)) => {
            parts.remove(1);
            Reply::Many(mark, parts)
        }
        (_, reply) => reply,
    }
}

pub(crate) fn same(name: &str, got: &Reply, want: &Reply) -> bool {
    let name = name.to_ascii_uppercase();
    match (got, want) {
        (Reply::Integer(got), Reply::Integer(want))
            if name.contains("TTL") || name.contains("TIME") =>
        {
            let scale = if name.starts_with('P') { 1 } else { 1_000 };
            let cut = (DEADLINE_S_MAX - 2_000_000_000) * (1_000 / scale);
            let most = TIME_DIFFERENCE_MAX + APART_MS.load(Ordering::Relaxed);
            (got - want).saturating_mul(scale).abs() <= most || (*got > cut && *want > cut)
        }
        _ => got == want,
    }
}

const KEYS: &[&str] = &["a", "b", "c", "d", "k1", "k2"];
const VALUES: &[&str] =
    &["", "1", "10", "-5", "hello", "1.25", "9223372036854775806", "003", "\r\n\0"];
const INTEGERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "5",
    "-7",
    "100",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "abc",
    "",
    "1.5",
    " 1",
    "01",
    "+1",
    "-0",
    "3",
];
const FRACTIONS: &[&str] =
    &["1.5", "-0.25", "3", "abc", "nan", "inf", "0.125", "5.0", ".5", "1.", ""];
const RELATIVE: &[&str] =
    &["10000", "1000", "0", "-1", "abc", "9223372036854775807", "9223372036854775", "100000"];
// Nothing that ends while it is asked for, however long that takes: one server is asked a moment before
// the other.
const RELATIVE_MS: &[&str] =
    &["2000000", "1000000", "0", "-1", "abc", "9223372036854775807", "9223372036854775", "3000000"];
const SECONDS: &[&str] =
    &["4102444800", "5000000000", "1", "0", "-1", "abc", "9223372036854775807"];
const MILLIS: &[&str] = &["4102444800000", "5000000000123", "1", "0", "-5", "xyz"];
const PATTERNS: &[&str] =
    &["*", "k*", "[a-c]", "[^a]", "?1", "k\\1", "zz", "k[", "k[1", "", "**k**2"];

/// What a command is made of: `%` and a letter stand for a random part.
///
/// `%k` a key, `%v` a value, `%i` an integer, `%f` a fraction, `%r` and `%t` a time to live and `%s` and
/// `%m` a date, in seconds and milliseconds, `%p` a pattern, `%o` an option of SET or GETEX with its
/// number, `%c` a condition of EXPIRE, `%l` a value of 20,000 bytes.
const TEMPLATES: &[&str] = &[
    "GET %k",
    "GET %k",
    "SET %k %v",
    "SET %k %v %o",
    "SET %k %v %o %o",
    "SET %k %v %o %o %o",
    "SET %k %l",
    "SETNX %k %v",
    "SETEX %k %r %v",
    "PSETEX %k %t %v",
    "GETSET %k %v",
    "GETDEL %k",
    "GETEX %k",
    "GETEX %k %o",
    "GETEX %k %o %o",
    "MGET %k %k %k",
    "MSET %k %v %k %v",
    "MSET %k %v %k",
    "MSETNX %k %v %k %v",
    "INCR %k",
    "DECR %k",
    "INCRBY %k %i",
    "DECRBY %k %i",
    "INCRBYFLOAT %k %f",
    "APPEND %k %v",
    "APPEND %k %l",
    "STRLEN %k",
    "GETRANGE %k %i %i",
    "SUBSTR %k %i %i",
    "SETRANGE %k %i %v",
    "SETRANGE %k 600000000 %v",
    "DEL %k %k",
    "UNLINK %k",
    "EXISTS %k %k",
    "TOUCH %k %k",
    "TYPE %k",
    "TTL %k",
    "PTTL %k",
    "EXPIRETIME %k",
    "PEXPIRETIME %k",
    "EXPIRE %k %r",
    "EXPIRE %k %r %c",
    "EXPIRE %k %r %c %c",
    "PEXPIRE %k %t %c",
    "EXPIREAT %k %s",
    "EXPIREAT %k %s %c",
    "PEXPIREAT %k %m",
    "PEXPIREAT %k %m %c",
    "PERSIST %k",
    "KEYS %p",
    "SCAN 0 COUNT 1000",
    "SCAN 0 MATCH %p COUNT 1000",
    "SCAN 0 TYPE string COUNT 1000",
    "SCAN 0 COUNT 0",
    "SCAN 0 COUNT x",
    "SCAN 0 MATCH",
    "SCAN x",
    "SELECT %i",
    "SELECT 0",
    "FLUSHDB",
    "FLUSHDB ASYNC",
    "FLUSHALL nonsense",
    "PING",
    "PING %v",
    "PING %v %v",
    "ECHO %v",
    "NOSUCH %v %v %v",
    "get",
    "GET a b",
    "HELLO 2",
    "HELLO 3",
    "HELLO 4",
    "HELLO x",
    "HELLO 3 SETNAME me",
    "HELLO 3 FOO",
    "HELLO 2 AUTH default x",
    "HELLO 3 AUTH nobody x",
    "AUTH x",
    "AUTH nobody x",
    "AUTH a b c",
    "CLIENT GETNAME",
    "CLIENT SETNAME me",
    "CLIENT SETNAME %v",
    "CLIENT FOO",
    "CLIENT",
    "CLIENT NO-EVICT on",
    "CLIENT NO-EVICT x",
    "CLIENT KILL 1.2.3.4:5",
    "CLIENT KILL ID 0",
    "CLIENT KILL TYPE zz",
    "CLIENT LIST TYPE zz",
    "CLIENT LIST ID x",
    "CLIENT LIST foo",
    "CLIENT REPLY ON",
    "CONFIG GET save",
    "CONFIG GET appendonly",
    "CONFIG FOO",
    "CONFIG",
    "CONFIG SET nosuch 1",
    "CONFIG SET databases 5",
    "CONFIG SET timeout 0",
    "CONFIG SET timeout",
    "CONFIG SET timeout x",
    "CONFIG RESETSTAT",
    "OBJECT ENCODING nosuch",
    "OBJECT FOO",
    "RESET",
    "COMMAND GETKEYS MSET a 1 b 2",
    "COMMAND GETKEYS DEL a b c",
    "COMMAND INFO nosuch",
    "COMMAND FOO",
    "FUNCTION FLUSH",
    "CLUSTER INFO",
    "READONLY",
    "ROLE",
];

/// A command of one of the templates.
pub(crate) fn random_command(dice: &mut Dice) -> Vec<String> {
    let mut words = Vec::new();
    for part in dice.pick(TEMPLATES).split(' ') {
        let word = match part {
            "%k" => dice.pick(KEYS),
            "%v" => dice.pick(VALUES),
            "%i" => dice.pick(INTEGERS),
            "%f" => dice.pick(FRACTIONS),
            "%r" => dice.pick(RELATIVE),
            "%t" => dice.pick(RELATIVE_MS),
            "%s" => dice.pick(SECONDS),
            "%m" => dice.pick(MILLIS),
            "%p" => dice.pick(PATTERNS),
            "%c" => dice.pick(&["NX", "XX", "GT", "LT", "ZZ"]),
            "%l" => &"x".repeat(20_000),
            "%o" => {
                words.extend(option(dice));
                continue;
            }
            word => word,
        };
        words.push(word.to_owned());
    }
    if dice.below(4) == 0 {
        words[0].make_ascii_lowercase();
    }
    words
}

fn option(dice: &mut Dice) -> Vec<String> {
    let name =
        dice.pick(&["NX", "XX", "GET", "KEEPTTL", "PERSIST", "EX", "PX", "EXAT", "PXAT", "FOO"]);
    let number = match name {
        "EX" => dice.pick(RELATIVE),
        "PX" => dice.pick(RELATIVE_MS),
        "EXAT" => dice.pick(SECONDS),
        "PXAT" => dice.pick(MILLIS),
        _ => return vec![name.to_owned()],
    };
    vec![name.to_owned(), number.to_owned()]
}
