//! MGET, MSET and MSETNX: several keys as of one moment.

use super::answer_value;
use crate::entry::Deadline;
use crate::resp::fault::Fault;
use crate::resp::session::Call;
use crate::resp::transaction::RECORD_OVERHEAD_BYTES;
use crate::store::edit::{Edit, NewValue};

/// Which keys MSET may touch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    AllAbsent,
}

pub(crate) fn mget(call: &mut Call<'_>) -> Result<(), Fault> {
    let (keys, place) = (call.keys(1, 1)?, call.place());
    call.output.array(keys.len());
    let (mut found, output) = (0, &mut *call.output);
    let count = keys.len();
    place.read_many(keys, |view| {
        found += usize::from(answer_value(output, view));
    });
    call.around.tally.looked_up(found, count - found);
    Ok(())
}

pub(crate) fn mset(call: &mut Call<'_>) -> Result<(), Fault> {
    set_all(call, "mset", Condition::Always)?;
    call.output.ok();
    Ok(())
}

pub(crate) fn msetnx(call: &mut Call<'_>) -> Result<(), Fault> {
    let stored = set_all(call, "msetnx", Condition::AllAbsent)?;
    call.output.integer(i64::from(stored));
    Ok(())
}

/// Sets all pairs, or none. Returns whether they were set.
fn set_all(call: &Call<'_>, name: &str, condition: Condition) -> Result<bool, Fault> {
    if call.len().is_multiple_of(2) {
        return Err(Fault::Arity(name.to_owned()));
    }
    let (keys, place) = (call.keys(1, 2)?, call.place());
    let bytes: usize = call.arguments.from(1).map(<[u8]>::len).sum();
    let needed = bytes + keys.len() * RECORD_OVERHEAD_BYTES;
    place.transaction(keys.clone(), |transaction| {
        if condition == Condition::AllAbsent
            && keys.clone().any(|key| transaction.read(place.bucket, key, |view| view.is_some()))
        {
            return Ok(false);
        }
        // Asked for all at once: a write that runs out of memory half way would leave a half.
        transaction.reserve(needed)?;
        for (pair, key) in keys.enumerate() {
            let index = 2 + 2 * pair;
            let value = match call.arguments.shared(index) {
                Some(bytes) => NewValue::Shared(bytes.clone()),
                None => NewValue::Copy(call.argument(index)),
            };
            let edit = Edit::set(value, Deadline::NEVER);
            transaction.write(place.bucket, key, |_| (edit, ()))?;
        }
        Ok(true)
    })
}
