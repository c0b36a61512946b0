//! A store's directory in memory that can lose power.
//!
//! It keeps apart what an engine shows and what is durable. [`SimDir::crash`] throws away what was not synced: of
//! the batches since the last sync, only the first few remain, as many as the caller says. What `CURRENT` says is
//! durable at once, as it is on a disk. The same calls always give the same directory.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{
    engine::{Batch, Engine, EngineError, KeyRange, MemEngine, Scan},
    home::{Current, FIRST},
};

/// The directory. Clones are the same; give a store to [`Store::open_simulated`](crate::Store::open_simulated).
#[derive(Debug, Clone)]
pub struct SimDir {
    world: Arc<Mutex<World>>,
    /// A store that was open before a crash does not reach the directory any more.
    boot: u64,
}

#[derive(Debug)]
struct World {
    boot: u64,
    current: Current,
    generations: BTreeMap<u64, Files>,
    is_full: bool,
    /// Something was to be written while it was full.
    ran_full: bool,
}

/// What there is of one engine.
#[derive(Debug, Default)]
struct Files {
    visible: Arc<MemEngine>,
    durable: BTreeMap<Bytes, Bytes>,
    unsynced: Vec<Batch>,
}

impl Default for SimDir {
    fn default() -> SimDir {
        let world = World {
            boot: 0,
            current: FIRST,
            generations: BTreeMap::new(),
            is_full: false,
            ran_full: false,
        };
        SimDir {
            world: Arc::new(Mutex::new(world)),
            boot: 0,
        }
    }
}

impl SimDir {
    /// An empty directory.
    pub fn new() -> SimDir {
        SimDir::default()
    }

    /// The power fails and comes back. Of the batches that were written since the last sync the first `kept`
    /// remain; whoever has the directory open has lost it.
    pub fn crash(&self, kept: usize) {
        let mut world = self.world.lock();
        world.boot += 1;
        let current = world.current.generation;
        world.generations.retain(|number, _| *number == current);
        for files in world.generations.values_mut() {
            files.crash(kept);
        }
    }

    /// Batches of the live generation that a crash could take away.
    pub fn unsynced(&self) -> usize {
        let world = self.world.lock();
        let live = world.generations.get(&world.current.generation);
        live.map_or(0, |files| files.unsynced.len())
    }

    /// Takes all room away, or gives it back. As with sled, an engine that was to write meanwhile takes no more until
    /// it is opened again, and has lost then what was not synced.
    pub fn set_full(&self, full: bool) {
        self.world.lock().is_full = full;
    }

    /// Whether something was to be written while it was full; no longer so once a store is opened in it.
    pub fn has_run_full(&self) -> bool {
        self.world.lock().ran_full
    }

    /// A handle that the next crash breaks.
    pub(crate) fn mount(&self) -> SimDir {
        if std::mem::take(&mut self.world.lock().ran_full) {
            self.crash(0);
        }
        let boot = self.world.lock().boot;
        SimDir {
            world: self.world.clone(),
            boot,
        }
    }

    pub(crate) fn current(&self) -> Current {
        self.world.lock().current
    }

    pub(crate) fn set_current(&self, current: Current) -> Result<(), EngineError> {
        let mut world = self.world.lock();
        world.powered(self.boot)?;
        world.current = current;
        Ok(())
    }

    pub(crate) fn next_generation(&self) -> u64 {
        let world = self.world.lock();
        let last = world.generations.keys().next_back().copied().unwrap_or(0);
        last.max(world.current.generation) + 1
    }

    pub(crate) fn engine(&self, generation: u64) -> Arc<dyn Engine> {
        let mut world = self.world.lock();
        let files = world.generations.entry(generation).or_default();
        Arc::new(SimEngine {
            visible: files.visible.clone(),
            dir: self.clone(),
            generation,
        })
    }
}

impl World {
    fn has_room(&mut self) -> Result<(), EngineError> {
        self.ran_full |= self.is_full;
        match (self.is_full, self.ran_full) {
            (true, _) => Err(EngineError::NoSpace {
                free_bytes: 0,
                needed_bytes: 1,
            }),
            (false, true) => Err(EngineError::SpaceRanOut("simulated".into())),
            (false, false) => Ok(()),
        }
    }

    fn powered(&self, boot: u64) -> Result<(), EngineError> {
        if boot == self.boot {
            Ok(())
        } else {
            Err(EngineError::Stopped("the power is off".into()))
        }
    }
}

impl Files {
    fn sync(&mut self, batches: usize) {
        for batch in self.unsynced.drain(..batches) {
            for (key, value) in batch.into_writes() {
                match value {
                    Some(value) => self.durable.insert(key, value),
                    None => self.durable.remove(&key),
                };
            }
        }
    }

    fn crash(&mut self, kept: usize) {
        self.sync(kept.min(self.unsynced.len()));
        self.unsynced.clear();
        self.visible = Arc::new(MemEngine::of(self.durable.clone()));
    }
}

/// An engine in a simulated directory.
struct SimEngine {
    visible: Arc<MemEngine>,
    dir: SimDir,
    generation: u64,
}

impl SimEngine {
    fn files<T>(&self, change: impl FnOnce(&mut Files) -> T) -> Result<T, EngineError> {
        let mut world = self.dir.world.lock();
        world.powered(self.dir.boot)?;
        Ok(change(world.generations.entry(self.generation).or_default()))
    }
}

impl Engine for SimEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.visible.get(key)
    }

    fn scan(&self, range: KeyRange<'_>) -> Scan<'_> {
        self.visible.scan(range)
    }

    fn last(&self, range: KeyRange<'_>) -> Result<Option<(Bytes, Bytes)>, EngineError> {
        self.visible.last(range)
    }

    fn batch(&self, batch: &Batch) -> Result<(), EngineError> {
        self.dir.world.lock().has_room()?;
        self.files(|files| files.unsynced.push(batch.clone()))?;
        self.visible.batch(batch)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.files(|files| files.sync(files.unsynced.len()))
    }

    fn size_bytes(&self) -> Result<u64, EngineError> {
        self.visible.size_bytes()
    }
}
