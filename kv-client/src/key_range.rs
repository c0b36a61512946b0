//! Ranges of keys on the wire.

use bytes::Bytes;

/// The byte that stands for "no end" as `range_end`, and for the smallest key.
pub(crate) const ZERO: &[u8] = b"\0";

/// The `range_end` of all keys that begin with `prefix`: the key after them all, or "no end" where there is none.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    match prefix.iter().rposition(|&byte| byte != u8::MAX) {
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end.into()
        }
        None => Bytes::from_static(ZERO),
    }
}

#[cfg(test)]
mod tests {
    use super::prefix_end;

    #[test]
    fn the_end_of_a_prefix() {
        for (prefix, end) in [
            (&b"a"[..], &b"b"[..]),
            (b"a\xff", b"b"),
            (b"\xff\xff", b"\0"),
            (b"", b"\0"),
        ] {
            assert_eq!(&prefix_end(prefix)[..], end, "{prefix:?}");
        }
    }
}
