//! Parts of files on their way to a client, sent by the kernel without a copy (`sendfile`).
//!
//! Hyper takes bytes and no files. So a body hands it bytes that stand for the part of a file: as
//! many, of a region that nobody reads or writes. The stream below knows them by where they lie, and
//! sends the next part that the body has put into the connection's queue instead. What hyper hands
//! over, it hands over in order and whole, or the connection ends. For HTTP/1.1 alone: HTTP/2 has a
//! frame around what it sends, and copies.

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Most bytes that one stand-in stands for. They take address space and no memory.
const STAND_IN_BYTES: usize = 16 << 20;
/// Pieces that are no longer than this together are sent as one, in bytes.
const GATHERED_BYTES_MAX: usize = 2 * 1024;
static STAND_IN: [u8; STAND_IN_BYTES] = [0; STAND_IN_BYTES];

/// The way to a client for parts of files; an extension of requests over HTTP/1.1.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files(Arc<Mutex<VecDeque<Part>>>);

/// Bytes of a file that are to be sent next.
#[derive(Debug)]
struct Part {
    file: Arc<File>,
    offset: u64,
    left: usize,
}

impl Files {
    /// A body of `bytes` bytes of `file`, which has them, from `offset` on.
    pub(crate) fn body(&self, file: Arc<File>, offset: u64, bytes: u64) -> FileBody {
        FileBody { way: self.clone(), file, offset, left: bytes }
    }

    fn parts(&self) -> MutexGuard<'_, VecDeque<Part>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body that stands for a part of a file.
#[derive(Debug)]
pub(crate) struct FileBody {
    way: Files,
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let bytes = usize::try_from(self.left).unwrap_or(usize::MAX).min(STAND_IN_BYTES);
        let part = Part { file: Arc::clone(&self.file), offset: self.offset, left: bytes };
        self.way.parts().push_back(part);
        self.offset += bytes as u64;
        self.left -= bytes as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&STAND_IN[..bytes])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A connection's stream that sends parts of files where bytes stand for them.
#[derive(Debug)]
pub(super) struct WithFiles {
    stream: TcpStream,
    files: Files,
}

impl WithFiles {
    pub(super) fn new(stream: TcpStream) -> WithFiles {
        WithFiles { stream, files: Files::default() }
    }

    /// The way into it.
    pub(super) fn files(&self) -> Files {
        self.files.clone()
    }

    /// Sends pieces that stand for themselves. The kernel takes one small buffer in less time than two.
    fn poll_write_plain(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = [0; GATHERED_BYTES_MAX];
        let stream = Pin::new(&mut self.stream);
        match gathered(slices, &mut buffer) {
            Some(bytes) => stream.poll_write(context, bytes),
            None => stream.poll_write_vectored(context, slices),
        }
    }

    /// Sends some of the part that `bytes` of the stand-in are for.
    fn poll_send(&mut self, context: &mut Context<'_>, bytes: usize) -> Poll<io::Result<usize>> {
        let mut parts = self.files.parts();
        let Some(part) = parts.front_mut() else {
            return Poll::Ready(Err(io::Error::other("bytes stand for no part of a file")));
        };
        let bytes = bytes.min(part.left);
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            let mut sent = 0;
            let tried = self.stream.try_io(Interest::WRITABLE, || {
                let mut offset = part.offset;
                sent = send(&self.stream, &part.file, &mut offset, bytes)?;
                // Less than was asked for, of a file that has more: the socket is full, and says so
                // when it no longer is. To ask again only to hear that costs more than this look.
                let is_short = cfg!(target_os = "linux") && sent < bytes;
                let is_full = is_short && part.file.metadata()?.len() > offset;
                if is_full { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match tried {
                _ if sent > 0 => {
                    part.offset += sent as u64;
                    part.left -= sent;
                    if part.left == 0 {
                        parts.pop_front();
                    }
                    return Poll::Ready(Ok(sent));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(()) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// Copies the pieces into `buffer`, where they are several and all fit.
fn gathered<'b>(slices: &[IoSlice<'_>], buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
    if slices.len() < 2 || bytes > buffer.len() {
        return None;
    }
    let mut end = 0;
    for slice in slices {
        buffer[end..end + slice.len()].copy_from_slice(slice);
        end += slice.len();
    }
    Some(&buffer[..end])
}

#[cfg(target_os = "linux")]
fn send(to: &TcpStream, file: &File, offset: &mut u64, bytes: usize) -> io::Result<usize> {
    Ok(rustix::fs::sendfile(to, file, Some(offset), bytes)?)
}

/// Elsewhere the call has other forms: what it saves is left unsaved.
#[cfg(not(target_os = "linux"))]
fn send(to: &TcpStream, file: &File, offset: &mut u64, bytes: usize) -> io::Result<usize> {
    use std::os::unix::fs::FileExt as _;
    let mut piece = vec![0; bytes.min(64 * 1024)];
    file.read_exact_at(&mut piece, *offset)?;
    to.try_write(&piece)
}

/// Whether these bytes stand for a part of a file.
fn stands_in(bytes: &[u8]) -> bool {
    // By address alone: what lies there says nothing.
    let start = STAND_IN.as_ptr() as usize;
    !bytes.is_empty() && (start..start + STAND_IN_BYTES).contains(&(bytes.as_ptr() as usize))
}

impl AsyncRead for WithFiles {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for WithFiles {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if stands_in(bytes) {
            return self.poll_send(context, bytes.len());
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // What comes before the first part goes first, by itself.
        let plain = slices.iter().take_while(|slice| !stands_in(slice)).count();
        let has_bytes = slices[..plain].iter().any(|slice| !slice.is_empty());
        match slices.get(plain) {
            Some(part) if !has_bytes => {
                let bytes = part.len();
                self.poll_send(context, bytes)
            }
            _ => self.poll_write_plain(context, &slices[..plain]),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use std::io::Write as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn parts_of_files_go_between_other_bytes_in_the_order_of_the_bytes_that_stand_for_them() {
        let mut file = tempfile::tempfile().expect("a file");
        let text: Vec<u8> = (0..40_000_000_u32).map(|number| (number % 251) as u8).collect();
        file.write_all(&text).expect("room");
        let file = Arc::new(file);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let reader = tokio::spawn(async move {
            let mut got = Vec::new();
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            stream.read_to_end(&mut got).await.expect("all of it");
            got
        });
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut stream = WithFiles::new(stream);
        let files = stream.files();
        // More than one stand-in stands for, and a small part behind it.
        for (offset, bytes) in [(7, 39_000_000), (1, 3)] {
            let mut body = files.body(Arc::clone(&file), offset, bytes);
            stream.write_all(b"head").await.expect("it is taken");
            while let Some(frame) = body.frame().await {
                let data = frame.expect("no error").into_data().expect("data");
                // As hyper does it: what could not be written is tried again.
                let mut done = 0;
                while done < data.len() {
                    let slices = [IoSlice::new(b"<>"), IoSlice::new(&data[done..])];
                    let slices = &slices[usize::from(done > 0)..];
                    let written = std::future::poll_fn(|context| {
                        Pin::new(&mut stream).poll_write_vectored(context, slices)
                    });
                    let written = written.await.expect("it is taken");
                    if done == 0 {
                        assert_eq!(written, 2, "what comes first goes alone");
                        done += stream.write(&data).await.expect("it is taken");
                    } else {
                        done += written;
                    }
                }
            }
        }
        drop(stream);
        let got = reader.await.expect("no panic");
        let frames = 39_000_000_usize.div_ceil(STAND_IN_BYTES);
        let mut want = b"head".to_vec();
        for number in 0..frames {
            let end = ((number + 1) * STAND_IN_BYTES).min(39_000_000);
            want.extend_from_slice(b"<>");
            want.extend_from_slice(&text[7 + number * STAND_IN_BYTES..7 + end]);
        }
        want.extend_from_slice(b"head<>");
        want.extend_from_slice(&text[1..4]);
        assert!(got == want, "{} bytes instead of {}", got.len(), want.len());
        assert!(files.parts().is_empty());
    }

    #[test]
    fn small_pieces_become_one_and_what_does_not_fit_stays_as_it_is() {
        let mut buffer = [0; 8];
        let pieces = |of: &[&'static [u8]]| -> Vec<IoSlice<'static>> {
            of.iter().map(|piece| IoSlice::new(piece)).collect()
        };
        let got = gathered(&pieces(&[b"head", b"", b"body"]), &mut buffer);
        assert_eq!(got, Some(&b"headbody"[..]));
        assert_eq!(gathered(&pieces(&[b"head", b"body."]), &mut buffer), None);
        assert_eq!(gathered(&pieces(&[b"alone"]), &mut buffer), None);
    }

    #[tokio::test]
    async fn a_file_that_is_shorter_than_was_said_is_an_error_and_no_wait() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"short").expect("room");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let _client = TcpStream::connect(address).await.expect("a connection");
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut stream = WithFiles::new(stream);
        let mut body = stream.files().body(Arc::new(file), 0, 100);
        let frame = body.frame().await.expect("a frame").expect("no error");
        let data = frame.into_data().expect("data");
        assert_eq!(stream.write(&data).await.expect("what there is"), 5);
        let error = stream.write(&data[5..]).await.expect_err("nothing is left");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
