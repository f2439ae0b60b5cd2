//! Three stores that hear of one another's writes late, in batches and more than once agree in the
//! end.
#![no_main]

use arbitrary::Arbitrary;
use atoll_core::clock::Now;
use atoll_core::entry::Deadline;
use atoll_core::entry::op::Op;
use atoll_core::store::edit::{Edit, NewValue};
use atoll_core::store::log::LogRead;
use atoll_core::store::view::View;
use atoll_core::store::{Dice, Store, StoreConfig};
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;

const START_MS: u64 = 1_800_000_000_000;
const NODES: usize = 3;
const KEYS: u8 = 3;

#[derive(Arbitrary, Debug)]
struct Step {
    node: u8,
    key: u8,
    what: What,
}

#[derive(Arbitrary, Debug)]
enum What {
    Set {
        value: i8,
        ttl_ms: Option<u8>,
    },
    Delete,
    Expire {
        ttl_ms: Option<u8>,
    },
    Add {
        delta: i8,
        ttl_ms: Option<u8>,
    },
    Flush,
    Wait {
        ms: u8,
    },
    /// Hears the next few ops of another node.
    Hear {
        from: u8,
        count: u8,
    },
}

/// A node, its clock's error, and what each other has heard of it.
struct Node {
    store: Store,
    skew_ms: u64,
    ops: Vec<Op>,
    log: u64,
    heard: [usize; NODES],
}

fuzz_target!(|steps: Vec<Step>| {
    let mut nodes: Vec<Node> = (0..NODES).map(Node::new).collect();
    let mut now_ms = START_MS;
    for step in steps {
        if let What::Wait { ms } = step.what {
            now_ms += u64::from(ms);
        }
        take(&mut nodes, step, now_ms);
    }
    for listener in 0..NODES {
        for speaker in (0..NODES).filter(|speaker| *speaker != listener) {
            hear(&mut nodes, (listener, speaker), usize::MAX, now_ms);
            // Once more, from the start: hearing twice changes nothing.
            let before = shown(&nodes[listener]);
            nodes[listener].heard[speaker] = 0;
            hear(&mut nodes, (listener, speaker), usize::MAX, now_ms);
            assert_eq!(shown(&nodes[listener]), before, "an op that came twice changed something");
        }
    }
    for ms in [0, 1, 40, 300] {
        let at = |node: &Node| looks_at(node, Now::from_millis(now_ms + 1_000 + ms));
        let first = at(&nodes[0]);
        for node in &nodes[1..] {
            assert_eq!(at(node), first, "nodes that know the same show something else");
        }
    }
    let first = shown(&nodes[0]);
    for node in &nodes[1..] {
        assert_eq!(shown(node), first, "nodes that know the same hold something else");
    }
});

impl Node {
    fn new(index: usize) -> Self {
        let config = StoreConfig {
            memory_bytes_max: 1 << 28,
            log_bytes_max: 1 << 28,
            change_bytes_max: None,
        };
        let dice = Dice { origin: Uuid::from_u128(1 + index as u128), hash_seed: index as u64 };
        let store = Store::new(config, dice, Box::new(|| {}));
        let log = store.log_subscribe();
        let skew_ms = 50 * index as u64;
        Node { store, skew_ms, ops: Vec::new(), log, heard: [0; NODES] }
    }
}

fn take(nodes: &mut [Node], step: Step, now_ms: u64) {
    let index = usize::from(step.node) % NODES;
    if let What::Hear { from, count } = step.what {
        let speaker = usize::from(from) % NODES;
        if speaker != index {
            hear(nodes, (index, speaker), count.into(), now_ms);
        }
        return;
    }
    let node = &nodes[index];
    let now = Now::from_millis(now_ms + node.skew_ms);
    let bucket = node.store.database(0);
    let key = [b'a' + step.key % KEYS];
    let deadline = |ttl_ms: Option<u8>| {
        ttl_ms
            .map_or(Deadline::NEVER, |ttl_ms| Deadline::at_millis(now.millis() + u64::from(ttl_ms)))
    };
    let write = |decide: &dyn Fn(Option<View<'_>>) -> Edit<'static>| {
        node.store.write(bucket, &key, now, |view| (decide(view), ())).unwrap();
    };
    match step.what {
        What::Set { value, ttl_ms } => {
            let text = || NewValue::Owned(value.to_string().into_bytes());
            write(&|_| Edit::set(text(), deadline(ttl_ms)));
        }
        What::Delete => write(&|_| Edit::Delete),
        What::Expire { ttl_ms } => write(&|_| Edit::Expire(deadline(ttl_ms))),
        What::Add { delta, ttl_ms } => write(&|view| {
            let is_number = view.is_none_or(|view| view.value().as_integer().is_some());
            let add = Edit::Add { delta: delta.into(), deadline: deadline(ttl_ms) };
            if is_number { add } else { Edit::Keep }
        }),
        What::Flush => drop(node.store.flush(bucket, now)),
        What::Wait { .. } | What::Hear { .. } => {}
    }
}

/// The listener applies the next `count` ops of the speaker that it has not heard.
fn hear(nodes: &mut [Node], (listener, speaker): (usize, usize), count: usize, now_ms: u64) {
    let log = nodes[speaker].store.log_read(nodes[speaker].log, usize::MAX);
    let LogRead::Ops { ops, next } = log else { panic!("the log holds everything") };
    nodes[speaker].ops.extend(ops);
    nodes[speaker].log = next;
    let from = nodes[listener].heard[speaker];
    let to = nodes[speaker].ops.len().min(from.saturating_add(count));
    let ops = nodes[speaker].ops[from..to].to_vec();
    let now = Now::from_millis(now_ms + nodes[listener].skew_ms);
    for op in ops {
        nodes[listener].store.merge_op(op, now).unwrap();
    }
    nodes[listener].heard[speaker] = to;
}

/// Everything that readers see at `now`.
fn looks_at(node: &Node, now: Now) -> Vec<Option<(Vec<u8>, Deadline, String)>> {
    let look = |view: View<'_>| {
        (view.value().with_bytes(<[u8]>::to_vec), view.deadline(), view.version().to_string())
    };
    let bucket = node.store.database(0);
    let keys = (0..KEYS).map(|key| [b'a' + key]);
    keys.map(|key| node.store.read(bucket, &key, now, |view| view.map(look))).collect()
}

/// Everything that replication and clients can tell apart, long before anything expires.
fn shown(node: &Node) -> Vec<Option<(Vec<u8>, Deadline, String)>> {
    looks_at(node, Now::from_millis(0))
}
