//! What the server says about itself.

use super::Conversation;
use crate::resp::command::COMMANDS;

#[test]
fn configuration_is_told_and_changed_where_it_can_be() {
    let mut c = Conversation::new();
    c.check("CONFIG GET save", "*2 $4 save $0 ");
    c.check("CONFIG GET nosuch", "*0");
    c.check("CONFIG GET max*s databases", "*4 $9 databases $2 16 $10 maxclients $3 100");
    c.check("HELLO 3 AUTH a b", "-WRONGPASS invalid username-password pair or user is disabled.");
    c.send(b"HELLO 3\r\n");
    c.check("CONFIG GET TIMEOUT", "%1 $7 timeout $1 0");
    c.check("CONFIG SET timeout 30 maxclients 7", "+OK");
    c.check("CONFIG GET timeout", "%1 $7 timeout $2 30");
    assert_eq!(c.server.limits.lock().unwrap().clients_max, 7);
    c.check("CONFIG SET save ''", "+OK");
    c.check("CONFIG SET databases 5", "-ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config");
    c.check(
        "CONFIG SET timeout 9 nosuch 1",
        "-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'",
    );
    c.check("CONFIG GET timeout", "%1 $7 timeout $2 30");
    c.check("CONFIG SET timeout x", "-ERR CONFIG SET failed (possibly related to argument 'timeout') - argument couldn't be parsed into an integer");
    c.check("CONFIG SET maxclients 0", "-ERR CONFIG SET failed (possibly related to argument 'maxclients') - argument must be between 1 and 4294967295 inclusive");
    for bad in ["0", "-1", "+1", "x", "1tb", "", "99999999999gb"] {
        let (reply, _) = c.send(format!("CONFIG SET maxmemory '{bad}'\r\n").as_bytes());
        assert!(reply.starts_with(b"-ERR CONFIG SET failed"), "{bad}");
    }
    for (text, bytes) in [("2kb", "2048"), ("1K", "1000"), ("3mb", "3145728"), ("7", "7")] {
        c.check(&format!("CONFIG SET maxmemory {text}"), "+OK");
        let want = format!("%1 $9 maxmemory ${} {bytes}", bytes.len());
        c.check("CONFIG GET maxmemory", &want);
    }
    c.check("SET k eight-or-more", "-OOM command not allowed when used memory > 'maxmemory'.");
    c.check("CONFIG SET maxmemory 1gb", "+OK");
    c.check("SET k v", "+OK");
    c.check("CONFIG FOO", "-ERR unknown subcommand 'FOO'. Try CONFIG HELP.");
    c.check("CONFIG GET", "-ERR wrong number of arguments for 'config|get' command");
}

#[test]
fn info_has_what_clients_look_for() {
    let mut c = Conversation::new();
    c.send(b"SET a 1 EX 100\r\nSET b 2\r\nGET a\r\nGET nope\r\nGET\r\nNOSUCH\r\n");
    let (reply, _) = c.send(b"INFO\r\n");
    let text = String::from_utf8(reply).unwrap();
    for line in [
        "# Server\r\n",
        "redis_version:7.4.0\r\n",
        "atoll_version:9.9.9\r\n",
        "loading:0\r\n",
        "role:master\r\n",
        "connected_clients:0\r\n",
        "used_memory:",
        "maxmemory_policy:noeviction\r\n",
        "total_commands_processed:5\r\n",
        "total_error_replies:2\r\n",
        "keyspace_hits:1\r\n",
        "keyspace_misses:1\r\n",
        "cluster_enabled:0\r\n",
        "\r\n\r\n# Keyspace\r\ndb0:keys=2,expires=1,avg_ttl=0\r\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(!text.contains("cmdstat"));
    let (reply, _) = c.send(b"INFO commandstats replication\r\n");
    let text = String::from_utf8(reply).unwrap();
    assert!(text.contains("cmdstat_get:calls=3,failed_calls=1\r\n"), "{text}");
    assert!(text.contains("role:master") && !text.contains("# Server"), "{text}");
    c.check("CONFIG RESETSTAT", "+OK");
    let (reply, _) = c.send(b"INFO stats\r\n");
    let text = String::from_utf8(reply).unwrap();
    assert!(text.contains("keyspace_hits:0\r\n"), "{text}");
    c.check("INFO nosuch", "$0 ");
}

#[test]
fn commands_are_described_as_they_are() {
    let mut c = Conversation::new();
    c.check("COMMAND COUNT", &format!(":{}", COMMANDS.len()));
    c.check(
        "COMMAND INFO get nosuch",
        "*2 *10 $3 get :2 *2 +readonly +fast :1 :1 :1 *3 +@read +@fast +@string *0 *0 *0 $-1",
    );
    c.check("COMMAND GETKEYS MSET a 1 b 2", "*2 $1 a $1 b");
    c.check("COMMAND GETKEYS DEL a b c", "*3 $1 a $1 b $1 c");
    c.check("COMMAND GETKEYS PING", "-ERR The command has no key arguments");
    c.check("COMMAND GETKEYS NOSUCH x", "-ERR Invalid command specified");
    c.check("COMMAND LIST FILTERBY PATTERN mset*", "*2 $4 mset $6 msetnx");
    c.check("COMMAND FOO", "-ERR unknown subcommand 'FOO'. Try COMMAND HELP.");
    c.send(b"HELLO 3\r\n");
    c.check("COMMAND DOCS ping nosuch", "%1 $4 ping %3 $7 summary $41 Returns the server's liveliness response. $5 since $5 1.0.0 $5 group $10 connection");
}

#[test]
fn small_facts_are_right() {
    let mut c = Conversation::new();
    c.check("TIME", "*2 $10 1700000000 $1 0");
    c.check("ROLE", "*3 $6 master :0 *0");
    c.check("FUNCTION FLUSH", "+OK");
    c.check("FUNCTION LIST", "-ERR unknown subcommand 'LIST'. Try FUNCTION HELP.");
    c.check("CLUSTER INFO", "-ERR This instance has cluster support disabled");
    c.check("READONLY", "-ERR This instance has cluster support disabled");
    c.check(
        "SENTINEL MASTERS",
        "-ERR unknown command 'SENTINEL', with args beginning with: 'MASTERS' ",
    );
}

#[test]
fn an_obstacle_to_writes_is_told_in_redis_own_words() {
    use crate::store::gate::Obstacle;
    let mut c = Conversation::new();
    c.check("SET k v", "+OK");
    let writes =
        ["SET k v2", "DEL k", "INCR n", "EXPIRE k 10", "MSET a 1 b 2", "FLUSHDB", "FLUSHALL"];
    c.store.set_obstacle(Some(Obstacle::Loading));
    for write in writes {
        c.check(write, "-LOADING Redis is loading the dataset in memory");
    }
    c.check("GET k", "$1 v");
    c.store.set_obstacle(Some(Obstacle::Disk));
    for write in writes {
        let (reply, _) = c.send(format!("{write}\r\n").as_bytes());
        assert!(reply.starts_with(b"-MISCONF "), "{write}");
    }
    c.check("MGET k n a", "*3 $1 v $-1 $-1");
    c.store.set_obstacle(None);
    c.check("DEL k", ":1");
}

#[test]
fn only_a_command_that_writes_makes_its_reply_wait() {
    let mut c = Conversation::new();
    for (command, writes) in [("GET k", false), ("SET k v", true), ("PING", false), ("DEL k", true)]
    {
        c.send(format!("{command}\r\n").as_bytes());
        assert_eq!(c.session.take_has_written(), writes, "{command}");
        assert!(!c.session.take_has_written(), "it is told once");
    }
}
