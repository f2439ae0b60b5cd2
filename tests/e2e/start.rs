//! Starting and stopping: what a person sees, and what a supervisor sees.

use crate::node::{ATOLL, PATIENCE, TestNode, serve};
use crate::tools::text;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// A start-up that must fail: its exit code and what it wrote to stderr.
#[track_caller]
fn check_refused(flags: &[&str], want: &str) {
    let output = serve(flags).output().expect("atoll runs");
    let message = text(&output.stderr);
    assert!(!output.status.success(), "{flags:?} should be refused");
    assert!(message.contains(want), "{message:?} should contain {want:?}");
    assert!(!message.contains("panicked"), "{message}");
    assert!(output.stdout.is_empty(), "nothing was ready");
}

#[track_caller]
fn check_one_line(flags: &[&str], want: &str) {
    check_refused(flags, want);
    let output = serve(flags).output().expect("atoll runs");
    assert_eq!(
        text(&output.stderr).trim().lines().count(),
        1,
        "one line: {}",
        text(&output.stderr)
    );
}

#[test]
fn a_port_in_use_is_named_with_the_flag_that_helps() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let want = format!("cannot listen on {address}; choose another with --resp");
    check_one_line(&["--resp", &address], &want);
}

#[test]
fn a_mistake_ends_start_up_with_one_line_that_says_what_to_write() {
    check_one_line(&["--api", "0.0.0.0:0"], "set ATOLL_API_TOKEN");
    check_one_line(&["--resp", "0.0.0.0:0"], "set ATOLL_RESP_PASSWORD");
    check_one_line(&["--memory-max", "much"], "write a number");
    check_one_line(&["--config", "/nonexistent/atoll.toml"], "/nonexistent/atoll.toml");
    check_one_line(&["--log", "nonsense=nonsense=nonsense"], "--log");
    check_one_line(&["--memory-mx", "1"], "--memory-max");
}

/// What a node prints for people, up to the last thing to type. It is killed when it is dropped.
fn banner(flags: &[&str]) -> (Started, String) {
    let mut child = Command::new(ATOLL)
        .args(["serve", "--gateway", "127.0.0.1:0", "--peers-listen", "127.0.0.1:0"])
        .args(flags)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("atoll starts");
    let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
    let started = Started(child);
    let mut banner = String::new();
    for line in stdout.lines() {
        banner += &line.expect("stdout is read");
        banner.push('\n');
        if banner.contains("redis-cli") {
            break;
        }
    }
    (started, banner)
}

struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_banner_names_the_doors_and_the_next_thing_to_type() {
    let (_node, banner) = banner(&["--api", "127.0.0.1:0", "--resp", "127.0.0.1:0"]);
    for want in ["memory only", "gateway", "API", "RESP", "curl -X PUT http://127.0.0.1:"] {
        assert!(banner.contains(want), "{want:?} is missing:\n{banner}");
    }
}

#[test]
fn what_the_banner_says_to_type_works_where_the_doors_ask_for_secrets_and_are_open_to_all() {
    let doors = ["--api", "0.0.0.0:0", "--resp", "0.0.0.0:0"];
    let secrets = ["--api-token", "a token", "--resp-password", "a password"];
    let (_node, banner) = banner(&[doors, secrets].concat());
    let (_, tries) = banner.split_once("Try:\n").expect("something to type");
    let answers: Vec<String> = tries
        .lines()
        .map(|line| {
            let mut shell = Command::new("sh");
            shell.args(["-c", line]);
            shell.envs([("ATOLL_API_TOKEN", "a token"), ("ATOLL_RESP_PASSWORD", "a password")]);
            text(&shell.output().expect("sh runs").stdout).trim().to_owned()
        })
        .collect();
    assert_eq!(answers, ["", "world", "world"], "{banner}");
}

#[test]
fn sigterm_lets_a_request_in_flight_end_and_exits_0() {
    let mut node = TestNode::start();
    // Half a request: the node asks for the value, which shows that it has taken it up.
    let mut slow = TcpStream::connect(node.api).expect("the API is open");
    slow.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    slow.write_all(
        b"PUT /v1/kv/default/slow HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\n\
          Expect: 100-continue\r\n\r\n",
    )
    .expect("the node reads");
    let mut asked = [0; 25];
    slow.read_exact(&mut asked).expect("the node asks");
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    node.signal("TERM");
    crate::node::wait_until("the API no longer listens", || TcpStream::connect(node.api).err());
    slow.write_all(b"abcd").expect("the node still reads");
    let mut answer = String::new();
    slow.read_to_string(&mut answer).expect("the node answers, then closes");
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(node.wait().code(), Some(0));
}

#[test]
fn a_node_that_is_idle_stops_at_once_on_either_signal() {
    for signal in ["TERM", "INT"] {
        let mut node = TestNode::start();
        let mut idle = node.resp_client();
        assert_eq!(idle.command(&["PING"]), "+PONG");
        node.signal(signal);
        assert_eq!(node.wait().code(), Some(0), "{signal}");
        assert!(idle.is_closed());
    }
}

#[test]
fn help_teaches_every_command() {
    let help = |arguments: &[&str]| {
        let output = Command::new(ATOLL).args(arguments).output().expect("atoll runs");
        assert!(output.status.success(), "{arguments:?}");
        text(&output.stdout)
    };
    let overview = help(&["--help"]);
    for command in
        ["serve", "kv", "deploy", "handlers", "remove", "backup", "restore", "status", "cluster"]
    {
        assert!(overview.contains(command), "{command} is missing:\n{overview}");
        let own = help(&[command, "--help"]);
        assert!(own.contains("atoll "), "{command} shows how it is typed:\n{own}");
    }
}

#[test]
fn a_command_without_a_node_says_how_to_start_one() {
    // Nobody listens there.
    let api = "http://127.0.0.1:1";
    for arguments in [&["kv", "get", "k"][..], &["status"], &["handlers"]] {
        let output = Command::new(ATOLL)
            .args(arguments)
            .env("ATOLL_API_URL", api)
            .output()
            .expect("atoll runs");
        let message = text(&output.stderr);
        assert!(!output.status.success());
        assert!(message.contains("atoll serve"), "{arguments:?}: {message}");
        assert_eq!(message.trim().lines().count(), 1, "one line: {message}");
    }
}

#[test]
fn a_node_whose_output_nobody_reads_serves_all_the_same() {
    let mut child = serve(&["--gateway", "off", "--resp", "off"])
        .stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it"))
        .stderr(Stdio::piped())
        .spawn()
        .expect("atoll starts");
    let mut line = String::new();
    let stderr = child.stderr.take().expect("stderr is piped");
    BufReader::new(stderr).read_line(&mut line).expect("stderr is read");
    assert!(line.contains("could not be printed") && !line.contains("panicked"), "{line}");
    let running = child.try_wait().expect("it can be waited for").is_none();
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    assert!(running);
}
