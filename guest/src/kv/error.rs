//! Why the store did not do it: [`Error`].

use std::fmt;

use crate::bindings::atoll::edge::kv;

/// Why an operation was not done. Nothing was written, except by
/// [`set_many`](super::Bucket::set_many).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// There is no bucket of this name.
    NoSuchBucket,
    /// The handler was not granted this; the text names the missing grant.
    Denied(String),
    /// The key holds a value of another kind: an increment of text, for instance.
    WrongType,
    /// The key, the value or the answer is larger than the node allows.
    TooLarge(String),
    /// The node's memory budget is spent.
    Full,
    /// A condition of [`SetOptions`](super::SetOptions) did not hold.
    ConditionFailed,
    /// An argument has no sense: an empty key, for instance.
    Invalid(String),
    /// The node cannot do it now, and the same call may work later.
    Unavailable(String),
    /// Anything else.
    Other(String),
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, detail) = match self {
            Error::NoSuchBucket => ("kv: no such bucket", ""),
            Error::Denied(detail) => ("kv: denied", detail.as_str()),
            Error::WrongType => ("kv: the key holds a value of another kind", ""),
            Error::TooLarge(detail) => ("kv: too large", detail.as_str()),
            Error::Full => ("kv: the node's memory is full", ""),
            Error::ConditionFailed => ("kv: the condition did not hold", ""),
            Error::Invalid(detail) => ("kv: invalid", detail.as_str()),
            Error::Unavailable(detail) => ("kv: unavailable", detail.as_str()),
            Error::Other(detail) => ("kv", detail.as_str()),
        };
        formatter.write_str(what)?;
        if !detail.is_empty() {
            formatter.write_str(": ")?;
            formatter.write_str(detail)?;
        }
        Ok(())
    }
}

impl From<kv::Error> for Error {
    fn from(error: kv::Error) -> Error {
        match error {
            kv::Error::NoSuchBucket => Error::NoSuchBucket,
            kv::Error::Denied(detail) => Error::Denied(detail),
            kv::Error::WrongType => Error::WrongType,
            kv::Error::TooLarge(detail) => Error::TooLarge(detail),
            kv::Error::Full => Error::Full,
            kv::Error::ConditionFailed => Error::ConditionFailed,
            kv::Error::Invalid(detail) => Error::Invalid(detail),
            kv::Error::Unavailable(detail) => Error::Unavailable(detail),
            kv::Error::Other(detail) => Error::Other(detail),
        }
    }
}
