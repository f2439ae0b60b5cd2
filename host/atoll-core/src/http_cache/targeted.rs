//! Cache control for this kind of cache alone: RFC 9213.
//!
//! A field for Atoll comes before the one for all caches of a content delivery network; the first
//! that is there, well formed and not empty replaces Cache-Control and Expires. They are passed on.

use super::control::ResponseControl;
use super::directive::{Argument, Scope, Seconds};
use http::{HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

/// The fields that are looked for, the most specific first (RFC 9213 section 2.2).
pub const TARGETS: [HeaderName; 2] =
    [HeaderName::from_static("atoll-cache-control"), HeaderName::from_static("cdn-cache-control")];

/// The control that a response has for this cache, and whether it comes from a targeted field.
pub fn control_of(headers: &HeaderMap) -> (ResponseControl, bool) {
    let targeted = TARGETS.iter().find_map(|name| read(headers, name));
    match targeted {
        Some(control) => (control, true),
        None => (ResponseControl::of(headers), false),
    }
}

/// Reads one field; `None` where it is to be ignored (RFC 9213 section 2.1).
fn read(headers: &HeaderMap, name: &HeaderName) -> Option<ResponseControl> {
    if !headers.contains_key(name) {
        return None;
    }
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(|line| line.as_bytes()).collect();
    let joined = lines.join(&b", "[..]);
    let dictionary: Dictionary = Parser::new(&joined).parse().ok()?;
    if dictionary.is_empty() {
        return None;
    }
    let mut control = ResponseControl::default();
    for (key, entry) in &dictionary {
        let ListEntry::Item(item) = entry else { continue };
        // A known directive of the wrong type makes the field no valid one.
        meet(&mut control, key.as_str(), &item.bare_item)?;
    }
    Some(control)
}

/// Takes in one directive; `None` where its value is of the wrong type.
fn meet(control: &mut ResponseControl, name: &str, value: &BareItem) -> Option<()> {
    let number = match name {
        "max-age" => Some(&mut control.max_age),
        "s-maxage" => Some(&mut control.s_maxage),
        "stale-while-revalidate" => Some(&mut control.stale_while_revalidate),
        "stale-if-error" => Some(&mut control.stale_if_error),
        _ => None,
    };
    if let Some(number) = number {
        let seconds = u64::try_from(i64::from(value.as_integer()?)).ok()?;
        *number = Seconds::Given(seconds.min(super::directive::SECONDS_MAX));
        return Some(());
    }
    let scope = match name {
        "no-cache" => Some(&mut control.no_cache),
        "private" => Some(&mut control.private),
        _ => None,
    };
    if let Some(scope) = scope {
        match (value.as_boolean(), value.as_string()) {
            (Some(true), _) => *scope = Scope::Whole,
            (Some(false), _) => {}
            (_, Some(names)) => scope.meet(&Argument::Text(names.as_str().as_bytes().into())),
            (None, None) => return None,
        }
        return Some(());
    }
    let flag = match name {
        "no-store" => &mut control.no_store,
        "no-transform" => &mut control.no_transform,
        "must-revalidate" => &mut control.must_revalidate,
        "proxy-revalidate" => &mut control.proxy_revalidate,
        "must-understand" => &mut control.must_understand,
        "public" => &mut control.public,
        // Unknown ones are ignored, as in Cache-Control.
        _ => return Some(()),
    };
    *flag = value.as_boolean()?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn control(fields: &[(&'static str, &'static str)]) -> (ResponseControl, bool) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        control_of(&headers)
    }

    #[track_caller]
    fn check(fields: &[(&'static str, &'static str)], max_age: Seconds, is_targeted: bool) {
        let (found, targeted) = control(fields);
        assert_eq!((found.max_age, targeted), (max_age, is_targeted), "{fields:?}");
    }

    const CDN: &str = "cdn-cache-control";
    const PLAIN: (&str, &str) = ("cache-control", "max-age=1");

    #[test]
    fn rfc_9213_section_2_2_the_most_specific_valid_field_counts() {
        check(&[PLAIN], Seconds::Given(1), false);
        check(&[PLAIN, (CDN, "max-age=3600")], Seconds::Given(3_600), true);
        check(
            &[PLAIN, (CDN, "max-age=3600"), ("atoll-cache-control", "max-age=7")],
            Seconds::Given(7),
            true,
        );
        check(&[(CDN, "foobar, max-age=99999999999;x=1")], Seconds::Given(1 << 31), true);
        check(&[(CDN, "no-store"), (CDN, "max-age=5")], Seconds::Given(5), true);
        let (found, _) = control(&[("cache-control", "max-age=9"), (CDN, "no-store")]);
        assert!(found.no_store);
        let (found, _) = control(&[("cache-control", "no-store"), (CDN, "max-age=9")]);
        assert!(!found.no_store);
    }

    #[test]
    fn rfc_9213_section_2_1_what_is_no_valid_structured_field_is_ignored() {
        for broken in [
            "",
            "max-age=10000, &&&&&",
            "max-age=\"10000\"",
            "max-age =100",
            "max-age= 100",
            "MaX-aGe=3600",
            "max-age=-1",
            "max-age=1.5",
            "max-age",
            "no-store=1",
            "no-cache=1",
        ] {
            check(&[PLAIN, (CDN, broken)], Seconds::Given(1), false);
        }
    }

    #[test]
    fn rfc_9213_section_2_1_booleans_and_names() {
        let (found, _) = control(&[(CDN, "no-cache=\"a, b\", private, public=?0, no-store=?0")]);
        assert_eq!(found.no_cache.fields().len(), 2);
        assert_eq!(found.private, Scope::Whole);
        assert!(!found.public && !found.no_store);
    }
}
