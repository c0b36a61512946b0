//! Bytes as people read them.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Marks what follows as base64.
const MARK: &str = "base64:";

/// A key on one line: itself where it is UTF-8 without control characters, else marked base64. Control
/// characters are kept from the terminal, which would obey them.
pub(crate) fn key(bytes: &[u8]) -> Cow<'_, str> {
    readable(bytes, |c| c.is_control())
}

/// A value, which unlike a key may have lines and tabs.
pub(crate) fn value(bytes: &[u8]) -> Cow<'_, str> {
    readable(bytes, |c| c.is_control() && c != '\n' && c != '\t')
}

fn readable(bytes: &[u8], is_unfit: impl Fn(char) -> bool) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(is_unfit) => Cow::Borrowed(text),
        _ => Cow::Owned(format!("{MARK}{}", base64(bytes))),
    }
}

/// Standard base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Bytes in double quotes as Go's `%q` writes them: what can be printed stays, the rest is escaped.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{7}' => out.push_str("\\a"),
                '\u{8}' => out.push_str("\\b"),
                '\u{b}' => out.push_str("\\v"),
                '\u{c}' => out.push_str("\\f"),
                c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
                c if is_printable(c) => out.push(c),
                c if c <= '\u{ffff}' => out.push_str(&format!("\\u{:04x}", c as u32)),
                c => out.push_str(&format!("\\U{:08x}", c as u32)),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

/// Whether a character shows by itself. std knows, and tells only by what it escapes; after another character it does
/// not take what joins that one for unprintable.
fn is_printable(c: char) -> bool {
    format!("a{c}").escape_debug().count() == 2
}

/// An ID as etcdctl's tables print it.
pub(crate) fn hex(id: u64) -> String {
    format!("{id:x}")
}

/// A size in the unit that keeps it short: `20 kB`, `1.3 MB`.
pub(crate) fn size(bytes: i64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    if unit == 0 || size >= 10.0 {
        format!("{size:.0} {}", UNITS[unit])
    } else {
        format!("{size:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::{key, quoted, size, value};

    #[test]
    fn text_stays_text() {
        for text in ["", "plain", "Zoë 名前 🦀", "a b", "base64"] {
            assert_eq!(key(text.as_bytes()), text);
            assert_eq!(value(text.as_bytes()), text);
        }
        assert_eq!(value(b"two\n\tlines"), "two\n\tlines");
    }

    #[test]
    fn the_rest_is_marked() {
        assert_eq!(key(b"\xff\x00"), "base64:/wA=");
        assert_eq!(key(b"two\nlines"), "base64:dHdvCmxpbmVz");
        assert_eq!(value(b"\x1b[2J"), "base64:G1sySg==");
        assert_eq!(value("\u{9b}2J".as_bytes()), "base64:wpsySg==");
    }

    #[test]
    fn quotes() {
        for (bytes, expected) in [
            (&b"plain"[..], r#""plain""#),
            ("Zo\u{eb} \u{1f980}".as_bytes(), "\"Zo\u{eb} \u{1f980}\""),
            (b"a\"b\\c\nd\te\x01\x7f", r#""a\"b\\c\nd\te\x01\x7f""#),
            (b"\xff\x00", r#""\xff\x00""#),
            ("\u{a0}\u{200b}\u{85}".as_bytes(), r#""\u00a0\u200b\u0085""#),
            ("e\u{301}\u{f0000}".as_bytes(), "\"e\u{301}\\U000f0000\""),
        ] {
            assert_eq!(quoted(bytes), expected);
        }
    }

    #[test]
    fn sizes() {
        for (bytes, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (20_480, "20 kB"),
            (1_300_000, "1.3 MB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }
}
