//! One generation at work: the state, the queue before the engine, the engine, and the cache above it.
//!
//! A reader holds on to the generation it began with, so an install never mixes old and new.
//! Locks are taken in this order: core, queue. None is held over the engine's I/O, with one exception:
//! a command whose needed value was not fetched ahead (see `prefetch`).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use kv_core::{KeyValue, Record, Revision, State, Values};
use parking_lot::{Mutex, RwLock};
use quick_cache::{Weighter, sync::Cache};

use crate::{
    AppliedPoint, Drive, Options,
    engine::{Engine, EngineError},
    error::Fault,
    home::Generation,
    meta::Meta,
    queue::Queue,
    sweep::Sweep,
    writer::{Writer, find_block},
};

/// What changes together under one lock.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) state: State,
    pub(crate) applied: Option<AppliedPoint>,
}

#[derive(Debug, Clone)]
struct Weight;

/// Bytes that a cached value takes beside its key and value: two revisions, the handles, the cache's own.
const ENTRY_OVERHEAD_BYTES: u64 = 200;

impl Weighter<Revision, KeyValue> for Weight {
    fn weight(&self, _: &Revision, kv: &KeyValue) -> u64 {
        (kv.key.len() + kv.value.len()) as u64 + ENTRY_OVERHEAD_BYTES
    }
}

/// Who brings the queue into the engine.
enum Driver {
    Thread(Option<JoinHandle<()>>),
    Caller(Mutex<Writer>),
}

pub(crate) struct Live {
    pub(crate) core: RwLock<Core>,
    pub(crate) queue: Arc<Queue>,
    /// Values by revision. A revision never changes, so nothing in it is ever stale.
    cache: Cache<Revision, KeyValue, Weight>,
    pub(crate) sweep: Mutex<Sweep>,
    /// Views that need what they see to stay. Changed with the core locked.
    pins: AtomicUsize,
    writer: Driver,
    pub(crate) cluster_id: Option<u64>,
    pub(crate) engine: Arc<dyn Engine>,
    /// Last, so that the engine is closed before its files may be removed.
    pub(crate) generation: Generation,
}

/// Size of a value that the cache counts on to size its own tables.
const TYPICAL_VALUE_BYTES: u64 = 512;

impl Live {
    pub(crate) fn start(
        engine: Arc<dyn Engine>,
        generation: Generation,
        state: State,
        meta: Meta,
        options: &Options,
    ) -> Result<Live, Fault> {
        let cache_bytes = options.cache_bytes;
        let queue = Arc::new(Queue::default());
        let entries = usize::try_from(cache_bytes / TYPICAL_VALUE_BYTES).unwrap_or(usize::MAX);
        let core = Core {
            state,
            applied: meta.applied.clone(),
        };
        let sweep = Sweep::new(meta.swept);
        let cluster_id = meta.cluster_id;
        let writer = Writer::new(queue.clone(), engine.clone(), meta);
        let writer = match options.drive {
            Drive::Thread => Driver::Thread(Some(writer.start().map_err(EngineError::from)?)),
            Drive::Caller => Driver::Caller(Mutex::new(writer)),
        };
        Ok(Live {
            core: RwLock::new(core),
            queue,
            cache: Cache::with_weighter(entries, cache_bytes, Weight),
            sweep: Mutex::new(sweep),
            pins: AtomicUsize::new(0),
            writer,
            cluster_id,
            engine,
            generation,
        })
    }

    /// The value of a revision; `None` if there is none, or no longer.
    pub(crate) fn value(&self, at: Revision) -> Result<Option<KeyValue>, Fault> {
        // In this order: a record leaves the queue only after the engine has it.
        match self.queue.find(at) {
            Some(Record::Put(kv)) => return Ok(Some(kv)),
            Some(Record::Delete { .. }) => return Ok(None),
            None => {}
        }
        if let Some(kv) = self.cache.get(&at) {
            return Ok(Some(kv));
        }
        let Some(block) = find_block(&*self.engine, at)? else {
            return Ok(None);
        };
        let kv = block.find(at)?.and_then(|record| record.to_key_value(at));
        if let Some(kv) = &kv {
            self.cache.insert(at, kv.clone());
        }
        Ok(kv)
    }

    /// Brings one batch into the engine, if nobody else does; false if there is nothing to bring.
    pub(crate) fn drive(&self) -> Result<bool, Fault> {
        match &self.writer {
            Driver::Thread(_) => Ok(false),
            Driver::Caller(writer) => writer.lock().step(),
        }
    }

    /// Waits until that many items are in the engine.
    ///
    /// # Errors
    /// If the disk is full, or the writer has given up.
    pub(crate) fn wait_written(&self, items: u64) -> Result<(), Fault> {
        while !self.queue.has_written(items) && self.drive()? {}
        self.queue.wait_written(items)
    }

    /// Waits until there is room for another item.
    ///
    /// # Errors
    /// If there is none and the disk is full, or if the writer has given up.
    pub(crate) fn admit(&self) -> Result<(), Fault> {
        while self.queue.is_full() && self.drive()? {}
        self.queue.admit()
    }

    pub(crate) fn forget(&self, dropped: &[Revision]) {
        for at in dropped {
            self.cache.remove(at);
        }
    }

    pub(crate) fn is_pinned(&self) -> bool {
        self.pins.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn applied_index(&self) -> u64 {
        self.core.read().applied.as_ref().map_or(0, |point| point.index)
    }
}

impl Drop for Live {
    /// What is queued still goes into the engine, unless nobody will ever read it.
    fn drop(&mut self) {
        self.queue.close(self.generation.is_abandoned());
        match &mut self.writer {
            Driver::Thread(thread) => {
                if let Some(Err(_)) = thread.take().map(JoinHandle::join) {
                    tracing::error!("the store's writing thread panicked");
                }
            }
            Driver::Caller(writer) => writer.get_mut().run(),
        }
    }
}

/// Why a value that a plan names was not found.
#[derive(Debug, Clone)]
pub(crate) enum Missing {
    /// There is no record: compacted away since, or lost.
    Gone(Revision),
    Fault(Fault),
}

impl From<Missing> for Fault {
    /// Where nothing can have been compacted away meanwhile.
    fn from(missing: Missing) -> Fault {
        match missing {
            Missing::Gone(at) => Fault::Damaged(format!(
                "the record of revision {}.{} is missing",
                at.main, at.sub
            )),
            Missing::Fault(fault) => fault,
        }
    }
}

impl Values for Live {
    type Error = Missing;

    fn get(&self, at: Revision) -> Result<KeyValue, Missing> {
        match self.value(at) {
            Ok(Some(kv)) => Ok(kv),
            Ok(None) => Err(Missing::Gone(at)),
            Err(fault) => Err(Missing::Fault(fault)),
        }
    }
}

/// Keeps the sweep away from a generation, and keeps the generation.
pub(crate) struct Pin(Arc<Live>);

impl Pin {
    /// Pins, and reads what the pinned state is, at one moment.
    pub(crate) fn new<T>(live: Arc<Live>, read: impl FnOnce(&Core) -> T) -> (Pin, T) {
        let core = live.core.read();
        live.pins.fetch_add(1, Ordering::SeqCst);
        let seen = read(&core);
        drop(core);
        (Pin(live), seen)
    }

    pub(crate) fn live(&self) -> &Live {
        &self.0
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.0.pins.fetch_sub(1, Ordering::SeqCst);
    }
}
