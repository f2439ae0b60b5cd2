//! What is packed is unpacked, and what a peer may do to that.

use super::*;
use crate::peers::limits::MESSAGE_BYTES_MAX;
use proptest::prelude::*;
use tokio_util::codec::{Decoder as _, LengthDelimitedCodec};

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(MESSAGE_BYTES_MAX).new_codec()
}

/// The messages that frames are packed into, as a connection carries them.
fn packed(frames: &[Frame], squeeze: Squeeze) -> Vec<BytesMut> {
    let mut packer = Packer::new();
    let mut bytes = BytesMut::new();
    for frame in frames {
        packer.pack(frame, squeeze);
        while packer.has_rest() {
            packer.go_on(squeeze);
        }
        bytes.extend_from_slice(packer.bytes());
        packer.clear();
    }
    let mut codec = codec();
    let mut messages = Vec::new();
    while let Some(message) = codec.decode(&mut bytes).expect("no message is too long") {
        messages.push(message);
    }
    assert!(bytes.is_empty(), "nothing is left over");
    messages
}

fn unpacked(messages: Vec<BytesMut>, storage: Storage) -> Vec<Frame> {
    let mut unpacker = Unpacker::new(storage);
    let bytes = messages.into_iter().filter_map(|message| unpacker.unpack(message).expect("good"));
    bytes.map(|bytes| Frame::decode(&bytes).expect("a frame")).collect()
}

fn chunk(len: usize) -> Frame {
    // Compresses to about a half.
    Frame::Chunk((0..len as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 28) as u8).collect())
}

#[track_caller]
fn check(lens: &[usize], squeeze: Squeeze) -> usize {
    let mut frames: Vec<Frame> = lens.iter().map(|len| chunk(*len)).collect();
    frames.insert(lens.len() / 2, Frame::NeedSync);
    let messages = packed(&frames, squeeze);
    for storage in [Storage::Shared, Storage::Apart] {
        assert!(unpacked(messages.clone(), storage) == frames, "{lens:?} {squeeze:?} {storage:?}");
    }
    messages.iter().map(|message| message.len() + LENGTH_BYTES).sum()
}

#[test]
fn frames_of_any_size_come_out_as_they_went_in() {
    let lens = [0, 1, 1_023, 1_024, 65_536, WHOLE_BYTES_MAX - 1, WHOLE_BYTES_MAX];
    let larger = [WHOLE_BYTES_MAX + 1, 4 * FRAGMENT_BYTES, (5 << 20) + 7];
    let plain = check(&lens, Squeeze::No) + check(&larger, Squeeze::No);
    let squeezed = check(&lens, Squeeze::Yes) + check(&larger, Squeeze::Yes);
    assert!(squeezed < plain * 2 / 3, "{squeezed} of {plain} bytes");
}

#[test]
fn what_does_not_become_smaller_goes_as_it_is() {
    let noise: Bytes = (0..50_000u64)
        .map(|n| (xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes()) >> 13) as u8)
        .collect();
    let frames = [Frame::Chunk(noise)];
    assert_eq!(packed(&frames, Squeeze::Yes), packed(&frames, Squeeze::No));
}

#[test]
fn a_large_frame_lets_others_pass_on_the_wire_only_after_itself() {
    let mut packer = Packer::new();
    packer.pack(&chunk(1 << 20), Squeeze::No);
    assert!(packer.bytes().is_empty() && packer.has_rest(), "it is cut up as it is written");
    let mut pieces = 0;
    while packer.has_rest() {
        packer.go_on(Squeeze::No);
        pieces += 1;
    }
    assert_eq!(pieces, (1 << 20) / FRAGMENT_BYTES + 1);
}

#[track_caller]
fn check_refused(messages: &[&[u8]], want: &PackingError) {
    let mut unpacker = Unpacker::new(Storage::Apart);
    let (last, before) = messages.split_last().expect("a message");
    for message in before {
        assert_eq!(unpacker.unpack(BytesMut::from(*message)), Ok(None));
    }
    assert_eq!(unpacker.unpack(BytesMut::from(*last)).as_ref(), Err(want));
}

fn fragment(total: u32, offset: u32, len: usize) -> Vec<u8> {
    [&[FRAGMENT][..], &total.to_be_bytes(), &offset.to_be_bytes(), &vec![7; len]].concat()
}

fn compressed(announced: u32, content: &[u8]) -> Vec<u8> {
    let content = zstd::bulk::compress(content, ZSTD_LEVEL).expect("it compresses");
    [&[COMPRESSED][..], &announced.to_be_bytes(), &content].concat()
}

#[test]
fn fragments_that_do_not_fit_are_refused() {
    let fault = |what| PackingError::Fragment(what);
    let length = fault("its frame has a length that needs none, or may not be");
    check_refused(&[&fragment(WHOLE_BYTES_MAX as u32, 0, 10)], &length);
    check_refused(&[&fragment(FRAME_BYTES_MAX as u32 + 1, 0, 10)], &length);
    check_refused(&[&fragment(u32::MAX, 0, 10)], &length);
    let end = fault("it is empty, or goes past the end of its frame");
    check_refused(&[&fragment(1 << 20, 0, 0)], &end);
    check_refused(&[&fragment(1 << 20, (1 << 20) - 5, 6)], &end);
    check_refused(&[&fragment(1 << 20, u32::MAX, 6)], &end);
    let next = fault("it is not the next one");
    check_refused(&[&fragment(1 << 20, 10, 10)], &next);
    let first = fragment(1 << 20, 0, 10);
    check_refused(&[&first, &first], &next);
    check_refused(&[&first, &fragment(1 << 20, 11, 10)], &next);
    check_refused(&[&first, &fragment(1 << 21, 10, 10)], &next);
    check_refused(&[&[FRAGMENT, 0, 0]], &PackingError::Short);
}

#[test]
fn a_compressed_message_cannot_grow_past_its_bound() {
    let bomb = vec![0; 64 << 20];
    check_refused(&[&compressed(64 << 20, &bomb)], &PackingError::Compression);
    check_refused(&[&compressed(1_000, &bomb)], &PackingError::Compression);
    check_refused(&[&compressed(1_000, &bomb[..999])], &PackingError::Compression);
    check_refused(&[&compressed(0, &[])], &PackingError::Compression);
    check_refused(&[&[COMPRESSED, 0, 0, 4, 0, 1, 2, 3]], &PackingError::Compression);
    check_refused(&[&[COMPRESSED, 0]], &PackingError::Short);
    let inner = compressed(1_000, &bomb[..1_000]);
    let twice = compressed(inner.len() as u32, &inner);
    check_refused(&[&twice], &PackingError::Compression);
}

#[test]
fn memory_for_a_large_frame_is_taken_as_it_comes() {
    let mut unpacker = Unpacker::new(Storage::Apart);
    let first = fragment(FRAME_BYTES_MAX as u32, 0, 10);
    assert_eq!(unpacker.unpack(BytesMut::from(&first[..])), Ok(None));
    let capacity = unpacker.assembly.as_ref().map(|(bytes, _)| bytes.capacity());
    assert!(capacity.is_some_and(|capacity| capacity <= 2 * ASSEMBLY_BYTES_START));
}

#[test]
fn an_idle_packer_keeps_little() {
    let mut packer = Packer::new();
    packer.pack(&chunk(WHOLE_BYTES_MAX), Squeeze::Yes);
    packer.clear();
    packer.rest();
    assert!(packer.out.capacity() <= IDLE_BUFFER_BYTES_MAX && packer.scratch.capacity() == 0);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(messages in prop::collection::vec(
        (prop::sample::select(vec![COMPRESSED, FRAGMENT, 1, 0]), prop::collection::vec(any::<u8>(), 0..40)),
        0..10,
    )) {
        let mut unpacker = Unpacker::new(Storage::Shared);
        for (first, rest) in messages {
            let message = [&[first][..], &rest].concat();
            if let Ok(Some(bytes)) = unpacker.unpack(BytesMut::from(&message[..])) {
                let _ = Frame::decode(&bytes);
            }
        }
    }
}
