//! What wit-bindgen makes of `wit/`. Nothing else is in here; the rest of the crate is its readable
//! face.
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
    world: "handler",
    pub_export_macro: true,
    default_bindings_module: "::atoll_guest::bindings",
});
