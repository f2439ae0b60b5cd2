//! House rules, as tests over the source text.
//!
//! A rule is a function from text to complaints. One test runs it over the whole tree, another
//! feeds it bad snippets: a rule that cannot fail guards nothing. Rules that a tool already knows
//! (formatting, lints) run that tool, so that `cargo test` alone says whether a change is tidy.

pub mod documents;
pub mod imports;
pub mod layout;
pub mod manifests;
pub mod names;
pub mod rust_source;
pub mod text;
pub mod toolchain;
pub mod tree;

use std::fmt;

use crate::tree::SourceFile;

/// One breach of a rule, with the place and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Relative to the root of the tree.
    pub path: String,
    /// Counted from 1; 0 where the whole file is meant.
    pub line: usize,
    pub what: String,
}

impl Complaint {
    /// A complaint about one line of `file`, counted from 1.
    pub fn at(file: &SourceFile, line: usize, what: impl Into<String>) -> Self {
        Self { path: file.path.clone(), line, what: what.into() }
    }

    /// A complaint about a file, a folder or the lack of one.
    pub fn about(path: impl Into<String>, what: impl Into<String>) -> Self {
        Self { path: path.into(), line: 0, what: what.into() }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(formatter, "{}: {}", self.path, self.what),
            line => write!(formatter, "{}:{line}: {}", self.path, self.what),
        }
    }
}

/// A rule about one file.
pub type Rule = fn(&SourceFile) -> Vec<Complaint>;

/// Ends the test with every complaint on a line of its own, unless there is none.
///
/// # Panics
/// If there is a complaint.
#[track_caller]
pub fn assert_none(complaints: &[Complaint]) {
    let lines: Vec<String> = complaints.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{} breaches of a house rule:\n{}", lines.len(), lines.join("\n"));
}

/// Ends the test unless the rule complained about exactly these lines, in this order.
///
/// # Panics
/// If the lines differ.
#[track_caller]
pub fn assert_lines(complaints: &[Complaint], want: &[usize]) {
    let lines: Vec<usize> = complaints.iter().map(|complaint| complaint.line).collect();
    assert_eq!(lines, want, "complaints: {complaints:#?}");
}

/// Ends the test if the rule complains about any file of the tree.
///
/// # Panics
/// If there is a complaint.
#[track_caller]
pub fn check_tree(rule: Rule) {
    let complaints: Vec<Complaint> = tree::files().iter().flat_map(rule).collect();
    assert_none(&complaints);
}

/// Ends the test unless the rule complains about exactly these lines of a file with this text.
///
/// # Panics
/// If the lines differ.
#[track_caller]
pub fn check(rule: Rule, path: &str, text: &str, lines: &[usize]) {
    assert_lines(&rule(&SourceFile::new(path, text)), lines);
}
