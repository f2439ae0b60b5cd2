//! `atoll new` and `atoll dev`: from nothing to a handler that answers, as a developer sees it.

use crate::node::{ATOLL, TestNode, wait_until};
use crate::standard::tools::{componentize_js, componentize_py, folder, wit_bindgen};
use crate::tools::{run, text};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a first build may take on a busy machine.
const BUILD_PATIENCE: Duration = Duration::from_secs(900);

/// A running `atoll dev`; killed when it is dropped.
struct Dev {
    child: Child,
    /// What it has printed so far, on either output.
    shown: Arc<Mutex<String>>,
}

impl Dev {
    fn start(project: &Path, flags: &[&str]) -> Dev {
        Dev::start_in(&[], project, flags)
    }

    fn start_in(environment: &[(&str, &OsStr)], project: &Path, flags: &[&str]) -> Dev {
        let mut command = Command::new(ATOLL);
        command.envs(environment.iter().copied());
        command.arg("dev").arg(project).args(flags).stdin(Stdio::null());
        // The project has its own folder for what it builds, whatever the tests are built in.
        command.env_remove("CARGO_TARGET_DIR").env("CARGO_TERM_COLOR", "never");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("atoll starts");
        let shown = Arc::new(Mutex::new(String::new()));
        collect(child.stdout.take().expect("it is piped"), &shown);
        collect(child.stderr.take().expect("it is piped"), &shown);
        Dev { child, shown }
    }

    fn shown(&self) -> String {
        self.shown.lock().expect("no panic under it").clone()
    }

    /// Waits until it has printed something, for so long as a build may take.
    #[track_caller]
    fn wait_for(&self, wanted: &str) {
        let deadline = Instant::now() + BUILD_PATIENCE;
        while !self.shown().contains(wanted) {
            assert!(Instant::now() < deadline, "waited in vain for {wanted:?}:\n{}", self.shown());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where its node's gateway is.
    fn gateway(&self) -> SocketAddr {
        self.wait_for("gateway  http://");
        let shown = self.shown();
        let line = shown.lines().find_map(|line| line.trim().strip_prefix("gateway  http://"));
        line.expect("it was waited for").parse().expect("an address")
    }

    fn interrupt(&mut self) -> String {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "INT", &id]).status().expect("kill").success());
        let status = wait_until("it ends", || self.child.try_wait().expect("it can be waited for"));
        assert!(status.success(), "{status}: {}", self.shown());
        self.shown()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.shown());
        }
    }
}

fn collect(output: impl Read + Send + 'static, shown: &Arc<Mutex<String>>) {
    let shown = Arc::clone(shown);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let mut shown = shown.lock().expect("no panic under it");
            shown.push_str(&line);
            shown.push('\n');
        }
    });
}

/// A new project. What an earlier run has built of it is kept: `kept` is the folder's name.
fn new_project(language: &str, name: &str, kept: &str) -> PathBuf {
    let parent = folder("new");
    let (project, aside) = (parent.join(name), parent.join(format!("{name}-{kept}")));
    if project.join(kept).exists() {
        let _ = fs::remove_dir_all(&aside);
        fs::rename(project.join(kept), &aside).expect("it can be moved");
    }
    let _ = fs::remove_dir_all(&project);
    let mut command = Command::new(ATOLL);
    command.current_dir(&parent).args(["new", name, "--lang", language]);
    let output = command.output().expect("atoll runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    if aside.exists() {
        fs::rename(&aside, project.join(kept)).expect("it can be moved back");
    }
    project
}

fn get(address: SocketAddr, path: &str) -> String {
    let url = format!("http://{address}{path}");
    let answer = ureq::get(&url).call().expect("the handler answers");
    answer.into_body().read_to_string().expect("text")
}

#[test]
fn a_new_project_in_rust_is_built_run_and_deployed_again_on_every_change() {
    let project = new_project("rust", "shop", "target");
    let mut dev = Dev::start(&project, &["--gateway", "127.0.0.1:0"]);
    dev.wait_for("version 1");
    let gateway = dev.gateway();
    assert_eq!(get(gateway, "/a"), r#"{"page":"/a","visits":1}"#);
    dev.wait_for("v1 info  visit 1 of /a");

    let source = project.join("src/lib.rs");
    let before = fs::read_to_string(&source).expect("the template has it");
    fs::write(&source, before.replace("visits: i64", "visits: i64;")).expect("it can be written");
    dev.wait_for("the build failed");
    dev.wait_for("src/lib.rs:9");
    assert_eq!(get(gateway, "/a"), r#"{"page":"/a","visits":2}"#, "what is live stays live");

    let after =
        before.replace("page: &'a str", "address: &'a str").replace("page, v", "address: page, v");
    fs::write(&source, after).expect("it can be written");
    dev.wait_for("version 2");
    assert_eq!(get(gateway, "/a"), r#"{"address":"/a","visits":3}"#, "the keys are still there");
    dev.wait_for("v2 info  visit 3 of /a");

    let shown = dev.interrupt();
    assert!(!shown.contains("panicked"), "{shown}");
    assert!(std::net::TcpStream::connect(gateway).is_err(), "the node has ended too");
}

#[test]
fn the_unit_tests_of_a_new_project_in_rust_pass() {
    let project = new_project("rust", "tested", "target");
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--quiet"]).current_dir(&project).env_remove("CARGO_TARGET_DIR");
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("1 passed"), "{}", text(&output.stdout));
}

/// Builds, runs and asks a new project whose tools are there already.
#[track_caller]
fn check_project(project: &Path) {
    check_project_in(project, &[]);
}

/// The same, with more variables in its environment.
#[track_caller]
fn check_project_in(project: &Path, environment: &[(&str, &OsStr)]) {
    let mut dev = Dev::start_in(environment, project, &["--gateway", "127.0.0.1:0"]);
    dev.wait_for("version 1");
    let gateway = dev.gateway();
    for visit in 1..=3 {
        assert_eq!(get(gateway, "/a"), format!(r#"{{"page":"/a","visits":{visit}}}"#));
    }
    dev.wait_for("v1 info  visit ");
    dev.interrupt();
}

#[test]
fn a_new_project_in_javascript_builds_and_answers() {
    let project = new_project("js", "js", "none");
    symlink(componentize_js().join("node_modules"), project.join("node_modules")).expect("a link");
    check_project(&project);
}

#[test]
fn a_new_project_in_python_builds_and_answers() {
    let project = new_project("python", "python", "none");
    symlink(componentize_py(), project.join(".venv")).expect("a link");
    check_project(&project);
}

#[test]
fn a_new_project_in_c_builds_and_answers() {
    let project = new_project("c", "in-c", "none");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(wit_bindgen()).chain(std::env::split_paths(&path));
    let path = std::env::join_paths(folders).expect("a path");
    // Says what to install where the compiler is missing.
    run("clang", &["--version"]);
    run("wasm-ld", &["--version"]);
    check_project_in(&project, &[("PATH", path.as_os_str())]);
}

#[test]
fn a_project_can_be_deployed_to_a_node_that_runs_already() {
    let node = TestNode::start();
    let parent = tempfile::tempdir().expect("a folder");
    let guests = atoll_guests::build().unwrap_or_else(|error| panic!("{error:#}"));
    let built = guests.path("hello").display().to_string();
    let toml = format!(
        "name = \"hello\"\nbuild = \"cp {built} hello.wasm\"\ncomponent = \"hello.wasm\"\n\
         watch = [\"source\"]\ndeploy = [\"--route\", \"/hello\", \"--grant\", \"none\"]\n"
    );
    fs::write(parent.path().join("handler.toml"), toml).expect("it can be written");
    let mut dev = Dev::start(parent.path(), &["--api", &node.api.to_string()]);
    dev.wait_for("version 1");
    assert_eq!(get(node.gateway, "/hello?name=Ada"), "Hello, Ada!\n");
    fs::write(parent.path().join("source"), "a change").expect("it can be written");
    dev.wait_for("version 2");
    dev.interrupt();
    assert_eq!(get(node.gateway, "/hello"), "Hello, world!\n", "the node goes on");
}

/// Runs `atoll dev` where no program can be found.
#[track_caller]
fn check_missing(language: &str, want: &str) {
    let parent = tempfile::tempdir().expect("a folder");
    let new = ["new", "shop", "--lang", language];
    let made = Command::new(ATOLL).current_dir(&parent).args(new).output().expect("atoll runs");
    assert!(made.status.success());
    let mut command = Command::new(ATOLL);
    command.current_dir(&parent).args(["dev", "shop"]).env("PATH", parent.path());
    let output = command.env_remove("WASI_SDK_PATH").output().expect("atoll runs");
    let stderr = text(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty(), "{stderr}");
    assert!(stderr.lines().count() == 1 && stderr.contains(want), "{stderr}");
}

#[test]
fn a_missing_toolchain_is_one_line_that_says_what_to_install() {
    check_missing("rust", "cargo is missing: install Rust with rustup");
    check_missing("js", "node is missing: install Node.js");
    check_missing("python", "python3 is missing: install Python");
    check_missing("c", "make is missing: install make");
}

#[test]
fn a_folder_that_is_no_project_is_told_how_to_become_one() {
    let parent = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(ATOLL);
    let output = command.arg("dev").arg(parent.path()).output().expect("atoll runs");
    let stderr = text(&output.stderr);
    assert!(stderr.contains("has no handler.toml; `atoll new NAME` makes"), "{stderr}");
}
