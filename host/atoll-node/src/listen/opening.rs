//! What a client speaks, found out before anything is read from it.
//!
//! Hyper's own time-outs begin once the version of HTTP is known, for which it waits as long as the
//! client likes: whoever connects and sends nothing would hold a place for ever.

use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// How every HTTP/2 connection begins (RFC 9113 section 3.4). What begins otherwise is HTTP/1.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Pause between two looks at a preface of which a part has come: most come whole.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// Tells what a client speaks, who has `wait` to say it, and takes nothing from the stream.
pub(super) async fn version(stream: &TcpStream, wait: Duration) -> io::Result<Version> {
    let known = timeout(wait, spoken(stream)).await;
    known.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
}

async fn spoken(stream: &TcpStream) -> io::Result<Version> {
    let mut seen = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut seen).await?;
        let seen = &seen[..count];
        match count {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            _ if seen == PREFACE => return Ok(Version::Http2),
            _ if PREFACE.starts_with(seen) => sleep(LOOK_EVERY).await,
            _ => return Ok(Version::Http1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// What is made of a client that sends `pieces` with pauses between, and then nothing more.
    async fn told(pieces: &[&[u8]], wait: Duration) -> io::Result<Version> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut client = TcpStream::connect(listener.local_addr()?).await?;
        let (mut stream, _) = listener.accept().await?;
        let (version, _) = tokio::join!(version(&stream, wait), async {
            for piece in pieces {
                client.write_all(piece).await?;
                sleep(Duration::from_millis(20)).await;
            }
            io::Result::Ok(())
        });
        // Nothing is missing for who reads it then.
        drop(client);
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await?;
        assert_eq!(got, pieces.concat());
        version
    }

    #[tokio::test]
    async fn a_client_that_does_not_say_what_it_speaks_is_given_up() {
        let dripping: Vec<&[u8]> = PREFACE[..23].chunks(1).collect();
        let cases: [&[&[u8]]; 3] = [&[], &[b"P"], &dripping];
        for pieces in cases {
            let error = told(pieces, Duration::from_millis(200)).await.expect_err("no version");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{pieces:?}");
        }
    }

    #[tokio::test]
    async fn the_version_is_that_of_the_first_bytes_however_they_come() {
        let cases: [(&[&[u8]], Version); 6] = [
            (&[b"GET / HTTP/1.1\r\n"], Version::Http1),
            (&[b"P", b"U"], Version::Http1),
            (&[b"x"], Version::Http1),
            (&[PREFACE], Version::Http2),
            (&[&PREFACE[..10], &PREFACE[10..]], Version::Http2),
            (&[&[&PREFACE[..], b"more"].concat()], Version::Http2),
        ];
        for (pieces, want) in cases {
            let got = told(pieces, Duration::from_secs(30)).await.expect("a version");
            assert_eq!(got, want, "{pieces:?}");
        }
    }
}
