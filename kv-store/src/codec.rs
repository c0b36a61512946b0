//! The bytes of the store on an engine: the order-preserving keys, and the envelope of every value.
//!
//! Promises: keys compare as bytes the way the enum compares; a value is only ever returned if its
//! CRC32C holds, and the CRC covers the key too, so that a value found under another key is damage.
//! It leaves the meaning of the payloads to `record`, `block` and `meta`.

use bytes::{BufMut, Bytes, BytesMut};
use kv_core::Revision;

/// Version of the envelope. A reader refuses any other.
const ENVELOPE_VERSION: u8 = 2;
/// Version byte and CRC32C.
pub(crate) const ENVELOPE_BYTES: usize = 1 + 4;

/// Every key that the store writes. The order of the variants is the order on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key<'a> {
    /// The applied point and what belongs to it, see `meta`.
    Meta,
    /// A fact, under the key that kv-core gives it.
    Fact(&'a [u8]),
    /// A block of records whose first one was written at this revision, see `block`.
    Block(Revision),
}

const META_PREFIX: u8 = 0x01;
const FACT_PREFIX: u8 = 0x08;
const BLOCK_PREFIX: u8 = 0x10;

impl<'a> Key<'a> {
    /// The least key of facts; those of blocks come after all of them.
    pub(crate) const FIRST_FACT: Key<'static> = Key::Fact(&[]);
    /// The least and greatest keys of blocks.
    pub(crate) const FIRST_BLOCK: Key<'static> = Key::Block(Revision { main: 0, sub: 0 });
    pub(crate) const LAST_BLOCK: Key<'static> = Key::Block(Revision {
        main: i64::MAX,
        sub: i64::MAX,
    });

    pub(crate) fn to_bytes(self) -> Bytes {
        match self {
            Key::Meta => Bytes::from_static(&[META_PREFIX]),
            Key::Fact(key) => [&[FACT_PREFIX], key].concat().into(),
            Key::Block(revision) => {
                let mut bytes = [BLOCK_PREFIX; 1 + Revision::BYTES];
                bytes[1..].copy_from_slice(&revision.to_bytes());
                Bytes::copy_from_slice(&bytes)
            }
        }
    }

    pub(crate) fn from_bytes(bytes: &'a [u8]) -> Result<Key<'a>, Damage> {
        match bytes.split_first() {
            Some((&META_PREFIX, [])) => Ok(Key::Meta),
            Some((&FACT_PREFIX, key)) => Ok(Key::Fact(key)),
            Some((&BLOCK_PREFIX, rest)) => Revision::from_bytes(rest)
                .map(Key::Block)
                .ok_or(Damage("a key that is no revision")),
            _ => Err(Damage("an unknown key")),
        }
    }
}

/// What is wrong with stored bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Damage(pub(crate) &'static str);

/// Wraps a payload for storing under `key`.
pub(crate) fn seal(key: &[u8], payload: &[u8]) -> Bytes {
    let mut value = BytesMut::with_capacity(ENVELOPE_BYTES + payload.len());
    value.put_u8(ENVELOPE_VERSION);
    value.put_u32_le(checksum(key, payload));
    value.put_slice(payload);
    value.freeze()
}

/// The payload of a value found under `key`.
pub(crate) fn unseal(key: &[u8], value: &Bytes) -> Result<Bytes, Damage> {
    let Some((head, payload)) = value.split_first_chunk::<ENVELOPE_BYTES>() else {
        return Err(Damage("a value that is too short"));
    };
    let [version, crc @ ..] = *head;
    if version != ENVELOPE_VERSION {
        return Err(Damage("a value of an unknown version"));
    }
    if u32::from_le_bytes(crc) != checksum(key, payload) {
        return Err(Damage("a value whose checksum does not match"));
    }
    Ok(value.slice(ENVELOPE_BYTES..))
}

fn checksum(key: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[&[ENVELOPE_VERSION], key].concat()), payload)
}

/// Writes a number in 1 to 10 bytes, seven bits each, the low ones first.
pub(crate) fn put_varint(out: &mut impl BufMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

/// Takes a number off the front of `input`.
pub(crate) fn take_varint(input: &mut &[u8]) -> Result<u64, Damage> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let Some((&byte, rest)) = input.split_first() else {
            return Err(Damage("a number that is cut off"));
        };
        *input = rest;
        let bits = u64::from(byte & 0x7f);
        if (bits << shift) >> shift != bits {
            break;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Damage("a number beyond 64 bits"))
}

/// Takes a number that is not negative as an `i64`.
pub(crate) fn take_i64(input: &mut &[u8]) -> Result<i64, Damage> {
    i64::try_from(take_varint(input)?).map_err(|_| Damage("a number beyond 63 bits"))
}

/// Takes `length` bytes off the front of `input`.
pub(crate) fn take_bytes<'a>(input: &mut &'a [u8], length: u64) -> Result<&'a [u8], Damage> {
    let length = usize::try_from(length).map_err(|_| Damage("a length beyond the value"))?;
    let (taken, rest) = input
        .split_at_checked(length)
        .ok_or(Damage("a length beyond the value"))?;
    *input = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Key<'static>> {
        let number = prop_oneof![0..300_i64, 0..=i64::MAX];
        let facts: [&[u8]; 5] = [b"", b"\0", b"a", b"ab", b"\xff"];
        prop_oneof![
            Just(Key::Meta),
            prop::sample::select(facts.to_vec()).prop_map(Key::Fact),
            (number.clone(), number).prop_map(|(main, sub)| Key::Block(Revision { main, sub })),
        ]
    }

    proptest! {
        #[test]
        fn keys_keep_their_order_and_come_back(a in key(), b in key()) {
            let (a_bytes, b_bytes) = (a.to_bytes(), b.to_bytes());
            prop_assert_eq!(a.cmp(&b), a_bytes.cmp(&b_bytes));
            prop_assert_eq!(Key::from_bytes(&a_bytes), Ok(a));
        }

        #[test]
        fn numbers_come_back(number: u64, tail: Vec<u8>) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            bytes.extend_from_slice(&tail);
            let mut input = &bytes[..];
            prop_assert_eq!(take_varint(&mut input), Ok(number));
            prop_assert_eq!(input, &tail[..]);
        }

        #[test]
        fn any_flipped_bit_is_found(key: Vec<u8>, payload: Vec<u8>, at: prop::sample::Index, bit in 0..8_u8) {
            let sealed = seal(&key, &payload);
            prop_assert_eq!(unseal(&key, &sealed), Ok(Bytes::from(payload)));
            let mut flipped = sealed.to_vec();
            let at = at.index(flipped.len());
            flipped[at] ^= 1_u8 << bit;
            prop_assert!(unseal(&key, &Bytes::from(flipped)).is_err());
        }
    }

    #[test]
    fn a_number_beyond_64_bits_is_damage() {
        assert!(take_varint(&mut &[0xff; 11][..]).is_err());
        assert!(take_varint(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02][..]).is_err());
        assert!(take_varint(&mut &[0x80][..]).is_err());
    }

    #[test]
    fn a_value_under_another_key_is_damage() {
        assert!(unseal(b"b", &seal(b"a", b"payload")).is_err());
    }
}
