//! The commands: names, numbers of arguments, what COMMAND INFO and COMMAND DOCS say of them.

use super::Flag::{
    Admin, DenyOom, Fast, Loading, NoAuth, NoScript, PubSub, Readonly, Stale, Write,
};
use super::Within::{AtOnce, Queued};
use super::{Command, Flag, Subcommand};
use crate::resp::commands::{
    client, config, connection, counters, expiry, info, introspection, keyspace, many, pubsub,
    ranges, replication, server, strings, transaction,
};

const READ: &[Flag] = &[Readonly];
const READ_FAST: &[Flag] = &[Readonly, Fast];
const WRITE: &[Flag] = &[Write];
const WRITE_FAST: &[Flag] = &[Write, Fast];
const GROW: &[Flag] = &[Write, DenyOom];
const GROW_FAST: &[Flag] = &[Write, DenyOom, Fast];
const ALWAYS_FAST: &[Flag] = &[Loading, Stale, Fast];
const ALWAYS: &[Flag] = &[Loading, Stale];
const FIRST: &[Flag] = &[NoScript, Loading, Stale, Fast, NoAuth];
const LISTEN: &[Flag] = &[PubSub, NoScript, Loading, Stale];
const CONTROL: &[Flag] = &[NoScript, Loading, Stale, Fast];
const ADMIN: &[Flag] = &[Admin, NoScript, Loading, Stale];

const HELP: Subcommand =
    Subcommand::new("help", 2, (introspection::help, "Return helpful text about the subcommands."));

/// What each row says, by family.
#[rustfmt::skip]
pub(super) const ROWS: &[Command] = &[
    // Strings: the hottest first, which also keeps them together in memory.
    Command::new("get", 2, strings::get).flags(READ_FAST).keys(1, 1, 1)
        .about("string", "1.0.0", "Returns the string value of a key."),
    Command::new("set", -3, strings::set).flags(GROW).keys(1, 1, 1)
        .about("string", "1.0.0", "Sets the string value of a key, ignoring its type."),
    Command::new("mget", -2, many::mget).flags(READ_FAST).keys(1, -1, 1)
        .about("string", "1.0.0", "Atomically returns the string values of one or more keys."),
    Command::new("mset", -3, many::mset).flags(GROW).keys(1, -1, 2)
        .about("string", "1.0.1", "Atomically creates or modifies the string values of one or more keys."),
    Command::new("msetnx", -3, many::msetnx).flags(GROW).keys(1, -1, 2)
        .about("string", "1.0.1", "Atomically sets the values of keys, only if none of them exists."),
    Command::new("setnx", 3, strings::setnx).flags(GROW_FAST).keys(1, 1, 1)
        .about("string", "1.0.0", "Sets the string value of a key only when the key doesn't exist."),
    Command::new("setex", 4, strings::setex).flags(GROW).keys(1, 1, 1)
        .about("string", "2.0.0", "Sets the string value and expiration time of a key in seconds."),
    Command::new("psetex", 4, strings::psetex).flags(GROW).keys(1, 1, 1)
        .about("string", "2.6.0", "Sets the string value and expiration time of a key in milliseconds."),
    Command::new("getset", 3, strings::getset).flags(GROW_FAST).keys(1, 1, 1)
        .about("string", "1.0.0", "Returns the previous string value of a key after setting it to a new value."),
    Command::new("getex", -2, strings::getex).flags(WRITE_FAST).keys(1, 1, 1)
        .about("string", "6.2.0", "Returns the string value of a key after setting its expiration time."),
    Command::new("getdel", 2, strings::getdel).flags(WRITE_FAST).keys(1, 1, 1)
        .about("string", "6.2.0", "Returns the string value of a key after deleting the key."),
    Command::new("incr", 2, counters::incr).flags(GROW_FAST).keys(1, 1, 1)
        .about("string", "1.0.0", "Increments the integer value of a key by one."),
    Command::new("decr", 2, counters::decr).flags(GROW_FAST).keys(1, 1, 1)
        .about("string", "1.0.0", "Decrements the integer value of a key by one."),
    Command::new("incrby", 3, counters::incrby).flags(GROW_FAST).keys(1, 1, 1)
        .about("string", "1.0.0", "Increments the integer value of a key by a number."),
    Command::new("decrby", 3, counters::decrby).flags(GROW_FAST).keys(1, 1, 1)
        .about("string", "1.0.0", "Decrements a number from the integer value of a key."),
    Command::new("incrbyfloat", 3, counters::incrbyfloat).flags(GROW_FAST).keys(1, 1, 1)
        .about("string", "2.6.0", "Increments the floating point value of a key by a number."),
    Command::new("append", 3, ranges::append).flags(GROW_FAST).keys(1, 1, 1)
        .about("string", "2.0.0", "Appends a string to the value of a key."),
    Command::new("strlen", 2, ranges::strlen).flags(READ_FAST).keys(1, 1, 1)
        .about("string", "2.2.0", "Returns the length of a string value."),
    Command::new("getrange", 4, ranges::getrange).flags(READ).keys(1, 1, 1)
        .about("string", "2.4.0", "Returns a substring of the string stored at a key."),
    Command::new("substr", 4, ranges::getrange).flags(READ).keys(1, 1, 1)
        .about("string", "1.0.0", "Returns a substring from a string value."),
    Command::new("setrange", 4, ranges::setrange).flags(GROW).keys(1, 1, 1)
        .about("string", "2.2.0", "Overwrites a part of a string value with another by an offset."),
    // Keys.
    Command::new("del", -2, keyspace::del).flags(WRITE).keys(1, -1, 1)
        .about("generic", "1.0.0", "Deletes one or more keys."),
    Command::new("unlink", -2, keyspace::del).flags(WRITE_FAST).keys(1, -1, 1)
        .about("generic", "4.0.0", "Deletes one or more keys."),
    Command::new("exists", -2, keyspace::exists).flags(READ_FAST).keys(1, -1, 1)
        .about("generic", "1.0.0", "Determines whether one or more keys exist."),
    Command::new("touch", -2, keyspace::exists).flags(READ_FAST).keys(1, -1, 1)
        .about("generic", "3.2.1", "Returns the number of existing keys out of those specified."),
    Command::new("type", 2, keyspace::r#type).flags(READ_FAST).keys(1, 1, 1)
        .about("generic", "1.0.0", "Determines the type of value stored at a key."),
    Command::new("keys", 2, keyspace::keys).flags(READ)
        .about("generic", "1.0.0", "Returns all key names that match a pattern."),
    Command::new("scan", -2, keyspace::scan).flags(READ)
        .about("generic", "2.8.0", "Iterates over the key names in the database."),
    Command::new("dbsize", 1, keyspace::dbsize).flags(READ_FAST)
        .about("server", "1.0.0", "Returns the number of keys in the database."),
    Command::new("flushdb", -1, keyspace::flushdb).flags(WRITE).within(Queued)
        .about("server", "1.0.0", "Removes all keys from the current database."),
    Command::new("flushall", -1, keyspace::flushall).flags(WRITE).within(Queued)
        .about("server", "1.0.0", "Removes all keys from all databases."),
    Command::container("object", &[
        Subcommand::new("encoding", 3, (keyspace::encoding, "Return the kind of internal representation used for a key's value.")),
        HELP,
    ]).flags(READ).keys(2, 2, 1).about("generic", "2.2.3", "A container for object introspection commands."),
    Command::new("ttl", 2, expiry::ttl).flags(READ_FAST).keys(1, 1, 1)
        .about("generic", "1.0.0", "Returns the expiration time in seconds of a key."),
    Command::new("pttl", 2, expiry::pttl).flags(READ_FAST).keys(1, 1, 1)
        .about("generic", "2.6.0", "Returns the expiration time in milliseconds of a key."),
    Command::new("expiretime", 2, expiry::expiretime).flags(READ_FAST).keys(1, 1, 1)
        .about("generic", "7.0.0", "Returns the expiration time of a key as a Unix timestamp."),
    Command::new("pexpiretime", 2, expiry::pexpiretime).flags(READ_FAST).keys(1, 1, 1)
        .about("generic", "7.0.0", "Returns the expiration time of a key as a Unix milliseconds timestamp."),
    Command::new("expire", -3, expiry::expire).flags(WRITE_FAST).keys(1, 1, 1)
        .about("generic", "1.0.0", "Sets the expiration time of a key in seconds."),
    Command::new("pexpire", -3, expiry::pexpire).flags(WRITE_FAST).keys(1, 1, 1)
        .about("generic", "2.6.0", "Sets the expiration time of a key in milliseconds."),
    Command::new("expireat", -3, expiry::expireat).flags(WRITE_FAST).keys(1, 1, 1)
        .about("generic", "1.2.0", "Sets the expiration time of a key to a Unix timestamp."),
    Command::new("pexpireat", -3, expiry::pexpireat).flags(WRITE_FAST).keys(1, 1, 1)
        .about("generic", "2.6.0", "Sets the expiration time of a key to a Unix milliseconds timestamp."),
    Command::new("persist", 2, expiry::persist).flags(WRITE_FAST).keys(1, 1, 1)
        .about("generic", "2.2.0", "Removes the expiration time of a key."),
    // The connection.
    Command::new("ping", -1, connection::ping).flags(&[Fast]).within(Queued).while_listening()
        .about("connection", "1.0.0", "Returns the server's liveliness response."),
    Command::new("echo", 2, connection::echo).flags(ALWAYS_FAST).within(Queued)
        .about("connection", "1.0.0", "Returns the given string."),
    Command::new("hello", -1, connection::hello).flags(FIRST)
        .about("connection", "6.0.0", "Handshakes with the server."),
    Command::new("auth", -2, connection::auth).flags(FIRST)
        .about("connection", "1.0.0", "Authenticates the connection."),
    Command::new("select", 2, connection::select).flags(ALWAYS_FAST).within(Queued)
        .about("connection", "1.0.0", "Changes the selected database."),
    Command::new("quit", -1, connection::quit).flags(FIRST).while_listening().within(AtOnce)
        .about("connection", "1.0.0", "Closes the connection."),
    Command::new("reset", 1, connection::reset).flags(FIRST).while_listening().within(AtOnce)
        .about("connection", "6.2.0", "Resets the connection."),
    Command::container("client", CLIENT).flags(ALWAYS)
        .about("connection", "2.4.0", "A container for client connection commands."),
    // Messages.
    Command::new("subscribe", -2, pubsub::subscribe).flags(LISTEN).while_listening()
        .about("pubsub", "2.0.0", "Listens for messages published to channels."),
    Command::new("unsubscribe", -1, pubsub::unsubscribe).flags(LISTEN).while_listening()
        .about("pubsub", "2.0.0", "Stops listening to messages posted to channels."),
    Command::new("psubscribe", -2, pubsub::psubscribe).flags(LISTEN).while_listening()
        .about("pubsub", "2.0.0", "Listens for messages published to channels that match one or more patterns."),
    Command::new("punsubscribe", -1, pubsub::punsubscribe).flags(LISTEN).while_listening()
        .about("pubsub", "2.0.0", "Stops listening to messages published to channels that match one or more patterns."),
    Command::new("publish", 3, pubsub::publish).flags(&[PubSub, Loading, Stale, Fast]).within(Queued)
        .about("pubsub", "2.0.0", "Posts a message to a channel, on every node."),
    Command::container("pubsub", &[
        Subcommand::new("channels", -2, (pubsub::channels, "Return the channels that somebody on this node listens to, or those that match a pattern.")),
        Subcommand::new("numsub", -2, (pubsub::numsub, "Return the number of connections of this node that listen to each channel.")),
        Subcommand::new("numpat", 2, (pubsub::numpat, "Return the number of patterns that are listened to on this node.")),
        HELP,
    ]).flags(&[PubSub, Loading, Stale])
        .about("pubsub", "2.8.0", "A container for Pub/Sub commands."),
    // Transactions.
    Command::new("multi", 1, transaction::multi).flags(CONTROL).within(AtOnce)
        .about("transactions", "1.2.0", "Starts a transaction."),
    Command::new("exec", 1, transaction::exec).flags(CONTROL).within(AtOnce)
        .about("transactions", "1.2.0", "Executes all commands in a transaction."),
    Command::new("discard", 1, transaction::discard).flags(CONTROL).within(AtOnce)
        .about("transactions", "2.0.0", "Discards a transaction."),
    Command::new("watch", -2, transaction::watch).flags(CONTROL).keys(1, -1, 1).within(AtOnce)
        .about("transactions", "2.2.0", "Monitors changes to keys to determine the execution of a transaction."),
    Command::new("unwatch", 1, transaction::unwatch).flags(CONTROL).within(Queued)
        .about("transactions", "2.2.0", "Forgets about watched keys of a transaction."),
    // The server.
    Command::container("config", &[
        Subcommand::new("get", -3, (config::get, "Return parameters matching the glob-like patterns and their values.")),
        Subcommand::new("set", -4, (config::set, "Set the configuration parameters to the values.")),
        Subcommand::new("resetstat", 2, (config::resetstat, "Reset statistics reported by the INFO command.")),
        HELP,
    ]).flags(ADMIN).about("server", "2.0.0", "A container for server configuration commands."),
    Command::new("command", -1, introspection::command).flags(ALWAYS)
        .about("server", "2.8.13", "Returns detailed information about all commands."),
    Command::new("info", -1, info::info).flags(ALWAYS)
        .about("server", "1.0.0", "Returns information and statistics about the server."),
    Command::new("time", 1, server::time).flags(ALWAYS_FAST).within(Queued)
        .about("server", "2.6.0", "Returns the server time."),
    Command::new("role", 1, replication::role).flags(ALWAYS_FAST)
        .about("server", "2.8.12", "Returns the replication role."),
    Command::new("replicaof", -3, replication::replicaof).flags(ADMIN)
        .about("server", "5.0.0", "Adds a peer to link with, or removes one or all."),
    Command::new("slaveof", -3, replication::replicaof).flags(ADMIN)
        .about("server", "1.0.0", "Adds a peer to link with, or removes one or all."),
    Command::new("wait", 3, replication::wait)
        .about("generic", "3.0.0", "Blocks until other nodes hold all that was written here so far."),
    Command::new("waitaof", 4, replication::waitaof)
        .about("generic", "7.2.0", "Is not supported."),
    Command::container("function", &[
        Subcommand::new("flush", -2, (server::function_flush, "Delete all the libraries.")),
        HELP,
    ]).flags(&[Write, NoScript]).about("scripting", "7.0.0", "A container for function commands."),
    Command::new("cluster", -2, server::no_cluster).flags(&[Stale])
        .about("cluster", "3.0.0", "A container for Redis Cluster commands."),
    Command::new("readonly", 1, server::no_cluster).flags(ALWAYS_FAST)
        .about("cluster", "3.0.0", "Enables read-only queries for a connection to a Redis Cluster replica node."),
    Command::new("readwrite", 1, server::no_cluster).flags(ALWAYS_FAST)
        .about("cluster", "3.0.0", "Enables read-write queries for a connection to a Redis Cluster replica node."),
];

#[rustfmt::skip]
const CLIENT: &[Subcommand] = &[
    Subcommand::new("setinfo", 4, (client::setinfo, "Set client meta attributes (LIB-NAME or LIB-VER).")),
    Subcommand::new("setname", 3, (client::setname, "Assign a name to the current connection.")),
    Subcommand::new("getname", 2, (client::getname, "Return the name of the current connection.")),
    Subcommand::new("id", 2, (client::id, "Return the ID of the current connection.")),
    Subcommand::new("info", 2, (client::info, "Return information about the current client connection.")),
    Subcommand::new("list", -2, (client::list, "Return information about client connections (TYPE or ID to filter).")),
    Subcommand::new("kill", -3, (client::kill, "Kill connections by address, or by ID, TYPE, USER, ADDR, LADDR, SKIPME.")),
    Subcommand::new("no-evict", 3, (client::on_off, "Protect current client connection from eviction.")),
    Subcommand::new("no-touch", 3, (client::on_off, "Keep commands of this connection from altering the LRU of keys.")),
    Subcommand::new("reply", 3, (client::reply, "Control the replies sent to the current connection.")),
    HELP,
];
