//! A range that is read piece by piece: memory for one piece and 16 bytes for each key, however large it is.

use std::sync::Arc;

use kv_core::{Caller, Error, KeyRange, KeyValue, Plan, Range, Request};

use crate::{
    Store,
    error::{Fault, ReadError},
    live::{Live, Missing},
};

/// A range at one revision. It holds nothing up: a compaction above that revision may end it.
pub struct RangePieces {
    live: Arc<Live>,
    plan: Plan,
}

impl Store {
    /// Decides for a caller a read whose values [`RangePieces::next_piece`] fetches.
    ///
    /// # Errors
    /// [`ReadError::Refused`] for a revision that is compacted or in the future, and where the caller may not.
    pub fn range_pieces_by(&self, caller: &Caller, range: &Range) -> Result<RangePieces, ReadError> {
        let live = self.live();
        let plan = {
            let core = live.core.read();
            let keys = KeyRange::new(&range.key, &range.range_end);
            core.state.authorize(caller, Request::Read(keys))?;
            core.state.plan(range)?
        };
        Ok(RangePieces { live, plan })
    }
}

impl RangePieces {
    /// The revision of the response's header: the current one when the read was decided.
    pub fn header_revision(&self) -> i64 {
        self.plan.header_revision
    }

    /// Whether all has been fetched.
    pub fn is_fetched(&self) -> bool {
        self.plan.is_fetched()
    }

    /// How many keys the range holds.
    pub fn count(&self) -> i64 {
        self.plan.count()
    }

    /// Whether keys are left out for the limit.
    pub fn more(&self) -> bool {
        self.plan.more()
    }

    /// The next keys, about `bytes_max` of them with their values; none after the last. May block on the disk.
    ///
    /// # Errors
    /// [`ReadError::Refused`] when what is to come has been compacted since.
    ///
    /// # Panics
    /// Where the range is sorted by value.
    pub fn next_piece(&mut self, bytes_max: usize) -> Result<Vec<KeyValue>, ReadError> {
        match self.plan.next_piece(&*self.live, bytes_max) {
            Ok(kvs) => Ok(kvs),
            Err(Missing::Gone(_)) if self.live.core.read().state.compacted() > self.plan.revision() => {
                Err(Error::Compacted.into())
            }
            Err(missing) => Err(Fault::from(missing).into()),
        }
    }
}
