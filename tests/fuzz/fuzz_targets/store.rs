//! Any sequence of edits against a plain map: the store packs and unpacks what it was told.
#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use atoll_core::clock::{Hlc, Now};
use atoll_core::entry::Deadline;
use atoll_core::entry::counter::parse_integer;
use atoll_core::limits::{DEADLINE_MS_MAX, VALUE_INLINE_BYTES_MAX};
use atoll_core::store::edit::{Edit, NewValue};
use atoll_core::store::list::ListQuery;
use atoll_core::store::sweep::Sweeper;
use atoll_core::store::view::View;
use atoll_core::store::{Bucket, Dice, Store, StoreConfig};
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;

const START_MS: u64 = 1_800_000_000_000;
const MEMORY_BYTES: usize = 256 * 1024 * 1024;

#[derive(Arbitrary, Debug)]
enum Step {
    Set {
        key: Key,
        value: Value,
        ttl_ms: Option<u16>,
    },
    Delete {
        key: Key,
    },
    Expire {
        key: Key,
        ttl_ms: Option<u16>,
    },
    Add {
        key: Key,
        delta: i64,
        ttl_ms: Option<u16>,
    },
    Wait {
        ms: u16,
    },
    Flush,
    Sweep,
    List {
        prefix: Key,
        after: Key,
        delimiter: Option<u8>,
        limit: u8,
    },
    /// A cursor that the store never gave must do no harm.
    Scan {
        cursor: u64,
        count: u16,
    },
}

/// Few keys, so that steps meet.
#[derive(Arbitrary, Debug, Clone, Copy)]
struct Key(u8);

impl Key {
    fn bytes(self) -> Vec<u8> {
        match self.0 % 12 {
            0 => vec![0],
            1 => vec![b'k'; 1024],
            n => format!("{}/{}", n % 3, n).into_bytes(),
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Value {
    Text(Vec<u8>),
    Number(i64),
    /// On either side of the length from which values are shared.
    AroundInline(i8),
}

impl Value {
    fn bytes(self) -> Vec<u8> {
        match self {
            Value::Text(bytes) => bytes,
            Value::Number(number) => number.to_string().into_bytes(),
            Value::AroundInline(offset) => {
                vec![b'v'; VALUE_INLINE_BYTES_MAX.saturating_add_signed(offset.into())]
            }
        }
    }
}

/// What a key should show.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    value: Vec<u8>,
    deadline: Deadline,
}

struct World {
    store: Store,
    sweeper: Sweeper,
    model: BTreeMap<Vec<u8>, Shown>,
    now: Now,
}

fuzz_target!(|steps: Vec<Step>| {
    let config =
        StoreConfig { memory_bytes_max: MEMORY_BYTES, log_bytes_max: 1024, change_bytes_max: None };
    let dice = Dice { origin: Uuid::from_u128(7), hash_seed: 9 };
    let mut world = World {
        store: Store::new(config, dice, Box::new(|| {})),
        sweeper: Sweeper::default(),
        model: BTreeMap::new(),
        now: Now::from_millis(START_MS),
    };
    for step in steps {
        // The clock of the store never runs ahead of the wall by a whole millisecond this way.
        world.wait(1);
        world.take(step);
        world.compare();
    }
});

impl World {
    fn bucket(&self) -> &Bucket {
        self.store.database(0)
    }

    fn wait(&mut self, ms: u64) {
        self.now = Now::from_millis(self.now.millis() + ms);
        let now_ms = self.now.millis();
        self.model.retain(|_, shown| !shown.deadline.is_past(now_ms));
    }

    fn deadline(&self, ttl_ms: Option<u16>) -> Deadline {
        match ttl_ms {
            None => Deadline::NEVER,
            Some(u16::MAX) => Deadline::at_millis(DEADLINE_MS_MAX),
            Some(ttl_ms) => Deadline::at_millis(self.now.millis() + u64::from(ttl_ms)),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Set { key, value, ttl_ms } => self.set(&key.bytes(), &value.bytes(), ttl_ms),
            Step::Delete { key } => {
                let key = key.bytes();
                self.store.write(self.bucket(), &key, self.now, |_| (Edit::Delete, ())).unwrap();
                self.model.remove(&key);
            }
            Step::Expire { key, ttl_ms } => self.expire(&key.bytes(), ttl_ms),
            Step::Add { key, delta, ttl_ms } => self.add(&key.bytes(), delta, ttl_ms),
            Step::Wait { ms } => self.wait(ms.into()),
            Step::Flush => {
                self.store.flush(self.bucket(), self.now);
                self.model.clear();
            }
            Step::Sweep => {
                let floor = Hlc::from_wall(self.now);
                while !self.store.sweep(&mut self.sweeper, self.now, floor).round_done {}
            }
            Step::List { prefix, after, delimiter, limit } => {
                self.list((&prefix.bytes(), &after.bytes()), delimiter, limit.max(1).into());
            }
            Step::Scan { cursor, count } => {
                let count = usize::from(count);
                self.store.scan(self.bucket(), (cursor, count), self.now, |_, _| {});
            }
        }
    }

    fn set(&mut self, key: &[u8], value: &[u8], ttl_ms: Option<u16>) {
        let deadline = self.deadline(ttl_ms);
        let edit = || Edit::set(NewValue::Copy(value), deadline);
        self.store.write(self.bucket(), key, self.now, |_| (edit(), ())).unwrap();
        self.show(key, Shown { value: value.to_vec(), deadline });
    }

    fn expire(&mut self, key: &[u8], ttl_ms: Option<u16>) {
        let deadline = self.deadline(ttl_ms);
        self.store.write(self.bucket(), key, self.now, |_| (Edit::Expire(deadline), ())).unwrap();
        if let Some(shown) = self.model.get(key) {
            let value = shown.value.clone();
            self.show(key, Shown { value, deadline });
        }
    }

    fn add(&mut self, key: &[u8], delta: i64, ttl_ms: Option<u16>) {
        let new_deadline = self.deadline(ttl_ms);
        let decide = |view: Option<View<'_>>| {
            let seen = view.map_or(Some(0), |view| view.value().as_integer());
            let fits = seen.is_some_and(|seen| seen.checked_add(delta).is_some());
            let edit = Edit::Add { delta, deadline: new_deadline };
            (if fits { edit } else { Edit::Keep }, ())
        };
        self.store.write(self.bucket(), key, self.now, decide).unwrap();
        let (seen, deadline) = match self.model.get(key) {
            None => (Some(0), new_deadline),
            Some(shown) => (parse_integer(&shown.value), shown.deadline),
        };
        if let Some(sum) = seen.and_then(|seen| seen.checked_add(delta)) {
            self.show(key, Shown { value: sum.to_string().into_bytes(), deadline });
        }
    }

    /// A deadline that is now or earlier makes a key vanish.
    fn show(&mut self, key: &[u8], shown: Shown) {
        if shown.deadline.is_past(self.now.millis()) {
            self.model.remove(key);
        } else {
            self.model.insert(key.to_vec(), shown);
        }
    }

    fn list(&self, (prefix, after): (&[u8], &[u8]), delimiter: Option<u8>, limit: usize) {
        let delimiter = delimiter.map(|delimiter| vec![delimiter]);
        let query = ListQuery { prefix, after, delimiter: delimiter.as_deref(), limit };
        let page = self.store.list(self.bucket(), query, self.now, |view| view.value().to_bytes());
        let mut want: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        for (key, shown) in self.model.iter().filter(|(key, _)| key.starts_with(prefix)) {
            let rest = &key[prefix.len()..];
            let cut = delimiter.as_ref().and_then(|d| rest.iter().position(|byte| *byte == d[0]));
            let name = cut.map_or(key.clone(), |at| key[..=prefix.len() + at].to_vec());
            if name.as_slice() > after {
                let value = cut.is_none().then(|| shown.value.clone());
                let slot = want.entry(name).or_insert_with(|| value.clone());
                if value.is_none() {
                    *slot = None;
                }
            }
        }
        assert_eq!(page.has_more, want.len() > limit);
        let got: Vec<_> =
            page.items.into_iter().map(|(name, value)| (name, value.map(Vec::from))).collect();
        let want: Vec<_> = want.into_iter().take(limit).collect();
        assert_eq!(got, want);
    }

    fn compare(&self) {
        let mut scanned = BTreeMap::new();
        let mut cursor = 0;
        loop {
            cursor = self.store.scan(self.bucket(), (cursor, 3), self.now, |key, view| {
                let value = view.value().with_bytes(<[u8]>::to_vec);
                scanned.insert(key.to_vec(), Shown { value, deadline: view.deadline() });
            });
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(scanned, self.model);
        for (key, want) in &self.model {
            self.store.read(self.bucket(), key, self.now, |view| {
                let view = view.expect("the walk has shown it");
                assert!(view.value().with_bytes(|bytes| bytes == want.value));
                assert_eq!(view.value().len(), want.value.len());
            });
        }
        let stats = self.bucket().stats();
        assert!(stats.key_count >= self.model.len());
        assert_eq!(stats.used_bytes, self.store.used_bytes());
    }
}
