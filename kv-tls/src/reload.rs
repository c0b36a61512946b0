//! What is made of files, made anew when they change.

use std::{
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::TlsError;

/// The files are looked at no more often than this, and only when a connection is made.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What tells one version of a file from the next: inode, time of change in nanoseconds, length.
/// Renewal by symbolic link (Kubernetes) changes the inode.
type Stamp = Option<(u64, i64, i64, u64)>;

fn stamp(path: &PathBuf) -> Stamp {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()))
}

type Load<T> = Box<dyn Fn() -> Result<T, TlsError> + Send + Sync>;

/// A value made of files.
pub(crate) struct Reloading<T> {
    paths: Vec<PathBuf>,
    load: Load<T>,
    current: ArcSwap<T>,
    looked: Mutex<(Instant, Vec<Stamp>)>,
}

impl<T> Reloading<T> {
    /// Makes the value for the first time.
    ///
    /// # Errors
    /// When the files cannot be used.
    pub(crate) fn new(
        paths: Vec<PathBuf>,
        load: impl Fn() -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Reloading<T>, TlsError> {
        // Before loading: what changes meanwhile is then seen at the next look.
        let stamps = paths.iter().map(stamp).collect();
        Ok(Reloading {
            current: ArcSwap::from_pointee(load()?),
            paths,
            load: Box::new(load),
            looked: Mutex::new((Instant::now(), stamps)),
        })
    }

    /// The value, of the files as they were at most [`LOOK_INTERVAL`] ago. Files that cannot be used leave
    /// the last value that could.
    pub(crate) fn current(&self) -> Arc<T> {
        if let Some(mut looked) = self.looked.try_lock()
            && looked.0.elapsed() >= LOOK_INTERVAL
        {
            looked.0 = Instant::now();
            let stamps: Vec<Stamp> = self.paths.iter().map(stamp).collect();
            if stamps != looked.1 {
                // Remembered also if it fails: half of a renewal is told once, and the other half is seen.
                looked.1 = stamps;
                self.reload();
            }
        }
        self.current.load_full()
    }

    fn reload(&self) {
        match (self.load)() {
            Ok(value) => {
                tracing::info!(files = ?self.paths, "certificates read again");
                self.current.store(Arc::new(value));
            }
            Err(error) => tracing::warn!(%error, "changed certificates cannot be used: the old ones stay"),
        }
    }
}
