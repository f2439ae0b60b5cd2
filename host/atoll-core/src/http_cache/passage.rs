//! What of a request goes on to an upstream: settled before the cache is asked, so that what selects
//! a response is what the upstream is sent (RFC 9111 section 4.1).

use super::fields;
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Fields by which clients could make an upstream answer for another URL, method or host than the
/// key has. They are not passed on where the answer may be stored.
const UNKEYED: [HeaderName; 17] = [
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-forwarded-ssl"),
    HeaderName::from_static("x-forwarded-uri"),
    HeaderName::from_static("x-forwarded-path"),
    HeaderName::from_static("x-host"),
    HeaderName::from_static("x-http-host-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-method-override"),
    HeaderName::from_static("x-original-host"),
    HeaderName::from_static("x-original-uri"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
];

/// Fields that the node writes itself or that often select. Who sends one of them with `_` for `-`
/// means the same variable to CGI and what followed it.
const TWINS: [HeaderName; 11] = [
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("cdn-loop"),
    header::ACCEPT_CHARSET,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::USER_AGENT,
];

/// Turns a request as it came into what goes on: without the fields of its connection, those that
/// Connection names among them, and with its cookies in one line. What asks for an upgrade stays.
pub fn settle(request: &mut HeaderMap) {
    fields::remove_named_by_connection(request);
    join_cookies(request);
}

/// Removes what could make an upstream answer for something else than the key has.
pub fn remove_unkeyed(request: &mut HeaderMap) {
    let names: Vec<HeaderName> = request.keys().filter(|name| is_unkeyed(name)).cloned().collect();
    for name in names {
        request.remove(name);
    }
}

/// Whether something is there that [`remove_unkeyed`] would remove.
pub fn has_unkeyed(request: &HeaderMap) -> bool {
    request.keys().any(is_unkeyed)
}

fn is_unkeyed(name: &HeaderName) -> bool {
    UNKEYED.contains(name) || is_twin(name)
}

fn is_twin(name: &HeaderName) -> bool {
    let name = name.as_str();
    if !name.contains('_') {
        return false;
    }
    let dashed = name.replace('_', "-");
    UNKEYED.iter().chain(&TWINS).any(|known| known.as_str() == dashed)
}

/// Joins what HTTP/2 may send in pieces (RFC 9113 section 8.2.3).
fn join_cookies(request: &mut HeaderMap) {
    let lines = request.get_all(header::COOKIE);
    if lines.iter().nth(1).is_none() {
        return;
    }
    let pieces: Vec<&[u8]> = lines.iter().map(HeaderValue::as_bytes).collect();
    // Of bytes that values may have.
    if let Ok(joined) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        request.insert(header::COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::super::headers;
    use super::*;

    type Fields = &'static [(&'static str, &'static str)];

    #[test]
    fn rfc_9110_section_7_6_1_what_connection_names_selects_nothing() {
        let check = |fields: Fields, want: Fields| {
            let mut found = headers(fields);
            settle(&mut found);
            assert_eq!(found, headers(want), "{fields:?}");
        };
        check(
            &[("connection", "close, Accept-Language"), ("accept-language", "de"), ("a", "1")],
            &[("a", "1")],
        );
        check(&[("te", "trailers"), ("keep-alive", "5"), ("proxy-connection", "x")], &[]);
        check(&[("connection", "origin"), ("connection", "te"), ("origin", "x")], &[]);
        // What is decided later, and what nobody may take away.
        check(
            &[("connection", "Upgrade, a"), ("upgrade", "websocket"), ("a", "1")],
            &[("connection", "upgrade"), ("upgrade", "websocket")],
        );
        check(
            &[("connection", "authorization"), ("authorization", "x")],
            &[("authorization", "x")],
        );
    }

    #[test]
    fn rfc_9113_section_8_2_3_pieces_of_cookies_are_joined() {
        let check = |lines: &[&'static str], want: &str| {
            let lines: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
            let mut found = headers(&lines);
            settle(&mut found);
            let found: Vec<_> = found.get_all(header::COOKIE).iter().collect();
            assert_eq!(found, [want], "{lines:?}");
        };
        check(&["a=1", "b=2", "c"], "a=1; b=2; c");
        check(&["a=1,b=2"], "a=1,b=2");
    }

    #[test]
    fn what_could_name_another_url_is_not_passed_on_with_dashes_nor_with_underscores() {
        let gone = [
            "x-original-url",
            "X_Original_URL",
            "x-original_url",
            "X_Forwarded_Host",
            "X-Forwarded-Ssl",
            "X-HTTP-Method",
            "X-Method-Override",
            "X-Original-Host",
            "X-Forwarded-Uri",
            "X-Original-URI",
            "Accept_Language",
        ];
        for name in gone {
            let mut found = HeaderMap::new();
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            found.insert(name.clone(), HeaderValue::from_static("x"));
            assert!(has_unkeyed(&found), "{name}");
            remove_unkeyed(&mut found);
            assert!(found.is_empty(), "{name}");
        }
        let kept = headers(&[("x-forwarded-for", "x"), ("api_key", "x"), ("accept", "x")]);
        let mut found = kept.clone();
        remove_unkeyed(&mut found);
        assert!(found == kept && !has_unkeyed(&kept));
    }
}
