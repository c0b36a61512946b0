//! Bytes as text and back: percent-encoding in, JSON out.

use base64::{Engine, engine::general_purpose::STANDARD};
use kv_core::KeyValue;
use serde::Serialize;

/// Percent-decodes; `None` where a `%` is not followed by two hexadecimal digits.
pub(super) fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes().iter();
    while let Some(&byte) = bytes.next() {
        if byte == b'%' {
            let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    Some(decoded)
}

/// A key in JSON: bytes as text where they are UTF-8, else in base64 under a name that says so.
#[derive(Debug, Serialize)]
pub(super) struct Item {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    create_revision: i64,
    mod_revision: i64,
    version: i64,
    #[serde(skip_serializing_if = "is_zero")]
    lease: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl Item {
    /// With its value.
    pub(super) fn new(kv: &KeyValue) -> Item {
        let (value, value_base64) = text_or_base64(&kv.value);
        Item {
            value,
            value_base64,
            ..Item::without_value(kv)
        }
    }

    /// The key and its facts alone.
    pub(super) fn without_value(kv: &KeyValue) -> Item {
        let (key, key_base64) = text_or_base64(&kv.key);
        Item {
            key,
            key_base64,
            value: None,
            value_base64: None,
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        }
    }
}

fn text_or_base64(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn percent_encoding() {
        assert_eq!(percent_decode("a%2Fb/c%ff%00+"), Some(b"a/b/c\xff\0+".to_vec()));
        for bad in ["%", "%4", "a%4x", "%+1", "%%41", "%é"] {
            assert_eq!(percent_decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn text_where_it_is_text() {
        let kv = KeyValue {
            key: "ä".into(),
            value: "\u{1}\"".into(),
            version: 1,
            ..Default::default()
        };
        let expected =
            json!({"key": "ä", "value": "\u{1}\"", "create_revision": 0, "mod_revision": 0, "version": 1});
        assert_eq!(serde_json::to_value(Item::new(&kv)).unwrap(), expected);
        let kv = KeyValue {
            key: vec![0xff].into(),
            value: vec![0xfe, 0].into(),
            lease: 5,
            ..kv
        };
        let expected = json!({
            "key_base64": "/w==", "value_base64": "/gA=", "create_revision": 0, "mod_revision": 0, "version": 1,
            "lease": 5,
        });
        assert_eq!(serde_json::to_value(Item::new(&kv)).unwrap(), expected);
        let keys_only = serde_json::to_value(Item::without_value(&kv)).unwrap();
        assert_eq!(
            (keys_only.get("value"), keys_only.get("value_base64")),
            (None, None)
        );
    }

    proptest! {
        #[test]
        fn every_key_has_a_path(key: Vec<u8>) {
            let encoded: String = key.iter().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(percent_decode(&encoded), Some(key));
        }

        #[test]
        fn decoding_never_panics(text: String) {
            let _ = percent_decode(&text);
        }
    }
}
