//! Standard output and error of a guest: lines of its log.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::host::Level;
use crate::limits::LOG_LINE_BYTES_MAX;
use crate::log::Log;

/// One of the two. A clone is another handle on the same line.
#[derive(Debug, Clone)]
pub(crate) struct Lines(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    log: Arc<Log>,
    level: Level,
    /// What came after the last line end.
    line: Mutex<Vec<u8>>,
}

impl Lines {
    pub(crate) fn new(log: Arc<Log>, level: Level) -> Lines {
        Lines(Arc::new(Shared { log, level, line: Mutex::default() }))
    }

    /// What was written last needs no line end: the call is over.
    pub(crate) fn end_line(&self) {
        let line = std::mem::take(&mut *self.0.line.lock().unwrap_or_else(PoisonError::into_inner));
        if !line.is_empty() {
            self.0.write(&line);
        }
    }

    fn take_in(&self, mut bytes: &[u8]) {
        let mut line = self.0.line.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            append(&mut line, &bytes[..end]);
            self.0.write(&line);
            line.clear();
            bytes = &bytes[end + 1..];
        }
        append(&mut line, bytes);
    }
}

/// What no log line can hold is dropped here: nobody would read it.
fn append(line: &mut Vec<u8>, bytes: &[u8]) {
    let room = LOG_LINE_BYTES_MAX.saturating_sub(line.len());
    line.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

impl Shared {
    fn write(&self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        self.log.write(self.level, text.trim_end_matches('\r'));
    }
}

impl Drop for Shared {
    /// The guest is gone: what it wrote last needs no line end.
    fn drop(&mut self) {
        let line = std::mem::take(self.line.get_mut().unwrap_or_else(PoisonError::into_inner));
        if !line.is_empty() {
            self.write(&line);
        }
    }
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    /// Read when its instance comes to it, which may be in another call's turn: what it writes is of the
    /// call that asked for it all the same.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Lines::new(Arc::new(self.0.log.of_this_call()), self.0.level))
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take_in(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(LOG_LINE_BYTES_MAX)
    }
}

#[async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Lines {
    fn poll_write(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.take_in(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Logger;

    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl Logger for Kept {
        fn log(&self, _level: Level, message: &str) {
            self.0.lock().unwrap().push(message.to_owned());
        }
    }

    #[test]
    fn writes_become_lines_however_they_are_cut() {
        let kept = Arc::new(Kept::default());
        let log = Arc::new(Log::new(Arc::clone(&kept) as Arc<dyn Logger>));
        let lines = Lines::new(log, Level::Info);
        let (mut first, mut second) = (lines.clone(), lines);
        for bytes in ["one\ntw", "o\r\n\nthree"] {
            first.write(Bytes::from(bytes)).unwrap();
        }
        second.write(Bytes::from(vec![b'x'; 2 * LOG_LINE_BYTES_MAX])).unwrap();
        drop((first, second));
        let kept = kept.0.lock().unwrap();
        assert_eq!(kept[..3], ["one", "two", ""]);
        assert_eq!((kept.len(), kept[3].len()), (4, LOG_LINE_BYTES_MAX));
    }
}
