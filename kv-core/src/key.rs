//! Keys as the index holds them.

use std::borrow::Borrow;
use std::cmp::Ordering;

/// A key of the index, in 24 bytes; those of up to 22 bytes stand inline.
///
/// A lookup compares some 20 keys. Inline they cost no second cache miss each, and no allocation of their
/// own.
#[derive(Clone)]
pub(crate) enum Key {
    Inline { len: u8, bytes: [u8; Key::INLINE_BYTES] },
    Boxed(Box<[u8]>),
}

impl Key {
    pub(crate) const INLINE_BYTES: usize = 22;

    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Key::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Key::Boxed(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Key {
    fn from(key: &[u8]) -> Key {
        match u8::try_from(key.len()) {
            Ok(len) if key.len() <= Key::INLINE_BYTES => {
                let mut bytes = [0; Key::INLINE_BYTES];
                bytes[..key.len()].copy_from_slice(key);
                Key::Inline { len, bytes }
            }
            _ => Key::Boxed(key.into()),
        }
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.as_slice().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_small() {
        assert_eq!(size_of::<Key>(), 24);
    }

    #[test]
    fn keeps_bytes_and_order_at_every_length() {
        let text = [b'a'; 40];
        for len in 0..text.len() {
            let key = Key::from(&text[..len]);
            assert_eq!(key.as_slice(), &text[..len]);
            assert_eq!(matches!(key, Key::Inline { .. }), len <= Key::INLINE_BYTES);
            assert!(key < Key::from(&text[..=len]));
            assert!(key < Key::from(b"b".as_slice()));
        }
    }
}
