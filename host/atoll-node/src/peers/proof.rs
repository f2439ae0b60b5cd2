//! Proofs that a peer has the cluster's key, bound to one connection.
//!
//! Each end proves it over everything that both have said and over the secret of their TLS session:
//! a proof is worth nothing on another connection, in the other direction, or to somebody between.

use crate::config::Secret;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// Bytes of a proof.
pub(super) const PROOF_BYTES: usize = 32;
/// Bytes of a TLS session's secret that goes into a proof.
pub(super) const SESSION_BYTES: usize = 32;
/// Says that this key is used for this and nothing else.
const PURPOSE: &[u8] = b"atoll peers 1";
/// What the TLS session's secret is derived for.
pub(super) const EXPORTER_LABEL: &[u8] = b"EXPORTER-atoll-peers-1";

/// The key that all nodes of a cluster have.
#[derive(Clone)]
pub(super) struct ClusterKey(Secret);

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The one that opened it.
    Dialler,
    /// The other.
    Accepter,
}

impl Side {
    /// The other end.
    pub(super) fn other(self) -> Side {
        match self {
            Side::Dialler => Side::Accepter,
            Side::Accepter => Side::Dialler,
        }
    }
}

/// What a proof is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conversation<'c> {
    /// How the dialler introduced itself, with its nonce, byte for byte.
    pub(super) dialler: &'c [u8],
    /// The same of the accepter.
    pub(super) accepter: &'c [u8],
    /// The TLS session's secret; `None` without TLS.
    pub(super) session: Option<&'c [u8; SESSION_BYTES]>,
}

impl ClusterKey {
    pub(super) fn new(secret: Secret) -> ClusterKey {
        ClusterKey(secret)
    }

    /// The proof of `side`.
    pub(super) fn prove(&self, side: Side, about: Conversation<'_>) -> [u8; PROOF_BYTES] {
        self.mac(side, about).finalize().into_bytes().into()
    }

    /// Whether `proof` is that of `side`. Takes as long for a wrong one.
    pub(super) fn verifies(&self, side: Side, about: Conversation<'_>, proof: &[u8]) -> bool {
        self.mac(side, about).verify_slice(proof).is_ok()
    }

    fn mac(&self, side: Side, about: Conversation<'_>) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.reveal().as_bytes())
            .expect("HMAC takes a key of any length");
        let side: &[u8] = match side {
            Side::Dialler => b"dialler",
            Side::Accepter => b"accepter",
        };
        let session: &[u8] = about.session.map_or(&[], |session| session);
        // With their lengths, so that nothing can be moved from one part to the next.
        for part in [PURPOSE, side, about.dialler, about.accepter, session] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: [u8; SESSION_BYTES] = [7; SESSION_BYTES];

    fn key(text: &str) -> ClusterKey {
        ClusterKey::new(text.parse().expect("any text is a secret"))
    }

    fn about<'c>(dialler: &'c [u8], accepter: &'c [u8]) -> Conversation<'c> {
        Conversation { dialler, accepter, session: Some(&SESSION) }
    }

    #[test]
    fn a_proof_is_good_for_one_side_of_one_conversation_with_one_key() {
        let (ours, said) = (key("one"), about(b"ab", b"c"));
        let proof = ours.prove(Side::Dialler, said);
        assert!(ours.verifies(Side::Dialler, said, &proof));
        assert!(!ours.verifies(Side::Accepter, said, &proof), "reflected");
        assert!(!key("two").verifies(Side::Dialler, said, &proof), "another key");
        assert!(!ours.verifies(Side::Dialler, about(b"a", b"bc"), &proof), "replayed");
        assert!(!ours.verifies(Side::Dialler, about(b"c", b"ab"), &proof), "turned round");
        let between = Conversation { session: Some(&[8; SESSION_BYTES]), ..said };
        assert!(!ours.verifies(Side::Dialler, between, &proof), "another session");
        let plain = Conversation { session: None, ..said };
        assert!(!ours.verifies(Side::Dialler, plain, &proof), "without TLS");
        assert!(!ours.verifies(Side::Dialler, said, &proof[..31]), "cut off");
        assert!(!ours.verifies(Side::Dialler, said, &[]), "none");
    }

    #[test]
    fn a_key_does_not_show() {
        assert_eq!(format!("{:?}", key("hush")), "***");
    }
}
