//! Rules about which part may know which.

use crate::Complaint;
use crate::rust_source::{self, Mention};
use crate::tree::SourceFile;

/// What `atoll-core` never names: its caller brings time, dice, bytes and configuration.
const IMPURE: [&str; 10] = [
    "tokio",
    "std::env",
    "std::fs",
    "std::io::stdin",
    "std::io::stdout",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// What the core's own tests may use: a law about locks needs threads to race.
const ALLOWED_IN_TESTS: &str = "std::thread";

/// The doors of the node. They meet in `node`, never one another.
const DOORS: [&str; 4] = ["api", "gateway", "peers", "resp"];

/// `atoll-core` decides and never looks.
pub fn core_is_pure(file: &SourceFile) -> Vec<Complaint> {
    if !file.is_rust() || !file.path.starts_with("host/atoll-core/") {
        return Vec::new();
    }
    let code = rust_source::code(&file.text);
    let tests_start = first_test_line(file, &code);
    let mut complaints = Vec::new();
    for mention in rust_source::mentions(&code) {
        let in_tests = mention.line >= tests_start;
        for name in IMPURE.iter().filter(|name| mention.is_under(name)) {
            if in_tests && *name == ALLOWED_IN_TESTS {
                continue;
            }
            let what = format!("`{name}` in the pure core: make it an argument");
            complaints.push(Complaint::at(file, mention.line, what));
        }
    }
    complaints
}

/// The line at which a file turns into tests, by name or by its closing test module.
fn first_test_line(file: &SourceFile, code: &str) -> usize {
    if file.name() == "tests.rs" || file.path.contains("/tests/") {
        return 1;
    }
    let lines: Vec<&str> = code.lines().collect();
    lines
        .windows(2)
        .position(|pair| pair[0].trim() == "#[cfg(test)]" && pair[1].starts_with("mod tests"))
        .map_or(usize::MAX, |index| index + 1)
}

/// The doors of `atoll-node` never import one another.
pub fn doors_are_apart(file: &SourceFile) -> Vec<Complaint> {
    let Some(own) = door_of(&file.path) else { return Vec::new() };
    let mut complaints = Vec::new();
    for mention in rust_source::mentions(&rust_source::code(&file.text)) {
        if let Some(other) = named_door(&mention).filter(|other| *other != own) {
            let what = format!("`{own}` must not know `{other}`: go through `node`");
            complaints.push(Complaint::at(file, mention.line, what));
        }
    }
    complaints
}

fn door_of(path: &str) -> Option<&'static str> {
    let inside = path.strip_prefix("host/atoll-node/src/")?;
    let first = inside.split(['/', '.']).next()?;
    DOORS.into_iter().find(|door| *door == first)
}

/// The door in `crate::DOOR::…` or `super::…::DOOR::…`.
fn named_door(mention: &Mention) -> Option<&'static str> {
    let mut parts = mention.path.split("::");
    let first = parts.next()?;
    if first != "crate" && first != "super" {
        return None;
    }
    let next = parts.find(|part| *part != "super")?;
    DOORS.into_iter().find(|door| *door == next)
}

/// `atoll-wasm` runs guests and knows neither the store nor a socket: of HTTP it has the types alone.
pub fn wasm_knows_no_store(file: &SourceFile) -> Vec<Complaint> {
    if !file.path.starts_with("host/atoll-wasm/") {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    let complain = |line: usize, name: &str| {
        Complaint::at(file, line, format!("`{name}` in atoll-wasm: declare a trait instead"))
    };
    if file.name() == "Cargo.toml" {
        for (index, line) in file.text.lines().enumerate() {
            for name in
                ["atoll-core", "axum", "hyper"].iter().filter(|name| line.starts_with(**name))
            {
                complaints.push(complain(index + 1, name));
            }
        }
    } else if file.is_rust() {
        for mention in rust_source::mentions(&rust_source::code(&file.text)) {
            for name in ["atoll_core", "axum", "hyper"].iter().filter(|name| mention.is_under(name))
            {
                complaints.push(complain(mention.line, name));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check, check_tree};

    #[test]
    fn the_core_is_pure() {
        check_tree(core_is_pure);
    }

    #[test]
    fn an_impure_core_is_found() {
        let path = "host/atoll-core/src/store.rs";
        check(core_is_pure, path, "//! No tokio.\nuse std::time::Duration;\nenv!(\"X\");\n", &[]);
        check(core_is_pure, path, "use tokio::time;\nuse std::{fs, net::TcpStream};\n", &[1, 2, 2]);
        check(core_is_pure, path, "let x = std::time::Instant::now();\n", &[1]);
        check(core_is_pure, path, "use std::time::{Duration, SystemTime};\n", &[1]);
        check(core_is_pure, path, "use std::thread;\n", &[1]);
        check(core_is_pure, "host/atoll-node/src/main.rs", "use tokio;\n", &[]);
    }

    #[test]
    fn tests_of_the_core_may_race_threads_but_not_read_clocks() {
        let tests =
            "#[cfg(test)]\nmod tests {\n    use std::thread;\n    use std::time::Instant;\n}\n";
        check(core_is_pure, "host/atoll-core/src/store.rs", tests, &[4]);
        check(core_is_pure, "host/atoll-core/src/store/tests.rs", "use std::thread;\n", &[]);
        check(core_is_pure, "host/atoll-core/tests/laws.rs", "use std::fs;\n", &[1]);
    }

    #[test]
    fn the_doors_do_not_know_one_another() {
        check_tree(doors_are_apart);
    }

    #[test]
    fn a_door_that_knows_another_is_found() {
        let path = "host/atoll-node/src/resp/connection.rs";
        check(doors_are_apart, path, "use crate::node::Node;\nuse crate::resp::reply;\n", &[]);
        check(doors_are_apart, path, "use crate::api::ETag;\n", &[1]);
        check(doors_are_apart, path, "use crate::{node::Node, gateway};\n", &[1]);
        check(doors_are_apart, path, "fn f() {\n    crate::peers::dial();\n}\n", &[2]);
        check(doors_are_apart, path, "use super::super::api;\n", &[1]);
        check(doors_are_apart, "host/atoll-node/src/api.rs", "use crate::resp;\n", &[1]);
        check(doors_are_apart, "host/atoll-node/src/run.rs", "use crate::{api, resp};\n", &[]);
    }

    #[test]
    fn the_wasm_crate_knows_no_store() {
        check_tree(wasm_knows_no_store);
    }

    #[test]
    fn a_wasm_crate_that_knows_the_store_is_found() {
        let source = "host/atoll-wasm/src/engine.rs";
        let manifest = "host/atoll-wasm/Cargo.toml";
        check(wasm_knows_no_store, source, "//! Not atoll_core.\nuse wasmtime::Engine;\n", &[]);
        check(wasm_knows_no_store, source, "use atoll_core::store;\nuse axum::Router;\n", &[1, 2]);
        check(wasm_knows_no_store, source, "use hyper::client::conn;\nuse http::Request;\n", &[1]);
        check(wasm_knows_no_store, manifest, "[dependencies]\natoll-core.workspace = true\n", &[2]);
    }
}
