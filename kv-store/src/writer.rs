//! The thread that brings queued items into the engine. It is the only one that writes there.

use std::{
    collections::BTreeMap,
    io,
    ops::Bound,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use kv_core::Revision;

use crate::{
    block::{Block, Builder},
    codec::{self, Damage, Key},
    engine::{Batch, Engine, EngineError},
    error::Fault,
    meta::Meta,
    queue::{Change, Item, Queue},
};

/// How often a full disk is tried again.
const SPACE_RETRY: Duration = Duration::from_millis(250);

pub(crate) struct Writer {
    queue: Arc<Queue>,
    engine: Arc<dyn Engine>,
    /// As it is in the engine.
    meta: Meta,
}

impl Writer {
    pub(crate) fn new(queue: Arc<Queue>, engine: Arc<dyn Engine>, meta: Meta) -> Writer {
        Writer { queue, engine, meta }
    }

    /// Starts the thread. It ends when the queue is closed, or with the first failure other than a full disk.
    pub(crate) fn start(mut self) -> io::Result<JoinHandle<()>> {
        thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || self.run())
    }

    /// Writes one batch, of what there is at once; false if there was nothing.
    pub(crate) fn step(&mut self) -> Result<bool, Fault> {
        match self.queue.ready_batch() {
            Some(items) => self.take(&items),
            None => Ok(false),
        }
    }

    /// Writes batches until the queue is closed and empty.
    pub(crate) fn run(&mut self) {
        // Whoever waits for this thread must hear of its end, even if an assertion ends it.
        let last_word = LastWord(self.queue.clone());
        while let Some(items) = self.queue.next_batch() {
            if !matches!(self.take(&items), Ok(true)) {
                break;
            }
        }
        drop(last_word);
    }

    /// Writes the items and says so; false if the queue was closed while the disk was full.
    fn take(&mut self, items: &[Arc<Item>]) -> Result<bool, Fault> {
        let written = self.write(items).inspect_err(|fault| {
            tracing::error!("the store takes no more writes: {fault}");
            self.queue.fail(fault.clone());
        })?;
        if written {
            self.queue.batch_written(items.len());
        }
        Ok(written)
    }

    /// Writes the items in one batch; false if the queue was closed while the disk was full.
    fn write(&mut self, items: &[Arc<Item>]) -> Result<bool, Fault> {
        let mut meta = self.meta.clone();
        let batch = self.prepare(items, &mut meta)?;
        let mut warned = false;
        loop {
            match self.engine.batch(&batch) {
                Ok(()) => break,
                Err(error @ EngineError::NoSpace { .. }) => {
                    if !warned {
                        tracing::warn!("the store waits: {error}");
                        warned = true;
                    }
                    if !self.queue.wait_for_space(error.into(), SPACE_RETRY) {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.meta = meta;
        Ok(true)
    }

    fn prepare(&self, items: &[Arc<Item>], meta: &mut Meta) -> Result<Batch, Fault> {
        let mut batch = Batch::default();
        let mut builder = Builder::default();
        let mut facts = BTreeMap::new();
        for item in items {
            facts.extend(item.facts.iter().map(|change| (&change.key, &change.value)));
            for (at, record) in item.records.iter() {
                meta.tally.add(*at);
                if let Some((key, value)) = builder.push(*at, record) {
                    batch.put(key, value);
                }
            }
            match &item.change {
                Change::Applied {
                    point,
                    revision,
                    compacted,
                } => {
                    #[cfg(feature = "planted")]
                    if quorate_planted::is("applied-point-lags") && point.index % 2 == 0 {
                        meta.revision = *revision;
                        continue;
                    }
                    meta.applied = Some(point.clone());
                    meta.revision = *revision;
                    meta.compacted = *compacted;
                }
                Change::Swept { dropped, through } => {
                    remove(&*self.engine, dropped, meta, &mut batch)?;
                    meta.swept = through.unwrap_or(meta.swept);
                }
            }
        }
        if let Some((key, value)) = builder.finish() {
            batch.put(key, value);
        }
        for (key, value) in facts {
            put_fact(&*self.engine, key, value.as_ref(), meta, &mut batch)?;
        }
        batch.put(Key::Meta.to_bytes(), meta.encode());
        Ok(batch)
    }
}

/// Brings a fact up to date. However often it changed meanwhile, it is written once.
fn put_fact(
    engine: &dyn Engine,
    key: &[u8],
    value: Option<&Bytes>,
    meta: &mut Meta,
    batch: &mut Batch,
) -> Result<(), Fault> {
    let stored = Key::Fact(key).to_bytes();
    if let Some(old) = engine.get(&stored)? {
        meta.facts.remove(key, &codec::unseal(&stored, &old)?);
    }
    match value {
        Some(value) => {
            meta.facts.add(key, value);
            let sealed = codec::seal(&stored, value);
            batch.put(stored, sealed);
        }
        None => batch.delete(stored),
    }
    Ok(())
}

/// Takes records out of their blocks.
fn remove(
    engine: &dyn Engine,
    dropped: &[Revision],
    meta: &mut Meta,
    batch: &mut Batch,
) -> Result<(), Fault> {
    let mut blocks: BTreeMap<Key<'_>, (Block, Vec<Revision>)> = BTreeMap::new();
    for &at in dropped {
        // The last block seen at or before the revision is the right one if it has the record.
        let seen = blocks.range_mut(..=Key::Block(at)).next_back();
        if let Some((_, (block, gone))) = seen
            && block.find(at)?.is_some()
        {
            gone.push(at);
            continue;
        }
        let block = find_block(engine, at)?.ok_or(Damage("a record to be removed is missing"))?;
        if block.find(at)?.is_none() {
            return Err(Damage("a record to be removed is missing").into());
        }
        blocks.insert(block.key(), (block, vec![at]));
    }
    for (key, (block, mut gone)) in blocks {
        gone.sort_unstable();
        let rest = block.without(|at| gone.binary_search(&at).is_ok())?;
        gone.iter().for_each(|&at| meta.tally.remove(at));
        match rest {
            Some(value) => batch.put(key.to_bytes(), value),
            None => batch.delete(key.to_bytes()),
        }
    }
    Ok(())
}

/// The block in which the record of a revision is, if there is one.
pub(crate) fn find_block(engine: &dyn Engine, at: Revision) -> Result<Option<Block>, Fault> {
    let (from, to) = (Key::FIRST_BLOCK.to_bytes(), Key::Block(at).to_bytes());
    match engine.last((Bound::Included(&from), Bound::Included(&to)))? {
        Some((key, value)) => Ok(Some(Block::decode(&key, &value)?)),
        None => Ok(None),
    }
}

struct LastWord(Arc<Queue>);

impl Drop for LastWord {
    fn drop(&mut self) {
        self.0.fail(Fault::Engine(EngineError::Stopped(
            "the writing thread has ended".into(),
        )));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use kv_core::{Effects, KeyValue, Record};

    use super::*;
    use crate::{
        AppliedPoint,
        engine::{KeyRange, MemEngine, Scan},
    };

    /// An engine whose disk can be full, or break.
    #[derive(Default)]
    struct Moody {
        inner: MemEngine,
        full: AtomicBool,
        broken: AtomicBool,
    }

    impl Engine for Moody {
        fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
            self.inner.get(key)
        }
        fn scan(&self, range: KeyRange<'_>) -> Scan<'_> {
            self.inner.scan(range)
        }
        fn last(&self, range: KeyRange<'_>) -> Result<Option<(Bytes, Bytes)>, EngineError> {
            self.inner.last(range)
        }
        fn batch(&self, batch: &Batch) -> Result<(), EngineError> {
            if self.broken.load(Ordering::SeqCst) {
                return Err(EngineError::Io("broken".into()));
            }
            if self.full.load(Ordering::SeqCst) {
                return Err(EngineError::NoSpace {
                    free_bytes: 1,
                    needed_bytes: 2,
                });
            }
            self.inner.batch(batch)
        }
        fn sync(&self) -> Result<(), EngineError> {
            Ok(())
        }
        fn size_bytes(&self) -> Result<u64, EngineError> {
            Ok(0)
        }
    }

    fn item(main: i64) -> Item {
        let kv = KeyValue {
            key: "k".into(),
            mod_revision: main,
            ..KeyValue::default()
        };
        let point = AppliedPoint {
            index: main.cast_unsigned(),
            raft: Bytes::new(),
        };
        let change = Change::Applied {
            point,
            revision: main,
            compacted: -1,
        };
        let effects = Effects {
            records: vec![(Revision { main, sub: 0 }, Record::Put(kv))],
            facts: Vec::new(),
        };
        Item::new(effects, change)
    }

    fn start(engine: &Arc<Moody>) -> (Arc<Queue>, JoinHandle<()>) {
        let queue = Arc::new(Queue::default());
        let writer = Writer::new(queue.clone(), engine.clone(), Meta::empty(None));
        let thread = writer.start().expect("starts");
        (queue, thread)
    }

    #[test]
    fn writes_go_on_by_themselves_when_there_is_room_again() {
        let engine = Arc::new(Moody::default());
        engine.full.store(true, Ordering::SeqCst);
        let (queue, thread) = start(&engine);
        queue.push(item(2));
        assert!(matches!(queue.wait_written(1), Err(Fault::NoSpace { .. })));
        queue.push(item(3));
        assert!(
            queue.find(Revision { main: 2, sub: 0 }).is_some(),
            "still to be read"
        );
        engine.full.store(false, Ordering::SeqCst);
        // Refused as long as the writer has not tried again.
        while queue.wait_written(2).is_err() {
            thread::yield_now();
        }
        assert!(queue.trouble().is_none());
        assert!(
            queue.find(Revision { main: 2, sub: 0 }).is_none(),
            "in the engine now"
        );
        assert!(
            find_block(&*engine, Revision { main: 3, sub: 0 })
                .expect("reads")
                .is_some()
        );
        queue.close(false);
        thread.join().expect("ends");
    }

    #[test]
    fn a_broken_engine_ends_it_and_everybody_hears() {
        let engine = Arc::new(Moody::default());
        engine.broken.store(true, Ordering::SeqCst);
        let (queue, thread) = start(&engine);
        queue.push(item(2));
        assert!(matches!(queue.wait_written(1), Err(Fault::Engine(_))));
        assert!(matches!(queue.admit(), Err(Fault::Engine(_))));
        thread.join().expect("ends");
        let reason = queue.trouble().expect("failed").to_string();
        assert!(reason.contains("broken"), "the first reason is kept: {reason}");
    }

    #[test]
    fn what_is_queued_is_written_before_it_closes_unless_discarded() {
        for discard in [false, true] {
            let engine = Arc::new(Moody::default());
            engine.full.store(discard, Ordering::SeqCst);
            let (queue, thread) = start(&engine);
            queue.push(item(2));
            queue.close(discard);
            thread.join().expect("ends");
            let meta = engine.get(&Key::Meta.to_bytes()).expect("reads");
            assert_eq!(meta.is_none(), discard);
        }
    }
}
