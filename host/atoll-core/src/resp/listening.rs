//! What a session does with messages: who may do what while it listens, and when they go out.

use super::client::Mode;
use super::command::Command;
use super::commands::pubsub;
use super::fault::Fault;
use super::output::{Output, Protocol};
use super::session::{Flow, Session};
use crate::limits::REPLY_BATCH_BYTES;
use crate::messages::subscriber::Subscriber;
use crate::messages::{Interest, Messages};
use std::sync::Arc;
use std::task::{Context, Poll};

impl Session {
    /// Ready once a message waits to be written, or the client was cut off for taking too few.
    pub fn poll_messages(&self, cx: &Context<'_>) -> Poll<()> {
        self.subscriber.as_ref().map_or(Poll::Pending, |subscriber| subscriber.poll_ready(cx))
    }

    /// Ready once the client was cut off.
    pub fn poll_cut_off(&self, cx: &Context<'_>) -> Poll<()> {
        self.subscriber.as_ref().map_or(Poll::Pending, |subscriber| subscriber.poll_cut_off(cx))
    }

    /// Writes the messages that wait, a batch at most. [`Flow::Close`] where the client was cut
    /// off: what it has missed cannot be told any more.
    pub fn write_messages(&mut self, output: &mut Output) -> Flow {
        let Some(subscriber) = &self.subscriber else { return Flow::Continue };
        while output.len() < REPLY_BATCH_BYTES {
            let Some(message) = subscriber.take() else { break };
            output.begin(self.protocol);
            pubsub::write(output, &message);
        }
        if subscriber.is_cut_off() { Flow::Close } else { Flow::Continue }
    }

    /// Whether `command` may run: clients of RESP2 cannot tell replies from messages, so while they
    /// listen they do little else.
    #[inline]
    pub(super) fn check_listening(&self, command: &Command) -> Result<(), Fault> {
        if !self.listens_only() || command.runs_while_listening {
            return Ok(());
        }
        Err(Fault::other(format!(
            "Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are \
             allowed in this context",
            command.name
        )))
    }

    /// Whether the client listens in the dialect in which it can do nothing else.
    #[inline]
    pub(super) fn listens_only(&self) -> bool {
        self.subscriber.is_some() && self.protocol == Protocol::Resp2
    }

    /// The session as a listener.
    pub(super) fn subscriber(&mut self, messages: &Arc<Messages>) -> &mut Subscriber {
        self.subscriber.get_or_insert_with(|| Box::new(Subscriber::new(Arc::clone(messages))))
    }

    /// Takes the listener out, if there is one.
    pub(super) fn take_subscriber(&mut self) -> Option<Box<Subscriber>> {
        self.subscriber.take()
    }

    /// Puts it back.
    pub(super) fn put_subscriber(&mut self, subscriber: Box<Subscriber>) {
        self.subscriber = Some(subscriber);
        self.settle_subscriptions();
    }

    /// Ends the listening where nothing is listened to any more, and shows others what is.
    pub(super) fn settle_subscriptions(&mut self) {
        self.subscriber = self.subscriber.take().filter(|subscriber| subscriber.count() > 0);
        let count = |interest| {
            self.subscriber.as_ref().map_or(0, |subscriber| subscriber.names(interest).len())
        };
        self.client.set_subscriptions(count(Interest::Channel), count(Interest::Pattern));
        self.settle_mode();
    }

    /// Shows others what the connection is there for.
    pub(super) fn settle_mode(&self) {
        self.client.set_mode(match (&self.subscriber, self.waits_for()) {
            (_, Some(_)) => Mode::Waiting,
            (Some(_), None) => Mode::Subscribed,
            (None, None) => Mode::Normal,
        });
    }
}
