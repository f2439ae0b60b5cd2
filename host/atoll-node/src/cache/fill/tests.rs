//! Bodies that come while they are read.

use super::*;
use atoll_core::http_cache::freshness::{Lifetime, Source};

fn fill(length: Option<u64>) -> Arc<Fill> {
    Fill::new(Head {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        meta: Meta {
            responded_ms: 0,
            initial_age_ms: 0,
            lifetime: Lifetime { lifetime_ms: 0, source: Source::Nothing },
            always_validate: false,
            never_stale: false,
            stale_if_disconnected: false,
            while_revalidate_ms: 0,
            if_error_ms: 0,
            has_validator: false,
        },
        exchanged: Exchanged { requested_ms: 0, responded_ms: 0 },
        span: None,
        length,
        vary: Vary::Fields(Box::default()),
        selecting: Vec::new(),
        keys: Box::default(),
        fetched_us: 0,
        is_shielded: false,
    })
}

async fn text(body: Body) -> Result<String, axum::Error> {
    let bytes = axum::body::to_bytes(body, 1 << 20).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test]
async fn readers_get_the_same_body_whenever_they_come() {
    let fill = fill(Some(10));
    let early = fill.reader().expect("it has just begun").into_body(None);
    fill.push(&Bytes::from_static(b"01234"));
    let late = fill.reader().expect("all is kept").into_body(None);
    let part = fill.reader().expect("all is kept").into_body(Some((3, 6)));
    fill.push(&Bytes::from_static(b"56789"));
    assert_eq!(fill.complete().concat(), b"0123456789");
    assert_eq!(text(early).await.expect("whole"), "0123456789");
    assert_eq!(text(late).await.expect("whole"), "0123456789");
    assert_eq!(text(part).await.expect("a part"), "3456");
}

#[tokio::test]
async fn readers_of_a_body_that_breaks_off_are_told() {
    let fill = fill(None);
    let body = fill.reader().expect("it has just begun").into_body(None);
    fill.push(&Bytes::from_static(b"01234"));
    fill.fail();
    assert!(text(body).await.is_err());
}

#[tokio::test]
async fn what_is_not_stored_waits_for_its_slowest_reader_and_ends_without_any() {
    let fill = fill(None);
    let mut reader = fill.reader().expect("it has just begun");
    let piece = Bytes::from(vec![7; WINDOW_BYTES]);
    fill.push(&piece);
    fill.push(&piece);
    fill.give_up_storing();
    let waits = tokio::time::timeout(std::time::Duration::from_millis(20), fill.has_room()).await;
    assert!(waits.is_err(), "nothing was taken yet");
    assert_eq!(reader.next().await.expect("a piece").expect("whole").len(), WINDOW_BYTES);
    assert!(fill.has_room().await);
    assert!(fill.reader().is_none(), "the beginning is gone");
    drop(reader);
    assert!(!fill.has_room().await);
}
