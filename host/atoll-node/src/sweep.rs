//! The background round that collects expired keys and settled tombstones.

use crate::node::Node;
use atoll_core::store::sweep::Sweeper;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Pause between two steps of a few thousand records.
const STEP_PAUSE: Duration = Duration::from_millis(2);
/// Pause between two rounds through the store.
const ROUND_PAUSE: Duration = Duration::from_secs(1);

/// Sweeps until `shutdown`.
pub(crate) async fn sweep(node: Arc<Node>, shutdown: CancellationToken) {
    let mut sweeper = Sweeper::default();
    loop {
        let now = node.now();
        let swept = node.store().sweep(&mut sweeper, now, node.sweep_floor());
        let pause = if swept.round_done { ROUND_PAUSE } else { STEP_PAUSE };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
