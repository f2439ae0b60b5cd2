//! Secrets that handlers may be granted: how they are named, and where they are kept.

use crate::limits::SECRET_NAME_BYTES_MAX;

/// The start of the keys of all secrets in `_sys`; the name follows. Values there are encrypted.
pub const PREFIX: &str = "secret/";

/// Why text names no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a secret: write 1 to {SECRET_NAME_BYTES_MAX} of a-z, 0-9 and -")]
pub struct SecretNameError(pub String);

/// Checks that `name` can name a secret.
pub fn check_name(name: &str) -> Result<(), SecretNameError> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let fits = (1..=SECRET_NAME_BYTES_MAX).contains(&name.len()) && !name.starts_with('-');
    if fits && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(SecretNameError(name.chars().take(SECRET_NAME_BYTES_MAX).collect()))
    }
}

/// The key of a secret in `_sys`.
pub fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_an_environment_variable_can_spell() {
        for name in ["a", "stripe-key", "k2"] {
            assert_eq!(check_name(name), Ok(()));
        }
        let long = "x".repeat(SECRET_NAME_BYTES_MAX + 1);
        for name in ["", "-a", "A", "a_b", "a b", "a/b", "a.b", &long] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
