//! The handler's log, kept by the node.
//!
//! A message is cut after 4 KiB, and a request may write 256 of them: the rest is counted, not
//! kept.

use crate::node::log::{Level, log};

/// Writes a line for whoever hunts a bug in the handler's details.
pub fn trace(message: impl AsRef<str>) {
    log(Level::Trace, message.as_ref());
}

/// Writes a line for whoever hunts a bug.
pub fn debug(message: impl AsRef<str>) {
    log(Level::Debug, message.as_ref());
}

/// Writes a line that is worth reading on an ordinary day.
pub fn info(message: impl AsRef<str>) {
    log(Level::Info, message.as_ref());
}

/// Writes that something is wrong, and that the handler coped.
pub fn warn(message: impl AsRef<str>) {
    log(Level::Warn, message.as_ref());
}

/// Writes that something is wrong, and that someone must act.
pub fn error(message: impl AsRef<str>) {
    log(Level::Error, message.as_ref());
}
