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
    /// EX, PX, EXAT or PXAT.
    Until(Moment),
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Millis,
}

/// What a number counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    Now,
    Epoch,
}

/// A point in time as a client writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// Index of the number.
    pub(super) argument: usize,
    pub(super) unit: Unit,
    pub(super) since: Since,
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
    let (unit, since) = match call.argument(at).to_ascii_lowercase().as_slice() {
        b"ex" => (Unit::Seconds, Since::Now),
        b"px" => (Unit::Millis, Since::Now),
        b"exat" => (Unit::Seconds, Since::Epoch),
        b"pxat" => (Unit::Millis, Since::Epoch),
        _ => return Err(Fault::Syntax),
    };
    // The same option may come twice: the last one counts, as in Redis.
    let again = match *lifetime {
        Lifetime::Unsaid => true,
        Lifetime::Until(before) => (before.unit, before.since) == (unit, since),
        Lifetime::Keep | Lifetime::Persist => false,
    };
    if !again || at + 1 >= call.len() {
        return Err(Fault::Syntax);
    }
    *lifetime = Lifetime::Until(Moment { argument: at + 1, unit, since });
    Ok(at + 1)
}

impl Moment {
    /// In ms since the epoch. It may have passed.
    ///
    /// Fails where the number is none, or where 64 bits cannot count that far; `name` is the
    /// command's.
    pub(super) fn millis(self, call: &Call<'_>, name: &'static str) -> Result<i64, Fault> {
        let number = call.integer(self.argument)?;
        let millis = match self.unit {
            Unit::Seconds => number.checked_mul(1_000),
            Unit::Millis => Some(number),
        };
        let absolute = millis.and_then(|millis| match self.since {
            Since::Now => millis.checked_add_unsigned(call.now_ms()),
            Since::Epoch => Some(millis),
        });
        absolute.ok_or(Fault::ExpireTime(name))
    }

    /// The deadline that it is for the command `name`, which takes positive numbers only: `None` is
    /// in the past.
    pub(super) fn deadline(
        self,
        call: &Call<'_>,
        name: &'static str,
    ) -> Result<Option<Deadline>, Fault> {
        if call.integer(self.argument)? <= 0 {
            return Err(Fault::ExpireTime(name));
        }
        Ok(future(self.millis(call, name)?, call.now_ms()))
    }
}
