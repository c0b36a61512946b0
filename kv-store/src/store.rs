//! The store: open, apply, read, make durable.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use kv_core::{Auth, Caller, KeyRange, Outcome, Range, RangeResult, Request, State, Txn};
use parking_lot::{Mutex, RwLock};

use crate::{
    AppliedPoint, Loaded,
    apply::{self, Applied, Entry, View},
    engine::SledOptions,
    error::{Fault, OpenError, ReadError},
    home::{self, Home, open_error},
    live::{Live, Missing},
    load::{LoadError, load},
    prefetch::{may_take_long, prefetch_txn},
    sim::SimDir,
};

/// Who brings what is applied into the engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Drive {
    /// A thread of the store's own.
    #[default]
    Thread,
    /// Whoever calls [`Store::drive`], and whoever would have to wait for the thread. For simulations, where
    /// everything happens on one thread, at a moment of their choosing.
    Caller,
}

/// Settings of a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of values kept in memory.
    pub cache_bytes: u64,
    /// The cluster of this node, if it is known: a store of another one does not open, and a new one
    /// is marked with it.
    pub cluster_id: Option<u64>,
    /// Settings of the engine on disk.
    pub sled: SledOptions,
    /// Who brings what is applied into the engine.
    pub drive: Drive,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 48 << 20,
            cluster_id: None,
            sled: SledOptions::default(),
            drive: Drive::default(),
        }
    }
}

/// An answer to a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeRead {
    /// The store's revision when the read was decided.
    pub header_revision: i64,
    /// What was read.
    pub result: RangeResult,
}

/// The applied state of a node. Clones are handles on the same store; it closes with the last of them, and
/// writes out what it has in memory then.
///
/// All calls may block on the disk: none is for an asynchronous thread, except those that say so.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: Options,
    /// Changed by an install alone.
    pub(crate) live: RwLock<Arc<Live>>,
    /// Held by the one who applies or installs.
    pub(crate) applier: Mutex<()>,
    /// Held by the one who syncs.
    syncing: Mutex<()>,
    pub(crate) durable: AtomicU64,
    loaded: Loaded,
    /// Last, so that the directory is unlocked when everything in it is closed.
    pub(crate) home: Home,
}

impl Store {
    /// Opens the store in a directory, which is made if it is missing, and reads all of it.
    ///
    /// # Errors
    /// [`OpenError`]. For [`OpenError::Damaged`], see [`Store::set_aside`].
    pub fn open(dir: &Path, options: Options) -> Result<Store, OpenError> {
        Store::open_in(Home::open(dir, options.sled.clone())?, options, dir)
    }

    /// A store that forgets everything when it is closed.
    ///
    /// # Errors
    /// [`OpenError::Io`] if no thread can be started.
    pub fn in_memory(options: Options) -> Result<Store, OpenError> {
        Store::open_in(Home::Memory, options, Path::new("memory"))
    }

    /// Opens the store in a simulated directory.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_simulated(dir: &SimDir, options: Options) -> Result<Store, OpenError> {
        Store::open_in(Home::Simulated(dir.mount()), options, Path::new("simulated"))
    }

    fn open_in(home: Home, options: Options, dir: &Path) -> Result<Store, OpenError> {
        let durable = home.current().durable_index;
        let (engine, generation) = home.open_live()?;
        let (state, mut meta, loaded) = load(&*engine, durable).map_err(|error| match error {
            LoadError::Engine(error) => open_error(dir, error),
            LoadError::Damaged(reason) => OpenError::Damaged {
                dir: dir.to_owned(),
                reason,
            },
        })?;
        if let (Some(found), Some(expected)) = (meta.cluster_id, options.cluster_id)
            && found != expected
        {
            return Err(OpenError::OtherCluster {
                dir: dir.to_owned(),
                found,
                expected,
            });
        }
        meta.cluster_id = meta.cluster_id.or(options.cluster_id);
        tracing::info!(
            dir = %dir.display(),
            keys = loaded.keys,
            records = loaded.records,
            revision = state.revision(),
            duration_ms = loaded.duration.as_millis(),
            "store open"
        );
        let live = Live::start(engine, generation, state, meta, &options).map_err(|fault| OpenError::Io {
            dir: dir.to_owned(),
            reason: fault.to_string(),
        })?;
        let inner = Inner {
            options,
            live: RwLock::new(Arc::new(live)),
            applier: Mutex::new(()),
            syncing: Mutex::new(()),
            durable: AtomicU64::new(durable),
            loaded,
            home,
        };
        Ok(Store {
            inner: Arc::new(inner),
        })
    }

    /// Renames the directory of a damaged store to the first free `<dir>.damaged-N`, and returns
    /// that, so that a new store can be opened and filled. No store may be open in it.
    ///
    /// # Errors
    /// If it cannot be renamed.
    pub fn set_aside(dir: &Path) -> io::Result<PathBuf> {
        home::set_aside(dir)
    }

    pub(crate) fn live(&self) -> Arc<Live> {
        self.inner.live.read().clone()
    }

    /// What opening the store found.
    pub fn loaded(&self) -> &Loaded {
        &self.inner.loaded
    }

    /// The last applied entry; `None` if there was none. Never blocks on the disk.
    pub fn applied(&self) -> Option<AppliedPoint> {
        self.live().core.read().applied.clone()
    }

    /// The log index up to which the store would survive a power cut; the log may be purged up to
    /// it, and no further. 0 before anything is durable. Never blocks on the disk.
    pub fn durable_index(&self) -> u64 {
        self.inner.durable.load(Ordering::Acquire)
    }

    /// The current revision. Never blocks on the disk.
    pub fn revision(&self) -> i64 {
        self.live().core.read().state.revision()
    }

    /// The compacted revision; -1 if there was no compaction. Never blocks on the disk.
    pub fn compacted(&self) -> i64 {
        self.live().core.read().state.compacted()
    }

    /// Looks at the state: leases and whatever else are facts. Never blocks on the disk; nothing is applied while
    /// `look` runs, so it must be short.
    pub fn with_state<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.live().core.read().state)
    }

    /// Number of keys that exist. Never blocks on the disk.
    pub fn keys(&self) -> usize {
        self.live().core.read().state.keys()
    }

    /// Bytes of keys and values that are not swept, superseded ones included; what a quota counts.
    /// Nodes that are at the same index may differ in it. Never blocks on the disk.
    pub fn live_bytes(&self) -> u64 {
        self.live().core.read().state.live_bytes()
    }

    /// Bytes that the store takes on disk.
    ///
    /// # Errors
    /// If the files cannot be looked at.
    pub fn size_bytes(&self) -> Result<u64, Fault> {
        Ok(self.live().engine.size_bytes()?)
    }

    /// Why nothing goes into the engine at present, if so: a full disk, after which it goes on by itself, or a
    /// failure, after which the store must be opened again. Never blocks on the disk.
    pub fn trouble(&self) -> Option<Fault> {
        self.live().queue.trouble()
    }

    /// Applies committed entries, which must begin right after the applied one (the first entry ever
    /// has index 0 or 1). Entries without a command are Raft's own. `raft` belongs to the last entry.
    ///
    /// Returns the outcomes and what was written. From then on reads see the effects; they
    /// survive a crash of the process soon after (10 ms, or while the engine is behind, later), and a power
    /// cut after [`Store::sync`]: until then, the log must keep the entries.
    ///
    /// # Errors
    /// After [`Fault::NoSpace`] nothing was applied, and the same call can be made again. After any
    /// other the store must be opened again.
    ///
    /// # Panics
    /// If two threads apply at once, or if the entries do not follow the applied one: both would
    /// make this node's state differ from the others'.
    pub fn apply(&self, entries: &[Entry], raft: Bytes) -> Result<Applied, Fault> {
        let applier = self.inner.applier.try_lock();
        assert!(applier.is_some(), "two threads apply entries at once");
        apply::apply(&self.live(), entries, raft)
    }

    /// Whether [`Store::apply`] may take long: because of what the commands are, or because much is
    /// queued for the engine. Never blocks on the disk itself.
    pub fn apply_may_block(&self, entries: &[Entry]) -> bool {
        self.live().queue.is_filling()
            || entries
                .iter()
                .filter_map(|(_, command)| command.as_ref())
                .any(may_take_long)
    }

    /// Looks at users and roles, with the state locked. Never blocks on the disk.
    pub fn auth<T>(&self, look: impl FnOnce(&Auth) -> T) -> T {
        look(self.live().core.read().state.auth())
    }

    /// Whether the caller may do what it asks, by the state now. Never blocks on the disk.
    ///
    /// # Errors
    /// Why not.
    pub fn authorize(&self, caller: &Caller, request: Request<'_>) -> Result<(), kv_core::Error> {
        self.live().core.read().state.authorize(caller, request)
    }

    /// Reads keys at a revision. Waits for no writer.
    ///
    /// # Errors
    /// [`ReadError::Refused`] for a revision that is compacted or in the future.
    pub fn range(&self, range: &Range) -> Result<RangeRead, ReadError> {
        self.range_by(&Caller::Node, range)
    }

    /// Reads as [`Store::range`], for a caller. It is permitted and read in one state: what is written after a
    /// permission was taken away is not shown.
    ///
    /// # Errors
    /// As [`Store::range`], and where the caller may not.
    pub fn range_by(&self, caller: &Caller, range: &Range) -> Result<RangeRead, ReadError> {
        loop {
            let live = self.live();
            let (plan, compacted) = {
                let core = live.core.read();
                let keys = KeyRange::new(&range.key, &range.range_end);
                core.state.authorize(caller, Request::Read(keys))?;
                (core.state.plan(range)?, core.state.compacted())
            };
            let header_revision = plan.header_revision;
            match plan.finish(&*live) {
                Ok(result) => {
                    return Ok(RangeRead {
                        header_revision,
                        result,
                    });
                }
                // A compaction took a value away since the plan was made: a new plan knows of it.
                Err(Missing::Gone(_)) if live.core.read().state.compacted() > compacted => {}
                Err(missing) => return Err(Fault::from(missing).into()),
            }
        }
    }

    /// Answers a transaction that does not write. Its values are fetched ahead, so that the state is not
    /// locked while the disk is read, but for what `prefetch` does not foresee.
    ///
    /// # Errors
    /// [`ReadError::Fault`]; what the data model refuses is in the outcome.
    ///
    /// # Panics
    /// Where the transaction is not [`Txn::is_read_only`].
    pub fn read_txn(&self, txn: &Txn) -> Result<Outcome, ReadError> {
        self.read_txn_by(&Caller::Node, txn)
    }

    /// Answers as [`Store::read_txn`], for a caller: permitted and read in one state.
    ///
    /// # Errors
    /// As [`Store::read_txn`], and where the caller may not.
    ///
    /// # Panics
    /// As [`Store::read_txn`].
    pub fn read_txn_by(&self, caller: &Caller, txn: &Txn) -> Result<Outcome, ReadError> {
        let live = self.live();
        let fetched = prefetch_txn(&live, txn)?;
        let core = live.core.read();
        core.state.authorize(caller, Request::Txn(txn))?;
        let values = View {
            live: &live,
            fetched: &fetched,
            written: &[],
        };
        Ok(core.state.read_txn(&values, txn).map_err(Fault::from)?)
    }

    /// Brings one batch of what is applied into the engine, where [`Drive::Caller`] was chosen; false if nothing
    /// waited.
    ///
    /// # Errors
    /// [`Fault`]: [`Fault::NoSpace`] for now, any other for good.
    pub fn drive(&self) -> Result<bool, Fault> {
        self.live().drive()
    }

    /// Makes everything applied before the call durable against a power cut, and returns the
    /// durable index.
    ///
    /// # Errors
    /// [`Fault`]; the durable index stays what it was.
    pub fn sync(&self) -> Result<u64, Fault> {
        let _syncing = self.inner.syncing.lock();
        let live = self.live();
        let (items, index) = {
            let core = live.core.read();
            (
                live.queue.pushed(),
                core.applied.as_ref().map_or(0, |point| point.index),
            )
        };
        if index <= self.durable_index() {
            return Ok(self.durable_index());
        }
        live.wait_written(items)?;
        #[cfg(feature = "planted")]
        if quorate_planted::is("purge-beyond-durable") {
            return Ok(self.inner.durable.fetch_max(index, Ordering::AcqRel).max(index));
        }
        live.engine.sync()?;
        self.inner.home.record_durable(&live.generation, index)?;
        self.inner.durable.fetch_max(index, Ordering::AcqRel);
        Ok(self.durable_index())
    }
}
