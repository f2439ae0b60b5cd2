//! Upstreams over HTTP/2: what goes beside a request and its response, and what a server may do with a
//! connection that many requests share.

use super::interim::{
    Asked as AskedAt, WAITING, body, check_body_once_asked, check_body_sent_ahead, client, head,
    send,
};
use super::origin::{Message, ask, ask_with_body};
use super::secure::Secure;
use crate::node::wait_until;
use crate::tools::run;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Bytes;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

type Asked = Request<RecvStream>;
type Respond = SendResponse<Bytes>;

/// A server that deals with each request by `script`, and the connections that it has had.
fn origin<F, A>(script: F) -> (Secure, Arc<AtomicUsize>)
where
    F: Fn(Asked, Respond) -> A + Clone + Send + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let server = Secure::serving(&["h2", "http/1.1"], move |stream| {
        let (script, counted) = (script.clone(), Arc::clone(&counted));
        async move {
            counted.fetch_add(1, Ordering::Relaxed);
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(script(request, respond));
            }
        }
    });
    (server, count)
}

const OWN_NAME: &str = "host = \"upstream\"\n";

fn response(status: u16) -> Response<()> {
    let response = Response::builder().status(status).header("cache-control", "max-age=60");
    response.body(()).expect("a response")
}

/// Answers with a body.
fn answer(respond: &mut Respond, text: &'static str) {
    let mut response = response(200);
    response.headers_mut().insert("content-length", text.len().into());
    let mut stream = respond.send_response(response, false).expect("the client is there");
    stream.send_data(Bytes::from_static(text.as_bytes()), true).expect("the client is there");
}

async fn read(stream: &mut RecvStream) -> String {
    let mut got = Vec::new();
    while let Some(Ok(piece)) = stream.data().await {
        stream.flow_control().release_capacity(piece.len()).expect("it was taken");
        got.extend_from_slice(&piece);
    }
    String::from_utf8(got).expect("text")
}

/// Sends two hints, and the response once it is told to.
fn hinting() -> (Secure, Arc<Notify>) {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let (server, _) = origin(move |_, mut respond| {
        let wait = Arc::clone(&wait);
        async move {
            for _ in 0..2 {
                let hint = Response::builder().status(103).header("link", "</a.css>");
                let hint = hint.body(()).expect("a hint");
                respond.send_informational(hint).expect("the client is there");
            }
            wait.notified().await;
            answer(&mut respond, "x");
        }
    });
    (server, go)
}

#[test]
fn early_hints_reach_a_client_of_http_1_before_the_response_and_are_not_stored() {
    let (server, go) = hinting();
    let more = format!(
        "{OWN_NAME}[[route]]\npath = \"/passed\"\nupstream = \"https://localhost:{}\"\n{OWN_NAME}",
        server.port
    );
    let node = server.node(&more);
    for path in ["/cached", "/passed"] {
        let mut client = client(&node);
        send(&mut client, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        for _ in 0..2 {
            let hints = head(&mut client);
            assert!(hints.starts_with("http/1.1 103 early hints\r\n"), "{hints}");
            assert!(hints.contains("link: </a.css>"), "{hints}");
        }
        go.notify_one();
        let last = head(&mut client);
        assert!(last.starts_with("http/1.1 200") && body(&mut client, 1) == "x", "{last}");
        assert!(!last.contains("link"), "{last}");
        if path == "/cached" {
            send(&mut client, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let hit = head(&mut client);
            assert!(hit.starts_with("http/1.1 200") && hit.contains("atoll; hit"), "{hit}");
            assert!(!hit.contains("link"), "{hit}");
        }
    }
}

#[test]
fn early_hints_reach_a_client_of_http_2() {
    let (server, go) = hinting();
    let node = server.node(OWN_NAME);
    go.notify_one();
    let url = format!("http://{}/hinted", node.gateway);
    let got = run("curl", &["-sSi", "--http2-prior-knowledge", &url]);
    let heads: Vec<&str> = got.split("\r\n\r\n").collect();
    let [first, second, last, body] = heads[..] else { panic!("{got}") };
    for hints in [first, second] {
        assert!(hints.starts_with("HTTP/2 103") && hints.contains("link: </a.css>"), "{got}");
    }
    assert!(last.starts_with("HTTP/2 200") && last.contains("fwd=uri-miss"), "{got}");
    assert_eq!(body, "x");
    let again = run("curl", &["-sSi", "--http2-prior-knowledge", &url]);
    assert!(again.starts_with("HTTP/2 200") && again.contains("Atoll; hit"), "{again}");
}

#[test]
fn a_body_that_waits_to_be_asked_for_is_sent_once_the_upstream_asks() {
    let asked_at = AskedAt::default();
    let known = asked_at.clone();
    let (server, _) = origin(move |request, mut respond| {
        let known = known.clone();
        async move {
            assert_eq!(request.headers()["expect"], "100-continue");
            let mut stream = request.into_body();
            if let Ok(early) = timeout(Duration::from_millis(200), stream.data()).await {
                assert!(known.is_long_ago(), "nothing has been asked for: {early:?}");
                assert_eq!(early.expect("a piece").expect("whole"), "hello");
            } else {
                let mut go_on = Response::new(());
                *go_on.status_mut() = StatusCode::CONTINUE;
                respond.send_informational(go_on).expect("the client is there");
                assert_eq!(read(&mut stream).await, "hello");
            }
            respond.send_response(response(201), true).expect("the client is there");
        }
    });
    let node = server.node(OWN_NAME);
    check_body_once_asked(&node, &asked_at);
}

#[test]
fn a_body_that_the_upstream_refuses_is_never_asked_for() {
    let got = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&got);
    let (server, _) = origin(move |request, mut respond| {
        let seen = Arc::clone(&seen);
        async move {
            respond.send_response(response(413), true).expect("the client is there");
            // Not after a second either, when it would be sent to one that knows nothing of 100.
            let rest = timeout(Duration::from_secs(2), request.into_body().data()).await;
            *seen.lock().expect("no panic") = Some(matches!(rest, Ok(Some(Ok(_)))));
        }
    });
    let node = server.node(OWN_NAME);
    let mut client = client(&node);
    send(&mut client, WAITING);
    let answer = head(&mut client);
    assert!(answer.starts_with("http/1.1 413"), "{answer}");
    let was_sent = wait_until("the upstream has waited", || *got.lock().expect("no panic"));
    assert!(!was_sent);
}

#[test]
fn an_upstream_that_knows_nothing_of_100_gets_the_body_after_a_second() {
    let (server, _) = origin(|request, mut respond| async move {
        assert_eq!(read(&mut request.into_body()).await, "hello");
        respond.send_response(response(201), true).expect("the client is there");
    });
    let node = server.node(OWN_NAME);
    check_body_sent_ahead(&node);
}

#[test]
fn trailers_go_both_ways() {
    let (server, _) = origin(|request, mut respond| async move {
        let mut stream = request.into_body();
        let sent = read(&mut stream).await;
        let trailers = stream.trailers().await.expect("trailers").expect("some");
        assert_eq!((sent.as_str(), &trailers["x-sum"]), ("x", &HeaderValue::from_static("7")));
        let mut response = response(200);
        // Over HTTP/1.1 only those go on that are announced.
        response.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
        let mut stream = respond.send_response(response, false).expect("it is there");
        stream.send_data(Bytes::from_static(b"y"), false).expect("the client is there");
        let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "8".parse().unwrap())]);
        stream.send_trailers(trailers).expect("the client is there");
    });
    let node = server.node(OWN_NAME);
    let mut client = client(&node);
    let chunked = "1\r\nx\r\n0\r\nX-Sum: 7\r\n\r\n";
    let fields = "Host: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum";
    send(&mut client, &format!("POST /a HTTP/1.1\r\n{fields}\r\n\r\n{chunked}"));
    let answer = head(&mut client);
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    let rest = body(&mut client, "1\r\ny\r\n0\r\n".len()) + &head(&mut client);
    assert!(rest.contains("x-sum: 8"), "{rest}");
}

#[track_caller]
fn check(answer: &Message, status: u16, text: &str) {
    assert_eq!(answer.status(), status, "{answer:?}");
    assert!(answer.text().contains(text), "{answer:?}");
}

#[test]
fn requests_share_a_connection_and_those_that_find_no_room_get_another() {
    let together = Arc::new(tokio::sync::Barrier::new(150));
    let meet = Arc::clone(&together);
    let (server, count) = origin(move |request, mut respond| {
        let meet = Arc::clone(&meet);
        async move {
            if request.uri().path() == "/together" {
                meet.wait().await;
            }
            answer(&mut respond, "x");
        }
    });
    let node = server.node(OWN_NAME);
    for number in 0..20 {
        check(&ask(&node, "GET", &format!("/{number}"), &[]), 200, "x");
    }
    assert_eq!(count.load(Ordering::Relaxed), 1);
    std::thread::scope(|scope| {
        for _ in 0..150 {
            scope.spawn(|| check(&ask(&node, "POST", "/together", &[]), 200, "x"));
        }
    });
    assert_eq!(count.load(Ordering::Relaxed), 2);
}

#[test]
fn a_request_that_the_upstream_has_not_looked_at_is_sent_again() {
    let refused = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&refused);
    let (server, _) = origin(move |request, mut respond| {
        let is_first = counted.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            match request.uri().path() {
                "/refused" if is_first => respond.send_reset(Reason::REFUSED_STREAM),
                "/always" => respond.send_reset(Reason::REFUSED_STREAM),
                "/reset" => respond.send_reset(Reason::INTERNAL_ERROR),
                _ => {
                    let sent = read(&mut request.into_body()).await;
                    let stream = respond.send_response(response(200), false);
                    let sent = stream.and_then(|mut stream| stream.send_data(sent.into(), true));
                    sent.expect("the client is there");
                }
            }
        }
    });
    let node = server.node(OWN_NAME);
    check(&ask(&node, "POST", "/refused", &[]), 200, "");
    assert_eq!(refused.load(Ordering::Relaxed), 2);
    refused.store(0, Ordering::Relaxed);
    check(&ask_with_body(&node, ("POST", "/refused"), &[], "hello"), 200, "hello");
    check(&ask(&node, "POST", "/always", &[]), 502, "upstream-refused");
    // It may have done what was asked for.
    let before = refused.load(Ordering::Relaxed);
    check(&ask(&node, "POST", "/reset", &[]), 502, "upstream-closed");
    assert_eq!(refused.load(Ordering::Relaxed), before + 1);
}

#[test]
fn an_upstream_that_ends_its_connections_costs_no_request() {
    // Says after each response that it takes no more, and ends the connection.
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let server = Secure::serving(&["h2"], move |stream| {
        let counted = Arc::clone(&counted);
        async move {
            counted.fetch_add(1, Ordering::Relaxed);
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                connection.graceful_shutdown();
                tokio::spawn(async move {
                    read(&mut request.into_body()).await;
                    answer(&mut respond, "x");
                });
            }
        }
    });
    let node = server.node(OWN_NAME);
    for number in 0..20 {
        check(&ask(&node, "GET", &format!("/{number}"), &[]), 200, "x");
        check(&ask_with_body(&node, ("POST", "/"), &[], "hello"), 200, "x");
    }
    let count = count.load(Ordering::Relaxed);
    assert!(count > 10, "it has ended connections: {count}");
}

#[test]
fn a_refusal_before_the_body_has_come_reaches_the_client() {
    let (server, _) = origin(|_, mut respond| async move {
        let mut stream = respond.send_response(response(413), false).expect("it is there");
        stream.send_data(Bytes::from_static(b"too large"), true).expect("it is there");
        // Its request is dropped unread, upon which `h2` resets the stream with NO_ERROR.
    });
    let node = server.node(OWN_NAME);
    let large = "x".repeat(3_000_000);
    for _ in 0..10 {
        check(&ask_with_body(&node, ("POST", "/"), &[], &large), 413, "too large");
    }
}

/// Reads until the head of a request has come: to a node that has not asked yet, what is bad now would
/// be no answer.
async fn read_a_request(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.expect("a preface");
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.expect("a frame");
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).await.expect("all of it");
        // HEADERS (RFC 9113 section 6.2).
        if head[3] == 1 {
            return;
        }
    }
}

#[test]
fn frames_that_are_none_end_a_connection_with_502_and_the_next_one_is_served() {
    let bad_count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&bad_count);
    let server = Secure::serving(&["h2"], move |mut stream| {
        let number = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            // An end of headers that never began; a length beyond all bounds; no frame at all; a field
            // that no table has; a response of HTTP/1.1.
            let bad: [&[u8]; 5] = [
                b"\0\0\0\x04\0\0\0\0\0\0\0\0\x09\x04\0\0\0\x01",
                b"\0\0\0\x04\0\0\0\0\0\xff\xff\xff\0\0\0\0\0\x01",
                &[0x7f; 64],
                b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x05\0\0\0\x01\x80",
                b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            ];
            if let Some(bad) = bad.get(number) {
                let mut asked = [0; 1_000];
                read_a_request(&mut stream).await;
                stream.write_all(bad).await.expect("the client is there");
                while let Ok(1..) = stream.read(&mut asked).await {}
                return;
            }
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                answer(&mut respond, "x");
            }
        }
    });
    let node = server.node(OWN_NAME);
    for number in 0..5 {
        check(&ask(&node, "POST", "/", &[]), 502, "upstream-bad-response");
        assert_eq!(bad_count.load(Ordering::Relaxed), number + 1);
    }
    check(&ask(&node, "POST", "/", &[]), 200, "x");
    assert!(!node.log().contains("panic"), "{}", node.log());
}

#[test]
fn a_client_that_goes_or_waits_too_long_resets_its_stream_alone() {
    let (resets, came) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let (seen, coming) = (Arc::clone(&resets), Arc::clone(&came));
    let (server, count) = origin(move |request, mut respond| {
        let (seen, coming) = (Arc::clone(&seen), Arc::clone(&coming));
        async move {
            match request.uri().path() {
                "/quick" => answer(&mut respond, "x"),
                path => {
                    let path = path.to_owned();
                    coming.fetch_add(1, Ordering::Relaxed);
                    let reason = std::future::poll_fn(|context| respond.poll_reset(context)).await;
                    seen.lock().expect("no panic").push((path, reason.ok()));
                }
            }
        }
    });
    let node = server.node(&format!("{OWN_NAME}first_byte_ms = 4000\n"));
    let mut gone = client(&node);
    send(&mut gone, "POST /gone HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    wait_until("it is asked", || (came.load(Ordering::Relaxed) == 1).then_some(()));
    drop(gone);
    check(&ask(&node, "POST", "/quick", &[]), 200, "x");
    wait_until("its stream is reset", || {
        let seen = resets.lock().expect("no panic");
        seen.contains(&("/gone".to_owned(), Some(Reason::CANCEL))).then_some(())
    });
    assert_eq!(count.load(Ordering::Relaxed), 1, "the connection is still used");
    check(&ask(&node, "POST", "/late", &[]), 504, "upstream-timeout");
    wait_until("its stream is reset", || {
        let seen = resets.lock().expect("no panic");
        seen.contains(&("/late".to_owned(), Some(Reason::CANCEL))).then_some(())
    });
    // What was late may be so because its connection is dead.
    check(&ask(&node, "POST", "/quick", &[]), 200, "x");
    assert_eq!(count.load(Ordering::Relaxed), 2, "there is a new connection");
}

/// Answers each request with a large body.
fn large(respond: &mut Respond, bytes: usize) -> impl Future<Output = ()> + use<> {
    let stream = respond.send_response(response(200), false);
    async move {
        let Ok(mut stream) = stream else { return };
        let sent = stream.send_data(Bytes::from(vec![b'x'; bytes]), true);
        sent.expect("the client is there");
        // Until the client has it or goes.
        let _ = std::future::poll_fn(|context| stream.poll_reset(context)).await;
    }
}

#[test]
fn a_client_that_does_not_read_holds_up_its_own_stream_only() {
    const BYTES: usize = 30_000_000;
    let (server, count) = origin(|request, mut respond| async move {
        match request.uri().path() {
            "/quick" => answer(&mut respond, "x"),
            _ => large(&mut respond, BYTES).await,
        }
    });
    let route = format!(
        "{OWN_NAME}[[route]]\npath = \"/passed/*\"\nupstream = \"https://localhost:{}\"\n{OWN_NAME}",
        server.port
    );
    let node = server.node(&route);
    let before = node.resident_bytes();
    let mut idle: Vec<_> = (0..20)
        .map(|number| {
            let mut client = client(&node);
            send(&mut client, &format!("GET /passed/{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert!(head(&mut client).starts_with("http/1.1 200"));
            client
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    check(&ask(&node, "GET", "/quick", &[]), 200, "x");
    let whole = ask(&node, "GET", "/passed/whole", &[]);
    assert_eq!(whole.body.len(), BYTES);
    let held = node.resident_bytes().saturating_sub(before);
    assert!(held < 100 << 20, "20 clients that read nothing hold {held} bytes");
    assert!(count.load(Ordering::Relaxed) <= 2, "one for each route");
    let first = &mut idle[0];
    assert_eq!(body(first, BYTES).len(), BYTES, "it is there for who reads later");
}

#[test]
fn a_server_of_http_1_alone_is_dialled_once_and_upgrades_go_over_http_1() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let speak_http1 = |mut stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>| async move {
        let mut asked = Vec::new();
        loop {
            let mut byte = [0];
            if stream.read(&mut byte).await.unwrap_or(0) == 0 {
                return;
            }
            asked.push(byte[0]);
            if asked.ends_with(b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&asked).to_lowercase();
                let answer: &[u8] = match text.contains("upgrade: echo") {
                    true => {
                        b"HTTP/1.1 101 Whatever\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
                    }
                    false => b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
                };
                stream.write_all(answer).await.expect("the client is there");
                asked.clear();
            }
        }
    };
    let only_1 = Secure::serving(&["http/1.1"], move |stream| {
        counted.fetch_add(1, Ordering::Relaxed);
        speak_http1(stream)
    });
    let node = only_1.node(OWN_NAME);
    for number in 0..5 {
        check(&ask(&node, "GET", &format!("/{number}"), &[]), 200, "x");
    }
    assert_eq!(count.load(Ordering::Relaxed), 1);
    let both = Secure::serving(&["h2", "http/1.1"], move |stream| async move {
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return speak_http1(stream).await;
        }
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            answer(&mut respond, "over http/2");
        }
    });
    let node = both.node("host = \"upstream\"\nupgrades = [\"echo\"]");
    for _ in 0..2 {
        let mut client = client(&node);
        send(
            &mut client,
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
        );
        let switched = head(&mut client);
        assert!(switched.starts_with("http/1.1 101"), "{switched}");
        check(&ask(&node, "GET", "/a", &[]), 200, "over http/2");
    }
}

#[test]
fn health_is_checked_over_http_2_as_well() {
    let is_well = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let told = Arc::clone(&is_well);
    let (server, _) = origin(move |request, mut respond| {
        let is_well = told.load(Ordering::Relaxed);
        async move {
            if request.uri().path() == "/health" && !is_well {
                sleep(Duration::from_secs(600)).await;
            }
            answer(&mut respond, "x");
        }
    });
    let checked = "health_path = \"/health\"\nhealth_interval_ms = 200\n";
    let node = server.node(&format!("{OWN_NAME}{checked}"));
    let name = format!("atoll_upstream_up{{route=\"/*\",address=\"localhost:{}\"}}", server.port);
    for want in [1, 0, 1] {
        is_well.store(want == 1, Ordering::Relaxed);
        wait_until("the checks show it", || (node.figure::<u8>(&name)? == want).then_some(()));
    }
}
