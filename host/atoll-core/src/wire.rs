//! Bytes that leave the process: what peers send each other and what a disk keeps.
//!
//! Every format starts with a byte that says which it is. Readers are strict: what they do not know
//! or what breaks a limit is refused as a whole, and nothing that they are given makes them panic.

pub mod chunk;
pub mod entry;
pub mod frame;
pub mod op;

/// Why bytes were refused. Nothing of them was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// They begin with a format that this version does not know.
    #[error("unknown format {0}: written by another version of Atoll, or damaged")]
    Format(u8),
    /// They end too early, go on too long, or are not what should stand there.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// They hold more of something than a limit allows.
    #[error("{what}: {got} exceeds the maximum of {max}")]
    TooMuch {
        /// Of what, with its unit.
        what: &'static str,
        /// How much of it.
        got: usize,
        /// The limit.
        max: usize,
    },
}

/// Refuses `got` over `max`.
fn check_max(what: &'static str, got: usize, max: usize) -> Result<(), WireError> {
    if got > max { Err(WireError::TooMuch { what, got, max }) } else { Ok(()) }
}
