//! What is said about links to other nodes.

use super::{FileConfig, address, exposed, secret};
use crate::peers::settings::{CertificateFiles, Compression, Listen, Settings, Trust};
use crate::replication::endpoint::Endpoint;
use crate::{replication, secrets};
use anyhow::{Context as _, bail, ensure};
use atoll_core::limits::NODE_NAME_BYTES_MAX;
use atoll_core::permission::StaleReads;
use atoll_core::replica::status::Role;
use std::net::IpAddr;

/// Where peers are accepted unless told otherwise.
const LISTEN_DEFAULT: &str = "127.0.0.1:7400";
/// A key that is shorter than this can be found by trying, in bytes.
const KEY_BYTES_MIN: usize = 16;
/// Largest skew that can be allowed, in ms: a day.
const SKEW_MS_MAX: u64 = 24 * 3_600 * 1_000;

/// Reads the values; nothing is checked against the rest yet.
pub(super) fn resolve(values: &FileConfig, log_bytes_max: usize) -> anyhow::Result<Settings> {
    let written = values.peers_listen.as_deref();
    let listen = match (address("--peers-listen", written, LISTEN_DEFAULT)?, written) {
        (None, _) => Listen::Off,
        (Some(address), Some(_)) => Listen::Asked(address),
        (Some(address), None) => Listen::Offered(address),
    };
    let key = secret("--cluster-key", values.cluster_key.clone(), values.cluster_key_file.clone())?;
    let certificates = match (&values.peer_ca, &values.peer_cert, &values.peer_key) {
        (None, None, None) => None,
        (Some(ca), Some(certificate), Some(key)) => Some(CertificateFiles {
            ca: ca.clone(),
            certificate: certificate.clone(),
            key: key.clone(),
        }),
        _ => bail!("--peer-ca, --peer-cert and --peer-key go together; give all three"),
    };
    let compression = match values.link_compression.as_deref() {
        None | Some("auto") => Compression::Auto,
        Some("on") => Compression::On,
        Some("off") => Compression::Off,
        Some(other) => bail!("--link-compression is {other:?}; write auto, on or off"),
    };
    let trust = match values.insecure {
        Some(true) => Trust::Everyone,
        Some(false) | None => Trust::ThisMachine,
    };
    Ok(Settings {
        listen,
        cluster: values.cluster.clone().unwrap_or_else(|| "atoll".to_owned()),
        log_bytes_max,
        max_skew_ms: values.max_skew_ms.unwrap_or(2_000),
        key,
        certificates,
        trust,
        compression,
    })
}

/// Whom to link with, and as what.
pub(super) fn replication(values: &FileConfig) -> anyhow::Result<replication::Settings> {
    Ok(replication::Settings {
        role: role(values.role.as_deref())?,
        stale_reads: stale_reads(values.serve_stale.as_deref())?,
        peers: endpoints(values.peers.as_deref().unwrap_or_default())?,
    })
}

fn role(text: Option<&str>) -> anyhow::Result<Role> {
    match text {
        None | Some("master") => Ok(Role::Master),
        Some("replica") => Ok(Role::Replica),
        Some(other) => bail!("--role is {other:?}; write master or replica"),
    }
}

fn stale_reads(text: Option<&str>) -> anyhow::Result<StaleReads> {
    match text {
        None | Some("yes" | "true") => Ok(StaleReads::Served),
        Some("no" | "false") => Ok(StaleReads::Refused),
        Some(other) => bail!("--serve-stale is {other:?}; write yes or no"),
    }
}

fn endpoints(texts: &[String]) -> anyhow::Result<Vec<Endpoint>> {
    texts.iter().map(|text| text.trim().parse().context("--peer")).collect()
}

/// What secrets of handlers are encrypted with: a key of its own, or what the nodes share anyway.
pub(super) fn secrets(values: &FileConfig, links: &Settings) -> anyhow::Result<secrets::Settings> {
    let own = secret("--secrets-key", None, values.secrets_key_file.clone())?;
    let fits = own.as_ref().is_none_or(|key| key.reveal().len() >= KEY_BYTES_MIN);
    ensure!(
        fits,
        "--secrets-key-file holds at least {KEY_BYTES_MIN} bytes; make it with openssl rand -base64 32"
    );
    Ok(secrets::Settings { key: own.or_else(|| links.key.clone()) })
}

/// Refuses what cannot work, or would let strangers in.
pub(super) fn check(settings: &Settings, peers: &[Endpoint]) -> anyhow::Result<()> {
    let cluster = &settings.cluster;
    let name_fits = (1..=NODE_NAME_BYTES_MAX).contains(&cluster.len())
        && cluster.bytes().all(|byte| byte.is_ascii_graphic());
    ensure!(name_fits, "--cluster has 1 to 128 visible ASCII characters and no spaces");
    let skew_fits = (1..=SKEW_MS_MAX).contains(&settings.max_skew_ms);
    ensure!(skew_fits, "--max-skew-ms is from 1 to {SKEW_MS_MAX}");
    if let Some(key) = &settings.key {
        ensure!(
            key.reveal().len() >= KEY_BYTES_MIN,
            "--cluster-key has at least {KEY_BYTES_MIN} bytes; make one with openssl rand -base64 32"
        );
    }
    let is_proven = settings.key.is_some() || settings.certificates.is_some();
    if is_proven || settings.trust == Trust::Everyone {
        return Ok(());
    }
    if let Some(listen) = exposed(settings.listen.address()) {
        bail!(
            "--peers-listen {listen} can be reached from outside and asks peers for no proof; set \
             --cluster-key-file or certificates, or write --insecure if the network is trusted"
        );
    }
    // A name is resolved when it is dialled, and refused then.
    let is_far = |endpoint: &&Endpoint| {
        endpoint.host().parse::<IpAddr>().is_ok_and(|address| !address.is_loopback())
    };
    if let Some(far) = peers.iter().find(is_far) {
        bail!(
            "--peer {far} is another machine, and nothing proves who is there; set \
             --cluster-key-file or certificates, or write --insecure if the network is trusted"
        );
    }
    Ok(())
}
