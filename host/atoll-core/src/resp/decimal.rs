//! Exact decimal fractions in the text of requests and replies.

use std::fmt::Write as _;

/// Digits after the point that INCRBYFLOAT keeps, as in Redis.
const FRACTION_DIGITS_MAX: u32 = 17;
/// Longest text that is read as a fraction, in bytes. Longer is not a number for us.
const FRACTION_TEXT_BYTES_MAX: usize = 256;

/// A number that INCRBYFLOAT can add: exact while it fits, else a double.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fraction {
    /// `units` / 10^`scale`, with `scale` at most [`FRACTION_DIGITS_MAX`].
    Exact { units: i128, scale: u32 },
    /// Too large or too fine for that.
    Double(f64),
}

impl Fraction {
    /// Reads a decimal number, with an optional exponent. Infinities are numbers, NaN is not.
    pub fn parse(text: &[u8]) -> Option<Fraction> {
        if text.is_empty() || text.len() > FRACTION_TEXT_BYTES_MAX {
            return None;
        }
        if let Some(exact) = parse_exact(text) {
            return Some(exact);
        }
        let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
        (!value.is_nan()).then_some(Fraction::Double(value))
    }

    /// The sum, or `None` where it is infinite or not a number.
    pub fn plus(self, other: Fraction) -> Option<Fraction> {
        if let Some((a, b, scale)) = align(self, other)
            && let Some(units) = a.checked_add(b)
        {
            return Some(Fraction::Exact { units, scale });
        }
        let sum = self.to_f64() + other.to_f64();
        sum.is_finite().then_some(Fraction::Double(sum))
    }

    fn to_f64(self) -> f64 {
        match self {
            Fraction::Exact { units, scale } => units as f64 / 10f64.powi(scale as i32),
            Fraction::Double(value) => value,
        }
    }

    /// The number without exponent, trailing zeros or a bare point.
    pub fn text(self) -> String {
        match self {
            Fraction::Double(value) => {
                let text = format!("{value:.*}", FRACTION_DIGITS_MAX as usize);
                let trimmed = text.trim_end_matches('0').trim_end_matches('.');
                if trimmed == "-0" { "0".to_owned() } else { trimmed.to_owned() }
            }
            Fraction::Exact { units, scale } => exact_text(units, scale),
        }
    }
}

/// Both numbers over the same power of ten.
fn align(a: Fraction, b: Fraction) -> Option<(i128, i128, u32)> {
    let (
        Fraction::Exact { units: a, scale: a_scale },
        Fraction::Exact { units: b, scale: b_scale },
    ) = (a, b)
    else {
        return None;
    };
    let scale = a_scale.max(b_scale);
    let a = a.checked_mul(10i128.pow(scale - a_scale))?;
    let b = b.checked_mul(10i128.pow(scale - b_scale))?;
    Some((a, b, scale))
}

fn parse_exact(text: &[u8]) -> Option<Fraction> {
    let (digits, exponent) = match text.iter().position(|byte| byte.eq_ignore_ascii_case(&b'e')) {
        None => (text, 0),
        Some(at) => (&text[..at], small_exponent(&text[at + 1..])?),
    };
    let (negative, digits) = match digits {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let (mut units, mut scale, mut digit_count, mut in_fraction) = (0i128, 0i32, 0, false);
    for &byte in digits {
        match byte {
            b'0'..=b'9' => {
                units = units.checked_mul(10)?.checked_add(i128::from(byte - b'0'))?;
                scale += i32::from(in_fraction);
                digit_count += 1;
            }
            b'.' if !in_fraction => in_fraction = true,
            _ => return None,
        }
    }
    scale -= exponent;
    if scale < 0 {
        units = units.checked_mul(10i128.checked_pow(scale.unsigned_abs())?)?;
        scale = 0;
    }
    let scale = scale.unsigned_abs();
    let fits = digit_count > 0 && scale <= FRACTION_DIGITS_MAX;
    fits.then_some(Fraction::Exact { units: if negative { -units } else { units }, scale })
}

/// The exponent that `text` spells, where it is small enough to stay exact.
fn small_exponent(text: &[u8]) -> Option<i32> {
    let number: i32 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (-40..=40).contains(&number).then_some(number)
}

fn exact_text(units: i128, scale: u32) -> String {
    let power = 10u128.pow(scale);
    let magnitude = units.unsigned_abs();
    let mut text = String::new();
    if units < 0 {
        text.push('-');
    }
    // Writing to a string cannot fail.
    let _ = write!(text, "{}", magnitude / power);
    let fraction = magnitude % power;
    if fraction > 0 {
        let _ = write!(text, ".{fraction:0width$}", width = scale as usize);
        text.truncate(text.trim_end_matches('0').len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_sum(a: &str, b: &str, want: Option<&str>) {
        let sum = || Fraction::parse(a.as_bytes())?.plus(Fraction::parse(b.as_bytes())?);
        assert_eq!(sum().map(Fraction::text).as_deref(), want, "{a} + {b}");
    }

    #[test]
    fn decimal_fractions_add_up_exactly() {
        check_sum("0.1", "0.2", Some("0.3"));
        check_sum("10.50", "0.1", Some("10.6"));
        check_sum("10.6", "-5", Some("5.6"));
        check_sum("5.0e3", "2.0e2", Some("5200"));
        check_sum("1000000", "3.14", Some("1000003.14"));
        check_sum("1", "1e-3", Some("1.001"));
        check_sum("1", "-2.5E+1", Some("-24"));
        check_sum("3", "-3.0", Some("0"));
        check_sum("-0.5", "0.25", Some("-0.25"));
        check_sum("1e300", "1", Some(format!("{:.0}", 1e300).as_str()));
    }

    #[test]
    fn what_is_no_finite_number_is_refused() {
        check_sum("1", "inf", None);
        check_sum("1", "nan", None);
        check_sum("1", "abc", None);
        check_sum("1", "", None);
        check_sum("1", " 2", None);
        check_sum("1", ".", None);
        check_sum("1", "e5", None);
        check_sum("1", "1e", None);
        check_sum("1", "1e+-5", None);
        check_sum("1e308", "1e308", None);
    }
}
