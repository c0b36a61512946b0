//! What the engine knows about itself: the applied point and the tallies of its records and facts, written in
//! one batch with every change of them.

use bytes::{BufMut, Bytes};
use kv_core::{Revision, State};

use crate::codec::{self, Damage, Key, put_varint, take_bytes, take_varint};

/// The last log entry whose effects the store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedPoint {
    /// Its index in the log.
    pub index: u64,
    /// What the Raft layer wants kept with it: its log id and the membership. The store never looks into it.
    pub raft: Bytes,
}

/// How many records there are, and a sum over their revisions.
///
/// Checksums find a record that changed, not one that is missing or too many. The tally does: it
/// is kept by the writer and taken again when everything is read at start. A value cannot stand
/// under a wrong revision, so revisions are enough.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) records: u64,
    sum: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, at: Revision) {
        self.records += 1;
        self.sum = self.sum.wrapping_add(spread(at));
    }

    pub(crate) fn remove(&mut self, at: Revision) {
        assert!(self.records > 0, "a record was taken out of an empty store");
        self.records -= 1;
        self.sum = self.sum.wrapping_sub(spread(at));
    }
}

/// Spreads a revision over 64 bits (the finaliser of splitmix64), so that sums of different sets differ.
fn spread(at: Revision) -> u64 {
    let mut x =
        at.main.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at.sub.cast_unsigned().rotate_left(32);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// How many facts there are, and a sum over their keys and values: a fact has one value at a time, so one that
/// is out of date is found as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FactTally {
    pub(crate) facts: u64,
    sum: u64,
}

impl FactTally {
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.facts += 1;
        self.sum = self.sum.wrapping_add(digest(key, value));
    }

    pub(crate) fn remove(&mut self, key: &[u8], value: &[u8]) {
        assert!(self.facts > 0, "a fact was taken out of an empty store");
        self.facts -= 1;
        self.sum = self.sum.wrapping_sub(digest(key, value));
    }
}

fn digest(key: &[u8], value: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key).update(value);
    let hash = hasher.finalize();
    let first = hash.as_bytes().first_chunk::<8>();
    u64::from_le_bytes(*first.expect("a hash has 32 bytes"))
}

/// The meta record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meta {
    /// The cluster that the data belongs to, once known.
    pub(crate) cluster_id: Option<u64>,
    /// The last applied entry, if there was one.
    pub(crate) applied: Option<AppliedPoint>,
    /// The state's revision and compacted revision at that index.
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    /// The compacted revision up to which garbage has been removed.
    pub(crate) swept: i64,
    pub(crate) tally: Tally,
    pub(crate) facts: FactTally,
}

impl Meta {
    /// Of a store to which nothing was applied.
    pub(crate) fn empty(cluster_id: Option<u64>) -> Meta {
        Meta {
            cluster_id,
            applied: None,
            revision: State::FIRST_REVISION,
            compacted: State::NEVER_COMPACTED,
            swept: State::NEVER_COMPACTED,
            tally: Tally::default(),
            facts: FactTally::default(),
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let (index, raft) = match &self.applied {
            Some(point) => (point.index, &point.raft[..]),
            None => (0, &[][..]),
        };
        let mut out = Vec::with_capacity(64 + raft.len());
        let flags = u8::from(self.cluster_id.is_some()) | u8::from(self.applied.is_some()) << 1;
        out.put_u8(flags);
        out.put_u64_le(self.cluster_id.unwrap_or(0));
        put_varint(&mut out, index);
        for number in [self.revision, self.compacted, self.swept] {
            put_varint(&mut out, number.cast_unsigned());
        }
        put_varint(&mut out, self.tally.records);
        out.put_u64_le(self.tally.sum);
        put_varint(&mut out, self.facts.facts);
        out.put_u64_le(self.facts.sum);
        out.put_slice(raft);
        codec::seal(&Key::Meta.to_bytes(), &out)
    }

    pub(crate) fn decode(value: &Bytes) -> Result<Meta, Damage> {
        let payload = codec::unseal(&Key::Meta.to_bytes(), value)?;
        let mut input = &payload[..];
        let &[flags] = take_bytes(&mut input, 1)? else {
            return Err(Damage("a meta record without flags"));
        };
        let cluster_id = take_u64(&mut input)?;
        let index = take_varint(&mut input)?;
        // Signed, because a store that was never compacted says -1.
        let mut take = || take_varint(&mut input).map(u64::cast_signed);
        let (revision, compacted, swept) = (take()?, take()?, take()?);
        let tally = Tally {
            records: take_varint(&mut input)?,
            sum: take_u64(&mut input)?,
        };
        let facts = FactTally {
            facts: take_varint(&mut input)?,
            sum: take_u64(&mut input)?,
        };
        let raft = payload.slice(payload.len() - input.len()..);
        Ok(Meta {
            cluster_id: (flags & 1 != 0).then_some(cluster_id),
            applied: (flags & 2 != 0).then_some(AppliedPoint { index, raft }),
            revision,
            compacted,
            swept,
            tally,
            facts,
        })
    }
}

fn take_u64(input: &mut &[u8]) -> Result<u64, Damage> {
    let (number, rest) = input
        .split_first_chunk::<8>()
        .ok_or(Damage("a number that is cut off"))?;
    *input = rest;
    Ok(u64::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_comes_back() {
        let mut tally = Tally::default();
        tally.add(Revision { main: 3, sub: 1 });
        let mut facts = FactTally::default();
        facts.add(b"key", b"value");
        let meta = Meta {
            cluster_id: Some(u64::MAX),
            applied: Some(AppliedPoint {
                index: 300,
                raft: Bytes::from_static(b"log id and membership"),
            }),
            revision: 1 << 40,
            compacted: 17,
            swept: 16,
            tally,
            facts,
        };
        assert_eq!(Meta::decode(&meta.encode()), Ok(meta.clone()));
        let empty = Meta::empty(None);
        assert_eq!(Meta::decode(&empty.encode()), Ok(empty));
    }

    #[test]
    fn the_tally_tells_sets_apart() {
        let of = |revisions: &[(i64, i64)]| {
            let mut tally = Tally::default();
            revisions
                .iter()
                .for_each(|&(main, sub)| tally.add(Revision { main, sub }));
            tally
        };
        assert_eq!(of(&[(2, 0), (3, 0)]), of(&[(3, 0), (2, 0)]));
        assert_ne!(of(&[(2, 0), (5, 0)]), of(&[(3, 0), (4, 0)]));
        assert_ne!(of(&[(2, 1)]), of(&[(1, 2)]));
        let fact = |key: &[u8], value: &[u8]| {
            let mut tally = FactTally::default();
            tally.add(key, value);
            tally
        };
        assert_ne!(fact(b"a", b"bc"), fact(b"ab", b"c"));
        assert_ne!(fact(b"a", b"1"), fact(b"a", b"2"));
        let mut tally = of(&[(2, 0), (3, 0)]);
        tally.remove(Revision { main: 2, sub: 0 });
        assert_eq!(tally, of(&[(3, 0)]));
    }
}
