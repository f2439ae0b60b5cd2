//! Bodies as streams: passed on, changed on the way, in pieces, with trailers.

use wasip3::clocks::monotonic_clock;
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Trailers};
use wasip3::wit_bindgen::rt::async_support::{FutureWriter, StreamResult, StreamWriter};
use wasip3::wit_bindgen::spawn_local;
use wasip3::{wit_future, wit_stream};

/// What is written when a body has ended.
pub(crate) type End = FutureWriter<Result<Option<Trailers>, ErrorCode>>;

const PIECE_BYTES: usize = 65_536;

/// An answer whose body is still to be written.
pub(crate) fn begin(fields: &[(&str, &str)]) -> (Response, StreamWriter<u8>, End) {
    let headers = Fields::new();
    for (name, value) in fields {
        headers.append(name, value.as_bytes()).expect("a field of HTTP");
    }
    let (to, from) = wit_stream::new();
    let (end, ended) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(headers, Some(from), ended);
    (response, to, end)
}

/// An answer without a body.
pub(crate) fn empty(status: u16) -> Response {
    let (end, ended) = wit_future::new(|| Ok(None));
    drop(end);
    let (response, _sent) = Response::new(Fields::new(), None, ended);
    response.set_status_code(status).expect("a status");
    response
}

pub(crate) async fn read_whole(request: Request) -> String {
    let (done, result) = wit_future::new(|| Ok(()));
    drop(done);
    let (body, _trailers) = Request::consume_body(request, result);
    String::from_utf8_lossy(&body.collect().await).into_owned()
}

/// The request's body and trailers as the answer's, without a look at them.
pub(crate) fn pass(request: Request) -> Response {
    let (done, result) = wit_future::new(|| Ok(()));
    drop(done);
    let (body, trailers) = Request::consume_body(request, result);
    let headers = Fields::new();
    headers.append("trailer", b"x-sum").expect("a field of HTTP");
    let (response, _sent) = Response::new(headers, Some(body), trailers);
    response
}

/// The request's body in capitals, piece by piece.
pub(crate) fn upper(request: Request) -> Response {
    let (done, result) = wit_future::new(|| Ok(()));
    drop(done);
    let (mut body, _trailers) = Request::consume_body(request, result);
    let (response, mut to, end) = begin(&[]);
    spawn_local(async move {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        loop {
            let status;
            (status, piece) = body.read(piece).await;
            piece.make_ascii_uppercase();
            piece = to.write_all(piece).await;
            if !matches!(status, StreamResult::Complete(_)) || !piece.is_empty() {
                break;
            }
            piece.reserve(PIECE_BYTES);
        }
        drop(to);
        drop(end.write(Ok(None)).await);
    });
    response
}

/// Five pieces, 100 ms apart.
pub(crate) fn slow_pieces() -> Response {
    let (response, mut to, end) = begin(&[]);
    spawn_local(async move {
        for number in 0..5 {
            if number > 0 {
                monotonic_clock::wait_for(100_000_000).await;
            }
            to.write_all(format!("piece {number}\n").into_bytes()).await;
        }
        drop(to);
        drop(end.write(Ok(None)).await);
    });
    response
}

pub(crate) fn with_trailers() -> Response {
    let (response, mut to, end) = begin(&[("trailer", "x-sum")]);
    spawn_local(async move {
        to.write_all(b"a body\n".to_vec()).await;
        drop(to);
        let trailers = Fields::new();
        trailers.append("x-sum", b"42").expect("a field of HTTP");
        drop(end.write(Ok(Some(trailers))).await);
    });
    response
}
