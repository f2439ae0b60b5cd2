//! The text of new projects, by language. `NAME` stands for the handler's name.

use super::{File, Language};

/// Files below the folder of a project, but for what a handler imports.
pub(super) fn files(language: Language, name: &str) -> Vec<File> {
    let texts = match language {
        Language::Rust => RUST,
        Language::Js => JS,
        Language::Python => PYTHON,
        Language::C => C,
    };
    texts.iter().map(|(path, text)| File::new(*path, text.replace("NAME", name))).collect()
}

macro_rules! template {
    ($path:literal) => {
        include_str!(concat!("../../../templates/", $path))
    };
}

const RUST: &[(&str, &str)] = &[
    ("Cargo.toml", template!("rust/manifest.toml")),
    (".cargo/config.toml", template!("rust/cargo-config.toml")),
    (".gitignore", template!("rust/gitignore")),
    ("README.md", template!("rust/README.md")),
    ("handler.toml", template!("rust/handler.toml")),
    ("src/lib.rs", template!("rust/src/lib.rs")),
];

const JS: &[(&str, &str)] = &[
    (".gitignore", template!("js/gitignore")),
    ("README.md", template!("js/README.md")),
    ("build.mjs", template!("js/build.mjs")),
    ("handler.js", template!("js/handler.js")),
    ("handler.toml", template!("js/handler.toml")),
    ("package.json", template!("js/package.json")),
];

const PYTHON: &[(&str, &str)] = &[
    (".gitignore", template!("python/gitignore")),
    ("README.md", template!("python/README.md")),
    ("build.sh", template!("python/build.sh")),
    ("handler.toml", template!("python/handler.toml")),
    ("src/app.py", template!("python/src/app.py")),
];

const C: &[(&str, &str)] = &[
    (".gitignore", template!("c/gitignore")),
    ("Makefile", template!("c/Makefile")),
    ("README.md", template!("c/README.md")),
    ("handler.c", template!("c/handler.c")),
    ("handler.toml", template!("c/handler.toml")),
];
