//! The caches that are measured, in front of the same upstream.

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;

use crate::cache::Contestant;
use crate::server::{self, Server};

/// What each may keep: more than the bodies take.
const CACHE_MIB: u32 = 256;

/// Where a node keeps what is cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    Memory,
    /// Long bodies in files, as nginx has them.
    Disk,
}

/// A node with one route.
///
/// # Errors
/// If it does not start.
pub(crate) fn atoll(
    binary: &Path,
    upstream: SocketAddr,
    storage: Storage,
) -> anyhow::Result<Contestant> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("atoll.toml");
    let route =
        format!("[[route]]\npath = \"/*\"\nupstream = \"http://{upstream}\"\ncache = true\n");
    fs::write(&file, route)?;
    let mut flags = vec![
        "--config".to_owned(),
        file.to_string_lossy().into_owned(),
        "--cache-memory".to_owned(),
        format!("{CACHE_MIB}MiB"),
    ];
    let mut name = "atoll";
    if storage == Storage::Disk {
        // Below the folder that the server works in.
        flags.extend(["--data".to_owned(), "data".to_owned()]);
        name = "atoll with a disk tier";
    }
    let (server, doors) = server::start_atoll_with(binary, &flags)?;
    Ok(Contestant { name: name.to_owned(), server, address: doors.gateway })
}

/// nginx with two workers, its cache in files that the kernel keeps in memory.
///
/// # Errors
/// If it does not answer within 20 s.
pub(crate) fn nginx(upstream: SocketAddr) -> anyhow::Result<Contestant> {
    let address = server::free_address()?;
    let folder = tempfile::tempdir()?;
    // The workers run as somebody else when the master runs as root.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    let configuration = folder.path().join("nginx.conf");
    // With tcp_nopush the end of a body of 100 KiB waits for 40 ms on loopback.
    let http = format!(
        "    proxy_cache_path {root}/cache levels=1:2 keys_zone=c:10m max_size={CACHE_MIB}m;\n\
         \x20   server {{ listen {address}; tcp_nopush off; location / {{\n\
         \x20       proxy_pass http://{upstream}; proxy_cache c;\n\
         \x20   }} }}\n",
        root = folder.path().display()
    );
    fs::write(&configuration, server::nginx_tuned(folder.path(), &http))?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder.path()).arg("-c").arg(&configuration).stdout(Stdio::null());
    let name = format!("{} proxy_cache", server::nginx_version());
    start(name, command, folder, address)
}

/// Varnish with its storage in memory, and threads in two pools.
///
/// # Errors
/// If it does not answer within 20 s.
pub(crate) fn varnish(upstream: SocketAddr) -> anyhow::Result<Contestant> {
    let address = server::free_address()?;
    let folder = tempfile::tempdir()?;
    let mut command = Command::new("varnishd");
    command.args(["-F", "-j", "none", "-a", &address.to_string(), "-b", &upstream.to_string()]);
    command.args(["-s", &format!("malloc,{CACHE_MIB}m"), "-p", "thread_pools=2", "-n"]);
    command.arg(folder.path().join("work")).stdout(Stdio::null());
    start(server::varnish_version(), command, folder, address)
}

fn start(
    name: String,
    command: Command,
    folder: tempfile::TempDir,
    address: SocketAddr,
) -> anyhow::Result<Contestant> {
    let mut server = Server::spawn(command, folder)?;
    server.wait_until(|| TcpStream::connect(address).is_ok()).with_context(|| name.clone())?;
    Ok(Contestant { name, server, address })
}
