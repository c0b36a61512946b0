//! What is kept on disk: revisions, and the record of each.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A point in history: the transaction, and the write inside it.
///
/// The order of revisions is the order in which writes happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision {
    /// The revision of the transaction, from 2 on; clients see this one.
    pub main: i64,
    /// The number of the write inside its transaction, from 0.
    pub sub: i64,
}

impl Revision {
    /// Length of [`Revision::to_bytes`].
    pub const BYTES: usize = 16;

    /// A key for ordered storage: bytes compare as revisions do, for numbers that are not negative.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        assert!(
            self.main >= 0 && self.sub >= 0,
            "negative revision {self:?} has no ordered form"
        );
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.main.to_be_bytes());
        bytes[8..].copy_from_slice(&self.sub.to_be_bytes());
        bytes
    }

    /// Reads what [`Revision::to_bytes`] wrote; `None` where it cannot have written it.
    pub fn from_bytes(bytes: &[u8]) -> Option<Revision> {
        let (main, sub) = bytes.split_first_chunk::<8>()?;
        let main = i64::from_be_bytes(*main);
        let sub = i64::from_be_bytes(<[u8; 8]>::try_from(sub).ok()?);
        (main >= 0 && sub >= 0).then_some(Revision { main, sub })
    }
}

/// A key as it stood after one write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// The revision at which the key came into being, the last time it did.
    pub create_revision: i64,
    /// The revision of this write.
    pub mod_revision: i64,
    /// How often the key was written since its creation, this write included.
    pub version: i64,
    /// The lease it is attached to, 0 for none.
    pub lease: i64,
}

/// What the store keeps at a [`Revision`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The key was written.
    Put(KeyValue),
    /// The key was deleted.
    Delete {
        /// The key.
        key: Bytes,
    },
}

impl Record {
    /// The key written or deleted.
    pub fn key(&self) -> &Bytes {
        match self {
            Record::Put(kv) => &kv.key,
            Record::Delete { key } => key,
        }
    }

    /// What the state keeps of the record.
    pub fn head(&self) -> RecordHead<'_> {
        match self {
            Record::Put(kv) => RecordHead::Put {
                key: &kv.key,
                create_revision: kv.create_revision,
                version: kv.version,
                value_bytes: kv.value.len(),
                lease: kv.lease,
            },
            Record::Delete { key } => RecordHead::Delete { key },
        }
    }
}

/// What the state keeps of a record: everything but the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordHead<'a> {
    /// The key was written.
    Put {
        /// The key.
        key: &'a [u8],
        /// The revision at which the key came into being.
        create_revision: i64,
        /// How often it was written since.
        version: i64,
        /// Length of the value.
        value_bytes: usize,
        /// The lease it is attached to, 0 for none.
        lease: i64,
    },
    /// The key was deleted.
    Delete {
        /// The key.
        key: &'a [u8],
    },
}
