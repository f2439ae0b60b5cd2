//! What a request's head asks for, decided without a socket: preconditions and ranges.

pub mod conditional;
pub mod edits;
pub mod framing;
pub mod location;
pub mod range;
pub mod sampling;
pub mod trace;
