//! What wasmtime's `bindgen!` makes of the world `filter`. Its imports are those of the world `handler`,
//! which the linker has already. What is allowed to generated code is said one level up.

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "filter",
    imports: { default: trappable },
    exports: { default: async },
});
