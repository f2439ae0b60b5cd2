//! Replies keep their order, their size within bounds, and their large values uncopied.

use super::{Conversation, request, written};
use crate::limits::REPLY_BYTES_MAX;
use crate::resp::output::{Elements, Output, Progress, Protocol};
use bytes::Bytes;
use std::io::IoSlice;

fn mixed() -> (Output, Vec<u8>) {
    let mut output = Output::default();
    output.begin(Protocol::Resp3);
    let large = Bytes::from(vec![b'y'; 1_000]);
    output.bulk_shared(&large);
    output.bulk(b"small");
    output.bulk_shared(&large);
    output.bulk_shared(&Bytes::new());
    output.integer(-7);
    let large = String::from_utf8(large.to_vec()).unwrap();
    let want = format!("$1000\r\n{large}\r\n$5\r\nsmall\r\n$1000\r\n{large}\r\n$0\r\n\r\n:-7\r\n");
    (output, want.into_bytes())
}

#[test]
fn shared_values_go_out_in_their_places_however_little_is_written_at_once() {
    let (output, want) = mixed();
    assert_eq!(output.len(), want.len());
    for step in [1, 2, 9, 999, 1_001, 5_000] {
        let (mut bytes, mut progress) = (Vec::new(), Progress::default());
        while !output.is_written(progress) {
            let mut slices = [IoSlice::new(&[]); 3];
            let count = output.slices(progress, &mut slices);
            let joined: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
            let len = step.min(joined.len());
            assert!(len > 0, "something is left to write");
            bytes.extend_from_slice(&joined[..len]);
            progress = output.after(progress, len);
        }
        assert!(bytes == want, "steps of {step}");
    }
}

#[test]
fn what_is_taken_back_is_not_written() {
    let (mut output, want) = mixed();
    let mark = output.begin(Protocol::Resp2);
    output.bulk_shared(&Bytes::from_static(b"gone"));
    output.error("gone too");
    output.truncate(mark);
    assert_eq!(output.len(), want.len());
    assert_eq!(written(&output), want);
}

#[test]
fn an_error_is_one_line() {
    let mut output = Output::default();
    output.error("ERR a\r\nb\nc");
    assert_eq!(written(&output), b"-ERR a  b c\r\n");
}

#[test]
fn a_reply_over_the_limit_becomes_an_error() {
    let mut conversation = Conversation::new();
    conversation.send(&request(&[b"SET", b"k", &[b'x'; 16_000]]));
    let keys = vec![&b"k"[..]; REPLY_BYTES_MAX / 16_000 + 2];
    let command: Vec<&[u8]> = [&b"MGET"[..]].into_iter().chain(keys).collect();
    let (reply, _) = conversation.send(&request(&command));
    let want = "-ERR reply exceeds the maximum size; ask for less at a time\r\n";
    assert_eq!(String::from_utf8_lossy(&reply[..reply.len().min(200)]), want);
    conversation.check("PING", "+PONG");

    let mut elements = Elements::default();
    let chunk = vec![b'x'; 1 << 20];
    while !elements.has_overflowed() {
        elements.push(&chunk);
    }
    let mut output = Output::default();
    output.begin(Protocol::Resp2);
    output.array_of(elements);
    assert!(output.has_overflowed());
    assert!(output.is_empty());
}

#[test]
fn what_was_collected_for_a_reply_is_its_memory_and_a_shared_value_is_not() {
    let (mut output, mut elements) = (Output::default(), Elements::default());
    let mark = output.begin(Protocol::Resp2);
    let idle_bytes = 1_024;
    output.bulk_shared(&Bytes::from(vec![b'v'; 100_000]));
    assert!(output.allocated_bytes() < idle_bytes);
    elements.push(&[b'k'; 100_000]);
    output.array_of(elements);
    assert!(output.allocated_bytes() > 100_000);
    output.truncate(mark);
    assert!(output.allocated_bytes() < idle_bytes);
    let mut elements = Elements::default();
    elements.push(&[b'k'; 100_000]);
    output.array_of(elements);
    output.clear();
    assert!(output.allocated_bytes() < idle_bytes);
}
