//! EXPIRE, TTL and their relatives: when a key goes.

use super::options::{Moment, Since, Unit};
use crate::entry::Deadline;
use crate::resp::fault::{Fault, excerpt};
use crate::resp::session::{Call, future};
use crate::store::edit::Edit;

/// What is answered for a key that is not there, and for one that stays.
const ABSENT: i64 = -2;
const STAYS: i64 = -1;

pub(crate) fn ttl(call: &mut Call<'_>) -> Result<(), Fault> {
    // Rounded, so that a key of 1,999 ms is said to have two seconds.
    answer_deadline(call, |deadline_ms, now_ms| (deadline_ms.saturating_sub(now_ms) + 500) / 1_000)
}

pub(crate) fn pttl(call: &mut Call<'_>) -> Result<(), Fault> {
    answer_deadline(call, u64::saturating_sub)
}

pub(crate) fn expiretime(call: &mut Call<'_>) -> Result<(), Fault> {
    answer_deadline(call, |deadline_ms, _| (deadline_ms + 500) / 1_000)
}

pub(crate) fn pexpiretime(call: &mut Call<'_>) -> Result<(), Fault> {
    answer_deadline(call, |deadline_ms, _| deadline_ms)
}

fn answer_deadline(call: &mut Call<'_>, number: fn(u64, u64) -> u64) -> Result<(), Fault> {
    let now_ms = call.now_ms();
    let answer = call.place().read(call.key(1)?, |view| match view {
        None => ABSENT,
        Some(view) => match view.deadline().millis() {
            None => STAYS,
            Some(deadline_ms) => i64::try_from(number(deadline_ms, now_ms)).unwrap_or(i64::MAX),
        },
    });
    call.output.integer(answer);
    Ok(())
}

pub(crate) fn expire(call: &mut Call<'_>) -> Result<(), Fault> {
    set_deadline(call, (Unit::Seconds, Since::Now), "expire")
}

pub(crate) fn pexpire(call: &mut Call<'_>) -> Result<(), Fault> {
    set_deadline(call, (Unit::Millis, Since::Now), "pexpire")
}

pub(crate) fn expireat(call: &mut Call<'_>) -> Result<(), Fault> {
    set_deadline(call, (Unit::Seconds, Since::Epoch), "expireat")
}

pub(crate) fn pexpireat(call: &mut Call<'_>) -> Result<(), Fault> {
    set_deadline(call, (Unit::Millis, Since::Epoch), "pexpireat")
}

/// When EXPIRE may change a deadline.
#[derive(Clone, Copy, Default)]
struct Conditions {
    /// NX: there is none.
    absent: Wanted,
    /// XX: there is one.
    present: Wanted,
    /// GT: the new one is later.
    later: Wanted,
    /// LT: the new one is earlier.
    earlier: Wanted,
}

/// Whether a condition was named.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Wanted {
    #[default]
    No,
    Yes,
}

impl Conditions {
    fn parse(call: &Call<'_>) -> Result<Conditions, Fault> {
        let mut conditions = Conditions::default();
        for index in 3..call.len() {
            let word = call.argument(index);
            let condition = match word.to_ascii_lowercase().as_slice() {
                b"nx" => &mut conditions.absent,
                b"xx" => &mut conditions.present,
                b"gt" => &mut conditions.later,
                b"lt" => &mut conditions.earlier,
                _ => {
                    let word = excerpt(word, 128);
                    return Err(Fault::other(format!("Unsupported option {word}")));
                }
            };
            *condition = Wanted::Yes;
        }
        let Conditions { absent, present, later, earlier } = conditions;
        if absent == Wanted::Yes && [present, later, earlier].contains(&Wanted::Yes) {
            let words = "NX and XX, GT or LT options at the same time are not compatible";
            return Err(Fault::other(words));
        }
        if later == Wanted::Yes && earlier == Wanted::Yes {
            let words = "GT and LT options at the same time are not compatible";
            return Err(Fault::other(words));
        }
        Ok(conditions)
    }

    /// Whether a deadline may change from `old` to `new_ms`. No deadline is later than any.
    fn allow(self, old: Deadline, new_ms: i64) -> bool {
        let old_ms = old.millis().map(|millis| i64::try_from(millis).unwrap_or(i64::MAX));
        let refused = (self.absent == Wanted::Yes && old_ms.is_some())
            || (self.present == Wanted::Yes && old_ms.is_none())
            || (self.later == Wanted::Yes && old_ms.is_none_or(|old_ms| new_ms <= old_ms))
            || (self.earlier == Wanted::Yes && old_ms.is_some_and(|old_ms| new_ms >= old_ms));
        !refused
    }
}

fn set_deadline(
    call: &mut Call<'_>,
    (unit, since): (Unit, Since),
    name: &'static str,
) -> Result<(), Fault> {
    let conditions = Conditions::parse(call)?;
    let new_ms = Moment { argument: 2, unit, since }.millis(call, name)?;
    let now_ms = call.now_ms();
    let changed = call.place().write(call.key(1)?, |view| match view {
        Some(view) if conditions.allow(view.deadline(), new_ms) => {
            (future(new_ms, now_ms).map_or(Edit::Delete, Edit::Expire), 1)
        }
        _ => (Edit::Keep, 0),
    })?;
    call.output.integer(changed);
    Ok(())
}

pub(crate) fn persist(call: &mut Call<'_>) -> Result<(), Fault> {
    let changed = call.place().write(call.key(1)?, |view| match view {
        Some(view) if view.deadline() != Deadline::NEVER => (Edit::Expire(Deadline::NEVER), 1),
        _ => (Edit::Keep, 0),
    })?;
    call.output.integer(changed);
    Ok(())
}
