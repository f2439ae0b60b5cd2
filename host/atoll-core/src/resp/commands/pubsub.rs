//! PUBLISH, SUBSCRIBE and their relatives: messages to whoever listens at the moment.

use crate::limits::GLOB_BYTES_MAX;
use crate::messages::{Interest, Message, SubscribeError};
use crate::resp::fault::Fault;
use crate::resp::output::Output;
use crate::resp::session::Call;
use crate::resp::transaction::Errand;
use bytes::Bytes;

/// From here on a message goes out from where it lies.
const PAYLOAD_SHARED_BYTES_MIN: usize = 16 * 1024;

pub(crate) fn subscribe(call: &mut Call<'_>) -> Result<(), Fault> {
    listen(call, Interest::Channel)
}

pub(crate) fn psubscribe(call: &mut Call<'_>) -> Result<(), Fault> {
    listen(call, Interest::Pattern)
}

pub(crate) fn unsubscribe(call: &mut Call<'_>) -> Result<(), Fault> {
    leave(call, Interest::Channel);
    Ok(())
}

pub(crate) fn punsubscribe(call: &mut Call<'_>) -> Result<(), Fault> {
    leave(call, Interest::Pattern);
    Ok(())
}

/// What the confirmations of a subscription and of its end are called.
fn words(interest: Interest) -> (&'static str, &'static str) {
    match interest {
        Interest::Channel => ("subscribe", "unsubscribe"),
        Interest::Pattern => ("psubscribe", "punsubscribe"),
    }
}

/// Listens to every name that was given, or to none: a client must know where it stands.
fn listen(call: &mut Call<'_>, interest: Interest) -> Result<(), Fault> {
    let subscriber = call.session.subscriber(call.around.server.cluster().messages());
    let mut added = Vec::new();
    for name in call.arguments.from(1) {
        if subscriber.names(interest).contains(name) {
            continue;
        }
        if let Err(error) = subscriber.subscribe(interest, name) {
            added.into_iter().for_each(|name: &[u8]| subscriber.unsubscribe(interest, name));
            call.session.settle_subscriptions();
            return Err(error.into());
        }
        added.push(name);
    }
    // The number that each confirmation tells is that of its moment.
    let mut count = subscriber.count() - added.len();
    let mut added = added.into_iter().peekable();
    for name in call.arguments.from(1) {
        if added.next_if_eq(&name).is_some() {
            count += 1;
        }
        confirm(call.output, words(interest).0, (Some(name), count));
    }
    call.session.pushes = true;
    call.session.settle_subscriptions();
    Ok(())
}

/// Stops to listen to the names that were given, or to all.
fn leave(call: &mut Call<'_>, interest: Interest) {
    let word = words(interest).1;
    call.session.pushes = true;
    let Some(mut subscriber) = call.session.take_subscriber() else {
        let mut names = call.arguments.from(1).peekable();
        if names.peek().is_none() {
            return confirm(call.output, word, (None, 0));
        }
        return names.for_each(|name| confirm(call.output, word, (Some(name), 0)));
    };
    let names: Vec<Bytes> = if call.len() > 1 {
        call.arguments.from(1).map(Bytes::copy_from_slice).collect()
    } else {
        subscriber.names(interest).iter().cloned().collect()
    };
    let mut counts = Vec::with_capacity(names.len());
    for name in &names {
        subscriber.unsubscribe(interest, name);
        counts.push(subscriber.count());
    }
    // What was published before comes before the confirmation, after which nothing may come.
    while let Some(message) = subscriber.take() {
        write(call.output, &message);
    }
    if names.is_empty() {
        confirm(call.output, word, (None, subscriber.count()));
    }
    for (name, count) in names.iter().zip(counts) {
        confirm(call.output, word, (Some(name), count));
    }
    call.session.put_subscriber(subscriber);
}

fn confirm(output: &mut Output, word: &str, (name, count): (Option<&[u8]>, usize)) {
    output.push(3);
    output.bulk(word.as_bytes());
    match name {
        Some(name) => output.bulk(name),
        None => output.null(),
    }
    output.count(count);
}

/// Writes a message as its listener gets it.
pub(in crate::resp) fn write(output: &mut Output, message: &Message) {
    match &message.pattern {
        Some(pattern) => {
            output.push(4);
            output.bulk(b"pmessage");
            output.bulk(pattern);
        }
        None => {
            output.push(3);
            output.bulk(b"message");
        }
    }
    output.bulk(&message.channel);
    if message.payload.len() < PAYLOAD_SHARED_BYTES_MIN {
        output.bulk(&message.payload);
    } else {
        output.bulk_shared(&message.payload);
    }
}

pub(crate) fn publish(call: &mut Call<'_>) -> Result<(), Fault> {
    let channel = Bytes::copy_from_slice(call.argument(1));
    let payload = match call.arguments.shared(2) {
        Some(bytes) => bytes.clone(),
        None => Bytes::copy_from_slice(call.argument(2)),
    };
    let cluster = call.around.server.cluster();
    cluster.check_message(&channel, &payload).map_err(Fault::Other)?;
    let count = cluster.messages().deliver(&channel, &payload);
    match call.held {
        None => cluster.tell_others(&channel, &payload),
        Some(held) => held.afterwards(Errand::TellOthers { channel, payload }),
    }
    call.output.count(count);
    Ok(())
}

/// PUBSUB CHANNELS: those that somebody on this node listens to.
pub(crate) fn channels(call: &mut Call<'_>) -> Result<(), Fault> {
    let pattern = match call.len() {
        2 => None,
        3 if call.argument(2).len() <= GLOB_BYTES_MAX => Some(call.argument(2)),
        3 => return Err(SubscribeError::TooLong { len: call.argument(2).len() }.into()),
        _ => return Err(Fault::Arity("pubsub|channels".to_owned())),
    };
    let channels = call.around.server.cluster().messages().channels(pattern);
    call.output.array(channels.len());
    channels.iter().for_each(|channel| call.output.bulk(channel));
    Ok(())
}

/// PUBSUB NUMSUB: how many connections of this node listen to each channel by name.
pub(crate) fn numsub(call: &mut Call<'_>) -> Result<(), Fault> {
    let messages = call.around.server.cluster().messages();
    // Flat in RESP3 as well, as clients know it.
    call.output.array(2 * (call.len() - 2));
    for channel in call.arguments.from(2) {
        call.output.bulk(channel);
        call.output.count(messages.listener_count_of(channel));
    }
    Ok(())
}

/// PUBSUB NUMPAT: how many different patterns are listened to on this node.
pub(crate) fn numpat(call: &mut Call<'_>) -> Result<(), Fault> {
    let counts = call.around.server.cluster().messages().name_counts();
    call.output.count(counts.patterns);
    Ok(())
}

impl From<SubscribeError> for Fault {
    fn from(error: SubscribeError) -> Fault {
        Fault::other(error.to_string())
    }
}
