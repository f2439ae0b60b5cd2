//! What wasmtime's `bindgen!` makes of `wit/`. Nothing else is in here, and nothing outside this
//! crate sees it.
//!
//! Exports are async, so that a guest that computes can yield; imports are not, because the store
//! answers from memory: a host call is then a plain function call on the guest's own stack. Only what
//! waits for others, or lets them run meanwhile, is async.
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

pub(crate) mod filter;
pub(crate) mod standard;

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "handler",
    imports: {
        "atoll:edge/cache.get-or-fill": async | trappable,
        "atoll:edge/cache.purge": async | trappable,
        "atoll:edge/fetch.send": async | trappable,
        "atoll:edge/fetch.send-many": async | trappable,
        "atoll:edge/kv.[method]bucket.list-keys": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    // Requests are lent to the guest, not copied first.
    ownership: Borrowing { duplicate_if_necessary: true },
});
