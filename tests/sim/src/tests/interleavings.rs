//! Exact interleavings: one for each rule that dice hardly ever put to the test.

use crate::verdict::Verdict;
use crate::world::World;
use atoll_core::replica::tuning::Rules;

/// A sync brings what was deleted while it was under way; the receiver had value and delete by a
/// stream meanwhile, and has forgotten both.
pub(super) fn a_sync_that_is_overtaken(rules: Rules) -> Verdict {
    let (author, server, receiver) = (0, 1, 2);
    let mut world = World::scripted(&[(0, 1), (1, 2), (2, 0)], rules);
    world.pass(20_000);
    world.part(receiver, author);
    world.part(receiver, server);
    world.set(author, "a", b"old".to_vec());
    world.pass(5_000);
    // With what it has on its disk, but not in a log: it must offer a sync.
    world.stop(server);
    world.start(server);
    world.pass(20_000);
    world.hold_bulk(server, receiver);
    world.unite(receiver, server);
    world.pass(10_000);
    world.unite(receiver, author);
    world.pass(20_000);
    world.delete(author, "a");
    world.pass(100_000);
    world.release_bulk(server, receiver);
    world.pass(20_000);
    world.end()
}

/// A process lives and dies behind a link that is cut, and the only one that had its report starts
/// anew. When the link is whole again its write comes by a sync, late, and what undid it at once.
pub(super) fn a_life_in_hiding(rules: Rules) -> Verdict {
    let (far, near, hidden) = (0, 1, 2);
    let mut world = World::scripted(&[(far, near), (near, hidden)], rules);
    world.pass(20_000);
    world.part(far, near);
    world.lose(hidden);
    world.start(hidden);
    world.pass(20_000);
    world.set(hidden, "a", b"old".to_vec());
    world.pass(10_000);
    world.lose(hidden);
    world.stop(near);
    world.start(near);
    world.start(hidden);
    world.pass(100_000);
    world.hold_bulk(near, far);
    world.unite(far, near);
    world.pass(10_000);
    world.delete(near, "a");
    world.pass(100_000);
    world.release_bulk(near, far);
    world.pass(20_000);
    world.end()
}
