//! Other people's tools that make components, as their users install them: componentize-js from npm,
//! componentize-py from PyPI, wit-bindgen from crates.io. Each is installed once, below the folder of the build, and so is
//! what it has made of the same source.

use crate::tools::run;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

const COMPONENTIZE_JS: &str = "@bytecodealliance/componentize-js@0.23.0";
const COMPONENTIZE_PY: &str = "componentize-py==0.25.1";
/// The version of `wasi:http` that componentize-js has built in.
const WASI: &str = "0.2.10";

/// The sources of the handlers.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/e2e/standard");

/// One for each tool: several tests need it, and the first of them installs it.
static JS: Mutex<()> = Mutex::new(());
static PYTHON: Mutex<()> = Mutex::new(());
static BINDGEN: Mutex<()> = Mutex::new(());

/// One for each component: several tests deploy it, and the first of them makes it.
static IN_JS: Mutex<()> = Mutex::new(());
static IN_PYTHON: Mutex<()> = Mutex::new(());
static IN_C: Mutex<()> = Mutex::new(());

/// What `make` makes, while nobody else makes the same.
fn alone<T>(turn: &Mutex<()>, make: impl FnOnce() -> T) -> T {
    // Where another's turn ended in a panic, this one may succeed.
    let _turn = turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    make()
}

/// A folder with componentize-js in its `node_modules`.
pub(crate) fn componentize_js() -> PathBuf {
    alone(&JS, install_js)
}

fn install_js() -> PathBuf {
    let folder = folder("componentize-js");
    if !folder.join("node_modules/@bytecodealliance/componentize-js").exists() {
        let tools = folder.display().to_string();
        let npm = ["install", "--silent", "--no-audit", "--no-fund", "--prefix"];
        run("npm", &[&npm[..], &[&tools, COMPONENTIZE_JS]].concat());
    }
    folder
}

/// A virtual environment with componentize-py.
pub(crate) fn componentize_py() -> PathBuf {
    alone(&PYTHON, install_py)
}

fn install_py() -> PathBuf {
    let venv = folder("componentize-py").join("venv");
    if !venv.join("bin/componentize-py").exists() {
        run("python3", &["-m", "venv", &venv.display().to_string()]);
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        let python = venv.join("bin/python").display().to_string();
        run(&python, &[&pip[..], &[COMPONENTIZE_PY]].concat());
    }
    venv
}

/// The handler in JavaScript.
pub(super) fn javascript() -> PathBuf {
    alone(&IN_JS, make_javascript)
}

fn make_javascript() -> PathBuf {
    let folder = folder("componentize-js");
    let tools = folder.display().to_string();
    made(&folder, &["handler.js", "build.mjs", "world.wit"], |output| {
        componentize_js();
        let (build, source) = (format!("{SOURCES}/build.mjs"), format!("{SOURCES}/handler.js"));
        run("node", &[&build, &tools, &source, &wit(&folder), output]);
    })
}

/// The handler in Python.
pub(super) fn python() -> PathBuf {
    alone(&IN_PYTHON, make_python)
}

fn make_python() -> PathBuf {
    let folder = folder("componentize-py");
    made(&folder, &["app.py", "world.wit"], |output| {
        let program = componentize_py().join("bin/componentize-py").display().to_string();
        // Apart from the sources, because Python leaves what it compiles beside them.
        let (wit, app) = (wit(&folder), folder.join("app"));
        fs::create_dir_all(&app).expect("the folder can be made");
        fs::copy(format!("{SOURCES}/app.py"), app.join("app.py")).expect("it can be copied");
        let app = app.display().to_string();
        let world = ["-d", &wit, "-w", "component"];
        run(&program, &[&world[..], &["componentize", "-p", &app, "app", "-o", output]].concat());
    })
}

/// A folder with `wit-bindgen` in it, as its users install it.
pub(crate) fn wit_bindgen() -> PathBuf {
    alone(&BINDGEN, install_bindgen)
}

fn install_bindgen() -> PathBuf {
    let folder = folder("wit-bindgen");
    if !folder.join("bin/wit-bindgen").exists() {
        let version = ["wit-bindgen-cli", "--version", "0.61.0", "--locked", "--debug"];
        let features = ["--no-default-features", "--features", "c", "--quiet", "--root"];
        let root = folder.display().to_string();
        run("cargo", &[&["install"], &version[..], &features[..], &[&root]].concat());
    }
    folder.join("bin")
}

/// The handler in C.
pub(super) fn c() -> PathBuf {
    alone(&IN_C, make_c)
}

fn make_c() -> PathBuf {
    let folder = folder("c");
    made(&folder, &["handler.c", "world.wit"], |output| {
        let bindings = folder.join("bindings").display().to_string();
        let program = wit_bindgen().join("wit-bindgen").display().to_string();
        run(&program, &["c", "--world", "component", "--out-dir", &bindings, &wit(&folder)]);
        let sysroot = run("rustc", &["--print", "sysroot"]);
        let version = run("rustc", &["-vV"]);
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
        let linker = format!("{}/lib/rustlib/{host}/bin/wasm-component-ld", sysroot.trim());
        let [linker, include] = [format!("-fuse-ld={linker}"), format!("-I{bindings}")];
        let flags = ["--target=wasm32-wasi", "-mexec-model=reactor", "-Os", "-s", "-Werror"];
        let names = ["component.c", "component_component_type.o"];
        let [code, of_type] = names.map(|name| format!("{bindings}/{name}"));
        let source = format!("{SOURCES}/handler.c");
        let files = [&linker, &include, "-o", output, &source, &code, &of_type];
        run("wasm-ld", &["--version"]);
        run("clang", &[&flags[..], &files[..]].concat());
    })
}

/// A folder of the build, the same for every run.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("the folder can be made");
    folder
}

/// What `make` makes of the sources, unless it was made of the same before.
fn made(folder: &Path, sources: &[&str], make: impl FnOnce(&str)) -> PathBuf {
    let text = |name: &&str| fs::read_to_string(format!("{SOURCES}/{name}")).expect("a source");
    let now: String = sources.iter().map(text).collect();
    let (component, of) = (folder.join("handler.wasm"), folder.join("made-of.txt"));
    if component.exists() && fs::read_to_string(&of).is_ok_and(|before| before == now) {
        return component;
    }
    let output = folder.join("new.wasm");
    make(&output.display().to_string());
    fs::rename(&output, &component).expect("it was made");
    fs::write(&of, now).expect("the folder can be written");
    component
}

/// A folder with the interfaces that the tools are given: the standard's, of the engine's crate with
/// the number that the tools expect, and the store's.
fn wit(folder: &Path) -> String {
    let wit = folder.join("wit");
    let deps = wit.join("deps");
    fs::create_dir_all(&deps).expect("the folder can be made");
    for name in ["cli", "clocks", "filesystem", "http", "io", "random", "sockets"] {
        let text = fs::read_to_string(engine_crate().join(format!("wit/deps/{name}.wit")));
        let text = text.expect("the engine's crate has it").replace("0.2.12", WASI);
        fs::write(deps.join(format!("{name}.wit")), text).expect("the folder can be written");
    }
    let copy = |from: &str, to: PathBuf| fs::copy(from, to).expect("it can be copied");
    copy(&format!("{SOURCES}/world.wit"), wit.join("world.wit"));
    let keyvalue =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../atoll-wasm/wit/deps/keyvalue-draft/keyvalue.wit");
    copy(keyvalue, deps.join("keyvalue.wit"));
    wit.display().to_string()
}

/// Where cargo keeps the source of `wasmtime-wasi-http`.
fn engine_crate() -> PathBuf {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let metadata = ["metadata", "--locked", "--format-version", "1", "--manifest-path", manifest];
    let metadata: serde_json::Value =
        serde_json::from_str(&run(env!("CARGO"), &metadata)).expect("cargo writes JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let package = packages.iter().find(|package| package["name"] == "wasmtime-wasi-http");
    let path = package.and_then(|package| package["manifest_path"].as_str());
    Path::new(path.expect("the engine's crate is used")).parent().expect("its folder").to_owned()
}
