//! Requests survive any way in which the network cuts them.

use super::request;
use crate::limits::{REQUEST_ARGUMENT_COUNT_MAX, REQUEST_INLINE_BYTES_MAX, VALUE_BYTES_MAX};
use crate::resp::intake::{Executor, Intake, Next, Room, Taken};
use crate::resp::request::{Arguments, ProtocolError, Trust};
use bytes::BufMut;
use proptest::prelude::*;

/// Collects requests instead of executing them.
struct Collector {
    trust: Trust,
    requests: Vec<Vec<Vec<u8>>>,
    shared_count: usize,
    /// Stops after each request.
    stops: Next,
}

impl Default for Collector {
    fn default() -> Collector {
        let (trust, stops) = (Trust::Client, Next::Continue);
        Collector { trust, requests: Vec::new(), shared_count: 0, stops }
    }
}

impl Executor for Collector {
    fn trust(&self) -> Trust {
        self.trust
    }

    fn execute(&mut self, arguments: Arguments<'_>) -> Next {
        let shared = (0..arguments.len()).filter(|&index| arguments.shared(index).is_some());
        self.shared_count += shared.count();
        self.requests.push(arguments.from(0).map(<[u8]>::to_vec).collect());
        self.stops
    }
}

/// Feeds `pieces` as a socket would: each read gives at most one piece, and no more than fits.
fn feed<'a>(
    intake: &mut Intake,
    collector: &mut Collector,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(), ProtocolError> {
    let mut scratch = vec![0; 64 * 1024];
    for mut piece in pieces {
        while !piece.is_empty() {
            let mut taken = match intake.room() {
                Room::Scratch { offset } => {
                    let len = piece.len().min(scratch.len() - offset);
                    scratch[offset..offset + len].copy_from_slice(&piece[..len]);
                    piece = &piece[len..];
                    intake.take_scratch(&mut scratch[..offset + len], collector)?
                }
                Room::Buffer => {
                    let mut buffer = intake.buffer();
                    let len = piece.len().min(buffer.remaining_mut());
                    buffer.put_slice(&piece[..len]);
                    drop(buffer);
                    piece = &piece[len..];
                    intake.take_buffer(collector)?
                }
            };
            while taken == Taken::Stopped {
                taken = intake.resume(collector)?;
            }
        }
    }
    Ok(())
}

fn parse(bytes: &[u8], piece_len: usize) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
    let (mut intake, mut collector) = (Intake::default(), Collector::default());
    feed(&mut intake, &mut collector, bytes.chunks(piece_len))?;
    Ok(collector.requests)
}

fn example() -> (Vec<u8>, Vec<Vec<Vec<u8>>>) {
    let long = vec![b'x'; 40_000];
    let requests: Vec<Vec<&[u8]>> = vec![
        vec![b"PING"],
        vec![b"SET", b"k", b""],
        vec![b"SET", b"k", b"v\r\n$5\r\n*", b"EX", b"10"],
        vec![b"SET", b"k", &long],
        vec![b"MSET", b"a", &long, b"b", b"short", b"c", &long],
        vec![b"GET", b"k"],
    ];
    let mut bytes = Vec::new();
    for arguments in &requests {
        bytes.extend(request(arguments));
    }
    bytes.extend_from_slice(b"\r\n*0\r\n*-1\r\nINLINE \"a b\" c\r\nlf only\n");
    let owned =
        |arguments: &Vec<&[u8]>| arguments.iter().map(|argument| argument.to_vec()).collect();
    let mut want: Vec<Vec<Vec<u8>>> = requests.iter().map(owned).collect();
    want.push(vec![b"INLINE".to_vec(), b"a b".to_vec(), b"c".to_vec()]);
    want.push(vec![b"lf".to_vec(), b"only".to_vec()]);
    (bytes, want)
}

#[test]
fn pieces_of_any_size_give_the_same_requests() {
    let (bytes, want) = example();
    for piece_len in [1, 2, 3, 7, 100, 1_000, 16_000, 40_000, 65_536, bytes.len()] {
        assert!(parse(&bytes, piece_len).unwrap() == want, "pieces of {piece_len}");
    }
}

#[test]
fn a_cut_at_any_byte_gives_the_same_requests() {
    let (bytes, want) = example();
    // Every position around the parts that matter, a sample within the long arguments.
    let cuts = (0..bytes.len()).filter(|&at| at % 997 == 0 || bytes[at] != b'x');
    for cut in cuts {
        let (mut intake, mut collector) = (Intake::default(), Collector::default());
        feed(&mut intake, &mut collector, [&bytes[..cut], &bytes[cut..]]).unwrap();
        assert!(collector.requests == want, "cut at {cut}");
    }
}

#[test]
fn an_executor_that_stops_after_each_request_loses_none() {
    let (bytes, want) = example();
    for piece_len in [5, 1_000, bytes.len()] {
        let mut intake = Intake::default();
        let mut collector = Collector { stops: Next::Stop, ..Collector::default() };
        feed(&mut intake, &mut collector, bytes.chunks(piece_len)).unwrap();
        assert!(collector.requests == want, "pieces of {piece_len}");
    }
}

#[test]
fn a_long_argument_is_received_where_it_stays() {
    let long = vec![b'x'; VALUE_BYTES_MAX];
    let bytes = request(&[b"SET", b"k", &long]);
    let (mut intake, mut collector) = (Intake::default(), Collector::default());
    feed(&mut intake, &mut collector, bytes.chunks(50_000)).unwrap();
    assert!(collector.requests == [[b"SET".to_vec(), b"k".to_vec(), long]]);
    assert_eq!(collector.shared_count, 1);
    assert!(intake.held_bytes() < 1_024, "nothing is held between requests");
}

#[test]
fn a_promised_length_takes_no_memory_before_it_comes() {
    let (mut intake, mut collector) = (Intake::default(), Collector::default());
    let header = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${VALUE_BYTES_MAX}\r\nx");
    feed(&mut intake, &mut collector, [header.as_bytes()]).unwrap();
    assert!(intake.held_bytes() <= 2 << 20, "{} bytes are held", intake.held_bytes());
    let header = format!("*{REQUEST_ARGUMENT_COUNT_MAX}\r\n");
    let mut intake = Intake::default();
    feed(&mut intake, &mut collector, [header.as_bytes()]).unwrap();
    assert!(intake.held_bytes() <= 1 << 10, "{} bytes are held", intake.held_bytes());
}

#[test]
fn a_request_of_a_million_arguments_is_read_once() {
    let mut bytes = format!("*{REQUEST_ARGUMENT_COUNT_MAX}\r\n").into_bytes();
    for _ in 0..REQUEST_ARGUMENT_COUNT_MAX {
        bytes.extend_from_slice(b"$1\r\na\r\n");
    }
    // Reading it anew for each of these pieces would take hours.
    let requests = parse(&bytes, 512).unwrap();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].len(), REQUEST_ARGUMENT_COUNT_MAX);
}

#[track_caller]
fn check_error(bytes: &[u8], want: &str) {
    for piece_len in [1, bytes.len()] {
        let error = parse(bytes, piece_len).expect_err("it makes no sense");
        assert_eq!(error.to_string(), format!("ERR Protocol error: {want}"));
    }
}

#[test]
fn what_makes_no_sense_is_refused_in_the_words_of_redis() {
    check_error(b"*999999999\r\n", "invalid multibulk length");
    check_error(b"*1048577\r\n", "invalid multibulk length");
    check_error(b"*abc\r\n", "invalid multibulk length");
    check_error(b"*\r\n", "invalid multibulk length");
    check_error(b"*01\r\n", "invalid multibulk length");
    check_error(b"*99999999999999999999999999", "invalid multibulk length");
    check_error(b"*1\r\nGET\r\n", "expected '$', got 'G'");
    check_error(b"*1\r\n\x07", "expected '$', got '?'");
    check_error(b"*1\r\n$-1\r\n", "invalid bulk length");
    check_error(b"*1\r\n$67108865\r\n", "invalid bulk length");
    check_error(b"*1\r\n$x\r\n", "invalid bulk length");
    check_error(b"SET k \"a\r\n", "unbalanced quotes in request");
    check_error(&vec![b'a'; REQUEST_INLINE_BYTES_MAX + 1], "too big inline request");
}

#[test]
fn a_stranger_gets_little_room() {
    let check = |bytes: &[u8], want: ProtocolError| {
        let mut collector = Collector { trust: Trust::Stranger, ..Collector::default() };
        let result = feed(&mut Intake::default(), &mut collector, [bytes]);
        assert_eq!(result, Err(want));
    };
    check(b"*11\r\n", ProtocolError::StrangerArrayLength);
    check(b"*2\r\n$4\r\nAUTH\r\n$16385\r\n", ProtocolError::StrangerBulkLength);
    let mut collector = Collector { trust: Trust::Stranger, ..Collector::default() };
    let login = request(&[b"HELLO", b"3", b"AUTH", b"default", b"secret", b"SETNAME", b"me"]);
    feed(&mut Intake::default(), &mut collector, [&login[..]]).unwrap();
    assert_eq!(collector.requests.len(), 1);
}

#[test]
fn too_many_long_arguments_are_refused_before_they_come() {
    let mut bytes = b"*5\r\n$4\r\nMGET\r\n".to_vec();
    let long = vec![b'x'; VALUE_BYTES_MAX];
    for _ in 0..2 {
        bytes.extend_from_slice(format!("${VALUE_BYTES_MAX}\r\n").as_bytes());
        bytes.extend_from_slice(&long);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("${VALUE_BYTES_MAX}\r\nx").as_bytes());
    assert_eq!(parse(&bytes, 60_000), Err(ProtocolError::RequestLength));
}

proptest! {
    #[test]
    fn random_bytes_are_refused_or_understood_and_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        piece_len in 1..50_usize,
    ) {
        let _ = parse(&bytes, piece_len);
    }

    #[test]
    fn nearly_right_bytes_never_panic_and_pieces_do_not_matter(
        tokens in proptest::collection::vec(0..14_usize, 0..40),
        piece_len in 1..20_usize,
    ) {
        const TOKENS: [&[u8]; 14] = [
            b"*", b"$", b"1", b"2", b"3", b"0", b"-", b"\r\n", b"\n", b"\r", b"GET", b"k", b"\"", b" ",
        ];
        let bytes: Vec<u8> = tokens.iter().flat_map(|&token| TOKENS[token]).copied().collect();
        let (mut intake, mut whole) = (Intake::default(), Collector::default());
        let whole_result = feed(&mut intake, &mut whole, [&bytes[..]]);
        let (mut intake, mut pieces) = (Intake::default(), Collector::default());
        let pieces_result = feed(&mut intake, &mut pieces, bytes.chunks(piece_len));
        prop_assert_eq!(whole_result, pieces_result);
        prop_assert_eq!(whole.requests, pieces.requests);
    }

    #[test]
    fn any_requests_survive_any_pieces(
        requests in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 1..12),
            0..8,
        ),
        piece_len in 1..200_usize,
    ) {
        let mut bytes = Vec::new();
        for arguments in &requests {
            let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
            bytes.extend(request(&arguments));
        }
        prop_assert_eq!(parse(&bytes, piece_len).unwrap(), requests);
    }
}
