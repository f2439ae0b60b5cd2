//! Rules about the documents: the two commands of the README, links that lead somewhere.

use std::collections::BTreeSet;

use crate::Complaint;
use crate::tree::SourceFile;

/// A line of a fenced block, without its prompt.
#[derive(Debug, PartialEq, Eq)]
struct Command<'a> {
    /// Counted from 1.
    line: usize,
    text: &'a str,
}

/// The README teaches exactly one command that runs a node from source, and exactly one that
/// passes all tests: a newcomer must not have to choose.
///
/// A command is a line of a fenced block that starts with `cargo run` or `cargo test`. Saying the
/// same command again is fine; a second spelling is not.
pub fn one_way_to_run_and_test(readme: &SourceFile) -> Vec<Complaint> {
    let commands = fenced_lines(&readme.text);
    let mut complaints = Vec::new();
    for (verb, what_for) in [("cargo run", "runs a node"), ("cargo test", "passes all tests")] {
        let of_verb: Vec<&Command<'_>> =
            commands.iter().filter(|command| starts_with_words(command.text, verb)).collect();
        let spellings: BTreeSet<&str> = of_verb.iter().map(|command| command.text).collect();
        if spellings.is_empty() {
            let what = format!("no fenced block holds the `{verb}` that {what_for}");
            complaints.push(Complaint::about(&readme.path, what));
        }
        if spellings.len() > 1 {
            let line = of_verb.last().map_or(0, |command| command.line);
            let what = format!("one `{verb}` that {what_for} is enough: {spellings:?}");
            complaints.push(Complaint::at(readme, line, what));
        }
    }
    complaints
}

/// Continuous integration runs the README's test command, word for word: what a newcomer types is
/// what decides.
pub fn ci_runs_the_readmes_test(ci: &SourceFile, readme: &SourceFile) -> Vec<Complaint> {
    let runs = |command: &Command<'_>| {
        // A redirection may follow; more arguments may not.
        ci.text.lines().any(|line| line.split('<').next().unwrap_or(line).trim() == command.text)
    };
    fenced_lines(&readme.text)
        .iter()
        .filter(|command| starts_with_words(command.text, "cargo test") && !runs(command))
        .map(|command| Complaint::about(&ci.path, format!("does not run `{}`", command.text)))
        .collect()
}

fn starts_with_words(text: &str, words: &str) -> bool {
    text.strip_prefix(words).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// The lines inside ``` fences, without `$ ` and without a trailing comment.
fn fenced_lines(markdown: &str) -> Vec<Command<'_>> {
    let mut inside = false;
    let mut lines = Vec::new();
    for (index, line) in markdown.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if inside {
            let text = line.trim().trim_start_matches("$ ");
            let text = text.split(" #").next().unwrap_or(text).trim_end();
            lines.push(Command { line: index + 1, text });
        }
    }
    lines
}

/// Every relative link of a Markdown file leads to a file or a folder of the tree.
pub fn links_lead_somewhere(file: &SourceFile, files: &[SourceFile]) -> Vec<Complaint> {
    if !file.path.ends_with(".md") {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    let mut inside_fence = false;
    for (index, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            inside_fence = !inside_fence;
        }
        if inside_fence {
            continue;
        }
        for target in link_targets(line) {
            let is_relative = !target.contains("://")
                && !target.starts_with(['#', '/'])
                && !target.starts_with("mailto:");
            if is_relative && !exists(&resolve(&file.path, target), files) {
                complaints.push(Complaint::at(file, index + 1, format!("no such file: {target}")));
            }
        }
    }
    complaints
}

/// The targets of `[text](target)` and of `[name]: target`.
fn link_targets(line: &str) -> Vec<&str> {
    let mut targets = Vec::new();
    let mut rest = line;
    while let Some((_, after)) = rest.split_once("](") {
        let end = after.find([')', ' ']).unwrap_or(after.len());
        targets.push(&after[..end]);
        rest = &after[end..];
    }
    if let Some((name, target)) = line.split_once("]: ")
        && name.starts_with('[')
    {
        targets.push(target.split(' ').next().unwrap_or(target));
    }
    targets
}

/// The path that `target`, written in the document `from`, means; without its fragment.
fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('#').next().unwrap_or(target).split('/') {
        match part {
            "" | "." => {}
            // A link out of the tree leads nowhere: keep the dots, nothing has that name.
            ".." if parts.is_empty() => parts.push(part),
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

fn exists(path: &str, files: &[SourceFile]) -> bool {
    let folder = format!("{path}/");
    path.is_empty() || files.iter().any(|file| file.path == path || file.path.starts_with(&folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{assert_lines, assert_none, tree};

    #[test]
    fn the_readme_has_one_command_to_run_and_one_to_test() {
        let readme = tree::files().iter().find(|file| file.path == "README.md").unwrap();
        assert_none(&one_way_to_run_and_test(readme));
    }

    #[track_caller]
    fn check_commands(text: &str, lines: &[usize]) {
        assert_lines(&one_way_to_run_and_test(&SourceFile::new("README.md", text)), lines);
    }

    #[test]
    fn a_readme_with_none_or_several_commands_is_found() {
        let good = "```sh\n$ cargo run --release -- serve   # a node\ncargo test\n```\n";
        check_commands(good, &[]);
        check_commands(&good.repeat(2), &[]);
        check_commands("cargo run -- serve\ncargo test\n", &[0, 0]);
        check_commands("```\ncargo run -- serve\ncargo testing\n```\n", &[0]);
        check_commands("```\ncargo run -- serve\ncargo run -- kv\ncargo test\n```\n", &[3]);
        check_commands("```\ncargo run -- serve\ncargo test\ncargo test --all\n```\n", &[4]);
    }

    #[test]
    fn ci_runs_what_the_readme_says() {
        let file = |path: &str| tree::files().iter().find(|file| file.path == path).unwrap();
        assert_none(&ci_runs_the_readmes_test(file(".ci/run"), file("README.md")));
    }

    #[test]
    fn a_ci_that_runs_something_else_is_found() {
        let readme = SourceFile::new("README.md", "```\ncargo test   # all\n```\n");
        let check = |text: &str, lines: &[usize]| {
            let ci = SourceFile::new(".ci/run", text);
            assert_lines(&ci_runs_the_readmes_test(&ci, &readme), lines);
        };
        check("cargo test\n", &[]);
        check("cargo test --no-run\ncargo test </dev/null\n", &[]);
        check("cargo test --lib\n", &[0]);
        check("# cargo test\n", &[0]);
    }

    #[test]
    fn links_of_the_documents_lead_somewhere() {
        let files = tree::files();
        let complaints: Vec<Complaint> =
            files.iter().flat_map(|file| links_lead_somewhere(file, files)).collect();
        assert_none(&complaints);
    }

    #[track_caller]
    fn check_links(path: &str, text: &str, lines: &[usize]) {
        let files = [SourceFile::new("README.md", ""), SourceFile::new("host/a/src/lib.rs", "")];
        assert_lines(&links_lead_somewhere(&SourceFile::new(path, text), &files), lines);
    }

    #[test]
    fn dead_links_are_found() {
        check_links("a.md", "[a](host/a/src/lib.rs) [b](host/a) [c](https://x.org/y)\n", &[]);
        check_links("a.md", "[a](README.md#part)\n[top](#part)\n[r]: ./README.md \"t\"\n", &[]);
        check_links("host/a/b.md", "[a](../../README.md)\n[b](src/lib.rs)\n", &[]);
        check_links("a.md", "fine\n[a](README.md) [b](gone.md)\n[r]: gone/\n", &[2, 3]);
        check_links("host/a/b.md", "[a](../../../README.md)\n", &[1]);
        check_links("a.md", "```\n[a](gone.md)\n```\n", &[]);
        check_links("a.txt", "[a](gone.md)\n", &[]);
    }
}
