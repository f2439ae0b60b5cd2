//! Who follows a node's log hears of what comes outside of any stream, too.

use crate::world::World;
use atoll_core::entry::op::Effect;
use atoll_core::replica::tuning::Rules;
use atoll_core::store::log::LogRead;

#[test]
fn a_follower_hears_of_what_a_sync_brings_and_takes() {
    let (server, receiver) = (0, 1);
    let mut world = World::scripted(&[(server, receiver)], Rules::ALL);
    world.pass(20_000);
    world.set(server, "a", b"old".to_vec());
    world.pass(20_000);
    world.part(server, receiver);
    world.set(server, "b", b"new".to_vec());
    world.delete(server, "a");
    // With what it has on its disk, but not in a log: it must offer a sync.
    world.stop(server);
    world.start(server);
    let position = world.process(receiver).store.log_subscribe();
    world.pass(20_000);
    world.unite(server, receiver);
    world.pass(100_000);
    let heard = world.process(receiver).store.log_read(position, 100);
    let LogRead::Ops { ops, .. } = heard else { panic!("the log has room") };
    let mut keys: Vec<_> = ops
        .iter()
        .filter_map(|op| match &op.effect {
            Effect::Relay { key, .. } => Some(&key[..]),
            _ => None,
        })
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, [b"a", b"b"]);
    assert!(world.end().faults.is_empty());
}
