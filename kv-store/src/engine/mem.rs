//! The in-memory twin of the engine: a `BTreeMap`. It forgets everything when it is dropped.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;
use parking_lot::RwLock;

use super::{Batch, Engine, EngineError, KeyRange, Scan, is_empty};

/// Pairs that a scan copies out under one lock, so that a long scan never holds writers up.
const SCAN_PAGE_PAIRS: usize = 256;

/// An engine in memory.
#[derive(Debug, Default)]
pub struct MemEngine {
    pairs: RwLock<BTreeMap<Bytes, Bytes>>,
}

impl MemEngine {
    /// An engine that holds these pairs.
    pub(crate) fn of(pairs: BTreeMap<Bytes, Bytes>) -> MemEngine {
        MemEngine {
            pairs: RwLock::new(pairs),
        }
    }

    fn page(&self, from: &Bound<Bytes>, to: &Bound<Bytes>) -> Vec<(Bytes, Bytes)> {
        let pairs = self.pairs.read();
        let range = pairs.range::<Bytes, _>((from.as_ref(), to.as_ref()));
        range
            .take(SCAN_PAGE_PAIRS)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}

impl Engine for MemEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.pairs.read().get(key).cloned())
    }

    fn scan(&self, range: KeyRange<'_>) -> Scan<'_> {
        if is_empty(&range) {
            return Box::new(std::iter::empty());
        }
        let mut from = range.0.map(Bytes::copy_from_slice);
        let to = range.1.map(Bytes::copy_from_slice);
        let mut page = Vec::new().into_iter();
        Box::new(std::iter::from_fn(move || {
            if page.len() == 0 {
                page = self.page(&from, &to).into_iter();
            }
            let pair: (Bytes, Bytes) = page.next()?;
            from = Bound::Excluded(pair.0.clone());
            Some(Ok(pair))
        }))
    }

    fn last(&self, range: KeyRange<'_>) -> Result<Option<(Bytes, Bytes)>, EngineError> {
        if is_empty(&range) {
            return Ok(None);
        }
        let pairs = self.pairs.read();
        Ok(pairs
            .range::<[u8], _>(range)
            .next_back()
            .map(|(key, value)| (key.clone(), value.clone())))
    }

    fn batch(&self, batch: &Batch) -> Result<(), EngineError> {
        let mut pairs = self.pairs.write();
        for (key, value) in &batch.writes {
            match value {
                Some(value) => pairs.insert(key.clone(), value.clone()),
                None => pairs.remove(key),
            };
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn size_bytes(&self) -> Result<u64, EngineError> {
        Ok(self
            .pairs
            .read()
            .iter()
            .map(|(key, value)| (key.len() + value.len()) as u64)
            .sum())
    }
}
