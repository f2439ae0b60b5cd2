//! The conversation itself: who talks, in which dialect, and how it ends.

use super::{Conversation, Open};

#[test]
fn small_talk_is_answered() {
    let mut c = Conversation::new();
    c.check("PING", "+PONG");
    c.check("ping hello", "$5 hello");
    c.check("PING a b", "-ERR wrong number of arguments for 'ping' command");
    c.check("ECHO 'a b'", "$3 a b");
    c.check("ECHO", "-ERR wrong number of arguments for 'echo' command");
    c.check(
        "NOSUCH a b c",
        "-ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b' 'c' ",
    );
    c.check("NOSUCH", "-ERR unknown command 'NOSUCH', with args beginning with: ");
    c.check("GET", "-ERR wrong number of arguments for 'get' command");
    c.check("\"a\\r\\nb\" \"\\x00\"", "-ERR unknown command 'a  b', with args beginning with: '' ");
}

#[test]
fn hello_chooses_the_dialect_and_answers_seven_pairs() {
    let mut c = Conversation::new();
    let two = "*14 $6 server $5 redis $7 version $5 7.4.0 $5 proto :2 $2 id :1 $4 mode $10 standalone $4 role $6 master $7 modules *0";
    let three = two.replace("*14", "%7").replace(":2", ":3");
    c.check("HELLO", two);
    c.check("HELLO 3", &three);
    c.check("HELLO", &three);
    c.check("HELLO 2 SETNAME me", two);
    c.check("CLIENT GETNAME", "$2 me");
    c.check("HELLO 4", "-NOPROTO unsupported protocol version");
    c.check("HELLO x", "-ERR Protocol version is not an integer or out of range");
    c.check("HELLO 3 FOO", "-ERR Syntax error in HELLO option 'FOO'");
    c.check("HELLO 3 AUTH default", "-ERR Syntax error in HELLO option 'AUTH'");
    let names = "-ERR Client names cannot contain spaces, newlines or special characters.";
    c.check("HELLO 3 SETNAME 'a b'", names);
    c.check("GET none", "$-1");
}

#[test]
fn a_password_comes_before_everything_else() {
    let mut c = Conversation::with(Some(b"secret"), 1 << 30);
    c.check("GET k", "-NOAUTH Authentication required.");
    c.check("NOSUCH", "-ERR unknown command 'NOSUCH', with args beginning with: ");
    c.check("GET", "-ERR wrong number of arguments for 'get' command");
    c.check("HELLO 3", "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time");
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.";
    c.check("AUTH wrong", wrong);
    c.check("AUTH other secret", wrong);
    c.check("HELLO 3 AUTH default wrong", wrong);
    c.check("AUTH a b c", "-ERR syntax error");
    let (reply, open) = c.send(b"AUTH wrong\r\nAUTH secret\r\nSET k v\r\nAUTH wrong\r\nGET k\r\n");
    let replies = String::from_utf8(reply).unwrap();
    assert_eq!(replies, format!("{wrong}\r\n+OK\r\n+OK\r\n{wrong}\r\n$1\r\nv\r\n"));
    assert_eq!(open, Open::Yes);
    c.check("RESET", "+RESET");
    c.check("GET k", "-NOAUTH Authentication required.");
    let (reply, _) = c.send(b"HELLO 3 AUTH default secret\r\n");
    assert!(reply.starts_with(b"%7\r\n"));
}

#[test]
fn without_a_password_auth_is_odd_but_harmless() {
    let mut c = Conversation::new();
    c.check("AUTH x", "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?");
    c.check("AUTH default anything", "+OK");
    c.check("AUTH other x", "-WRONGPASS invalid username-password pair or user is disabled.");
}

#[test]
fn nothing_is_executed_after_quit() {
    let mut c = Conversation::new();
    let (reply, open) = c.send(b"SET k 1\r\nQUIT\r\nSET k 2\r\n");
    assert_eq!((reply.as_slice(), open), (&b"+OK\r\n+OK\r\n"[..], Open::No));
    assert_eq!(
        c.store.read(c.store.database(0), b"k", c.now, |view| view.unwrap().value().len()),
        1
    );
}

#[test]
fn a_web_page_executes_nothing() {
    #[track_caller]
    fn check(head: &str, want: &str) {
        for password in [None, Some(&b"secret"[..])] {
            let mut c = Conversation::with(password, 1 << 30);
            let (reply, open) = c.send(format!("{head}\r\n\r\nSET k v\r\n").as_bytes());
            let reply = String::from_utf8(reply).unwrap();
            assert_eq!((reply.as_str(), open), (want, Open::No), "{head}");
            assert!(
                c.store.read(c.store.database(0), b"k", c.now, |view| view.is_none()),
                "{head}"
            );
        }
    }
    check("POST / HTTP/1.1\r\nHost: 127.0.0.1:6379\r\nContent-Length: 9", "");
    check("post / HTTP/1.1", "");
    check("POST", "");
    check("*1\r\n$4\r\nPOST", "");
    let put = "-ERR unknown command 'PUT', with args beginning with: '/' 'HTTP/1.1' \r\n";
    check("PUT / HTTP/1.1\r\nhOST: localhost", put);
    let get = "-ERR wrong number of arguments for 'get' command\r\n";
    check("GET / HTTP/1.1\r\nHost: localhost:6379", get);
    check("GET / HTTP/1.1\r\nHOST:", get);
}

#[test]
fn words_that_resemble_http_are_only_unknown() {
    let mut c = Conversation::new();
    for name in ["POSTS", "HOST", "Host:x"] {
        let want = format!("-ERR unknown command '{name}', with args beginning with: ");
        c.check(name, &want);
        c.check("PING", "+PONG");
    }
}

#[test]
fn what_came_before_nonsense_is_answered() {
    let mut c = Conversation::new();
    let (reply, open) = c.send(b"PING\r\n*999999999\r\nPING\r\n");
    let want = "+PONG\r\n-ERR Protocol error: invalid multibulk length\r\n";
    assert_eq!((String::from_utf8(reply).unwrap().as_str(), open), (want, Open::No));
}

#[test]
fn reset_forgets_what_was_chosen() {
    let mut c = Conversation::new();
    c.send(b"HELLO 3 SETNAME me\r\nSELECT 5\r\nSET k v\r\n");
    c.check("RESET", "+RESET");
    c.check("GET k", "$-1");
    c.check("CLIENT GETNAME", "$-1");
}

#[test]
fn replies_can_be_switched_off_and_skipped() {
    let mut c = Conversation::new();
    let (reply, _) = c.send(b"CLIENT REPLY SKIP\r\nPING a\r\nPING b\r\n");
    assert_eq!(reply, b"$1\r\nb\r\n");
    let (reply, _) = c.send(b"CLIENT REPLY OFF\r\nPING\r\nNOSUCH\r\nCLIENT REPLY SKIP\r\nPING\r\nCLIENT REPLY ON\r\nPING\r\n");
    assert_eq!(reply, b"+OK\r\n+PONG\r\n");
    c.check("CLIENT REPLY x", "-ERR syntax error");
}

#[test]
fn clients_are_listed_named_and_closed() {
    let mut c = Conversation::new();
    c.check("CLIENT ID", ":1");
    c.check("CLIENT SETNAME me", "+OK");
    c.check("CLIENT SETINFO LIB-NAME redis-py", "+OK");
    c.check("CLIENT SETINFO lib-ver 8.1.0", "+OK");
    c.check("CLIENT SETINFO LIB-FOO x", "-ERR Unrecognized option 'LIB-FOO'");
    let spaces = "-ERR lib-name cannot contain spaces, newlines or special characters.";
    c.check("CLIENT SETINFO LIB-NAME 'a b'", spaces);
    c.sleep_ms(3_000);
    let (reply, _) = c.send(b"CLIENT INFO\r\n");
    let info = String::from_utf8(reply).unwrap();
    for part in [
        "id=1 addr=127.0.0.1:5001 laddr=127.0.0.1:6379 name=me age=3 ",
        " cmd=client ",
        " resp=2 lib-name=redis-py lib-ver=8.1.0\n",
    ] {
        assert!(info.contains(part), "{part} in {info}");
    }
    let (reply, _) = c.send(b"CLIENT LIST ID 2\r\n");
    let list = String::from_utf8(reply).unwrap();
    assert!(list.contains("id=2 ") && !list.contains("id=1 "), "{list}");
    c.check("CLIENT LIST TYPE pubsub", "$0 ");
    c.check("CLIENT LIST TYPE zz", "-ERR Unknown client type 'zz'");
    c.check("CLIENT LIST ID x", "-ERR Invalid client ID");
    c.check("CLIENT KILL ID 2", ":1");
    c.check("CLIENT KILL ID 2 ADDR 127.0.0.1:9", ":0");
    c.check("CLIENT KILL 127.0.0.1:9", "-ERR No such client");
    c.check("CLIENT KILL ID 0", "-ERR client-id should be greater than 0");
    c.check("CLIENT KILL TYPE normal", ":1");
    assert_eq!(*c.server.closed.lock().unwrap(), [2, 2]);
    c.check("CLIENT FOO", "-ERR unknown subcommand 'FOO'. Try CLIENT HELP.");
    c.check("CLIENT", "-ERR wrong number of arguments for 'client' command");
    c.check("CLIENT SETNAME", "-ERR wrong number of arguments for 'client|setname' command");
    let (reply, open) = c.send(b"CLIENT KILL 127.0.0.1:5001\r\nPING\r\n");
    assert_eq!((reply.as_slice(), open), (&b"+OK\r\n"[..], Open::No));
}
