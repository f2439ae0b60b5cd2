//! Who gets which messages, in which order, and what it costs when they are not taken.

use super::subscriber::Subscriber;
use super::*;
use crate::limits::{LISTENER_QUEUE_BYTES_MAX, LISTENERS_QUEUE_BYTES_MAX, MESSAGE_BYTES_MAX};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, Wake, Waker};

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn subscriber(messages: &Arc<Messages>, channels: &[&str], patterns: &[&str]) -> Subscriber {
    let mut subscriber = Subscriber::new(Arc::clone(messages));
    for channel in channels {
        subscriber.subscribe(Interest::Channel, channel.as_bytes()).expect("there is room");
    }
    for pattern in patterns {
        subscriber.subscribe(Interest::Pattern, pattern.as_bytes()).expect("there is room");
    }
    subscriber
}

/// What waits, as `pattern/channel/payload`.
fn drain(subscriber: &Subscriber) -> Vec<String> {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    std::iter::from_fn(|| subscriber.take())
        .map(|message| {
            let pattern = message.pattern.as_ref().map(text).unwrap_or_default();
            format!("{pattern}/{}/{}", text(&message.channel), text(&message.payload))
        })
        .collect()
}

#[test]
fn a_message_reaches_those_who_listen_once_for_each_subscription() {
    let messages = Arc::new(Messages::default());
    let by_name = subscriber(&messages, &["news", "news"], &[]);
    let both = subscriber(&messages, &["news"], &["n*", "*s"]);
    let other = subscriber(&messages, &["new"], &["x*"]);
    assert_eq!(messages.deliver(&bytes("news"), &bytes("1")), 4);
    assert_eq!(messages.deliver(&bytes("nobody"), &bytes("2")), 1);
    assert_eq!(messages.deliver(&bytes("silence"), &bytes("3")), 0);
    assert_eq!(drain(&by_name), ["/news/1"]);
    assert_eq!(drain(&both), ["/news/1", "*s/news/1", "n*/news/1", "n*/nobody/2"]);
    assert_eq!(drain(&other), [""; 0]);
    assert_eq!(messages.counts().delivered, 5);
}

#[test]
fn who_stops_listening_gets_what_came_before_and_nothing_after() {
    let messages = Arc::new(Messages::default());
    let mut listener = subscriber(&messages, &["a", "b"], &["*"]);
    messages.deliver(&bytes("a"), &bytes("1"));
    listener.unsubscribe(Interest::Channel, b"a");
    listener.unsubscribe(Interest::Channel, b"never");
    messages.deliver(&bytes("a"), &bytes("2"));
    assert_eq!(drain(&listener), ["/a/1", "*/a/1", "*/a/2"]);
    assert_eq!(listener.count(), 2);
    let gone = listener;
    drop(gone);
    assert_eq!(messages.deliver(&bytes("b"), &bytes("3")), 0);
    assert_eq!(messages.name_counts(), NameCounts::default());
    assert_eq!(messages.subscription_bytes.load(Relaxed), 0);
    assert_eq!(messages.counts(), Counts { delivered: 3, ..Counts::default() });
}

#[test]
fn channels_are_listed_and_counted() {
    let messages = Arc::new(Messages::default());
    let _one = subscriber(&messages, &["b", "a", "ax"], &["p*"]);
    let _two = subscriber(&messages, &["a"], &["p*", "q*"]);
    assert_eq!(messages.channels(None), [bytes("a"), bytes("ax"), bytes("b")]);
    assert_eq!(messages.channels(Some(b"a?")), [bytes("ax")]);
    assert_eq!(messages.listener_count_of(b"a"), 2);
    assert_eq!(messages.listener_count_of(b"p*"), 0);
    assert_eq!(messages.name_counts(), NameCounts { channels: 3, patterns: 2 });
    assert_eq!(messages.counts().listeners, 2);
}

#[test]
fn a_slow_listener_is_cut_off_and_costs_nothing_more() {
    let messages = Arc::new(Messages::default());
    let slow = subscriber(&messages, &["c"], &[]);
    let quick = subscriber(&messages, &["c"], &[]);
    let payload = Bytes::from(vec![0; MESSAGE_BYTES_MAX]);
    let rounds = LISTENER_QUEUE_BYTES_MAX / MESSAGE_BYTES_MAX;
    for _ in 0..rounds {
        assert!(!slow.is_cut_off());
        messages.deliver(&bytes("c"), &payload);
        assert_eq!(drain(&quick).len(), 1);
    }
    assert!(slow.is_cut_off() && !quick.is_cut_off());
    assert_eq!(slow.take(), None);
    assert_eq!((messages.counts().cut_off, messages.counts().queued_bytes), (1, 0));
    messages.deliver(&bytes("c"), &payload);
    assert_eq!(slow.take(), None);
    assert_eq!(messages.counts().cut_off, 1);
}

#[test]
fn past_the_common_budget_those_with_more_than_their_share_go() {
    let messages = Arc::new(Messages::default());
    let count = 2 * LISTENERS_QUEUE_BYTES_MAX / LISTENER_QUEUE_BYTES_MAX;
    let many: Vec<_> = (0..count).map(|_| subscriber(&messages, &["c"], &[])).collect();
    let quick = subscriber(&messages, &["c"], &[]);
    let payload = Bytes::from(vec![0; MESSAGE_BYTES_MAX]);
    for _ in 0..LISTENER_QUEUE_BYTES_MAX / MESSAGE_BYTES_MAX - 1 {
        messages.deliver(&bytes("c"), &payload);
        drain(&quick);
    }
    assert!(messages.counts().queued_bytes <= LISTENERS_QUEUE_BYTES_MAX);
    assert!(many.iter().any(|listener| listener.is_cut_off()), "together they held too much");
    assert!(!quick.is_cut_off(), "nothing waited for it");
}

#[test]
fn what_can_be_subscribed_to_is_bounded() {
    let messages = Arc::new(Messages::default());
    let mut listener = Subscriber::new(Arc::clone(&messages));
    let long = vec![b'x'; CHANNEL_BYTES_MAX + 1];
    for interest in [Interest::Channel, Interest::Pattern] {
        let want = SubscribeError::TooLong { len: long.len() };
        assert_eq!(listener.subscribe(interest, &long), Err(want));
        assert_eq!(listener.subscribe(interest, &long[1..]), Ok(()));
    }
    for number in 1..PATTERN_COUNT_MAX {
        let pattern = format!("p{number}");
        assert_eq!(listener.subscribe(Interest::Pattern, pattern.as_bytes()), Ok(()));
    }
    let want = Err(SubscribeError::TooManyPatterns);
    assert_eq!(listener.subscribe(Interest::Pattern, b"one more"), want);
    let mut other = Subscriber::new(Arc::clone(&messages));
    assert_eq!(other.subscribe(Interest::Pattern, b"p1"), Ok(()), "it is matched anyway");
    let mut number = 0_u64;
    let full = loop {
        number += 1;
        let channel = format!("{number:01024}");
        if let Err(full) = other.subscribe(Interest::Channel, channel.as_bytes()) {
            break full;
        }
    };
    assert_eq!(full, SubscribeError::Full);
    assert!(messages.subscription_bytes.load(Relaxed) <= SUBSCRIPTION_BYTES_MAX);
    other.unsubscribe(Interest::Channel, format!("{:01024}", 1).as_bytes());
    assert_eq!(other.subscribe(Interest::Channel, b"room again"), Ok(()));
}

/// Notes that it was woken.
#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn a_listener_is_woken_by_the_first_message() {
    let messages = Arc::new(Messages::default());
    let listener = subscriber(&messages, &["c"], &[]);
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    let cx = Context::from_waker(&waker);
    assert_eq!(listener.poll_ready(&cx), Poll::Pending);
    messages.deliver(&bytes("other"), &bytes("1"));
    assert!(!bell.0.load(Relaxed));
    messages.deliver(&bytes("c"), &bytes("1"));
    assert!(bell.0.load(Relaxed));
    assert_eq!(listener.poll_ready(&cx), Poll::Ready(()));
    listener.take();
    assert_eq!(listener.poll_ready(&cx), Poll::Pending);
}

/// One step of a client's life.
#[derive(Clone, Debug)]
enum Step {
    Subscribe(Interest, u8),
    Unsubscribe(Interest, u8),
    Deliver(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let interest = prop_oneof![Just(Interest::Channel), Just(Interest::Pattern)];
    prop_oneof![
        (interest.clone(), 0..4_u8).prop_map(|(interest, name)| Step::Subscribe(interest, name)),
        (interest, 0..4_u8).prop_map(|(interest, name)| Step::Unsubscribe(interest, name)),
        (0..4_u8).prop_map(Step::Deliver),
    ]
}

proptest! {
    /// Whatever is subscribed in which order: a message comes once for each name that is listened
    /// to at that moment.
    #[test]
    fn messages_follow_the_subscriptions(steps in prop::collection::vec(step(), 1..60)) {
        let messages = Arc::new(Messages::default());
        let mut listener = Subscriber::new(Arc::clone(&messages));
        let (mut channels, mut patterns) = (BTreeSet::new(), BTreeSet::new());
        for (index, step) in steps.into_iter().enumerate() {
            match step {
                Step::Subscribe(interest, name) => {
                    listener.subscribe(interest, &[b'a' + name]).expect("there is room");
                    let names = if interest == Interest::Channel { &mut channels } else { &mut patterns };
                    names.insert(name);
                }
                Step::Unsubscribe(interest, name) => {
                    listener.unsubscribe(interest, &[b'a' + name]);
                    let names = if interest == Interest::Channel { &mut channels } else { &mut patterns };
                    names.remove(&name);
                }
                Step::Deliver(name) => {
                    let want = usize::from(channels.contains(&name)) + usize::from(patterns.contains(&name));
                    let (channel, payload) = (Bytes::from(vec![b'a' + name]), bytes(&index.to_string()));
                    prop_assert_eq!(messages.deliver(&channel, &payload), want);
                    prop_assert_eq!(drain(&listener).len(), want);
                }
            }
            prop_assert_eq!(listener.count(), channels.len() + patterns.len());
        }
        drop(listener);
        prop_assert_eq!(messages.subscription_bytes.load(Relaxed), 0);
        prop_assert_eq!(messages.name_counts(), NameCounts::default());
    }
}
