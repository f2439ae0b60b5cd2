//! What a response says to the cache in front of its handler.

use std::fmt::Write as _;

use crate::Response;

impl Response {
    /// Names a key that the response was made from, one that held nothing included: once it is
    /// written, on any node, a cached response is stale. At most 64 for one response.
    #[must_use]
    pub fn made_from(self, bucket: &str, key: &str) -> Response {
        self.append_header("atoll-keys", format!("\"{bucket}/{}\"", escaped(key)))
    }
}

/// The key with escapes, as in a path of the API.
fn escaped(key: &str) -> String {
    let mut text = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_with_escapes_and_several_stand_side_by_side() {
        let response = Response::text("").made_from("default", "page:/a%20b\"é");
        let value = response.header_value("atoll-keys").map(|value| value.to_vec());
        assert_eq!(value, Some(b"\"default/page:/a%2520b%22%C3%A9\"".to_vec()));
    }
}
