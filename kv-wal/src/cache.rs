//! The newest entries in memory, so that replication to followers that keep up never reads the disk.

use std::collections::VecDeque;

use crate::types::Entry;

/// An unbroken run of entries that ends with the last entry of the log. Empty after start.
#[derive(Debug)]
pub(crate) struct TailCache {
    entries: VecDeque<Entry>,
    payload_bytes: usize,
    limit_bytes: usize,
}

impl TailCache {
    /// An empty cache that keeps about `limit_bytes` of payload.
    pub(crate) fn new(limit_bytes: usize) -> TailCache {
        TailCache {
            entries: VecDeque::new(),
            payload_bytes: 0,
            limit_bytes,
        }
    }

    /// Payload bytes held.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Adds the new last entry.
    pub(crate) fn push(&mut self, entry: Entry) {
        if let Some(back) = self.entries.back() {
            assert_eq!(
                back.position.index + 1,
                entry.position.index,
                "the cache has no gaps"
            );
        }
        self.payload_bytes += entry.payload.len();
        self.entries.push_back(entry);
    }

    /// The entry at `index`.
    pub(crate) fn get(&self, index: u64) -> Option<&Entry> {
        let first = self.entries.front()?.position.index;
        self.entries.get(usize::try_from(index.checked_sub(first)?).ok()?)
    }

    /// Drops entries above `last`.
    pub(crate) fn truncate_after(&mut self, last: Option<u64>) {
        while self
            .entries
            .back()
            .is_some_and(|back| last.is_none_or(|last| back.position.index > last))
        {
            let dropped = self.entries.pop_back();
            self.payload_bytes -= dropped.map_or(0, |entry| entry.payload.len());
        }
    }

    /// Drops entries up to `upto`.
    pub(crate) fn purge(&mut self, upto: u64) {
        while self
            .entries
            .front()
            .is_some_and(|front| front.position.index <= upto)
        {
            self.pop_front();
        }
    }

    /// Drops the oldest entries over the limit, as long as `on_disk` says that they can be read back.
    pub(crate) fn evict(&mut self, on_disk: impl Fn(u64) -> bool) {
        while self.payload_bytes > self.limit_bytes
            && self
                .entries
                .front()
                .is_some_and(|front| on_disk(front.position.index))
        {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        let dropped = self.entries.pop_front();
        self.payload_bytes -= dropped.map_or(0, |entry| entry.payload.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Position;

    fn filled() -> TailCache {
        let mut cache = TailCache::new(20);
        for index in 5..10 {
            cache.push(Entry {
                position: Position::new(1, index),
                payload: vec![0; 10].into(),
            });
        }
        cache
    }

    #[test]
    fn only_what_is_on_disk_is_evicted() {
        let mut cache = filled();
        cache.evict(|index| index < 6);
        assert_eq!(
            (cache.payload_bytes(), cache.get(5), cache.get(6).is_some()),
            (40, None, true)
        );
        cache.evict(|_| true);
        assert_eq!(
            (cache.payload_bytes(), cache.get(7), cache.get(8).is_some()),
            (20, None, true)
        );
    }

    #[test]
    fn both_ends_can_be_cut() {
        let mut cache = filled();
        cache.truncate_after(Some(8));
        cache.purge(6);
        assert_eq!(
            (cache.payload_bytes(), cache.get(6), cache.get(9)),
            (20, None, None)
        );
        cache.truncate_after(None);
        assert_eq!((cache.payload_bytes(), cache.get(7)), (0, None));
    }
}
