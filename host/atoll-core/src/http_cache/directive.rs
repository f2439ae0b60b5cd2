//! Cache-Control as text: names, arguments and what becomes of a broken one (RFC 9111 section 5.2).
//!
//! Knows no directive by name.

use http::HeaderName;
use std::borrow::Cow;

/// Largest number of seconds: what is larger is taken for it (RFC 9111 section 1.2.2).
pub const SECONDS_MAX: u64 = 1 << 31;

/// What follows a directive's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument<'f> {
    /// Nothing.
    None,
    /// A token, or the inside of a quoted string with its escapes undone.
    Text(Cow<'f, [u8]>),
    /// Neither: white space around `=`, a quote that does not close, text behind one that does.
    Broken,
}

/// A directive whose argument is a number of seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seconds {
    /// The directive is not there.
    #[default]
    Absent,
    /// It is there and its argument is no number: nothing good may follow from it.
    Invalid,
    /// At most [`SECONDS_MAX`].
    Given(u64),
}

/// A directive that is about the whole response or about some of its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The directive is not there.
    #[default]
    Absent,
    /// It is there without names, or with something that is none.
    Whole,
    /// Only these fields.
    Fields(Vec<HeaderName>),
}

impl Seconds {
    /// The number, where there is a valid one.
    pub fn given(self) -> Option<u64> {
        match self {
            Seconds::Given(seconds) => Some(seconds),
            Seconds::Absent | Seconds::Invalid => None,
        }
    }

    /// Whether the directive is there, in whatever form.
    pub fn is_present(self) -> bool {
        self != Seconds::Absent
    }

    /// Takes in one occurrence. Of several the first counts (RFC 9111 section 4.2.1).
    pub(super) fn meet(&mut self, argument: &Argument<'_>) {
        if *self == Seconds::Absent {
            *self = match argument {
                Argument::Text(text) => number(text).map_or(Seconds::Invalid, Seconds::Given),
                Argument::None | Argument::Broken => Seconds::Invalid,
            };
        }
    }
}

impl Scope {
    /// Takes in one occurrence. Several add up, and what cannot be understood covers everything.
    pub(super) fn meet(&mut self, argument: &Argument<'_>) {
        let named = match argument {
            Argument::Text(text) => names(text),
            Argument::None | Argument::Broken => None,
        };
        match (self, named) {
            (Scope::Whole, _) => {}
            (Scope::Fields(fields), Some(more)) => fields.extend(more),
            (this @ Scope::Absent, Some(fields)) => *this = Scope::Fields(fields),
            (this, None) => *this = Scope::Whole,
        }
    }

    /// The fields that are named.
    pub fn fields(&self) -> &[HeaderName] {
        match self {
            Scope::Fields(fields) => fields,
            Scope::Absent | Scope::Whole => &[],
        }
    }
}

/// Reads digits, and nothing else, as seconds.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = text.iter().fold(0_u64, |value, digit| {
        value.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    });
    Some(value.min(SECONDS_MAX))
}

/// A list of field names; `None` where it is empty or holds something else.
fn names(text: &[u8]) -> Option<Vec<HeaderName>> {
    let members = text.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    let members = members.filter(|member| !member.is_empty());
    let names: Result<Vec<HeaderName>, _> = members.map(HeaderName::from_bytes).collect();
    names.ok().filter(|names| !names.is_empty())
}

/// Hands each directive of the field's lines to `meet`, with its name in lower case.
pub(super) fn each<'f>(
    lines: impl IntoIterator<Item = &'f [u8]>,
    mut meet: impl FnMut(&str, &Argument<'f>),
) {
    for line in lines {
        let mut rest = line;
        while !rest.is_empty() {
            let (member, after) = split_member(rest);
            rest = after;
            if let Some((name, argument)) = parse(member) {
                let name = String::from_utf8_lossy(name).to_ascii_lowercase();
                meet(&name, &argument);
            }
        }
    }
}

/// The first member of a list and what follows its comma. A quote that never closes does not hide
/// the directives behind it: it is then a character like any other.
fn split_member(line: &[u8]) -> (&[u8], &[u8]) {
    let naive = || memchr::memchr(b',', line).unwrap_or(line.len());
    let mut at = 0;
    let mut quoted = false;
    while at < line.len() {
        match line[at] {
            b'"' => quoted = !quoted,
            b'\\' if quoted => at += 1,
            b',' if !quoted => break,
            _ => {}
        }
        at += 1;
    }
    let end = if quoted { naive() } else { at.min(line.len()) };
    (&line[..end], line.get(end + 1..).unwrap_or_default())
}

/// A directive's name and argument; `None` for an empty member.
fn parse(member: &[u8]) -> Option<(&[u8], Argument<'_>)> {
    let member = member.trim_ascii();
    let Some(equals) = memchr::memchr(b'=', member) else {
        // More than one word: the first is what it was meant to be.
        let name = member.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        let argument = if name.len() == member.len() { Argument::None } else { Argument::Broken };
        return (!name.is_empty()).then_some((name, argument));
    };
    let (name, value) = (&member[..equals], &member[equals + 1..]);
    let bare = name.trim_ascii();
    let touching = bare.len() == name.len() && value.trim_ascii().len() == value.len();
    let argument = if touching { argument(value) } else { Argument::Broken };
    (!bare.is_empty()).then_some((bare, argument))
}

fn argument(value: &[u8]) -> Argument<'_> {
    let Some(inner) = value.strip_prefix(b"\"") else {
        let broken = value.iter().any(|&byte| byte == b'"' || byte.is_ascii_whitespace());
        return if broken { Argument::Broken } else { Argument::Text(Cow::Borrowed(value)) };
    };
    let Some(inner) = inner.strip_suffix(b"\"") else { return Argument::Broken };
    if memchr::memchr2(b'\\', b'"', inner).is_none() {
        return Argument::Text(Cow::Borrowed(inner));
    }
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' => return Argument::Broken,
            b'\\' => match bytes.next() {
                Some(&escaped) => text.push(escaped),
                None => return Argument::Broken,
            },
            _ => text.push(byte),
        }
    }
    Argument::Text(Cow::Owned(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], want: &[(&str, Argument<'static>)]) {
        let mut found = Vec::new();
        each(lines.iter().map(|line| line.as_bytes()), |name, argument| {
            let owned = match argument {
                Argument::Text(text) => Argument::Text(Cow::Owned(text.to_vec())),
                Argument::None => Argument::None,
                Argument::Broken => Argument::Broken,
            };
            found.push((name.to_owned(), owned));
        });
        let want: Vec<_> =
            want.iter().map(|(name, argument)| ((*name).to_owned(), argument.clone())).collect();
        assert_eq!(found, want, "{lines:?}");
    }

    fn text(text: &'static str) -> Argument<'static> {
        Argument::Text(Cow::Borrowed(text.as_bytes()))
    }

    #[test]
    fn section_5_2_names_are_lowered_and_empty_members_skipped() {
        check(&["No-StOrE"], &[("no-store", Argument::None)]);
        check(&["", " , ,", "a,,b"], &[("a", Argument::None), ("b", Argument::None)]);
        check(&["a=1", "b=2"], &[("a", text("1")), ("b", text("2"))]);
    }

    #[test]
    fn section_5_2_both_forms_of_an_argument_are_taken() {
        check(&["max-age=\"3600\""], &[("max-age", text("3600"))]);
        check(&["no-cache=\"a, b\", c"], &[("no-cache", text("a, b")), ("c", Argument::None)]);
        check(&[r#"x="a\"b, c\\""#], &[("x", text("a\"b, c\\"))]);
        check(&["x=\"\""], &[("x", text(""))]);
    }

    #[test]
    fn section_5_2_an_argument_that_is_neither_is_broken() {
        for broken in [
            "x =1",
            "x= 1",
            "x=\"1",
            "x=\"1\"2",
            "x=1 2",
            "x=a\"b\"",
            "x y",
            "x=\"\\\"",
            "x = \"1\"",
        ] {
            check(&[broken], &[("x", Argument::Broken)]);
        }
        check(&["=1", "=", "\"\""], &[("\"\"", Argument::None)]);
    }

    #[test]
    fn a_quote_that_never_closes_hides_nothing() {
        check(&["x=\"a, no-store"], &[("x", Argument::Broken), ("no-store", Argument::None)]);
        check(&["x=\"a\\\", private"], &[("x", Argument::Broken), ("private", Argument::None)]);
    }

    #[test]
    fn section_1_2_2_seconds_are_digits_up_to_the_largest() {
        let cases = [
            ("0", Some(0)),
            ("003600", Some(3_600)),
            ("2147483648", Some(SECONDS_MAX)),
            ("99999999999", Some(SECONDS_MAX)),
            ("99999999999999999999999999", Some(SECONDS_MAX)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.0", None),
            ("3600a", None),
            ("a3600", None),
            ("'3600'", None),
            ("1 ", None),
        ];
        for (text, want) in cases {
            assert_eq!(number(text.as_bytes()), want, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(line in proptest::collection::vec(0_u8.., 0..80)) {
            let mut count = 0_usize;
            each([&line[..]], |_, _| count += 1);
            proptest::prop_assert!(count <= line.len());
        }
    }
}
