//! Just enough of Rust's grammar for the rules: code without comments and literals, and the paths
//! that it names.

/// A path that code names, with the groups of `use` written out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention {
    /// Counted from 1.
    pub line: usize,
    /// `std::net::TcpStream`; a glob ends in `*`.
    pub path: String,
}

impl Mention {
    /// True if the path is `prefix` or lies under it.
    pub fn is_under(&self, prefix: &str) -> bool {
        self.path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    }
}

/// Returns `text` with comments and the contents of literals turned into spaces.
///
/// Lines and columns (in characters) stay where they were.
pub fn code(text: &str) -> String {
    let mut blanker =
        Blanker { chars: text.chars().collect(), at: 0, out: String::with_capacity(text.len()) };
    while blanker.at < blanker.chars.len() {
        blanker.step();
    }
    blanker.out
}

struct Blanker {
    chars: Vec<char>,
    at: usize,
    out: String,
}

impl Blanker {
    fn step(&mut self) {
        match (self.chars[self.at], self.peek(1)) {
            ('/', Some('/')) => self.blank_while(|blanker| blanker.peek(0) != Some('\n')),
            ('/', Some('*')) => self.block_comment(),
            ('"', _) => self.string(),
            ('\'', Some('\\')) => self.escaped_char(),
            // A lifetime has no closing quote two characters on.
            ('\'', Some(_)) if self.peek(2) == Some('\'') => {
                self.keep();
                self.blank();
                self.keep();
            }
            ('r', Some('"' | '#')) if !self.follows_a_name() => self.raw_string(),
            _ => self.keep(),
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    /// True in the middle of a name: the `r` of `for"`; not that of `br"` or `cr"`.
    fn follows_a_name(&self) -> bool {
        let is_name = |back: usize| {
            self.at
                .checked_sub(back)
                .and_then(|at| self.chars.get(at))
                .is_some_and(|c| c.is_alphanumeric() || *c == '_')
        };
        let is_prefix = self.at > 0 && matches!(self.chars[self.at - 1], 'b' | 'c') && !is_name(2);
        is_name(1) && !is_prefix
    }

    fn keep(&mut self) {
        self.out.extend(self.peek(0));
        self.at += 1;
    }

    fn blank(&mut self) {
        self.out.extend(self.peek(0).map(|c| if c == '\n' { c } else { ' ' }));
        self.at += 1;
    }

    fn blank_while(&mut self, wanted: impl Fn(&Self) -> bool) {
        while self.at < self.chars.len() && wanted(self) {
            self.blank();
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        while self.at < self.chars.len() {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => depth += 1,
                (Some('*'), Some('/')) => depth -= 1,
                _ => {
                    self.blank();
                    continue;
                }
            }
            self.blank();
            self.blank();
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        self.keep();
        while let Some(c) = self.peek(0) {
            match c {
                '"' => return self.keep(),
                '\\' => {
                    self.blank();
                    self.blank();
                }
                _ => self.blank(),
            }
        }
    }

    fn escaped_char(&mut self) {
        self.keep();
        self.blank();
        self.blank();
        self.blank_while(|blanker| blanker.peek(0) != Some('\''));
        self.keep();
    }

    /// `r"…"`, `r#"…"#`; leaves the raw identifier `r#type` as it is.
    fn raw_string(&mut self) {
        let hashes = self.chars[self.at + 1..].iter().take_while(|c| **c == '#').count();
        if self.peek(1 + hashes) != Some('"') {
            return self.keep();
        }
        for _ in 0..hashes + 2 {
            self.keep();
        }
        self.blank_while(|blanker| {
            let closing = (1..=hashes).all(|ahead| blanker.peek(ahead) == Some('#'));
            !(blanker.peek(0) == Some('"') && closing)
        });
        for _ in 0..=hashes {
            self.keep();
        }
    }
}

/// Every path in `code` (the output of [`code`]), with the groups of `use` written out.
pub fn mentions(code: &str) -> Vec<Mention> {
    let mut reader = Reader { tokens: tokens(code), at: 0, mentions: Vec::new() };
    while reader.at < reader.tokens.len() {
        if reader.is_name() {
            reader.path(String::new());
        } else {
            reader.at += 1;
        }
    }
    reader.mentions
}

#[derive(Debug)]
struct Token<'a> {
    line: usize,
    text: &'a str,
}

/// Names, `::`, and every other character by itself.
fn tokens(code: &str) -> Vec<Token<'_>> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    for (index, line_text) in code.lines().enumerate() {
        let mut rest = line_text.trim_start();
        while let Some(first) = rest.chars().next() {
            let len = if is_name(first) {
                rest.find(|c| !is_name(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push(Token { line: index + 1, text: &rest[..len] });
            rest = rest[len..].trim_start();
        }
    }
    tokens
}

struct Reader<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    mentions: Vec<Mention>,
}

impl Reader<'_> {
    fn text(&self) -> &str {
        self.tokens.get(self.at).map_or("", |token| token.text)
    }

    fn is_name(&self) -> bool {
        self.text().starts_with(|c: char| c.is_alphabetic() || c == '_')
    }

    /// Reads one path, or the group at its end, that continues `prefix`.
    fn path(&mut self, prefix: String) {
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        let mut path = prefix;
        while self.is_name() || self.text() == "*" {
            if !path.is_empty() {
                path.push_str("::");
            }
            path.push_str(self.tokens[self.at].text);
            self.at += 1;
            if self.text() != "::" {
                break;
            }
            self.at += 1;
            if self.text() == "{" {
                return self.group(&path);
            }
        }
        self.mentions.push(Mention { line, path });
    }

    fn group(&mut self, prefix: &str) {
        self.at += 1;
        while self.at < self.tokens.len() && self.text() != "}" {
            if self.text() == "as" {
                self.at += 2;
            } else if self.is_name() || self.text() == "*" {
                self.path(prefix.to_owned());
            } else {
                self.at += 1;
            }
        }
        self.at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_code(text: &str, want: &str) {
        assert_eq!(code(text), want);
    }

    #[test]
    fn comments_and_literals_are_blanked_in_place() {
        check_code("a // tokio\nb", "a         \nb");
        check_code("a /* x /* y */ z */ b", "a                   b");
        check_code(r#"f("a\"b", c)"#, r#"f("    ", c)"#);
        check_code(r###"f(r#"a"b"#, br"x\")"###, r###"f(r#"   "#, br"  ")"###);
        check_code("let r#type = for_r;", "let r#type = for_r;");
        check_code("'a' '\"' '\\'' '\\n' b\"x\"", "' ' ' ' '  ' '  ' b\" \"");
        check_code("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}");
        check_code("\"unclosed\n", "\"        \n");
    }

    #[track_caller]
    fn check_mentions(text: &str, want: &[(usize, &str)]) {
        let found = mentions(&code(text));
        let found: Vec<(usize, &str)> = found.iter().map(|m| (m.line, m.path.as_str())).collect();
        assert_eq!(found, want);
    }

    #[test]
    fn groups_are_written_out() {
        check_mentions(
            "use std::{net::{self, TcpStream as Stream}, fs::*};\nuse tokio;",
            &[
                (1, "use"),
                (1, "std::net::self"),
                (1, "std::net::TcpStream"),
                (1, "std::fs::*"),
                (2, "use"),
                (2, "tokio"),
            ],
        );
        check_mentions(
            "x(crate::api::serve::<T>());",
            &[(1, "x"), (1, "crate::api::serve"), (1, "T")],
        );
    }

    #[test]
    fn a_path_is_under_its_parents_only() {
        let mention = Mention { line: 1, path: "std::network::x".to_owned() };
        assert!(mention.is_under("std::network"));
        assert!(!mention.is_under("std::net"));
    }
}
