//! GET, SET and their relatives: one key, one whole value.

use super::answer_value;
use super::options::{self, Answer, Lifetime, Moment, Presence, Since, Unit};
use crate::entry::Deadline;
use crate::resp::fault::Fault;
use crate::resp::session::Call;
use crate::store::edit::{Edit, NewValue};

#[inline]
pub(crate) fn get(call: &mut Call<'_>) -> Result<(), Fault> {
    let (key, place) = (call.key(1)?, call.place());
    let output = &mut *call.output;
    let found = place.read(key, |view| answer_value(output, view));
    call.around.tally.looked_up(usize::from(found), usize::from(!found));
    Ok(())
}

/// The argument at `index` as a value to store; long ones are kept as they were received.
#[inline]
fn value<'c>(call: &Call<'c>, index: usize) -> NewValue<'c> {
    match call.arguments.shared(index) {
        Some(bytes) => NewValue::Shared(bytes.clone()),
        None => NewValue::Copy(call.argument(index)),
    }
}

#[inline]
pub(crate) fn set(call: &mut Call<'_>) -> Result<(), Fault> {
    if call.len() > 3 {
        return set_with_options(call);
    }
    let (key, place) = (call.key(1)?, call.place());
    let edit = Edit::set(value(call, 2), Deadline::NEVER);
    place.write(key, |_| (edit, ()))?;
    call.output.ok();
    Ok(())
}

fn set_with_options(call: &mut Call<'_>) -> Result<(), Fault> {
    let options = options::of_set(call, 3)?;
    let (key, place, value) = (call.key(1)?, call.place(), value(call, 2));
    let deadline = match options.lifetime {
        Lifetime::Until(moment) => moment.deadline(call, "set")?,
        _ => Some(Deadline::NEVER),
    };
    let output = &mut *call.output;
    let stored = place.write(key, |view| {
        if options.answer == Answer::OldValue {
            answer_value(output, view);
        }
        let wanted = match options.presence {
            Presence::Any => true,
            Presence::Absent => view.is_none(),
            Presence::Present => view.is_some(),
        };
        let kept = match (options.lifetime, view) {
            (Lifetime::Keep, Some(view)) => Some(view.deadline()),
            _ => deadline,
        };
        match (wanted, kept) {
            (false, _) => (Edit::Keep, false),
            (true, Some(deadline)) => (Edit::set(value, deadline), true),
            (true, None) => (Edit::Delete, true),
        }
    })?;
    match (options.answer, stored) {
        (Answer::OldValue, _) => {}
        (Answer::Ok, true) => call.output.ok(),
        (Answer::Ok, false) => call.output.null(),
    }
    Ok(())
}

pub(crate) fn setnx(call: &mut Call<'_>) -> Result<(), Fault> {
    let (key, place, value) = (call.key(1)?, call.place(), value(call, 2));
    let stored = place.write(key, |view| match view {
        Some(_) => (Edit::Keep, 0),
        None => (Edit::set(value, Deadline::NEVER), 1),
    })?;
    call.output.integer(stored);
    Ok(())
}

pub(crate) fn setex(call: &mut Call<'_>) -> Result<(), Fault> {
    set_for(call, Unit::Seconds, "setex")
}

pub(crate) fn psetex(call: &mut Call<'_>) -> Result<(), Fault> {
    set_for(call, Unit::Millis, "psetex")
}

fn set_for(call: &mut Call<'_>, unit: Unit, name: &'static str) -> Result<(), Fault> {
    let (key, place, value) = (call.key(1)?, call.place(), value(call, 3));
    // A positive time from now on is never in the past.
    let deadline = Moment { argument: 2, unit, since: Since::Now }.deadline(call, name)?;
    let deadline = deadline.unwrap_or(Deadline::NEVER);
    place.write(key, |_| (Edit::set(value, deadline), ()))?;
    call.output.ok();
    Ok(())
}

pub(crate) fn getset(call: &mut Call<'_>) -> Result<(), Fault> {
    let (key, place, value) = (call.key(1)?, call.place(), value(call, 2));
    let output = &mut *call.output;
    place.write(key, |view| {
        answer_value(output, view);
        (Edit::set(value, Deadline::NEVER), ())
    })
}

pub(crate) fn getdel(call: &mut Call<'_>) -> Result<(), Fault> {
    let (key, place) = (call.key(1)?, call.place());
    let output = &mut *call.output;
    place.write(key, |view| {
        let found = answer_value(output, view);
        (if found { Edit::Delete } else { Edit::Keep }, ())
    })
}

pub(crate) fn getex(call: &mut Call<'_>) -> Result<(), Fault> {
    let options = options::of_getex(call, 2)?;
    let (key, place) = (call.key(1)?, call.place());
    let deadline = match options.lifetime {
        Lifetime::Unsaid => return get(call),
        Lifetime::Until(moment) => {
            // Redis looks for the key before it looks at the number.
            if place.read(key, |view| view.is_none()) {
                call.output.null();
                return Ok(());
            }
            moment.deadline(call, "getex")?
        }
        Lifetime::Persist | Lifetime::Keep => Some(Deadline::NEVER),
    };
    let output = &mut *call.output;
    place.write(key, |view| {
        answer_value(output, view);
        let edit = match (view, deadline) {
            (None, _) => Edit::Keep,
            (Some(_), None) => Edit::Delete,
            (Some(view), Some(deadline)) if view.deadline() == deadline => Edit::Keep,
            (Some(_), Some(deadline)) => Edit::Expire(deadline),
        };
        (edit, ())
    })
}
