//! Which header fields are for one connection, and which are not stored (RFC 9111 section 3.1).

use super::control::ResponseControl;
use super::keys::ATOLL_KEYS;
use http::{HeaderMap, HeaderName, header};

/// Fields that concern one connection alone (RFC 9110 section 7.6.1).
const OF_THE_CONNECTION: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Fields between a client and the proxy next to it.
const OF_THE_PROXY: [HeaderName; 3] = [
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    header::PROXY_AUTHORIZATION,
];

/// Fields that a 304 or an answer to HEAD leaves as they are in what is stored: they are about the
/// bytes of the stored body (section 3.2).
const OF_THE_BODY: [HeaderName; 3] =
    [header::CONTENT_ENCODING, header::CONTENT_LENGTH, header::CONTENT_RANGE];

/// Fields that would be lost if a Connection field named them, and must not be: who names them
/// there tries to change the message itself.
const NEVER_OF_THE_CONNECTION: [HeaderName; 6] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CACHE_CONTROL,
    header::AUTHORIZATION,
    header::SET_COOKIE,
    header::VARY,
];

/// Removes the fields of the connection, those that Connection names among them (RFC 9110 section
/// 7.6.1).
pub fn remove_of_the_connection(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        for name in named(headers) {
            if !NEVER_OF_THE_CONNECTION.contains(&name) {
                headers.remove(name);
            }
        }
    }
    for name in &OF_THE_CONNECTION {
        headers.remove(name);
    }
}

/// What Connection names and the message has.
fn named(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(header::CONNECTION).iter();
    let tokens = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    let names = tokens.filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok());
    // Only those that are there, which are few: the list may be as long as a head may be.
    names.filter(|name| headers.contains_key(name)).collect()
}

/// Removes from a response what is not stored: fields of the connection and the proxy, those that
/// no-cache and private name (5.2.2.4, 5.2.2.7), and Age, which is computed anew.
pub fn remove_not_stored(headers: &mut HeaderMap, control: &ResponseControl) {
    remove_of_the_connection(headers);
    let named = control.no_cache.fields().iter().chain(control.private.fields());
    for name in OF_THE_PROXY.iter().chain(named) {
        headers.remove(name);
    }
    headers.remove(header::AGE);
    // Trailers are not stored (section 3.1 allows to discard them), so none are announced.
    headers.remove(header::TRAILER);
}

/// The fields that no-cache and private name, which are for the one alone who has asked (5.2.2.4,
/// 5.2.2.7): what [`remove_not_stored`] takes away that is no field of the connection or the proxy.
pub fn of_who_asked(headers: &HeaderMap, control: &ResponseControl) -> HeaderMap {
    let mut own = HeaderMap::new();
    for name in control.no_cache.fields().iter().chain(control.private.fields()) {
        let is_framing = [header::CONTENT_LENGTH, header::CONTENT_RANGE, ATOLL_KEYS].contains(name);
        if !is_framing && !own.contains_key(name) {
            for value in headers.get_all(name) {
                own.append(name.clone(), value.clone());
            }
        }
    }
    remove_not_stored(&mut own, &ResponseControl::default());
    own
}

/// Brings a stored response's fields up to date with those of a newer response to the same request
/// (section 3.2). Neither has fields of a connection any more.
pub fn update(stored: &mut HeaderMap, newer: &HeaderMap) {
    for name in newer.keys() {
        if OF_THE_BODY.contains(name) {
            continue;
        }
        stored.remove(name);
        for value in newer.get_all(name) {
            stored.append(name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::headers;
    use super::*;

    #[track_caller]
    fn check_stored(
        fields: &[(&'static str, &'static str)],
        want: &[(&'static str, &'static str)],
    ) {
        let mut found = headers(fields);
        let control = ResponseControl::of(&found);
        remove_not_stored(&mut found, &control);
        assert_eq!(found, headers(want), "{fields:?}");
    }

    #[test]
    fn rfc_9110_section_7_6_1_fields_of_the_connection_are_not_passed_on() {
        check_stored(
            &[
                ("connection", "a, B"),
                ("connection", ",, bad token ,close"),
                ("a", "1"),
                ("b", "2"),
                ("c", "3"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "x"),
                ("te", "trailers"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "x"),
            ],
            &[("c", "3")],
        );
    }

    #[test]
    fn connection_cannot_take_away_what_makes_the_message() {
        let kept = [("cache-control", "no-store"), ("vary", "a"), ("set-cookie", "a=b")];
        let mut fields = kept.to_vec();
        fields.push(("connection", "cache-control, vary, set-cookie, close"));
        check_stored(&fields, &kept);
    }

    #[test]
    fn section_3_1_fields_of_the_proxy_are_not_stored_and_all_others_are() {
        check_stored(
            &[
                ("proxy-authenticate", "x"),
                ("proxy-authentication-info", "x"),
                ("proxy-authorization", "x"),
                ("age", "5"),
                ("trailer", "x"),
                ("set-cookie", "a=1"),
                ("set-cookie", "b=2"),
                ("warning", "199 - x"),
                ("x-unknown", "y"),
            ],
            &[
                ("set-cookie", "a=1"),
                ("set-cookie", "b=2"),
                ("warning", "199 - x"),
                ("x-unknown", "y"),
            ],
        );
    }

    #[test]
    fn section_5_2_2_4_and_5_2_2_7_fields_that_are_named_are_not_stored() {
        check_stored(
            &[
                ("cache-control", "no-cache=\"a, B\", private=c"),
                ("a", "1"),
                ("b", "2"),
                ("c", "3"),
                ("d", "4"),
            ],
            &[("cache-control", "no-cache=\"a, B\", private=c"), ("d", "4")],
        );
    }

    #[test]
    fn section_5_2_2_7_fields_that_are_named_are_for_who_has_asked() {
        let fields = headers(&[
            ("cache-control", "private=\"a, te, age, content-length\", no-cache=\"a, b\""),
            ("a", "1"),
            ("a", "2"),
            ("b", "3"),
            ("c", "4"),
            ("te", "trailers"),
            ("age", "5"),
            ("content-length", "6"),
        ]);
        let own = of_who_asked(&fields, &ResponseControl::of(&fields));
        assert_eq!(own, headers(&[("a", "1"), ("a", "2"), ("b", "3")]));
    }

    #[test]
    fn section_3_2_an_update_replaces_and_adds_all_but_what_is_about_the_body() {
        let mut stored = headers(&[
            ("content-length", "5"),
            ("content-encoding", "gzip"),
            ("content-type", "text/plain"),
            ("link", "<a>"),
            ("link", "<b>"),
            ("x-kept", "1"),
        ]);
        let newer = headers(&[
            ("content-length", "0"),
            ("content-encoding", "br"),
            ("content-range", "bytes 0-1/2"),
            ("content-type", "text/html"),
            ("link", "<c>"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ]);
        update(&mut stored, &newer);
        let want = headers(&[
            ("content-length", "5"),
            ("content-encoding", "gzip"),
            ("content-type", "text/html"),
            ("link", "<c>"),
            ("x-kept", "1"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ]);
        assert_eq!(stored, want);
    }
}
