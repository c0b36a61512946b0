//! What a key and a range end mean together.

use std::ops::Bound;

/// The keys that a request means by `key` and `range_end`, by etcd's rules:
///
/// - an empty `range_end`: the one key;
/// - a `range_end` of one zero byte: every key from `key` on;
/// - otherwise: from `key` up to but not including `range_end`, which is nothing where `range_end` is not
///   greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRange<'a> {
    /// This key alone.
    One(&'a [u8]),
    /// This key and all greater ones.
    From(&'a [u8]),
    /// From the first up to but not including the second, which is greater.
    Span(&'a [u8], &'a [u8]),
    /// No key at all.
    Nothing,
}

/// Where a range starts and where it ends, as ordered maps take it.
type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

impl<'a> KeyRange<'a> {
    /// The range that a request means.
    pub fn new(key: &'a [u8], range_end: &'a [u8]) -> Self {
        match range_end {
            [] => KeyRange::One(key),
            [0] => KeyRange::From(key),
            end if key < end => KeyRange::Span(key, end),
            _ => KeyRange::Nothing,
        }
    }

    /// Whether the key is in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(only) => key == *only,
            KeyRange::From(first) => key >= *first,
            KeyRange::Span(first, end) => key >= *first && key < *end,
            KeyRange::Nothing => false,
        }
    }

    /// The bounds for an ordered map; `None` where there is nothing to look up.
    pub fn bounds(&self) -> Option<Bounds<'a>> {
        match *self {
            KeyRange::One(only) => Some((Bound::Included(only), Bound::Included(only))),
            KeyRange::From(first) => Some((Bound::Included(first), Bound::Unbounded)),
            KeyRange::Span(first, end) => Some((Bound::Included(first), Bound::Excluded(end))),
            KeyRange::Nothing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_end_decides() {
        assert_eq!(KeyRange::new(b"a", b""), KeyRange::One(b"a"));
        assert_eq!(KeyRange::new(b"a", b"\0"), KeyRange::From(b"a"));
        assert_eq!(KeyRange::new(b"a", b"c"), KeyRange::Span(b"a", b"c"));
        assert_eq!(KeyRange::new(b"a", b"a"), KeyRange::Nothing);
        assert_eq!(KeyRange::new(b"b", b"a"), KeyRange::Nothing);
        assert_eq!(KeyRange::new(b"a", b"\0\0"), KeyRange::Nothing);
    }

    #[test]
    fn bounds_say_the_same_as_contains() {
        let keys: Vec<Vec<u8>> = vec![b"\0".into(), b"a".into(), b"a\0".into(), b"b".into(), b"c".into()];
        for first in &keys {
            for end in keys.iter().chain([&Vec::new()]) {
                let range = KeyRange::new(first, end);
                for key in &keys {
                    let within = range.bounds().is_some_and(|bounds| {
                        std::ops::RangeBounds::<[u8]>::contains(&bounds, key.as_slice())
                    });
                    assert_eq!(within, range.contains(key), "{key:?} in {range:?}");
                }
            }
        }
    }
}
