//! A connection to a node's RESP port that sends any command and reads any reply that nodes give.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// No reply takes this long, unless the node hangs.
const REPLY_WAIT_MAX: Duration = Duration::from_secs(60);
/// Longest value in a reply, in bytes: the measures write nothing larger.
const BULK_BYTES_MAX: usize = 1024 * 1024;

/// A reply to a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Status(String),
    Number(i64),
    Bulk(Vec<u8>),
    Missing,
}

/// An open connection. Commands are gathered until they are sent.
#[derive(Debug)]
pub(super) struct Connection {
    input: BufReader<TcpStream>,
    output: TcpStream,
    request: Vec<u8>,
}

impl Connection {
    /// Connects to the RESP port at `address`.
    pub(super) fn open(address: SocketAddr) -> anyhow::Result<Connection> {
        let output =
            TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        output.set_nodelay(true)?;
        output.set_read_timeout(Some(REPLY_WAIT_MAX))?;
        Ok(Connection { input: BufReader::new(output.try_clone()?), output, request: Vec::new() })
    }

    /// Gathers a command.
    pub(super) fn add(&mut self, arguments: &[&[u8]]) {
        encode(&mut self.request, arguments);
    }

    /// Sends what was gathered.
    pub(super) fn send(&mut self) -> anyhow::Result<()> {
        self.output.write_all(&self.request).context("sending commands")?;
        self.request.clear();
        Ok(())
    }

    /// Waits for the next reply. An error is one here, too.
    pub(super) fn reply(&mut self) -> anyhow::Result<Reply> {
        read_reply(&mut self.input)
    }

    /// Sends one command and waits for its reply.
    pub(super) fn command(&mut self, arguments: &[&[u8]]) -> anyhow::Result<Reply> {
        self.add(arguments);
        self.send()?;
        self.reply()
    }

    /// The same for a command whose reply is a number.
    pub(super) fn number(&mut self, arguments: &[&[u8]]) -> anyhow::Result<i64> {
        match self.command(arguments)? {
            Reply::Number(number) => Ok(number),
            other => bail!("{other:?} is no number"),
        }
    }

    /// Waits until `count` other nodes hold all that this node has written.
    ///
    /// # Errors
    /// If they do not within half a minute.
    pub(super) fn wait(&mut self, count: usize) -> anyhow::Result<()> {
        let held = self.number(&[b"WAIT", count.to_string().as_bytes(), b"30000"])?;
        ensure!(held >= i64::try_from(count)?, "only {held} of {count} nodes hold all writes");
        Ok(())
    }
}

fn encode(request: &mut Vec<u8>, arguments: &[&[u8]]) {
    request.extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
    for argument in arguments {
        request.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        request.extend_from_slice(argument);
        request.extend_from_slice(b"\r\n");
    }
}

fn read_reply(input: &mut impl BufRead) -> anyhow::Result<Reply> {
    let mut line = String::new();
    input.read_line(&mut line).context("waiting for a reply")?;
    let Some(line) = line.strip_suffix("\r\n") else { bail!("the node closed the connection") };
    let rest = line.get(1..).unwrap_or_default();
    match line.as_bytes().first() {
        Some(b'+') => Ok(Reply::Status(rest.to_owned())),
        Some(b':') => Ok(Reply::Number(rest.parse().with_context(|| line.to_owned())?)),
        Some(b'$') if rest == "-1" => Ok(Reply::Missing),
        Some(b'$') => {
            let bytes: usize = rest.parse().with_context(|| line.to_owned())?;
            ensure!(bytes <= BULK_BYTES_MAX, "a reply of {bytes} bytes");
            let mut value = vec![0; bytes + 2];
            input.read_exact(&mut value).context("waiting for a value")?;
            value.truncate(bytes);
            Ok(Reply::Bulk(value))
        }
        _ => bail!("the node says {line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Option<Reply>) {
        assert_eq!(read_reply(&mut text.as_bytes()).ok(), want, "{text:?}");
    }

    #[test]
    fn replies_are_read_and_errors_are_errors() {
        check("+OK\r\n", Some(Reply::Status("OK".to_owned())));
        check(":-7\r\n", Some(Reply::Number(-7)));
        check("$3\r\na\r\n\r\n", Some(Reply::Bulk(b"a\r\n".to_vec())));
        check("$-1\r\n", Some(Reply::Missing));
        check("-OOM full\r\n", None);
        check("$3\r\na", None);
        check("$9999999999\r\n", None);
        check("", None);
    }

    #[test]
    fn commands_carry_any_byte() {
        let mut request = Vec::new();
        encode(&mut request, &[b"GET", b"\r\n\0"]);
        assert_eq!(request, b"*2\r\n$3\r\nGET\r\n$3\r\n\r\n\0\r\n");
    }
}
