//! Bytes that leave the process: what peers send each other and what a disk keeps.
//!
//! Every format starts with a byte that says which it is. Readers are strict: what they do not know
//! or what breaks a limit is refused as a whole, and nothing that they are given makes them panic.

pub mod audit;
pub mod chunk;
pub mod entry;
pub mod frame;
pub mod op;

use crate::entry::Attributes;
use crate::limits::{CONTENT_TYPE_BYTES_MAX, META_BYTES_MAX, TAG_BYTES_MAX, TAG_COUNT_MAX};

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

/// Attributes from their parts, which come from elsewhere.
fn attributes_of(
    content_type: Option<&str>,
    meta: Option<&str>,
    tags: &[impl AsRef<str>],
) -> Result<Attributes, WireError> {
    let text = |text: Option<&str>, what, max| {
        check_max(what, text.map_or(0, str::len), max).map(|()| text.map(Box::from))
    };
    let content_type = text(content_type, "bytes of a content type", CONTENT_TYPE_BYTES_MAX)?;
    let meta = text(meta, "bytes of metadata", META_BYTES_MAX)?;
    check_max("tags", tags.len(), TAG_COUNT_MAX)?;
    for tag in tags {
        check_max("bytes of a tag", tag.as_ref().len(), TAG_BYTES_MAX)?;
    }
    let tags = tags.iter().map(|tag| Box::from(tag.as_ref())).collect();
    Ok(Attributes { content_type, meta, tags })
}

/// Refuses `got` over `max`.
fn check_max(what: &'static str, got: usize, max: usize) -> Result<(), WireError> {
    if got > max { Err(WireError::TooMuch { what, got, max }) } else { Ok(()) }
}
