//! Keys in JSON: any bytes may be one, and JSON has only text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

/// Bytes in JSON: text where they are UTF-8, base64 under another name where they are not.
#[derive(Debug, Default, Serialize)]
pub(super) struct Name {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name_b64: Option<String>,
}

impl Name {
    pub(super) fn of(bytes: Vec<u8>) -> Name {
        match String::from_utf8(bytes) {
            Ok(name) => Name { name: Some(name), name_b64: None },
            Err(error) => {
                let name_b64 = Some(STANDARD.encode(error.as_bytes()));
                Name { name: None, name_b64 }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_have_a_name_of_their_own() {
        let json = |bytes: &[u8]| serde_json::to_string(&Name::of(bytes.to_vec())).expect("JSON");
        assert_eq!(json("ä\n".as_bytes()), r#"{"name":"ä\n"}"#);
        assert_eq!(json(b"\xff\x00"), r#"{"name_b64":"/wA="}"#);
    }
}
