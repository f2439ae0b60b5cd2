//! Time as the store sees it: wall time as an argument, and the hybrid logical clock.
//!
//! Source: Kulkarni et al., "Logical Physical Clocks" (2014). One 64-bit word holds 54 bits of
//! microseconds since 1970 and a 10-bit counter; an overflowing counter carries into the time.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// Bits of the counter below the microseconds.
const COUNTER_BITS: u32 = 10;

/// Wall time, in microseconds since the Unix epoch. A shell reads its clock once for each batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    micros: u64,
}

impl Now {
    /// Wall time from microseconds since the Unix epoch; at most 2^53, which is the year 2255.
    pub const fn from_micros(micros: u64) -> Now {
        let ceiling = 1 << 53;
        Now { micros: if micros > ceiling { ceiling } else { micros } }
    }

    /// Wall time from milliseconds since the Unix epoch.
    pub const fn from_millis(millis: u64) -> Now {
        Now::from_micros(millis.saturating_mul(1_000))
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> u64 {
        self.micros
    }

    /// Milliseconds since the Unix epoch.
    pub const fn millis(self) -> u64 {
        self.micros / 1_000
    }
}

/// A reading of the hybrid logical clock.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Hlc(u64);

impl Hlc {
    /// Before every write.
    pub const ZERO: Hlc = Hlc(0);

    /// After every write.
    pub const MAX: Hlc = Hlc(u64::MAX);

    /// The reading that a wall clock alone would give.
    pub const fn from_wall(now: Now) -> Hlc {
        Hlc(now.micros << COUNTER_BITS)
    }

    /// The 64-bit word, as stored and sent.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// A reading from its 64-bit word.
    pub const fn from_bits(bits: u64) -> Hlc {
        Hlc(bits)
    }

    /// Microseconds since the Unix epoch, without the counter.
    pub const fn micros(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// Milliseconds since the Unix epoch, rounded down.
    pub const fn millis(self) -> u64 {
        self.micros() / 1_000
    }

    /// The next reading after `self` that is also not before the wall clock.
    #[must_use]
    pub fn tick(self, now: Now) -> Hlc {
        Hlc(Hlc::from_wall(now).0.max(self.0.saturating_add(1)))
    }
}

/// When and where a write was made: the total order by which the newest write wins.
///
/// Equal stamps mean the same write. Written as `hlc-origin` in hexadecimal, equal on every node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Compared first.
    pub hlc: Hlc,
    /// The process that made the write; breaks ties the same way everywhere.
    pub origin: Uuid,
}

impl Stamp {
    /// Before every write of every origin.
    pub const ZERO: Stamp = Stamp { hlc: Hlc::ZERO, origin: Uuid::nil() };
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.hlc.0, self.origin.simple())
    }
}

/// Not the text of a stamp.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a stamp: expected `hlc-origin` in hexadecimal")]
pub struct StampError;

impl FromStr for Stamp {
    type Err = StampError;

    fn from_str(text: &str) -> Result<Stamp, StampError> {
        let (hlc, origin) = text.split_once('-').ok_or(StampError)?;
        Ok(Stamp {
            hlc: Hlc(u64::from_str_radix(hlc, 16).map_err(|_| StampError)?),
            origin: Uuid::try_parse(origin).map_err(|_| StampError)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_follows_the_wall_and_never_goes_back() {
        let first = Hlc::ZERO.tick(Now::from_micros(1_000));
        assert_eq!(first.micros(), 1_000);
        let second = first.tick(Now::from_micros(1_000));
        assert!(second > first);
        let behind = second.tick(Now::from_micros(10));
        assert!(behind > second, "a clock that steps back is absorbed");
        assert_eq!(behind.tick(Now::from_micros(2_000)).micros(), 2_000);
    }

    #[test]
    fn a_full_counter_carries_into_the_time() {
        let mut hlc = Hlc::from_wall(Now::from_micros(7));
        for _ in 0..1 << COUNTER_BITS {
            hlc = hlc.tick(Now::from_micros(7));
        }
        assert_eq!(hlc.micros(), 8);
    }

    #[test]
    fn stamps_order_by_time_then_origin_and_survive_text() {
        let low = Stamp { hlc: Hlc::from_bits(5), origin: Uuid::from_u128(9) };
        let high = Stamp { hlc: Hlc::from_bits(5), origin: Uuid::from_u128(10) };
        let later = Stamp { hlc: Hlc::from_bits(6), origin: Uuid::from_u128(1) };
        assert!(low < high && high < later);
        assert_eq!(later.to_string().parse(), Ok(later));
        for text in ["", "-", "5", "5-", "x-00000000000000000000000000000001", "5-zz"] {
            assert_eq!(text.parse::<Stamp>(), Err(StampError), "{text}");
        }
    }
}
