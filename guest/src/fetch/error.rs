//! Why a request has no answer: [`Error`].

use std::fmt;

use crate::bindings::atoll::edge::fetch;

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The handler was not granted this host; the text names the missing grant.
    Denied(String),
    /// The request has no sense: a URL that is none, a header name with a space.
    Invalid(String),
    /// The name of the host leads nowhere.
    HostNotFound(String),
    /// Nobody took the connection.
    ConnectionRefused(String),
    /// The connection would not be safe.
    Tls(String),
    /// The answer did not come in time. The host may have done all the same what it was asked for.
    TimedOut,
    /// What came is no HTTP, or it ended early.
    Broken(String),
    /// More requests than one call of the handler may send, or than the node has room for.
    TooMany(String),
    /// The body of the answer is larger than 8 MiB.
    TooLarge(String),
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, detail) = match self {
            Error::Denied(detail) => ("denied", detail.as_str()),
            Error::Invalid(detail) => ("invalid", detail.as_str()),
            Error::HostNotFound(detail) => ("host not found", detail.as_str()),
            Error::ConnectionRefused(detail) => ("connection refused", detail.as_str()),
            Error::Tls(detail) => ("no safe connection", detail.as_str()),
            Error::TimedOut => ("timed out", "no answer in time"),
            Error::Broken(detail) => ("broken", detail.as_str()),
            Error::TooMany(detail) => ("too many", detail.as_str()),
            Error::TooLarge(detail) => ("too large", detail.as_str()),
        };
        write!(formatter, "fetch: {what}: {detail}")
    }
}

impl From<fetch::Error> for Error {
    fn from(error: fetch::Error) -> Error {
        match error {
            fetch::Error::Denied(detail) => Error::Denied(detail),
            fetch::Error::Invalid(detail) => Error::Invalid(detail),
            fetch::Error::HostNotFound(detail) => Error::HostNotFound(detail),
            fetch::Error::ConnectionRefused(detail) => Error::ConnectionRefused(detail),
            fetch::Error::Tls(detail) => Error::Tls(detail),
            fetch::Error::TimedOut => Error::TimedOut,
            fetch::Error::Broken(detail) => Error::Broken(detail),
            fetch::Error::TooMany(detail) => Error::TooMany(detail),
            fetch::Error::TooLarge(detail) => Error::TooLarge(detail),
        }
    }
}
