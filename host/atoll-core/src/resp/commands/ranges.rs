//! APPEND, STRLEN, GETRANGE, SETRANGE: parts of a value.

use crate::entry::Deadline;
use crate::limits::VALUE_BYTES_MAX;
use crate::resp::fault::Fault;
use crate::resp::session::Call;
use crate::store::edit::{Edit, NewValue};
use crate::store::view::{ValueRef, View};
use std::ops::Range;

pub(crate) fn strlen(call: &mut Call<'_>) -> Result<(), Fault> {
    let len = call.place().read(call.key(1)?, |view| view.map_or(0, |view| view.value().len()));
    call.output.count(len);
    Ok(())
}

/// The whole of `view` with `len` bytes for the result.
fn copy(view: Option<View<'_>>, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    if let Some(view) = view {
        view.value().with_bytes(|old| bytes.extend_from_slice(old));
    }
    bytes
}

/// A new version of what `view` shows, with the deadline and attributes of the old one.
fn rewritten<'e>(view: Option<View<'_>>, bytes: Vec<u8>) -> Edit<'e> {
    Edit::Set {
        value: NewValue::Owned(bytes),
        deadline: view.map_or(Deadline::NEVER, |view| view.deadline()),
        attributes: view.and_then(|view| view.attributes().cloned()),
    }
}

pub(crate) fn append(call: &mut Call<'_>) -> Result<(), Fault> {
    let (key, place, suffix) = (call.key(1)?, call.place(), call.argument(2));
    let len = place.write(key, |view| {
        let len = view.map_or(0, |view| view.value().len()) + suffix.len();
        if len > VALUE_BYTES_MAX {
            return (Edit::Keep, Err(Fault::ValueLength));
        }
        let mut bytes = copy(view, len);
        bytes.extend_from_slice(suffix);
        (rewritten(view, bytes), Ok(len))
    })??;
    call.session.worked_bytes += len;
    call.output.count(len);
    Ok(())
}

pub(crate) fn getrange(call: &mut Call<'_>) -> Result<(), Fault> {
    let (start, end) = (call.integer(2)?, call.integer(3)?);
    let (key, place) = (call.key(1)?, call.place());
    let output = &mut *call.output;
    place.read(key, |view| {
        let value = view.map_or(ValueRef::Inline(b""), |view| view.value());
        let range = slice(start, end, value.len());
        match value {
            // A part of a large value is shared like the whole.
            ValueRef::Shared(bytes) if !range.is_empty() => output.bulk_shared(&bytes.slice(range)),
            _ => value.with_bytes(|bytes| output.bulk(&bytes[range])),
        }
    });
    Ok(())
}

/// The bytes that GETRANGE means by `start` and `end` of a value of `len` bytes.
fn slice(start: i64, end: i64, len: usize) -> Range<usize> {
    let len_signed = i64::try_from(len).unwrap_or(i64::MAX);
    if start < 0 && end < 0 && start > end {
        return 0..0;
    }
    let from_end = |at: i64| if at < 0 { at.saturating_add(len_signed).max(0) } else { at };
    let (start, end) = (from_end(start), from_end(end).min(len_signed - 1));
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) if start <= end => start..end + 1,
        _ => 0..0,
    }
}

pub(crate) fn setrange(call: &mut Call<'_>) -> Result<(), Fault> {
    let offset = usize::try_from(call.integer(2)?).map_err(|_| Fault::Offset)?;
    let (key, place, patch) = (call.key(1)?, call.place(), call.argument(3));
    let len = place.write(key, |view| {
        let old_len = view.map_or(0, |view| view.value().len());
        if patch.is_empty() {
            return (Edit::Keep, Ok(old_len));
        }
        let end = offset.saturating_add(patch.len());
        if end > VALUE_BYTES_MAX {
            return (Edit::Keep, Err(Fault::ValueLength));
        }
        let len = old_len.max(end);
        let mut bytes = copy(view, len);
        bytes.resize(len, 0);
        bytes[offset..end].copy_from_slice(patch);
        (rewritten(view, bytes), Ok(len))
    })??;
    call.session.worked_bytes += len;
    call.output.count(len);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_counts_from_either_end_and_never_leaves_the_value() {
        for (start, end, want) in [
            (0, -1, 0..5),
            (0, 0, 0..1),
            (1, 3, 1..4),
            (-3, -1, 2..5),
            (-1, -3, 0..0),
            (3, 1, 0..0),
            (0, 100, 0..5),
            (-100, 100, 0..5),
            (5, 10, 0..0),
            (i64::MIN, i64::MAX, 0..5),
            (-100, -100, 0..1),
        ] {
            assert_eq!(slice(start, end, 5), want, "{start} {end}");
        }
        assert_eq!(slice(0, -1, 0), 0..0);
    }
}
