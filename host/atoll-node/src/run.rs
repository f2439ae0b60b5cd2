//! From a checked configuration to a running node and back: bind, wire, wait, drain.

use crate::cache::Cache;
use crate::cache::disk::gate;
use crate::cache::purges::Purges;
use crate::cache::replicated;
use crate::config::Config;
use crate::handlers::{self, Handlers};
use crate::journal::{Keeping, Opened, Read};
use crate::listen::Addresses;
use crate::node::Node;
use crate::peers::Links;
use crate::peers::settings::Listen;
use crate::proxy::Proxy;
use crate::trace::tracer::{self, Tracer};
use crate::{api, cache, gateway, journal, listen, peers, resp, sweep, telemetry};
use anyhow::{Context, bail};
use atoll_core::replica::saved::Saved;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// How the node says that it is ready.
#[derive(Clone, Debug)]
pub(crate) enum Announce {
    /// For a person.
    Banner,
    /// One line for a program.
    Json,
    /// Not at all: whoever runs the node in its own process is told.
    Tell(std::sync::mpsc::Sender<Addresses>),
}

/// The listeners of the doors, bound before anything else can go wrong.
struct Doors {
    gateway: Option<TcpListener>,
    api: Option<TcpListener>,
    resp: Option<TcpListener>,
    peers: Option<TcpListener>,
}

/// Runs a node until SIGTERM or SIGINT.
pub(crate) fn run(config: Config, announce: Announce) -> anyhow::Result<()> {
    telemetry::start(&config)?;
    config.traces.remarks.iter().for_each(|remark| warn!("{remark}"));
    raise_file_limit();
    return_memory_in_the_background();
    let doors = Doors::bind(&config)?;
    let opened = config.disk.clone().map(journal::open).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(usize::from(config.http_threads))
        .thread_name("atoll-http")
        .enable_all()
        .build()
        .context("cannot start the HTTP threads")?;
    let result = runtime.block_on(serve(config, (doors, opened), announce));
    // What is left has had its time.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn serve(
    config: Config,
    (doors, opened): (Doors, Option<Opened>),
    announce: Announce,
) -> anyhow::Result<()> {
    let node = Node::new(&config)?;
    if let Some(opened) = &opened {
        node.attach(opened.journal());
    }
    let kit = Kit::new(&config, &node, doors.addresses()?.gateway)?;
    let (tracer, delivering) = tracer::start(&node, config.traces.settings.clone())?;
    let shutdown = CancellationToken::new();
    let tasks = TaskTracker::new();
    let addresses = doors.addresses()?;
    kit.tell_api(&config, addresses.api);
    // Before anybody is told that the node is ready: without it a signal ends the process at once.
    let mut signals = Signals::listen()?;

    let shared = Shared { node: &node, kit: &kit, tracer, shutdown: &shutdown };
    let peers_listener = doors.open(&config, &shared, &tasks)?;
    // From here on reads are served, while what was saved is still being read.
    let read = match opened {
        None => None,
        Some(opened) => match load(&kit, opened, &mut signals).await? {
            Some(read) => Some(read),
            None => return Ok(()),
        },
    };
    let ends = peers::Ends { stop: CancellationToken::new(), failed: shutdown.clone() };
    let stop_links = ends.stop.clone();
    let saved = read.as_ref().and_then(saved_state);
    let links = (config.links.clone(), saved);
    let links = peers::serve(peers_listener, Arc::clone(&node), links, ends)?;
    let keeping = match read {
        None => None,
        Some(read) => {
            let checkpoints = links.checkpoints();
            let node_state = Box::new(move || checkpoints.take().encode());
            let keeping = read.keep(Arc::clone(node.store()), node_state)?;
            kit.handlers.await_saved();
            node.store().set_obstacle(None);
            Some(keeping)
        }
    };
    kit.proxy.announce(&tasks, &shutdown)?;
    kit.begin(&tasks, &shutdown);
    tasks.close();

    addresses.announce(&config, announce);
    info!(name = node.name(), origin = %node.store().origin(), "node is ready");
    let reason = tokio::select! {
        () = signals.received() => Reason::Told,
        () = shutdown.cancelled() => Reason::DoorFailed,
    };
    info!("node is draining");
    node.start_draining();
    shutdown.cancel();
    let drain = Duration::from_millis(config.drain_ms);
    let drained = tokio::select! {
        () = async { tasks.wait().await; kit.settled().await } => true,
        () = tokio::time::sleep(drain) => false,
        () = signals.received() => false,
    };
    if !drained {
        warn!(drain_ms = config.drain_ms, "requests were still in flight");
    }
    if let Some(disk) = kit.purges.cache().disk().cloned() {
        // It waits for a while; what is not written then is fetched again.
        let _ = tokio::task::spawn_blocking(move || disk.flush()).await;
    }
    // After the last write: peers are given what they lack.
    stop_links.cancel();
    tokio::join!(hand_over(links, keeping, &mut signals), tracer::stop(delivering));
    info!(uptime_s = node.uptime_s(), "node has stopped");
    match reason {
        Reason::Told => Ok(()),
        Reason::DoorFailed => bail!("a door could not go on; the log above says why"),
    }
}

/// Waits until peers and disk have what the node wrote last, or somebody has lost patience.
async fn hand_over(links: Links, keeping: Option<Keeping>, signals: &mut Signals) {
    tokio::select! {
        () = links.stopped() => {}
        () = signals.received() => {}
    }
    let Some(keeping) = keeping else { return };
    let is_saved = tokio::select! {
        is_saved = keeping.stop() => is_saved,
        () = signals.received() => false,
    };
    if !is_saved {
        warn!("the disk did not take the last writes in time");
    }
}

/// Reads what was saved. `None` where the node was told to stop meanwhile.
async fn load(kit: &Kit, opened: Opened, signals: &mut Signals) -> anyhow::Result<Option<Read>> {
    let give_up = Arc::new(AtomicBool::new(false));
    let (store, given_up) = (Arc::clone(kit.node.store()), Arc::clone(&give_up));
    let mut reading = tokio::task::spawn_blocking(move || opened.load(&store, &given_up));
    let read = tokio::select! {
        read = &mut reading => read,
        () = signals.received() => {
            give_up.store(true, Ordering::Relaxed);
            reading.await
        }
    };
    let read = read.context("the data could not be read")??;
    // Before links come up: a peer may delete what a record that was saved needs.
    kit.handlers.tend_components();
    Ok(read.filter(|_| !give_up.load(Ordering::Relaxed)))
}

/// What of replication was saved beside the keys.
fn saved_state(read: &Read) -> Option<Saved> {
    match Saved::decode(read.node_state()?) {
        Ok(saved) => Some(saved),
        Err(error) => {
            // The keys are there; what they cover has to be found out from the peers.
            warn!(%error, "the saved state of replication cannot be read");
            None
        }
    }
}

/// What the doors share.
struct Shared<'s> {
    node: &'s Arc<Node>,
    kit: &'s Kit,
    /// Where requests are traced.
    tracer: Option<Tracer>,
    shutdown: &'s CancellationToken,
}

/// What answers requests beside the store.
struct Kit {
    node: Arc<Node>,
    handlers: Arc<Handlers>,
    proxy: Arc<Proxy>,
    purges: Arc<Purges>,
}

impl Kit {
    fn new(config: &Config, node: &Arc<Node>, gateway: Option<SocketAddr>) -> anyhow::Result<Kit> {
        let mut cache = match &config.cache_disk {
            Some(disk) => Cache::with_disk(config.cache_bytes_max, disk)?,
            None => Cache::new(config.cache_bytes_max),
        };
        cache.set_fill_bytes_max(config.fill_bytes_max as u64);
        let cache = Arc::new(cache);
        cache.register(node);
        if let Some(disk) = cache.disk() {
            disk.begin(node.metrics())?;
        }
        let purges = Purges::new(node, &cache)?;
        if config.disk.is_some() {
            purges.begin_missing();
        }
        let settings = handlers::Settings::of(config);
        let handlers = Handlers::new(Arc::clone(&purges), &settings)?;
        let own = config.gateway_advertised.clone();
        let named = gateway.filter(|address| !address.ip().is_unspecified());
        let own = own.or_else(|| named.and_then(|address| address.to_string().parse().ok()));
        let shared = replicated::Shared::new(node, &purges, config.replicated_bytes_max)?;
        let proxy = Proxy::new(node, (&shared, &handlers), &config.routes, own)?;
        Ok(Kit { node: Arc::clone(node), handlers, proxy, purges })
    }

    /// Says where others reach the API.
    fn tell_api(&self, config: &Config, bound: Option<SocketAddr>) {
        let Some(bound) = bound else { return };
        let advertised = config.api_advertised.as_ref();
        self.handlers.set_api(advertised.map_or_else(|| bound.to_string(), ToString::to_string));
    }

    /// Begins what goes on beside the doors until `shutdown`.
    fn begin(&self, tasks: &TaskTracker, shutdown: &CancellationToken) {
        self.follow_purges(tasks, shutdown);
        self.proxy.watch_health(tasks, shutdown);
        tasks.spawn(sweep::sweep(Arc::clone(&self.node), shutdown.clone()));
        tasks.spawn(Arc::clone(&self.handlers).follow(shutdown.clone()));
        tasks.spawn(Arc::clone(&self.handlers).watch(shutdown.clone()));
        tasks.spawn(Arc::clone(&self.proxy).follow_routes(shutdown.clone()));
    }

    /// Waits for what goes on after its request is over.
    async fn settled(&self) {
        self.handlers.settled().await;
        self.purges.settled().await;
    }

    /// Lets purges and writes of other nodes take effect here, once there is a cache for them.
    fn follow_purges(&self, tasks: &TaskTracker, shutdown: &CancellationToken) {
        tasks.spawn(Arc::clone(&self.purges).follow(shutdown.clone()));
        let (node, cache) = (Arc::clone(&self.node), Arc::clone(self.purges.cache()));
        tasks.spawn(cache::keys::follow(node, cache, shutdown.clone()));
        let (purges, disk) = (Arc::clone(&self.purges), self.purges.cache().disk().cloned());
        tasks.spawn(gate::open(purges, disk, shutdown.clone()));
    }
}

/// Why the node ends.
#[derive(Clone, Copy, Debug)]
enum Reason {
    /// Somebody said so.
    Told,
    /// Whoever supervises the process should start another.
    DoorFailed,
}

impl Doors {
    fn bind(config: &Config) -> anyhow::Result<Doors> {
        let bind = |flag, address: Option<SocketAddr>| {
            address.map(|address| listen::bind(flag, address)).transpose()
        };
        Ok(Doors {
            gateway: bind("--gateway", config.gateway)?,
            api: bind("--api", config.api)?,
            resp: bind("--resp", config.resp)?,
            peers: peers::bind(config.links.listen)?,
        })
    }

    /// Starts to serve at each door but that for peers, which is handed back: it opens once what
    /// was saved is read.
    fn open(
        self,
        config: &Config,
        shared: &Shared<'_>,
        tasks: &TaskTracker,
    ) -> anyhow::Result<Option<TcpListener>> {
        let addresses = self.addresses()?;
        if let Some(listener) = self.api {
            let settings = api::ApiSettings {
                handlers: Arc::clone(&shared.kit.handlers),
                proxy: Arc::clone(&shared.kit.proxy),
                purges: Arc::clone(&shared.kit.purges),
                token: config.api_token.clone(),
                addresses,
                shutdown: shared.shutdown.clone(),
            };
            let router = api::router(Arc::clone(shared.node), settings);
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tasks.spawn(listen::serve(listener, router, shared.shutdown.clone()));
        }
        if let Some(listener) = self.gateway {
            let telling = gateway::Telling {
                request_log: config.request_log.as_deref(),
                tracer: shared.tracer.clone(),
            };
            let door = gateway::service(
                shared.node,
                Arc::clone(&shared.kit.handlers),
                Arc::clone(&shared.kit.proxy),
                telling,
            )?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tasks.spawn(listen::serve(listener, door, shared.shutdown.clone()));
        }
        if let Some(listener) = self.resp {
            let resp_config = resp::Config {
                thread_count: usize::from(config.resp_threads),
                clients_max: config.clients_max,
                password: config.resp_password.clone(),
            };
            let threads = resp::serve(
                listener,
                Arc::clone(shared.node),
                resp_config,
                shared.shutdown.clone(),
            )?;
            tasks.spawn(threads.stopped());
        }
        Ok(self.peers)
    }

    fn addresses(&self) -> anyhow::Result<Addresses> {
        let address = |listener: &Option<TcpListener>| {
            listener.as_ref().map(TcpListener::local_addr).transpose()
        };
        Ok(Addresses {
            gateway: address(&self.gateway)?,
            api: address(&self.api)?,
            resp: address(&self.resp)?,
            peers: address(&self.peers)?,
        })
    }
}

impl Addresses {
    fn announce(&self, config: &Config, announce: Announce) {
        let text = match announce {
            Announce::Banner => self.banner(config),
            Announce::Json => {
                let text = |address: Option<SocketAddr>| address.map(|address| address.to_string());
                let line = serde_json::json!({
                    "name": config.name,
                    "gateway": text(self.gateway),
                    "api": text(self.api),
                    "resp": text(self.resp),
                    "peers": text(self.peers),
                });
                line.to_string()
            }
            Announce::Tell(tell) => {
                // Who does not wait any more has ended, and the node ends soon.
                let _ = tell.send(*self);
                return;
            }
        };
        // A node serves its doors, not its output: somebody who closed it does not want to know.
        if let Err(error) = writeln!(std::io::stdout(), "{text}") {
            warn!(%error, "the addresses could not be printed");
        }
    }

    fn peers_line(&self, config: &Config) -> String {
        let configured = config.replication.peers.len();
        let dials = match configured {
            0 => String::new(),
            1 => ", dials 1 peer".to_owned(),
            count => format!(", dials {count} peers"),
        };
        match (self.peers, config.links.listen) {
            (Some(address), _) => format!("{address} (cluster {}{dials})", config.links.cluster),
            (None, Listen::Offered(address)) => {
                format!("off: {address} is taken, --peers-listen says where{dials}")
            }
            (None, _) => format!("off{dials}"),
        }
    }

    fn banner(&self, config: &Config) -> String {
        let door = |address: Option<SocketAddr>, scheme: &str| match address {
            Some(address) => format!("{scheme}{address}"),
            None => "off".to_owned(),
        };
        let memory_mib = config.memory_bytes_max >> 20;
        let data = match &config.disk {
            None => format!("memory only (up to {memory_mib} MiB, nothing on disk)"),
            Some(disk) => format!(
                "data in {} (fsync {}, up to {memory_mib} MiB)",
                disk.directory.display(),
                disk.fsync.as_str()
            ),
        };
        let mut banner = format!(
            "atoll {version} · node {name} · {data}\n\n  \
             gateway  {gateway}\n  API      {api}\n  RESP     {resp}\n  peers    {peers}\n",
            version = env!("CARGO_PKG_VERSION"),
            name = config.name,
            gateway = door(self.gateway, "http://"),
            api = door(self.api, "http://"),
            resp = door(self.resp, "redis://"),
            peers = self.peers_line(config),
        );
        banner += &self.tries(config);
        banner
    }

    /// What to type next, as it works on this machine; a token and a password are left to the
    /// variables that they may have come from.
    fn tries(&self, config: &Config) -> String {
        let mut tries = String::new();
        if let Some(api) = self.api.map(on_this_machine) {
            let token = match config.api_token {
                Some(_) => " -H \"Authorization: Bearer $ATOLL_API_TOKEN\"",
                None => "",
            };
            tries += &format!(
                "\nTry:\n  curl{token} -X PUT http://{api}/v1/kv/default/hello -d world\n  \
                 curl{token} http://{api}/v1/kv/default/hello\n"
            );
        }
        if let Some(resp) = self.resp {
            let password = match config.resp_password {
                Some(_) => "REDISCLI_AUTH=\"$ATOLL_RESP_PASSWORD\" ",
                None => "",
            };
            tries += &format!("  {password}redis-cli -p {} GET hello\n", resp.port());
        }
        tries
    }
}

/// Where a door is found that may be open at every address.
fn on_this_machine(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// The signals that tell the process to stop.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Ends a process that writes past its limit for files, unless it is waited for: the write then
    /// fails, and the journal says so.
    _file_size: Signal,
}

impl Signals {
    /// From here on they are waited for and no longer end the process by themselves.
    pub(crate) fn listen() -> anyhow::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?,
            _file_size: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))
                .context("cannot wait for SIGXFSZ")?,
        })
    }

    /// Completes when one has come since the last time.
    pub(crate) async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Freed memory goes back to the system after a few seconds even where nothing is allocated any
/// more.
fn return_memory_in_the_background() {
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        warn!(%error, "the allocator has no thread to return memory with");
    }
}

/// Ten thousand connections need as many file descriptors; most shells allow 1024 by default.
fn raise_file_limit() {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        warn!(%error, "the limit of open files could not be raised");
    }
}
