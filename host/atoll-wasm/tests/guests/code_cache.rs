//! Components whose code comes from the cache on disk.

use std::fs;
use std::path::PathBuf;

use atoll_wasm::code_cache::{CodeCache, Origin, Refused};
use atoll_wasm::component::Component;
use atoll_wasm::limits::Limits;

use crate::component::{Answer, handler};
use crate::host::{Nothing, SMALL, call, engine, shared};

fn teapot() -> Vec<u8> {
    handler(&Answer { status: 418, ..Answer::OK }.code())
}

#[track_caller]
fn check_answers(component: &Component<Nothing>) {
    let Component::Edge(handler) = component else { panic!("another world") };
    assert_eq!(call(handler, &Limits::default()).unwrap().status, 418);
}

fn code_file(folder: &tempfile::TempDir) -> PathBuf {
    let files = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let is_code = |path: &PathBuf| path.extension().is_some_and(|suffix| suffix == "code");
    files.into_iter().find(is_code).unwrap()
}

#[test]
fn the_next_engine_loads_what_the_last_one_compiled() {
    let folder = tempfile::tempdir().unwrap();
    let cache = CodeCache::open(folder.path(), 10 << 20).unwrap();
    let (component, origin) = shared().load_or_compile(&teapot(), &cache).unwrap();
    assert!(matches!(origin, Origin::Compiled { refused: None, kept: Ok(true) }), "{origin:?}");
    check_answers(&component);
    let (next, cache) = (engine(SMALL), CodeCache::open(folder.path(), 10 << 20).unwrap());
    let (component, origin) = next.load_or_compile(&teapot(), &cache).unwrap();
    assert!(matches!(origin, Origin::Loaded), "{origin:?}");
    assert_eq!(component.imports(), shared().compile(&teapot()).unwrap().imports());
    check_answers(&component);
}

#[test]
fn code_that_was_tampered_with_is_compiled_again_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let cache = CodeCache::open(folder.path(), 10 << 20).unwrap();
    shared().load_or_compile(&teapot(), &cache).unwrap();
    let file = code_file(&folder);
    let mut code = fs::read(&file).unwrap();
    *code.last_mut().unwrap() ^= 1;
    fs::write(&file, code).unwrap();
    let (component, origin) = shared().load_or_compile(&teapot(), &cache).unwrap();
    assert!(
        matches!(origin, Origin::Compiled { refused: Some(Refused::Seal), kept: Ok(true) }),
        "{origin:?}"
    );
    check_answers(&component);
    let (_, origin) = shared().load_or_compile(&teapot(), &cache).unwrap();
    assert!(matches!(origin, Origin::Loaded), "{origin:?}");
}

#[test]
fn what_is_no_component_is_refused_with_a_cache_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let cache = CodeCache::open(folder.path(), 10 << 20).unwrap();
    assert!(shared().load_or_compile(b"no wasm", &cache).is_err());
    let (_, origin) = shared().load_or_compile(&teapot(), &cache).unwrap();
    assert!(matches!(origin, Origin::Compiled { .. }));
}
