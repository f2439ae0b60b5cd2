//! Nodes that are gone for good and hold everyone up, until an administrator says so.

use super::tampering::calm;
use crate::world::World;
use atoll_core::replica::Input;
use atoll_core::replica::status::Role;
use uuid::Uuid;

fn forget(world: &mut World, index: usize, origin: Uuid) {
    let moment = world.nodes[index].moment(world.now_us());
    let process = world.nodes[index].process.as_mut().expect("it is up");
    process.replica.step(&process.store, moment, Input::Forget(origin));
}

fn floor_ages_ms(world: &World) -> Vec<u64> {
    let up = world.nodes.iter().filter_map(|node| Some((node, node.process.as_ref()?)));
    let age = |(node, process): (&crate::node::Node, &crate::node::Process)| {
        process.replica.status(node.moment(world.now_us())).floor_age_ms
    };
    up.map(age).collect()
}

#[test]
fn a_dead_node_holds_the_floor_of_all_until_one_is_told_to_forget_it() {
    let mut world = calm(&[Role::Master; 4]);
    let dead = world.nodes[3].process.take().expect("it is up").store.origin();
    world.pass(400_000);
    assert!(floor_ages_ms(&world).iter().all(|age_ms| *age_ms >= 400), "it is waited for");
    forget(&mut world, 0, dead);
    world.pass(300_000);
    let ages_ms = floor_ages_ms(&world);
    assert!(ages_ms.len() == 3 && ages_ms.iter().all(|age_ms| *age_ms < 100), "{ages_ms:?}");
}

#[test]
fn a_node_that_is_linked_is_not_forgotten() {
    let mut world = calm(&[Role::Master; 3]);
    let alive = world.process(2).store.origin();
    forget(&mut world, 0, alive);
    world.pass(50_000);
    for node in &world.nodes {
        let process = node.process.as_ref().expect("it is up");
        assert_eq!(process.replica.status(node.moment(world.now_us())).members.len(), 3);
    }
}
