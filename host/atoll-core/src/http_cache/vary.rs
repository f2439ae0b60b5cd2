//! Vary: which requests a stored response answers (RFC 9111 section 4.1).
//!
//! Values are compared in a normal form: the split into lines does not count, nor, in fields that are
//! lists, white space around members and empty ones, nor, in those of content negotiation, the case of
//! letters, default weights and, where it has no meaning, order. Languages keep their order: some
//! servers read a preference from it. What is not known to be a list may mean something by every byte.

use http::{HeaderMap, HeaderName, header};

/// What a response says about the requests that it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vary {
    /// The same for each of these fields, sorted and distinct; none for all requests.
    Fields(Box<[HeaderName]>),
    /// None but its own.
    Star,
}

/// Most members of Vary. Each is looked up with every request.
const FIELD_COUNT_MAX: usize = 32;

impl Vary {
    /// Reads the field. What is no name can match nothing, so it is taken for `*`.
    pub fn of(headers: &HeaderMap) -> Vary {
        let mut names = Vec::new();
        for line in headers.get_all(header::VARY) {
            for member in line.as_bytes().split(|&byte| byte == b',') {
                let member = member.trim_ascii();
                if member.is_empty() {
                    continue;
                }
                if member == b"*" {
                    return Vary::Star;
                }
                match HeaderName::from_bytes(member) {
                    Ok(name) => names.push(name),
                    Err(_) => return Vary::Star,
                }
            }
        }
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        if names.len() > FIELD_COUNT_MAX { Vary::Star } else { Vary::Fields(names.into()) }
    }

    /// Whether every request is answered.
    pub fn is_empty(&self) -> bool {
        matches!(self, Vary::Fields(names) if names.is_empty())
    }
}

/// The values of these fields in normal form: equal for the requests that one response answers.
pub fn selecting_key(names: &[HeaderName], request: &HeaderMap) -> Vec<u8> {
    let mut key = Vec::new();
    for name in names {
        // No value has these bytes: absent, empty and joined values stay apart.
        if request.contains_key(name) {
            key.push(1);
            normalise(name, request, &mut key);
        }
        key.push(0);
    }
    key
}

/// Fields that are lists by definition, beside those of content negotiation.
const LISTS: [HeaderName; 17] = [
    HeaderName::from_static("access-control-request-headers"),
    HeaderName::from_static("a-im"),
    header::CACHE_CONTROL,
    HeaderName::from_static("cdn-loop"),
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    HeaderName::from_static("forwarded"),
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::PRAGMA,
    HeaderName::from_static("prefer"),
    HeaderName::from_static("priority"),
    HeaderName::from_static("sec-ch-ua"),
    HeaderName::from_static("sec-ch-ua-full-version-list"),
    header::VIA,
    HeaderName::from_static("want-content-digest"),
    HeaderName::from_static("x-forwarded-for"),
];

/// Appends the field's value in normal form.
fn normalise(name: &HeaderName, request: &HeaderMap, key: &mut Vec<u8>) {
    let lines = request.get_all(name).iter().map(|line| line.as_bytes());
    let is_negotiation =
        [header::ACCEPT, header::ACCEPT_CHARSET, header::ACCEPT_ENCODING, header::ACCEPT_LANGUAGE]
            .contains(name);
    if !is_negotiation && !LISTS.contains(name) {
        // RFC 9110 section 5.3: how lines of one field may be combined.
        let lines: Vec<&[u8]> = lines.map(<[u8]>::trim_ascii).collect();
        return key.extend_from_slice(&lines.join(&b", "[..]));
    }
    let mut members: Vec<&[u8]> = lines.flat_map(members).collect();
    members.retain(|member| !member.is_empty());
    // Quoted parameters have meaning in every byte: leave such a list as it is.
    if !is_negotiation || members.iter().any(|member| member.contains(&b'"')) {
        return key.extend_from_slice(&members.join(&b','));
    }
    let mut weighted: Vec<(u16, Vec<u8>)> =
        members.into_iter().map(|member| weigh(member, *name == header::ACCEPT)).collect();
    if *name == header::ACCEPT_LANGUAGE {
        weighted.sort_by(|(a, _), (b, _)| b.cmp(a));
    } else {
        weighted.sort();
    }
    weighted.dedup();
    for (at, (weight, text)) in weighted.iter().enumerate() {
        if at > 0 {
            key.push(b',');
        }
        key.extend_from_slice(text);
        if *weight != 1_000 {
            key.extend_from_slice(b";q=");
            key.extend_from_slice(itoa::Buffer::new().format(*weight).as_bytes());
        }
    }
}

/// The members of a list, without the white space around them. Commas within quotes are no ends.
fn members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut quoted = false;
        let mut escaped = false;
        let end = text.iter().position(|&byte| {
            let was_escaped = std::mem::take(&mut escaped);
            match byte {
                _ if was_escaped => {}
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b',' => return !quoted,
                _ => {}
            }
            false
        });
        rest = end.map(|end| &text[end + 1..]);
        Some(text[..end.unwrap_or(text.len())].trim_ascii())
    })
}

/// A member of a negotiation field as its weight in thousandths and the rest, in lower case but for
/// parameters of media types.
fn weigh(member: &[u8], is_media_type: bool) -> (u16, Vec<u8>) {
    let mut weight = 1_000;
    let mut text = Vec::with_capacity(member.len());
    for (at, part) in member.split(|&byte| byte == b';').map(<[u8]>::trim_ascii).enumerate() {
        if let [b'q' | b'Q', b'=', value @ ..] = part
            && at > 0
            && let Some(value) = quality(value.trim_ascii())
        {
            weight = value;
            continue;
        }
        if at > 0 {
            text.push(b';');
        }
        if at > 0 && is_media_type {
            text.extend_from_slice(part);
        } else {
            text.extend(part.iter().map(u8::to_ascii_lowercase));
        }
    }
    (weight, text)
}

/// A weight in thousandths (RFC 9110 section 12.4.2).
fn quality(text: &[u8]) -> Option<u16> {
    let (whole, fraction) = match text {
        [whole] => (whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let digits = [*whole].into_iter().chain((0..3).map(|at| *fraction.get(at).unwrap_or(&b'0')));
    let mut value = 0_u16;
    for digit in digits {
        value = value * 10 + u16::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    (value <= 1_000).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::super::headers;
    use super::*;
    use http::HeaderValue;

    #[test]
    fn section_4_1_a_star_anywhere_matches_nothing() {
        let stars: [&[(&str, &str)]; 7] = [
            &[("vary", "*")],
            &[("vary", "*, *")],
            &[("vary", "*"), ("vary", "*")],
            &[("vary", ", *")],
            &[("vary", ""), ("vary", "*")],
            &[("vary", "*, foo")],
            &[("vary", "foo, *")],
        ];
        for fields in stars {
            assert_eq!(Vary::of(&headers(fields)), Vary::Star, "{fields:?}");
        }
        assert_eq!(Vary::of(&headers(&[("vary", "not a name")])), Vary::Star);
    }

    #[test]
    fn section_4_1_names_are_a_set() {
        let names = |fields: &[_]| Vary::of(&headers(fields));
        assert_eq!(names(&[("vary", "Foo, BAR")]), names(&[("vary", "bar"), ("vary", "foo,foo")]));
        assert!(names(&[]).is_empty() && names(&[("vary", " , ")]).is_empty());
    }

    #[track_caller]
    fn check(
        vary: &'static str,
        a: &[(&'static str, &'static str)],
        b: &[(&'static str, &'static str)],
        same: bool,
    ) {
        let Vary::Fields(names) = Vary::of(&headers(&[("vary", vary)])) else { panic!("{vary}") };
        let (key_a, key_b) = (headers(a), headers(b));
        let found = selecting_key(&names, &key_a) == selecting_key(&names, &key_b);
        assert_eq!(found, same, "{vary}: {a:?} {b:?}");
    }

    #[test]
    fn section_4_1_all_named_fields_match_and_others_do_not_matter() {
        check("foo", &[("foo", "1")], &[("foo", "1"), ("other", "3")], true);
        check("foo", &[("foo", "1")], &[("foo", "2")], false);
        check("foo", &[("foo", "1")], &[], false);
        check("foo", &[("foo", "")], &[], false);
        check("foo, bar", &[("foo", "1"), ("bar", "abc")], &[("bar", "abc"), ("foo", "1")], true);
        check("foo, bar", &[("foo", "1"), ("bar", "abc")], &[("foo", "2"), ("bar", "abc")], false);
        check("foo, bar, baz", &[("foo", "1"), ("baz", "7")], &[("foo", "1"), ("baz", "7")], true);
        check("a, b", &[("a", "1")], &[("b", "1")], false);
        check("foo", &[("foo", "a")], &[("foo", "A")], false);
    }

    #[test]
    fn section_4_1_white_space_and_lines_do_not_count() {
        check("prefer", &[("prefer", "1,2")], &[("prefer", " 1, 2 ")], true);
        check("prefer", &[("prefer", "1,2,,")], &[("prefer", "1"), ("prefer", "2")], true);
        check("prefer", &[("prefer", "1, 2")], &[("prefer", "2, 1")], false);
        check("prefer", &[("prefer", "\"a,  b\"")], &[("prefer", "\"a, b\"")], false);
        check("foo", &[("foo", "1, 2")], &[("foo", "1"), ("foo", " 2 ")], true);
    }

    #[test]
    fn section_4_1_what_is_no_list_is_compared_as_it_is() {
        check("x-user", &[("x-user", "a, b")], &[("x-user", "a,b,,")], false);
        check("x-user", &[("x-user", "a, b")], &[("x-user", "a,b")], false);
        check("x-user", &[("x-user", "a  b")], &[("x-user", "a b")], false);
        let agent = "user-agent";
        check(agent, &[(agent, "x (KHTML, like)")], &[(agent, "x (KHTML,like)")], false);
        check("cookie", &[("cookie", "a=1; b=2")], &[("cookie", "a=1,b=2")], false);
        check("cookie", &[("cookie", "a=1, b=2")], &[("cookie", "a=1,b=2")], false);
    }

    #[test]
    fn section_4_1_negotiation_fields_have_a_normal_form() {
        let language = "accept-language";
        check(language, &[(language, "en;q=0.5, de")], &[(language, "DE,EN; q=0.500")], true);
        check(language, &[(language, "en;q=1.0")], &[(language, "en")], true);
        check(language, &[(language, "en, de")], &[(language, "de, en")], false);
        let coding = "accept-encoding";
        check(coding, &[(coding, "gzip, br")], &[(coding, "BR,gzip,")], true);
        check(coding, &[(coding, "gzip;q=0")], &[(coding, "gzip")], false);
        check(coding, &[(coding, "gzip;q=2")], &[(coding, "gzip")], false);
        check(
            "accept",
            &[("accept", "text/html;level=A")],
            &[("accept", "TEXT/html; level=A")],
            true,
        );
        check("accept", &[("accept", "a/b;x=A")], &[("accept", "a/b;x=a")], false);
        check("accept", &[("accept", "a/b, c/d;q=0.3")], &[("accept", "c/d;q=.3,a/b")], false);
    }

    proptest::proptest! {
        #[test]
        fn equal_values_select_the_same_and_a_changed_letter_does_not(
            value in "[a-c0-9;=.,\" ]{0,24}",
        ) {
            let name = HeaderName::from_static("accept-encoding");
            let key = |text: &str| {
                let mut headers = HeaderMap::new();
                headers.append(name.clone(), HeaderValue::from_str(text).expect("a value"));
                selecting_key(std::slice::from_ref(&name), &headers)
            };
            proptest::prop_assert_eq!(key(&value), key(&value));
            proptest::prop_assert_ne!(key(&value), key(&format!("{value},z")));
        }
    }
}
