//! openraft's state machine over [`kv_store::Store`].
//!
//! Committed entries are applied in batches: one batch of the engine for all entries that are ready,
//! data and applied point together. A full disk is waited for, not died of: the log is the truth, so
//! nothing is lost while this node stands still.

use std::{io, ops::Deref, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use kv_core::{Command, State};
use kv_store::{Fault, PreparedSnapshot, SnapshotView, Store};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
    storage::{ApplyResponder, EntryResponder, RaftStateMachine},
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    transfer::Transfers,
    types::{Applied, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig},
};
use crate::{
    blocking::{elsewhere, may_wait},
    codec,
    lease::{clock::ClusterClock, counts::Counts},
    watch::Hub,
};

/// How many entries are applied in one batch of the engine, at most.
const BATCH_ENTRIES_MAX: usize = 512;
/// How long to wait before a batch that met a full disk is tried again.
const NO_SPACE_RETRY: Duration = Duration::from_millis(500);

/// No leader ever has this one.
const NO_TERM: u64 = 0;

/// What a snapshot is while openraft carries it.
pub enum SnapshotData {
    /// On the sender: a view of the store that does not stop writers.
    View(Arc<SnapshotView>),
    /// On the receiver: received, checked and durable, waiting to become the state.
    Received(Box<PreparedSnapshot>),
}

/// The last applied entry and the membership in force there: stored beside the data, in one batch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RaftPoint {
    /// `None` before the first entry.
    pub last_applied: Option<LogId>,
    /// The last membership entry applied.
    pub membership: StoredMembership,
}

impl RaftPoint {
    /// The point stored in a store; the default one in an empty store.
    ///
    /// # Errors
    /// When it cannot be decoded: the store is of another version or damaged.
    pub fn of(store: &Store) -> Result<RaftPoint, codec::CodecError> {
        store
            .applied()
            .map_or(Ok(RaftPoint::default()), |applied| codec::decode(&applied.raft))
    }

    /// The point as openraft names a snapshot taken there.
    pub fn snapshot_meta(&self) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: self.last_applied,
            last_membership: self.membership.clone(),
        }
    }
}

/// Applies entries to the store.
pub struct StateMachine {
    store: Store,
    hub: Hub,
    point: RaftPoint,
    applied: Arc<watch::Sender<Option<u64>>>,
    clock: ClusterClock,
    leases: Counts,
    transfers: Transfers,
}

impl StateMachine {
    /// Over a store; `hub` is told what is written, `applied` the index of the last applied entry, after it can
    /// be read, and `clock` of stamps. `transfers` are those that get its snapshots.
    ///
    /// # Errors
    /// See [`RaftPoint::of`].
    pub fn new(
        store: Store,
        hub: Hub,
        applied: Arc<watch::Sender<Option<u64>>>,
        clock: ClusterClock,
        transfers: Transfers,
    ) -> Result<StateMachine, codec::CodecError> {
        let point = RaftPoint::of(&store)?;
        applied.send_replace(point.last_applied.map(|id| id.index));
        let machine = StateMachine {
            store,
            hub,
            point,
            applied,
            clock,
            leases: Counts::new(),
            transfers,
        };
        machine.set_clock();
        Ok(machine)
    }

    /// The clock counts on from the store's. Whose stamp that was does not matter: nobody leads yet, or a snapshot
    /// came instead of entries, and then this node does not.
    fn set_clock(&self) {
        self.clock
            .stamped(NO_TERM, self.store.with_state(State::clock_ms));
        self.clock.applied(self.term());
    }

    fn builder(&self) -> Builder {
        Builder {
            store: self.store.clone(),
            transfers: self.transfers.clone(),
        }
    }

    fn term(&self) -> u64 {
        self.point
            .last_applied
            .map_or(NO_TERM, |id| *id.committed_leader_id().deref())
    }

    async fn apply_batch(&mut self, batch: Vec<EntryResponder<TypeConfig>>) -> io::Result<()> {
        let (mut entries, mut responders) =
            (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        let mut stamped = None;
        for (entry, responder) in batch {
            let command = match &entry.payload {
                EntryPayload::Blank => None,
                EntryPayload::Normal(proposal) => Some(proposal.command()?),
                EntryPayload::Membership(membership) => {
                    self.point.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                    None
                }
            };
            self.point.last_applied = Some(entry.log_id);
            if command.as_ref().is_some_and(Command::is_stamped) {
                stamped = Some(self.term());
            }
            responders.push((responder, command.is_some()));
            entries.push((entry.log_id.index, command));
        }
        let kv_store::Applied { outcomes, records } = self.store_batch(&entries).await?;
        assert_eq!(
            outcomes.len(),
            responders.iter().filter(|(_, command)| *command).count()
        );
        if let Some(term) = stamped {
            self.clock.stamped(term, self.store.with_state(State::clock_ms));
        }
        self.clock.applied(self.term());
        self.leases.see(&outcomes);
        // Before anybody is answered: who knows of a write can count on its event.
        self.hub.publish(&records);
        self.applied
            .send_replace(self.point.last_applied.map(|id| id.index));
        respond(responders, outcomes);
        Ok(())
    }

    async fn store_batch(&self, entries: &[kv_store::Entry]) -> io::Result<kv_store::Applied> {
        let raft = codec::encode(&self.point)?;
        loop {
            let apply = || self.store.apply(entries, raft.clone());
            // Telling the runtime costs a thread's wake-up, so only when the disk may be waited for.
            let applied = if self.store.apply_may_block(entries) {
                may_wait(apply)
            } else {
                apply()
            };
            match applied {
                Ok(applied) => return Ok(applied),
                Err(Fault::NoSpace { .. }) => {
                    tracing::warn!("disk full: applying waits until there is room");
                    tokio::time::sleep(NO_SPACE_RETRY).await;
                }
                Err(fault) => return Err(io::Error::other(fault)),
            }
        }
    }
}

fn respond(responders: Vec<(Option<ApplyResponder<TypeConfig>>, bool)>, outcomes: Vec<kv_core::Outcome>) {
    let mut outcomes = outcomes.into_iter();
    for (responder, is_command) in responders {
        let outcome = if is_command { outcomes.next() } else { None };
        if let Some(responder) = responder {
            responder.send(Applied(outcome));
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.point.last_applied, self.point.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut batches = entries.ready_chunks(BATCH_ENTRIES_MAX);
        while let Some(batch) = batches.next().await {
            self.apply_batch(batch.into_iter().collect::<io::Result<_>>()?)
                .await?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.builder()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let SnapshotData::Received(prepared) = snapshot else {
            return Err(io::Error::other(
                "a snapshot must be received before it is installed",
            ));
        };
        may_wait(|| self.store.install(*prepared)).map_err(io::Error::other)?;
        self.hub.replaced(self.store.revision());
        #[cfg(feature = "planted")]
        let before = self.point.membership.clone();
        self.point = RaftPoint::of(&self.store)?;
        #[cfg(feature = "planted")]
        if quorate_planted::is("membership-before-snapshot") {
            self.point.membership = before;
        }
        assert_eq!(
            self.point.last_applied, meta.last_log_id,
            "installed snapshot is not the one announced"
        );
        self.set_clock();
        self.applied
            .send_replace(self.point.last_applied.map(|id| id.index));
        Ok(())
    }

    /// A fresh view each time: what a follower gets is as new as can be, and no file is kept. Only a transfer that broke
    /// off goes on with its own.
    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        if let Some(view) = self.transfers.unfinished() {
            return snapshot_of(view).map(Some);
        }
        if self.point.last_applied.is_none() {
            return Ok(None);
        }
        self.builder().view().await.map(Some)
    }
}

/// Disk work on a thread that may wait for it; a full disk is waited for.
async fn until_there_is_room<T: Send + 'static>(
    work: impl Fn() -> Result<T, Fault> + Clone + Send + 'static,
) -> io::Result<T> {
    loop {
        let done = elsewhere(work.clone()).await.map_err(io::Error::other)?;
        match done {
            Ok(value) => return Ok(value),
            Err(Fault::NoSpace { .. }) => {
                tracing::warn!("disk full: a snapshot waits until there is room");
                tokio::time::sleep(NO_SPACE_RETRY).await;
            }
            Err(fault) => return Err(io::Error::other(fault)),
        }
    }
}

/// "Building" a snapshot makes the applied state durable: the log may be purged up to there.
pub struct Builder {
    store: Store,
    transfers: Transfers,
}

fn snapshot_of(view: Arc<SnapshotView>) -> io::Result<Snapshot> {
    let point: RaftPoint = codec::decode(&view.header().raft)?;
    Ok(Snapshot {
        meta: point.snapshot_meta(),
        snapshot: SnapshotData::View(view),
    })
}

impl Builder {
    async fn view(&self) -> io::Result<Snapshot> {
        let store = self.store.clone();
        snapshot_of(Arc::new(until_there_is_room(move || store.snapshot()).await?))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        self.transfers.all_over().await;
        let snapshot = self.view().await?;
        let store = self.store.clone();
        let durable = until_there_is_room(move || store.sync()).await?;
        assert!(
            Some(durable) >= snapshot.meta.last_log_id.map(|id| id.index),
            "log would be purged too far"
        );
        Ok(snapshot)
    }
}
