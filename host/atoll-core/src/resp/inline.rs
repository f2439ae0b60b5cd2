//! Inline requests: a line of words, quoted as on a Redis command line.

/// Splits `line` into words, appended to `text` with their lengths in `lengths`.
///
/// Double quotes know `\n \r \t \b \a \\ \" \xHH`, single quotes know `\'`. `None` where a quote is
/// not closed, or closed in the middle of a word.
pub(super) fn split(line: &[u8], text: &mut Vec<u8>, lengths: &mut Vec<usize>) -> Option<()> {
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|&byte| is_space(byte)) {
            at += 1;
        }
        if at >= line.len() {
            return Some(());
        }
        let start = text.len();
        at = word(line, at, text)?;
        lengths.push(text.len() - start);
    }
}

/// What C's `isspace` says, and the end that C text has.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Appends the word at `at` to `text`; returns where it ends.
fn word(line: &[u8], mut at: usize, text: &mut Vec<u8>) -> Option<usize> {
    while let Some(&byte) = line.get(at) {
        match byte {
            b'"' | b'\'' => {
                at = quoted(line, at, text)?;
                // A closing quote must end the word.
                return line.get(at).is_none_or(|&byte| is_space(byte)).then_some(at);
            }
            _ if is_space(byte) => break,
            _ => {
                text.push(byte);
                at += 1;
            }
        }
    }
    Some(at)
}

/// Appends what the quotes at `at` hold; returns where the byte after them is.
fn quoted(line: &[u8], at: usize, text: &mut Vec<u8>) -> Option<usize> {
    let quote = line[at];
    let mut at = at + 1;
    loop {
        match (quote, &line[at..]) {
            (_, []) => return None,
            (_, [byte, ..]) if *byte == quote => return Some(at + 1),
            (b'"', [b'\\', b'x', high, low, ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                text.push(hex(*high) << 4 | hex(*low));
                at += 4;
            }
            (b'"', [b'\\', escaped, ..]) => {
                text.push(unescape(*escaped));
                at += 2;
            }
            (b'\'', [b'\\', b'\'', ..]) => {
                text.push(b'\'');
                at += 2;
            }
            (_, [byte, ..]) => {
                text.push(*byte);
                at += 1;
            }
        }
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit.to_ascii_lowercase() - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, want: Option<&[&[u8]]>) {
        let (mut text, mut lengths) = (Vec::new(), Vec::new());
        let got = split(line.as_bytes(), &mut text, &mut lengths).map(|()| {
            let mut at = 0;
            let words = lengths.iter().map(|len| {
                at += len;
                text[at - len..at].to_vec()
            });
            words.collect::<Vec<_>>()
        });
        assert_eq!(
            got,
            want.map(|words| words.iter().map(|word| word.to_vec()).collect()),
            "{line}"
        );
    }

    #[test]
    fn words_are_split_at_spaces_and_quotes_hold_them_together() {
        check("", Some(&[]));
        check("  PING  ", Some(&[b"PING"]));
        check("SET\tk v", Some(&[b"SET", b"k", b"v"]));
        check(r#"SET k "a b""#, Some(&[b"SET", b"k", b"a b"]));
        check(r#"SET k 'a "b'"#, Some(&[b"SET", b"k", b"a \"b"]));
        check(r#"SET k """#, Some(&[b"SET", b"k", b""]));
        check(r#""\x41\n\q\\" x"#, Some(&[b"A\nq\\", b"x"]));
        check(r#"'a\'b\n'"#, Some(&[b"a'b\\n"]));
        check(r#"foo"bar""#, Some(&[b"foobar"]));
    }

    #[test]
    fn unbalanced_quotes_are_refused() {
        check(r#"SET k "a"#, None);
        check("SET k 'a", None);
        check(r#""a"b"#, None);
        check(r#""a\"#, None);
    }
}
