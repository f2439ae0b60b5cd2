//! A node under test: its process, its addresses, its end.

use serde_json::Value;
use std::fmt::{Debug, Write as _};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The binary that cargo has built for these tests.
pub(crate) const ATOLL: &str = env!("CARGO_BIN_EXE_atoll");

/// How long anything may take on a busy machine before a test fails: on one core that eight tests and
/// other people's builds share, answers have come after more than 30 s with nothing wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A running node; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct TestNode {
    child: Child,
    /// What it has logged so far.
    log: Arc<Mutex<String>>,
    peers: Option<SocketAddr>,
    /// `host:port` of the doors.
    pub(crate) gateway: SocketAddr,
    pub(crate) api: SocketAddr,
    pub(crate) resp: SocketAddr,
}

impl TestNode {
    /// A node on free ports.
    pub(crate) fn start() -> TestNode {
        TestNode::start_with(&[])
    }

    /// A node on free ports with more flags.
    pub(crate) fn start_with(flags: &[&str]) -> TestNode {
        TestNode::start_in(&[], flags)
    }

    /// The same, with more variables in its environment.
    pub(crate) fn start_in(environment: &[(String, String)], flags: &[&str]) -> TestNode {
        let mut command = serve(flags);
        command.envs(environment.iter().cloned());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("atoll starts");
        let log = Arc::new(Mutex::new(String::new()));
        collect(child.stderr.take().expect("stderr is piped"), Arc::clone(&log));
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("stdout is read");
        let ready: Value = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("no ready line, {error}: {line:?}"));
        let door = |door: &str| {
            let text = ready[door].as_str()?;
            Some(text.parse().unwrap_or_else(|error| panic!("{door}: {error}")))
        };
        let address = |name| door(name).unwrap_or_else(|| panic!("no {name} in {line}"));
        let (gateway, api, resp) = (address("gateway"), address("api"), address("resp"));
        TestNode { gateway, api, resp, peers: door("peers"), child, log }
    }

    /// Where other nodes link with it.
    pub(crate) fn peers(&self) -> SocketAddr {
        self.peers.expect("the port for peers is open")
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no panic under it").clone()
    }

    /// Waits until it has logged a line that contains `text`.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str) {
        wait_until(&format!("{text:?} is logged"), || self.log().contains(text).then_some(()));
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))
            .expect("the node is running");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS is told");
        let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
        kib.expect("VmRSS is a number") * 1_024
    }

    /// Sends a signal by name, as `kill` does.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill runs");
        assert!(sent.success());
        if name == "STOP" {
            // On a busy machine its threads go on for a moment.
            wait_until("it has stopped", || self.is_suspended().then_some(()));
        }
    }

    /// Whether none of its threads runs any more.
    fn is_suspended(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).expect("it is there");
        let state = |task: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
            // Behind the name, which may have brackets of its own.
            stat.rsplit_once(')')?.1.trim_start().chars().next()
        };
        tasks.map(state).all(|state| matches!(state, None | Some('T')))
    }

    /// Waits for the node to end by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_until("the node ends", || self.child.try_wait().expect("the node can be waited for"))
    }

    /// The value of a figure, if it is shown. `name` has its labels.
    pub(crate) fn figure<T: FromStr<Err: Debug>>(&self, name: &str) -> Option<T> {
        let metrics = self.http("GET", self.api, "/metrics", b"");
        let mut lines = metrics.text().lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        Some(value.parse().unwrap_or_else(|error| panic!("{name} {value}: {error:?}")))
    }

    /// The answer to an HTTP request to `http://ADDRESS/PATH`.
    pub(crate) fn http(
        &self,
        method: &str,
        address: SocketAddr,
        path: &str,
        body: &[u8],
    ) -> Answer {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://{address}{path}"))
            .body(body)
            .expect("a valid request");
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .allow_non_standard_methods(true)
            .max_redirects(0)
            .build()
            .into();
        let response = agent.run(request).expect("the node answers");
        let (parts, mut body) = response.into_parts();
        let mut bytes = Vec::new();
        body.as_reader().read_to_end(&mut bytes).expect("the whole body comes");
        Answer { status: parts.status.as_u16(), headers: parts.headers, body: bytes }
    }

    /// An open connection to the RESP port.
    pub(crate) fn resp_client(&self) -> RespClient {
        RespClient::connect(self.resp)
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of {}:\n{}", self.api, self.log());
        }
    }
}

/// Keeps what a node logs, until it ends.
fn collect(stderr: ChildStderr, log: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut log = log.lock().expect("no panic under it");
            log.push_str(&line);
            log.push('\n');
        }
    });
}

/// `atoll serve` on free ports with more flags, not yet started.
pub(crate) fn serve(flags: &[&str]) -> Command {
    let mut command = Command::new(ATOLL);
    command
        .args(["serve", "--ready-json", "--log", "warn", "--name", "test"])
        .args(["--gateway", "127.0.0.1:0", "--api", "127.0.0.1:0", "--resp", "127.0.0.1:0"])
        .args(["--peers-listen", "127.0.0.1:0"])
        .args(flags)
        .stdin(Stdio::null());
    command
}

/// Waits until `look` gives something, with patience.
#[track_caller]
pub(crate) fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sets what it is given when it goes, also where that is by a panic: others, who go on until they see
/// it, would be waited for without an end.
#[derive(Debug)]
pub(crate) struct Ends<'a>(pub(crate) &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text body")
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}"));
        value.to_str().expect("a text header")
    }
}

/// A bare RESP connection: requests out, raw reply lines in.
#[derive(Debug)]
pub(crate) struct RespClient {
    reader: BufReader<TcpStream>,
}

impl RespClient {
    /// Connects with patience on reads and writes.
    pub(crate) fn connect(address: SocketAddr) -> RespClient {
        let stream = TcpStream::connect(address).expect("the RESP port is open");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time-out can be set");
        RespClient { reader: BufReader::new(stream) }
    }

    /// The socket below.
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        self.reader.get_mut()
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream().write_all(bytes).expect("the node reads");
    }

    /// One reply in a short form: `+OK`, `-ERR …`, `:1`, `$value`, `$-1`, `*2`.
    pub(crate) fn reply(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("the node replies");
        let line = line.trim_end().to_owned();
        match line.strip_prefix('$').map(str::parse::<usize>) {
            Some(Ok(len)) => {
                let mut bytes = vec![0; len + 2];
                self.reader.read_exact(&mut bytes).expect("the whole value comes");
                bytes.truncate(len);
                format!("${}", String::from_utf8_lossy(&bytes))
            }
            _ => line,
        }
    }

    /// The reply to one command.
    pub(crate) fn command(&mut self, arguments: &[&str]) -> String {
        self.send_command(arguments);
        self.reply()
    }

    /// The replies in the array that one command is answered with.
    pub(crate) fn list(&mut self, arguments: &[&str]) -> Vec<String> {
        let head = self.command(arguments);
        let count = head.strip_prefix('*').and_then(|count| count.parse::<usize>().ok());
        let count = count.unwrap_or_else(|| panic!("{arguments:?} is answered with {head}"));
        (0..count).map(|_| self.reply()).collect()
    }

    /// Sends one command, whose reply is read later.
    pub(crate) fn send_command(&mut self, arguments: &[&str]) {
        let mut request = format!("*{}\r\n", arguments.len());
        for argument in arguments {
            write!(request, "${}\r\n{argument}\r\n", argument.len()).expect("text can be written");
        }
        self.send(request.as_bytes());
    }

    /// Whether the node has closed the connection, once what it sent is read.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Ok(_) => true,
            // Closed while bytes of ours were still on their way.
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}
