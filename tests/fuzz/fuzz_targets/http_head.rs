//! Fields of a request's head: entity tags, preconditions, ranges.
#![no_main]

use arbitrary::Arbitrary;
use atoll_core::http::conditional::{
    Access, Current, Preconditions, TagList, Verdict, if_range_holds,
};
use atoll_core::http::range::{Selection, select};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Head<'a> {
    if_match: Vec<&'a [u8]>,
    if_none_match: Vec<&'a [u8]>,
    if_range: &'a [u8],
    range: &'a [u8],
    dates_s: [Option<u64>; 2],
    tag: &'a str,
    modified_s: u64,
    length: u64,
    reads: bool,
}

fuzz_target!(|head: Head<'_>| {
    let if_match = list(&head.if_match);
    let if_none_match = list(&head.if_none_match);
    let [if_unmodified_since_s, if_modified_since_s] = head.dates_s;
    let asked =
        Preconditions { if_match, if_unmodified_since_s, if_none_match, if_modified_since_s };
    let access = if head.reads { Access::Read } else { Access::Write };
    let current = Current { tag: head.tag, modified_s: head.modified_s };
    let verdict = asked.evaluate(access, Some(current));
    assert!(!(asked.is_empty() && verdict != Verdict::Proceed), "nothing was asked for");
    assert!(head.reads || verdict != Verdict::NotModified, "a write cannot answer 304");
    if asked.if_match.is_some() {
        assert_eq!(asked.evaluate(access, None), Verdict::Failed, "there is nothing to match");
    }
    if if_range_holds(head.if_range, head.tag) {
        // What names the version in If-Range names it in If-Match.
        let if_match = Some(TagList::parse([head.if_range]).expect("one tag is a list"));
        let asked = Preconditions { if_match, ..Preconditions::default() };
        assert_eq!(asked.evaluate(access, Some(current)), Verdict::Proceed);
    }
    ranges(head.range, head.length);
});

/// Parses a list, and what it means written anew must mean the same.
fn list(lines: &[&[u8]]) -> Option<TagList> {
    let list = TagList::parse(lines.iter().copied()).ok()?;
    let written = match &list {
        TagList::Any => b"*".to_vec(),
        TagList::Tags(tags) => {
            assert!(!tags.is_empty(), "an empty list is refused");
            let mut written = Vec::new();
            for tag in tags {
                written.extend_from_slice(if tag.weak { b",W/\"" } else { b",\"" });
                written.extend_from_slice(&tag.opaque);
                written.push(b'"');
            }
            written
        }
    };
    assert_eq!(TagList::parse([&written[..]]).as_ref(), Ok(&list));
    Some(list)
}

fn ranges(field: &[u8], length: u64) {
    let selection = select(field, length);
    if let Selection::Part { first, last } = selection {
        assert!(first <= last);
        assert!(last < length);
        let written = format!("bytes={first}-{last}");
        assert_eq!(select(written.as_bytes(), length), selection);
    }
    // A value of any other length is answered with a part of itself, too.
    for length in [0, 1, length.wrapping_add(1)] {
        if let Selection::Part { first, last } = select(field, length) {
            assert!(first <= last && last < length);
        }
    }
}
