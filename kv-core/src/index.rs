//! The ordered index from keys to their histories, with the sums that follow from it.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::history::{History, Point};
use crate::key::Key;
use crate::{KeyRange, Revision};

/// Keys in order, each with its writes that are not swept yet.
///
/// Keys are copies of their own: a key out of a request would keep the whole request in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    keys: BTreeMap<Key, History>,
    live: usize,
    bytes: u64,
}

impl Index {
    /// Keys that exist at the current revision.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// Bytes of keys and values of all writes that are not swept yet.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&History> {
        self.keys.get(key)
    }

    /// Calls `visit` with every history of the range in key order, as long as it answers true.
    pub(crate) fn visit<'a>(
        &'a self,
        range: KeyRange<'_>,
        mut visit: impl FnMut(&'a [u8], &'a History) -> bool,
    ) {
        if let KeyRange::One(key) = range {
            // A lookup is about twice as fast as a range of one.
            if let Some((key, history)) = self.keys.get_key_value(key) {
                visit(key.as_slice(), history);
            }
        } else if let Some(bounds) = range.bounds() {
            for (key, history) in self.keys.range::<[u8], _>(bounds) {
                if !visit(key.as_slice(), history) {
                    return;
                }
            }
        }
    }

    /// Writes a key at `at`; gives its creation revision and version.
    pub(crate) fn put(&mut self, key: &[u8], at: Revision, value_bytes: usize) -> (i64, i64) {
        let bytes = key.len().saturating_add(value_bytes);
        let point = |live: Option<&Point>| match live {
            Some(live) => Point::put(at, live.create, live.version + 1, bytes),
            None => Point::put(at, at.main, 1, bytes),
        };
        let (put, was_live) = match self.keys.get_mut(key) {
            Some(history) => {
                let was_live = history.live().is_some();
                let put = point(history.live());
                history.push(put);
                (put, was_live)
            }
            None => {
                let put = point(None);
                self.keys.insert(key.into(), History::new(put));
                (put, false)
            }
        };
        self.live += usize::from(!was_live);
        self.bytes += put.bytes();
        (put.create, put.version)
    }

    /// Deletes the live keys of the range at sub-revisions from `at` on; `deleted` is called for each, in key
    /// order.
    pub(crate) fn delete(
        &mut self,
        range: KeyRange<'_>,
        mut at: Revision,
        mut deleted: impl FnMut(&[u8], Revision),
    ) {
        let Some(bounds) = range.bounds() else { return };
        for (key, history) in self.keys.range_mut::<[u8], _>(bounds) {
            let key = key.as_slice();
            if history.live().is_some() {
                let deletion = Point::deletion(at, key.len());
                history.push(deletion);
                self.live -= 1;
                self.bytes += deletion.bytes();
                deleted(key, at);
                at.sub += 1;
            }
        }
    }

    /// Takes the latest write of a key back, as if it had never been.
    pub(crate) fn undo(&mut self, key: &[u8]) {
        let history = self
            .keys
            .get_mut(key)
            .expect("only what was just written is taken back");
        let undone = *history.latest();
        if !history.pop() {
            self.keys.remove(key);
        }
        let is_live = self.keys.get(key).is_some_and(|history| history.live().is_some());
        self.bytes -= undone.bytes();
        self.live += usize::from(is_live);
        self.live -= usize::from(!undone.is_deletion());
    }

    /// Adds a write out of the store, see [`crate::Restorer`]. It comes after all others of its key.
    pub(crate) fn restore(&mut self, key: &[u8], point: Point) {
        let was_live = match self.keys.get_mut(key) {
            Some(history) => {
                let was_live = history.live().is_some();
                history.push(point);
                was_live
            }
            None => {
                self.keys.insert(key.into(), History::new(point));
                false
            }
        };
        self.live += usize::from(!point.is_deletion());
        self.live -= usize::from(was_live);
        self.bytes += point.bytes();
    }

    /// Takes what a compaction no longer needs out of up to `max_keys` keys from `from` on, and hands it to
    /// `dropped` in key order, for each key oldest first. Gives the key to go on with.
    pub(crate) fn sweep(
        &mut self,
        from: &[u8],
        max_keys: usize,
        compacted: i64,
        mut dropped: impl FnMut(Revision),
    ) -> Option<Bytes> {
        let mut gone: Vec<Key> = Vec::new();
        let mut bytes = 0;
        let mut keys = self
            .keys
            .range_mut::<[u8], _>((Bound::Included(from), Bound::Unbounded));
        for (key, history) in keys.by_ref().take(max_keys) {
            let left = history.sweep(compacted, |point| {
                bytes += point.bytes();
                dropped(point.revision());
            });
            if !left {
                gone.push(key.clone());
            }
        }
        let next = keys.next().map(|(key, _)| Bytes::copy_from_slice(key.as_slice()));
        for key in gone {
            self.keys.remove(key.as_slice());
        }
        self.bytes -= bytes;
        next
    }
}
