//! INCR and its relatives.

use crate::entry::Deadline;
use crate::resp::decimal::Fraction;
use crate::resp::fault::Fault;
use crate::resp::session::Call;
use crate::store::edit::{Edit, NewValue};
use crate::store::view::{ValueRef, View};

pub(crate) fn incr(call: &mut Call<'_>) -> Result<(), Fault> {
    add(call, 1)
}

pub(crate) fn decr(call: &mut Call<'_>) -> Result<(), Fault> {
    add(call, -1)
}

pub(crate) fn incrby(call: &mut Call<'_>) -> Result<(), Fault> {
    let delta = call.integer(2)?;
    add(call, delta)
}

pub(crate) fn decrby(call: &mut Call<'_>) -> Result<(), Fault> {
    let delta = call.integer(2)?;
    let delta = delta.checked_neg().ok_or(Fault::other("decrement would overflow"))?;
    add(call, delta)
}

fn add(call: &mut Call<'_>, delta: i64) -> Result<(), Fault> {
    let (key, place) = (call.key(1)?, call.place());
    let sum = place.write(key, |view| match sum(view, delta) {
        // A counter that is begun here has no deadline; a value that is there keeps its own.
        Ok(sum) => {
            let deadline = view.map_or(Deadline::NEVER, |view| view.deadline());
            (Edit::Add { delta, deadline }, Ok(sum))
        }
        Err(fault) => (Edit::Keep, Err(fault)),
    })??;
    call.output.integer(sum);
    Ok(())
}

fn sum(view: Option<View<'_>>, delta: i64) -> Result<i64, Fault> {
    let base = match view {
        None => 0,
        Some(view) => view.value().as_integer().ok_or(Fault::NotInteger)?,
    };
    base.checked_add(delta).ok_or(Fault::Overflow)
}

pub(crate) fn incrbyfloat(call: &mut Call<'_>) -> Result<(), Fault> {
    let (key, place) = (call.key(1)?, call.place());
    let delta = call.argument(2);
    let text = place.write(key, |view| match float_sum(view, delta) {
        Err(fault) => (Edit::Keep, Err(fault)),
        Ok(text) => {
            let value = NewValue::Owned(text.clone().into_bytes());
            let deadline = view.map_or(Deadline::NEVER, |view| view.deadline());
            let attributes = view.and_then(|view| view.attributes().cloned());
            (Edit::Set { value, deadline, attributes }, Ok(text))
        }
    })??;
    call.output.bulk(text.as_bytes());
    Ok(())
}

fn float_sum(view: Option<View<'_>>, delta: &[u8]) -> Result<String, Fault> {
    let zero = ValueRef::Counter(0);
    let base = view.as_ref().map_or(zero, View::value).with_bytes(Fraction::parse);
    let base = base.ok_or(Fault::NotFloat)?;
    let delta = Fraction::parse(delta).ok_or(Fault::NotFloat)?;
    Ok(base.plus(delta).ok_or(Fault::NotFinite)?.text())
}
