//! The node's clock.

use crate::node::clock;

/// Milliseconds since 1970, UTC. May step back when the node's clock is set.
pub fn now_ms() -> u64 {
    clock::now_ms()
}
