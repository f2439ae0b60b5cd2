//! The servers that are measured: started on free ports, stopped at the end.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use crate::resp_client;

/// Longer than any of them takes to start, even on a busy machine.
const START_WAIT_MAX: Duration = Duration::from_secs(20);
/// Longer than `wasmtime serve` takes to compile an interpreter first.
const COMPILE_WAIT_MAX: Duration = Duration::from_secs(300);
/// Longer than a server without work takes to end.
const STOP_WAIT_MAX: Duration = Duration::from_secs(10);
/// How often a condition is looked at.
const POLL_EVERY: Duration = Duration::from_millis(20);

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Its configuration, its files and what it wrote to standard error.
    folder: TempDir,
}

/// Which of the peers a run needs.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    pub(crate) redis: bool,
    pub(crate) nginx: bool,
    pub(crate) varnish: bool,
    pub(crate) wrk: bool,
}

/// Where a node listens.
#[derive(Debug)]
pub(crate) struct Doors {
    pub(crate) gateway: SocketAddr,
    pub(crate) api: SocketAddr,
    pub(crate) resp: SocketAddr,
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn spawn(mut command: Command, folder: TempDir) -> anyhow::Result<Self> {
        let log = fs::File::create(folder.path().join("stderr"))?;
        command.stdin(Stdio::null()).stderr(log);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("starting {program}"))?;
        Ok(Self { child, folder })
    }

    /// Waits until `ready` says so.
    pub(crate) fn wait_until(&mut self, ready: impl Fn() -> bool) -> anyhow::Result<()> {
        self.wait_within(START_WAIT_MAX, ready)
    }

    fn wait_within(&mut self, wait: Duration, ready: impl Fn() -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + wait;
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended at once ({status}): {}", self.complaint());
            }
            ensure!(Instant::now() < deadline, "it does not answer: {}", self.complaint());
            thread::sleep(POLL_EVERY);
        }
        Ok(())
    }

    /// What the server wrote to standard error.
    fn complaint(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default();
        text.trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked to end rather than killed: only nginx's master can end its workers.
        let pid = self.pid().to_string();
        let asked = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status();
        let deadline = Instant::now() + STOP_WAIT_MAX;
        while asked.is_ok() && Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            thread::sleep(POLL_EVERY);
        }
        // Nothing is left to do where even this fails: the run is over.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Says in one line what to install, if a peer is missing.
///
/// # Errors
/// If one is.
pub(crate) fn require_peers(peers: &Peers) -> anyhow::Result<()> {
    let mut programs = Vec::new();
    if peers.redis {
        programs.extend(["redis-server", "redis-benchmark"]);
    }
    if peers.nginx {
        programs.push("nginx");
    }
    if peers.varnish {
        programs.push("varnishd");
    }
    if peers.wrk {
        programs.push("wrk");
    }
    for program in programs {
        if Command::new(program).arg("-v").output().is_err() {
            let all = "redis-server redis-tools nginx-light varnish wrk";
            bail!("{program} is missing; Debian's packages are: apt-get install {all}");
        }
    }
    Ok(())
}

/// `Redis server v=7.0.15 …` as `redis-server 7.0.15`.
pub(crate) fn redis_version() -> String {
    let text = printed_by("redis-server", "--version");
    let version = text.split_ascii_whitespace().find_map(|word| word.strip_prefix("v="));
    format!("redis-server {}", version.unwrap_or("missing"))
}

/// `nginx version: nginx/1.22.1` as `nginx 1.22.1`.
pub(crate) fn nginx_version() -> String {
    let text = printed_by("nginx", "-v");
    let version = text.split_ascii_whitespace().find_map(|word| word.strip_prefix("nginx/"));
    format!("nginx {}", version.unwrap_or("missing"))
}

/// `varnishd (varnish-7.1.1 revision …)` as `Varnish 7.1.1`.
pub(crate) fn varnish_version() -> String {
    let text = printed_by("varnishd", "-V");
    let version = text.split_ascii_whitespace().find_map(|word| word.strip_prefix("(varnish-"));
    format!("Varnish {}", version.unwrap_or("missing"))
}

fn printed_by(program: impl AsRef<OsStr>, argument: &str) -> String {
    let Ok(output) = Command::new(program).arg(argument).output() else { return String::new() };
    let both = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Builds the node as it is shipped, and returns the path of the binary.
///
/// # Errors
/// If it does not compile.
pub(crate) fn build_atoll() -> anyhow::Result<PathBuf> {
    eprintln!("building target/release/atoll");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(["build", "--release", "--quiet", "--package", "atoll-node"]).current_dir(&root);
    let status = command.stdin(Stdio::null()).status().context("cargo")?;
    ensure!(status.success(), "atoll does not compile");
    // Cargo takes a relative target folder from where it is run, which is the root here.
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Ok(root.join(target).join("release/atoll"))
}

/// Starts redis-server without persistence, as a cache is run.
///
/// # Errors
/// If it does not answer within 20 s.
pub(crate) fn start_redis() -> anyhow::Result<(Server, SocketAddr)> {
    let address = free_address()?;
    let folder = tempfile::tempdir()?;
    let mut command = Command::new("redis-server");
    command.args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()]);
    command.args([
        "--save",
        "",
        "--appendonly",
        "no",
        "--daemonize",
        "no",
        "--loglevel",
        "warning",
    ]);
    command.arg("--dir").arg(folder.path()).stdout(Stdio::null());
    let mut server = Server::spawn(command, folder)?;
    server.wait_until(|| resp_client::answers(address)).context("redis-server")?;
    Ok((server, address))
}

/// Starts nginx with one static file, `/file`, of `body_bytes` bytes.
///
/// # Errors
/// If it does not answer within 20 s.
pub(crate) fn start_nginx(body_bytes: usize) -> anyhow::Result<(Server, SocketAddr)> {
    let address = free_address()?;
    let folder = tempfile::tempdir()?;
    // The workers run as somebody else when the master runs as root.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    fs::write(folder.path().join("file"), vec![b'x'; body_bytes])?;
    let configuration = folder.path().join("nginx.conf");
    fs::write(&configuration, nginx_configuration(folder.path(), address))?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder.path()).arg("-c").arg(&configuration).stdout(Stdio::null());
    let mut server = Server::spawn(command, folder)?;
    server.wait_until(|| TcpStream::connect(address).is_ok()).context("nginx")?;
    Ok((server, address))
}

/// A static file, with open files cached.
fn nginx_configuration(folder: &Path, address: SocketAddr) -> String {
    let root = folder.display();
    let http =
        format!("    open_file_cache max=100;\n    server {{ listen {address}; root {root}; }}\n");
    nginx_tuned(folder, &http)
}

/// As fast as nginx is commonly tuned: no access log, a worker for each core, connections never
/// closed.
pub(crate) fn nginx_tuned(folder: &Path, http: &str) -> String {
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("    {name}_temp_path {folder}/{name};\n"))
        .collect();
    format!(
        "daemon off;\n\
         worker_processes auto;\n\
         error_log stderr warn;\n\
         pid {folder}/pid;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
         {temporary}\
         \x20   access_log off;\n\
         \x20   sendfile on;\n\
         \x20   tcp_nopush on;\n\
         \x20   keepalive_requests 1000000000;\n\
         {http}\
         }}\n"
    )
}

/// Starts a node in memory, on ports that it chooses itself.
///
/// # Errors
/// If it does not say that it is ready.
pub(crate) fn start_atoll(binary: &Path) -> anyhow::Result<(Server, Doors)> {
    start_atoll_with(binary, &[])
}

/// The same, with more flags; where it listens for peers is one of them.
///
/// # Errors
/// If it does not say that it is ready.
pub(crate) fn start_atoll_with(binary: &Path, flags: &[String]) -> anyhow::Result<(Server, Doors)> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(binary);
    command.args(["serve", "--ready-json", "--gateway", "127.0.0.1:0"]);
    command.args(["--api", "127.0.0.1:0", "--resp", "127.0.0.1:0"]);
    command.args(flags);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ATOLL_") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder.path()).stdout(Stdio::piped());
    let mut server = Server::spawn(command, folder).context("atoll")?;
    let stdout = server.child.stdout.take().context("atoll has no standard output")?;
    let mut lines = BufReader::new(stdout).lines();
    // The node says it once, or ends; either way this read ends.
    let line = lines.next().transpose()?.unwrap_or_default();
    // Whatever else it prints is read away, so that it never waits for us.
    thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    let doors = parse_ready(&line)
        .with_context(|| format!("atoll does not say where it listens: {}", server.complaint()))?;
    server.wait_until(|| resp_client::answers(doors.resp)).context("atoll")?;
    Ok((server, doors))
}

/// Puts a component live as the handler of everything below its name.
///
/// # Errors
/// If the node refuses it.
pub(crate) fn deploy(
    atoll: &Path,
    api: SocketAddr,
    (name, component): (&str, &Path),
    arguments: &[&str],
) -> anyhow::Result<()> {
    let mut command = Command::new(atoll);
    command.arg("deploy").arg(component).args(["--name", name]);
    command.args(["--route", &format!("/{name}/*"), "--api", &api.to_string()]).args(arguments);
    let output = command.stdin(Stdio::null()).output().context("atoll deploy")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "atoll deploy: {}", errors.trim());
    Ok(())
}

/// Starts `wasmtime serve` with a component; `reuse` says how its instances are used.
///
/// # Errors
/// If it does not answer in time; it compiles first.
pub(crate) fn start_wasmtime(
    wasmtime: &Path,
    component: &Path,
    reuse: &[&str],
) -> anyhow::Result<(Server, SocketAddr)> {
    let address = free_address()?;
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(wasmtime);
    // What these components import beside HTTP, and memory that an interpreter needs.
    command.args(["serve", "-Scli,keyvalue,config", "-Opooling-max-memory-size=134217728"]);
    command.args(["--addr", &address.to_string()]);
    command.args(reuse).arg(component).stdout(Stdio::null());
    let mut server = Server::spawn(command, folder)?;
    let is_up = || TcpStream::connect(address).is_ok();
    server.wait_within(COMPILE_WAIT_MAX, is_up).context("wasmtime serve")?;
    Ok((server, address))
}

/// `wasmtime 48.0.2 (e9f1ea232 2026-09-10)`.
pub(crate) fn wasmtime_version(wasmtime: &Path) -> String {
    printed_by(wasmtime, "--version").trim().to_owned()
}

/// Starts `workerd` with a worker that says hello.
///
/// # Errors
/// If it does not answer in time.
pub(crate) fn start_workerd(workerd: &Path) -> anyhow::Result<(Server, SocketAddr)> {
    let address = free_address()?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("hello.capnp");
    fs::write(&config, HELLO_CAPNP.replace("ADDRESS", &address.to_string()))?;
    let mut command = Command::new(workerd);
    command.arg("serve").arg(&config).stdout(Stdio::null());
    let mut server = Server::spawn(command, folder)?;
    let is_up = || TcpStream::connect(address).is_ok();
    server.wait_within(COMPILE_WAIT_MAX, is_up).context("workerd serve")?;
    Ok((server, address))
}

/// The least that `workerd` serves.
const HELLO_CAPNP: &str = r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "hello", worker = (
    compatibilityDate = "2026-01-01",
    modules = [(name = "hello.mjs", esModule =
      "export default { fetch() { return new Response('Hello, world!\\n'); } };")],
  ))],
  sockets = [(name = "http", address = "ADDRESS", http = (), service = "hello")],
);
"#;

/// `workerd 2026-11-17`.
pub(crate) fn workerd_version(workerd: &Path) -> String {
    printed_by(workerd, "--version").trim().to_owned()
}

fn parse_ready(line: &str) -> anyhow::Result<Doors> {
    let ready: serde_json::Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
    let address = |door: &str| -> anyhow::Result<SocketAddr> {
        let text = ready.get(door).and_then(serde_json::Value::as_str);
        let text = text.with_context(|| format!("no address of {door} in {line}"))?;
        text.parse().with_context(|| format!("address of {door}: {text:?}"))
    };
    Ok(Doors { gateway: address("gateway")?, api: address("api")?, resp: address("resp")? })
}

/// A port that was free a moment ago.
///
/// # Errors
/// If there is none.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_a_node_are_read() {
        let line = r#"{"gateway":"127.0.0.1:1","api":"127.0.0.1:2","resp":"[::1]:3","name":"x"}"#;
        let doors = parse_ready(line).unwrap();
        assert_eq!(doors.gateway.port(), 1);
        assert_eq!(doors.api.port(), 2);
        assert_eq!(doors.resp, "[::1]:3".parse().unwrap());
    }

    #[test]
    fn a_node_that_says_something_else_is_an_error() {
        for line in
            ["", "ready", r#"{"gateway":"127.0.0.1:1"}"#, r#"{"gateway":1,"api":2,"resp":3}"#]
        {
            assert!(parse_ready(line).is_err(), "{line}");
        }
    }
}
