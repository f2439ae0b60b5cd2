//! Random numbers fit for secrets, drawn by the node.

use crate::node::random;

/// Returns `len` random bytes. Traps above 65,536.
pub fn bytes(len: u32) -> Vec<u8> {
    random::bytes(len)
}

/// Returns a number, all 64 bits random.
pub fn number() -> u64 {
    random::number()
}
