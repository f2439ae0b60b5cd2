//! A wire between two nodes that counts what passes, and can be cut.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Bytes that one read passes on.
const PIECE_BYTES: usize = 64 * 1024;

/// Listens at an address of its own and passes connections on. Dropping it ends all of them.
#[derive(Debug)]
pub(super) struct Proxy {
    address: SocketAddr,
    wire: Arc<Wire>,
}

#[derive(Debug)]
struct Wire {
    target: SocketAddr,
    /// In both directions, without the headers of TCP and IP.
    passed_bytes: AtomicU64,
    is_cut: AtomicBool,
    is_over: AtomicBool,
    /// One end of each connection that was passed on and not yet cut.
    open: Mutex<Vec<[TcpStream; 2]>>,
}

impl Proxy {
    /// A proxy before `target`, which need not be there yet.
    ///
    /// # Errors
    /// If there is no free port.
    pub(super) fn start(target: SocketAddr) -> anyhow::Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let wire = Arc::new(Wire {
            target,
            passed_bytes: AtomicU64::new(0),
            is_cut: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let accepting = Arc::clone(&wire);
        thread::spawn(move || accept(&listener, &accepting));
        Ok(Proxy { address, wire })
    }

    /// Where to dial.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes passed on so far, in both directions.
    pub(super) fn bytes(&self) -> u64 {
        self.wire.passed_bytes.load(Relaxed)
    }

    /// Ends every connection, and every new one at once, until [`Proxy::heal`].
    pub(super) fn cut(&self) {
        self.wire.is_cut.store(true, Relaxed);
        self.wire.end_open();
    }

    /// Connections are passed on again.
    pub(super) fn heal(&self) {
        self.wire.is_cut.store(false, Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.wire.is_over.store(true, Relaxed);
        self.wire.end_open();
        // Wakes the thread that accepts; if that fails it waits on, to no harm.
        drop(TcpStream::connect(self.address));
    }
}

impl Wire {
    fn end_open(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.drain(..).flatten() {
            // It may have ended by itself.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Passes on a connection. One that cannot be is closed.
    fn join(self: &Arc<Self>, near: TcpStream) -> std::io::Result<()> {
        let far = TcpStream::connect(self.target)?;
        for stream in [&near, &far] {
            // A proxy that waits for more would add a delay of its own.
            stream.set_nodelay(true)?;
        }
        let ends = [near.try_clone()?, far.try_clone()?];
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(ends);
        if self.is_cut.load(Relaxed) {
            // Cut while it was made.
            self.end_open();
        }
        for (from, to) in [(near.try_clone()?, far.try_clone()?), (far, near)] {
            let wire = Arc::clone(self);
            thread::spawn(move || pump(from, to, &wire.passed_bytes));
        }
        Ok(())
    }
}

fn accept(listener: &TcpListener, wire: &Arc<Wire>) {
    while let Ok((near, _)) = listener.accept() {
        if wire.is_over.load(Relaxed) {
            return;
        }
        if !wire.is_cut.load(Relaxed) {
            // A target that is not there is for the dialler to see.
            drop(wire.join(near));
        }
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, passed_bytes: &AtomicU64) {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match from.read(&mut piece) {
            Ok(count) if count > 0 && to.write_all(&piece[..count]).is_ok() => {
                passed_bytes.fetch_add(count as u64, Relaxed);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => break,
        }
    }
    // The other direction has nobody to talk to either: nodes never close one half.
    for stream in [from, to] {
        drop(stream.shutdown(Shutdown::Both));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers each byte with the same byte, one connection after the other.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
            }
        });
        address
    }

    fn round_trip(stream: &mut TcpStream) -> std::io::Result<()> {
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])
    }

    #[test]
    fn what_passes_is_counted_in_both_directions() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        round_trip(&mut stream).unwrap();
        round_trip(&mut stream).unwrap();
        // The last byte may be here before it is counted.
        while proxy.bytes() < 4 {
            thread::yield_now();
        }
        assert_eq!(proxy.bytes(), 4);
    }

    #[test]
    fn nothing_passes_until_the_wire_is_healed() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        round_trip(&mut stream).unwrap();
        proxy.cut();
        assert!(round_trip(&mut stream).is_err(), "an open connection ends");
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        assert!(round_trip(&mut stream).is_err(), "a new one does, too");
        proxy.heal();
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        round_trip(&mut stream).unwrap();
    }
}
