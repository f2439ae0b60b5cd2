//! How fast what is shared goes out to other nodes.
//!
//! All that a node writes reaches the others in the order in which it was written, so a purge comes
//! behind what was written before it. That must never be more than a moment's worth of bodies: so
//! few bytes are on their way at once that even a slow link has soon passed them on.

use crate::node::Node;
use crate::replication::progress::Wish;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Bytes that were shared and that some linked node has yet to acknowledge: 20 ms of a link of 100
/// Mbit/s.
const UNDER_WAY_BYTES_MAX: usize = 256 * 1024;
/// A node that acknowledges nothing for so long is not waited for any more.
const PATIENCE: Duration = Duration::from_millis(250);
/// Shortest pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What is on its way.
#[derive(Debug)]
pub(crate) struct Pace {
    node: Arc<Node>,
    under_way: Mutex<UnderWay>,
}

#[derive(Debug, Default)]
struct UnderWay {
    /// Numbers of this process's ops, oldest first, and their bytes.
    ops: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl Pace {
    pub(super) fn new(node: &Arc<Node>) -> Pace {
        Pace { node: Arc::clone(node), under_way: Mutex::default() }
    }

    /// So many bytes were written just now.
    pub(super) fn note(&self, bytes: usize) {
        let seq = self.node.store().seq();
        let mut under_way = self.lock();
        under_way.ops.push_back((seq, bytes));
        under_way.bytes += bytes;
    }

    /// Whether more may go out now.
    pub(crate) fn has_room(&self) -> bool {
        if self.lock().bytes < UNDER_WAY_BYTES_MAX {
            return true;
        }
        let replication = self.node.replication();
        let (status, progress) = (replication.status(), replication.progress());
        let mut under_way = self.lock();
        while let Some(&(seq, bytes)) = under_way.ops.front() {
            if !status.links.iter().all(|link| progress.is_held_by(&link.name, seq)) {
                break;
            }
            under_way.ops.pop_front();
            under_way.bytes -= bytes;
        }
        under_way.bytes < UNDER_WAY_BYTES_MAX
    }

    /// Waits until more may go out.
    pub(crate) async fn room(&self) {
        let until = Instant::now() + PATIENCE;
        while !self.has_room() {
            if Instant::now() >= until {
                // It takes what it takes: the others are not to wait for it.
                *self.lock() = UnderWay::default();
                return;
            }
            let replication = self.node.replication();
            let count = replication.status().links.len();
            let seq = self.lock().ops.front().map_or(0, |(seq, _)| *seq);
            // While somebody waits, what others hold is told at once.
            replication.progress().wait(Wish { seq, count }, Some(until)).await;
            sleep(LOOK_EVERY).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        // A panic leaves a wrong sum at most, which ends with what it is of.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, FileConfig};
    use crate::replication::progress::Held;
    use atoll_core::replica::status::{LinkStatus, Status};

    fn linked(names: &[&str]) -> (Arc<Node>, Pace) {
        let config = Config::resolve(FileConfig::default()).expect("the defaults");
        let node = Node::new(&config).expect("a node");
        let link = |name: &&str| LinkStatus { name: (*name).to_owned(), ..LinkStatus::default() };
        let links = names.iter().map(link).collect();
        let status = Status { links, ..Status::clone(&node.replication().status()) };
        node.replication().publish_status(status);
        let pace = Pace::new(&node);
        (node, pace)
    }

    #[test]
    fn where_nobody_is_linked_nothing_waits() {
        let (_node, pace) = linked(&[]);
        for _ in 0..100 {
            pace.note(UNDER_WAY_BYTES_MAX);
            assert!(pace.has_room());
        }
        assert!(pace.lock().ops.len() <= 1);
    }

    #[test]
    fn what_the_slowest_has_acknowledged_makes_room() {
        let (node, pace) = linked(&["near", "far"]);
        let held = |near: u64, far: u64| {
            let holders = [("near".to_owned(), near), ("far".to_owned(), far)].into();
            node.replication().progress().publish(Held { holders, ..Held::default() });
        };
        for seq in [5, 6] {
            let mut under_way = pace.lock();
            under_way.ops.push_back((seq, UNDER_WAY_BYTES_MAX / 2));
            under_way.bytes += UNDER_WAY_BYTES_MAX / 2;
        }
        assert!(!pace.has_room());
        held(6, 4);
        assert!(!pace.has_room());
        held(6, 5);
        assert!(pace.has_room());
        assert_eq!(pace.lock().ops.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_acknowledges_nothing_is_waited_for_a_moment() {
        let (_node, pace) = linked(&["dead"]);
        pace.note(UNDER_WAY_BYTES_MAX);
        let began = Instant::now();
        pace.room().await;
        assert!(began.elapsed() >= PATIENCE && began.elapsed() < 2 * PATIENCE);
        assert!(pace.has_room());
    }
}
