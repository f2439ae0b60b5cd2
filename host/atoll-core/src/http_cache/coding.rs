//! Content codings: which one a client prefers, and which responses may be given one by a cache
//! (RFC 9110 sections 8.4 and 12.5.3).

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// A coding that is put on responses here, the preferred one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Brotli,
    /// RFC 1952.
    Gzip,
}

/// Shortest body that is worth it, in bytes: it fits into one packet anyway.
pub const CODED_BYTES_MIN: u64 = 1_024;
/// Longest, in bytes.
pub const CODED_BYTES_MAX: u64 = 8 * 1_024 * 1_024;

/// Fields that say something about the very bytes of a body.
const OF_THE_BYTES: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
];

impl Coding {
    /// Its name in HTTP.
    pub fn as_str(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Brotli => "br",
            Coding::Gzip => "gzip",
        }
    }

    /// The one that a request prefers; of several that it likes equally the first of those above.
    /// `None` is the body as it is, also where the request likes that best.
    pub fn preferred(request: &HeaderMap) -> Option<Coding> {
        let (mut best, mut as_it_is): (Option<(Coding, u16)>, u16) = (None, 0);
        for line in request.get_all(header::ACCEPT_ENCODING) {
            for member in line.as_bytes().split(|&byte| byte == b',') {
                let (coding, weight) = match member_of(member) {
                    Some((Some(coding), weight)) => (coding, weight),
                    Some((None, weight)) => {
                        as_it_is = as_it_is.max(weight);
                        continue;
                    }
                    None => continue,
                };
                let is_better = best.is_none_or(|(chosen, most)| {
                    weight > most || (weight == most && (coding as u8) < (chosen as u8))
                });
                if weight > 0 && is_better {
                    best = Some((coding, weight));
                }
            }
        }
        best.filter(|(_, weight)| *weight >= as_it_is).map(|(coding, _)| coding)
    }
}

/// A member of Accept-Encoding, `None` for identity, and its weight in thousandths.
fn member_of(member: &[u8]) -> Option<(Option<Coding>, u16)> {
    let text = std::str::from_utf8(member).ok()?;
    let (name, weight) = match text.split_once(';') {
        Some((name, rest)) => (name, rest.trim().to_ascii_lowercase()),
        None => (text, String::new()),
    };
    let coding = match name.trim().to_ascii_lowercase().as_str() {
        "zstd" => Some(Coding::Zstd),
        "br" => Some(Coding::Brotli),
        "gzip" | "x-gzip" => Some(Coding::Gzip),
        "identity" => None,
        _ => return None,
    };
    let weight = match weight.strip_prefix("q=") {
        Some(number) => thousandths(number.trim())?,
        None => 1_000,
    };
    Some((coding, weight))
}

fn thousandths(number: &str) -> Option<u16> {
    let value: f32 = number.parse().ok()?;
    (0.0..=1.0).contains(&value).then_some((value * 1_000.0) as u16)
}

/// Whether a cache may put a coding on a response: one that is whole, of a kind that becomes shorter,
/// and that nothing says must stay as it is.
pub fn may_be_coded(status: StatusCode, headers: &HeaderMap, is_fixed: bool) -> bool {
    let has_coding = headers.contains_key(header::CONTENT_ENCODING);
    let is_of_the_bytes = OF_THE_BYTES.iter().any(|name| headers.contains_key(name));
    status == StatusCode::OK
        && !is_fixed
        && !has_coding
        && !is_of_the_bytes
        && headers.get(header::CONTENT_TYPE).is_some_and(becomes_shorter)
}

/// Whether text is of this type, or something like it.
fn becomes_shorter(content_type: &HeaderValue) -> bool {
    let Ok(text) = content_type.to_str() else { return false };
    let kind = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    // Events have to arrive one by one; nothing of them is stored anyway.
    if kind == "text/event-stream" {
        return false;
    }
    let (class, of_class) = kind.split_once('/').unwrap_or_default();
    class == "text"
        || (class == "application"
            && matches!(
                of_class,
                "javascript" | "json" | "manifest" | "wasm" | "x-javascript" | "xml" | "graphql"
            ))
        || (class == "font" && matches!(of_class, "otf" | "ttf"))
        || ["+json", "+xml", "+text"].iter().any(|suffix| of_class.ends_with(suffix))
}

/// Says that responses differ by what their clients accept.
pub fn vary_by_coding(headers: &mut HeaderMap) {
    let says_so = headers.get_all(header::VARY).iter().any(|line| {
        let mut members = line.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        members.any(|member| member == b"*" || member.eq_ignore_ascii_case(b"accept-encoding"))
    });
    if !says_so {
        headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// Turns the head of a response into that of the same with a coding, `bytes` long.
///
/// Its entity tag is weak from then on: the bytes are others, the meaning is the same, and a client's
/// If-None-Match still finds it (RFC 9110 section 8.8.1).
pub fn put_on(headers: &mut HeaderMap, coding: Coding, bytes: u64) {
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    headers.remove(header::ACCEPT_RANGES);
    let weak = headers.get(header::ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""));
    let weak = weak.map(|tag| [b"W/", tag.as_bytes()].concat());
    if let Some(weak) = weak.and_then(|weak| HeaderValue::from_bytes(&weak).ok()) {
        headers.insert(header::ETAG, weak);
    }
}

#[cfg(test)]
mod tests {
    use super::super::headers;
    use super::*;

    #[test]
    fn rfc_9110_section_12_5_3_the_coding_with_the_most_weight_is_preferred() {
        let check = |value: &'static str, want: Option<Coding>| {
            assert_eq!(Coding::preferred(&headers(&[("accept-encoding", value)])), want, "{value}");
        };
        check("gzip", Some(Coding::Gzip));
        check("gzip, deflate, br, zstd", Some(Coding::Zstd));
        check("gzip, deflate, br", Some(Coding::Brotli));
        check("BR;Q=0.5 , X-GZIP; q=0.8", Some(Coding::Gzip));
        check("zstd;q=0, gzip;q=0.001", Some(Coding::Gzip));
        check("gzip;q=0", None);
        check("zstd;q=2, br;q=x, gzip;q=-1", None);
        check("identity, *;q=0.5", None);
        check("identity;q=1, gzip;q=0.5", None);
        check("gzip;q=0.5, br;q=0.8, identity;q=0.7", Some(Coding::Brotli));
        check("identity, gzip", Some(Coding::Gzip));
        check("identity;q=0, gzip;q=0.1", Some(Coding::Gzip));
        check("", None);
        let lines = headers(&[("accept-encoding", "gzip"), ("accept-encoding", "br")]);
        assert_eq!(Coding::preferred(&lines), Some(Coding::Brotli));
        assert_eq!(Coding::preferred(&headers(&[])), None);
    }

    #[test]
    fn what_becomes_no_shorter_or_must_stay_is_left_as_it_is() {
        let check = |fields: &[(&'static str, &'static str)], want: bool| {
            assert_eq!(may_be_coded(StatusCode::OK, &headers(fields), false), want, "{fields:?}");
        };
        for kind in ["text/html; charset=utf-8", "Application/JSON", "image/svg+xml", "font/ttf"] {
            check(&[("content-type", kind)], true);
        }
        for kind in ["image/png", "video/mp4", "application/zip", "text/event-stream", "x", ""] {
            check(&[("content-type", kind)], false);
        }
        check(&[], false);
        let text = ("content-type", "text/plain");
        check(&[text, ("content-encoding", "gzip")], false);
        check(&[text, ("repr-digest", "x")], false);
        check(&[text, ("digest", "sha-256=x")], false);
        assert!(!may_be_coded(StatusCode::OK, &headers(&[text]), true), "no-transform");
        assert!(!may_be_coded(StatusCode::PARTIAL_CONTENT, &headers(&[text]), false));
    }

    #[test]
    fn rfc_9110_section_8_8_3_3_a_response_with_a_coding_is_another_under_a_weak_tag() {
        let mut head = headers(&[("etag", "\"a\""), ("accept-ranges", "bytes"), ("vary", "Foo")]);
        vary_by_coding(&mut head);
        put_on(&mut head, Coding::Zstd, 7);
        let want = headers(&[
            ("etag", "W/\"a\""),
            ("vary", "Foo"),
            ("vary", "Accept-Encoding"),
            ("content-encoding", "zstd"),
            ("content-length", "7"),
        ]);
        assert_eq!(head, want);
        for said in ["accept-ENCODING", "a, Accept-Encoding", "*"] {
            let mut head = headers(&[("vary", said), ("etag", "W/\"a\"")]);
            let want = head.clone();
            vary_by_coding(&mut head);
            assert_eq!(head, want);
            put_on(&mut head, Coding::Gzip, 7);
            assert_eq!(head["etag"], "W/\"a\"");
        }
    }
}
