//! Backups: the stream that a running node makes, and the first start of a cluster that is made of one.
//!
//! A backup is a snapshot of the store in the envelope of [`kv_backup`]: the manifest, the snapshot's header, its
//! chunks. It is of one revision, whatever is written meanwhile.
//!
//! To restore it, it is put into the data directory of every founder of a new cluster. Its hash goes into the ids
//! of cluster and members, so that founders without it, or with another one, are not of the same cluster; they
//! find out, and refuse. Each takes the data in before it takes part, as if the first entry of the log, the
//! membership, had brought them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures::Stream;
use kv_backup::{Decoder, Encoder, Manifest, RESTORE_FILE};
use kv_store::{AppliedPoint, Fault, SnapshotHeader, Store};
use openraft::Membership;
use tokio::sync::mpsc;

use crate::{
    codec,
    raft::{
        state_machine::RaftPoint,
        types::{LogId, Member, StoredMembership},
    },
};

/// Bytes of one chunk, about.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that wait for a client that reads slowly.
const QUEUE_CHUNKS: usize = 2;

/// A piece of a backup on its way.
#[derive(Debug)]
pub struct Piece {
    /// The bytes.
    pub bytes: Bytes,
    /// About how many come after it; 0 for the last piece alone.
    pub remaining_bytes: u64,
}

/// The backup of a store as it is now: read by a thread of its own, no faster than it is taken.
pub fn stream(store: Store) -> impl Stream<Item = Result<Piece, Fault>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(QUEUE_CHUNKS);
    tokio::task::spawn_blocking(move || {
        // The receiver is gone when the client is.
        let send = |piece| sender.blocking_send(piece).is_ok();
        if let Err(fault) = write(&store, &mut |piece| send(Ok(piece))) {
            send(Err(fault));
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(receiver)
}

/// Gives the pieces to `send` until it wants no more.
pub(crate) fn write(store: &Store, send: &mut impl FnMut(Piece) -> bool) -> Result<(), Fault> {
    let view = store.snapshot()?;
    let header = view.header();
    let manifest = Manifest {
        release: env!("CARGO_PKG_VERSION").to_owned(),
        cluster_id: header.cluster_id.unwrap_or(0),
        revision: header.revision,
        compacted: header.compacted,
        keys: view.keys() as u64,
    };
    let mut left = header.bytes_estimate;
    let mut piece = |bytes: Vec<u8>, is_last: bool| {
        left = left.saturating_sub(bytes.len() as u64);
        send(Piece {
            bytes: bytes.into(),
            remaining_bytes: if is_last { 0 } else { left.max(1) },
        })
    };
    let (mut encoder, begin) = Encoder::new(&manifest);
    let encoded = codec::encode(header).map_err(|error| Fault::Damaged(error.to_string()))?;
    if !piece(begin, false) || !piece(encoder.frame(&encoded), false) {
        return Ok(());
    }
    for chunk in view.chunks(CHUNK_BYTES) {
        if !piece(encoder.frame(&chunk?), false) {
            return Ok(());
        }
    }
    piece(encoder.finish(), true);
    Ok(())
}

/// A whole backup that lies in a data directory.
#[derive(Debug, Clone)]
pub struct Backup {
    path: PathBuf,
    /// Tells backups apart.
    pub hash: String,
}

impl Backup {
    /// The one in a data directory, if there is one. Reads all of it.
    ///
    /// # Errors
    /// When it cannot be read, or is not as it was written.
    pub fn find(dir: &Path) -> anyhow::Result<Option<Backup>> {
        let path = dir.join(RESTORE_FILE);
        if !path.try_exists().with_context(|| path.display().to_string())? {
            return Ok(None);
        }
        let hash = Backup::hash_of(&path)?;
        Ok(Some(Backup { path, hash }))
    }

    /// The hash of a backup, all of which is read.
    ///
    /// # Errors
    /// As [`Backup::find`].
    pub(crate) fn hash_of(path: &Path) -> anyhow::Result<String> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let (_, hash, _) = kv_backup::check(BufReader::new(file))
            .with_context(|| format!("{} cannot be restored", path.display()))?;
        Ok(hash.to_string())
    }

    /// Makes it the content of an empty store, durably, as what a cluster of these founders begins with.
    ///
    /// # Errors
    /// When the disk refuses, or a newer release made the backup.
    pub fn restore(&self, store: &Store, founders: BTreeMap<u64, Member>) -> anyhow::Result<()> {
        let mut decoder = Decoder::new(BufReader::new(File::open(&self.path)?))?;
        let header = decoder.next()?.context("the backup holds no snapshot")?;
        let header: SnapshotHeader = codec::decode(&header)?;
        let revision = header.revision;
        let first = LogId::new_term_index(0, 0);
        let membership = Membership::new(vec![founders.keys().copied().collect()], founders)?;
        let point = RaftPoint {
            last_applied: Some(first),
            membership: StoredMembership::new(Some(first), membership),
        };
        let point = AppliedPoint {
            index: 0,
            raft: codec::encode(&point)?,
        };
        let mut install = store.begin_restore(header, point)?;
        while let Some(chunk) = decoder.next()? {
            install.push(&chunk.into())?;
        }
        let hash = decoder.hash().map(|hash| hash.to_string());
        ensure!(
            hash.as_ref() == Some(&self.hash),
            "the backup has changed while it was read"
        );
        store.install(install.finish()?)?;
        tracing::info!(revision, hash = self.hash, "the backup is restored");
        Ok(())
    }

    /// Removes it from the data directory: the store has it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove(&self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

/// The token of a static cluster, which its ids are made of, for one that is made of a backup.
pub fn founding_token(token: &str, restored: Option<&str>) -> String {
    match restored {
        Some(hash) => format!("{token} restored from {hash}"),
        None => token.to_owned(),
    }
}
