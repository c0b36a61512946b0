//! Where the next page of a listing begins: opaque to clients, and checked when it comes back.
//!
//! Layout, in URL-safe base64: version (1 byte), revision (8, big endian), length of the prefix (4, big
//! endian), prefix, first key of the page, CRC32C of all that (4, big endian). The checksum is there to
//! catch a cursor cut short or mixed up, not to keep anybody from making one.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;

const VERSION: u8 = 1;

/// A place in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The revision that all pages show, 1 or more.
    pub(super) revision: i64,
    /// The prefix that is listed.
    pub(super) prefix: Bytes,
    /// Where the page begins; it has the prefix, and is not empty.
    pub(super) start: Bytes,
}

impl Cursor {
    /// As text.
    pub(super) fn encode(&self) -> String {
        let prefix_bytes = u32::try_from(self.prefix.len()).expect("a prefix comes in a request line");
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.revision.to_be_bytes());
        bytes.extend_from_slice(&prefix_bytes.to_be_bytes());
        bytes.extend_from_slice(&self.prefix);
        bytes.extend_from_slice(&self.start);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// From text; `None` where [`Cursor::encode`] cannot have written it.
    pub(super) fn decode(text: &str) -> Option<Cursor> {
        let bytes = Bytes::from(URL_SAFE_NO_PAD.decode(text).ok()?);
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
            return None;
        }
        let (&version, rest) = body.split_first()?;
        let (revision, rest) = rest.split_first_chunk::<8>()?;
        let (prefix_bytes, rest) = rest.split_first_chunk::<4>()?;
        let prefix_bytes = usize::try_from(u32::from_be_bytes(*prefix_bytes)).ok()?;
        let (prefix, start) = rest.split_at_checked(prefix_bytes)?;
        let cursor = Cursor {
            revision: i64::from_be_bytes(*revision),
            prefix: bytes.slice_ref(prefix),
            start: bytes.slice_ref(start),
        };
        let valid = version == VERSION
            && cursor.revision >= 1
            && !cursor.start.is_empty()
            && cursor.start.starts_with(&cursor.prefix);
        valid.then_some(cursor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cursor_of_another_making_is_refused() {
        let good = Cursor {
            revision: 7,
            prefix: "app/".into(),
            start: "app/b\0".into(),
        };
        assert_eq!(Cursor::decode(&good.encode()), Some(good.clone()));
        for bad in [
            Cursor {
                revision: 0,
                ..good.clone()
            },
            Cursor {
                revision: -1,
                ..good.clone()
            },
            Cursor {
                start: "apb".into(),
                ..good.clone()
            },
            Cursor {
                prefix: "".into(),
                start: "".into(),
                ..good.clone()
            },
        ] {
            assert_eq!(Cursor::decode(&bad.encode()), None, "{bad:?}");
        }
        for text in ["", "AAAA", "not base64!", "é"] {
            assert_eq!(Cursor::decode(text), None, "{text}");
        }
    }

    #[test]
    fn a_damaged_cursor_is_refused() {
        let text = Cursor {
            revision: 7,
            prefix: "a".into(),
            start: "ab".into(),
        }
        .encode();
        for at in 0..text.len() {
            assert_eq!(Cursor::decode(&text[..at]), None);
            let mut other = text.clone();
            let replacement = if &text[at..=at] == "A" { "B" } else { "A" };
            other.replace_range(at..=at, replacement);
            assert_eq!(Cursor::decode(&other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn comes_back(revision in 1..i64::MAX, prefix: Vec<u8>, rest in prop::collection::vec(any::<u8>(), 1..9)) {
            let start = [prefix.as_slice(), &rest].concat();
            let cursor = Cursor { revision, prefix: prefix.into(), start: start.into() };
            prop_assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        }

        #[test]
        fn never_panics(bytes: Vec<u8>, text: String) {
            let _ = Cursor::decode(&text);
            let _ = Cursor::decode(&URL_SAFE_NO_PAD.encode(&bytes));
            let checked = [bytes.as_slice(), &crc32c::crc32c(&bytes).to_be_bytes()].concat();
            let _ = Cursor::decode(&URL_SAFE_NO_PAD.encode(checked));
        }
    }
}
