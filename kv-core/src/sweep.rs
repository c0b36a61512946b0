//! The second step of a compaction: giving up what no read can reach any more, a slice at a time.

use bytes::Bytes;

use crate::{Revision, State};

/// What one slice of a sweep found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// The records to delete from the store, in key order and for each key oldest first. Delete them as one
    /// batch or in this order: a deletion that outlived its puts is harmless after a restart, a put that
    /// outlived its deletion is not.
    pub dropped: Vec<Revision>,
    /// Where to go on; `None` says that the sweep is through.
    pub next: Option<Bytes>,
}

impl State {
    /// Takes out of up to `max_keys` keys, from `cursor` on, what the compacted revision has made
    /// unreachable.
    ///
    /// Start with `None` and go on with [`Swept::next`]. A compaction in between is honoured from the cursor
    /// on only, so start anew after it. Reads and writes may come between slices; nothing they answer depends
    /// on the sweep.
    pub fn sweep(&mut self, cursor: Option<Bytes>, max_keys: usize) -> Swept {
        assert!(max_keys > 0, "a sweep that visits nothing never ends");
        let mut dropped = Vec::new();
        let from = cursor.unwrap_or_default();
        let next = self
            .index
            .sweep(&from, max_keys, self.compacted, |revision| dropped.push(revision));
        Swept { dropped, next }
    }
}
