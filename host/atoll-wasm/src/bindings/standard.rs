//! What wasmtime's `bindgen!` makes of the standard interfaces in `host/atoll-wasm/wit`. What
//! is allowed to generated code is said one level up.

wasmtime::component::bindgen!({
    path: "wit",
    world: "standard",
    imports: {
        "wasi:keyvalue/store@0.2.0-draft.[method]bucket.list-keys": async | trappable,
        "wasi:keyvalue/store@0.2.0-draft2.[method]bucket.list-keys": async | trappable,
        default: trappable,
    },
});
