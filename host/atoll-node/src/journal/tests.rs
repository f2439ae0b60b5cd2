//! The journal on a disk that remembers what is safe, and that fails when it is told to.

use super::disk::{Batch, Visit};
use super::keeper::Start;
use super::record::{CHECKPOINT, Subject};
use super::*;
use atoll_core::clock::{Hlc, Now};
use atoll_core::entry::{Deadline, Entry};
use atoll_core::resp::server::DiskState;
use atoll_core::store::changes::{Selection, Walk};
use atoll_core::store::edit::{Edit, NewValue};
use atoll_core::store::gate::Obstacle;
use atoll_core::store::sweep::Sweeper;
use atoll_core::store::{Dice, StoreConfig};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::MutexGuard;
use uuid::Uuid;

type Records = BTreeMap<Vec<u8>, Bytes>;

/// A disk in memory, shared by whoever opens it and by its test.
#[derive(Clone, Default)]
struct TestDisk(Arc<Mutex<Platter>>);

#[derive(Default)]
struct Platter {
    /// What outlives the process.
    written: Records,
    /// What outlives the machine.
    safe: Records,
    fault: Option<Fault>,
    /// Batches that are still taken before the fault shows.
    grace: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Commit,
    Sync,
    Open,
    Room,
}

fn full() -> DiskError {
    DiskError::Io(io::Error::from(io::ErrorKind::StorageFull))
}

impl TestDisk {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().expect("no test panics while it holds this")
    }

    fn fail(&self, fault: Option<Fault>, grace: usize) {
        let mut platter = self.platter();
        (platter.fault, platter.grace) = (fault, grace);
    }

    /// What a new process finds.
    fn reload(&self, store: &Store) -> Loaded {
        let disk = Box::new(self.clone());
        let board = Board::new(0);
        load::load(&*disk, store, (&board, &AtomicBool::new(false))).expect("it can be read")
    }
}

impl Disk for TestDisk {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DiskError> {
        Ok(self.platter().written.get(key).cloned())
    }

    fn commit(&mut self, batch: Batch) -> Result<(), DiskError> {
        let mut platter = self.platter();
        if platter.fault == Some(Fault::Commit) {
            platter.grace = platter.grace.checked_sub(1).ok_or_else(full)?;
        }
        for (key, value) in batch.records {
            match value {
                Some(value) => drop(platter.written.insert(key, Bytes::from(value))),
                None => drop(platter.written.remove(&key)),
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        let mut platter = self.platter();
        if platter.fault == Some(Fault::Sync) {
            // What was written since may be gone: nobody knows.
            platter.written = platter.safe.clone();
            return Err(full());
        }
        platter.safe = platter.written.clone();
        Ok(())
    }

    fn read_all(&self, visit: &mut Visit<'_>) -> Result<Reading, DiskError> {
        for (key, value) in &self.platter().written {
            if visit(key, value.clone()).is_break() {
                break;
            }
        }
        Ok(Reading::Whole)
    }

    fn keys_after(&self, after: &[u8], count_max: usize) -> Result<Vec<Bytes>, DiskError> {
        let platter = self.platter();
        let keys = platter.written.keys().filter(|key| &key[..] > after).take(count_max);
        Ok(keys.map(|key| Bytes::copy_from_slice(key)).collect())
    }

    fn record_count(&self) -> usize {
        self.platter().written.len()
    }

    fn damaged_places(&self) -> u64 {
        0
    }
}

impl OpenDisk for TestDisk {
    fn open(&self) -> Result<Box<dyn Disk>, DiskError> {
        match self.platter().fault {
            Some(Fault::Open) => Err(full()),
            _ => Ok(Box::new(self.clone())),
        }
    }

    fn check_room(&self) -> Result<(), DiskError> {
        match self.platter().fault {
            Some(Fault::Room) => Err(DiskError::NoRoom { free_mib: 1, wanted_mib: 2 }),
            _ => Ok(()),
        }
    }

    fn used_bytes(&self) -> u64 {
        7
    }

    fn free_bytes(&self) -> Option<u64> {
        Some(8)
    }
}

fn store_of(origin: u128, change_bytes_max: usize) -> Arc<Store> {
    let config = StoreConfig {
        memory_bytes_max: 1 << 30,
        log_bytes_max: 0,
        change_bytes_max: Some(change_bytes_max),
    };
    let dice = Dice { origin: Uuid::from_u128(origin), hash_seed: origin as u64 };
    Arc::new(Store::new(config, dice, Box::new(|| ())))
}

/// A keeper that is turned by hand, and what it works on.
struct Bench {
    disk: TestDisk,
    store: Arc<Store>,
    journal: Arc<Journal>,
    keeper: Keeper,
}

fn bench(fsync: Fsync, on_error: OnDiskError, change_bytes_max: usize) -> Bench {
    let (disk, store) = (TestDisk::default(), store_of(1, change_bytes_max));
    let settings = Settings { directory: PathBuf::from("test"), fsync, on_error };
    let journal = Journal::new(settings, 0);
    journal.board.note_loaded(0);
    let clock = Arc::clone(&store);
    let keeper = Keeper::new(Start {
        store: Arc::clone(&store),
        journal: Arc::clone(&journal),
        node_state: Box::new(move || clock.clock().to_bits().to_le_bytes().to_vec()),
        opener: Box::new(disk.clone()),
        disk: Box::new(disk.clone()),
        number: 0,
        with_dead: Vec::new(),
        directory: None,
    });
    Bench { disk, store, journal, keeper }
}

impl Bench {
    fn set(&self, key: &str, value: &str) {
        let edit = Edit::set(NewValue::Copy(value.as_bytes()), Deadline::NEVER);
        let bucket = self.store.database(0);
        self.store.write(bucket, key.as_bytes(), at(1), |_| (edit, ())).expect("writes are taken");
    }
}

fn at(millis: u64) -> Now {
    Now::from_millis(1_000_000 + millis)
}

/// Everything that a store holds, dead or alive, by bucket and key.
fn held(store: &Store) -> BTreeMap<(String, Vec<u8>), Entry> {
    let mut held = BTreeMap::new();
    for bucket in store.buckets() {
        let mut shard = 0;
        let mut next = Some(Walk::of(shard));
        while let Some(walk) = next {
            let stepped = store.walk(&bucket, (walk, Selection::Copy), |key, entry| {
                held.insert((bucket.name().to_string(), key.to_vec()), entry);
                Ok::<_, Infallible>(())
            });
            next = stepped.expect("nothing fails").or_else(|| {
                shard += 1;
                (shard < atoll_core::limits::SHARD_COUNT).then(|| Walk::of(shard))
            });
        }
    }
    held
}

/// The same without what flushes have killed and nobody has swept yet.
fn alive_in(store: &Store) -> BTreeMap<(String, Vec<u8>), Entry> {
    let copy = store_of(8, 0);
    for (name, stamp) in store.flush_marks() {
        copy.flush_at(&copy.open_bucket(&name).expect("there is room"), stamp, at(0));
    }
    for ((bucket, key), entry) in held(store) {
        let bucket = record::bucket_name(bucket.as_bytes()).expect("a name");
        let bucket = copy.open_bucket(&bucket).expect("there is room");
        copy.restore(&bucket, &key, entry).expect("there is room");
    }
    held(&copy)
}

#[derive(Clone, Debug)]
enum Act {
    Set {
        bucket: u8,
        key: u8,
        len: usize,
    },
    Delete {
        bucket: u8,
        key: u8,
    },
    Add {
        key: u8,
    },
    Flush {
        bucket: u8,
    },
    Sweep,
    Turn,
    Fail {
        fault: Fault,
        grace: usize,
    },
    Heal,
    /// Somebody puts an older copy in the place of the disk's content, or empties it.
    GoBack {
        to_nothing: bool,
    },
}

fn any_act() -> impl Strategy<Value = Act> {
    let fault =
        prop_oneof![Just(Fault::Commit), Just(Fault::Sync), Just(Fault::Open), Just(Fault::Room)];
    let len = prop_oneof![0..30_usize, Just(20_000)];
    prop_oneof![
        8 => (0..2_u8, 0..6_u8, len).prop_map(|(bucket, key, len)| Act::Set { bucket, key, len }),
        4 => (0..2_u8, 0..6_u8).prop_map(|(bucket, key)| Act::Delete { bucket, key }),
        3 => (0..6_u8).prop_map(|key| Act::Add { key }),
        1 => (0..2_u8).prop_map(|bucket| Act::Flush { bucket }),
        2 => Just(Act::Sweep),
        6 => Just(Act::Turn),
        2 => (fault, 0..3_usize).prop_map(|(fault, grace)| Act::Fail { fault, grace }),
        3 => Just(Act::Heal),
        1 => any::<bool>().prop_map(|to_nothing| Act::GoBack { to_nothing }),
    ]
}

fn act(bench: &mut Bench, act: &Act, now: Now) {
    let store = &bench.store;
    let write = |bucket: u8, key: u8, edit: Edit<'_>| {
        let bucket = store.database(bucket);
        store.write(bucket, &[b'a' + key], now, |_| (edit, ())).expect("writes are taken");
    };
    match *act {
        Act::Set { bucket, key, len } => {
            let value = NewValue::Owned(vec![b'1'; len]);
            write(bucket, key, Edit::set(value, Deadline::NEVER));
        }
        Act::Delete { bucket, key } => write(bucket, key, Edit::Delete),
        Act::Add { key } => {
            write(0, key, Edit::set(NewValue::Copy(b"1"), Deadline::NEVER));
            write(0, key, Edit::Add { delta: 1, deadline: Deadline::NEVER });
        }
        Act::Flush { bucket } => drop(store.flush(store.database(bucket), now)),
        Act::Sweep => {
            let mut sweeper = Sweeper::default();
            while !store.sweep(&mut sweeper, now, Hlc::from_wall(now)).round_done {}
        }
        Act::Turn => bench.keeper.turn(Call::Stop),
        Act::Fail { fault, grace } => bench.disk.fail(Some(fault), grace),
        Act::Heal => bench.disk.fail(None, 0),
        Act::GoBack { to_nothing } => {
            let is_down = bench.journal.status().state == DiskState::Failing;
            let mut platter = bench.disk.platter();
            // Nobody does that behind the back of an engine that is running.
            if is_down {
                if to_nothing {
                    platter.safe.clear();
                }
                platter.written = platter.safe.clone();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn once_the_disk_is_well_it_holds_what_memory_holds(
        acts in proptest::collection::vec(any_act(), 1..60),
        bytes_max in prop_oneof![Just(1_usize << 20), 0..12_usize],
        fsync in prop_oneof![Just(Fsync::Always), Just(Fsync::EverySecond)],
    ) {
        let mut bench = bench(fsync, OnDiskError::Memory, bytes_max);
        for (step, one) in acts.iter().enumerate() {
            act(&mut bench, one, at(step as u64));
        }
        bench.disk.fail(None, 0);
        bench.keeper.turn(Call::Stop);
        prop_assert_eq!(bench.journal.status().state, DiskState::Ok);
        prop_assert_eq!(bench.journal.status().saved_seq, bench.store.seq());
        // As after a power cut.
        let safe = bench.disk.platter().safe.clone();
        bench.disk.platter().written = safe;
        let restarted = store_of(2, 0);
        let loaded = bench.disk.reload(&restarted);
        prop_assert_eq!(loaded.damaged, 0);
        prop_assert_eq!(held(&restarted), alive_in(&bench.store));
        let want = bench.store.clock().to_bits().to_le_bytes();
        prop_assert_eq!(&loaded.checkpoint.expect("it was saved").state[..], &want[..]);
        // What is dead goes in time.
        for _ in 0..10 {
            bench.keeper.turn(Call::Stop);
        }
        let entries = bench.disk.platter().written.keys().filter(|key| {
            matches!(Subject::of(key), Ok(Subject::Entry { .. }))
        }).count();
        prop_assert_eq!(entries, held(&bench.store).len());
    }

    #[test]
    fn nothing_is_called_safe_that_a_power_cut_would_take(
        acts in proptest::collection::vec(any_act(), 1..60),
        fsync in prop_oneof![Just(Fsync::Always), Just(Fsync::EverySecond)],
    ) {
        let mut bench = bench(fsync, OnDiskError::Memory, 1 << 20);
        // A key for each write: what is safe is then easily told.
        let mut names: Vec<(u64, String)> = Vec::new();
        for one in &acts {
            match one {
                Act::Turn | Act::Fail { .. } | Act::Heal => act(&mut bench, one, at(1)),
                _ => {
                    let name = format!("key-{}", names.len());
                    bench.set(&name, "v");
                    names.push((bench.store.seq(), name));
                }
            }
            let saved = *bench.journal.saved.borrow();
            prop_assert!(saved.seq <= bench.store.seq());
            let platter = bench.disk.platter();
            for (seq, name) in names.iter().filter(|(seq, _)| *seq <= saved.seq) {
                let key = [b"default\0", name.as_bytes()].concat();
                prop_assert!(platter.safe.contains_key(&key), "{} of {}", seq, saved.seq);
            }
        }
    }
}

#[test]
fn while_the_disk_fails_writes_are_refused_and_then_taken_again() {
    let mut bench = bench(Fsync::EverySecond, OnDiskError::Refuse, 1 << 20);
    bench.set("before", "1");
    bench.disk.fail(Some(Fault::Commit), 0);
    bench.keeper.turn(Call::Time);
    assert_eq!(bench.store.obstacle(), Some(Obstacle::Disk));
    let status = bench.journal.status();
    assert_eq!((status.state, status.outages), (DiskState::Failing, 1));
    assert!(status.reason.is_some_and(|reason| reason.contains("no storage space")));

    bench.disk.fail(Some(Fault::Room), 0);
    bench.keeper.turn(Call::Stop);
    let reason = bench.journal.status().reason.expect("it still fails");
    assert!(reason.contains("1 MiB are free"), "{reason}");
    bench.keeper.turn(Call::Time);
    assert_eq!(bench.journal.status().state, DiskState::Failing, "it waits before it tries again");

    bench.disk.fail(None, 0);
    bench.keeper.turn(Call::Stop);
    assert_eq!(bench.store.obstacle(), None);
    let status = bench.journal.status();
    assert_eq!((status.state, status.reason, status.outages), (DiskState::Ok, None, 1));
    let restarted = store_of(2, 0);
    bench.disk.reload(&restarted);
    assert!(restarted.holds(restarted.database(0), b"before"), "nothing was lost");
}

#[test]
fn an_obstacle_that_is_not_the_disk_stays() {
    let mut bench = bench(Fsync::EverySecond, OnDiskError::Refuse, 1 << 20);
    bench.set("k", "v");
    bench.disk.fail(Some(Fault::Commit), 0);
    bench.keeper.turn(Call::Time);
    bench.store.set_obstacle(Some(Obstacle::Loading));
    bench.disk.fail(None, 0);
    bench.keeper.turn(Call::Stop);
    assert_eq!(bench.store.obstacle(), Some(Obstacle::Loading));
}

/// Whether a write is settled at once, without a turn.
async fn settles(bench: &Bench) -> Option<Result<(), Unsettled>> {
    let settled = bench.journal.settle(bench.store.seq());
    tokio::time::timeout(Duration::from_millis(1), settled).await.ok()
}

#[tokio::test(start_paused = true)]
async fn with_always_a_write_settles_when_it_is_safe_and_not_before() {
    let mut bench = bench(Fsync::Always, OnDiskError::Refuse, 1 << 20);
    assert_eq!(settles(&bench).await, Some(Ok(())), "nothing was written");
    bench.set("k", "v");
    assert_eq!(settles(&bench).await, None);
    assert_eq!(bench.journal.bell.wait(Duration::ZERO), Call::Waiter, "whoever waits rings");
    bench.keeper.turn(Call::Waiter);
    assert_eq!(settles(&bench).await, Some(Ok(())));

    bench.set("k", "v2");
    bench.disk.fail(Some(Fault::Sync), 0);
    bench.keeper.turn(Call::Waiter);
    assert_eq!(settles(&bench).await, Some(Err(Unsettled)));
    // A disk that hangs is as bad as one that fails.
    let stuck = self::bench(Fsync::Always, OnDiskError::Refuse, 1 << 20);
    stuck.set("k", "v");
    assert_eq!(stuck.journal.settle(stuck.store.seq()).await, Err(Unsettled));
}

#[tokio::test(start_paused = true)]
async fn with_everysec_a_write_settles_when_it_is_written_and_not_before() {
    let mut bench = bench(Fsync::EverySecond, OnDiskError::Refuse, 1 << 20);
    bench.set("k", "v");
    assert_eq!(settles(&bench).await, None);
    assert_eq!(bench.journal.bell.wait(Duration::ZERO), Call::Waiter, "whoever waits rings");
    // Nothing is made safe yet, so nothing can fail at it.
    bench.disk.fail(Some(Fault::Sync), 0);
    bench.keeper.turn(Call::Waiter);
    assert_eq!(settles(&bench).await, Some(Ok(())));
    let found = store_of(2, 0);
    bench.disk.reload(&found);
    assert_eq!(held(&found), held(&bench.store), "the process may end now");
    assert!(bench.disk.platter().safe.is_empty(), "the machine may not");

    bench.set("k", "v2");
    bench.disk.fail(Some(Fault::Commit), 0);
    bench.keeper.turn(Call::Waiter);
    assert_eq!(settles(&bench).await, Some(Err(Unsettled)));
}

#[tokio::test(start_paused = true)]
async fn where_nothing_was_promised_nobody_waits() {
    let bench = bench(Fsync::Never, OnDiskError::Refuse, 1 << 20);
    bench.set("k", "v");
    assert_eq!(settles(&bench).await, Some(Ok(())));
    let mut memory = self::bench(Fsync::Always, OnDiskError::Memory, 1 << 20);
    memory.set("k", "v");
    memory.disk.fail(Some(Fault::Commit), 0);
    memory.keeper.turn(Call::Waiter);
    assert_eq!(memory.store.obstacle(), None);
    assert_eq!(settles(&memory).await, Some(Ok(())), "in memory only, as was chosen");
}

#[test]
fn with_everysec_what_was_written_is_safe_a_second_later() {
    let mut bench = bench(Fsync::EverySecond, OnDiskError::Refuse, 1 << 20);
    bench.set("k", "v");
    bench.keeper.turn(Call::Time);
    let seq = |bench: &Bench| bench.journal.status().saved_seq;
    let begun = std::time::Instant::now();
    while seq(&bench) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(120), "it is never safe");
        bench.keeper.turn(Call::Time);
    }
    assert_eq!(seq(&bench), bench.store.seq());
}

#[test]
fn a_damaged_record_is_left_out_and_the_state_beside_the_keys_with_it() {
    let mut bench = bench(Fsync::Always, OnDiskError::Refuse, 1 << 20);
    bench.set("damaged", "v");
    bench.set("well", "v");
    bench.keeper.turn(Call::Time);
    let good = bench.disk.platter().written.clone();
    let damage = |record: &[u8], change: fn(&mut Vec<u8>)| {
        let mut written = good.clone();
        let value = written.get_mut(record).expect("it was written");
        let mut bytes = value.to_vec();
        change(&mut bytes);
        *value = Bytes::from(bytes);
        bench.disk.platter().written = written;
        let restarted = store_of(2, 0);
        let loaded = bench.disk.reload(&restarted);
        let bucket = restarted.database(0);
        assert!(restarted.holds(bucket, b"well"));
        assert_eq!(loaded.checkpoint, None);
        (loaded.damaged, restarted.holds(bucket, b"damaged"), loaded.number)
    };
    let number = 1;
    assert_eq!(damage(b"default\0damaged", |bytes| bytes[20] ^= 1), (1, false, number));
    assert_eq!(damage(b"default\0damaged", |bytes| bytes.truncate(4)), (1, false, number));
    assert_eq!(damage(b"default\0damaged", Vec::clear), (1, false, number));
    assert_eq!(damage(CHECKPOINT, |bytes| bytes[9] ^= 1), (1, true, 0));
}

#[test]
fn nothing_is_written_while_nothing_changes() {
    let mut bench = bench(Fsync::Always, OnDiskError::Refuse, 1 << 20);
    bench.set("k", "v");
    bench.keeper.turn(Call::Time);
    let records = || bench.journal.board.sums.records.load(std::sync::atomic::Ordering::Relaxed);
    let before = records();
    for _ in 0..10 {
        bench.keeper.turn(Call::Time);
    }
    assert_eq!(records(), before);
}
