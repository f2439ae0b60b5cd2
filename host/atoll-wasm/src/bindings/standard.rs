//! What wasmtime's `bindgen!` makes of the standard interfaces in `host/atoll-wasm/wit`. What
//! is allowed to generated code is said one level up.

wasmtime::component::bindgen!({
    path: "wit",
    world: "standard",
    imports: { default: trappable },
});
