//! A RESP client that tells all kinds of replies apart.

use crate::node::PATIENCE;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A connection.
#[derive(Debug)]
pub(crate) struct Client {
    reader: BufReader<TcpStream>,
}

/// A reply, as far as the tests tell them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    /// Arrays, sets, pushes, and maps with their pairs one after the other. The mark tells them apart.
    Many(char, Vec<Reply>),
}

/// One request.
pub(crate) fn request(arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

impl Reply {
    pub(crate) fn simple(text: &str) -> Reply {
        Reply::Simple(text.to_owned())
    }

    /// The number of an integer reply.
    #[track_caller]
    pub(crate) fn integer(&self) -> i64 {
        match self {
            Reply::Integer(number) => *number,
            other => panic!("{other:?} is no integer"),
        }
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the port is open");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        stream.set_nodelay(true).expect("a delay can be set");
        Client { reader: BufReader::new(stream) }
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        self.reader.get_mut()
    }

    /// Sends bytes. A connection that is closed shows when its reply is read.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream().write_all(bytes);
    }

    #[track_caller]
    pub(crate) fn call(&mut self, arguments: &[&[u8]]) -> Reply {
        self.try_call(arguments).expect("a reply")
    }

    /// The reply, or `None` where the connection ended first.
    pub(crate) fn try_call(&mut self, arguments: &[&[u8]]) -> Option<Reply> {
        self.send(&request(arguments));
        self.try_read()
    }

    #[track_caller]
    pub(crate) fn read(&mut self) -> Reply {
        self.try_read().expect("a reply")
    }

    pub(crate) fn try_read(&mut self) -> Option<Reply> {
        match self.parse() {
            Ok(reply) => Some(reply),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("no reply in time"),
            Err(_) => None,
        }
    }

    fn parse(&mut self) -> io::Result<Reply> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\r\n") {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&line[1..line.len() - 2]).into_owned();
        let number = || text.parse::<i64>().map_err(io::Error::other);
        match line[0] {
            b'+' => Ok(Reply::Simple(text)),
            b'-' => Ok(Reply::Error(text)),
            b':' => Ok(Reply::Integer(number()?)),
            b'_' => Ok(Reply::Null),
            b'$' | b'=' if number()? >= 0 => self.parse_bulk(number()? as usize),
            b'*' | b'~' | b'>' if number()? >= 0 => self.parse_many(line[0], number()?),
            b'%' => self.parse_many(line[0], 2 * number()?),
            b'$' | b'*' => Ok(Reply::Null),
            _ => Err(io::Error::other(format!("{text} is no reply"))),
        }
    }

    fn parse_bulk(&mut self, len: usize) -> io::Result<Reply> {
        let mut bytes = vec![0; len + 2];
        self.reader.read_exact(&mut bytes)?;
        assert!(bytes.ends_with(b"\r\n"), "a bulk ends with CRLF");
        bytes.truncate(len);
        Ok(Reply::Bulk(bytes))
    }

    fn parse_many(&mut self, mark: u8, count: i64) -> io::Result<Reply> {
        let replies = (0..count).map(|_| self.parse()).collect::<io::Result<_>>()?;
        Ok(Reply::Many(char::from(mark), replies))
    }
}
