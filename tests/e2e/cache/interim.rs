//! What goes beside a request and its response: interim responses, bodies that are asked for first,
//! trailers.

use super::origin::{Origin, node_before};
use crate::node::{PATIENCE, TestNode};
use crate::tools::run;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

pub(super) type Reader = BufReader<TcpStream>;

/// An upstream that deals with each connection itself. It ends with the test's process.
fn upstream(script: impl Fn(&mut Reader) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let script = &script;
        std::thread::scope(|scope| {
            for stream in listener.incoming().flatten() {
                stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
                scope.spawn(move || script(&mut BufReader::new(stream)));
            }
        });
    });
    address
}

fn node_to(address: SocketAddr, more: &str) -> TestNode {
    node_before(&Origin::at(address), more)
}

/// The next head, in lower case; empty at the end of the connection.
pub(super) fn head(reader: &mut Reader) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        match reader.read_line(&mut head) {
            Ok(0) | Err(_) => return String::new(),
            Ok(_) => {}
        }
    }
    head.to_ascii_lowercase()
}

#[track_caller]
pub(super) fn send(reader: &mut Reader, text: &str) {
    reader.get_mut().write_all(text.as_bytes()).expect("it is taken");
}

#[track_caller]
pub(super) fn body(reader: &mut Reader, bytes: usize) -> String {
    let mut body = vec![0; bytes];
    reader.read_exact(&mut body).expect("a body");
    String::from_utf8(body).expect("text")
}

pub(super) fn client(node: &TestNode) -> Reader {
    let stream = TcpStream::connect(node.gateway).expect("the gateway is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    BufReader::new(stream)
}

/// An upstream that sends hints, and the response once it is told to.
fn hinting() -> (SocketAddr, std::sync::mpsc::Sender<()>) {
    let (go, wait) = channel();
    let wait = Mutex::new(wait);
    let address = upstream(move |reader| {
        while !head(reader).is_empty() {
            let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n";
            send(reader, &hints.repeat(2));
            let _ = wait.lock().expect("no panic").recv_timeout(PATIENCE);
            send(
                reader,
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 1\r\n\r\nx",
            );
        }
    });
    (address, go)
}

#[test]
fn early_hints_reach_the_client_before_the_response_and_are_not_stored() {
    let (address, go) = hinting();
    for more in ["", "[[route]]\npath = \"/passed\"\nupstream = \"http://ADDRESS\""] {
        let node = node_to(address, &more.replace("ADDRESS", &address.to_string()));
        let mut client = client(&node);
        let path = if more.is_empty() { "/cached" } else { "/passed" };
        send(&mut client, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        for _ in 0..2 {
            let hints = head(&mut client);
            assert!(hints.starts_with("http/1.1 103 early hints\r\n"), "{hints}");
            assert!(hints.contains("link: </a.css>") && !hints.contains("x-hop"), "{hints}");
        }
        go.send(()).expect("the upstream waits");
        let last = head(&mut client);
        assert!(last.starts_with("http/1.1 200") && body(&mut client, 1) == "x", "{last}");
        if more.is_empty() {
            send(&mut client, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let hit = head(&mut client);
            assert!(hit.starts_with("http/1.1 200") && hit.contains("atoll; hit"), "{hit}");
        }
    }
}

#[test]
fn early_hints_reach_a_client_over_http_2() {
    let (address, go) = hinting();
    let node = node_to(address, "");
    go.send(()).expect("the upstream waits");
    let url = format!("http://{}/hinted", node.gateway);
    let got = run("curl", &["-sSi", "--http2-prior-knowledge", "-H", "Host: a", &url]);
    let heads: Vec<&str> = got.split("\r\n\r\n").collect();
    let [first, second, last, body] = heads[..] else { panic!("{got}") };
    for hints in [first, second] {
        assert!(hints.starts_with("HTTP/2 103"), "{got}");
        assert!(hints.contains("link: </a.css>") && !hints.contains("x-hop"), "{got}");
    }
    assert!(last.starts_with("HTTP/2 200") && last.contains("fwd=uri-miss"), "{got}");
    assert_eq!(body, "x");
    let again = run("curl", &["-sSi", "--http2-prior-knowledge", "-H", "Host: a", &url]);
    assert!(again.starts_with("HTTP/2 200") && again.contains("Atoll; hit"), "{again}");
}

#[test]
fn a_client_of_http_1_0_gets_no_interim_response() {
    let (address, go) = hinting();
    let node = node_to(address, "");
    go.send(()).expect("the upstream waits");
    let mut client = client(&node);
    send(&mut client, "GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    let answer = head(&mut client);
    assert!(answer.starts_with("http/1.0 200"), "{answer}");
}

pub(super) const WAITING: &str =
    "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

/// When a client has asked: a node that is not answered sends the body a second later by itself, and an
/// upstream on a busy machine may look that late.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked(Arc<OnceLock<Instant>>);

impl Asked {
    /// Whether the body may be there without having been asked for.
    pub(super) fn is_long_ago(&self) -> bool {
        self.0.get().is_some_and(|asked| asked.elapsed() >= Duration::from_secs(1))
    }
}

/// A client that sends its body once it is asked, and gets 201.
#[track_caller]
pub(super) fn check_body_once_asked(node: &TestNode, asked_at: &Asked) {
    let mut client = client(node);
    asked_at.0.set(Instant::now()).expect("it asks once");
    send(&mut client, WAITING);
    let asked = head(&mut client);
    assert!(asked.starts_with("http/1.1 100"), "{asked}");
    send(&mut client, "hello");
    let answer = head(&mut client);
    assert!(answer.starts_with("http/1.1 201"), "{answer}");
}

/// One that does not wait for that. The upstream says nothing, and has the body after a second.
#[track_caller]
pub(super) fn check_body_sent_ahead(node: &TestNode) {
    let mut client = client(node);
    let started = Instant::now();
    send(&mut client, WAITING);
    send(&mut client, "hello");
    assert!(head(&mut client).starts_with("http/1.1 100"));
    let answer = head(&mut client);
    assert!(answer.starts_with("http/1.1 201"), "{answer}");
    assert!(started.elapsed() > Duration::from_millis(900), "{:?}", started.elapsed());
}

#[test]
fn a_body_that_waits_to_be_asked_for_is_sent_once_the_upstream_asks() {
    let asked_at = Asked::default();
    let known = asked_at.clone();
    let address = upstream(move |reader| {
        let asked = head(reader);
        assert!(asked.contains("expect: 100-continue"), "{asked}");
        let short = Some(Duration::from_millis(200));
        reader.get_ref().set_read_timeout(short).expect("a time-out can be set");
        let is_early = reader.fill_buf().is_ok();
        assert!(!is_early || known.is_long_ago(), "nothing has been asked for");
        reader.get_ref().set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        if !is_early {
            send(reader, "HTTP/1.1 100 Continue\r\n\r\n");
        }
        assert_eq!(body(reader, 5), "hello");
        send(reader, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
    });
    let node = node_to(address, "");
    check_body_once_asked(&node, &asked_at);
}

#[test]
fn a_body_that_the_upstream_refuses_is_never_asked_for() {
    let address = upstream(|reader| {
        head(reader);
        send(reader, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
        // What the test looks at is the client's side.
        head(reader);
    });
    let node = node_to(address, "");
    let mut client = client(&node);
    send(&mut client, WAITING);
    let answer = head(&mut client);
    assert!(answer.starts_with("http/1.1 413"), "{answer}");
}

#[test]
fn an_upstream_that_knows_nothing_of_100_gets_the_body_after_a_second() {
    let address = upstream(|reader| {
        head(reader);
        assert_eq!(body(reader, 5), "hello");
        send(reader, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
    });
    let node = node_to(address, "");
    check_body_sent_ahead(&node);
}

#[test]
fn trailers_go_both_ways_and_are_left_out_of_what_is_stored() {
    let address = upstream(|reader| {
        loop {
            let asked = head(reader);
            if asked.is_empty() {
                return;
            }
            if asked.starts_with("post") {
                let rest = body(reader, "1\r\nx\r\n0\r\n".len()) + &head(reader);
                assert!(rest.to_ascii_lowercase().contains("x-sum: 7"), "{asked}{rest}");
            }
            let fields =
                "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\nCache-Control: max-age=60";
            send(
                reader,
                &format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n1\r\ny\r\n0\r\nX-Sum: 8\r\n\r\n"),
            );
        }
    });
    let node = node_to(address, "");
    let mut client = client(&node);
    let chunked = "1\r\nx\r\n0\r\nX-Sum: 7\r\n\r\n";
    let fields = "Host: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum";
    send(&mut client, &format!("POST /a HTTP/1.1\r\n{fields}\r\n\r\n{chunked}"));
    let answer = head(&mut client);
    assert!(answer.contains("trailer: x-sum"), "{answer}");
    let rest = body(&mut client, "1\r\ny\r\n0\r\n".len()) + &head(&mut client);
    assert!(rest.contains("x-sum: 8"), "{rest}");
    for want in ["fwd=uri-miss", "atoll; hit"] {
        send(&mut client, "GET /b HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n");
        let answer = head(&mut client);
        assert!(answer.contains(want) && !answer.contains("trailer"), "{answer}");
        if answer.contains("chunked") {
            assert_eq!(body(&mut client, "1\r\ny\r\n0\r\n\r\n".len()), "1\r\ny\r\n0\r\n\r\n");
        } else {
            assert_eq!(body(&mut client, 1), "y");
        }
    }
}
