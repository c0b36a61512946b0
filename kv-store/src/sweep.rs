//! Removing what a compaction made unreachable, in slices that hold nobody up.

use std::collections::VecDeque;

use bytes::Bytes;
use kv_core::{Effects, Revision, State};

use crate::{
    Store,
    error::Fault,
    queue::{Change, Item},
};

/// Keys looked at in one slice, with the state locked (about 0.1 ms).
const KEYS_PER_SLICE: usize = 512;
/// Records removed by one slice. Each costs a read and a write of its block.
const RECORDS_PER_SLICE: usize = 512;

/// How far the sweep is.
#[derive(Debug)]
pub(crate) struct Sweep {
    /// The compacted revision below which no garbage is left.
    done: i64,
    /// The compacted revision that is being swept for.
    target: Option<i64>,
    cursor: Option<Bytes>,
    /// All keys have been looked at for the target.
    looked_through: bool,
    /// Out of the index already, still in the engine.
    backlog: VecDeque<Revision>,
}

impl Sweep {
    pub(crate) fn new(done: i64) -> Sweep {
        Sweep {
            done,
            target: None,
            cursor: None,
            looked_through: false,
            backlog: VecDeque::new(),
        }
    }

    /// Looks at the next keys; false if there is nothing to sweep.
    fn look(&mut self, state: &mut State) -> bool {
        let compacted = state.compacted();
        if self.target != Some(compacted) {
            if self.done >= compacted {
                return false;
            }
            // From the start, because a compaction counts only for keys looked at after it.
            (self.target, self.cursor, self.looked_through) = (Some(compacted), None, false);
        }
        if !self.looked_through {
            let swept = state.sweep(self.cursor.take(), KEYS_PER_SLICE);
            self.backlog.extend(swept.dropped);
            self.looked_through = swept.next.is_none();
            self.cursor = swept.next;
        }
        true
    }

    /// The next records to remove, and the compacted revision that is swept with them.
    fn slice(&mut self) -> (Vec<Revision>, Option<i64>) {
        let count = self.backlog.len().min(RECORDS_PER_SLICE);
        let dropped = self.backlog.drain(..count).collect();
        let through = self
            .target
            .filter(|_| self.looked_through && self.backlog.is_empty());
        if let Some(done) = through {
            self.done = done;
            self.target = None;
        }
        (dropped, through)
    }
}

impl Store {
    /// Removes a slice of the garbage that a compaction left. Returns true if there is more to be
    /// done at once, false if there is nothing, or nothing while snapshots are being read: call it
    /// again later then (a few times a second). Waits while the engine is behind.
    ///
    /// # Errors
    /// [`Fault`]; what was not removed is removed after the next start.
    pub fn sweep_step(&self) -> Result<bool, Fault> {
        let live = self.live();
        let mut sweep = live.sweep.lock();
        live.admit()?;
        let dropped = {
            let mut core = live.core.write();
            // Looked at with the state locked, as pins are set: what is dropped here no later pin sees.
            if live.is_pinned() {
                return Ok(false);
            }
            if sweep.backlog.is_empty() && !sweep.look(&mut core.state) {
                return Ok(false);
            }
            let (dropped, through) = sweep.slice();
            if !dropped.is_empty() || through.is_some() {
                live.queue.push(Item::new(
                    Effects::default(),
                    Change::Swept {
                        dropped: dropped.clone(),
                        through,
                    },
                ));
            }
            dropped
        };
        live.forget(&dropped);
        // The engine's pace is the sweep's: the backlog does not move into the queue.
        live.wait_written(live.queue.pushed())?;
        Ok(true)
    }
}
