//! Rules about single files: how they open, how long they are, white space, words that must not
//! leak.

use crate::Complaint;
use crate::rust_source;
use crate::tree::SourceFile;

/// Where a file is split for good; the target is half of it.
const FILE_LINES_MAX: usize = 600;

/// Places of one machine or one workplace. In pieces, so that this file does not breach its own
/// rule.
const PLACES: [&str; 6] = [
    concat!("../", "shared"),
    concat!("fa", "rm-"),
    concat!("/wo", "rk/"),
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
];

/// A Rust file says in its first line what it owns.
pub fn opening(file: &SourceFile) -> Vec<Complaint> {
    let first = file.text.lines().next().unwrap_or_default();
    let says = first.strip_prefix("//! ").is_some_and(|words| words.trim().len() >= 10);
    if !file.is_rust() || says {
        return Vec::new();
    }
    vec![Complaint::at(file, 1, "the first line must be `//!` and say what the file owns")]
}

/// A Rust file has at most `FILE_LINES_MAX` lines.
pub fn length(file: &SourceFile) -> Vec<Complaint> {
    let lines = file.text.lines().count();
    if !file.is_rust() || lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    vec![Complaint::at(file, lines, format!("{lines} lines: split it ({FILE_LINES_MAX} at most)"))]
}

/// No trailing white space, no carriage returns, no tabs in Rust, exactly one newline at the end.
pub fn white_space(file: &SourceFile) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (index, line) in file.text.split('\n').enumerate() {
        if line.trim_end() != line {
            complaints.push(Complaint::at(file, index + 1, "white space at the end of the line"));
        }
        if file.is_rust() && line.contains('\t') {
            complaints.push(Complaint::at(file, index + 1, "a tab"));
        }
    }
    let ends_well = file.text.ends_with('\n') && !file.text.ends_with("\n\n");
    if !ends_well && !file.text.is_empty() {
        let last = file.text.lines().count();
        complaints.push(Complaint::at(file, last, "the file must end in exactly one newline"));
    }
    complaints
}

/// Nothing names a folder of one machine. Continuous integration may: it runs on a known one.
pub fn places(file: &SourceFile) -> Vec<Complaint> {
    if file.path.starts_with(".ci/") {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for place in PLACES.iter().filter(|place| line.contains(**place)) {
            let what = format!("`{place}` is a place of one machine or workplace");
            complaints.push(Complaint::at(file, index + 1, what));
        }
    }
    complaints
}

/// Nothing of an unfinished merge is left.
pub fn merge_markers(file: &SourceFile) -> Vec<Complaint> {
    let is_marker = |line: &str| line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ");
    let lines = file.text.lines().enumerate();
    lines
        .filter(|(_, line)| is_marker(line))
        .map(|(index, _)| Complaint::at(file, index + 1, "a marker of an unfinished merge"))
        .collect()
}

/// Every `allow` and `expect` of a lint says why, in words.
///
/// Clippy's `allow_attributes_without_reason` knows this too, but not inside `cfg_attr` of another
/// platform, and accepts an empty reason.
pub fn lint_reasons(file: &SourceFile) -> Vec<Complaint> {
    if !file.is_rust() {
        return Vec::new();
    }
    let code: Vec<char> = rust_source::code(&file.text).chars().collect();
    let original: Vec<char> = file.text.chars().collect();
    let mut complaints = Vec::new();
    let mut at = 0;
    while at < code.len() {
        let Some(attribute_end) = attribute_at(&code, at) else {
            at += 1;
            continue;
        };
        let body: String = code[at..attribute_end].iter().collect();
        if switches_a_lint(&body) {
            let written: String = original[at..attribute_end].iter().collect();
            let line = 1 + original[..at].iter().filter(|c| **c == '\n').count();
            if !gives_a_reason(&written) {
                complaints.push(Complaint::at(file, line, "write `reason = \"…\"` in words"));
            }
        }
        at = attribute_end;
    }
    complaints
}

/// The end of the attribute `#[…]` or `#![…]` that starts at `at`, if one does.
fn attribute_at(code: &[char], at: usize) -> Option<usize> {
    let open = match code[at..] {
        ['#', '[', ..] => at + 1,
        ['#', '!', '[', ..] => at + 2,
        _ => return None,
    };
    let mut depth = 0_usize;
    for (index, c) in code.iter().enumerate().skip(open) {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(index + 1);
        }
    }
    Some(code.len())
}

fn switches_a_lint(attribute: &str) -> bool {
    let inner = attribute.trim_start_matches(['#', '!', '[']);
    let direct = ["allow(", "expect("].iter().any(|word| inner.starts_with(word));
    let conditional = inner.starts_with("cfg_attr(")
        && ["allow(", "expect("].iter().any(|word| inner.contains(&format!(" {word}")));
    direct || conditional
}

fn gives_a_reason(attribute: &str) -> bool {
    attribute
        .split_once("reason = \"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .is_some_and(|(reason, _)| reason.contains(' '))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check, check_tree};

    #[test]
    fn each_file_opens_with_what_it_owns() {
        check_tree(opening);
    }

    #[test]
    fn a_file_that_does_not_say_what_it_owns_is_found() {
        check(opening, "a.rs", "//! Owns the map.\nuse x;\n", &[]);
        check(opening, "a.md", "# Title\n", &[]);
        check(opening, "a.rs", "use x;\n//! Owns the map.\n", &[1]);
        check(opening, "a.rs", "//!\n", &[1]);
        check(opening, "a.rs", "", &[1]);
    }

    #[test]
    fn no_file_is_too_long() {
        check_tree(length);
    }

    #[test]
    fn a_file_that_is_too_long_is_found() {
        check(length, "a.rs", &"x\n".repeat(FILE_LINES_MAX), &[]);
        check(length, "a.lock", &"x\n".repeat(FILE_LINES_MAX + 1), &[]);
        check(length, "a.rs", &"x\n".repeat(FILE_LINES_MAX + 1), &[FILE_LINES_MAX + 1]);
    }

    #[test]
    fn white_space_is_clean() {
        check_tree(white_space);
    }

    #[test]
    fn stray_white_space_is_found() {
        check(white_space, "a.rs", "a\nb\n", &[]);
        check(white_space, "a.mk", "\ta\n", &[]);
        check(white_space, "a.rs", "a \nb\r\n\tc\n", &[1, 2, 3]);
        check(white_space, "a.rs", "a", &[1]);
        check(white_space, "a.md", "a\n\n", &[2]);
    }

    #[test]
    fn nothing_names_a_place_of_one_machine() {
        check_tree(places);
    }

    #[test]
    fn places_of_one_machine_are_found() {
        for place in PLACES {
            check(places, "a.md", &format!("fine\nsee {place}x\n"), &[2]);
            check(places, ".ci/run", &format!("cd {place}x\n"), &[]);
        }
        check(places, "a.md", "the network, a homework, a farm\n", &[]);
    }

    #[test]
    fn no_merge_is_unfinished() {
        check_tree(merge_markers);
    }

    #[test]
    fn unfinished_merges_are_found() {
        check(merge_markers, "a.md", "a\n<<<<<<< HEAD\nb\n=======\nc\n>>>>>>> main\n", &[2, 6]);
        check(merge_markers, "a.rs", "if a << b {}\n", &[]);
    }

    #[test]
    fn each_silenced_lint_has_a_reason() {
        check_tree(lint_reasons);
    }

    #[test]
    fn lints_that_are_silenced_without_words_are_found() {
        check(lint_reasons, "a.rs", "#[allow(x, reason = \"generated code\")]\n", &[]);
        check(lint_reasons, "a.rs", "x.expect(\"why\"); // #[allow(x)]\n\"#[allow(x)]\";\n", &[]);
        check(lint_reasons, "a.rs", "#[derive(Debug)]\n#[allow(x)]\nstruct A;\n", &[2]);
        check(lint_reasons, "a.rs", "#![expect(x, reason = \"\")]\n", &[1]);
        check(lint_reasons, "a.rs", "#[cfg_attr(test, allow(x))]\n", &[1]);
        check(lint_reasons, "a.rs", "#[allow(\n    x,\n    reason = \"\",\n)]\n", &[1]);
    }
}
