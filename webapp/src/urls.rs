//! URLs and form bodies: percent-encoding of a name, and a strict reader of `application/x-www-form-urlencoded`.
//!
//! The usual form decoders put U+FFFD where bytes are not UTF-8. Here such a body is an error: a name that is
//! stored must be the name that was sent.

use crate::name::Name;
use std::fmt::Write;

/// Why a query or a form could not be read. The message is meant for its sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormError {
    /// `%` without two hexadecimal digits behind it.
    #[error("a percent sign is not followed by two hexadecimal digits")]
    BadEscape,
    /// The decoded bytes are not UTF-8.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// A field that does not belong here.
    #[error("unknown field {0:?}")]
    UnknownField(String),
    /// A field that may stand only once.
    #[error("field {0:?} is there twice")]
    Twice(String),
}

/// Reads `a=1&b=two+words` into pairs, in order.
///
/// # Errors
/// [`FormError::BadEscape`] and [`FormError::NotUtf8`].
pub(crate) fn parse_form(text: &[u8]) -> Result<Vec<(String, String)>, FormError> {
    let mut pairs = Vec::new();
    for part in text.split(|byte| *byte == b'&').filter(|part| !part.is_empty()) {
        let (name, value) = match part.iter().position(|byte| *byte == b'=') {
            Some(at) => (&part[..at], &part[at + 1..]),
            None => (part, &part[..0]),
        };
        pairs.push((decode(name)?, decode(value)?));
    }
    Ok(pairs)
}

/// Takes the named fields out of a form, each at most once, and lets no other field pass.
///
/// # Errors
/// Every [`FormError`].
pub(crate) fn fields<const N: usize>(
    text: &[u8],
    names: [&str; N],
) -> Result<[Option<String>; N], FormError> {
    let mut values = [const { None }; N];
    for (field, value) in parse_form(text)? {
        let Some(at) = names.iter().position(|name| *name == field) else {
            return Err(FormError::UnknownField(field));
        };
        if values[at].replace(value).is_some() {
            return Err(FormError::Twice(field));
        }
    }
    Ok(values)
}

fn decode(text: &[u8]) -> Result<String, FormError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => match (rest.next().and_then(hex_digit), rest.next().and_then(hex_digit)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(FormError::BadEscape),
            },
            other => *other,
        });
    }
    String::from_utf8(bytes).map_err(|_| FormError::NotUtf8)
}

fn hex_digit(byte: &u8) -> Option<u8> {
    char::from(*byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// Percent-encodes everything but RFC 3986's unreserved characters: fit for a path segment and for a query value.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    encoded
}

/// Where the page of a name is.
pub(crate) fn name_page(name: &Name) -> String {
    format!("/names/{}", encode(name.shown()))
}

/// Where the JSON of a name is.
pub(crate) fn name_api(name: &Name) -> String {
    format!("/api/names/{}", encode(name.shown()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_forms() {
        let read = |text: &str| parse_form(text.as_bytes());
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(read(""), Ok(vec![]));
        assert_eq!(
            read("name=Ada+L%C3%A9&x"),
            Ok(vec![pair("name", "Ada Lé"), pair("x", "")])
        );
        assert_eq!(read("name=%3Cb%3e"), Ok(vec![pair("name", "<b>")]));
        assert_eq!(read("name=%FF"), Err(FormError::NotUtf8));
        assert_eq!(read("name=%4"), Err(FormError::BadEscape));
        assert_eq!(read("name=%zz"), Err(FormError::BadEscape));
    }

    #[test]
    fn lets_only_known_fields_pass() {
        assert_eq!(fields(b"name=a", ["name", "x"]), Ok([Some("a".to_owned()), None]));
        assert_eq!(
            fields(b"name=a&nmae=b", ["name"]),
            Err(FormError::UnknownField("nmae".to_owned()))
        );
        assert_eq!(
            fields(b"name=a&name=a", ["name"]),
            Err(FormError::Twice("name".to_owned()))
        );
    }

    proptest! {
        #[test]
        fn what_was_encoded_decodes_to_itself(text in any::<String>()) {
            let encoded = encode(&text);
            prop_assert!(encoded.is_ascii());
            prop_assert_eq!(decode(encoded.as_bytes()), Ok(text));
        }

        #[test]
        fn reading_never_panics(text in any::<Vec<u8>>()) {
            let _ = parse_form(&text);
        }
    }
}
