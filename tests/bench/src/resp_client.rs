//! A pipelined RESP client that fills a server with keys of known size.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// Commands in one write. Their replies fit in any socket buffer, so that writing all of them
/// before reading one cannot block both sides.
const BATCH: u32 = 1_000;
/// No batch takes this long, unless the server hangs.
const REPLY_WAIT_MAX: Duration = Duration::from_secs(30);

/// What to fill a server with: keys `key:000000000000` and up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fill {
    pub(crate) keys: u32,
    pub(crate) value_bytes: u32,
    pub(crate) ttl: Ttl,
}

/// Whether keys get a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ttl {
    None,
    /// Far enough away that no key expires during a run.
    OneDay,
}

/// Sets all keys, and returns when the server has confirmed each.
///
/// # Errors
/// If the server closes the connection, refuses a command, or takes longer than 30 s for a batch.
pub(crate) fn fill(address: SocketAddr, fill: Fill) -> anyhow::Result<()> {
    let mut stream = connect(address)?;
    let mut request = Vec::new();
    let mut next = 0;
    while next < fill.keys {
        let batch = BATCH.min(fill.keys - next);
        request.clear();
        for key in next..next + batch {
            encode_set(&mut request, key, fill);
        }
        stream.write_all(&request).context("sending SET")?;
        read_confirmations(&mut stream, batch)?;
        next += batch;
    }
    Ok(())
}

/// True once the server answers PING.
pub(crate) fn answers(address: SocketAddr) -> bool {
    let ping = || -> anyhow::Result<String> { line(address, b"*1\r\n$4\r\nPING\r\n") };
    ping().is_ok_and(|reply| reply == "+PONG")
}

/// The number of keys that the server says it holds.
///
/// # Errors
/// If the server does not answer with a number.
pub(crate) fn key_count(address: SocketAddr) -> anyhow::Result<u64> {
    let reply = line(address, b"*1\r\n$6\r\nDBSIZE\r\n")?;
    let digits = reply.strip_prefix(':').with_context(|| format!("DBSIZE says {reply:?}"))?;
    Ok(digits.parse()?)
}

fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(REPLY_WAIT_MAX))?;
    Ok(stream)
}

/// Sends one command on a connection of its own and returns the first line of the reply.
fn line(address: SocketAddr, request: &[u8]) -> anyhow::Result<String> {
    let mut stream = connect(address)?;
    stream.write_all(request)?;
    let mut reply = Vec::new();
    while !reply.ends_with(b"\r\n") {
        let mut byte = [0];
        ensure!(stream.read(&mut byte)? == 1, "the server closed the connection");
        reply.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&reply).trim_end().to_owned())
}

fn encode_set(request: &mut Vec<u8>, key: u32, fill: Fill) {
    let count = if fill.ttl == Ttl::None { 3 } else { 5 };
    request
        .extend_from_slice(format!("*{count}\r\n$3\r\nSET\r\n$16\r\nkey:{key:012}\r\n").as_bytes());
    request.extend_from_slice(format!("${}\r\n", fill.value_bytes).as_bytes());
    request.resize(request.len() + fill.value_bytes as usize, b'x');
    request.extend_from_slice(b"\r\n");
    if fill.ttl == Ttl::OneDay {
        request.extend_from_slice(b"$2\r\nEX\r\n$5\r\n86400\r\n");
    }
}

fn read_confirmations(stream: &mut impl Read, count: u32) -> anyhow::Result<()> {
    const CONFIRMATION: &[u8] = b"+OK\r\n";
    let mut replies = vec![0; CONFIRMATION.len() * count as usize];
    let mut read = 0;
    while read < replies.len() {
        let len = stream.read(&mut replies[read..]).context("waiting for replies to SET")?;
        ensure!(len > 0, "the server closed the connection");
        read += len;
        // An error is longer than a confirmation: say it rather than wait for more.
        if let Some(refusal) =
            replies[..read].split(|byte| *byte == b'\n').find(|l| l.starts_with(b"-"))
        {
            bail!("the server refused SET: {}", String::from_utf8_lossy(refusal).trim_end());
        }
    }
    ensure!(replies.chunks(CONFIRMATION.len()).all(|reply| reply == CONFIRMATION), "not +OK");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_set(ttl: Ttl, want: &str) {
        let mut request = Vec::new();
        encode_set(&mut request, 42, Fill { keys: 1, value_bytes: 4, ttl });
        assert_eq!(String::from_utf8(request).unwrap(), want);
    }

    #[test]
    fn keys_are_sixteen_bytes_and_values_as_long_as_asked() {
        check_set(Ttl::None, "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000042\r\n$4\r\nxxxx\r\n");
        check_set(
            Ttl::OneDay,
            "*5\r\n$3\r\nSET\r\n$16\r\nkey:000000000042\r\n$4\r\nxxxx\r\n$2\r\nEX\r\n$5\r\n86400\r\n",
        );
    }

    #[test]
    fn a_refusal_or_a_closed_connection_is_an_error() {
        assert!(read_confirmations(&mut b"+OK\r\n+OK\r\n".as_slice(), 2).is_ok());
        let refused = read_confirmations(&mut b"+OK\r\n-OOM full\r\n".as_slice(), 2).unwrap_err();
        assert!(refused.to_string().contains("-OOM"), "{refused}");
        assert!(read_confirmations(&mut b"+OK\r\n".as_slice(), 2).is_err());
        assert!(read_confirmations(&mut b"$2\r\nxy\r\nz".as_slice(), 2).is_err());
    }
}
