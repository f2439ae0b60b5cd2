//! Cache-Status: what the cache did with a request (RFC 9211).

use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt::Write as _;

/// The field.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why a request went upstream (RFC 9211 section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// The cache was told not to handle the request.
    Bypass,
    /// The method needs the upstream.
    Method,
    /// Nothing is stored under the URL.
    UriMiss,
    /// Something is, and Vary does not match.
    VaryMiss,
    /// What is stored is stale.
    Stale,
    /// What is stored is fresh, and the request asked for more than that.
    Request,
    /// Only other parts are stored.
    Partial,
}

/// What was done with one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Answered from what is stored, without asking upstream.
    pub hit: bool,
    /// Why it went upstream.
    pub forward: Option<Forward>,
    /// What the upstream answered, where that is not what the client gets.
    pub forward_status: Option<u16>,
    /// Seconds for which the answer stays fresh; negative once it is stale.
    pub ttl_s: Option<i64>,
    /// The answer was stored.
    pub stored: bool,
    /// Several requests were answered by one.
    pub collapsed: bool,
    /// Anything else worth a word.
    pub detail: Option<&'static str>,
}

impl Forward {
    fn as_str(self) -> &'static str {
        match self {
            Forward::Bypass => "bypass",
            Forward::Method => "method",
            Forward::UriMiss => "uri-miss",
            Forward::VaryMiss => "vary-miss",
            Forward::Stale => "stale",
            Forward::Request => "request",
            Forward::Partial => "partial",
        }
    }
}

impl Report {
    /// The member of the list that this cache adds.
    pub fn value(&self) -> HeaderValue {
        let mut text = String::with_capacity(48);
        text.push_str("Atoll");
        if self.hit {
            text.push_str("; hit");
        }
        if let Some(forward) = self.forward {
            text.push_str("; fwd=");
            text.push_str(forward.as_str());
        }
        // Writing to a string cannot fail.
        if let Some(status) = self.forward_status {
            let _ = write!(text, "; fwd-status={status}");
        }
        if let Some(ttl_s) = self.ttl_s {
            text.push_str("; ttl=");
            text.push_str(itoa::Buffer::new().format(ttl_s));
        }
        if self.stored {
            text.push_str("; stored");
        }
        if self.collapsed {
            text.push_str("; collapsed");
        }
        if let Some(detail) = self.detail {
            text.push_str("; detail=");
            text.push_str(detail);
        }
        HeaderValue::try_from(text).expect("words and numbers are a value")
    }

    /// Adds it behind what caches nearer to the origin have said (section 2).
    pub fn append_to(&self, headers: &mut HeaderMap) {
        headers.append(CACHE_STATUS, self.value());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_9211_section_2_each_parameter_in_its_place() {
        let check = |report: Report, want: &str| assert_eq!(report.value(), want);
        check(Report::default(), "Atoll");
        check(Report { hit: true, ttl_s: Some(30), ..Report::default() }, "Atoll; hit; ttl=30");
        let revalidated = Report {
            forward: Some(Forward::Stale),
            forward_status: Some(304),
            ttl_s: Some(-1),
            stored: true,
            collapsed: true,
            detail: Some("x"),
            ..Report::default()
        };
        check(revalidated, "Atoll; fwd=stale; fwd-status=304; ttl=-1; stored; collapsed; detail=x");
    }

    #[test]
    fn rfc_9211_section_2_it_is_a_list_of_tokens_that_parses() {
        let forwards = [
            Forward::Bypass,
            Forward::Method,
            Forward::UriMiss,
            Forward::VaryMiss,
            Forward::Stale,
            Forward::Request,
            Forward::Partial,
        ];
        for forward in forwards {
            let report = Report { forward: Some(forward), ttl_s: Some(1), ..Report::default() };
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_STATUS, HeaderValue::from_static("Inner; hit"));
            report.append_to(&mut headers);
            let lines: Vec<&[u8]> =
                headers.get_all(CACHE_STATUS).iter().map(|line| line.as_bytes()).collect();
            let list: sfv::List =
                sfv::Parser::new(&lines.join(&b", "[..])).parse().expect("a structured field");
            assert_eq!(list.len(), 2);
        }
    }
}
