//! The engine on disk: one tree of sled 0.34.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{DirEntry, File},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::fs::{Advice, fadvise, statvfs};

use super::{
    Batch, Engine, EngineError, KeyRange, Scan,
    guard::{Guard, caught},
    is_empty,
};

/// Bytes that may wait in sled's write buffers: a batch that goes beyond hands them to the kernel
/// first. sled itself has no bound, so a writer faster than the disk would fill the memory.
const UNFLUSHED_BYTES_MAX: u64 = 4 << 20;

/// Bytes of batches after which everything is made durable, without being asked to: what is left for a sync at the end of
/// much work holds up for seconds whoever else syncs to the disk, the log first of all.
const UNSYNCED_BYTES_MAX: u64 = 8 << 20;

/// Where sled keeps pages that are files of their own.
const BLOBS: &str = "blobs";

/// With more of them the size on disk is no longer counted whenever it is asked for.
const BLOBS_COUNTED_MAX: u64 = 64;

/// Files that are synced together, of some 150 KiB each: few, so that a sync of the log gets in between.
const BLOBS_AT_ONCE: usize = 8;

/// How long an engine of this process that still closes is waited for. sled's threads hold its
/// file for a moment after the last handle is gone.
const CLOSING_WAIT_MAX: Duration = Duration::from_secs(5);
const CLOSING_POLL: Duration = Duration::from_millis(5);

/// Settings of sled.
#[derive(Debug, Clone)]
pub struct SledOptions {
    /// Bytes of pages that sled keeps in memory, about: it counts a page only after 64 accesses in the page's
    /// shard of 256, so up to 16,000 pages more can be there after random reads. Small on purpose: values have
    /// a cache of their own above the engine.
    pub cache_bytes: u64,
    /// Interval, in milliseconds, at which sled's own thread writes out and, only there, reclaims
    /// space that rewritten pages left behind.
    pub flush_every_ms: u64,
    /// Bytes of the file system that are left free. A batch that would go below is refused before
    /// sled sees it: sled stops for good at the first write that the kernel refuses.
    pub reserve_bytes: u64,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 8 << 20,
            flush_every_ms: 1_000,
            reserve_bytes: 32 << 20,
        }
    }
}

/// An engine in a directory.
#[derive(Debug)]
pub struct SledEngine {
    /// Taken out only when dropped.
    db: Option<sled::Db>,
    /// The tree of the database that holds everything.
    tree: Option<sled::Tree>,
    dir: PathBuf,
    guard: Guard,
    reserve_bytes: u64,
    unflushed_bytes: AtomicU64,
    unsynced_bytes: AtomicU64,
    /// With their sizes. Locked as long as a sync takes.
    synced_blobs: Mutex<BTreeMap<OsString, u64>>,
    /// For those who cannot wait for a sync.
    blobs: BlobCount,
}

/// Files of large pages, as they were counted last.
#[derive(Debug, Default)]
struct BlobCount {
    files: AtomicU64,
    bytes: AtomicU64,
}

impl SledEngine {
    /// Opens the engine in `dir`, or makes an empty one there.
    ///
    /// # Errors
    /// [`EngineError::Corrupt`] for files that sled refuses or panics on, [`EngineError::Locked`]
    /// and [`EngineError::NotWritable`] as their names say.
    pub fn open(dir: &Path, options: &SledOptions) -> Result<Self, EngineError> {
        let deadline = Instant::now() + CLOSING_WAIT_MAX;
        let db = loop {
            let config = sled::Config::new()
                .path(dir)
                .cache_capacity(options.cache_bytes)
                .flush_every_ms(Some(options.flush_every_ms));
            let opened = caught(|| config.open())
                .unwrap_or_else(|panic| Err(EngineError::Corrupt(format!("sled panicked: {panic}"))));
            match opened {
                Err(EngineError::Locked(_)) if Instant::now() < deadline => thread::sleep(CLOSING_POLL),
                other => break other?,
            }
        };
        let tree = (*db).clone();
        for dir in [dir, &dir.join(BLOBS)] {
            File::open(dir)?.sync_all()?;
        }
        let engine = Self {
            db: Some(db),
            tree: Some(tree),
            dir: dir.to_owned(),
            guard: Guard::default(),
            reserve_bytes: options.reserve_bytes,
            unflushed_bytes: AtomicU64::new(0),
            unsynced_bytes: AtomicU64::new(0),
            synced_blobs: Mutex::default(),
            blobs: BlobCount::default(),
        };
        engine.count_blobs()?;
        Ok(engine)
    }

    fn tree(&self) -> &sled::Tree {
        self.tree.as_ref().expect("the tree is only taken out by drop")
    }

    /// Refuses a batch that the file system has no room for.
    fn check_space(&self, batch_bytes: u64) -> Result<(), EngineError> {
        let fs = statvfs(&self.dir).map_err(io::Error::from)?;
        let free_bytes = fs.f_bavail.saturating_mul(fs.f_frsize);
        // sled writes a page again with every tenth change of it: twice the batch, and some more.
        let needed_bytes = self.reserve_bytes + batch_bytes * 4;
        if free_bytes < needed_bytes {
            return Err(EngineError::NoSpace {
                free_bytes,
                needed_bytes,
            });
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.unflushed_bytes.store(0, Ordering::Relaxed);
        self.write(|| self.tree().flush()).map(|_bytes| ())
    }

    /// Writes. Where sled has met a full disk, that is an error to wait out as long as the disk is full: there is
    /// nothing to be gained by closing it before.
    fn write<T>(&self, call: impl FnOnce() -> sled::Result<T>) -> Result<T, EngineError> {
        let result = self.guard.write(call);
        if let Err(EngineError::SpaceRanOut(_)) = result {
            self.check_space(0)?;
        }
        result
    }

    /// Counts them anew.
    fn count_blobs(&self) -> io::Result<u64> {
        let (files, bytes) = lengths(&self.dir.join(BLOBS))?;
        self.blobs.set(files, bytes);
        Ok(bytes)
    }

    /// Pages beyond a quarter of a segment (128 KiB) are files of their own, which sled never syncs.
    ///
    /// Some are on their way to the disk before the first of them is synced: the file system then makes their space and
    /// names durable at once, and not with a commit of its journal for each, which the log would wait for.
    fn sync_blobs(&self) -> Result<(), EngineError> {
        let dir = self.dir.join(BLOBS);
        let mut synced = self.synced_blobs.lock();
        let mut present = BTreeMap::new();
        let mut new = Vec::new();
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let bytes = match synced.get(&name) {
                Some(bytes) => *bytes,
                None => {
                    new.push(entry.path());
                    length(&entry)?.unwrap_or(0)
                }
            };
            present.insert(name, bytes);
        }
        self.blobs.set(present.len() as u64, present.values().sum());
        for paths in new.chunks(BLOBS_AT_ONCE) {
            let files = paths.iter().filter_map(|path| open_if_there(path).transpose());
            let files = files.collect::<io::Result<Vec<File>>>()?;
            for file in &files {
                // "Not needed" begins to write what is dirty. Only the sync counts.
                let _ = fadvise(file, 0, None, Advice::DontNeed);
            }
            files.iter().try_for_each(File::sync_all)?;
        }
        if !new.is_empty() {
            File::open(&dir)?.sync_all()?;
        }
        *synced = present;
        Ok(())
    }
}

impl BlobCount {
    fn set(&self, files: u64, bytes: u64) {
        self.files.store(files, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }
}

/// How many files are in a directory, and their bytes together.
fn lengths(dir: &Path) -> io::Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    for entry in std::fs::read_dir(dir)? {
        if let Some(length) = length(&entry?)? {
            files += 1;
            bytes += length;
        }
    }
    Ok((files, bytes))
}

/// Bytes of a file, if it is one and still there.
fn length(entry: &DirEntry) -> io::Result<Option<u64>> {
    match entry.metadata() {
        Ok(metadata) => Ok(metadata.is_file().then_some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file, unless it was removed meanwhile, because a later version replaced it.
fn open_if_there(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Engine for SledEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let value = self.guard.read(|| self.tree().get(key))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, range: KeyRange<'_>) -> Scan<'_> {
        if is_empty(&range) {
            return Box::new(std::iter::empty());
        }
        let mut pairs = Some(self.tree().range::<&[u8], _>(range));
        Box::new(std::iter::from_fn(move || {
            let next = self
                .guard
                .read(|| pairs.as_mut().and_then(Iterator::next).transpose());
            match next {
                Ok(Some((key, value))) => {
                    Some(Ok((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value))))
                }
                Ok(None) => None,
                Err(error) => pairs.take().map(|_| Err(error)),
            }
        }))
    }

    fn last(&self, range: KeyRange<'_>) -> Result<Option<(Bytes, Bytes)>, EngineError> {
        if is_empty(&range) {
            return Ok(None);
        }
        let last = self
            .guard
            .read(|| self.tree().range::<&[u8], _>(range).next_back().transpose())?;
        Ok(last.map(|(key, value)| (Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value))))
    }

    fn batch(&self, batch: &Batch) -> Result<(), EngineError> {
        self.check_space(batch.bytes())?;
        if self.unsynced_bytes.fetch_add(batch.bytes(), Ordering::Relaxed) > UNSYNCED_BYTES_MAX {
            self.sync()?;
        }
        if self.unflushed_bytes.fetch_add(batch.bytes(), Ordering::Relaxed) > UNFLUSHED_BYTES_MAX {
            self.flush()?;
        }
        let mut writes = sled::Batch::default();
        for (key, value) in &batch.writes {
            match value {
                Some(value) => writes.insert(&key[..], &value[..]),
                None => writes.remove(&key[..]),
            }
        }
        self.write(|| self.tree().apply_batch(writes))
    }

    /// sled's own flush ends in `sync_file_range`, which writes no metadata and does not empty the
    /// cache of the disk: after it the file is synced through a handle of our own.
    fn sync(&self) -> Result<(), EngineError> {
        self.unsynced_bytes.store(0, Ordering::Relaxed);
        self.flush()?;
        let synced = self.sync_blobs().and_then(|()| {
            File::open(self.dir.join("db"))?.sync_all()?;
            Ok(())
        });
        self.guard.stop_writes_on_error(synced)
    }

    /// Of many blobs only those count that were there at the last sync: looking at each takes too long for whoever asks
    /// how the node is.
    fn size_bytes(&self) -> Result<u64, EngineError> {
        let blobs = if self.blobs.files.load(Ordering::Relaxed) <= BLOBS_COUNTED_MAX {
            self.count_blobs()?
        } else {
            self.blobs.bytes.load(Ordering::Relaxed)
        };
        Ok(lengths(&self.dir)?.1 + blobs)
    }
}

impl Drop for SledEngine {
    fn drop(&mut self) {
        // sled flushes when its last handle goes, and unwraps the result.
        let (db, tree) = (self.db.take(), self.tree.take());
        let closed = caught(|| {
            drop((tree, db));
            Ok(())
        });
        if let Err(panic) = closed {
            tracing::error!(dir = %self.dir.display(), "sled panicked while it closed: {panic}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many blobs as are not counted whenever somebody asks.
    #[test]
    fn its_size_is_that_of_its_files_after_a_sync() {
        let dir = tempfile::tempdir().expect("a directory");
        let engine = SledEngine::open(dir.path(), &SledOptions::default()).expect("opens");
        let value = Bytes::from(vec![7; 160 << 10]);
        for number in 0..2 * BLOBS_COUNTED_MAX {
            let mut batch = Batch::default();
            batch.put(number.to_be_bytes().to_vec().into(), value.clone());
            engine.batch(&batch).expect("room");
        }
        engine.sync().expect("syncs");
        assert!(engine.blobs.files.load(Ordering::Relaxed) > BLOBS_COUNTED_MAX);
        let files = |dir: &Path| lengths(dir).expect("can be read").1;
        assert_eq!(
            engine.size_bytes().expect("known"),
            files(dir.path()) + files(&dir.path().join(BLOBS))
        );
    }
}
