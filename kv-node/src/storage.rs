//! Opens a node's log and store and brings them together.
//!
//! The log is the truth. A store that is damaged or missing is set aside and rebuilt: from the log,
//! or, where the log no longer reaches back far enough, from a peer's snapshot first. That is safe
//! because the log itself is whole: the node still knows everything that it promised. A damaged log
//! is another matter: the node refuses to start.

use std::{io, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use futures::StreamExt;
use kv_proto::peer::FetchSnapshotRequest;
use kv_store::{SnapshotHeader, Store};
use kv_wal::{RealDisk, SyncObserver, Wal};
use tokio::sync::watch;

use crate::{
    blocking::elsewhere,
    codec,
    identity::Identity,
    node::OpenLog,
    raft::{log_store::durable, network::Network, receive, state_machine::RaftPoint},
};

/// Memory for recent log entries that followers and the state machine still need.
const LOG_CACHE_BYTES: usize = 8 << 20;
/// Pause before the peers are asked again for a snapshot.
const FETCH_PAUSE: Duration = Duration::from_millis(500);

const LOG_MISSING: &str = "the log of this node is missing: what it promised to the others is lost. \
    Remove the member and start it with --join and an empty data directory";

/// Opens a log in a directory of the file system, which is made if it is missing.
///
/// # Errors
/// When the directory refuses, and see [`kv_wal::OpenError`].
pub fn open_log_in(dir: &Path, options: kv_wal::Options) -> anyhow::Result<(Wal, kv_wal::Recovery)> {
    Ok(Wal::open(Arc::new(RealDisk::new(dir)?), options)?)
}

/// Opens the log of a node.
///
/// # Errors
/// When it is missing though there was one, damaged before its tail, or of a newer version.
pub fn open_log(
    open: &OpenLog,
    dir: &Path,
    identity: &Identity,
    on_sync: SyncObserver,
) -> anyhow::Result<Wal> {
    let options = kv_wal::Options {
        log_id: identity.node_id,
        cache_bytes: LOG_CACHE_BYTES,
        max_record_bytes: codec::MAX_FRAME_BYTES / 2,
        on_sync: Some(on_sync),
        // Raft's log cannot refuse an entry: whoever fills it is held back, see `Space::log_is_behind`.
        queue_bytes: usize::MAX,
        ..kv_wal::Options::default()
    };
    let (wal, found) = open(dir, options)?;
    ensure!(!(found.created && identity.log_created), LOG_MISSING);
    tracing::info!(
        segments = found.segments,
        entries = found.entries,
        took_ms = found.duration.as_millis() as u64,
        "log opened"
    );
    if let Some(torn) = found.torn {
        tracing::warn!(
            segment = torn.segment,
            offset = torn.offset,
            bytes = torn.bytes,
            "cut off a write that a crash left incomplete"
        );
    }
    Ok(wal)
}

/// Opens the store; a damaged one is set aside and an empty one takes its place.
///
/// # Errors
/// When the store is locked, of another cluster or a newer version, or its directory refuses.
pub fn open_store(dir: &Path, cluster_id: u64) -> anyhow::Result<Store> {
    let options = kv_store::Options {
        cluster_id: Some(cluster_id),
        ..kv_store::Options::default()
    };
    match Store::open(dir, options.clone()) {
        Ok(store) => Ok(store),
        Err(kv_store::OpenError::Damaged { .. }) => {
            let aside = Store::set_aside(dir).context("cannot set the damaged store aside")?;
            tracing::error!(kept_at = %aside.display(), "the store is damaged: it is set aside and rebuilt");
            Ok(Store::open(dir, options)?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Checks that log and store belong together, and fetches from the peers what neither has.
///
/// # Errors
/// When the log is missing while the store is not.
pub async fn reconcile(
    wal: &Wal,
    store: &Store,
    identity: &Identity,
    network: &Network,
    progress: &watch::Sender<String>,
) -> anyhow::Result<()> {
    let applied = RaftPoint::of(store)?.last_applied.map(|id| id.index);
    ensure!(
        applied.is_none() || wal.last().is_some() || wal.vote().is_some() || identity.restored.is_some(),
        LOG_MISSING
    );
    let purged = wal.purged().map(|position| position.index);
    if purged <= applied {
        return Ok(());
    }
    tracing::error!(
        ?applied,
        ?purged,
        "the store is behind the start of the log: rebuilding it from a peer's snapshot"
    );
    progress.send_replace("rebuilding the store from a peer's snapshot".to_owned());
    loop {
        for (id, member) in identity.members.iter().filter(|(id, _)| **id != identity.node_id) {
            match fetch(store, network, *id, member, purged).await {
                Ok(()) => return drop_conflicting(wal, store).await,
                Err(error) => tracing::warn!(
                    peer = member.name,
                    error = format!("{error:#}"),
                    "no snapshot from this peer"
                ),
            }
        }
        tokio::time::sleep(FETCH_PAUSE).await;
    }
}

/// Drops entries that the fetched state proves were never committed: a different one is, at their index.
async fn drop_conflicting(wal: &Wal, store: &Store) -> anyhow::Result<()> {
    let Some(last) = RaftPoint::of(store)?.last_applied else {
        return Ok(());
    };
    let ours = wal.position(last.index).map(|position| position.term);
    if ours.is_some_and(|term| term != **last.committed_leader_id()) {
        durable(|done| wal.truncate_after(last.index.checked_sub(1), done)).await?;
    }
    Ok(())
}

async fn fetch(
    store: &Store,
    network: &Network,
    id: u64,
    member: &crate::raft::types::Member,
    purged: Option<u64>,
) -> anyhow::Result<()> {
    let mut client = network.connect(id, member)?;
    let mut frames = client.fetch_snapshot(FetchSnapshotRequest {}).await?.into_inner();
    let first = frames.next().await.context("empty snapshot")??;
    let header: SnapshotHeader = codec::decode(&first.payload)?;
    ensure!(
        Some(header.index) >= purged,
        "its state is older than the start of our log"
    );
    let index = header.index;
    let prepared = Box::pin(receive::receive(store, header, frames)).await?;
    let store = store.clone();
    elsewhere(move || store.install(prepared))
        .await
        .map_err(io::Error::other)??;
    tracing::info!(peer = member.name, index, "store rebuilt from a peer's snapshot");
    Ok(())
}
