//! What the operator chose for links to other nodes.

use crate::config::Secret;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The choices. Checked: what they name may still turn out not to exist.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where peers are accepted.
    pub(crate) listen: Listen,
    /// The cluster that this node belongs to: others are refused.
    pub(crate) cluster: String,
    /// Ops kept for links, own and others', in bytes.
    pub(crate) log_bytes_max: usize,
    /// How far ahead of this node's clock a write may be stamped, in ms.
    pub(crate) max_skew_ms: u64,
    /// What all nodes of the cluster know and nobody else.
    pub(crate) key: Option<Secret>,
    /// What nodes prove their names with.
    pub(crate) certificates: Option<CertificateFiles>,
    /// Who may link without a proof.
    pub(crate) trust: Trust,
    /// Which links carry compressed frames.
    pub(crate) compression: Compression,
}

/// Where peers are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// Nowhere: this node only dials.
    Off,
    /// At the address that the operator wrote, or the node does not start.
    Asked(SocketAddr),
    /// At the default address if it is free. A second node on one machine has no need of it.
    Offered(SocketAddr),
}

impl Listen {
    /// The address, where there is one.
    pub(crate) fn address(self) -> Option<SocketAddr> {
        match self {
            Listen::Off => None,
            Listen::Asked(address) | Listen::Offered(address) => Some(address),
        }
    }
}

/// Who may link without a proof, where there is neither key nor certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Processes on this machine.
    ThisMachine,
    /// Whoever can reach the port.
    Everyone,
}

/// Which links carry compressed frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Those to peers more than 5 ms away.
    Auto,
    /// All.
    On,
    /// None.
    Off,
}

/// PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateFiles {
    /// Who signs the certificates of the cluster's nodes.
    pub(crate) ca: PathBuf,
    /// This node's certificate, and what leads from it to the CA.
    pub(crate) certificate: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
}
