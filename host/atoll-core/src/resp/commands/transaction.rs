//! MULTI, EXEC, DISCARD, WATCH, UNWATCH: several commands as one.

use crate::resp::fault::Fault;
use crate::resp::session::Call;
use crate::resp::transaction::Queue;

pub(crate) fn multi(call: &mut Call<'_>) -> Result<(), Fault> {
    if call.session.queue.is_some() {
        return Err(Fault::other("MULTI calls can not be nested"));
    }
    call.session.queue = Some(Box::new(Queue::new(call.session.database)));
    call.session.settle_queue();
    call.output.ok();
    Ok(())
}

/// Executes what was queued: all of it as one, or nothing.
pub(crate) fn exec(call: &mut Call<'_>) -> Result<(), Fault> {
    let queue = call.session.queue.take().ok_or(Fault::other("EXEC without MULTI"))?;
    let watch = call.session.watch.take().unwrap_or_default();
    call.session.settle_queue();
    if queue.is_spoilt() {
        return Err(Fault::Spoilt);
    }
    queue.check(call.around).map_err(|fault| Fault::Discarded(Box::new(fault)))?;
    call.execute_all(&queue, &watch);
    Ok(())
}

pub(crate) fn discard(call: &mut Call<'_>) -> Result<(), Fault> {
    call.session.queue.take().ok_or(Fault::other("DISCARD without MULTI"))?;
    call.session.watch = None;
    call.session.settle_queue();
    call.output.ok();
    Ok(())
}

pub(crate) fn watch(call: &mut Call<'_>) -> Result<(), Fault> {
    if call.session.queue.is_some() {
        return Err(Fault::other("WATCH inside MULTI is not allowed"));
    }
    call.watch_keys()?;
    call.output.ok();
    Ok(())
}

/// Within a transaction it comes too late: EXEC has compared the keys by then.
pub(crate) fn unwatch(call: &mut Call<'_>) -> Result<(), Fault> {
    call.session.watch = None;
    call.output.ok();
    Ok(())
}
