//! The disk tier: what a restart, a kill, a purge meanwhile, damage and a full disk leave of it.

use super::origin::{Act, Origin, ask, response};
use crate::node::{ATOLL, TestNode, wait_until};
use crate::tools::run;
use rlimit::{INFINITY, Resource, prlimit};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

const FRESH: (&str, &str) = ("Cache-Control", "max-age=3600");
const LONG_BYTES: usize = 3 << 20;

/// A place for a node with a disk, over several processes.
struct Place {
    folder: TempDir,
    config: PathBuf,
}

impl Place {
    /// With one cached route to `origin`.
    fn before(origin: &Origin) -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("atoll.toml");
        let text = format!(
            "cache_disk = \"64MiB\"\nlog = \"info\"\n[[route]]\npath = \"/*\"\n\
             upstream = \"http://{}\"\ncache = true\n",
            origin.address
        );
        std::fs::write(&config, text).expect("the file is written");
        Place { folder, config }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts the node there, and waits until it serves from its disk.
    fn start(&self, flags: &[&str]) -> TestNode {
        let node = self.start_at_once(flags);
        wait_until("the disk is served", || {
            (metric(&node, "atoll_cache_disk_serving") == 1).then_some(())
        });
        node
    }

    fn start_at_once(&self, flags: &[&str]) -> TestNode {
        let data = self.data();
        let (config, data) = (text(&self.config), text(&data));
        TestNode::start_with(&[&["--config", config, "--data", data], flags].concat())
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a text path")
}

fn metric(node: &TestNode, name: &str) -> u64 {
    let answer = node.http("GET", node.api, "/metrics", b"");
    let line = answer.text().lines().find(|line| line.starts_with(&format!("{name} ")));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name}"))
}

/// Stops a node as a supervisor does: what was stored is written.
fn stop(mut node: TestNode) {
    node.signal("TERM");
    assert_eq!(node.wait().code(), Some(0));
}

/// Waits until so many responses were written.
fn wait_until_written(node: &TestNode, count: u64) {
    wait_until("the responses are on the disk", || {
        (metric(node, "atoll_cache_disk_written_total") >= count).then_some(())
    });
}

fn long_body() -> String {
    (0..LONG_BYTES).map(|at| char::from(b'a' + (at / 7 % 26) as u8)).collect()
}

/// Answers short ones, long ones with and without a length, and such as vary.
fn origin() -> Origin {
    Origin::start(|request, count| {
        let body = match request.path() {
            "/long" | "/chunked" => long_body(),
            path => format!("{path} {count}"),
        };
        if request.path() == "/chunked" {
            let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\n\
                        Transfer-Encoding: chunked\r\n\r\n";
            let chunks: String = body
                .as_bytes()
                .chunks(100_000)
                .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)))
                .collect();
            return Act::Send(format!("{head}{chunks}0\r\n\r\n").into_bytes());
        }
        Act::Send(response(200, &[FRESH, ("Vary", "Foo"), ("Cache-Tag", "t")], &body))
    })
}

const PATHS: [&str; 4] = ["/a", "/b", "/long", "/chunked"];

#[track_caller]
fn check(node: &TestNode, path: &str, want: &str) {
    let answer = ask(node, "GET", path, &[("Foo", "1")]);
    assert_eq!(answer.status(), 200, "{path}");
    assert!(
        answer.is_whole && answer.field("cache-status").starts_with(want),
        "{path}: {answer:?}"
    );
    match path {
        "/long" | "/chunked" => assert!(answer.text() == long_body(), "{path}"),
        _ => assert!(answer.text().starts_with(path), "{path}: {}", answer.text()),
    }
}

/// As root: `cargo test -p atoll-node --test e2e -- --ignored a_file_system_that_fills`.
#[test]
#[ignore = "mounts a small file system, which takes root"]
fn a_file_system_that_fills_under_the_cache_harms_no_answer_and_is_used_again_once_it_has_room() {
    let version = Arc::new(AtomicU64::new(1));
    let current = Arc::clone(&version);
    let origin = Origin::start(move |request, _| {
        let length = if request.path().contains("long") { LONG_BYTES } else { 10_000 };
        let version = current.load(Ordering::SeqCst).to_string();
        let text = "0".repeat(length - version.len()) + &version;
        Act::Send(response(200, &[FRESH, ("Cache-Tag", "t")], &text))
    });
    let place = Place::before(&origin);
    let mounted = Mounted::at(place.data());
    let asked = |node: &TestNode, path: &str| {
        let answer = ask(node, "GET", path, &[]);
        let length = if path.contains("long") { LONG_BYTES } else { 10_000 };
        assert_eq!((answer.status(), answer.is_whole), (200, true), "{path}");
        assert_eq!(answer.body.len(), length, "{path}");
        let hit = answer.field("cache-status").starts_with(HIT);
        (answer.text().trim_start_matches('0').parse::<u64>().expect("a version"), hit)
    };
    let flags = ["--memory-max", "64MiB", "--cache-memory", "8MiB"];
    let node = place.start(&flags);
    for number in 0..4 {
        asked(&node, &format!("/long/{number}"));
        asked(&node, &format!("/short/{number}"));
    }
    wait_until_written(&node, 8);
    mounted.fill();
    // More than fits beside it, of both kinds, and what is there already.
    for number in 0..40 {
        assert_eq!(asked(&node, &format!("/long/{number}")).0, 1);
        assert_eq!(asked(&node, &format!("/short/{number}")).0, 1);
        mounted.fill();
    }
    assert_eq!(metric(&node, "atoll_cache_disk_writable"), 0);
    assert_eq!(metric(&node, "atoll_cache_disk_damaged_total"), 0);
    // A purge holds although it can be noted nowhere, and a kill does not undo it.
    version.store(2, Ordering::SeqCst);
    node.http("POST", node.api, "/v1/purge", br#"{"tags": ["t"]}"#);
    for number in 0..4 {
        assert_eq!(asked(&node, &format!("/long/{number}")).0, 2);
        assert_eq!(asked(&node, &format!("/short/{number}")).0, 2);
    }
    drop(node);
    mounted.make_room();
    let node = place.start(&flags);
    for number in 0..40 {
        assert_eq!(asked(&node, &format!("/long/{number}")).0, 2);
        assert_eq!(asked(&node, &format!("/short/{number}")).0, 2);
    }
    // Once more without an end: room comes back while the node runs.
    mounted.fill();
    assert_eq!(asked(&node, "/long/full").0, 2);
    wait_until("it is seen", || (metric(&node, "atoll_cache_disk_writable") == 0).then_some(()));
    mounted.make_room();
    wait_until("it is used again", || {
        asked(&node, &format!("/short/{}", origin.seen("/short/0").len()));
        (metric(&node, "atoll_cache_disk_writable") == 1).then_some(())
    });
    let written = metric(&node, "atoll_cache_disk_written_total");
    asked(&node, "/long/after");
    asked(&node, "/short/after");
    wait_until_written(&node, written + 2);
    stop(node);
    let node = place.start(&flags);
    assert_eq!((asked(&node, "/long/after"), asked(&node, "/short/after")), ((2, true), (2, true)));
    stop(node);
}

/// A file system of 64 MiB, until it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn at(path: PathBuf) -> Mounted {
        std::fs::create_dir(&path).expect("a folder");
        let status = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m", "tmpfs", text(&path)])
            .status();
        assert!(status.expect("it runs").success(), "mount");
        Mounted(path)
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Takes all the room that there is.
    fn fill(&self) {
        use std::io::Write as _;
        let open = std::fs::OpenOptions::new().create(true).append(true).open(self.ballast());
        let mut file = open.expect("a file");
        for bytes in [1 << 20, 1 << 12] {
            while file.write_all(&vec![7; bytes]).is_ok() {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).expect("it is there");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a node that was killed may still hold it for a moment.
        let _ = std::process::Command::new("umount").args(["-l", text(&self.0)]).status();
    }
}

const HIT: &str = "Atoll; hit";
const MISS: &str = "Atoll; fwd=";

#[test]
fn a_restart_and_a_kill_keep_what_was_stored_and_the_upstream_is_not_asked() {
    let origin = origin();
    let place = Place::before(&origin);
    let node = place.start(&[]);
    for path in PATHS {
        check(&node, path, MISS);
        check(&node, path, HIT);
    }
    let api = node.api.to_string();
    let told = run(ATOLL, &["cache", "--api", &api, "inspect", "http://example.com/chunked"]);
    wait_until_written(&node, 4);
    assert!(told.contains("  in memory and on disk\n"), "{told}");
    stop(node);
    for _ in 0..2 {
        let node = place.start(&[]);
        let api = node.api.to_string();
        let told = run(ATOLL, &["cache", "--api", &api, "inspect", "http://example.com/chunked"]);
        assert!(
            told.contains(" 200, 3145728 bytes, fresh: ") && told.contains("  on disk\n"),
            "{told}"
        );
        for path in PATHS {
            check(&node, path, HIT);
        }
        // And parts of what lies there.
        let part = ask(&node, "GET", "/long", &[("Foo", "1"), ("Range", "bytes=2000000-2000009")]);
        assert_eq!(
            (part.status(), part.text().as_str()),
            (206, &long_body()[2_000_000..2_000_010])
        );
        // Killed when it is dropped.
    }
    for path in PATHS {
        assert_eq!(origin.seen(path).len(), 1, "{path}");
    }
}

#[test]
fn a_purge_that_came_while_the_node_was_down_or_just_before_a_kill_is_not_undone() {
    let origin = origin();
    let (place, other) = (Place::before(&origin), Place::before(&origin));
    let stays = other.start(&["--name", "stays"]);
    let peer = stays.peers().to_string();
    let flags = ["--name", "goes", "--peer", &peer];
    let order = |node: &TestNode, order: &str| {
        assert_eq!(node.http("POST", node.api, "/v1/purge", order.as_bytes()).status, 200);
    };
    let node = place.start(&flags);
    for path in PATHS {
        check(&node, path, MISS);
    }
    wait_until_written(&node, 4);
    order(&node, r#"{"urls": ["http://example.com/a"]}"#);
    ask(&node, "POST", "/b", &[]);
    drop(node);
    order(&stays, r#"{"urls": ["http://example.com/chunked"]}"#);
    // At once: before it knows what it has missed it asks rather than serve it.
    let node = place.start_at_once(&flags);
    check(&node, "/chunked", MISS);
    wait_until("the disk is served", || {
        (metric(&node, "atoll_cache_disk_serving") == 1).then_some(())
    });
    check(&node, "/a", MISS);
    check(&node, "/b", MISS);
    check(&node, "/long", HIT);
    // What it fetched before it knew of that purge is taken by it as well.
    check(&node, "/chunked", "Atoll; ");
    stop(node);
    // And those purges are not repeated at each restart.
    let node = place.start(&flags);
    for path in PATHS {
        check(&node, path, HIT);
    }
    // A tag takes what lies on the disk alone as well.
    drop(node);
    order(&stays, r#"{"tags": ["t"]}"#);
    let node = place.start(&flags);
    check(&node, "/long", MISS);
    check(&node, "/chunked", HIT);
}

#[test]
fn a_body_that_was_coming_when_the_node_was_killed_is_not_stored_as_complete() {
    let origin = Origin::start(|_, count| {
        let whole = response(200, &[FRESH], &long_body());
        let (first, rest) = whole.split_at(whole.len() - 500_000);
        match count {
            0 => Act::SlowlyAfter(first.to_vec(), rest.to_vec(), Duration::from_secs(20)),
            _ => Act::Send(whole),
        }
    });
    let place = Place::before(&origin);
    let node = place.start(&[]);
    let new = place.data().join("cache/new");
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| ask(&node, "GET", "/long", &[]));
        wait_until("most of it is on the disk", || {
            let files = std::fs::read_dir(&new).expect("a folder").filter_map(Result::ok);
            let sizes = files.filter_map(|file| Some(file.metadata().ok()?.len()));
            (sizes.max().unwrap_or(0) > 2_000_000).then_some(())
        });
        node.signal("KILL");
        assert!(!asked.join().expect("no panic").is_whole);
    });
    drop(node);
    let node = place.start(&[]);
    wait_until("what is unfinished is removed", || {
        (std::fs::read_dir(&new).expect("a folder").count() == 0).then_some(())
    });
    assert_eq!(metric(&node, "atoll_cache_disk_entries"), 0);
    check(&node, "/long", MISS);
    check(&node, "/long", HIT);
    assert_eq!(origin.seen("/long").len(), 2);
}

#[test]
fn a_disk_that_takes_no_more_costs_no_answer_and_is_used_again_once_it_does() {
    let origin = origin();
    let place = Place::before(&origin);
    let node = place.start(&[]);
    let limit = |bytes| {
        let id = i32::try_from(node.id()).expect("an id");
        prlimit(id, Resource::FSIZE, Some((bytes, INFINITY)), None).expect("a limit can be set");
    };
    limit(1_500_000);
    check(&node, "/long", MISS);
    check(&node, "/long", MISS);
    check(&node, "/a", MISS);
    check(&node, "/a", HIT);
    assert!(metric(&node, "atoll_cache_disk_skipped_total") > 0);
    // For two seconds after each failure; the next variant fails again.
    let mut variant = 1;
    wait_until("it is seen", || {
        variant += 1;
        let answer = ask(&node, "GET", "/long", &[("Foo", &variant.to_string())]);
        assert!(answer.is_whole && answer.text() == long_body());
        (metric(&node, "atoll_cache_disk_writable") == 0).then_some(())
    });
    node.wait_for_log("the disk takes no cached response now");
    limit(INFINITY);
    wait_until("the disk is written again", || {
        check(&node, "/chunked", "Atoll; ");
        (metric(&node, "atoll_cache_disk_writable") == 1).then_some(())
    });
    // A long body that found no room passes for a while.
    wait_until("a long body is stored", || {
        let answer = ask(&node, "GET", "/long", &[("Foo", "1")]);
        answer.field("cache-status").starts_with(HIT).then_some(())
    });
}

#[test]
fn damage_on_the_disk_is_a_miss_and_never_an_answer() {
    let origin = origin();
    let place = Place::before(&origin);
    let node = place.start(&[]);
    for path in PATHS {
        check(&node, path, MISS);
    }
    // Two responses with their variants, and one without.
    wait_until_written(&node, 7);
    drop(node);
    let objects = place.data().join("cache/objects");
    let mut count = 0;
    for folder in std::fs::read_dir(&objects).expect("a folder") {
        for file in std::fs::read_dir(folder.expect("a folder").path()).expect("a folder") {
            let path = file.expect("a file").path();
            let mut bytes = std::fs::read(&path).expect("a file");
            let last = bytes.len() - 1;
            bytes[last] ^= 0xff;
            std::fs::write(&path, bytes).expect("written");
            count += 1;
        }
    }
    assert_eq!(count, 9, "heads, bodies and what tells variants apart");
    let node = place.start(&[]);
    for path in PATHS {
        let answer = ask(&node, "GET", path, &[("Foo", "1")]);
        // The end of a long body is found out on the way: the answer breaks off there.
        let is_right = answer.is_whole && answer.field("cache-status").starts_with(MISS);
        assert!(is_right || path.len() > 2, "{path}: {}", answer.field("cache-status"));
        check(&node, path, "Atoll; ");
    }
    assert!(metric(&node, "atoll_cache_disk_damaged_total") >= 3);
}

#[test]
fn a_long_body_is_streamed_to_and_from_the_disk_and_never_held_in_memory() {
    const MIB_COUNT: usize = 300;
    let origin = Origin::start(|_, _| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\nContent-Length: {}\r\n\r\n",
            MIB_COUNT << 20
        );
        let mut pieces = vec![head.into_bytes()];
        pieces.extend((0..MIB_COUNT).map(|number| vec![number as u8; 1 << 20]));
        Act::Slowly(pieces, Duration::ZERO)
    });
    let place = Place::before(&origin);
    let node = place.start(&["--cache-disk", "4GiB"]);
    let before = node.resident_bytes();
    let check = |node: &TestNode, want: &str| {
        let answer = ask(node, "GET", "/huge", &[]);
        assert!(answer.is_whole && answer.field("cache-status").starts_with(want));
        let is_right = |(at, piece): (usize, &[u8])| piece.iter().all(|byte| *byte == at as u8);
        assert!(answer.body.chunks(1 << 20).enumerate().all(is_right));
        let grown = node.resident_bytes().saturating_sub(before);
        println!("{} MiB more are resident", grown >> 20);
        // What the allocator has yet to give back is among it.
        assert!(grown < 120 << 20, "{} MiB more are resident", grown >> 20);
    };
    check(&node, MISS);
    check(&node, HIT);
    stop(node);
    let node = place.start(&["--cache-disk", "4GiB"]);
    check(&node, HIT);
    assert_eq!(origin.seen("/huge").len(), 1);
}

#[test]
fn variants_on_the_disk_are_told_before_any_request_has_brought_them_to_memory() {
    let origin = Origin::start(|request, _| {
        let fields = [FRESH, ("Vary", "Accept-Language")];
        Act::Send(response(200, &fields, &request.field("accept-language")))
    });
    let place = Place::before(&origin);
    let asked = |node: &TestNode, language: &str| {
        ask(node, "GET", "/page", &[("Accept-Language", language)]).field("cache-status")
    };
    let inspect = |node: &TestNode| {
        let api = node.api.to_string();
        run(ATOLL, &["cache", "--api", &api, "inspect", "http://example.com/page"])
    };
    let node = place.start(&[]);
    for language in ["en", "de-DE", "fr"] {
        asked(&node, language);
    }
    ask(&node, "GET", "/page/other", &[]);
    stop(node);
    let node = place.start(&[]);
    let told = inspect(&node);
    assert_eq!(told.matches("example.com/page: 200, ").count(), 3, "{told}");
    for bytes in [2, 5] {
        assert!(told.contains(&format!("200, {bytes} bytes, fresh")), "{told}");
    }
    assert_eq!(told.matches("  on disk\n").count(), 3, "{told}");
    assert!(asked(&node, "fr").starts_with(HIT));
    let told = inspect(&node);
    assert_eq!(told.matches("example.com/page: 200, ").count(), 3, "{told}");
    assert_eq!(told.matches("  in memory and on disk\n").count(), 1, "{told}");
    // What is forgotten together is told no more.
    ask(&node, "POST", "/page", &[]);
    assert_eq!(inspect(&node), "example.com/page: nothing is stored\n");
    asked(&node, "fr");
    wait_until("it is stored", || {
        (inspect(&node).matches("example.com/page: 200, ").count() == 1).then_some(())
    });
    assert_eq!(origin.seen("/page").len(), 5);
}

#[test]
fn what_a_full_response_has_ended_is_not_there_after_a_restart() {
    let origin = Origin::start(|_, count| match count {
        0 => Act::Send(response(200, &[FRESH, ("ETag", "\"a\"")], "page")),
        1 => Act::Send(response(410, &[("Cache-Control", "no-store")], "gone")),
        _ => Act::SendAndClose(Vec::new()),
    });
    let place = Place::before(&origin);
    let node = place.start(&[]);
    assert_eq!(ask(&node, "GET", "/page", &[]).text(), "page");
    stop(node);
    let node = place.start(&[]);
    assert_eq!(ask(&node, "GET", "/page", &[("Cache-Control", "no-cache")]).status(), 410);
    assert_eq!(origin.seen("/page")[1].field("if-none-match"), "\"a\"", "it was on the disk");
    assert_eq!(ask(&node, "GET", "/page", &[]).status(), 502);
    stop(node);
    let node = place.start(&[]);
    assert_eq!(ask(&node, "GET", "/page", &[]).status(), 502);
}

#[test]
fn a_second_process_is_refused_and_settings_without_a_disk_are_told() {
    let origin = origin();
    let place = Place::before(&origin);
    let node = place.start(&[]);
    let data = place.data();
    let refused = |flags: &[&str]| {
        let output = crate::node::serve(flags).output().expect("atoll runs");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let told = refused(&["--config", text(&place.config), "--data", text(&data)]);
    assert!(told.contains(&format!("is in use by process {}", node.id())), "{told}");
    let told = refused(&["--cache-disk", "1GiB"]);
    assert!(told.contains("--cache-disk is about a disk; name one with --data"), "{told}");
    let told = refused(&["--cache-disk", "1MiB", "--data", "x"]);
    assert!(told.contains("--cache-disk is 8MiB or more, or off"), "{told}");
}

#[test]
fn a_page_made_from_keys_is_stale_after_a_restart_since_they_may_have_been_written_meanwhile() {
    let keys = ("Atoll-Keys", "default/news:1");
    let origin = Origin::start(move |request, count| {
        let fields: &[(&str, &str)] =
            if request.path() == "/made" { &[FRESH, keys] } else { &[FRESH] };
        Act::Send(response(200, fields, &format!("{} {count}", request.path())))
    });
    let place = Place::before(&origin);
    let node = place.start(&[]);
    let is_hit = |node: &TestNode, path: &str| {
        ask(node, "GET", path, &[]).field("cache-status").contains("; hit")
    };
    for path in ["/made", "/plain"] {
        wait_until("a hit", || is_hit(&node, path).then_some(()));
    }
    stop(node);
    let node = place.start(&[]);
    assert!(is_hit(&node, "/plain"));
    let after = ask(&node, "GET", "/made", &[]);
    assert!(after.field("cache-status").contains("fwd=stale"), "{after:?}");
    wait_until("a hit again", || is_hit(&node, "/made").then_some(()));
}
