//! The bytes of one record. They are canonical: one record has one encoding on every node, which is
//! what the state hash is taken over.

use bytes::{BufMut, Bytes};
use kv_core::{KeyValue, Record, RecordHead, Revision};

use crate::codec::{Damage, put_varint, take_bytes, take_i64, take_varint};

const PUT: u8 = 1;
const DELETE: u8 = 2;

/// Appends the encoding of `record`. The modification revision is not in it: it is the revision
/// under which the record is kept.
pub(crate) fn encode(at: Revision, record: &Record, out: &mut Vec<u8>) {
    match record {
        Record::Put(kv) => {
            assert_eq!(
                kv.mod_revision, at.main,
                "a record is kept at the revision of its write"
            );
            out.put_u8(PUT);
            put_varint(out, kv.key.len() as u64);
            out.put_slice(&kv.key);
            for number in [kv.create_revision, kv.version, kv.lease] {
                put_varint(out, number.cast_unsigned());
            }
            out.put_slice(&kv.value);
        }
        Record::Delete { key } => {
            out.put_u8(DELETE);
            out.put_slice(key);
        }
    }
}

/// A record as it lies in its encoding: nothing is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View<'a> {
    Put {
        key: &'a [u8],
        value: &'a [u8],
        create_revision: i64,
        version: i64,
        lease: i64,
    },
    Delete {
        key: &'a [u8],
    },
}

impl<'a> View<'a> {
    pub(crate) fn decode(mut input: &'a [u8]) -> Result<View<'a>, Damage> {
        let input = &mut input;
        let kind = take_bytes(input, 1)?;
        match kind {
            [PUT] => {
                let key_bytes = take_varint(input)?;
                let key = take_bytes(input, key_bytes)?;
                let (create_revision, version) = (take_i64(input)?, take_i64(input)?);
                let lease = take_varint(input)?.cast_signed();
                Ok(View::Put {
                    key,
                    value: input,
                    create_revision,
                    version,
                    lease,
                })
            }
            [DELETE] => Ok(View::Delete { key: input }),
            _ => Err(Damage("a record of an unknown kind")),
        }
    }

    pub(crate) fn key(&self) -> &'a [u8] {
        match self {
            View::Put { key, .. } | View::Delete { key } => key,
        }
    }

    /// What the state keeps of it.
    pub(crate) fn head(&self) -> RecordHead<'a> {
        match *self {
            View::Put {
                key,
                value,
                create_revision,
                version,
                lease,
            } => RecordHead::Put {
                key,
                create_revision,
                version,
                value_bytes: value.len(),
                lease,
            },
            View::Delete { key } => RecordHead::Delete { key },
        }
    }

    /// The record, with bytes of its own.
    pub(crate) fn to_record(self, at: Revision) -> Record {
        match self.to_key_value(at) {
            Some(kv) => Record::Put(kv),
            None => Record::Delete {
                key: Bytes::copy_from_slice(self.key()),
            },
        }
    }

    /// The key and value, in one allocation of their own; `None` for a deletion. They do not share
    /// the bytes they were read from, which may belong to a larger block that nobody else needs.
    pub(crate) fn to_key_value(self, at: Revision) -> Option<KeyValue> {
        let View::Put {
            key,
            value,
            create_revision,
            version,
            lease,
        } = self
        else {
            return None;
        };
        let both = Bytes::from([key, value].concat());
        Some(KeyValue {
            key: both.slice(..key.len()),
            value: both.slice(key.len()..),
            create_revision,
            mod_revision: at.main,
            version,
            lease,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn record_at(at: Revision) -> impl Strategy<Value = Record> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        let put = (bytes(), bytes(), 0..=i64::MAX, 0..=i64::MAX, any::<i64>());
        prop_oneof![
            put.prop_map(move |(key, value, create_revision, version, lease)| {
                Record::Put(KeyValue {
                    key,
                    value,
                    create_revision,
                    mod_revision: at.main,
                    version,
                    lease,
                })
            }),
            bytes().prop_map(|key| Record::Delete { key }),
        ]
    }

    const AT: Revision = Revision { main: 7, sub: 1 };

    proptest! {
        #[test]
        fn records_come_back(record in record_at(AT)) {
            let mut bytes = Vec::new();
            encode(AT, &record, &mut bytes);
            let view = View::decode(&bytes).expect("decodes");
            prop_assert_eq!(view.key(), &record.key()[..]);
            prop_assert_eq!(view.head(), record.head());
            match record {
                Record::Put(kv) => prop_assert_eq!(view.to_key_value(AT), Some(kv)),
                Record::Delete { .. } => prop_assert_eq!(view.to_key_value(AT), None),
            }
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = View::decode(&bytes);
        }
    }
}
