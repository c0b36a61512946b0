//! openraft's own suite for log storage, on our log.
//!
//! The suite also drives a state machine, with entries that leave gaps. Ours refuses gaps, as openraft
//! never makes one; so the suite gets a plain one.

// A test ends at the first thing that is not as it should be, in its helpers too.
#![allow(clippy::unwrap_used)]

use std::{io, sync::Arc};

use futures::{Stream, TryStreamExt};
use kv_node::raft::{
    log_store::LogStore,
    types::{Applied, LogId, SnapshotMeta, StoredMembership, TypeConfig},
};
use kv_wal::{Options, Wal, sim::SimDisk};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageError,
    storage::{EntryResponder, RaftStateMachine},
    testing::log::{StoreBuilder, Suite},
};
use parking_lot::Mutex;

type Snapshot = openraft::alias::SnapshotOf<TypeConfig, ()>;

#[derive(Clone, Default)]
struct Plain {
    applied: Option<LogId>,
    membership: StoredMembership,
    /// Shared with the builder, as the snapshot it builds is the state machine's from then on.
    snapshot: Arc<Mutex<Option<SnapshotMeta>>>,
}

impl RaftSnapshotBuilder<TypeConfig> for Plain {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
        };
        *self.snapshot.lock() = Some(meta.clone());
        Ok(Snapshot { meta, snapshot: () })
    }
}

impl RaftStateMachine<TypeConfig> for Plain {
    type SnapshotData = ();
    type SnapshotBuilder = Plain;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            self.applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            if let Some(responder) = responder {
                responder.send(Applied(None));
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Plain {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, (): ()) -> io::Result<()> {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        *self.snapshot.lock() = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        Ok(self
            .snapshot
            .lock()
            .clone()
            .map(|meta| Snapshot { meta, snapshot: () }))
    }
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, Plain> for Builder {
    async fn build(&self) -> Result<((), LogStore, Plain), StorageError<TypeConfig>> {
        let (wal, _) = Wal::open(Arc::new(SimDisk::new()), Options::default()).unwrap();
        Ok(((), LogStore::new(wal), Plain::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_openrafts_suite() {
    Suite::test_all(Builder).await.unwrap();
}
