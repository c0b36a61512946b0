//! A hash over the history that a compaction left, the same on every node.

use std::{ops::Bound, sync::Arc};

use kv_core::{Error, Revision};

use crate::{
    Store,
    block::Block,
    codec::Key,
    error::{Fault, ReadError},
    live::{Live, Pin},
    record::View,
};

/// How often a hash begins anew because a compaction overtook it.
const TRIES: u32 = 10;
/// Blocks that are checked against the state under one lock.
const BLOCKS_PER_LOCK: usize = 64;

/// The hash of the history from the compacted revision to a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashKv {
    /// CRC32C over revision and record of all that is kept. Not etcd's number.
    pub hash: u32,
    /// The compacted revision it begins at.
    pub compacted: i64,
    /// The revision it ends at.
    pub revision: i64,
}

impl Store {
    /// Hashes the history up to a revision; 0 means the current one. Two nodes with the same
    /// compacted revision have the same hash at the same revision, however far each has swept. It reads
    /// everything.
    ///
    /// # Errors
    /// [`ReadError::Refused`] for a revision that is compacted or in the future;
    /// [`ReadError::Overtaken`] if compactions came too fast.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, ReadError> {
        for _ in 0..TRIES {
            if let Some(hash) = self.try_hash_kv(revision)? {
                return Ok(hash);
            }
        }
        Err(ReadError::Overtaken { tries: TRIES })
    }

    /// `None` if there was a compaction meanwhile.
    fn try_hash_kv(&self, revision: i64) -> Result<Option<HashKv>, ReadError> {
        let live: Arc<Live> = self.live();
        let (pin, (current, compacted, items)) = Pin::new(live.clone(), |core| {
            (core.state.revision(), core.state.compacted(), live.queue.pushed())
        });
        let revision = if revision == 0 { current } else { revision };
        if revision > current {
            return Err(Error::FutureRevision.into());
        }
        if revision < compacted {
            return Err(Error::Compacted.into());
        }
        live.wait_written(items)?;
        let mut hash = HashKv {
            hash: 0,
            compacted,
            revision,
        };
        let end = Revision {
            main: revision,
            sub: i64::MAX,
        };
        let (from, to) = (Key::FIRST_BLOCK.to_bytes(), Key::Block(end).to_bytes());
        let mut blocks = Vec::with_capacity(BLOCKS_PER_LOCK);
        for pair in pin
            .live()
            .engine
            .scan((Bound::Included(&from), Bound::Included(&to)))
        {
            let (key, value) = pair.map_err(Fault::from)?;
            blocks.push(Block::decode(&key, &value).map_err(Fault::from)?);
            if blocks.len() == BLOCKS_PER_LOCK && !hash.add(pin.live(), &mut blocks)? {
                return Ok(None);
            }
        }
        Ok(hash.add(pin.live(), &mut blocks)?.then_some(hash))
    }
}

impl HashKv {
    /// Adds what is kept of some blocks; false if there was a compaction meanwhile.
    fn add(&mut self, live: &Live, blocks: &mut Vec<Block>) -> Result<bool, Fault> {
        let core = live.core.read();
        if core.state.compacted() != self.compacted {
            return Ok(false);
        }
        for block in blocks.drain(..) {
            for entry in block.records() {
                let (at, encoded) = entry?;
                let in_range = at.main <= self.revision;
                if in_range && core.state.kept(at, View::decode(encoded)?.key()) {
                    self.hash = crc32c::crc32c_append(self.hash, &at.to_bytes());
                    self.hash = crc32c::crc32c_append(self.hash, &(encoded.len() as u64).to_le_bytes());
                    self.hash = crc32c::crc32c_append(self.hash, encoded);
                }
            }
        }
        Ok(true)
    }
}
