//! What comes out of the cache, and what does not.

use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const FIRST: Subject = Subject { component: [1; 32], engine: [9; 32] };
const SECOND: Subject = Subject { component: [2; 32], engine: [9; 32] };

fn cache(bytes_max: u64) -> (tempfile::TempDir, CodeCache) {
    let folder = tempfile::tempdir().unwrap();
    let cache = CodeCache::open(&folder.path().join("compiled"), bytes_max).unwrap();
    (folder, cache)
}

fn again(cache: &CodeCache) -> CodeCache {
    CodeCache::open(&cache.directory, cache.bytes_max).unwrap()
}

#[track_caller]
fn check_refused(cache: &CodeCache, subject: &Subject) {
    assert!(matches!(cache.find(subject), Err(Refused::Seal)), "{:?}", cache.find(subject));
}

#[test]
fn what_was_kept_is_found_by_the_next_process() {
    let (_folder, cache) = cache(1_000);
    assert!(cache.find(&FIRST).unwrap().is_none());
    assert!(cache.keep(&FIRST, b"code").unwrap());
    let next = again(&cache);
    assert_eq!(next.find(&FIRST).unwrap().unwrap(), b"code");
    assert!(next.find(&SECOND).unwrap().is_none());
    let other_engine = Subject { engine: [8; 32], ..FIRST };
    assert!(next.find(&other_engine).unwrap().is_none());
}

#[test]
fn what_was_changed_anywhere_is_refused() {
    let (_folder, cache) = cache(1_000);
    cache.keep(&FIRST, b"code").unwrap();
    let path = cache.path(&FIRST);
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&path, &changed).unwrap();
        check_refused(&cache, &FIRST);
    }
    for len in 0..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        check_refused(&cache, &FIRST);
    }
    fs::write(&path, [&whole[..], b"more"].concat()).unwrap();
    check_refused(&cache, &FIRST);
    fs::write(&path, &whole).unwrap();
    assert!(cache.find(&FIRST).unwrap().is_some());
}

#[test]
fn code_is_for_its_own_component_its_own_engine_and_its_own_key() {
    let (_folder, cache) = cache(1_000);
    cache.keep(&FIRST, b"code").unwrap();
    fs::copy(cache.path(&FIRST), cache.path(&SECOND)).unwrap();
    check_refused(&cache, &SECOND);
    // Its file's name holds eight bytes of the engine; the seal holds them all.
    let mut engine = FIRST.engine;
    engine[31] ^= 1;
    check_refused(&cache, &Subject { engine, ..FIRST });
    fs::remove_file(cache.directory.join("KEY")).unwrap();
    check_refused(&again(&cache), &FIRST);
}

#[test]
fn what_was_used_longest_ago_makes_room() {
    let third = Subject { component: [3; 32], ..FIRST };
    let (_folder, cache) = cache(300);
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    for subject in [FIRST, SECOND] {
        assert!(cache.keep(&subject, &[0; 60]).unwrap());
        let file = fs::File::options().write(true).open(cache.path(&subject)).unwrap();
        file.set_modified(old).unwrap();
    }
    assert!(cache.find(&FIRST).unwrap().is_some(), "now it was used last");
    assert!(cache.keep(&third, &[0; 60]).unwrap());
    assert!(cache.find(&SECOND).unwrap().is_none());
    assert!(cache.find(&FIRST).unwrap().is_some() && cache.find(&third).unwrap().is_some());
    assert!(!cache.keep(&SECOND, &[0; 300]).unwrap(), "larger than everything may be");
    assert!(cache.find(&FIRST).unwrap().is_some(), "it made no room for that");
}

#[test]
fn what_others_can_change_or_read_is_not_trusted() {
    let (_folder, cache) = cache(1_000);
    let reopen = || CodeCache::open(&cache.directory, 1_000);
    let set = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let key = cache.directory.join("KEY");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    set(&key, 0o640);
    assert!(matches!(reopen(), Err(CodeCacheError::Exposed { mode: 0o600, .. })));
    set(&key, 0o600);
    set(&cache.directory, 0o770);
    assert!(matches!(reopen(), Err(CodeCacheError::Exposed { mode: 0o700, .. })));
    set(&cache.directory, 0o700);
    assert!(reopen().is_ok());
}

#[test]
fn a_key_that_was_cut_short_is_drawn_anew() {
    let (_folder, cache) = cache(1_000);
    cache.keep(&FIRST, b"code").unwrap();
    fs::write(cache.directory.join("KEY"), b"short").unwrap();
    let next = again(&cache);
    check_refused(&next, &FIRST);
    next.keep(&FIRST, b"code").unwrap();
    assert!(again(&next).find(&FIRST).unwrap().is_some());
}

#[test]
fn a_pipe_in_the_place_of_a_file_keeps_nobody_waiting() {
    let (_folder, cache) = cache(1_000);
    let pipe = cache.path(&FIRST);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    assert!(matches!(cache.find(&FIRST), Err(Refused::Unreadable(_))));
}
