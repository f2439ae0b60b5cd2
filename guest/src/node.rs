//! What the SDK asks for everything that is not computing: the node that runs the component or, off
//! Wasm, the one of [`testing`](crate::testing).
//!
//! The two have the same names and signatures: what wit-bindgen makes of `wit/`.

#[cfg(target_arch = "wasm32")]
mod calls {
    pub(crate) use crate::bindings::atoll::edge::kv::Bucket;
    pub(crate) use crate::bindings::atoll::edge::{
        cache, clock, config, fetch, log, random, secrets,
    };
}

#[cfg(not(target_arch = "wasm32"))]
mod calls {
    pub(crate) use crate::testing::calls::{
        Bucket, cache, clock, config, fetch, log, random, secrets,
    };
}

pub(crate) use calls::{Bucket, cache, clock, config, fetch, log, random, secrets};
