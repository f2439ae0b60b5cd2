//! The attribute `#[handler]` of `atoll-guest`.
