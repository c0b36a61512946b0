//! Whether there is room to write: free disk, quota, and how far the log's disk is behind.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kv_store::Store;
use kv_wal::Wal;

/// Below this much free disk, writes that grow the store are refused. It leaves room for the log's
/// next segment and for the store to write what is already in the log.
pub const FREE_BYTES_MIN: u64 = 192 << 20;
/// How often the free space is looked at.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Log bytes waiting for the disk beyond which new proposals are refused.
const LOG_QUEUE_BYTES_MAX: usize = 64 << 20;

/// How long a follower waits before it looks again whether its log has caught up.
const LOG_BEHIND_PAUSE: Duration = Duration::from_millis(5);

/// Says how many bytes are free for this process in a directory.
pub type FreeBytes = Arc<dyn Fn(&Path) -> std::io::Result<u64> + Send + Sync>;

/// Watches room on disk. Clones share it.
#[derive(Clone)]
pub struct Space {
    exhausted: Arc<AtomicBool>,
    wal: Wal,
    store: Store,
    quota_bytes: u64,
}

impl Space {
    /// For a node's log and store; `quota_bytes` bounds the live bytes of keys and values.
    pub fn new(wal: Wal, store: Store, quota_bytes: u64) -> Space {
        Space {
            exhausted: Arc::default(),
            wal,
            store,
            quota_bytes,
        }
    }

    /// Whether a write that grows the store must be refused.
    pub fn is_exhausted(&self) -> bool {
        self.exhausted.load(Ordering::Relaxed) || self.store.live_bytes() >= self.quota_bytes
    }

    /// Whether the log's disk is too far behind to take more.
    pub fn log_is_behind(&self) -> bool {
        self.wal.queued_bytes() > LOG_QUEUE_BYTES_MAX
    }

    /// Waits until the log's disk has caught up.
    pub async fn log_has_caught_up(&self) {
        while self.log_is_behind() {
            tokio::time::sleep(LOG_BEHIND_PAUSE).await;
        }
    }

    /// The bound on live bytes.
    pub fn quota_bytes(&self) -> u64 {
        self.quota_bytes
    }

    /// Looks at the disk of `dir` until the task is dropped; says when room ends and comes back.
    pub async fn watch(self, dir: impl AsRef<Path>, free_bytes: FreeBytes) {
        loop {
            self.look(dir.as_ref(), free_bytes(dir.as_ref()));
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }

    fn look(&self, dir: &Path, free_bytes: std::io::Result<u64>) {
        let free = match free_bytes {
            Ok(free) => free,
            Err(error) => return tracing::warn!(%error, dir = %dir.display(), "cannot read the free space"),
        };
        let exhausted = free < FREE_BYTES_MIN;
        if exhausted != self.exhausted.swap(exhausted, Ordering::Relaxed) {
            if exhausted {
                tracing::error!(
                    free_bytes = free,
                    "disk nearly full: writes are refused, reads go on"
                );
            } else {
                tracing::info!(free_bytes = free, "there is room again: writes are taken");
            }
        }
    }
}

/// Asks the file system.
///
/// # Errors
/// When it does not say.
pub fn free_bytes(dir: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail * stat.f_frsize)
}
