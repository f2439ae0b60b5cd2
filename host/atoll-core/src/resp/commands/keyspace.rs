//! Whole keys and whole databases: DEL, EXISTS, TYPE, KEYS, SCAN, DBSIZE, FLUSHDB.

use crate::limits::{GLOB_BYTES_MAX, SCAN_COUNT_MAX};
use crate::resp::fault::Fault;
use crate::resp::glob::{self, Letters};
use crate::resp::output::{Elements, Output};
use crate::resp::session::{Call, DATABASE_COUNT, Session, Surroundings};
use crate::resp::transaction::Errand;
use crate::store::edit::Edit;
use crate::store::view::ValueRef;
use std::collections::HashSet;
use xxhash_rust::xxh3::xxh3_128;

/// Keys that KEYS looks at before others have their turn: well under a millisecond.
const WALK_STEP_KEYS: usize = 4_096;
/// Tables that the digests of a walk are spread over.
const SEEN_TABLE_COUNT: usize = 256;
/// Memory that a place in one of them takes: a digest, its mark and the places that stay empty.
const SEEN_BYTES: usize = (size_of::<u128>() + 1) * 8 / 7 + 1;
/// Keys that SCAN looks at where COUNT says nothing.
const SCAN_COUNT: usize = 10;
const _: () = assert!(WALK_STEP_KEYS <= SCAN_COUNT_MAX, "the store cuts no step short");
/// Longest value that Redis keeps in one piece with its header; only OBJECT ENCODING shows it.
const EMBEDDED_BYTES_MAX: usize = 44;

pub(crate) fn del(call: &mut Call<'_>) -> Result<(), Fault> {
    let (keys, place) = (call.keys(1, 1)?, call.place());
    let mut deleted = 0;
    for key in keys {
        deleted += place.write(key, |view| match view {
            Some(_) => (Edit::Delete, 1),
            None => (Edit::Keep, 0),
        })?;
    }
    call.output.integer(deleted);
    Ok(())
}

pub(crate) fn exists(call: &mut Call<'_>) -> Result<(), Fault> {
    let (keys, place) = (call.keys(1, 1)?, call.place());
    let total = keys.len();
    let found = keys.filter(|key| place.read(key, |view| view.is_some())).count();
    call.around.tally.looked_up(found, total - found);
    call.output.count(found);
    Ok(())
}

pub(crate) fn r#type(call: &mut Call<'_>) -> Result<(), Fault> {
    let found = call.place().read(call.key(1)?, |view| view.is_some());
    call.output.simple(if found { "string" } else { "none" });
    Ok(())
}

pub(crate) fn encoding(call: &mut Call<'_>) -> Result<(), Fault> {
    let encoding = call.place().read(call.key(2)?, |view| {
        view.map(|view| match view.value() {
            ValueRef::Counter(_) => "int",
            ValueRef::Shared(_) => "raw",
            value if value.as_integer().is_some() => "int",
            ValueRef::Inline(bytes) if bytes.len() <= EMBEDDED_BYTES_MAX => "embstr",
            ValueRef::Inline(_) => "raw",
        })
    });
    match encoding {
        Some(encoding) => call.output.bulk(encoding.as_bytes()),
        None => call.output.null(),
    }
    Ok(())
}

fn checked_pattern(pattern: &[u8]) -> Result<&[u8], Fault> {
    if pattern.len() > GLOB_BYTES_MAX {
        return Err(Fault::other(format!("a pattern has at most {GLOB_BYTES_MAX} bytes")));
    }
    Ok(pattern)
}

/// A KEYS that is under way.
#[derive(Debug)]
pub(in crate::resp) struct Walk {
    pattern: Box<[u8]>,
    cursor: u64,
    keys: Elements,
    /// The keys so far, where the walk takes more than one step: tables may grow between two
    /// steps, and keys are then visited again.
    seen: Option<Seen>,
}

/// Digests of keys. They are in many small tables, because a large one would hold up the whole
/// thread while it grows.
#[derive(Debug)]
struct Seen {
    tables: Vec<HashSet<u128>>,
}

impl Seen {
    fn new() -> Seen {
        Seen { tables: vec![HashSet::new(); SEEN_TABLE_COUNT] }
    }

    /// Adds `key`; returns whether it is new.
    fn insert(&mut self, key: &[u8]) -> bool {
        let digest = xxh3_128(key);
        self.tables[digest as usize % SEEN_TABLE_COUNT].insert(digest)
    }

    fn allocated_bytes(&self) -> usize {
        self.tables.iter().map(HashSet::capacity).sum::<usize>() * SEEN_BYTES
    }
}

pub(crate) fn keys(call: &mut Call<'_>) -> Result<(), Fault> {
    let pattern = checked_pattern(call.argument(1))?.into();
    let key_count = call.place().bucket.stats().key_count;
    let seen = (key_count > WALK_STEP_KEYS / 2).then(Seen::new);
    let walk = Box::new(Walk { pattern, cursor: 0, keys: Elements::default(), seen });
    walk.step(call.session, call.around, call.output)
}

impl Walk {
    /// Looks at the next keys; answers at the end of the walk, else stays with the session.
    pub(in crate::resp) fn step(
        mut self: Box<Self>,
        session: &mut Session,
        around: Surroundings<'_>,
        output: &mut Output,
    ) -> Result<(), Fault> {
        let bucket = around.store.database(session.database);
        let Walk { pattern, cursor, keys, seen } = &mut *self;
        let step = (*cursor, WALK_STEP_KEYS);
        *cursor = around.store.scan(bucket, step, around.now, |key, _| {
            if glob::matches(pattern, key, Letters::Exact)
                && seen.as_mut().is_none_or(|seen| seen.insert(key))
            {
                keys.push(key);
            }
        });
        if keys.has_overflowed() {
            return Err(Fault::ReplyLength);
        }
        if *cursor == 0 {
            output.array_of(std::mem::take(keys));
        } else {
            // A walk that seemed to fit into one step did not: from here on it may see keys twice.
            if seen.is_none() {
                self.restart();
            }
            session.walk = Some(self);
        }
        Ok(())
    }

    /// Bytes of memory that it has collected.
    pub(in crate::resp) fn held_bytes(&self) -> usize {
        self.keys.allocated_bytes() + self.seen.as_ref().map_or(0, Seen::allocated_bytes)
    }

    fn restart(&mut self) {
        self.cursor = 0;
        self.keys = Elements::default();
        self.seen = Some(Seen::new());
    }
}

/// The options of SCAN.
struct Scan<'c> {
    pattern: Option<&'c [u8]>,
    count: usize,
    /// TYPE names something that keys here can be.
    any_type: AnyType,
}

#[derive(PartialEq, Eq)]
enum AnyType {
    Strings,
    Nothing,
}

impl<'c> Scan<'c> {
    fn parse(call: &Call<'c>) -> Result<Scan<'c>, Fault> {
        let mut scan = Scan { pattern: None, count: SCAN_COUNT, any_type: AnyType::Strings };
        let mut at = 2;
        while at < call.len() {
            if at + 1 >= call.len() {
                return Err(Fault::Syntax);
            }
            if call.is(at, "match") {
                let pattern = checked_pattern(call.argument(at + 1))?;
                scan.pattern = (pattern != b"*").then_some(pattern);
            } else if call.is(at, "count") {
                let count = call.integer(at + 1)?;
                if count < 1 {
                    return Err(Fault::Syntax);
                }
                scan.count = usize::try_from(count).unwrap_or(usize::MAX).min(SCAN_COUNT_MAX);
            } else if call.is(at, "type") {
                let strings = call.is(at + 1, "string");
                scan.any_type = if strings { AnyType::Strings } else { AnyType::Nothing };
            } else {
                return Err(Fault::Syntax);
            }
            at += 2;
        }
        Ok(scan)
    }
}

pub(crate) fn scan(call: &mut Call<'_>) -> Result<(), Fault> {
    let cursor = std::str::from_utf8(call.argument(1)).ok().and_then(|text| text.parse().ok());
    let cursor: u64 = cursor.ok_or(Fault::Cursor)?;
    let Scan { pattern, count, any_type } = Scan::parse(call)?;
    let (place, mut keys) = (call.place(), Elements::default());
    let next = place.store.scan(place.bucket, (cursor, count), place.now, |key, _| {
        let wanted = pattern.is_none_or(|pattern| glob::matches(pattern, key, Letters::Exact));
        if wanted && any_type == AnyType::Strings {
            keys.push(key);
        }
    });
    call.output.array(2);
    call.output.bulk(itoa::Buffer::new().format(next).as_bytes());
    call.output.array_of(keys);
    Ok(())
}

pub(crate) fn dbsize(call: &mut Call<'_>) -> Result<(), Fault> {
    let count = call.place().bucket.stats().key_count;
    call.output.count(count);
    Ok(())
}

/// SYNC and ASYNC are the same here: a flush is one record, and what it killed is freed behind it.
fn check_flush_mode(call: &Call<'_>) -> Result<(), Fault> {
    let known = call.len() == 1 || (call.len() == 2 && (call.is(1, "sync") || call.is(1, "async")));
    known.then_some(()).ok_or(Fault::Syntax)
}

pub(crate) fn flushdb(call: &mut Call<'_>) -> Result<(), Fault> {
    check_flush_mode(call)?;
    call.around.store.check_writable()?;
    flush(call, call.session.database);
    call.output.ok();
    Ok(())
}

fn flush(call: &Call<'_>, database: u8) {
    let Surroundings { store, now, .. } = call.around;
    let bucket = store.database(database);
    let Some(held) = call.held else {
        store.flush(bucket, now);
        return;
    };
    held.with(&mut |transaction| {
        transaction.flush(bucket);
    });
    held.afterwards(Errand::DropFlushed { database });
}

pub(crate) fn flushall(call: &mut Call<'_>) -> Result<(), Fault> {
    check_flush_mode(call)?;
    call.around.store.check_writable()?;
    for database in 0..DATABASE_COUNT {
        // Those that are empty here as well: another node may hold what this one has not heard of.
        flush(call, database);
    }
    call.output.ok();
    Ok(())
}
