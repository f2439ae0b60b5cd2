//! The load on HTTP ports: connections that are kept alive, each with one request under way.
//!
//! Our own, so that nothing has to be installed; what it costs is not booked on the server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};

use crate::process;
use crate::summary::{self, Sample};

/// Connections that are open at once, each on a thread of its own.
pub(crate) const CONNECTIONS: u32 = 50;
/// The head and the body of an answer must fit.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// No answer takes this long, unless the server hangs.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);
/// A loop of a few calls and a buffer on the heap.
const STACK_BYTES: usize = 128 * 1024;

/// A GET that is repeated.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    /// `None` where the body is whatever the handler says.
    pub(crate) body_bytes: Option<usize>,
}

/// What a run gave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) sample: Sample,
    /// 99 of 100 answers took at most this long.
    pub(crate) p99_us: u64,
}

/// Sends `operations` requests in all, divided evenly.
///
/// # Errors
/// If an answer is not `200`, has the wrong length, or does not come.
pub(crate) fn run(pid: u32, target: &Target, operations: u32) -> anyhow::Result<Outcome> {
    let each = operations.div_ceil(CONNECTIONS);
    // All connections are open before the clock starts.
    let clients: Vec<Client> =
        (0..CONNECTIONS).map(|_| Client::open(target)).collect::<anyhow::Result<_>>()?;
    let before_us = process::cpu_us(pid)?;
    let start = Instant::now();
    let mut latencies_us = thread::scope(|scope| -> anyhow::Result<Vec<u64>> {
        let mut running = Vec::new();
        for client in clients {
            let builder = thread::Builder::new().stack_size(STACK_BYTES);
            running.push(builder.spawn_scoped(scope, move || client.repeat(each))?);
        }
        let mut all = Vec::new();
        for thread in running {
            all.extend(thread.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        Ok(all)
    })?;
    let elapsed = start.elapsed();
    let after_us = process::cpu_us(pid)?;
    latencies_us.sort_unstable();
    let done = f64::from(each * CONNECTIONS);
    #[expect(clippy::cast_precision_loss, reason = "microseconds of minutes fit in 52 bits")]
    let cpu_us = (after_us - before_us) as f64;
    Ok(Outcome {
        sample: Sample {
            ops_per_second: done / elapsed.as_secs_f64(),
            cpu_us_per_op: cpu_us / done,
        },
        p99_us: summary::percentile(&latencies_us, 99),
    })
}

/// One request by itself: does the server answer as expected?
///
/// # Errors
/// As for [`run`].
pub(crate) fn probe(target: &Target) -> anyhow::Result<()> {
    Client::open(target)?.repeat(1).map(drop)
}

struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    body_bytes: Option<usize>,
    buffer: Vec<u8>,
}

impl Client {
    fn open(target: &Target) -> anyhow::Result<Self> {
        let Target { address, path, body_bytes } = target;
        let stream =
            TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WAIT_MAX))?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes();
        Ok(Self { stream, request, body_bytes: *body_bytes, buffer: vec![0; ANSWER_BYTES_MAX] })
    }

    /// Returns how long each answer took, in microseconds.
    fn repeat(mut self, count: u32) -> anyhow::Result<Vec<u64>> {
        let mut latencies_us = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let start = Instant::now();
            self.stream.write_all(&self.request).context("sending a request")?;
            let body_bytes = read_answer(&mut self.stream, &mut self.buffer)?;
            latencies_us.push(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
            let as_expected = self.body_bytes.is_none_or(|want| want == body_bytes);
            ensure!(as_expected, "a body of {body_bytes} bytes instead of {:?}", self.body_bytes);
        }
        Ok(latencies_us)
    }
}

/// Reads one answer to its end and returns the length of its body.
fn read_answer(stream: &mut impl Read, buffer: &mut [u8]) -> anyhow::Result<usize> {
    let mut filled = 0;
    loop {
        if let Some(head_end) = find(&buffer[..filled], b"\r\n\r\n") {
            let Some(body_bytes) = check_head(&buffer[..head_end])? else {
                if let Some(body_bytes) = chunks(&buffer[head_end + 4..filled])? {
                    return Ok(body_bytes);
                }
                filled += read_more(stream, &mut buffer[filled..])?;
                continue;
            };
            let whole = head_end + 4 + body_bytes;
            ensure!(whole <= buffer.len(), "an answer of {whole} bytes");
            ensure!(filled <= whole, "more bytes than the answer has");
            if filled == whole {
                return Ok(body_bytes);
            }
        }
        filled += read_more(stream, &mut buffer[filled..])?;
    }
}

fn read_more(stream: &mut impl Read, buffer: &mut [u8]) -> anyhow::Result<usize> {
    ensure!(!buffer.is_empty(), "an answer that does not fit");
    let read = stream.read(buffer).context("waiting for an answer")?;
    ensure!(read > 0, "the server closed the connection");
    Ok(read)
}

/// Returns the length of a body in chunks, if all of it is there.
fn chunks(mut bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let mut body_bytes = 0;
    loop {
        let Some(line_end) = find(bytes, b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&bytes[..line_end]).context("the size of a chunk")?;
        let size = usize::from_str_radix(size, 16).context("the size of a chunk")?;
        ensure!(size <= ANSWER_BYTES_MAX, "a chunk of {size} bytes");
        let Some(rest) = bytes.get(line_end + 2 + size + 2..) else { return Ok(None) };
        if size == 0 {
            ensure!(rest.is_empty(), "more bytes than the answer has");
            return Ok(Some(body_bytes));
        }
        (bytes, body_bytes) = (rest, body_bytes + size);
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Returns the announced length of the body, `None` where it comes in chunks.
fn check_head(head: &[u8]) -> anyhow::Result<Option<usize>> {
    let head = std::str::from_utf8(head).context("a head that is not UTF-8")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    ensure!(status.starts_with("HTTP/1.1 200"), "the server answers {status:?}");
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let is = |name: &str, wanted: &str| name.eq_ignore_ascii_case(wanted);
    if fields.clone().any(|(name, _)| is(name, "transfer-encoding")) {
        return Ok(None);
    }
    let length = fields.find(|(name, _)| is(name, "content-length"));
    let length = length.context("an answer without length")?;
    length.1.trim().parse().map(Some).context("Content-Length")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out its bytes one at a time: the worst that a network does.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let len = self.0.len().min(1);
            self.0.read(&mut buffer[..len])
        }
    }

    #[track_caller]
    fn check(answer: &str, want: Result<usize, &str>) {
        for found in [
            read_answer(&mut answer.as_bytes(), &mut [0; 128]),
            read_answer(&mut Drip(answer.as_bytes()), &mut [0; 128]),
        ] {
            match (found, want) {
                (Ok(found), Ok(want)) => assert_eq!(found, want),
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
                (found, _) => panic!("{found:?} instead of {want:?}"),
            }
        }
    }

    #[test]
    fn an_answer_ends_where_its_length_says() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Ok(3));
        check("HTTP/1.1 200 OK\r\nX: y\r\ncontent-length:0\r\n\r\n", Ok(0));
    }

    #[test]
    fn an_answer_in_chunks_ends_with_an_empty_one() {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        check(&format!("{head}3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"), Ok(13));
        check(&format!("{head}0\r\n\r\n"), Ok(0));
    }

    #[test]
    fn answers_that_do_not_count_are_errors() {
        check("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", Err("404"));
        check("HTTP/1.1 200 OK\r\n\r\n", Err("without length"));
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na", Err("closed"));
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", Err("a chunk"));
        check("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", Err("closed"));
        check("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nabc", Err("an answer of"));
        check(&format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(200)), Err("does not fit"));
        check("", Err("closed"));
    }
}
