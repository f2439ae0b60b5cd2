//! A new connection, from its first byte to a peer that is known.

use super::channel::{ChannelError, Open, Security, Stream};
use super::handshake::{self, HandshakeError, Messages, Proving};
use super::introduction::{self, Introduction, Purpose, Ticket};
use super::limits::HANDSHAKE_WAIT;
use super::preface::PrefaceError;
use super::proof::Side;
use atoll_core::wire::frame::Hello;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What this node needs to meet others.
#[derive(Debug)]
pub(super) struct Meeting {
    pub(super) security: Security,
    /// How it introduces itself, but for the nonce and the purpose.
    pub(super) ours: Introduction,
}

/// A peer that has proved who it is.
#[derive(Debug)]
pub(super) struct Met {
    pub(super) messages: Messages<Stream>,
    pub(super) peer: Introduction,
    side: Side,
}

/// Why two nodes did not meet. Worded for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MeetError {
    /// Nobody answered, or not in our language.
    #[error("{0}")]
    Failed(String),
    /// This end declined the other, or the other this one.
    #[error("{0}")]
    Refused(String),
}

impl Meeting {
    /// Meets whoever is at the other end of a connection that this node opened.
    pub(super) async fn dial(&self, stream: TcpStream, purpose: Purpose) -> Result<Met, MeetError> {
        let meet = async {
            let open = self.security.dial(stream).await?;
            self.prove(open, (Side::Dialler, purpose)).await
        };
        in_time(meet).await
    }

    /// Meets whoever opened a connection to this node.
    pub(super) async fn accept(&self, stream: TcpStream) -> Result<Met, MeetError> {
        let meet = async {
            let open = self.security.accept(stream).await?;
            self.prove(open, (Side::Accepter, Purpose::Link)).await
        };
        in_time(meet).await
    }

    async fn prove(&self, open: Open, (side, purpose): (Side, Purpose)) -> Result<Met, MeetError> {
        let nonce = introduction::nonce().map_err(HandshakeError::from)?;
        let ours = Introduction { nonce, purpose, ..self.ours.clone() };
        let (stream, ends) = open.into_parts();
        let mut messages = handshake::messages(stream);
        let judge = |theirs: &Introduction| ends.judge(theirs);
        let key = self.security.key();
        let proving = Proving { side, key, session: ends.session, judge: &judge };
        let peer = handshake::prove(&mut messages, &ours, proving).await?;
        Ok(Met { messages, peer, side })
    }
}

impl Met {
    /// Exchanges hellos, and the tickets for a second connection. Frames may follow.
    pub(super) async fn greet(
        &mut self,
        hello: &Hello,
        ticket: Ticket,
    ) -> Result<(Hello, Ticket), MeetError> {
        let exchange = async {
            let exchanged =
                handshake::exchange_hellos(&mut self.messages, self.side, (hello, ticket));
            Ok(exchanged.await?)
        };
        let (hello, ticket) = in_time(exchange).await?;
        let peer = &self.peer;
        let proven = (&peer.name, &peer.cluster, peer.origin);
        if (&hello.name, &hello.cluster, hello.origin) != proven {
            return Err(MeetError::Failed("a hello of somebody else".to_owned()));
        }
        handshake::open_up(&mut self.messages);
        Ok((hello, ticket))
    }
}

async fn in_time<T>(meet: impl Future<Output = Result<T, MeetError>>) -> Result<T, MeetError> {
    let late = || {
        let waited_s = HANDSHAKE_WAIT.as_secs();
        MeetError::Failed(format!("the other end did not say who it is within {waited_s} s"))
    };
    timeout(HANDSHAKE_WAIT, meet).await.unwrap_or_else(|_| Err(late()))
}

impl From<ChannelError> for MeetError {
    fn from(error: ChannelError) -> MeetError {
        let text = error.to_string();
        match error {
            ChannelError::Forbidden(_)
            | ChannelError::Preface(PrefaceError::Declined(_) | PrefaceError::DeclinedThere(_)) => {
                MeetError::Refused(text)
            }
            ChannelError::Preface(_) | ChannelError::Tls(_) => MeetError::Failed(text),
        }
    }
}

impl From<HandshakeError> for MeetError {
    fn from(error: HandshakeError) -> MeetError {
        let text = error.to_string();
        match error {
            HandshakeError::Refused(_) | HandshakeError::RefusedThere(_) => {
                MeetError::Refused(text)
            }
            HandshakeError::Lost(_) | HandshakeError::Protocol(_) | HandshakeError::Dice(_) => {
                MeetError::Failed(text)
            }
        }
    }
}
