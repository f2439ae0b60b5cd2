//! The server behind the caches: three bodies that may be kept for a day, and a count of requests.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// A server in this process. It ends with it.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicU64>,
}

impl Upstream {
    /// Answers `/N` with N bytes.
    ///
    /// # Errors
    /// If no port is free.
    pub(crate) fn start() -> anyhow::Result<Upstream> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                // A cache that goes away ends its connections, which is no error here.
                thread::spawn(move || drop(serve(stream, &count)));
            }
        });
        Ok(Upstream { address, requests })
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

fn serve(stream: TcpStream, count: &AtomicU64) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let Some(bytes) = body_bytes(&line) else { continue };
        // The rest of the head says nothing that matters here.
        while !line.trim_end().is_empty() {
            line.clear();
            reader.read_line(&mut line)?;
        }
        count.fetch_add(1, Ordering::SeqCst);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\
             Content-Length: {bytes}\r\nCache-Control: max-age=86400\r\nETag: \"{bytes}\"\r\n\r\n"
        );
        reader.get_mut().write_all(&[head.into_bytes(), vec![b'x'; bytes]].concat())?;
    }
}

/// The length that a request line asks for.
fn body_bytes(line: &str) -> Option<usize> {
    line.strip_prefix("GET /")?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_line_names_a_length() {
        assert_eq!(body_bytes("GET /1024 HTTP/1.1\r\n"), Some(1024));
        assert_eq!(body_bytes("Host: a\r\n"), None);
        assert_eq!(body_bytes("GET /x HTTP/1.1\r\n"), None);
    }
}
