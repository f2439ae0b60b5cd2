//! Messages: who gets them, in which form, and what a listener may do meanwhile.

use super::{Conversation, Open, written};
use crate::limits::{CHANNEL_BYTES_MAX, LISTENER_QUEUE_BYTES_MAX, MESSAGE_BYTES_MAX};
use crate::resp::client::Mode;
use crate::resp::output::Output;
use crate::resp::session::Flow;
use bytes::Bytes;
use std::task::{Context, Poll, Waker};

/// Publishes from elsewhere.
fn publish(c: &Conversation, channel: &str, payload: &str) -> usize {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    c.server.cluster.messages.deliver(&bytes(channel), &bytes(payload))
}

/// What the shell writes when it is told that messages wait.
fn messages(c: &mut Conversation) -> String {
    let mut output = Output::default();
    assert_eq!(c.session.write_messages(&mut output), Flow::Continue);
    String::from_utf8(written(&output)).unwrap().replace("\r\n", " ")
}

fn is_ready(c: &Conversation) -> bool {
    c.session.poll_messages(&Context::from_waker(Waker::noop())) == Poll::Ready(())
}

#[test]
fn a_listener_is_told_what_it_listens_to_and_gets_messages() {
    let mut c = Conversation::new();
    c.check(
        "SUBSCRIBE a b a",
        "*3 $9 subscribe $1 a :1 *3 $9 subscribe $1 b :2 *3 $9 subscribe $1 a :2",
    );
    c.check("PSUBSCRIBE a* a", "*3 $10 psubscribe $2 a* :3 *3 $10 psubscribe $1 a :4");
    c.check("SUBSCRIBE b c", "*3 $9 subscribe $1 b :4 *3 $9 subscribe $1 c :5");
    assert!(!is_ready(&c));
    assert_eq!(publish(&c, "a", "1"), 3);
    assert_eq!(publish(&c, "d", "2"), 0);
    assert!(is_ready(&c));
    let want =
        "*3 $7 message $1 a $1 1 *4 $8 pmessage $1 a $1 a $1 1 *4 $8 pmessage $2 a* $1 a $1 1 ";
    assert_eq!(messages(&mut c), want);
    assert!(!is_ready(&c));
    c.check("UNSUBSCRIBE a x", "*3 $11 unsubscribe $1 a :4 *3 $11 unsubscribe $1 x :4");
    c.check("PUNSUBSCRIBE", "*3 $12 punsubscribe $1 a :3 *3 $12 punsubscribe $2 a* :2");
    c.check("PUNSUBSCRIBE", "*3 $12 punsubscribe $-1 :2");
    c.check("UNSUBSCRIBE", "*3 $11 unsubscribe $1 b :1 *3 $11 unsubscribe $1 c :0");
    assert_eq!(c.session.client().mode(), Mode::Normal);
    c.check("UNSUBSCRIBE", "*3 $11 unsubscribe $-1 :0");
    c.check("UNSUBSCRIBE x y", "*3 $11 unsubscribe $1 x :0 *3 $11 unsubscribe $1 y :0");
    c.check("GET k", "$-1");
}

#[test]
fn a_listener_of_resp2_does_little_else() {
    let mut c = Conversation::new();
    c.check("PING", "+PONG");
    c.check("SUBSCRIBE a", "*3 $9 subscribe $1 a :1");
    for command in ["GET k", "PUBLISH a 1", "HELLO 3", "CLIENT INFO", "INFO"] {
        let name = command.split(' ').next().unwrap().to_ascii_lowercase();
        c.check(command, &format!("-ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"));
    }
    c.check("PING", "*2 $4 pong $0 ");
    c.check("PING x", "*2 $4 pong $1 x");
    c.check("RESET", "+RESET");
    c.check("GET k", "$-1");
    assert_eq!(publish(&c, "a", "1"), 0);
    c.check("SUBSCRIBE a", "*3 $9 subscribe $1 a :1");
    assert_eq!(c.send(b"QUIT\r\n"), (b"+OK\r\n".to_vec(), Open::No));
}

#[test]
fn a_listener_of_resp3_does_everything_and_gets_pushes() {
    let mut c = Conversation::new();
    c.send(b"HELLO 3\r\n");
    c.check("SUBSCRIBE a", ">3 $9 subscribe $1 a :1");
    c.check("SET k v", "+OK");
    c.check("PING", "+PONG");
    publish(&c, "a", "1");
    c.check("GET k", ">3 $7 message $1 a $1 1 $1 v");
    c.check("PUBLISH a 2", ":1");
    assert_eq!(messages(&mut c), ">3 $7 message $1 a $1 2 ");
    c.check("PUNSUBSCRIBE", ">3 $12 punsubscribe _ :1");
    c.check("PSUBSCRIBE *", ">3 $10 psubscribe $1 * :2");
    publish(&c, "x", "3");
    assert_eq!(messages(&mut c), ">4 $8 pmessage $1 * $1 x $1 3 ");
}

#[test]
fn nothing_comes_after_the_end_of_a_subscription_was_confirmed() {
    let mut c = Conversation::new();
    c.check("SUBSCRIBE a b", "*3 $9 subscribe $1 a :1 *3 $9 subscribe $1 b :2");
    publish(&c, "a", "1");
    c.check("UNSUBSCRIBE a", "*3 $7 message $1 a $1 1 *3 $11 unsubscribe $1 a :1");
    publish(&c, "a", "2");
    assert_eq!(messages(&mut c), "");
}

#[test]
fn a_subscription_that_is_refused_leaves_those_before() {
    let mut c = Conversation::new();
    c.check("SUBSCRIBE a", "*3 $9 subscribe $1 a :1");
    let long = "x".repeat(CHANNEL_BYTES_MAX + 1);
    let want = "-ERR a channel or pattern of 1025 bytes exceeds the maximum of 1024 bytes";
    c.check(&format!("SUBSCRIBE a b {long} c"), want);
    assert_eq!((publish(&c, "a", "1"), publish(&c, "b", "1")), (1, 0));
    c.check("RESET", "*3 $7 message $1 a $1 1 +RESET");
    c.check(&format!("PSUBSCRIBE {long}"), want);
    c.check("GET k", "$-1");
}

#[test]
fn publishing_counts_who_heard_it_and_pubsub_lists_who_listens() {
    let mut c = Conversation::new();
    c.check("PUBLISH a 1", ":0");
    c.check("PUBLISH a", "-ERR wrong number of arguments for 'publish' command");
    c.send(b"HELLO 3\r\nSUBSCRIBE a ab b\r\nPSUBSCRIBE a*\r\n");
    c.check("PUBSUB CHANNELS", "*3 $1 a $2 ab $1 b");
    c.check("PUBSUB CHANNELS a*", "*2 $1 a $2 ab");
    c.check("PUBSUB NUMSUB a nobody", "*4 $1 a :1 $6 nobody :0");
    c.check("PUBSUB NUMSUB", "*0");
    c.check("PUBSUB NUMPAT", ":1");
    c.check("PUBSUB CHANNELS a b", "-ERR wrong number of arguments for 'pubsub|channels' command");
    c.check("PUBSUB FOO", "-ERR unknown subcommand 'FOO'. Try PUBSUB HELP.");
    c.check("PUBLISH ab x", ":2");
    let (info, _) = c.send(b"INFO clients stats\r\n");
    let info = String::from_utf8(info).unwrap();
    for line in ["pubsub_clients:1\r\n", "pubsub_channels:3\r\n", "pubsub_patterns:1\r\n"] {
        assert!(info.contains(line), "{line} in {info}");
    }
    let (list, _) = c.send(b"CLIENT LIST TYPE pubsub\r\n");
    let list = String::from_utf8(list).unwrap();
    assert!(
        list.contains("id=1 ") && list.contains(" flags=P db=0 sub=3 psub=1 ssub=0 "),
        "{list}"
    );
    let (list, _) = c.send(b"CLIENT LIST TYPE normal\r\n");
    let list = String::from_utf8(list).unwrap();
    assert!(list.contains("id=2 ") && !list.contains("id=1 "), "{list}");
}

#[test]
fn a_large_message_is_shared_and_one_too_large_is_refused() {
    let mut c = Conversation::new();
    c.check("SUBSCRIBE a", "*3 $9 subscribe $1 a :1");
    let payload = "p".repeat(100_000);
    publish(&c, "a", &payload);
    assert_eq!(messages(&mut c), format!("*3 $7 message $1 a $100000 {payload} "));
}

#[test]
fn messages_go_out_a_batch_at_a_time() {
    let mut c = Conversation::new();
    c.check("SUBSCRIBE a", "*3 $9 subscribe $1 a :1");
    let payload = "p".repeat(MESSAGE_BYTES_MAX / 2);
    for _ in 0..4 {
        publish(&c, "a", &payload);
    }
    let mut batches = 0;
    while is_ready(&c) {
        assert!(messages(&mut c).len() < 2 * MESSAGE_BYTES_MAX);
        batches += 1;
    }
    assert_eq!(batches, 2);
}

#[test]
fn a_listener_that_is_too_slow_is_closed() {
    let mut c = Conversation::new();
    c.check("SUBSCRIBE a", "*3 $9 subscribe $1 a :1");
    let payload = "p".repeat(MESSAGE_BYTES_MAX);
    let cx = Context::from_waker(Waker::noop());
    assert_eq!(c.session.poll_cut_off(&cx), Poll::Pending);
    for _ in 0..=LISTENER_QUEUE_BYTES_MAX / MESSAGE_BYTES_MAX {
        publish(&c, "a", &payload);
    }
    assert_eq!(c.session.poll_cut_off(&cx), Poll::Ready(()));
    assert!(is_ready(&c));
    assert_eq!(c.session.write_messages(&mut Output::default()), Flow::Close);
    assert_eq!(c.send(b"PING\r\n"), (Vec::new(), Open::No));
}

#[test]
fn confirmations_and_messages_are_no_replies() {
    let mut c = Conversation::new();
    let (reply, _) = c.send(b"CLIENT REPLY OFF\r\nPING\r\nSUBSCRIBE a\r\n");
    assert_eq!(reply, b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    publish(&c, "a", "1");
    assert_eq!(messages(&mut c), "*3 $7 message $1 a $1 1 ");
}
