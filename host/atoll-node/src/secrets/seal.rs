//! How a secret is kept: encrypted and authenticated, under a key that all nodes of a cluster have.
//!
//! `VERSION | key id (8) | nonce (12) | ciphertext and tag`, ChaCha20-Poly1305. The name is
//! authenticated with it, so that one secret cannot be put in the place of another.

use crate::config::Secret;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use std::fmt;

const VERSION: u8 = 1;
const ID_BYTES: usize = 8;
const HEAD_BYTES: usize = 1 + ID_BYTES + NONCE_LEN;
/// Says that what is derived from the key is used for this and nothing else.
const PURPOSE: &[u8] = b"atoll secrets 1";

/// What seals and opens.
pub(super) struct Seal {
    key: LessSafeKey,
    /// Tells keys apart, and says nothing of this one.
    id: [u8; ID_BYTES],
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why sealed bytes were not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OpenError {
    #[error("it was set with another key than this node has")]
    OtherKey,
    #[error("it is damaged")]
    Damaged,
}

/// The system gave no randomness, without which nothing can be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node has no randomness to encrypt with")]
pub(crate) struct NoRandomness;

struct IdLength;

impl KeyType for IdLength {
    fn len(&self) -> usize {
        ID_BYTES
    }
}

impl Seal {
    /// Derives the keys. The secret has enough entropy: it is no password.
    pub(super) fn new(secret: &Secret) -> Seal {
        let root: Prk = Salt::new(HKDF_SHA256, PURPOSE).extract(secret.reveal().as_bytes());
        let long_enough = "both are far shorter than 255 hashes";
        let key = root.expand(&[b"key"], &CHACHA20_POLY1305).expect(long_enough);
        let mut id = [0; ID_BYTES];
        let derived = root.expand(&[b"id"], IdLength).and_then(|derived| derived.fill(&mut id));
        derived.expect(long_enough);
        Seal { key: LessSafeKey::new(UnboundKey::from(key)), id }
    }

    /// Encrypts. A nonce is never used twice: 96 random bits for each of a few thousand writes.
    pub(super) fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, NoRandomness> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| NoRandomness)?;
        let mut sealed = plain.to_vec();
        let (nonce, once) = (nonce, Nonce::assume_unique_for_key(nonce));
        self.key
            .seal_in_place_append_tag(once, Aad::from(name), &mut sealed)
            .expect("a secret is far shorter than what one nonce can cover");
        Ok([&[VERSION][..], &self.id, &nonce, &sealed].concat())
    }

    /// Decrypts what [`Seal::seal`] made under the same name.
    pub(super) fn open(&self, name: &str, bytes: &[u8]) -> Result<Vec<u8>, OpenError> {
        let (head, sealed) = bytes.split_at_checked(HEAD_BYTES).ok_or(OpenError::Damaged)?;
        if head[0] != VERSION {
            return Err(OpenError::Damaged);
        }
        if head[1..=ID_BYTES] != self.id {
            return Err(OpenError::OtherKey);
        }
        let nonce = Nonce::try_assume_unique_for_key(&head[1 + ID_BYTES..]);
        let nonce = nonce.map_err(|_| OpenError::Damaged)?;
        let mut plain = sealed.to_vec();
        let opened = self.key.open_in_place(nonce, Aad::from(name), &mut plain);
        let len = opened.map_err(|_| OpenError::Damaged)?.len();
        plain.truncate(len);
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(key: &str) -> Seal {
        Seal::new(&key.parse().expect("any text"))
    }

    #[test]
    fn what_is_sealed_opens_under_its_name_and_key_alone() {
        let (ours, theirs) = (seal("0123456789abcdef"), seal("fedcba9876543210"));
        let sealed = ours.seal("a", b"hunter2").expect("dice");
        assert_eq!(ours.open("a", &sealed).as_deref(), Ok(&b"hunter2"[..]));
        assert_eq!(ours.open("b", &sealed), Err(OpenError::Damaged), "another name");
        assert_eq!(theirs.open("a", &sealed), Err(OpenError::OtherKey));
        assert_ne!(ours.seal("a", b"hunter2").expect("dice"), sealed, "each has its own nonce");
        assert!(!sealed.windows(7).any(|bytes| bytes == b"hunter2"));
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let ours = seal("0123456789abcdef");
        let sealed = ours.seal("a", b"hunter2").expect("dice");
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(ours.open("a", &changed).is_err(), "byte {place}");
            assert!(ours.open("a", &sealed[..place]).is_err(), "cut at {place}");
        }
    }
}
