//! The standard interfaces that `wasip3` does not have.
#![allow(
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    reason = "generated code"
)]

wit_bindgen::generate!({
    inline: "
        package test:service;

        world service {
          import wasi:keyvalue/store@0.2.0-draft2;
          import wasi:keyvalue/atomics@0.2.0-draft2;
          import wasi:config/store@0.2.0-rc.1;
          import wasi:logging/logging@0.1.0-draft;
        }
    ",
    path: [
        "../../../host/atoll-wasm/wit/deps/keyvalue-draft2",
        "../standard/wit/config",
        "../standard/wit/logging",
    ],
    world: "test:service/service",
    generate_all,
});
