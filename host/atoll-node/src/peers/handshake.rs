//! From an open channel to a peer that is known: introductions, proofs, hellos.
//!
//! The dialler introduces itself, then the accepter; the dialler proves itself, then the accepter.
//! So somebody who only asks gets nothing to try keys on, and what is large or telling comes last.

use super::introduction::{Introduction, NoDice, TICKET_BYTES, Ticket};
use super::limits::{HELLO_BYTES_MAX, MESSAGE_BYTES_MAX, REFUSAL_WAIT, STRANGER_BYTES_MAX};
use super::preface::readable;
use super::proof::{ClusterKey, Conversation, SESSION_BYTES, Side};
use atoll_core::wire::frame::{Farewell, Frame, Hello};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use std::io;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

const INTRODUCTION: u8 = 0x40;
const PROOF: u8 = 0x41;
const HELLO: u8 = 0x42;

/// A connection that carries messages.
pub(super) type Messages<S> = Framed<S, LengthDelimitedCodec>;

/// Why two ends did not get to know one another.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// Lost, or closed without a word.
    #[error("the connection was lost: {0}")]
    Lost(#[from] io::Error),
    /// The other end does not follow the protocol.
    #[error("the other end does not speak as a peer: {0}")]
    Protocol(String),
    /// This end will not have the other, and said so.
    #[error("{0}")]
    Refused(String),
    /// The other end will not have this one.
    #[error("{0}")]
    RefusedThere(String),
    /// See there.
    #[error(transparent)]
    Dice(#[from] NoDice),
}

/// How the ends of one channel prove who they are.
pub(super) struct Proving<'p> {
    /// Which end this is.
    pub(super) side: Side,
    /// The cluster's key, where there is one.
    pub(super) key: Option<&'p ClusterKey>,
    /// The secret of the channel's TLS session, where it has one.
    pub(super) session: Option<[u8; SESSION_BYTES]>,
    /// Says why the other end's certificate does not fit what it said, where certificates count.
    pub(super) judge: &'p dyn Fn(&Introduction) -> Result<(), String>,
}

/// Prepares a channel for messages of strangers.
pub(super) fn messages<S: AsyncRead + AsyncWrite>(stream: S) -> Messages<S> {
    LengthDelimitedCodec::builder().max_frame_length(STRANGER_BYTES_MAX).new_framed(stream)
}

/// Introduces and proves both ends to one another, and returns how the other introduced itself.
///
/// On an error the other end has been told what it may know; the channel is to be closed.
pub(super) async fn prove<S: AsyncRead + AsyncWrite + Unpin>(
    messages: &mut Messages<S>,
    ours: &Introduction,
    proving: Proving<'_>,
) -> Result<Introduction, HandshakeError> {
    let mut said = vec![INTRODUCTION];
    ours.encode(&mut said);
    let said = Bytes::from(said);
    let heard = match proving.side {
        Side::Dialler => {
            messages.send(said.clone()).await?;
            receive(messages, INTRODUCTION).await?
        }
        Side::Accepter => {
            let heard = receive(messages, INTRODUCTION).await?;
            // Also to somebody who will be refused: so both can name the other.
            messages.send(said.clone()).await?;
            heard
        }
    };
    let theirs = Introduction::decode(&heard[1..]).map_err(HandshakeError::Protocol)?;
    let judged = ours.conflict(&theirs).map_or_else(|| (proving.judge)(&theirs), Err);
    if let Err(reason) = judged {
        return refuse(messages, reason).await;
    }
    let (dialler, accepter) = match proving.side {
        Side::Dialler => (&said[..], &heard[..]),
        Side::Accepter => (&heard[..], &said[..]),
    };
    let about = Conversation { dialler, accepter, session: proving.session.as_ref() };
    match proving.side {
        Side::Dialler => {
            send_proof(messages, &proving, about).await?;
            check_proof(messages, &proving, about).await?;
        }
        Side::Accepter => {
            check_proof(messages, &proving, about).await?;
            send_proof(messages, &proving, about).await?;
        }
    }
    Ok(theirs)
}

async fn send_proof<S: AsyncRead + AsyncWrite + Unpin>(
    messages: &mut Messages<S>,
    proving: &Proving<'_>,
    about: Conversation<'_>,
) -> Result<(), HandshakeError> {
    let mut proof = vec![PROOF];
    if let Some(key) = proving.key {
        proof.extend_from_slice(&key.prove(proving.side, about));
    }
    Ok(messages.send(Bytes::from(proof)).await?)
}

async fn check_proof<S: AsyncRead + AsyncWrite + Unpin>(
    messages: &mut Messages<S>,
    proving: &Proving<'_>,
    about: Conversation<'_>,
) -> Result<(), HandshakeError> {
    let proof = receive(messages, PROOF).await?;
    let proof = &proof[1..];
    let reason = match proving.key {
        None if proof.is_empty() => return Ok(()),
        None => "one node has a cluster key and the other has none; give all the same",
        Some(_) if proof.is_empty() => "no proof of the cluster's key; set --cluster-key-file",
        Some(key) if key.verifies(proving.side.other(), about, proof) => return Ok(()),
        Some(_) => "the two nodes have different cluster keys; give all the same",
    };
    refuse(messages, reason.to_owned()).await
}

/// Exchanges what only a peer may know. The dialler speaks first.
pub(super) async fn exchange_hellos<S: AsyncRead + AsyncWrite + Unpin>(
    messages: &mut Messages<S>,
    side: Side,
    (hello, ticket): (&Hello, Ticket),
) -> Result<(Hello, Ticket), HandshakeError> {
    messages.codec_mut().set_max_frame_length(HELLO_BYTES_MAX);
    let mut ours = vec![HELLO];
    ours.extend_from_slice(&ticket.0);
    hello.encode(&mut ours);
    let ours = Bytes::from(ours);
    let heard = match side {
        Side::Dialler => {
            messages.send(ours).await?;
            receive(messages, HELLO).await?
        }
        Side::Accepter => {
            let heard = receive(messages, HELLO).await?;
            messages.send(ours).await?;
            heard
        }
    };
    let protocol = |what: &str| HandshakeError::Protocol(what.to_owned());
    let (ticket, rest) =
        heard[1..].split_first_chunk::<TICKET_BYTES>().ok_or_else(|| protocol("a short hello"))?;
    let hello = Hello::decode(rest).map_err(|error| protocol(&error.to_string()))?;
    Ok((hello, Ticket(*ticket)))
}

/// From here on the channel carries frames.
pub(super) fn open_up<S>(messages: &mut Messages<S>) {
    messages.codec_mut().set_max_frame_length(MESSAGE_BYTES_MAX);
}

/// Tells the other end why it is refused.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin, T>(
    messages: &mut Messages<S>,
    reason: String,
) -> Result<T, HandshakeError> {
    say(messages, Farewell::Refused(reason.clone())).await?;
    // Closed with something unread, the connection would be reset and the reason lost.
    let listen = async { while messages.next().await.is_some_and(|message| message.is_ok()) {} };
    let _ = timeout(REFUSAL_WAIT, listen).await;
    Err(HandshakeError::Refused(reason))
}

/// Says a farewell to the other end.
pub(super) async fn say<S: AsyncRead + AsyncWrite + Unpin>(
    messages: &mut Messages<S>,
    farewell: Farewell,
) -> io::Result<()> {
    let mut bye = Vec::new();
    Frame::Bye(farewell).encode(&mut bye);
    messages.send(Bytes::from(bye)).await?;
    messages.get_mut().shutdown().await
}

/// The next message, which must have `tag`.
async fn receive<S: AsyncRead + AsyncWrite + Unpin>(
    messages: &mut Messages<S>,
    tag: u8,
) -> Result<BytesMut, HandshakeError> {
    let message = match messages.next().await {
        Some(Ok(message)) => message,
        // Too long, or lost: to whoever dialled the wrong port the same.
        Some(Err(error)) => return Err(error.into()),
        None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    };
    if message.first() == Some(&tag) {
        return Ok(message);
    }
    match Frame::decode(&message.freeze()) {
        Ok(Frame::Bye(farewell)) => Err(HandshakeError::RefusedThere(words(&farewell))),
        _ => Err(HandshakeError::Protocol("a message out of turn".to_owned())),
    }
}

/// A farewell, worded for a person.
pub(super) fn words(farewell: &Farewell) -> String {
    match farewell {
        Farewell::Stopping => "the node there stops".to_owned(),
        Farewell::Duplicate => "the two nodes are linked already".to_owned(),
        Farewell::Oneself => "this very node is there".to_owned(),
        Farewell::Later(reason) | Farewell::Refused(reason) => readable(reason),
    }
}

#[cfg(test)]
mod tests;
