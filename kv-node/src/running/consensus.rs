//! Putting consensus together.

use std::{sync::Arc, time::Duration};

use kv_store::Store;
use kv_wal::Wal;
use openraft::{Config as RaftConfig, SnapshotPolicy};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::Running;
use crate::{
    auth::Authenticator,
    bootstrap::control::ControlClient,
    lease::{clock::ClusterClock, renew::Renewer},
    membership::Membership,
    node::{Config, Ids, Inner, Node},
    raft::{
        leader::{Heard, Leadership},
        log_store::{APPEND_ENTRIES_MAX, LogStore},
        network::Network,
        propose::Proposer,
        read_index::ReadIndex,
        state_machine::StateMachine,
        types::Raft,
    },
    space::Space,
    watch::Hub,
};

/// What consensus is put together from.
pub(super) struct Parts {
    pub(super) wal: Wal,
    pub(super) store: Store,
    pub(super) network: Network,
    pub(super) client: ControlClient,
    pub(super) authenticator: Authenticator,
    pub(super) clock: ClusterClock,
}

impl Running {
    /// Starts it. The node serves nobody yet.
    pub(super) async fn start_raft(&self, ids: Ids, parts: Parts) -> anyhow::Result<Node> {
        let Parts {
            wal,
            store,
            network,
            client,
            authenticator,
            clock,
        } = parts;
        let (applied, applied_rx) = watch::channel(None);
        let hub = Hub::new(store.clone());
        let machine = StateMachine::new(
            store.clone(),
            hub.clone(),
            Arc::new(applied),
            clock.clone(),
            network.transfers().clone(),
        )?;
        let config = Arc::new(raft_config(&self.config, ids.cluster_id).validate()?);
        let raft = Raft::new(
            ids.member_id,
            config,
            network.clone(),
            LogStore::new(wal.clone()),
            machine,
        )
        .await?;
        let space = Space::new(wal.clone(), store.clone(), self.config.quota_bytes);
        let timeout = self.config.limits.request_timeout;
        let heard = Heard::now();
        let lease = Duration::from_millis(self.config.election_timeout_ms);
        let leadership = Leadership::new(&raft, heard.clone(), lease);
        let proposer = Proposer::new(
            raft.clone(),
            leadership.clone(),
            network.clone(),
            space.clone(),
            clock.clone(),
            timeout,
        );
        let renewer = Renewer::start(proposer.clone(), timeout);
        let read_index = ReadIndex::start(raft.clone(), leadership.clone(), network, applied_rx);
        let membership = Membership::new(
            ids.cluster_id,
            raft.clone(),
            leadership.clone(),
            client,
            self.config.max_learners,
            self.config.autopilot,
        );
        Ok(Node {
            inner: Arc::new(Inner {
                ids,
                limits: self.config.limits.clone(),
                leadership,
                heard,
                raft,
                wal,
                store,
                authenticator,
                hub,
                watch_progress_interval: self.config.watch_progress_interval,
                leaderless: watch::Sender::new(false),
                proposer,
                read_index,
                clock,
                renewer,
                space,
                membership,
                background: TaskTracker::new(),
                stop: self.stop.clone(),
                refused: watch::Sender::new(None),
            }),
        })
    }
}

fn raft_config(config: &Config, cluster_id: u64) -> RaftConfig {
    RaftConfig {
        cluster_name: format!("{cluster_id:x}"),
        heartbeat_interval: config.heartbeat_interval_ms,
        // openraft takes the longest for the lease of a leader too, and waits for both one after the other.
        election_timeout_min: (config.election_timeout_ms / 3).max(config.heartbeat_interval_ms + 1),
        election_timeout_max: config.election_timeout_ms,
        max_payload_entries: APPEND_ENTRIES_MAX,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot_count),
        max_in_snapshot_log_to_keep: config.snapshot_count,
        purge_batch_size: (config.snapshot_count / 10).max(1),
        // A snapshot takes as long as it takes: the stream has its own signs of life.
        install_snapshot_timeout: 600_000,
        enable_pre_vote: Some(true),
        // A restarted leader is elected again like any other: its store may be behind its log.
        enable_leader_restore: Some(false),
        // A leader that lost its quorum sends heartbeats in phases only, so that others may elect one
        // (openraft #2080). The least that openraft allows: lease and longest election.
        quorum_loss_probe_interval: Some(config.election_timeout_ms * 2),
        backoff: "100ms".to_owned(),
        ..RaftConfig::default()
    }
}
