//! Snapshots: the store as of one applied point, as a stream of chunks.
//!
//! Records are immutable and carry their revision, so a snapshot is a scan that leaves out what is
//! above its revision; writers go on. Garbage that is not swept yet comes along, and the receiver sweeps it.
//! Facts do change, so they are taken out of the state when the view is made.
//!
//! While a view lives nothing that it shows is swept, so its chunks are the same each time. A transfer that broke off
//! goes on behind the chunks that the receiver has: it says how many, and their hash.
//!
//! ```text
//! chunk   = kind u8, number u64 LE, envelope(payload)      envelope: version, CRC32C over all of it
//! facts   = { length varint, key, length varint, value }*      these chunks come first
//! records = { main varint, sub varint, length varint, record }*
//! trailer = number of facts varint, number of records varint, blake3 over header and all chunks before it
//! ```

use std::{
    iter::Peekable,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use kv_core::{Fact, Revision};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{
    Store,
    block::Block,
    codec::{self, Damage, Key, put_varint},
    engine::Scan,
    error::{Fault, SnapshotError},
    live::{Live, Pin},
};

/// The version of the stream.
pub(crate) const FORMAT: u32 = 2;
pub(crate) const RECORDS: u8 = 1;
pub(crate) const TRAILER: u8 = 2;
pub(crate) const FACTS: u8 = 3;
/// Kind and number.
pub(crate) const CHUNK_HEAD_BYTES: usize = 1 + 8;
/// Chunks between two places that a view remembers: what is read again, at most, to find where to go on.
const MARK_CHUNKS: u64 = 64;

/// What a snapshot is of. It goes to the receiver before the chunks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotHeader {
    /// The version of the stream.
    pub format: u32,
    /// The cluster, if it is known.
    pub cluster_id: Option<u64>,
    /// The applied index.
    pub index: u64,
    /// What the Raft layer keeps with that index.
    pub raft: Bytes,
    /// The revision.
    pub revision: i64,
    /// The compacted revision, -1 for none.
    pub compacted: i64,
    /// Bytes of keys and values to come, about: for a progress bar. Not covered by the hash.
    pub bytes_estimate: u64,
}

impl SnapshotHeader {
    /// A hash that has taken in the header.
    pub(crate) fn hasher(&self) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.format.to_le_bytes());
        hasher.update(&[u8::from(self.cluster_id.is_some())]);
        hasher.update(&self.cluster_id.unwrap_or(0).to_le_bytes());
        hasher.update(&self.index.to_le_bytes());
        hasher.update(&self.revision.to_le_bytes());
        hasher.update(&self.compacted.to_le_bytes());
        hasher.update(&(self.raft.len() as u64).to_le_bytes());
        hasher.update(&self.raft);
        hasher
    }
}

/// How much of a snapshot has been taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How many chunks.
    pub chunks: u64,
    /// The hash over the header and them.
    pub hash: [u8; blake3::OUT_LEN],
}

/// The store as it was at one applied point. While it lives, nothing that it shows is removed from
/// disk, so it should not live longer than it is read.
pub struct SnapshotView {
    pin: Pin,
    header: SnapshotHeader,
    keys: usize,
    facts: Vec<Fact>,
    /// Places on the way of the chunks that were made so far.
    marks: Mutex<Vec<Place>>,
    made: AtomicU64,
}

impl Store {
    /// A view of the store at its applied point. Takes as long as the engine needs for what is applied but
    /// not in it yet.
    ///
    /// # Errors
    /// [`Fault`] if the engine does not take that in.
    pub fn snapshot(&self) -> Result<SnapshotView, Fault> {
        let live: Arc<Live> = self.live();
        let (pin, (header, keys, facts, items)) = Pin::new(live.clone(), |core| {
            let (index, raft) = match &core.applied {
                Some(point) => (point.index, point.raft.clone()),
                None => (0, Bytes::new()),
            };
            let header = SnapshotHeader {
                format: FORMAT,
                cluster_id: live.cluster_id,
                index,
                raft,
                revision: core.state.revision(),
                compacted: core.state.compacted(),
                bytes_estimate: core.state.live_bytes(),
            };
            let facts = core.state.facts().collect();
            (header, core.state.keys(), facts, live.queue.pushed())
        });
        live.wait_written(items)?;
        Ok(SnapshotView {
            pin,
            header,
            keys,
            facts,
            marks: Mutex::default(),
            made: AtomicU64::new(0),
        })
    }
}

impl SnapshotView {
    /// What the snapshot is of.
    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// How many keys exist in it.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// The chunks, of about `max_bytes` each: one is larger only if a single fact or block of records is. The last one
    /// is the trailer.
    pub fn chunks(&self, max_bytes: usize) -> Chunks<'_> {
        self.chunks_at(self.beginning(), max_bytes)
    }

    /// The chunks behind those that a receiver has; `None` if it has others. `max_bytes` is to be what it was.
    ///
    /// # Errors
    /// [`Fault`] if the store cannot be read.
    pub fn chunks_after(&self, has: &Progress, max_bytes: usize) -> Result<Option<Chunks<'_>>, Fault> {
        let passed = |marks: &Vec<Place>| marks.iter().rfind(|mark| mark.number <= has.chunks).cloned();
        let from = passed(&self.marks.lock()).unwrap_or_else(|| self.beginning());
        let mut chunks = self.chunks_at(from, max_bytes);
        while chunks.at.number < has.chunks && !chunks.ended {
            chunks.next_chunk()?;
        }
        let same = !chunks.ended && chunks.at.hasher.finalize() == has.hash;
        Ok(same.then_some(chunks))
    }

    /// How many chunks were made of it so far, the trailer left out.
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    fn beginning(&self) -> Place {
        Place {
            facts: 0,
            from: Bound::Included(Key::FIRST_BLOCK.to_bytes()),
            number: 0,
            records: 0,
            hasher: self.header.hasher(),
        }
    }

    fn chunks_at(&self, at: Place, max_bytes: usize) -> Chunks<'_> {
        let end = Key::Block(Revision {
            main: self.header.revision,
            sub: i64::MAX,
        })
        .to_bytes();
        let from = at.from.as_ref().map(|key| &key[..]);
        let blocks = self.pin.live().engine.scan((from, Bound::Included(&end[..])));
        Chunks {
            view: self,
            max_bytes,
            blocks: blocks.peekable(),
            at,
            ended: false,
        }
    }
}

/// A place between two chunks.
#[derive(Clone)]
struct Place {
    /// Facts and records before it.
    facts: usize,
    records: u64,
    /// Where the next block is looked for.
    from: Bound<Bytes>,
    /// Number of the next chunk.
    number: u64,
    /// Has taken in header and chunks before it.
    hasher: blake3::Hasher,
}

/// The chunks of a snapshot.
pub struct Chunks<'a> {
    view: &'a SnapshotView,
    max_bytes: usize,
    blocks: Peekable<Scan<'a>>,
    at: Place,
    ended: bool,
}

impl Chunks<'_> {
    /// The next facts, as many as fit; empty when all have been.
    fn facts_payload(&mut self) -> Vec<u8> {
        let mut payload = Vec::new();
        while payload.len() < self.max_bytes
            && let Some(fact) = self.view.facts.get(self.at.facts)
        {
            for bytes in [fact.key().to_bytes(), fact.to_bytes()] {
                put_varint(&mut payload, bytes.len() as u64);
                payload.extend_from_slice(&bytes);
            }
            self.at.facts += 1;
        }
        payload
    }

    /// The next records, as many as fit; empty at the end.
    fn records_payload(&mut self) -> Result<Vec<u8>, Fault> {
        let (revision, max_bytes) = (self.view.header.revision, self.max_bytes);
        let mut payload = Vec::new();
        loop {
            let is_full = |bytes: usize| !payload.is_empty() && payload.len() + bytes > max_bytes;
            let fits =
                |pair: &Result<(Bytes, Bytes), _>| !matches!(pair, Ok((_, value)) if is_full(value.len()));
            let Some(pair) = self.blocks.next_if(fits) else {
                break;
            };
            let (key, value) = pair?;
            for entry in Block::decode(&key, &value)?.records() {
                let (at, encoded) = entry?;
                if at.main <= revision {
                    put_record(at, encoded, &mut payload);
                    self.at.records += 1;
                }
            }
            self.at.from = Bound::Excluded(key);
        }
        Ok(payload)
    }

    fn next_chunk(&mut self) -> Result<Bytes, Fault> {
        self.mark();
        let facts = self.facts_payload();
        let (kind, payload) = if facts.is_empty() {
            (RECORDS, self.records_payload()?)
        } else {
            (FACTS, facts)
        };
        if !payload.is_empty() {
            let chunk = seal_chunk(kind, self.at.number, &payload);
            self.at.number += 1;
            self.at.hasher.update(&chunk);
            self.view.made.fetch_max(self.at.number, Ordering::Relaxed);
            return Ok(chunk);
        }
        self.ended = true;
        let mut trailer = Vec::with_capacity(64);
        put_varint(&mut trailer, self.view.facts.len() as u64);
        put_varint(&mut trailer, self.at.records);
        trailer.extend_from_slice(self.at.hasher.finalize().as_bytes());
        Ok(seal_chunk(TRAILER, self.at.number, &trailer))
    }

    /// Remembers this place, if it is time.
    fn mark(&self) {
        let mut marks = self.view.marks.lock();
        if marks
            .last()
            .is_none_or(|last| last.number + MARK_CHUNKS <= self.at.number)
        {
            marks.push(self.at.clone());
        }
    }
}

impl Iterator for Chunks<'_> {
    type Item = Result<Bytes, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let chunk = self.next_chunk();
        self.ended |= chunk.is_err();
        Some(chunk)
    }
}

fn put_record(at: Revision, encoded: &[u8], payload: &mut Vec<u8>) {
    put_varint(payload, at.main.cast_unsigned());
    put_varint(payload, at.sub.cast_unsigned());
    put_varint(payload, encoded.len() as u64);
    payload.extend_from_slice(encoded);
}

/// A chunk. Its head is covered by the checksum of its payload.
pub(crate) fn seal_chunk(kind: u8, number: u64, payload: &[u8]) -> Bytes {
    let mut head = [kind; CHUNK_HEAD_BYTES];
    head[1..].copy_from_slice(&number.to_le_bytes());
    Bytes::from([&head[..], &codec::seal(&head, payload)].concat())
}

/// Kind, number and payload of a chunk.
pub(crate) fn unseal_chunk(chunk: &Bytes) -> Result<(u8, u64, Bytes), Damage> {
    let head = chunk
        .first_chunk::<CHUNK_HEAD_BYTES>()
        .ok_or(Damage("a chunk that is too short"))?;
    let payload = codec::unseal(head, &chunk.slice(CHUNK_HEAD_BYTES..))?;
    let [kind, number @ ..] = *head;
    Ok((kind, u64::from_le_bytes(number), payload))
}

/// The number of a chunk, which is the number of those before it. Nothing is checked.
///
/// # Errors
/// [`SnapshotError::Damaged`] if it is too short.
pub fn chunk_number(chunk: &Bytes) -> Result<u64, SnapshotError> {
    match chunk.first_chunk::<CHUNK_HEAD_BYTES>() {
        Some([_, number @ ..]) => Ok(u64::from_le_bytes(*number)),
        None => Err(Damage("a chunk that is too short").into()),
    }
}
