//! The part of a path after `?`: parameters, each given once and known by name.

use super::path::decode;
use crate::problem::Problem;
use atoll_core::clock::Now;
use atoll_core::entry::Deadline;
use atoll_core::limits::DEADLINE_MS_MAX;

/// Parameters as they were sent, decoded.
#[derive(Debug)]
pub(super) struct Query {
    given: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Query {
    /// Parses `text` as a web form does: `+` is a space, `%2B` a plus.
    ///
    /// A name that is not among `known` is an error: a mistyped `ttl` must not store for ever.
    pub(super) fn parse(text: Option<&str>, known: &[&str]) -> Result<Query, Problem> {
        Query::parse_repeatable(text, known, &[])
    }

    /// The same, where those among `repeatable` may be given more than once.
    pub(super) fn parse_repeatable(
        text: Option<&str>,
        known: &[&str],
        repeatable: &[&str],
    ) -> Result<Query, Problem> {
        let among = |names: &[&str], name: &[u8]| names.iter().any(|n| n.as_bytes() == name);
        let mut given: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for pair in text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (form(name)?, form(value)?);
            if among(repeatable, &name) {
                given.push((name, value));
                continue;
            }
            if !among(known, &name) {
                return Err(unknown(&name, &[repeatable, known].concat()));
            }
            if given.iter().any(|(earlier, _)| *earlier == name) {
                let name = String::from_utf8_lossy(&name);
                let detail = format!("the parameter {name} is given twice");
                return Err(Problem::bad_request("repeated-parameter", detail));
            }
            given.push((name, value));
        }
        Ok(Query { given })
    }

    /// The value of a parameter, if it was given.
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        let found = self.given.iter().find(|(given, _)| given == name.as_bytes());
        found.map(|(_, value)| &value[..])
    }

    /// Every value of a parameter that may be repeated, in the order given.
    pub(super) fn get_all<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q [u8]> {
        let found = self.given.iter().filter(move |(given, _)| given == name.as_bytes());
        found.map(|(_, value)| &value[..])
    }

    /// When a value that is being written ends: `ttl` or `expires_at`.
    pub(super) fn lifetime(&self) -> Result<Lifetime, Problem> {
        let seconds = |name| match self.get(name) {
            None => Ok(None),
            Some(value) => {
                let text = std::str::from_utf8(value).unwrap_or_default();
                // Rust's own parser would also take `inf`, `nan` and a sign.
                let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
                let seconds = if plain { text.parse().ok() } else { None };
                seconds.map(Some).ok_or_else(|| bad_lifetime(name))
            }
        };
        Lifetime::new(seconds("ttl")?, seconds("expires_at")?)
    }
}

/// Decodes a name or a value.
fn form(text: &str) -> Result<Vec<u8>, Problem> {
    decode(text.replace('+', " ").as_bytes())
}

fn unknown(name: &[u8], known: &[&str]) -> Problem {
    let name = String::from_utf8_lossy(name);
    let detail = match known {
        [] => format!("there is no parameter {name:?} here"),
        known => format!("there is no parameter {name:?} here; known: {}", known.join(", ")),
    };
    Problem::bad_request("unknown-parameter", detail)
}

/// How long a value that is being written is to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// Until it is deleted.
    Endless,
    /// So long after the write, in ms.
    For(u64),
    /// Until then, in ms since the Unix epoch.
    Until(u64),
}

impl Lifetime {
    /// From seconds, with fractions down to a millisecond: more than none, at most to the year
    /// 10889.
    pub(super) fn new(ttl_s: Option<f64>, expires_at_s: Option<f64>) -> Result<Lifetime, Problem> {
        match (ttl_s, expires_at_s) {
            (None, None) => Ok(Lifetime::Endless),
            (Some(ttl_s), None) => {
                millis(ttl_s).map(Lifetime::For).ok_or_else(|| bad_lifetime("ttl"))
            }
            (None, Some(at_s)) => {
                millis(at_s).map(Lifetime::Until).ok_or_else(|| bad_lifetime("expires_at"))
            }
            (Some(_), Some(_)) => {
                let detail = "ttl and expires_at are both given; choose one";
                Err(Problem::bad_request("bad-lifetime", detail))
            }
        }
    }

    /// The deadline of a write at `now`. One that has passed is refused: who writes means to read.
    pub(super) fn deadline(self, now: Now) -> Result<Deadline, Problem> {
        match self {
            Lifetime::Endless => Ok(Deadline::NEVER),
            Lifetime::For(ms) => Ok(Deadline::at_millis(now.millis().saturating_add(ms))),
            Lifetime::Until(at_ms) if at_ms > now.millis() => Ok(Deadline::at_millis(at_ms)),
            Lifetime::Until(_) => {
                let detail = "expires_at lies in the past; it is in seconds since 1970";
                Err(Problem::bad_request("bad-lifetime", detail))
            }
        }
    }
}

/// Milliseconds from seconds, or `None` outside 1 ms to the latest deadline.
fn millis(seconds: f64) -> Option<u64> {
    let millis = (seconds * 1_000.0).round();
    // A NaN is in no range.
    (1.0..=DEADLINE_MS_MAX as f64).contains(&millis).then_some(millis as u64)
}

fn bad_lifetime(name: &str) -> Problem {
    let detail = format!("{name} is a number of seconds above 0, such as 60 or 0.5");
    Problem::bad_request("bad-lifetime", detail)
}

/// Seconds since the Unix epoch, with as many digits after the point as there are milliseconds.
pub(super) fn seconds_text(millis: u64) -> String {
    let (seconds, fraction) = (millis / 1_000, millis % 1_000);
    if fraction == 0 {
        return seconds.to_string();
    }
    format!("{seconds}.{fraction:03}").trim_end_matches('0').to_owned()
}

/// The same as a number.
pub(super) fn seconds_number(millis: u64) -> serde_json::Number {
    match (millis / 1_000, millis % 1_000) {
        (seconds, 0) => seconds.into(),
        // Below 2^48 ms, so the nearest double is exact to the millisecond.
        _ => serde_json::Number::from_f64(millis as f64 / 1_000.0).unwrap_or_else(|| 0.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_lifetime(query: &str, want: Option<Lifetime>) {
        let query = Query::parse(Some(query), &["ttl", "expires_at"]);
        assert_eq!(query.and_then(|query| query.lifetime()).ok(), want);
    }

    #[test]
    fn a_lifetime_is_seconds_down_to_a_millisecond() {
        check_lifetime("", Some(Lifetime::Endless));
        check_lifetime("ttl=60", Some(Lifetime::For(60_000)));
        check_lifetime("ttl=0.0015", Some(Lifetime::For(2)));
        check_lifetime("ttl=.5", Some(Lifetime::For(500)));
        check_lifetime("expires_at=1764000000.25", Some(Lifetime::Until(1_764_000_000_250)));
        for bad in [
            "ttl=",
            "ttl",
            "ttl=0",
            "ttl=0.0001",
            "ttl=-1",
            "ttl=1e3",
            "ttl=inf",
            "ttl=NaN",
            "ttl=1s",
            "ttl=999999999999999999",
            "ttl=1&expires_at=2",
            "ttl=1&ttl=1",
            "tll=1",
            "ttl=%zz",
        ] {
            check_lifetime(bad, None);
        }
    }

    #[test]
    fn a_deadline_in_the_past_is_refused() {
        let now = Now::from_millis(10_000);
        let deadline = |lifetime: Lifetime| lifetime.deadline(now).ok();
        assert_eq!(deadline(Lifetime::Until(10_000)), None);
        assert_eq!(deadline(Lifetime::Until(10_001)), Some(Deadline::at_millis(10_001)));
        assert_eq!(deadline(Lifetime::For(5)), Some(Deadline::at_millis(10_005)));
        assert_eq!(deadline(Lifetime::Endless), Some(Deadline::NEVER));
    }

    #[test]
    fn seconds_are_written_so_that_they_can_be_given_back() {
        for (millis, want) in [(1_000, "1"), (1_500, "1.5"), (1_001, "1.001"), (0, "0")] {
            assert_eq!(seconds_text(millis), want);
            assert_eq!(seconds_number(millis).to_string(), want);
        }
    }

    #[test]
    fn a_form_has_pluses_for_spaces_and_any_byte_by_escape() {
        let query = Query::parse(Some("prefix=a+b%2B%ff&&x="), &["prefix", "x"]).expect("valid");
        assert_eq!(query.get("prefix"), Some(&b"a b+\xff"[..]));
        assert_eq!(query.get("x"), Some(&b""[..]));
        assert_eq!(query.get("y"), None);
    }
}
