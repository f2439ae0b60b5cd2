//! The first bytes of a connection: that this is a peer, and whether TLS follows.
//!
//! In the clear, so that a browser, a scanner or a node without a key is told apart at once, and is
//! answered with words where it understands them.

use super::limits::REASON_BYTES_MAX;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// How every connection between nodes begins, in both directions.
const MAGIC: &[u8; 6] = b"ATOLLP";
/// Of what follows the magic. What comes later says its own version.
const VERSION: u8 = 1;
/// Bytes of a preface: magic, version, one letter.
const PREFACE_BYTES: usize = 8;
/// The accepter's letter where it goes no further.
const DECLINED: u8 = b'n';

/// What a connection is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    /// TCP alone.
    Plain,
    /// TLS 1.3.
    Tls,
}

impl Channel {
    fn letter(self) -> u8 {
        match self {
            Channel::Plain => b'p',
            Channel::Tls => b't',
        }
    }

    fn of_letter(letter: u8) -> Option<Channel> {
        [Channel::Plain, Channel::Tls].into_iter().find(|channel| channel.letter() == letter)
    }
}

/// Why a connection did not get past its first bytes.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrefaceError {
    /// Lost, or closed.
    #[error("the connection was lost: {0}")]
    Lost(#[from] io::Error),
    /// The other end speaks something else.
    #[error("the other end is no Atoll node's peers port, or dials none")]
    Foreign,
    /// The other end speaks a later or an earlier version of this.
    #[error("the other end speaks version {0} of the preface and this node {VERSION}")]
    Version(u8),
    /// This end declined, for the reason given.
    #[error("{0}")]
    Declined(String),
    /// The other end declined, for the reason given.
    #[error("{0}")]
    DeclinedThere(String),
}

/// Opens a conversation. The other end has agreed to `channel` when this returns.
pub(super) async fn dial<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    channel: Channel,
) -> Result<(), PrefaceError> {
    stream.write_all(&preface(channel.letter())).await?;
    stream.flush().await?;
    match read(stream).await? {
        letter if letter == channel.letter() => Ok(()),
        DECLINED => Err(PrefaceError::DeclinedThere(read_reason(stream).await?)),
        _ => Err(PrefaceError::Foreign),
    }
}

/// Answers an opening. `judge` says why a channel will not do.
pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    judge: impl FnOnce(Channel) -> Result<(), String>,
) -> Result<Channel, PrefaceError> {
    let letter = match read(stream).await {
        Err(PrefaceError::Version(theirs)) => {
            let reason = format!(
                "the node there speaks version {VERSION} of the preface and this one {theirs}"
            );
            decline(stream, &reason).await?;
            return Err(PrefaceError::Version(theirs));
        }
        letter => letter?,
    };
    let channel = Channel::of_letter(letter).ok_or(PrefaceError::Foreign)?;
    if let Err(reason) = judge(channel) {
        decline(stream, &reason).await?;
        return Err(PrefaceError::Declined(reason));
    }
    stream.write_all(&preface(channel.letter())).await?;
    stream.flush().await?;
    Ok(channel)
}

fn preface(letter: u8) -> [u8; PREFACE_BYTES] {
    let mut bytes = [0; PREFACE_BYTES];
    bytes[..6].copy_from_slice(MAGIC);
    (bytes[6], bytes[7]) = (VERSION, letter);
    bytes
}

/// The letter of the other end's preface.
async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<u8, PrefaceError> {
    let mut bytes = [0; PREFACE_BYTES];
    let mut len = 0;
    while len < PREFACE_BYTES {
        let count = stream.read(&mut bytes[len..]).await?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        len += count;
        let known = len.min(MAGIC.len());
        if bytes[..known] != MAGIC[..known] {
            return Err(PrefaceError::Foreign);
        }
    }
    if bytes[6] == VERSION { Ok(bytes[7]) } else { Err(PrefaceError::Version(bytes[6])) }
}

async fn decline<S: AsyncWrite + Unpin>(stream: &mut S, reason: &str) -> io::Result<()> {
    let len = reason.len().min(REASON_BYTES_MAX);
    let mut bytes = preface(DECLINED).to_vec();
    bytes.extend_from_slice(&(len as u16).to_be_bytes());
    bytes.extend_from_slice(&reason.as_bytes()[..len]);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

async fn read_reason<S: AsyncRead + Unpin>(stream: &mut S) -> Result<String, PrefaceError> {
    let len = usize::from(stream.read_u16().await?);
    let mut bytes = vec![0; len.min(REASON_BYTES_MAX)];
    stream.read_exact(&mut bytes).await?;
    Ok(readable(&String::from_utf8_lossy(&bytes)))
}

/// A stranger's words, fit for a log: one line of bounded length.
pub(super) fn readable(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(REASON_BYTES_MAX).map(clean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    /// What an accepter that takes only TLS makes of what a stranger sends, and what it answers.
    async fn answer(sent: &[u8]) -> (String, Vec<u8>) {
        let (mut near, mut far) = duplex(1_000);
        far.write_all(sent).await.expect("there is room");
        far.shutdown().await.expect("it is open");
        let judge = |channel| match channel {
            Channel::Tls => Ok(()),
            Channel::Plain => Err("only with TLS".to_owned()),
        };
        let result = accept(&mut near, judge).await;
        drop(near);
        let mut said = Vec::new();
        far.read_to_end(&mut said).await.expect("it is open");
        (result.map_or_else(|error| error.to_string(), |channel| format!("{channel:?}")), said)
    }

    #[tokio::test]
    async fn what_is_no_peer_is_told_apart_by_its_first_bytes() {
        let foreign = PrefaceError::Foreign.to_string();
        for sent in
            [&b"GET / HTTP/1.1\r\n\r\n"[..], b"G", b"\x16\x03\x01\x02\x00\x01\x00", b"*1\r\n"]
        {
            assert_eq!(answer(sent).await, (foreign.clone(), Vec::new()), "{sent:?}");
        }
        assert_eq!(answer(b"ATOLLP\x01x").await, (foreign, Vec::new()));
        let (result, _) = answer(b"ATOLL").await;
        assert!(result.contains("lost"), "{result}");
        let (result, said) = answer(b"ATOLLP\x02t").await;
        assert!(result.contains("version 2"), "{result}");
        assert!(said.starts_with(b"ATOLLP\x01n"), "it says so in the version that it speaks");
    }

    #[tokio::test]
    async fn both_ends_agree_on_the_channel_or_both_know_why_not() {
        assert_eq!(answer(b"ATOLLP\x01t").await, ("Tls".to_owned(), b"ATOLLP\x01t".to_vec()));
        let (mut near, mut far) = duplex(1_000);
        let (dialled, accepted) = tokio::join!(
            dial(&mut near, Channel::Plain),
            accept(&mut far, |_| Err("only\nwith TLS".to_owned())),
        );
        let declined = dialled.expect_err("it was declined");
        assert!(
            matches!(declined, PrefaceError::DeclinedThere(reason) if reason == "only with TLS")
        );
        assert!(matches!(accepted, Err(PrefaceError::Declined(_))));
    }

    #[tokio::test]
    async fn a_dialler_is_not_fooled_by_another_kind_of_server() {
        for sent in [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"-ERR unknown\r\n", b"ATOLLP\x01t"] {
            let (mut near, mut far) = duplex(1_000);
            far.write_all(sent).await.expect("there is room");
            let error = dial(&mut near, Channel::Plain).await.expect_err("not a plain peer");
            assert!(matches!(error, PrefaceError::Foreign), "{error}");
        }
    }
}
