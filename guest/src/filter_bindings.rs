//! What wit-bindgen makes of the world `filter`. What it shares with the world `handler` is that of
//! [`crate::bindings`].
#![allow(unsafe_code, reason = "generated: the canonical ABI is raw pointers")]
#![allow(
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    reason = "generated code"
)]

wit_bindgen::generate!({
    path: "../wit",
    world: "filter",
    pub_export_macro: true,
    export_macro_name: "export_filter",
    default_bindings_module: "::atoll_guest::filter_bindings",
    with: {
        "atoll:edge/types@0.1.0": crate::bindings::atoll::edge::types,
        "atoll:edge/clock@0.1.0": crate::bindings::atoll::edge::clock,
        "atoll:edge/config@0.1.0": crate::bindings::atoll::edge::config,
        "atoll:edge/kv@0.1.0": crate::bindings::atoll::edge::kv,
        "atoll:edge/log@0.1.0": crate::bindings::atoll::edge::log,
        "atoll:edge/random@0.1.0": crate::bindings::atoll::edge::random,
        "atoll:edge/secrets@0.1.0": crate::bindings::atoll::edge::secrets,
    },
});
