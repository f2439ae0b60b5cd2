//! Secrets that the handler or filter was granted: passwords, tokens, keys.

use std::fmt;

use crate::node::secrets;

/// Why a secret is not given.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The handler was not granted it; the text names the missing grant.
    Denied(String),
    /// It is there, and this node cannot read it; or it is no text, where text was asked for.
    Unavailable(String),
}

/// Returns the secret of this name as it was set, `None` where there is none.
pub fn get(name: &str) -> Result<Option<Vec<u8>>, Error> {
    secrets::get(name).map_err(|error| match error {
        secrets::Error::Denied(detail) => Error::Denied(detail),
        secrets::Error::Unavailable(detail) => Error::Unavailable(detail),
    })
}

/// Returns the secret of this name as text.
pub fn text(name: &str) -> Result<Option<String>, Error> {
    let not_text = |_| Error::Unavailable(format!("the secret {name} is not text in UTF-8"));
    get(name)?.map(String::from_utf8).transpose().map_err(not_text)
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Denied(detail) => write!(formatter, "secret: denied: {detail}"),
            Error::Unavailable(detail) => write!(formatter, "secret: unavailable: {detail}"),
        }
    }
}
