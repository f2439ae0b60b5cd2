//! Patterns of KEYS, SCAN MATCH and CONFIG GET, with the meaning that Redis gives them.
//!
//! Matching goes back to the latest star only, so its cost is at most the product of both lengths.

/// How letters compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letters {
    /// Byte by byte.
    Exact,
    /// ASCII letters equal their other case.
    AnyCase,
}

/// Whether all of `text` matches `pattern`: `*`, `?`, `[abc]`, `[^a-z]`, and `\` for the next byte.
pub fn matches(pattern: &[u8], text: &[u8], letters: Letters) -> bool {
    let (mut at_pattern, mut at_text) = (0, 0);
    // Where to resume when the rest does not match: after the latest star, one byte further on.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if at_pattern < pattern.len() && pattern[at_pattern] == b'*' {
            at_pattern += 1;
            if at_pattern == pattern.len() {
                return true;
            }
            retry = Some((at_pattern, at_text));
            continue;
        }
        if at_text == text.len() {
            // Another try would have even less text before its end.
            return at_pattern == pattern.len();
        }
        match step(&pattern[at_pattern..], text[at_text], letters) {
            Some(len) => {
                at_pattern += len;
                at_text += 1;
            }
            None => {
                let Some((star, from)) = retry else { return false };
                at_pattern = star;
                at_text = from + 1;
                retry = Some((star, at_text));
            }
        }
    }
}

/// Bytes of the pattern's first element if it matches `byte`.
fn step(pattern: &[u8], byte: u8, letters: Letters) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', class @ ..] => {
            let (len, hit) = class_matches(class, byte, letters);
            hit.then_some(1 + len)
        }
        [b'\\', escaped, ..] => same(*escaped, byte, letters).then_some(2),
        [plain, ..] => same(*plain, byte, letters).then_some(1),
    }
}

/// Length of a class after its `[`, the `]` included, and whether `byte` is in it.
fn class_matches(class: &[u8], byte: u8, letters: Letters) -> (usize, bool) {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut hit = false;
    loop {
        match &class[at..] {
            // A class that is never closed ends with the pattern.
            [] => return (at, hit != negated),
            [b']', ..] => return (at + 1, hit != negated),
            [b'\\', escaped, ..] => {
                hit |= *escaped == byte;
                at += 2;
            }
            [low, b'-', high, ..] => {
                let fold =
                    |b: u8| if letters == Letters::AnyCase { b.to_ascii_lowercase() } else { b };
                let (low, high) = (fold(*low.min(high)), fold(*low.max(high)));
                hit |= (low..=high).contains(&fold(byte));
                at += 3;
            }
            [plain, ..] => {
                hit |= same(*plain, byte, letters);
                at += 1;
            }
        }
    }
}

fn same(a: u8, b: u8, letters: Letters) -> bool {
    match letters {
        Letters::Exact => a == b,
        Letters::AnyCase => a.eq_ignore_ascii_case(&b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, text: &str, want: bool) {
        let got = matches(pattern.as_bytes(), text.as_bytes(), Letters::Exact);
        assert_eq!(got, want, "{pattern} on {text}");
    }

    #[test]
    fn stars_match_any_run() {
        check("*", "anything", true);
        check("**a**", "bab", true);
        check("a*", "a", true);
        check("a*c", "abbc", true);
        check("a*c", "abcd", false);
        check("*:*:x", "a:b:c:x", true);
        check("*ab", "aab", true);
        check("", "a", false);
        check("a", "ab", false);
        check("ab", "a", false);
    }

    #[test]
    fn classes_ranges_and_escapes_mean_what_redis_says() {
        check("h[ae]llo", "hello", true);
        check("h[ae]llo", "hillo", false);
        check("h[^e]llo", "hallo", true);
        check("h[^e]llo", "hello", false);
        check("h[a-b]llo", "hbllo", true);
        check("h[b-a]llo", "hbllo", true);
        check("h[a-b]llo", "hcllo", false);
        check("a[bc", "ab", true);
        check("a[", "ab", false);
        check("a\\*", "a*", true);
        check("a\\*", "ab", false);
        check("a[\\]]", "a]", true);
        check("a\\", "a\\", true);
        check("h?llo", "hxllo", true);
        check("h?llo", "hllo", false);
    }

    #[test]
    fn case_can_be_ignored() {
        assert!(matches(b"Max[A-Z]*", b"maxmemory", Letters::AnyCase));
        assert!(!matches(b"Max*", b"maxmemory", Letters::Exact));
    }

    #[test]
    fn a_hostile_pattern_costs_the_product_of_the_lengths_only() {
        let pattern = b"a*".repeat(500);
        let text = vec![b'a'; 1_000];
        assert!(matches(&pattern, &text, Letters::Exact));
        let mut hopeless = pattern;
        hopeless.push(b'b');
        assert!(!matches(&hopeless, &text, Letters::Exact));
    }
}
