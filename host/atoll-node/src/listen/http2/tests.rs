//! A client of `h2` against the server, without a network.

use super::*;
use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use h2::client;
use http::StatusCode;
use http_body_util::BodyExt as _;
use std::sync::Arc;
use tokio::io::DuplexStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

type Served = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// A served connection: its client's end, and what becomes of it.
fn serve_router(router: Router) -> (DuplexStream, JoinHandle<Served>, CancellationToken) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let stop = CancellationToken::new();
    let served = tokio::spawn(serve(near, router, stop.clone()));
    (far, served, stop)
}

/// A client that takes what it is sent, and its way to the server.
async fn connect(far: DuplexStream) -> client::SendRequest<Bytes> {
    let (sender, connection) = client::handshake(far).await.expect("a handshake");
    tokio::spawn(connection);
    sender.ready().await.expect("room for a request")
}

fn request(method: &str, path: &str) -> Request<()> {
    let uri = format!("http://example.com{path}");
    Request::builder().method(method).uri(uri).body(()).expect("a request")
}

async fn read(mut body: RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut got = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        got.extend_from_slice(&piece);
    }
    Ok(got)
}

fn pieces(pieces: &[Result<&'static str, &'static str>]) -> Body {
    let pieces: Vec<_> = pieces.iter().map(|piece| piece.map_err(io::Error::other)).collect();
    Body::from_stream(futures_util::stream::iter(pieces))
}

#[tokio::test]
async fn interim_responses_come_before_the_final_one_in_their_order() {
    async fn hint(request: Request<Body>) -> &'static str {
        let interim = request.extensions().get::<Interim>().expect("a way").clone();
        for link in ["</a>", "</b>"] {
            let headers = HeaderMap::from_iter([(http::header::LINK, link.parse().unwrap())]);
            interim.send(StatusCode::EARLY_HINTS, &headers);
            // One is on its way before the answer, the other comes with it.
            tokio::task::yield_now().await;
        }
        interim.sent().await;
        "done"
    }
    let (far, ..) = serve_router(Router::new().route("/", get(hint)));
    let mut sender = connect(far).await;
    let (mut answer, _) = sender.send_request(request("GET", "/"), true).expect("it is taken");
    let mut links = Vec::new();
    // The final one ends the interim ones.
    while let Some(hint) = std::future::poll_fn(|context| answer.poll_informational(context)).await
    {
        let hint = hint.expect("a hint");
        assert_eq!(hint.status(), StatusCode::EARLY_HINTS);
        links.push(hint.headers()["link"].clone());
    }
    let answer = answer.await.expect("an answer");
    assert_eq!(links, ["</a>", "</b>"]);
    assert_eq!(
        (answer.status(), &answer.headers()["content-length"]),
        (StatusCode::OK, &"4".parse().unwrap())
    );
    assert!(answer.headers().contains_key("date"));
    assert_eq!(read(answer.into_body()).await.expect("a body"), b"done");
}

#[tokio::test]
async fn an_upload_arrives_whole_and_one_that_breaks_off_does_not_look_whole() {
    async fn count(State(broken): State<Arc<Notify>>, body: Body) -> String {
        match body.collect().await {
            Ok(whole) => whole.to_bytes().len().to_string(),
            Err(_) => {
                broken.notify_one();
                "broken".to_owned()
            }
        }
    }
    let broken = Arc::new(Notify::new());
    let router = Router::new().route("/", post(count)).with_state(Arc::clone(&broken));
    let (far, ..) = serve_router(router);
    let mut sender = connect(far).await;
    // More than the window has room for.
    let (answer, mut upload) = sender.send_request(request("POST", "/"), false).expect("taken");
    upload.send_data(Bytes::from(vec![7; 5 << 20]), true).expect("it is taken");
    let answer = answer.await.expect("an answer");
    assert_eq!(read(answer.into_body()).await.expect("a body"), b"5242880");

    let (_answer, mut upload) = sender.send_request(request("POST", "/"), false).expect("taken");
    upload.send_data(Bytes::from_static(b"half"), false).expect("it is taken");
    sleep(Duration::from_millis(50)).await;
    upload.send_reset(Reason::CANCEL);
    // The service may be dropped instead, which tells it as much.
    let _ = timeout(Duration::from_millis(200), broken.notified()).await;
    let (answer, _) = sender.send_request(request("POST", "/"), true).expect("taken");
    let answer = answer.await.expect("the connection goes on");
    assert_eq!(read(answer.into_body()).await.expect("a body"), b"0");
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    let router = Router::new()
        .route("/broken", get(async || pieces(&[Ok("half"), Err("no more")])))
        .route("/whole", get(async || pieces(&[Ok("one "), Ok(""), Ok("two")])))
        .route("/head", get(async || pieces(&[Ok("text")])));
    let (far, ..) = serve_router(router);
    let mut sender = connect(far).await;
    let (answer, _) = sender.send_request(request("GET", "/broken"), true).expect("taken");
    // A head that waits to be written is taken back.
    let error = match answer.await {
        Ok(answer) => read(answer.into_body()).await.expect_err("broken off"),
        Err(error) => error,
    };
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    let (answer, _) = sender.send_request(request("GET", "/whole"), true).expect("taken");
    let whole = read(answer.await.expect("a head").into_body()).await;
    assert_eq!(whole.expect("all of it"), b"one two");
    let (answer, _) = sender.send_request(request("HEAD", "/head"), true).expect("taken");
    assert!(answer.await.expect("a head").body().is_end_stream());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_of_an_answer_loses_it() {
    let large = || async { Bytes::from(vec![1; 1 << 20]) };
    let router = Router::new().route("/", get(large)).route("/small", get(async || "small"));
    let (far, ..) = serve_router(router);
    let mut builder = client::Builder::new();
    let (sender, connection) =
        builder.initial_window_size(10).handshake::<_, Bytes>(far).await.expect("a handshake");
    tokio::spawn(connection);
    let mut sender = sender.ready().await.expect("room");
    let (answer, _) = sender.send_request(request("GET", "/"), true).expect("taken");
    let mut body = answer.await.expect("a head").into_body();
    assert_eq!(body.data().await.expect("a piece").expect("no error").len(), 10);
    let asked = tokio::time::Instant::now();
    let error = body.data().await.expect("an end").expect_err("it is reset");
    assert_eq!(error.reason(), Some(Reason::CANCEL));
    assert!(asked.elapsed() >= WRITE_WAIT - Duration::from_secs(1), "{:?}", asked.elapsed());
    let (answer, _) = sender.send_request(request("GET", "/small"), true).expect("taken");
    assert_eq!(answer.await.expect("the connection goes on").status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_no_ping_is_left() {
    let (far, served, _) = serve_router(Router::new());
    let (_sender, connection) = client::handshake::<_>(far).await.expect("a handshake");
    let begun = tokio::time::Instant::now();
    let error = served.await.expect("no panic").expect_err("it is given up");
    assert_eq!(error.to_string(), "it answers no ping");
    assert_eq!(begun.elapsed(), HEADER_WAIT + PONG_WAIT);
    drop::<client::Connection<DuplexStream, Bytes>>(connection);
}

#[tokio::test]
async fn requests_in_flight_end_and_no_other_begins_once_it_is_to_stop() {
    async fn wait(State(go): State<Arc<Notify>>) -> &'static str {
        go.notified().await;
        "late"
    }
    let go = Arc::new(Notify::new());
    let (far, served, stop) =
        serve_router(Router::new().route("/", get(wait)).with_state(Arc::clone(&go)));
    let mut sender = connect(far).await;
    let (answer, _) = sender.send_request(request("GET", "/"), true).expect("taken");
    sleep(Duration::from_millis(50)).await;
    stop.cancel();
    sleep(Duration::from_millis(50)).await;
    go.notify_one();
    assert_eq!(read(answer.await.expect("a head").into_body()).await.expect("a body"), b"late");
    served.await.expect("no panic").expect("a good end");
    assert!(sender.send_request(request("GET", "/"), true).is_err());
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let echo = |body: Body| async { body };
    let (far, ..) = serve_router(Router::new().route("/", post(echo)));
    let sender = connect(far).await;
    let requests = (0..1_000_u32).map(|number| {
        let mut sender = sender.clone();
        tokio::spawn(async move {
            // As many at once as the server allows.
            std::future::poll_fn(|context| sender.poll_ready(context)).await.expect("room");
            let (answer, mut upload) =
                sender.send_request(request("POST", "/"), false).expect("taken");
            let text = number.to_string().repeat(1_000);
            upload.send_data(Bytes::from(text.clone()), true).expect("taken");
            let got = read(answer.await.expect("a head").into_body()).await.expect("a body");
            assert!(got == text.as_bytes(), "{number}: {} bytes", got.len());
        })
    });
    for request in requests.collect::<Vec<_>>() {
        request.await.expect("no panic");
    }
}
