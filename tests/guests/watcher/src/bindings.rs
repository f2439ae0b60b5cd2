//! The standard's world `watch-service`, as far as it is used here, and our requests.
#![allow(unsafe_code, reason = "generated: the canonical ABI is raw pointers")]
#![allow(
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    reason = "generated code"
)]

wit_bindgen::generate!({
    inline: "
        package test:watcher;

        world watcher {
          import wasi:keyvalue/store@0.2.0-draft2;
          import wasi:keyvalue/atomics@0.2.0-draft2;
          import atoll:edge/fetch@0.1.0;
          export wasi:keyvalue/watcher@0.2.0-draft2;
        }
    ",
    path: ["../../../host/atoll-wasm/wit/deps/keyvalue-draft2", "../../../wit"],
    world: "test:watcher/watcher",
    generate_all,
    pub_export_macro: true,
});
