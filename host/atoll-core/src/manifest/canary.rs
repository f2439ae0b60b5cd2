//! A version that gets a share of the requests, beside the one that gets the rest.

use super::HandlerRecord;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The newer version on trial, within the record of the live one: so both change in one write, and
/// of two changes at once on two nodes one wins as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// Requests that it gets.
    pub share: Share,
    /// What it is. It has the routes of the live version and no canary of its own.
    pub record: Box<HandlerRecord>,
}

/// A part of all requests: 0.01 % to 100 %, in steps of 0.01 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Share(u16);

/// The whole, in steps.
const WHOLE: u16 = 10_000;

/// Why text is no share.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no share of the requests: write 5% or 0.5%, from 0.01% to 100%")]
pub struct ShareError(pub String);

impl Share {
    /// Whether a request with these dice, any number, is one of this part.
    pub fn takes(self, dice: u64) -> bool {
        // The high bits of a product spread as evenly as the dice, and need no division.
        let step = (u128::from(dice) * u128::from(WHOLE)) >> 64;
        step < u128::from(self.0)
    }
}

impl TryFrom<u16> for Share {
    type Error = ShareError;

    fn try_from(steps: u16) -> Result<Share, ShareError> {
        match (1..=WHOLE).contains(&steps) {
            true => Ok(Share(steps)),
            false => Err(ShareError(format!("{steps}/{WHOLE}"))),
        }
    }
}

impl From<Share> for u16 {
    fn from(share: Share) -> u16 {
        share.0
    }
}

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Share, ShareError> {
        let refused = || ShareError(text.chars().take(32).collect());
        let digits = text.strip_suffix('%').unwrap_or(text);
        let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_number = |text: &str, most: usize| {
            (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
        };
        if !is_number(whole, 3) || !is_number(part, 2) {
            return Err(refused());
        }
        let number = |text: &str| text.parse::<u32>().map_err(|_| refused());
        let part = number(part)? * if part.len() == 1 { 10 } else { 1 };
        let steps = u16::try_from(number(whole)? * 100 + part).map_err(|_| refused())?;
        Share::try_from(steps).map_err(|_| refused())
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 100, self.0 % 100);
        match part {
            0 => write!(f, "{whole}%"),
            part if part % 10 == 0 => write!(f, "{whole}.{}%", part / 10),
            part => write!(f, "{whole}.{part:02}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Option<&str>) {
        let share = text.parse::<Share>().ok().map(|share| share.to_string());
        assert_eq!(share.as_deref(), want, "{text}");
    }

    #[test]
    fn a_share_is_a_percentage_with_two_places_at_most() {
        check("5%", Some("5%"));
        check("5", Some("5%"));
        check("0.5%", Some("0.5%"));
        check("0.01", Some("0.01%"));
        check("12.34%", Some("12.34%"));
        check("100%", Some("100%"));
        for bad in
            ["", "%", "0", "0%", "0.001", "100.01", "101", "999", "-5", "5 %", "a", "5.", ".5"]
        {
            check(bad, None);
        }
    }

    #[test]
    fn a_share_takes_its_part_of_all_dice_and_no_more() {
        let spread = |count: u64| (0..count).map(move |n| n * (u64::MAX / count));
        let taken = |text: &str| {
            let share: Share = text.parse().expect("a share");
            spread(10_000).filter(|dice| share.takes(*dice)).count()
        };
        assert!((499..=501).contains(&taken("5%")), "{}", taken("5%"));
        assert_eq!(taken("100%"), 10_000);
        assert!(taken("0.01%") >= 1 && taken("0.01%") <= 2);
    }
}
