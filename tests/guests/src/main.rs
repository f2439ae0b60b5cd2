//! Builds the example handlers.
fn main() {}
