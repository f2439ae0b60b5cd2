//! Entity tags and preconditions, by the sections of RFC 9110.

use super::*;

const NOW: Option<Current<'static>> = Some(Current { tag: "v1", modified_s: 100 });

fn list(text: &str) -> Option<TagList> {
    Some(TagList::parse([text.as_bytes()]).expect("the row holds a list"))
}

fn tag(weak: bool, opaque: &str) -> EntityTag {
    EntityTag { weak, opaque: opaque.as_bytes().into() }
}

#[track_caller]
fn check_list(lines: &[&str], want: Result<TagList, TagListError>) {
    assert_eq!(TagList::parse(lines.iter().map(|line| line.as_bytes())), want, "{lines:?}");
}

#[test]
fn section_8_8_3_a_tag_stands_in_quotes_and_may_hold_a_comma() {
    check_list(&["*"], Ok(TagList::Any));
    check_list(&[" * "], Ok(TagList::Any));
    check_list(&[r#""a""#], Ok(TagList::Tags(vec![tag(false, "a")])));
    check_list(&[r#"W/"a""#], Ok(TagList::Tags(vec![tag(true, "a")])));
    check_list(&[r#""""#], Ok(TagList::Tags(vec![tag(false, "")])));
    check_list(&[r#""a,b""#], Ok(TagList::Tags(vec![tag(false, "a,b")])));
    check_list(&["\"\u{e9}\""], Ok(TagList::Tags(vec![tag(false, "\u{e9}")])));
    for bad in ["", ",", "a", "\"a", "a\"", r#""a" "b""#, r#"w/"a""#, r#"W/ "a""#, "\"a b\""] {
        check_list(&[bad], Err(TagListError));
    }
}

#[test]
fn section_5_6_1_a_list_may_have_empty_members_and_several_lines() {
    let both = Ok(TagList::Tags(vec![tag(false, "a"), tag(true, "b")]));
    check_list(&[r#""a",W/"b""#], both.clone());
    check_list(&[r#", "a" ,, W/"b" ,"#], both.clone());
    check_list(&[r#""a""#, r#"W/"b""#], both);
    check_list(&["*", r#""a""#], Err(TagListError));
    check_list(&[r#"*, "a""#], Err(TagListError));
}

#[track_caller]
fn check(access: Access, asked: &Preconditions, current: Option<Current<'_>>, want: Verdict) {
    assert_eq!(asked.evaluate(access, current), want, "{access:?} {asked:?} {current:?}");
}

#[test]
fn section_13_1_1_if_match_compares_strongly() {
    use Access::{Read, Write};
    let asked = |text| Preconditions { if_match: list(text), ..Preconditions::default() };
    for access in [Read, Write] {
        check(access, &asked(r#""v1""#), NOW, Verdict::Proceed);
        check(access, &asked(r#""v0", "v1""#), NOW, Verdict::Proceed);
        check(access, &asked(r#""v0""#), NOW, Verdict::Failed);
        check(access, &asked(r#"W/"v1""#), NOW, Verdict::Failed);
        check(access, &asked("*"), NOW, Verdict::Proceed);
        check(access, &asked("*"), None, Verdict::Failed);
        check(access, &asked(r#""v1""#), None, Verdict::Failed);
    }
}

#[test]
fn section_13_1_2_if_none_match_compares_weakly() {
    use Access::{Read, Write};
    let asked = |text| Preconditions { if_none_match: list(text), ..Preconditions::default() };
    check(Read, &asked(r#""v1""#), NOW, Verdict::NotModified);
    check(Read, &asked(r#"W/"v1""#), NOW, Verdict::NotModified);
    check(Read, &asked("*"), NOW, Verdict::NotModified);
    check(Read, &asked(r#""v0""#), NOW, Verdict::Proceed);
    check(Write, &asked(r#"W/"v1""#), NOW, Verdict::Failed);
    check(Write, &asked("*"), NOW, Verdict::Failed);
    check(Write, &asked("*"), None, Verdict::Proceed);
    check(Write, &asked(r#""v0""#), NOW, Verdict::Proceed);
}

#[test]
fn section_13_1_3_and_4_dates_are_for_clients_without_tags() {
    use Access::{Read, Write};
    let since = |s| Preconditions { if_modified_since_s: Some(s), ..Preconditions::default() };
    check(Read, &since(99), NOW, Verdict::Proceed);
    check(Read, &since(100), NOW, Verdict::NotModified);
    check(Write, &since(100), NOW, Verdict::Proceed);
    let until = |s| Preconditions { if_unmodified_since_s: Some(s), ..Preconditions::default() };
    check(Write, &until(100), NOW, Verdict::Proceed);
    check(Write, &until(99), NOW, Verdict::Failed);
    check(Read, &until(99), NOW, Verdict::Failed);
    check(Write, &until(99), None, Verdict::Proceed);
}

#[test]
fn section_13_2_2_a_tag_goes_before_a_date_and_match_before_none_match() {
    use Access::{Read, Write};
    // If-Match holds: If-Unmodified-Since is not looked at.
    let both = Preconditions {
        if_match: list(r#""v1""#),
        if_unmodified_since_s: Some(1),
        ..Preconditions::default()
    };
    check(Write, &both, NOW, Verdict::Proceed);
    // If-None-Match is there and does not match: If-Modified-Since is not looked at.
    let both = Preconditions {
        if_none_match: list(r#""v0""#),
        if_modified_since_s: Some(100),
        ..Preconditions::default()
    };
    check(Read, &both, NOW, Verdict::Proceed);
    // A failed If-Match is 412 even where If-None-Match would be 304.
    let both = Preconditions {
        if_match: list(r#""v0""#),
        if_none_match: list(r#""v1""#),
        ..Preconditions::default()
    };
    check(Read, &both, NOW, Verdict::Failed);
}

#[test]
fn no_preconditions_ask_for_nothing() {
    let none = Preconditions::default();
    assert!(none.is_empty());
    check(Access::Read, &none, NOW, Verdict::Proceed);
    check(Access::Write, &none, None, Verdict::Proceed);
}

#[test]
fn section_13_1_5_if_range_takes_one_strong_tag() {
    for (field, want) in [
        (r#""v1""#, true),
        (r#" "v1" "#, true),
        (r#"W/"v1""#, false),
        (r#""v0""#, false),
        (r#""v1", "v2""#, false),
        ("*", false),
        ("Sun, 06 Nov 1994 08:49:37 GMT", false),
        ("", false),
    ] {
        assert_eq!(if_range_holds(field.as_bytes(), "v1"), want, "{field}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_parse_or_are_refused(line in proptest::collection::vec(0_u8.., 0..64)) {
        let _ = TagList::parse([&line[..]]);
        let _ = if_range_holds(&line, "v1");
    }
}
