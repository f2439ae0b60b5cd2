//! The writes that clients make.

use crate::plan::{Edits, Plan, pick};
use atoll_core::clock::Now;
use atoll_core::entry::Deadline;
use atoll_core::limits::RUN_VALUE_BYTES_MAX;
use atoll_core::store::Store;
use atoll_core::store::edit::{Edit, NewValue};
use fastrand::Rng;

/// How long what is written with a deadline lasts at the most, in ms.
pub const LIFETIME_MS: u64 = 60;

/// Makes one write somewhere in the store.
pub fn write(store: &Store, dice: &mut Rng, (plan, now): (&Plan, Now)) {
    let bucket = store.database(if dice.u8(..4) == 0 { 1 } else { 0 });
    let key = [b'a' + dice.usize(..plan.key_count) as u8];
    let deadline = |dice: &mut Rng| Deadline::at_millis(now.millis() + dice.u64(1..LIFETIME_MS));
    let kinds = match plan.edits {
        Edits::All => 100,
        Edits::Values => 55,
    };
    let edit = match dice.u32(..kinds) {
        0..35 => {
            let value = dice.u32(..1_000).to_string().into_bytes();
            let until = if dice.u8(..4) == 0 { deadline(dice) } else { Deadline::NEVER };
            Edit::set(NewValue::Owned(value), until)
        }
        35..36 => {
            let value = vec![b'0' + dice.u8(..10); RUN_VALUE_BYTES_MAX + dice.usize(..100)];
            Edit::set(NewValue::Owned(value), Deadline::NEVER)
        }
        36..55 => Edit::Delete,
        55..63 => Edit::Expire(deadline(dice)),
        63..67 => Edit::Expire(Deadline::NEVER),
        67..99 => {
            let deadline = if dice.u8(..8) == 0 { deadline(dice) } else { Deadline::NEVER };
            Edit::Add { delta: *pick(dice, &[1, 1, 1, -1, 10]), deadline }
        }
        _ => {
            store.flush(bucket, now);
            return;
        }
    };
    let is_count = matches!(edit, Edit::Add { .. });
    let written = store.write(bucket, &key, now, |view| {
        // Text is no number: the door would have refused.
        let refuse = is_count && view.is_some_and(|view| view.value().as_integer().is_none());
        (if refuse { Edit::Keep } else { edit }, ())
    });
    written.expect("there is room");
}
