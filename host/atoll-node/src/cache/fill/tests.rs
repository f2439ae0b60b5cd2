//! Bodies that come while they are read.

use super::*;
use atoll_core::http_cache::freshness::{Lifetime, Source};

fn fill(length: Option<u64>) -> Arc<Fill> {
    fill_within(length, &Arc::new(Budget::new(u64::MAX)))
}

fn fill_within(length: Option<u64>, budget: &Arc<Budget>) -> Arc<Fill> {
    let head = Head {
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
        marks: None,
        own_fields: HeaderMap::new(),
    };
    Fill::new(head, budget)
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
    assert_eq!(fill.pieces().concat(), b"0123456789");
    fill.complete();
    assert_eq!(text(early).await.expect("whole"), "0123456789");
    assert_eq!(text(late).await.expect("whole"), "0123456789");
    assert_eq!(text(part).await.expect("a part"), "3456");
}

/// Looks whether a reader gets no more for now.
#[track_caller]
fn check_waits(reader: &mut Reader) {
    assert!(matches!(reader.step(), Step::Wait));
}

#[tokio::test]
async fn the_end_of_a_body_of_known_length_comes_once_it_is_stored_or_will_not_be() {
    let stored = fill(Some(10));
    let mut reader = stored.reader().expect("it has just begun");
    stored.push(&Bytes::from_static(b"01234"));
    stored.push(&Bytes::from_static(b"56789"));
    assert_eq!(reader.next().await.expect("a piece").expect("whole"), "01234");
    check_waits(&mut reader);
    stored.complete();
    assert_eq!(reader.next().await.expect("a piece").expect("whole"), "56789");
    assert!(reader.next().await.is_none());

    let given_up = fill(Some(5));
    let mut reader = given_up.reader().expect("it has just begun");
    given_up.push(&Bytes::from_static(b"01234"));
    check_waits(&mut reader);
    let waiting = tokio::spawn(async move { reader.next().await });
    tokio::task::yield_now().await;
    given_up.give_up_storing();
    let piece = waiting.await.expect("no panic").expect("a piece");
    assert_eq!(piece.expect("whole"), "01234");
}

#[tokio::test]
async fn who_reads_the_file_of_a_body_waits_before_its_last_byte_as_well() {
    let budget = Arc::new(Budget::new(0));
    let fill = fill_within(Some(200_000), &budget);
    let file = Arc::new(tempfile::tempfile().expect("a file"));
    let mut reader = fill.reader().expect("it has just begun");
    fill.begin_spooling(&file);
    let piece = Bytes::from(vec![7; 200_000]);
    fill.push(&piece);
    std::io::Write::write_all(&mut &*file, &piece).expect("room");
    fill.note_spooled(1);
    assert_eq!(budget.taken(), 0, "nothing is kept beside the file");
    assert_eq!(reader.next().await.expect("a piece").expect("whole").len(), 199_999);
    check_waits(&mut reader);
    fill.complete();
    assert_eq!(reader.next().await.expect("a piece").expect("whole").len(), 1);
    assert!(reader.next().await.is_none());
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
    let waits = timeout(std::time::Duration::from_millis(20), fill.has_room()).await;
    assert!(waits.is_err(), "nothing was taken yet");
    assert_eq!(reader.next().await.expect("a piece").expect("whole").len(), WINDOW_BYTES);
    assert!(fill.has_room().await);
    assert!(fill.reader().is_none(), "the beginning is gone");
    drop(reader);
    assert!(!fill.has_room().await);
}

#[tokio::test]
async fn fills_share_a_budget_and_give_back_what_they_let_go_of() {
    let budget = Arc::new(Budget::new(1 << 20));
    let (one, two) = (fill_within(None, &budget), fill_within(None, &budget));
    let piece = Bytes::from(vec![7; 400_000]);
    let mut reader = one.reader().expect("it has just begun");
    one.push(&piece);
    two.push(&piece);
    assert!(!budget.is_over());
    one.push(&piece);
    assert!(budget.is_over());
    // The window of one that is not stored is smaller then.
    one.give_up_storing();
    reader.next().await.expect("a piece").expect("whole");
    let waits = timeout(std::time::Duration::from_millis(20), one.has_room()).await;
    assert!(waits.is_ok() && budget.taken() == 800_000, "within the budget again");
    two.push(&piece);
    let waits = timeout(std::time::Duration::from_millis(20), one.has_room()).await;
    assert!(waits.is_err(), "it keeps more than the small window");
    drop(two);
    assert_eq!(budget.taken(), 400_000);
    drop((one, reader));
    assert_eq!(budget.taken(), 0);
}

#[tokio::test]
async fn who_is_behind_a_body_that_goes_to_a_file_reads_that_and_goes_on_with_the_rest() {
    let budget = Arc::new(Budget::new(u64::MAX));
    let text: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let fill = fill_within(Some(text.len() as u64), &budget);
    let file = Arc::new(tempfile::tempfile().expect("a file"));
    let early = fill.reader().expect("it has just begun").into_body(None);
    fill.begin_spooling(&file);
    for piece in text.chunks(100_000) {
        fill.push(&Bytes::copy_from_slice(piece));
        if fill.unspooled().len() == 4 {
            let pieces = fill.unspooled();
            std::io::Write::write_all(&mut &*file, &pieces.concat()).expect("room");
            fill.note_spooled(pieces.len());
        }
    }
    assert!(budget.taken() <= 1_000_000, "{} are kept", budget.taken());
    let late = fill.reader().expect("the file has it").into_body(None);
    let part = fill.reader().expect("the file has it").into_body(Some((99_999, 2_999_998)));
    fill.complete();
    for (body, want) in [(early, &text[..]), (late, &text[..]), (part, &text[99_999..2_999_999])] {
        let got = axum::body::to_bytes(body, 4 << 20).await.expect("whole");
        assert!(got[..] == *want, "{} bytes instead of {}", got.len(), want.len());
    }
}

/// A reader that came a moment later than so much of the body found nobody who went on with it, and
/// waited for ever.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_not_stored_waits_for_its_first_reader() {
    let body = fill(None);
    body.push(&Bytes::from(vec![7; WINDOW_BYTES + 1]));
    body.give_up_storing();
    let (waiting, coming) = (Arc::clone(&body), Arc::clone(&body));
    let driver = tokio::spawn(async move { waiting.has_room().await });
    tokio::task::yield_now().await;
    let mut reader = coming.reader().expect("all is kept");
    reader.next().await.expect("a piece").expect("whole");
    assert!(driver.await.expect("no panic"));
    drop(reader);
    assert!(!body.has_room().await, "it has gone");
    let nobody = fill(None);
    nobody.push(&Bytes::from(vec![7; WINDOW_BYTES + 1]));
    nobody.give_up_storing();
    assert!(!nobody.has_room().await, "after a while");
}
