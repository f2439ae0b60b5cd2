//! The options of SET and GETEX.

use crate::entry::Deadline;
use crate::resp::fault::Fault;
use crate::resp::session::{Call, future};

/// When a value shall go, as the client wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// Nothing was said.
    #[default]
    Unsaid,
    /// KEEPTTL.
    Keep,
    /// PERSIST.
    Persist,
    /// EX, PX, EXAT or PXAT, with the index of its number.
    Until { argument: usize, unit: Unit, from: From },
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Millis,
}

/// What a number counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Now,
    Epoch,
}

/// Whether the key must be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Presence {
    #[default]
    Any,
    /// NX.
    Absent,
    /// XX.
    Present,
}

/// What SET answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Answer {
    #[default]
    Ok,
    /// GET.
    OldValue,
}

/// The options of one SET or GETEX.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) lifetime: Lifetime,
    pub(super) presence: Presence,
    pub(super) answer: Answer,
}

/// Reads the options of SET, from the argument `first` on.
pub(super) fn of_set(call: &Call<'_>, first: usize) -> Result<Options, Fault> {
    let mut options = Options::default();
    let mut at = first;
    while at < call.len() {
        let word = |text| call.is(at, text);
        if word("nx") && options.presence != Presence::Present {
            options.presence = Presence::Absent;
        } else if word("xx") && options.presence != Presence::Absent {
            options.presence = Presence::Present;
        } else if word("get") {
            options.answer = Answer::OldValue;
        } else if word("keepttl") && matches!(options.lifetime, Lifetime::Unsaid | Lifetime::Keep) {
            options.lifetime = Lifetime::Keep;
        } else {
            at = deadline(call, at, &mut options.lifetime)?;
        }
        at += 1;
    }
    Ok(options)
}

/// Reads the options of GETEX, from the argument `first` on.
pub(super) fn of_getex(call: &Call<'_>, first: usize) -> Result<Options, Fault> {
    let mut options = Options::default();
    let mut at = first;
    while at < call.len() {
        let unsaid = matches!(options.lifetime, Lifetime::Unsaid | Lifetime::Persist);
        if call.is(at, "persist") && unsaid {
            options.lifetime = Lifetime::Persist;
        } else {
            at = deadline(call, at, &mut options.lifetime)?;
        }
        at += 1;
    }
    Ok(options)
}

/// Reads EX, PX, EXAT or PXAT at `at` and its number after it; returns the number's index.
fn deadline(call: &Call<'_>, at: usize, lifetime: &mut Lifetime) -> Result<usize, Fault> {
    let (unit, from) = match call.argument(at).to_ascii_lowercase().as_slice() {
        b"ex" => (Unit::Seconds, From::Now),
        b"px" => (Unit::Millis, From::Now),
        b"exat" => (Unit::Seconds, From::Epoch),
        b"pxat" => (Unit::Millis, From::Epoch),
        _ => return Err(Fault::Syntax),
    };
    // The same option may come twice: the last one counts, as in Redis.
    let again = match *lifetime {
        Lifetime::Unsaid => true,
        Lifetime::Until { unit: before, from: origin, .. } => (before, origin) == (unit, from),
        Lifetime::Keep | Lifetime::Persist => false,
    };
    if !again || at + 1 >= call.len() {
        return Err(Fault::Syntax);
    }
    *lifetime = Lifetime::Until { argument: at + 1, unit, from };
    Ok(at + 1)
}

/// The deadline that the number at `argument` means for the command `name`: `None` is in the past.
pub(super) fn resolve(
    call: &Call<'_>,
    (argument, unit, from): (usize, Unit, From),
    name: &'static str,
) -> Result<Option<Deadline>, Fault> {
    let number = call.integer(argument)?;
    let invalid = Fault::ExpireTime(name);
    if number <= 0 {
        return Err(invalid);
    }
    let millis = match unit {
        Unit::Seconds => number.checked_mul(1_000),
        Unit::Millis => Some(number),
    };
    let now_ms = call.now_ms();
    let absolute = millis.and_then(|millis| match from {
        From::Now => millis.checked_add_unsigned(now_ms),
        From::Epoch => Some(millis),
    });
    Ok(future(absolute.ok_or(invalid)?, now_ms))
}
