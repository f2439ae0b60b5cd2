//! Servers of `h2` at the other end, without a network.

use super::*;
use crate::https;
use crate::listen::interim::Interim;
use crate::upstream::body::{Progress, Watched};
use crate::upstream::exchange::{Download, exchange};
use crate::upstream::interim::Hints;
use axum::body::Body;
use futures_util::StreamExt as _;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderName, Request, Response};
use http_body_util::BodyExt as _;
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;

/// What can dial nobody: a request for which there is no place fails.
fn nowhere() -> Arc<Connections> {
    let address = "https://127.0.0.1:1".parse().expect("an address");
    let tls = (https::trusting_nobody(), Duration::from_secs(1));
    Connections::new(Dialler::new(&address, tls, true).expect("a way"))
}

/// Adds a connection whose server does as `script` says, `stream_count_max` requests at a time.
/// Returns what is received once it has ended.
async fn add_server<F, A>(
    connections: &Arc<Connections>,
    stream_count_max: u32,
    script: F,
) -> mpsc::Receiver<()>
where
    F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> A + Send + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (tell, ended) = mpsc::channel(1);
    tokio::spawn(serve(far, stream_count_max, script, tell));
    connections.adopt(near).await.expect("a preface is taken");
    ended
}

async fn serve<F, A>(far: DuplexStream, count_max: u32, script: F, ended: mpsc::Sender<()>)
where
    F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> A,
    A: Future<Output = ()> + Send + 'static,
{
    let mut builder = server::Builder::new();
    let mut connection = builder
        .max_concurrent_streams(count_max)
        .handshake::<_, Bytes>(far)
        .await
        .expect("a client");
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(script(request, respond));
    }
    // That nobody waits is none of its affair.
    let _ = ended.send(()).await;
}

fn request(body: Body) -> (Request<Watched>, Hints) {
    let mut request = Request::builder().method("POST").uri("https://localhost/a").body(body);
    let request = request.as_mut().expect("a request");
    let hints = Hints::of(request);
    let request = std::mem::take(request);
    (request.map(|body| Watched::new(body, Arc::new(Progress::new()))), hints)
}

async fn ask(
    connections: &Arc<Connections>,
    body: Body,
) -> Result<Response<Download>, UpstreamError> {
    let seat = connections.seat().await?.expect("it speaks HTTP/2");
    let (request, hints) = request(body);
    exchange(seat, request, &hints, Duration::from_secs(5)).await
}

async fn read(response: Response<Download>) -> Result<Bytes, h2::Error> {
    Ok(response.into_body().collect().await?.to_bytes())
}

fn say(respond: &mut SendResponse<Bytes>, text: &'static str) {
    let sent = respond.send_response(Response::new(()), false);
    let sent = sent.and_then(|mut stream| stream.send_data(Bytes::from(text), true));
    sent.expect("the client is there");
}

async fn answer(_: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    say(&mut respond, "x");
}

/// Neither answers nor reads.
async fn wait(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let _ = std::future::poll_fn(|context| respond.poll_reset(context)).await;
    drop(request);
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_requests_is_ended_after_a_while_and_one_with_them_is_not() {
    let connections = nowhere();
    let mut ended = add_server(&connections, 100, answer).await;
    let response = ask(&connections, Body::empty()).await.expect("an answer");
    sleep(IDLE_WAIT * 3).await;
    assert!(ended.try_recv().is_err(), "its response has not been read");
    assert_eq!(read(response).await.expect("a body"), "x");
    sleep(IDLE_WAIT / 2).await;
    assert!(ended.try_recv().is_err(), "it may be used again");
    timeout(IDLE_WAIT * 2, ended.recv()).await.expect("it ends").expect("the server tells");
    assert!(connections.state().listed.is_empty());
}

#[tokio::test]
async fn the_servers_limit_of_streams_is_kept_and_the_emptiest_connection_is_taken() {
    let connections = nowhere();
    let _first = add_server(&connections, 2, wait).await;
    let _second = add_server(&connections, 2, wait).await;
    // Until both have told their limits.
    while connections
        .state()
        .listed
        .iter()
        .any(|listed| listed.connection.sender.current_max_send_streams() != 2)
    {
        sleep(Duration::from_millis(5)).await;
    }
    let mut seats = Vec::new();
    for _ in 0..4 {
        seats.push(connections.seat().await.expect("room").expect("HTTP/2"));
        let state = connections.state();
        let counts: Vec<usize> = state.listed.iter().map(|listed| listed.count).collect();
        assert!(counts[0].abs_diff(counts[1]) <= 1, "{counts:?}");
    }
    let error = connections.seat().await.expect_err("nobody can be dialled");
    assert!(matches!(error, UpstreamError::Connect), "{error:?}");
    seats.pop();
    connections.seat().await.expect("room").expect("HTTP/2");
    // One that may be dead takes none.
    seats[0].retire();
    drop(seats);
    assert_eq!(connections.state().listed.len(), 1);
    assert_eq!(connections.state().listed[0].count, 0);
}

#[tokio::test]
async fn who_finds_every_connection_full_waits_for_a_place() {
    let connections = nowhere();
    let mut seats = Vec::new();
    for _ in 0..CONNECTION_COUNT_MAX {
        add_server(&connections, 1_000, wait).await;
    }
    for _ in 0..CONNECTION_COUNT_MAX * STREAM_COUNT_MAX {
        seats.push(connections.seat().await.expect("room").expect("HTTP/2"));
    }
    let waiting = tokio::spawn({
        let connections = Arc::clone(&connections);
        async move { connections.seat().await.expect("room").is_some() }
    });
    sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished(), "all are full");
    seats.pop();
    assert!(timeout(Duration::from_secs(30), waiting).await.expect("in time").expect("no panic"));
}

#[tokio::test]
async fn interim_responses_are_told_in_their_order_and_101_is_none_of_them() {
    async fn hint(_: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        for link in ["</a>", "</b>"] {
            let hint = Response::builder().status(103).header("link", link).body(());
            respond.send_informational(hint.expect("a hint")).expect("the client is there");
        }
        say(&mut respond, "x");
    }
    async fn switch(_: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let switched = Response::builder().status(101).body(()).expect("a response");
        respond.send_informational(switched).expect("the client is there");
        say(&mut respond, "x");
    }
    let connections = nowhere();
    let _ended = add_server(&connections, 100, hint).await;
    let (tell, mut told) = mpsc::channel(8);
    let mut asked = Request::new(Body::empty());
    *asked.uri_mut() = "https://localhost/".parse().expect("a target");
    asked.extensions_mut().insert(Interim::Http2(tell));
    let hints = Hints::of(&mut asked);
    let asked = asked.map(|body| Watched::new(body, Arc::new(Progress::new())));
    let seat = connections.seat().await.expect("room").expect("HTTP/2");
    let response = exchange(seat, asked, &hints, Duration::from_secs(5)).await;
    for link in ["</a>", "</b>"] {
        assert_eq!(told.try_recv().expect("a hint").headers()["link"], link);
    }
    assert_eq!(read(response.expect("an answer")).await.expect("a body"), "x");
    let connections = nowhere();
    let _ended = add_server(&connections, 100, switch).await;
    let error = ask(&connections, Body::empty()).await.expect_err("HTTP/2 has no 101");
    assert!(matches!(error, UpstreamError::Broken), "{error:?}");
}

#[tokio::test]
async fn a_response_with_too_many_fields_is_broken() {
    async fn many(_: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let mut response = Response::new(());
        for number in 0..300 {
            let name = HeaderName::try_from(format!("x-{number}")).expect("a name");
            response.headers_mut().insert(name, number.into());
        }
        // It may be reset before it is sent.
        let _ = respond.send_response(response, true);
    }
    let connections = nowhere();
    let _ended = add_server(&connections, 100, many).await;
    let error = ask(&connections, Body::empty()).await.expect_err("too many");
    assert!(matches!(error, UpstreamError::Broken), "{error:?}");
}

/// A body of the pieces that are sent.
fn pieces() -> (Body, mpsc::Sender<&'static str>) {
    let (send, pieces) = mpsc::channel::<&'static str>(8);
    (Body::from_stream(ReceiverStream::new(pieces).map(Ok::<_, std::io::Error>)), send)
}

/// What a server is sent, or that it breaks off.
async fn read_all(mut stream: RecvStream) -> Result<String, h2::Error> {
    let mut got = String::new();
    while let Some(piece) = stream.data().await {
        got += std::str::from_utf8(&piece?).expect("text");
    }
    Ok(got)
}

#[tokio::test]
async fn what_is_still_to_be_sent_after_a_whole_response_is_sent_and_after_a_dropped_one_it_is_not()
{
    let (tell, mut told) = mpsc::channel(2);
    let script = move |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
        let tell = tell.clone();
        async move {
            let is_whole = request.headers()["x-whole"] == "1";
            let stream = match is_whole {
                true => {
                    say(&mut respond, "x");
                    None
                }
                false => respond.send_response(Response::new(()), false).ok(),
            };
            let got = read_all(request.into_body()).await.map_err(|error| error.reason());
            tell.send(got).await.expect("the test is there");
            drop(stream);
        }
    };
    let connections = nowhere();
    let _ended = add_server(&connections, 100, script).await;
    for (is_whole, want) in [("1", Ok("piece, rest".to_owned())), ("0", Err(Some(Reason::CANCEL)))]
    {
        let (body, send) = pieces();
        let (mut request, hints) = request(body);
        request.headers_mut().insert("x-whole", is_whole.parse().expect("a value"));
        send.send("piece, ").await.expect("room");
        let seat = connections.seat().await.expect("room").expect("HTTP/2");
        let response = exchange(seat, request, &hints, Duration::from_secs(5)).await;
        let response = response.expect("an answer");
        match is_whole {
            "1" => assert_eq!(read(response).await.expect("a body"), "x"),
            _ => drop(response),
        }
        // Where nobody waits for it any more it is for nobody.
        let _ = send.send("rest").await;
        drop(send);
        assert_eq!(told.recv().await.expect("the server tells"), want);
    }
    // The place is free again, and the connection as good as before.
    while connections.state().listed[0].count > 0 {
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_or_is_not_taken_resets_its_stream() {
    let connections = nowhere();
    let _ended = add_server(&connections, 100, wait).await;
    let failing = Body::from_stream(futures_util::stream::iter([
        Ok("piece"),
        Err(std::io::Error::other("the client has gone")),
    ]));
    let error = ask(&connections, failing).await.expect_err("it broke off");
    assert!(matches!(error, UpstreamError::Broken), "{error:?}");
    // More than the server has room for.
    let seat = connections.seat().await.expect("room").expect("HTTP/2");
    let (request, hints) = request(Body::from(vec![0; 1_000_000]));
    let error = exchange(seat, request, &hints, Duration::from_millis(200)).await;
    let error = error.expect_err("it is not taken");
    assert!(matches!(error, UpstreamError::Broken), "{error:?}");
}
