//! Bodies that are slow, endless, cut short, or too many.

use super::*;
use futures_util::{StreamExt as _, stream};
use http::HeaderValue;
use std::io;
use tokio::time::sleep;

fn length(bytes: usize) -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_LENGTH, HeaderValue::from(bytes))])
}

/// A body of so many pieces, each after a pause.
fn slow(pieces: usize, piece: &'static [u8], pause: Duration) -> Body {
    let pieces = stream::iter(0..pieces).then(move |_| async move {
        sleep(pause).await;
        Ok::<_, io::Error>(Bytes::from_static(piece))
    });
    Body::from_stream(pieces)
}

#[track_caller]
fn check_refused(got: Result<Gathered, Problem>, want: u16) {
    assert_eq!(got.map(|got| got.bytes.len()).map_err(|p| p.status().as_u16()), Err(want));
}

#[tokio::test]
async fn a_body_is_gathered_without_spare_room() {
    let uploads = Uploads::new(1 << 30);
    for (headers, size) in [(length(300_000), 300_000), (HeaderMap::new(), 300_000)] {
        let pieces = (0..size / 1_000).map(|_| Ok::<_, io::Error>(Bytes::from(vec![7; 1_000])));
        let body = Body::from_stream(stream::iter(pieces));
        let got = uploads.gather(&headers, body, 1 << 20).await.expect("should be gathered");
        assert_eq!(got.bytes, vec![7; size]);
        let buffer = Vec::from(got.bytes);
        assert_eq!(buffer.capacity(), size);
    }
}

#[tokio::test]
async fn a_body_that_is_cut_short_is_no_body() {
    let uploads = Uploads::new(1 << 30);
    let pieces = [Ok(Bytes::from_static(b"ab")), Err(io::Error::other("cut"))];
    let body = Body::from_stream(stream::iter(pieces));
    check_refused(uploads.gather(&length(5), body, 100).await, 400);
}

#[tokio::test]
async fn a_body_is_counted_whatever_it_announced() {
    let uploads = Uploads::new(1 << 30);
    check_refused(uploads.gather(&length(3), Body::from("four"), 100).await, 413);
    check_refused(uploads.gather(&HeaderMap::new(), slow(11, b"x", Duration::ZERO), 10).await, 413);
    let got = uploads.gather(&HeaderMap::new(), slow(10, b"x", Duration::ZERO), 10).await;
    assert_eq!(got.expect("just fits").bytes.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_body_and_one_byte_a_second_are_given_up() {
    let uploads = Uploads::new(1 << 30);
    let started = Instant::now();
    let stalled = slow(1, b"x", Duration::from_secs(3_600));
    check_refused(uploads.gather(&length(100), stalled, 1_000).await, 408);
    assert!(started.elapsed() <= UPLOAD_READ_WAIT + Duration::from_secs(1));
    let started = Instant::now();
    let dripping = slow(100_000, b"x", Duration::from_secs(1));
    check_refused(uploads.gather(&length(100_000), dripping, 1 << 20).await, 408);
    assert!(started.elapsed() <= UPLOAD_GRACE + Duration::from_secs(10));
    let steady = slow(100, &[7; 65_536], Duration::from_millis(900));
    let got = uploads.gather(&length(100 * 65_536), steady, 1 << 24).await;
    assert_eq!(got.expect("fast enough").bytes.len(), 100 * 65_536);
}

#[tokio::test(start_paused = true)]
async fn large_bodies_wait_for_room_and_never_shut_out_small_ones() {
    let uploads = Arc::new(Uploads::new(0));
    let pause = Duration::from_secs(5);
    let largest = UPLOAD_LARGE_BUDGET_BYTES_MIN;
    let holder = tokio::spawn({
        let uploads = Arc::clone(&uploads);
        async move {
            let body = slow(1, b"x", pause);
            uploads.gather(&length(largest), body, largest).await.map(|got| got.bytes)
        }
    });
    tokio::task::yield_now().await;
    let refused = uploads.gather(&length(100_000), slow(1, b"x", pause), largest).await;
    check_refused(refused, 503);
    let small = uploads.gather(&length(5), Body::from("small"), largest).await;
    assert_eq!(small.expect("has a budget of its own").bytes, "small");
    let growing = slow(2, &[7; UPLOAD_SMALL_BYTES_MAX], Duration::ZERO);
    check_refused(uploads.gather(&HeaderMap::new(), growing, largest).await, 503);
    holder.await.expect("no panic").expect("it ends in time");
    let large = uploads.gather(&length(100_000), slow(1, b"x", Duration::ZERO), largest).await;
    assert!(large.is_ok(), "the room is free again");
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_body_waits_for_no_room() {
    let uploads = Uploads::new(0);
    let all = Arc::clone(&uploads.small).try_acquire_many_owned(
        u32::try_from(UPLOAD_SMALL_BUDGET_BYTES / PIECE_BYTES).expect("a small number"),
    );
    let _all = all.expect("nothing is taken");
    check_refused(uploads.gather(&length(1), slow(1, b"x", Duration::ZERO), 10).await, 503);
    let nothing = uploads.gather(&HeaderMap::new(), Body::empty(), 10).await;
    assert_eq!(nothing.expect("needs no room").bytes.len(), 0);
}

#[tokio::test]
async fn a_coding_that_nobody_undoes_is_refused() {
    let uploads = Uploads::new(1 << 30);
    for (coding, want) in [("gzip, chunked", 501), ("gzip", 501), ("identity", 501)] {
        let coding = (header::TRANSFER_ENCODING, HeaderValue::from_static(coding));
        let headers = HeaderMap::from_iter([coding]);
        check_refused(uploads.gather(&headers, Body::from("x"), 100).await, want);
    }
    let chunked = (header::TRANSFER_ENCODING, HeaderValue::from_static("Chunked"));
    let headers = HeaderMap::from_iter([chunked]);
    let got = uploads.gather(&headers, Body::from("x"), 100).await.expect("should be gathered");
    assert_eq!(&got.bytes[..], b"x");
}
