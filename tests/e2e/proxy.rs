//! A network between two nodes that a test can cut, hold back, slow down and measure.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// Bytes that one read passes on.
const PIECE_BYTES: usize = 16 * 1024;
/// Pieces that may be on their way in one direction of one connection.
const PIECE_COUNT_MAX: usize = 4_096;

/// Listens at an address of its own and passes connections on to a node's.
///
/// A node may be told of it before the node behind it is there.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    network: Arc<Network>,
    /// Ends everything when it is dropped.
    _end: watch::Sender<()>,
}

/// Where bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toward {
    /// The node that dialled.
    Dialler,
    /// The node behind the proxy.
    Target,
}

#[derive(Debug)]
struct Network {
    weather: watch::Sender<Weather>,
    target: Mutex<Option<SocketAddr>>,
    /// Bytes passed on, by direction.
    passed: [AtomicU64; 2],
    connections: AtomicU64,
}

/// How the network behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weather {
    is_cut: bool,
    /// By direction.
    is_held: [bool; 2],
    /// By direction.
    delay_ms: [u64; 2],
    /// Bytes a second in each direction; 0 is no limit.
    rate: u64,
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().expect("a runtime starts")
    })
}

impl Proxy {
    /// A proxy to nowhere yet.
    pub(crate) fn start() -> Proxy {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("it is bound");
        let network = Arc::new(Network {
            weather: watch::Sender::new(Weather::default()),
            target: Mutex::default(),
            passed: Default::default(),
            connections: AtomicU64::new(0),
        });
        let (end, ended) = watch::channel(());
        runtime().spawn(accept(listener, Arc::clone(&network), ended));
        Proxy { address, network, _end: end }
    }

    /// Where to dial.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Passes new connections on to `target`.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        *self.network.target.lock().expect("no panic under it") = Some(target);
    }

    /// Resets every connection and every new one, until [`Proxy::heal`].
    pub(crate) fn cut(&self) {
        self.change(|weather| weather.is_cut = true);
    }

    /// Passes nothing on in one direction, without either end being told, until [`Proxy::heal`].
    /// What was sent meanwhile then arrives.
    pub(crate) fn hold(&self, toward: Toward) {
        self.change(|weather| weather.is_held[toward as usize] = true);
    }

    /// Nothing is cut or held any more. Delay and rate stay.
    pub(crate) fn heal(&self) {
        self.change(|weather| (weather.is_cut, weather.is_held) = (false, [false; 2]));
    }

    /// Whether it is cut or held now.
    pub(crate) fn is_broken(&self) -> bool {
        let weather = self.network.weather.borrow();
        weather.is_cut || weather.is_held.contains(&true)
    }

    /// Everything arrives so much later, in each direction.
    pub(crate) fn delay_ms(&self, delay_ms: u64) {
        self.change(|weather| weather.delay_ms = [delay_ms; 2]);
    }

    /// Everything in one direction arrives so much later.
    pub(crate) fn delay_toward(&self, toward: Toward, delay_ms: u64) {
        self.change(|weather| weather.delay_ms[toward as usize] = delay_ms);
    }

    /// At most so many bytes a second arrive, in each direction; 0 is no limit.
    pub(crate) fn limit(&self, bytes_per_s: u64) {
        self.change(|weather| weather.rate = bytes_per_s);
    }

    /// Bytes passed on so far, in both directions.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes_toward(Toward::Dialler) + self.bytes_toward(Toward::Target)
    }

    /// Bytes passed on so far in one direction.
    pub(crate) fn bytes_toward(&self, toward: Toward) -> u64 {
        self.network.passed[toward as usize].load(Relaxed)
    }

    /// Connections passed on so far.
    pub(crate) fn connections(&self) -> u64 {
        self.network.connections.load(Relaxed)
    }

    fn change(&self, change: impl FnOnce(&mut Weather)) {
        self.network.weather.send_modify(change);
    }
}

async fn accept(
    listener: std::net::TcpListener,
    network: Arc<Network>,
    mut ended: watch::Receiver<()>,
) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ended.changed() => return,
        };
        let Ok((near, _)) = accepted else { continue };
        let (network, mut ended) = (Arc::clone(&network), ended.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = pass(near, &network) => {}
                _ = ended.changed() => {}
            }
        });
    }
}

/// One connection, until it ends or the network is cut.
async fn pass(mut near: TcpStream, network: &Network) {
    let mut weather = network.weather.subscribe();
    let target = *network.target.lock().expect("no panic under it");
    let is_cut = weather.borrow().is_cut;
    let far = match target.filter(|_| !is_cut) {
        Some(target) => TcpStream::connect(target).await.ok(),
        None => None,
    };
    let Some(mut far) = far else { return reset(&near) };
    network.connections.fetch_add(1, Relaxed);
    for stream in [&near, &far] {
        // A proxy that waits for more would add a delay of its own.
        stream.set_nodelay(true).expect("a socket");
    }
    let is_over = {
        let (near_read, near_write) = near.split();
        let (far_read, far_write) = far.split();
        let out = pump(near_read, far_write, (network, Toward::Target));
        let back = pump(far_read, near_write, (network, Toward::Dialler));
        tokio::select! {
            _ = async { tokio::join!(out, back) } => true,
            _ = weather.wait_for(|weather| weather.is_cut) => false,
        }
    };
    if !is_over {
        reset(&near);
        reset(&far);
    }
}

/// Makes the close of a stream a reset: the other end would see an orderly end otherwise.
fn reset(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Passes on what is read, in order, each piece when its time has come.
async fn pump(
    mut read: ReadHalf<'_>,
    mut write: WriteHalf<'_>,
    (network, toward): (&Network, Toward),
) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECE_COUNT_MAX);
    let mut weather = network.weather.subscribe();
    let reading = async {
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(count) = read.read(&mut piece).await {
            let delay = network.weather.borrow().delay_ms[toward as usize];
            let delay = Duration::from_millis(delay);
            let due = (Instant::now() + delay, piece[..count].to_vec());
            // An empty piece is the end.
            if sender.send(due).await.is_err() || count == 0 {
                break;
            }
        }
        drop(sender);
    };
    let writing = async {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            let is_held = |weather: &Weather| weather.is_held[toward as usize];
            if weather.wait_for(|weather| !is_held(weather)).await.is_err() {
                break;
            }
            if piece.is_empty() || write.write_all(&piece).await.is_err() {
                break;
            }
            network.passed[toward as usize].fetch_add(piece.len() as u64, Relaxed);
            let rate = network.weather.borrow().rate;
            if rate > 0 {
                sleep(Duration::from_secs_f64(piece.len() as f64 / rate as f64)).await;
            }
        }
        let _ = write.shutdown().await;
    };
    tokio::join!(reading, writing);
}
