//! An upstream that does what a test says, and a client that says what it got, byte by byte.

use crate::node::{PATIENCE, TestNode};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What an upstream does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Sends these bytes and keeps the connection.
    Send(Vec<u8>),
    /// Sends these bytes and ends it.
    SendAndClose(Vec<u8>),
    /// Sends pieces with a pause before each.
    Slowly(Vec<Vec<u8>>, Duration),
    /// Sends bytes at once, and more after a pause.
    SlowlyAfter(Vec<u8>, Vec<u8>, Duration),
    /// Sends a response that may be stored a byte at a time, one every 50 ms: so many, and more until
    /// it is told to end.
    Drip(usize, Arc<AtomicBool>),
}

/// A request or a response, as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    /// The first line.
    pub(crate) start: String,
    /// Names in lower case.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The body ended as its head had said.
    pub(crate) is_whole: bool,
}

impl Message {
    /// The path of a request.
    pub(crate) fn path(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// The lines of a field, joined.
    pub(crate) fn field(&self, name: &str) -> String {
        let lines = self.fields.iter().filter(|(field, _)| field == name);
        lines.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

type Script = Box<dyn Fn(&Message, usize) -> Act + Send + Sync>;

/// The upstream. It ends with the test's process.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Message>>>,
}

impl Origin {
    /// Answers by `script`, which is told how many requests for the same path came before.
    pub(crate) fn start(script: impl Fn(&Message, usize) -> Act + Send + Sync + 'static) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::new((Box::new(script) as Script, Mutex::new(HashMap::new())));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, log) = (Arc::clone(&shared), Arc::clone(&log));
                std::thread::spawn(move || serve(stream, &shared, &log));
            }
        });
        Origin { address, seen }
    }

    /// One that the test runs itself.
    pub(crate) fn at(address: SocketAddr) -> Origin {
        Origin { address, seen: Arc::default() }
    }

    /// The requests for `path` so far.
    pub(crate) fn seen(&self, path: &str) -> Vec<Message> {
        let seen = self.seen.lock().expect("no panic");
        seen.iter().filter(|request| request.path() == path).cloned().collect()
    }

    /// How many requests there were so far.
    pub(crate) fn request_count(&self) -> usize {
        self.seen.lock().expect("no panic").len()
    }
}

fn serve(
    stream: TcpStream,
    shared: &(Script, Mutex<HashMap<String, usize>>),
    log: &Mutex<Vec<Message>>,
) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_message(&mut reader, false) {
        let count = {
            let mut counts = shared.1.lock().expect("no panic");
            let count = counts.entry(request.path().to_owned()).or_insert(0);
            *count += 1;
            *count - 1
        };
        log.lock().expect("no panic").push(request.clone());
        let act = (shared.0)(&request, count);
        let out = reader.get_mut();
        let (pieces, pause, closes) = match act {
            Act::Send(bytes) => (vec![bytes], Duration::ZERO, false),
            Act::SendAndClose(bytes) => (vec![bytes], Duration::ZERO, true),
            Act::Slowly(pieces, pause) => (pieces, pause, false),
            Act::SlowlyAfter(first, more, pause) => {
                if out.write_all(&first).is_err() {
                    return;
                }
                (vec![more], pause, false)
            }
            Act::Drip(count, is_over) => match drip(out, count, &is_over) {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        for piece in pieces {
            std::thread::sleep(pause);
            if out.write_all(&piece).is_err() {
                return;
            }
        }
        if closes {
            return;
        }
    }
}

fn drip(out: &mut TcpStream, count: usize, is_over: &AtomicBool) -> std::io::Result<()> {
    let head =
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n";
    out.write_all(head)?;
    let mut sent = 0;
    while sent < count || !is_over.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(50));
        out.write_all(b"1\r\nx\r\n")?;
        sent += 1;
    }
    out.write_all(b"0\r\n\r\n")
}

/// Reads a request, or a response where `to_the_end` says that it may end with the connection.
fn read_message(reader: &mut BufReader<TcpStream>, is_response: bool) -> Option<Message> {
    let mut message = Message::default();
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&count| count > 0)?;
    message.start = line.trim_end().to_owned();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&count| count > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        message.fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length: Option<usize> = message.field("content-length").parse().ok();
    let has_none = [204, 304, 101].contains(&message.status()) && is_response;
    if message.field("transfer-encoding") == "chunked" {
        message.is_whole = read_chunks(reader, &mut message.body).is_some();
    } else if let Some(length) = length.filter(|_| !has_none) {
        let mut taken = reader.take(length as u64);
        let _ = taken.read_to_end(&mut message.body);
        message.is_whole = message.body.len() == length;
    } else {
        message.is_whole = true;
        if is_response && !has_none {
            let _ = reader.read_to_end(&mut message.body);
        }
    }
    Some(message)
}

fn read_chunks(reader: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> Option<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&count| count > 0)?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; length + 2];
        reader.read_exact(&mut chunk).ok()?;
        body.extend_from_slice(&chunk[..length]);
        if length == 0 {
            return Some(());
        }
    }
}

/// A response with a length.
pub(crate) fn response(status: u16, fields: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Whatever\r\n");
    for (name, value) in fields {
        text += &format!("{name}: {value}\r\n");
    }
    if ![204, 304].contains(&status) {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    format!("{text}\r\n{body}").into_bytes()
}

/// Asks `node` and reads the answer to its end.
pub(crate) fn ask(node: &TestNode, method: &str, path: &str, fields: &[(&str, &str)]) -> Message {
    ask_with_body(node, (method, path), fields, "")
}

/// The same with a body.
pub(crate) fn ask_with_body(
    node: &TestNode,
    (method, path): (&str, &str),
    fields: &[(&str, &str)],
    body: &str,
) -> Message {
    let mut text =
        format!("{method} {path} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n");
    for (name, value) in fields {
        text += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    let mut stream = TcpStream::connect(node.gateway).expect("the gateway is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    stream.write_all(format!("{text}\r\n{body}").as_bytes()).expect("the request is taken");
    let mut reader = BufReader::new(stream);
    if method == "HEAD" {
        let mut head = String::new();
        reader.read_to_string(&mut head).expect("an answer");
        return parse_head(&head);
    }
    // A connection that ends without an answer is one that broke off.
    read_message(&mut reader, true).unwrap_or_default()
}

fn parse_head(head: &str) -> Message {
    let mut lines = head.lines();
    let start = lines.next().unwrap_or_default().to_owned();
    let fields = lines.filter_map(|line| line.split_once(':'));
    let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    Message { start, fields: fields.collect(), is_whole: true, ..Message::default() }
}

/// A node with one cached route to `origin`, and more lines for that route.
pub(crate) fn node_before(origin: &Origin, more: &str) -> TestNode {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text = format!(
        "[[route]]\npath = \"/*\"\nupstream = \"http://{}\"\ncache = true\n{more}\n",
        origin.address
    );
    std::fs::write(file.path(), text).expect("the file is written");
    let path = file.path().to_str().expect("a path").to_owned();
    TestNode::start_with(&["--config", &path])
}
