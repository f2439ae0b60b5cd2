//! Who gets to know whom, and who does not.

use super::*;
use crate::peers::introduction::{Purpose, nonce};
use atoll_core::wire::frame::{VERSIONS, Versions};
use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
use uuid::Uuid;

const SESSION: [u8; SESSION_BYTES] = [1; SESSION_BYTES];

fn introduction(name: &str) -> Introduction {
    Introduction {
        versions: VERSIONS,
        cluster: "atoll".to_owned(),
        name: name.to_owned(),
        origin: Uuid::now_v7(),
        nonce: nonce().expect("there are dice"),
        purpose: Purpose::Link,
        reads_zstd: true,
    }
}

fn key(text: &str) -> Option<ClusterKey> {
    (!text.is_empty()).then(|| ClusterKey::new(text.parse().expect("any text is a secret")))
}

/// One end of a conversation.
struct End {
    ours: Introduction,
    key: Option<ClusterKey>,
    session: Option<[u8; SESSION_BYTES]>,
}

impl End {
    fn new(name: &str, text: &str) -> End {
        End { ours: introduction(name), key: key(text), session: Some(SESSION) }
    }

    async fn meet(&self, side: Side, stream: DuplexStream) -> Result<Introduction, HandshakeError> {
        let mut messages = messages(stream);
        let judge = |_: &Introduction| Ok(());
        let key = self.key.as_ref();
        let proving = Proving { side, key, session: self.session, judge: &judge };
        prove(&mut messages, &self.ours, proving).await
    }
}

async fn meet(dialler: &End, accepter: &End) -> [Result<Introduction, HandshakeError>; 2] {
    let (near, far) = duplex(10_000);
    let (one, two) =
        tokio::join!(dialler.meet(Side::Dialler, near), accepter.meet(Side::Accepter, far));
    [one, two]
}

#[track_caller]
fn check_refused(results: [Result<Introduction, HandshakeError>; 2], want: &str) {
    let texts = results.map(|result| result.expect_err("they must not meet").to_string());
    assert!(texts.iter().any(|text| text.contains(want)), "{texts:?} should contain {want:?}");
}

/// What both ends are told, where each is.
#[track_caller]
fn check_both_told(results: [Result<Introduction, HandshakeError>; 2], want: &str) {
    for result in results {
        let text = result.expect_err("they must not meet").to_string();
        assert!(text.contains(want), "{text:?} should contain {want:?}");
    }
}

#[tokio::test]
async fn those_with_one_key_meet() {
    for text in ["secret", ""] {
        let (one, two) = (End::new("one", text), End::new("two", text));
        let [met, met_back] = meet(&one, &two).await;
        assert_eq!(met.expect("they meet"), two.ours);
        assert_eq!(met_back.expect("they meet"), one.ours);
    }
}

#[tokio::test]
async fn those_with_different_keys_do_not_and_are_told() {
    let end = |text: &'static str| End::new(if text.is_empty() { "without" } else { text }, text);
    check_both_told(meet(&end("one"), &end("two")).await, "different cluster keys");
    check_both_told(meet(&end("one"), &end("")).await, "one node has a cluster key");
    check_both_told(meet(&end(""), &end("two")).await, "no proof of the cluster's key");
}

#[tokio::test]
async fn those_of_different_clusters_or_ages_do_not_and_are_told() {
    let mut other = End::new("two", "secret");
    other.ours.cluster = "other".to_owned();
    check_both_told(meet(&End::new("one", "secret"), &other).await, "--cluster says which");
    let mut later = End::new("two", "secret");
    later.ours.versions = Versions { oldest: VERSIONS.newest + 1, newest: VERSIONS.newest + 1 };
    check_both_told(meet(&later, &End::new("one", "secret")).await, "upgrade the older one");
}

#[tokio::test]
async fn somebody_in_between_is_found_out() {
    // It has a TLS session with each and passes on what they say.
    let (one, mut two) = (End::new("one", "secret"), End::new("two", "secret"));
    two.session = Some([2; SESSION_BYTES]);
    check_refused(meet(&one, &two).await, "different cluster keys");
    two.session = None;
    check_refused(meet(&one, &two).await, "different cluster keys");
}

#[tokio::test]
async fn a_certificate_is_held_against_what_is_said() {
    let (near, far) = duplex(10_000);
    let (one, two) = (End::new("one", ""), End::new("two", ""));
    let judged = async {
        let mut messages = messages(far);
        let judge = |theirs: &Introduction| Err(format!("no certificate of {}", theirs.name));
        let side = Side::Accepter;
        let proving = Proving { side, key: None, session: None, judge: &judge };
        prove(&mut messages, &two.ours, proving).await
    };
    let (dialled, accepted) = tokio::join!(one.meet(Side::Dialler, near), judged);
    check_both_told([dialled, accepted], "no certificate of one");
}

/// The bytes of a message.
fn message(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = (content.len() + 1) as u32;
    [&len.to_be_bytes()[..], &[tag], content].concat()
}

async fn read_message(stream: &mut DuplexStream) -> Vec<u8> {
    let len = stream.read_u32().await.expect("a length");
    let mut bytes = vec![0; len as usize];
    stream.read_exact(&mut bytes).await.expect("a message");
    bytes
}

#[tokio::test]
async fn a_proof_that_is_thrown_back_proves_nothing() {
    let (near, mut far) = duplex(10_000);
    let thief = async {
        read_message(&mut far).await;
        let mut content = Vec::new();
        introduction("thief").encode(&mut content);
        far.write_all(&message(INTRODUCTION, &content)).await.expect("it listens");
        let proof = read_message(&mut far).await;
        far.write_all(&message(PROOF, &proof[1..])).await.expect("it listens");
        read_message(&mut far).await
    };
    let honest = End::new("one", "secret");
    let (met, last) = tokio::join!(honest.meet(Side::Dialler, near), thief);
    assert!(matches!(met, Err(HandshakeError::Refused(_))), "{met:?}");
    assert_eq!(
        Frame::decode(&Bytes::from(last)).ok().map(|frame| frame.lane()),
        Some(atoll_core::wire::frame::Lane::Live)
    );
}

#[tokio::test]
async fn what_was_overheard_serves_nobody_a_second_time() {
    let (one, two) = (End::new("one", "secret"), End::new("two", "secret"));
    // Somebody copies all that the dialler says.
    let (near, mut middle) = duplex(10_000);
    let (mut middle_far, far) = duplex(10_000);
    let copy = async {
        let introduction = read_message(&mut middle).await;
        middle_far.write_all(&message(introduction[0], &introduction[1..])).await.expect("open");
        let back = read_message(&mut middle_far).await;
        middle.write_all(&message(back[0], &back[1..])).await.expect("open");
        let proof = read_message(&mut middle).await;
        middle_far.write_all(&message(proof[0], &proof[1..])).await.expect("open");
        let back = read_message(&mut middle_far).await;
        middle.write_all(&message(back[0], &back[1..])).await.expect("open");
        [introduction, proof]
    };
    let (met, met_back, copied) =
        tokio::join!(one.meet(Side::Dialler, near), two.meet(Side::Accepter, far), copy);
    assert!(met.is_ok() && met_back.is_ok());
    // And says it again, to the same node in a new conversation.
    let again = End { ours: introduction("two"), ..two };
    let (mut near, far) = duplex(10_000);
    let replay = async {
        for said in &copied {
            near.write_all(&message(said[0], &said[1..])).await.expect("it listens");
        }
        read_message(&mut near).await;
        read_message(&mut near).await
    };
    let (met, _) = tokio::join!(again.meet(Side::Accepter, far), replay);
    assert!(matches!(met, Err(HandshakeError::Refused(_))), "{met:?}");
}

/// What an accepter makes of a stranger's bytes.
async fn answer(sent: &[u8]) -> String {
    let (mut near, far) = duplex(100_000);
    near.write_all(sent).await.expect("there is room");
    near.shutdown().await.expect("it is open");
    let end = End::new("one", "secret");
    let met = end.meet(Side::Accepter, far).await;
    met.expect_err("a stranger").to_string()
}

#[tokio::test]
async fn a_stranger_is_bounded_and_told_apart() {
    assert!(answer(b"").await.contains("lost"));
    assert!(answer(&u32::MAX.to_be_bytes()).await.contains("frame size too big"));
    let long = message(INTRODUCTION, &[0; STRANGER_BYTES_MAX]);
    assert!(answer(&long).await.contains("frame size too big"));
    assert!(answer(&message(INTRODUCTION, b"\xc0")).await.contains("not an introduction"));
    assert!(answer(&message(PROOF, &[0; 32])).await.contains("out of turn"));
    assert!(answer(&message(HELLO, b"")).await.contains("out of turn"));
    let mut bye = Vec::new();
    Frame::Bye(Farewell::Refused("go\naway".to_owned())).encode(&mut bye);
    assert!(answer(&message(bye[0], &bye[1..])).await.contains("go away"));
    let mut unnamed = Vec::new();
    Introduction { name: String::new(), ..introduction("x") }.encode(&mut unnamed);
    assert!(answer(&message(INTRODUCTION, &unnamed)).await.contains("a name that is none"));
}

#[tokio::test]
async fn a_later_version_may_say_more() {
    let ours = introduction("one");
    let mut bytes = Vec::new();
    ours.encode(&mut bytes);
    // One more entry in the map.
    assert_eq!(bytes[0], 0x87, "a map of seven");
    bytes[0] = 0x88;
    bytes.extend_from_slice(&[0xa3, b'n', b'e', b'w', 0x01]);
    assert_eq!(Introduction::decode(&bytes), Ok(ours));
}
