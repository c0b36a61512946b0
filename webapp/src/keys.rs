//! Where entries stand in the store, and the cursor that points between two of them.
//!
//! | key | value | for |
//! | --- | --- | --- |
//! | `names/by-name/<comparison key>` | the entry | one name has one entry; lookup |
//! | `names/by-time/<newest first>` | the entry | a page, newest first, in one read of that page's size |
//! | `names/by-time-asc/<oldest first>` | empty | finding where the next newer page starts |
//!
//! All three are written by one transaction, so they always agree. etcd sorts a range by anything but the
//! rising key only after reading all of it; so the order wanted must be the order of the keys, and there must be one
//! index for each direction. [`Position`] is time, then the random id of the registration, big-endian in hexadecimal;
//! the newest-first index has every bit inverted, so the two are exact mirrors, also within one millisecond.
//! Time is the web host's: the order of two entries is the order of their timestamps, as shown.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Prefix of the keys that hold one entry per name.
pub const BY_NAME: &str = "names/by-name/";
/// Prefix of the index from the newest entry to the oldest.
pub const BY_TIME: &str = "names/by-time/";
/// Prefix of the index from the oldest entry to the newest.
pub const BY_TIME_ASC: &str = "names/by-time-asc/";

/// The key right after every key of a prefix. Every prefix here ends in `/`, whose successor is `0`.
pub fn prefix_end(prefix: &str) -> String {
    let stem = prefix
        .strip_suffix('/')
        .expect("a prefix of this module ends in a slash");
    format!("{stem}0")
}

/// The place of an entry in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// When the entry was registered: milliseconds since 1970-01-01T00:00:00Z.
    pub unix_ms: u64,
    /// The registration's random id; makes positions unique.
    pub id: u128,
}

impl Position {
    /// The key of the index from the newest to the oldest.
    pub fn newest_first_key(self) -> String {
        format!("{BY_TIME}{:016x}{:032x}", !self.unix_ms, !self.id)
    }

    /// The key of the index from the oldest to the newest.
    pub fn oldest_first_key(self) -> String {
        format!("{BY_TIME_ASC}{:016x}{:032x}", self.unix_ms, self.id)
    }

    /// Reads a key of either index; `None` if something else wrote it.
    pub fn from_key(key: &[u8]) -> Option<Position> {
        let key = std::str::from_utf8(key).ok()?;
        if let Some(digits) = key.strip_prefix(BY_TIME_ASC) {
            return Position::from_digits(digits);
        }
        let mirrored = Position::from_digits(key.strip_prefix(BY_TIME)?)?;
        Some(Position {
            unix_ms: !mirrored.unix_ms,
            id: !mirrored.id,
        })
    }

    fn from_digits(digits: &str) -> Option<Position> {
        let plain = digits.len() == 48 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !plain {
            return None;
        }
        let (unix_ms, id) = digits.split_at(16);
        Some(Position {
            unix_ms: u64::from_str_radix(unix_ms, 16).ok()?,
            id: u128::from_str_radix(id, 16).ok()?,
        })
    }
}

/// Which page of the list: opaque text outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cursor {
    /// The entries older than this one.
    OlderThan(Position),
    /// The entries newer than this one, as near to it as fit a page.
    NewerThan(Position),
}

/// The text is not a cursor that this app gave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a cursor of this list; start again without one")]
pub struct BadCursor;

impl Cursor {
    const OLDER: u8 = b'o';
    const NEWER: u8 = b'n';

    /// The cursor as text that fits a URL without escapes.
    pub fn encode(self) -> String {
        let (direction, position) = match self {
            Cursor::OlderThan(position) => (Cursor::OLDER, position),
            Cursor::NewerThan(position) => (Cursor::NEWER, position),
        };
        let mut bytes = [0; 25];
        bytes[0] = direction;
        bytes[1..9].copy_from_slice(&position.unix_ms.to_be_bytes());
        bytes[9..].copy_from_slice(&position.id.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads what [`Cursor::encode`] wrote.
    ///
    /// # Errors
    /// [`BadCursor`] for anything else.
    pub fn decode(text: &str) -> Result<Cursor, BadCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadCursor)?;
        let bytes: [u8; 25] = bytes.try_into().map_err(|_| BadCursor)?;
        let (mut unix_ms, mut id) = ([0; 8], [0; 16]);
        unix_ms.copy_from_slice(&bytes[1..9]);
        id.copy_from_slice(&bytes[9..]);
        let position = Position {
            unix_ms: u64::from_be_bytes(unix_ms),
            id: u128::from_be_bytes(id),
        };
        match bytes[0] {
            Cursor::OLDER => Ok(Cursor::OlderThan(position)),
            Cursor::NEWER => Ok(Cursor::NewerThan(position)),
            _ => Err(BadCursor),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prefixes_do_not_overlap() {
        let ends = [BY_NAME, BY_TIME, BY_TIME_ASC].map(|prefix| (prefix, prefix_end(prefix)));
        for (prefix, end) in &ends {
            for (other, _) in &ends {
                let inside = *other >= *prefix && *other < end.as_str();
                assert_eq!(inside, prefix == other, "{other} in {prefix}..{end}");
            }
        }
    }

    #[test]
    fn foreign_keys_are_no_positions() {
        for key in ["names/by-time/", "names/by-time/zz", "names/by-name/ada", "other"] {
            assert_eq!(Position::from_key(key.as_bytes()), None, "{key}");
        }
        let upper = format!("{BY_TIME}{}", "A".repeat(48));
        assert_eq!(Position::from_key(upper.as_bytes()), None);
        assert_eq!(Position::from_key(b"names/by-time/\xff"), None);
    }

    #[test]
    fn bad_cursors() {
        let good = Cursor::OlderThan(Position { unix_ms: 1, id: 2 }).encode();
        let longer = format!("{good}AAAA");
        for text in [
            "",
            "x",
            "../../etc/passwd",
            "\u{0}",
            &good[1..],
            longer.as_str(),
            &good.replace('b', "a"),
        ] {
            assert_eq!(Cursor::decode(text), Err(BadCursor), "{text:?}");
        }
    }

    fn position() -> impl Strategy<Value = Position> {
        // Small numbers too, so that times collide.
        (prop_oneof![any::<u64>(), 0..3_u64], any::<u128>())
            .prop_map(|(unix_ms, id)| Position { unix_ms, id })
    }

    proptest! {
        #[test]
        fn the_indexes_are_mirrors(a in position(), b in position()) {
            prop_assert_eq!(a.oldest_first_key().cmp(&b.oldest_first_key()), a.cmp(&b));
            prop_assert_eq!(a.newest_first_key().cmp(&b.newest_first_key()), b.cmp(&a));
        }

        #[test]
        fn keys_and_cursors_read_back(a in position()) {
            prop_assert_eq!(Position::from_key(a.newest_first_key().as_bytes()), Some(a));
            prop_assert_eq!(Position::from_key(a.oldest_first_key().as_bytes()), Some(a));
            for cursor in [Cursor::OlderThan(a), Cursor::NewerThan(a)] {
                prop_assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
            }
        }

        #[test]
        fn decoding_never_panics(text in any::<String>()) {
            let _ = Cursor::decode(&text);
        }
    }
}
