//! What is said about the HTTP cache beside its routes: its disk, and who may shield it.

use super::{FileConfig, parse_size};
use crate::cache::{disk, fill_bytes_default, limits};
use crate::proxy::settings::RouteSettings;
use anyhow::{Context, bail, ensure};
use http::uri::Authority;
use std::net::SocketAddr;

/// Less room than this is no use, in bytes: one response may take an eighth.
const CACHE_DISK_BYTES_MIN: u64 = 8 << 20;

/// What is said about cached responses on disk. Routes and handlers that are cached may come later.
pub(super) fn disk(values: &FileConfig) -> anyhow::Result<Option<disk::Settings>> {
    let bytes_max = match values.cache_disk.as_deref() {
        None => None,
        Some("off" | "0") => return Ok(None),
        Some(text) => Some(parse_size(text).context("--cache-disk")? as u64),
    };
    let Some(data) = values.data.clone() else {
        ensure!(bytes_max.is_none(), "--cache-disk is about a disk; name one with --data");
        return Ok(None);
    };
    let is_enough = bytes_max.is_none_or(|bytes| bytes >= CACHE_DISK_BYTES_MIN);
    ensure!(is_enough, "--cache-disk is 8MiB or more, or off");
    Ok(Some(disk::Settings { data, bytes_max }))
}

/// What bodies that are coming may take of memory together, in bytes.
pub(super) fn fill_bytes_max(values: &FileConfig, cache_bytes_max: usize) -> anyhow::Result<usize> {
    match &values.cache_fill_memory {
        Some(text) => parse_size(text).context("--cache-fill-memory"),
        None => Ok(fill_bytes_default(cache_bytes_max)),
    }
}

/// What responses that nodes share may take of the store, in bytes.
pub(super) fn replicated_bytes_max(
    values: &FileConfig,
    memory_bytes_max: usize,
) -> anyhow::Result<usize> {
    let bytes_max = match &values.cache_replicated {
        Some(text) => parse_size(text).context("--cache-replicated")?,
        None => memory_bytes_max / 8,
    };
    ensure!(
        bytes_max <= memory_bytes_max / 2,
        "--cache-replicated is a part of --memory-max, at most half of it"
    );
    Ok(bytes_max)
}

/// Longest body that is stored where a route does not say, in bytes.
pub(super) fn object_bytes_default(disk: Option<&disk::Settings>) -> u64 {
    match disk {
        Some(_) => disk::limits::OBJECT_BYTES_DEFAULT,
        None => limits::OBJECT_BYTES_DEFAULT,
    }
}

/// Refuses what cannot work: routes that are shielded by nodes that do not find one another.
pub(super) fn check_shield(
    routes: &[RouteSettings],
    gateway: Option<SocketAddr>,
    advertised: Option<&Authority>,
) -> anyhow::Result<()> {
    let (Some(gateway), None) = (gateway, advertised) else { return Ok(()) };
    if gateway.ip().is_unspecified() && routes.iter().any(RouteSettings::is_shielded) {
        bail!(
            "a route has shield = true and --gateway {gateway} is every address of this machine; \
             say with --gateway-advertise HOST:PORT where other nodes reach it"
        );
    }
    Ok(())
}
