//! What wasmtime's `bindgen!` makes of the standard interfaces in `host/atoll-wasm/wit`.
#![allow(
    unsafe_code,
    reason = "generated: a function's type is checked when an instance is made, not at each call"
)]
#![allow(
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    reason = "generated code"
)]

wasmtime::component::bindgen!({
    path: "wit",
    world: "standard",
    imports: { default: trappable },
});
