//! What a node is told at start: file, environment and flags, merged once and checked once.

mod caching;
mod links;
mod machine;
pub(crate) mod routes;
pub(crate) mod traces;

use crate::cache;
use crate::handlers::code;
use crate::journal::{self, Fsync, OnDiskError};
use crate::peers;
use crate::proxy::settings::RouteSettings;
use crate::replication;
use crate::secrets;
use anyhow::{Context, bail, ensure};
use clap::Args;
use http::uri::Authority;
use serde::Deserialize;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

/// The values as they are written, by flag, variable or file. All optional.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileConfig {
    /// Name of this node, kept across restarts [default: the host's name]
    #[arg(long, env = "ATOLL_NAME")]
    name: Option<String>,
    /// Public HTTP address of the gateway, or "off" [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", env = "ATOLL_GATEWAY")]
    gateway: Option<String>,
    /// Where other nodes reach this node's gateway, as HOST:PORT, for routes with shield = true
    /// [default: --gateway]
    #[arg(long, value_name = "ADDRESS", env = "ATOLL_GATEWAY_ADVERTISE")]
    gateway_advertise: Option<String>,
    /// HTTP address of the API, or "off" [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDRESS", env = "ATOLL_API")]
    api: Option<String>,
    /// Where this node's API is reached from other machines, as HOST:PORT, for commands that ask all
    /// nodes [default: --api]
    #[arg(long, value_name = "ADDRESS", env = "ATOLL_API_ADVERTISE")]
    api_advertise: Option<String>,
    /// Address of the RESP port for Redis clients, or "off" [default: 127.0.0.1:6379]
    #[arg(long, value_name = "ADDRESS", env = "ATOLL_RESP")]
    resp: Option<String>,
    /// Most memory that keys and values may take, e.g. 512MiB or 4GiB; past it writes are refused
    /// [default: 60% of the container's or the machine's memory]
    #[arg(long, value_name = "SIZE", env = "ATOLL_MEMORY_MAX")]
    memory_max: Option<String>,
    /// Directory where this node keeps its data over a restart; without it everything is in memory
    /// only [default: none]
    #[arg(long, value_name = "DIRECTORY", env = "ATOLL_DATA")]
    data: Option<PathBuf>,
    /// When what is written to --data is safe from a failure of the machine: always is before it is
    /// answered, everysec within a second, never when the system sees fit; if only the process dies,
    /// never loses the last tenth of a second and the others nothing that was answered
    /// [default: everysec]
    #[arg(long, value_name = "WHEN", env = "ATOLL_FSYNC")]
    fsync: Option<String>,
    /// What happens to writes while the disk behind --data is full or fails: refuse them, or take
    /// them into memory only until it works again [default: refuse]
    #[arg(long, value_name = "REFUSE|MEMORY", env = "ATOLL_ON_DISK_ERROR")]
    on_disk_error: Option<String>,
    /// Memory for changes that watchers have yet to read, and as much again for those that peers
    /// have, of which little is used while no known node lacks any [default: 64MiB]
    #[arg(long, value_name = "SIZE", env = "ATOLL_LOG_MAX")]
    log_max: Option<String>,
    /// Most connections to the RESP port at once [default: 10240]
    #[arg(long, value_name = "COUNT", env = "ATOLL_CLIENTS_MAX")]
    clients_max: Option<u32>,
    /// Threads of the RESP port [default: 1 on up to 4 cores, else half of them]
    #[arg(long, value_name = "COUNT", env = "ATOLL_RESP_THREADS")]
    resp_threads: Option<u16>,
    /// Threads for HTTP and handlers [default: one for each core]
    #[arg(long, value_name = "COUNT", env = "ATOLL_HTTP_THREADS")]
    http_threads: Option<u16>,
    /// Bearer token that the API asks for; better given by variable or file than by flag
    #[arg(long, value_name = "TOKEN", env = "ATOLL_API_TOKEN", hide_env_values = true)]
    api_token: Option<Secret>,
    /// File that holds the API's token
    #[arg(long, value_name = "FILE", env = "ATOLL_API_TOKEN_FILE")]
    api_token_file: Option<PathBuf>,
    /// Password that the RESP port asks for (AUTH); better given by variable or file than by flag
    #[arg(long, value_name = "PASSWORD", env = "ATOLL_RESP_PASSWORD", hide_env_values = true)]
    resp_password: Option<Secret>,
    /// File that holds the RESP port's password
    #[arg(long, value_name = "FILE", env = "ATOLL_RESP_PASSWORD_FILE")]
    resp_password_file: Option<PathBuf>,
    /// Allow the API, the RESP port and links to peers on addresses other than loopback without
    /// token, password, key or certificate
    #[arg(
        long,
        env = "ATOLL_INSECURE",
        num_args = 0..=1,
        default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new()
    )]
    insecure: Option<bool>,
    /// Another node to link with, as HOST:PORT, or dns:NAME:PORT for every address behind a name;
    /// may be given several times, or as a list with commas in the variable
    #[arg(long = "peer", value_name = "ENDPOINT", env = "ATOLL_PEERS", value_delimiter = ',')]
    peers: Option<Vec<String>>,
    /// Address where other nodes link with this one, or "off"; where the default is taken, the node
    /// goes without [default: 127.0.0.1:7400]
    #[arg(long, value_name = "ADDRESS", env = "ATOLL_PEERS_LISTEN")]
    peers_listen: Option<String>,
    /// Name of the cluster; nodes of others are refused [default: atoll]
    #[arg(long, value_name = "NAME", env = "ATOLL_CLUSTER")]
    cluster: Option<String>,
    /// Key that all nodes of the cluster have and prove to one another, over TLS; better given by
    /// variable or file than by flag
    #[arg(long, value_name = "KEY", env = "ATOLL_CLUSTER_KEY", hide_env_values = true)]
    cluster_key: Option<Secret>,
    /// File that holds the cluster's key, e.g. made with: openssl rand -base64 32
    #[arg(long, value_name = "FILE", env = "ATOLL_CLUSTER_KEY_FILE")]
    cluster_key_file: Option<PathBuf>,
    /// Certificate, as PEM, of who signs the certificates of the cluster's nodes
    #[arg(long, value_name = "FILE", env = "ATOLL_PEER_CA")]
    peer_ca: Option<PathBuf>,
    /// This node's certificate, as PEM; it names the node by the DNS name NAME or by the URI
    /// atoll://CLUSTER/NAME
    #[arg(long, value_name = "FILE", env = "ATOLL_PEER_CERT")]
    peer_cert: Option<PathBuf>,
    /// Private key of --peer-cert, as PEM
    #[arg(long, value_name = "FILE", env = "ATOLL_PEER_KEY")]
    peer_key: Option<PathBuf>,
    /// Compress what goes to peers: on, off, or auto for those more than 5 ms away [default: auto]
    #[arg(long, value_name = "WHEN", env = "ATOLL_LINK_COMPRESSION")]
    link_compression: Option<String>,
    /// How far another node's clock may be ahead before its writes have to wait, in ms
    /// [default: 2000]
    #[arg(long, value_name = "MS", env = "ATOLL_MAX_SKEW_MS")]
    max_skew_ms: Option<u64>,
    /// What this node is to others: master takes reads and writes, replica follows masters or other
    /// replicas and refuses writes [default: master]
    #[arg(long, value_name = "ROLE", env = "ATOLL_ROLE")]
    role: Option<String>,
    /// Answer while fewer than half of the configured peers can be reached: yes, or no to refuse
    /// reads and writes until this node is back with a majority [default: yes]
    #[arg(long, value_name = "YES|NO", env = "ATOLL_SERVE_STALE")]
    serve_stale: Option<String>,
    /// Memory for cached HTTP responses, beside that for keys; 0 stores none
    /// [default: an eighth of --memory-max]
    #[arg(long, value_name = "SIZE", env = "ATOLL_CACHE_MEMORY")]
    cache_memory: Option<String>,
    /// Memory for bodies that are coming and may be stored, all together; past it they are handed on
    /// and not stored [default: a quarter of --cache-memory, 32MiB at least]
    #[arg(long, value_name = "SIZE", env = "ATOLL_CACHE_FILL_MEMORY")]
    cache_fill_memory: Option<String>,
    /// Memory, out of --memory-max, for responses of routes with replicate = true, which all nodes
    /// keep for one another [default: an eighth of --memory-max]
    #[arg(long, value_name = "SIZE", env = "ATOLL_CACHE_REPLICATED")]
    cache_replicated: Option<String>,
    /// Room in --data for cached HTTP responses, which a restart keeps; off keeps none there
    /// [default: 10GiB, or a quarter of the file system where that is less]
    #[arg(long, value_name = "SIZE", env = "ATOLL_CACHE_DISK")]
    cache_disk: Option<String>,
    /// File to which a line of JSON is added for each request at the gateway; - for stdout
    /// [default: none]
    #[arg(long, value_name = "FILE", env = "ATOLL_REQUEST_LOG")]
    request_log: Option<PathBuf>,
    /// Directory where compiled handlers are kept, so that a restart does not compile them again, or
    /// "off" [default: compiled in --data, off without]
    #[arg(long, value_name = "DIRECTORY", env = "ATOLL_CODE_CACHE")]
    code_cache: Option<PathBuf>,
    /// What the compiled handlers may take on disk; what was used longest ago goes first
    /// [default: 1GiB]
    #[arg(long, value_name = "SIZE", env = "ATOLL_CODE_CACHE_MAX")]
    code_cache_max: Option<String>,
    /// File with the key that secrets of handlers are encrypted with, the same on all nodes
    /// [default: the cluster's key]
    #[arg(long, value_name = "FILE", env = "ATOLL_SECRETS_KEY_FILE")]
    secrets_key_file: Option<PathBuf>,
    /// Routes to upstreams; only in the file.
    #[arg(skip)]
    #[serde(default)]
    route: Vec<routes::FileRoute>,
    /// Collector of traces that takes OTLP over HTTP, e.g. http://localhost:4318, or "off"
    /// [default: OTEL_EXPORTER_OTLP_ENDPOINT, else none]
    #[arg(long, value_name = "URL", env = "ATOLL_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
    /// Headers for the collector, as NAME=VALUE,NAME=VALUE; better given by variable or file
    /// [default: OTEL_EXPORTER_OTLP_HEADERS]
    #[arg(long, value_name = "HEADERS", env = "ATOLL_OTLP_HEADERS", hide_env_values = true)]
    otlp_headers: Option<Secret>,
    /// Name of this service in traces [default: OTEL_SERVICE_NAME, else atoll]
    #[arg(long, value_name = "NAME", env = "ATOLL_SERVICE_NAME")]
    service_name: Option<String>,
    /// Which requests are traced: a name as OTEL_TRACES_SAMPLER has them [default: that, else
    /// parentbased_always_on: what a caller says of its trace, and all that name none]
    #[arg(long, value_name = "NAME", env = "ATOLL_TRACE_SAMPLER")]
    trace_sampler: Option<String>,
    /// Share of the traces that begin here, from 0 to 1, for samplers that end in traceidratio
    /// [default: OTEL_TRACES_SAMPLER_ARG, else 1]
    #[arg(long, value_name = "SHARE", env = "ATOLL_TRACE_RATIO")]
    trace_ratio: Option<f64>,
    /// Longest wait for requests in flight when the node is told to stop, in ms [default: 10000]
    #[arg(long, value_name = "MS", env = "ATOLL_DRAIN_MS")]
    drain_ms: Option<u64>,
    /// What is logged: error, warn, info, debug, trace, or a filter by module [default: info]
    #[arg(long, value_name = "FILTER", env = "ATOLL_LOG")]
    log: Option<String>,
    /// How it is logged: text or json [default: text]
    #[arg(long, value_name = "FORMAT", env = "ATOLL_LOG_FORMAT")]
    log_format: Option<String>,
}

/// What a node runs with. Every value has been checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Name of this node.
    pub(crate) name: String,
    /// Addresses of the doors; `None` is a door that stays shut.
    pub(crate) gateway: Option<SocketAddr>,
    /// Where other nodes reach the gateway, where that is not its own address.
    pub(crate) gateway_advertised: Option<Authority>,
    pub(crate) api: Option<SocketAddr>,
    /// Where others reach the API, where that is not its own address.
    pub(crate) api_advertised: Option<Authority>,
    pub(crate) resp: Option<SocketAddr>,
    /// Budget of the store, in bytes.
    pub(crate) memory_bytes_max: usize,
    /// Budget of the op log, in bytes.
    pub(crate) log_bytes_max: usize,
    /// Where data is kept; `None` is nowhere.
    pub(crate) disk: Option<journal::Settings>,
    /// Most RESP connections at once.
    pub(crate) clients_max: u32,
    /// Threads of the RESP port, at least 1.
    pub(crate) resp_threads: u16,
    /// Threads for HTTP and handlers, at least 1.
    pub(crate) http_threads: u16,
    /// Asked for by the API, where given.
    pub(crate) api_token: Option<Secret>,
    /// Asked for by the RESP port, where given.
    pub(crate) resp_password: Option<Secret>,
    /// Whom to link with, and as what.
    pub(crate) replication: replication::Settings,
    /// How.
    pub(crate) links: peers::settings::Settings,
    /// Budget of the HTTP cache, in bytes.
    pub(crate) cache_bytes_max: usize,
    /// Budget of bodies that are coming, in bytes.
    pub(crate) fill_bytes_max: usize,
    /// What responses that nodes share may take of the store's memory, in bytes.
    pub(crate) replicated_bytes_max: usize,
    /// Where cached responses are kept on disk; `None` is nowhere.
    pub(crate) cache_disk: Option<cache::disk::Settings>,
    /// Where requests at the gateway are told of.
    pub(crate) request_log: Option<PathBuf>,
    /// Who is told of what becomes of requests.
    pub(crate) traces: traces::Traces,
    /// Where compiled handlers are kept; `None` is nowhere.
    pub(crate) code_cache: Option<code::Settings>,
    /// What secrets of handlers are encrypted with.
    pub(crate) secrets: secrets::Settings,
    /// Routes to upstreams.
    pub(crate) routes: Vec<RouteSettings>,
    /// Longest wait for requests in flight at the end, in ms.
    pub(crate) drain_ms: u64,
    /// What is logged, and how.
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For collectors: one JSON object a line.
    Json,
}

/// Text that never shows in a log.
#[derive(Clone, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    /// The text itself: for a comparison, not for a message.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Secret, Self::Err> {
        Ok(Secret(text.to_owned()))
    }
}

impl FileConfig {
    /// Reads a configuration file.
    pub(crate) fn read(path: &Path) -> anyhow::Result<FileConfig> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not as expected", path.display()))
    }

    /// These values where given, and those of `below` elsewhere.
    pub(crate) fn over(self, below: FileConfig) -> FileConfig {
        let (api_token, api_token_file) =
            pair((self.api_token, self.api_token_file), (below.api_token, below.api_token_file));
        let (resp_password, resp_password_file) = pair(
            (self.resp_password, self.resp_password_file),
            (below.resp_password, below.resp_password_file),
        );
        let (cluster_key, cluster_key_file) = pair(
            (self.cluster_key, self.cluster_key_file),
            (below.cluster_key, below.cluster_key_file),
        );
        FileConfig {
            name: self.name.or(below.name),
            gateway: self.gateway.or(below.gateway),
            gateway_advertise: self.gateway_advertise.or(below.gateway_advertise),
            api: self.api.or(below.api),
            api_advertise: self.api_advertise.or(below.api_advertise),
            resp: self.resp.or(below.resp),
            memory_max: self.memory_max.or(below.memory_max),
            data: self.data.or(below.data),
            fsync: self.fsync.or(below.fsync),
            on_disk_error: self.on_disk_error.or(below.on_disk_error),
            log_max: self.log_max.or(below.log_max),
            clients_max: self.clients_max.or(below.clients_max),
            resp_threads: self.resp_threads.or(below.resp_threads),
            http_threads: self.http_threads.or(below.http_threads),
            api_token,
            api_token_file,
            resp_password,
            resp_password_file,
            insecure: self.insecure.or(below.insecure),
            peers: self.peers.or(below.peers),
            peers_listen: self.peers_listen.or(below.peers_listen),
            cluster: self.cluster.or(below.cluster),
            cluster_key,
            cluster_key_file,
            peer_ca: self.peer_ca.or(below.peer_ca),
            peer_cert: self.peer_cert.or(below.peer_cert),
            peer_key: self.peer_key.or(below.peer_key),
            link_compression: self.link_compression.or(below.link_compression),
            max_skew_ms: self.max_skew_ms.or(below.max_skew_ms),
            role: self.role.or(below.role),
            serve_stale: self.serve_stale.or(below.serve_stale),
            cache_memory: self.cache_memory.or(below.cache_memory),
            cache_fill_memory: self.cache_fill_memory.or(below.cache_fill_memory),
            cache_replicated: self.cache_replicated.or(below.cache_replicated),
            cache_disk: self.cache_disk.or(below.cache_disk),
            request_log: self.request_log.or(below.request_log),
            code_cache: self.code_cache.or(below.code_cache),
            code_cache_max: self.code_cache_max.or(below.code_cache_max),
            secrets_key_file: self.secrets_key_file.or(below.secrets_key_file),
            route: if self.route.is_empty() { below.route } else { self.route },
            otlp_endpoint: self.otlp_endpoint.or(below.otlp_endpoint),
            otlp_headers: self.otlp_headers.or(below.otlp_headers),
            service_name: self.service_name.or(below.service_name),
            trace_sampler: self.trace_sampler.or(below.trace_sampler),
            trace_ratio: self.trace_ratio.or(below.trace_ratio),
            drain_ms: self.drain_ms.or(below.drain_ms),
            log: self.log.or(below.log),
            log_format: self.log_format.or(below.log_format),
        }
    }
}

/// A secret, given itself or as the file that holds it.
type SecretPair = (Option<Secret>, Option<PathBuf>);

/// `above` where it gives the secret in either way: the other way below is overruled too.
fn pair(above: SecretPair, below: SecretPair) -> SecretPair {
    if above.0.is_some() || above.1.is_some() { above } else { below }
}

impl Config {
    /// Checks the values and fills in the defaults.
    pub(crate) fn resolve(values: FileConfig) -> anyhow::Result<Config> {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let resp_threads = if cores <= 4 { 1 } else { cores / 2 };
        let memory_bytes_max = match &values.memory_max {
            Some(text) => parse_size(text).context("--memory-max")?,
            None => machine::memory_limit_bytes() / 10 * 6,
        };
        let log_format = match values.log_format.as_deref() {
            None | Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => bail!("--log-format is {other:?}; write text or json"),
        };
        let disk = disk(&values)?;
        let log_bytes_max = match &values.log_max {
            Some(text) => parse_size(text).context("--log-max")?,
            None => 64 << 20,
        };
        let links = links::resolve(&values, log_bytes_max)?;
        let replication = links::replication(&values)?;
        let cache_bytes_max = match &values.cache_memory {
            Some(text) => parse_size(text).context("--cache-memory")?,
            None => memory_bytes_max / 8,
        };
        let code_cache = code_cache(&values)?;
        let secrets = links::secrets(&values, &links)?;
        let fill_bytes_max = caching::fill_bytes_max(&values, cache_bytes_max)?;
        let replicated_bytes_max = caching::replicated_bytes_max(&values, memory_bytes_max)?;
        let cache_disk = caching::disk(&values)?;
        let object_bytes_max = caching::object_bytes_default(cache_disk.as_ref());
        let routes = routes::resolve(&values.route, object_bytes_max)?;
        let gateway_advertised =
            advertised("--gateway-advertise", values.gateway_advertise.as_deref())?;
        let api_advertised = advertised("--api-advertise", values.api_advertise.as_deref())?;
        let name = values.name.clone().unwrap_or_else(machine::host_name);
        let traces = traces::resolve(&values, &name, traces::Variables::of_process())?;
        let config = Config {
            name,
            gateway: address("--gateway", values.gateway.as_deref(), "127.0.0.1:8080")?,
            gateway_advertised,
            api: address("--api", values.api.as_deref(), "127.0.0.1:8081")?,
            api_advertised,
            resp: address("--resp", values.resp.as_deref(), "127.0.0.1:6379")?,
            memory_bytes_max,
            log_bytes_max,
            disk,
            clients_max: values.clients_max.unwrap_or(10_240),
            resp_threads: values.resp_threads.unwrap_or(resp_threads.min(64) as u16),
            http_threads: values.http_threads.unwrap_or(cores.min(256) as u16),
            api_token: secret("--api-token", values.api_token, values.api_token_file)?,
            resp_password: secret(
                "--resp-password",
                values.resp_password,
                values.resp_password_file,
            )?,
            replication,
            links,
            cache_bytes_max,
            fill_bytes_max,
            replicated_bytes_max,
            cache_disk,
            request_log: values.request_log,
            traces,
            code_cache,
            secrets,
            routes,
            drain_ms: values.drain_ms.unwrap_or(10_000),
            log: values.log.unwrap_or_else(|| "info".to_owned()),
            log_format,
        };
        config.check(values.insecure.unwrap_or(false))?;
        Ok(config)
    }

    fn check(&self, insecure: bool) -> anyhow::Result<()> {
        ensure!(self.resp_threads > 0, "--resp-threads is 0; write 1 or more");
        ensure!(self.http_threads > 0, "--http-threads is 0; write 1 or more");
        let doors = [self.gateway, self.api, self.resp];
        ensure!(doors.iter().any(Option::is_some), "every door is off; leave one open");
        ensure!(self.memory_bytes_max > 0, "--memory-max is 0; write e.g. 512MiB");
        ensure!(self.clients_max > 0, "--clients-max is 0; write 1 or more, or --resp off");
        let name_fits =
            (1..=128).contains(&self.name.len()) && self.name.bytes().all(|b| b.is_ascii_graphic());
        ensure!(name_fits, "--name has 1 to 128 visible ASCII characters and no spaces");
        links::check(&self.links, &self.replication.peers)?;
        caching::check_shield(&self.routes, self.gateway, self.gateway_advertised.as_ref())?;
        if insecure {
            return Ok(());
        }
        if let (Some(api), None) = (exposed(self.api), &self.api_token) {
            bail!(
                "--api {api} can be reached from outside and asks for no token; \
                 set ATOLL_API_TOKEN, or write --insecure if the network is trusted"
            );
        }
        if let (Some(resp), None) = (exposed(self.resp), &self.resp_password) {
            bail!(
                "--resp {resp} can be reached from outside and asks for no password; \
                 set ATOLL_RESP_PASSWORD, or write --insecure if the network is trusted"
            );
        }
        Ok(())
    }
}

/// What is said about the disk.
fn disk(values: &FileConfig) -> anyhow::Result<Option<journal::Settings>> {
    let fsync = match values.fsync.as_deref() {
        Some("always") => Fsync::Always,
        None | Some("everysec") => Fsync::EverySecond,
        Some("never") => Fsync::Never,
        Some(other) => bail!("--fsync is {other:?}; write always, everysec or never"),
    };
    let on_error = match values.on_disk_error.as_deref() {
        None | Some("refuse") => OnDiskError::Refuse,
        Some("memory") => OnDiskError::Memory,
        Some(other) => bail!("--on-disk-error is {other:?}; write refuse or memory"),
    };
    let Some(directory) = values.data.clone() else {
        let is_said = values.fsync.is_some() || values.on_disk_error.is_some();
        ensure!(!is_said, "--fsync and --on-disk-error are about a disk; name one with --data");
        return Ok(None);
    };
    ensure!(
        !directory.as_os_str().is_empty(),
        "--data is empty; name a directory, or leave it out"
    );
    Ok(Some(journal::Settings { directory, fsync, on_error }))
}

/// What is said about compiled handlers.
fn code_cache(values: &FileConfig) -> anyhow::Result<Option<code::Settings>> {
    let bytes_max = match &values.code_cache_max {
        Some(text) => parse_size(text).context("--code-cache-max")?,
        None => 1 << 30,
    };
    let directory = match &values.code_cache {
        Some(given) => Some(given.clone()).filter(|given| given != Path::new("off")),
        None => values.data.as_ref().map(|data| data.join("compiled")),
    };
    let is_empty = directory.as_ref().is_some_and(|directory| directory.as_os_str().is_empty());
    ensure!(!is_empty, "--code-cache is empty; name a directory, or write off");
    Ok(directory.map(|directory| code::Settings { directory, bytes_max: bytes_max as u64 }))
}

/// The address, if others than this machine can reach it.
fn exposed(address: Option<SocketAddr>) -> Option<SocketAddr> {
    address.filter(|address| !address.ip().is_loopback())
}

/// The address behind `text`: `HOST:PORT`, or `off`.
fn address(flag: &str, text: Option<&str>, default: &str) -> anyhow::Result<Option<SocketAddr>> {
    let text = text.unwrap_or(default);
    if text == "off" {
        return Ok(None);
    }
    let mut resolved = text
        .to_socket_addrs()
        .with_context(|| format!("{flag} {text:?} is no address; write HOST:PORT, or off"))?;
    let first = resolved.next();
    Ok(Some(first.with_context(|| format!("{flag} {text:?} resolves to no address"))?))
}

/// Where others reach a door, where that is said.
fn advertised(flag: &str, text: Option<&str>) -> anyhow::Result<Option<Authority>> {
    let Some(text) = text else { return Ok(None) };
    let authority: Option<Authority> = text.parse().ok();
    let authority = authority.filter(|name| name.port_u16().is_some() && !text.contains('@'));
    let authority =
        authority.with_context(|| format!("{flag} {text:?} is no address; write HOST:PORT"))?;
    Ok(Some(authority))
}

/// The secret itself, or the first line of the file that holds it.
fn secret(
    flag: &str,
    given: Option<Secret>,
    file: Option<PathBuf>,
) -> anyhow::Result<Option<Secret>> {
    let secret = match (given, file) {
        (Some(_), Some(_)) => bail!("{flag} and {flag}-file are both given; choose one"),
        (Some(secret), None) => secret,
        (None, None) => return Ok(None),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {flag}-file {}", path.display()))?;
            Secret(text.lines().next().unwrap_or_default().trim().to_owned())
        }
    };
    ensure!(!secret.0.is_empty(), "{flag} is empty; leave it out to ask for none");
    Ok(Some(secret))
}

/// Bytes from text such as `1048576`, `512MiB` or `4GB`.
fn parse_size(text: &str) -> anyhow::Result<usize> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor: usize = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => bail!("{text:?} is no size; write a number and B, KiB, MiB or GiB"),
    };
    let number: Option<usize> = digits.parse().ok();
    number
        .and_then(|number| number.checked_mul(factor))
        .with_context(|| format!("{text:?} is no size; write a number and B, KiB, MiB or GiB"))
}

#[cfg(test)]
mod tests;
