//! Leaving and stopping, in an order in which nothing that is under way is lost.

use std::time::Duration;

use tokio::time::Instant;

use super::Running;
use crate::{
    blocking::{elsewhere, may_wait},
    membership::rules::{Change, Refusal},
    node::{ChangeError, Node},
    upkeep,
};

/// How long consensus, and then the disk, may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a node tries to leave before it stops without.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

impl Running {
    /// Leaves the cluster for good, unless that costs its quorum or `--min-voters`: then the node stays a member, and
    /// only stops. `true`: it has left.
    pub async fn leave(&self, node: &Node) -> bool {
        let leave = Change::Leave {
            id: node.identity().member_id,
        };
        let deadline = Instant::now() + LEAVE_TIMEOUT;
        let why = loop {
            match node.change_members(leave.clone(), deadline).await {
                // Whoever is no member any more has left, in an attempt before this one.
                Ok(_) | Err(ChangeError::Refused(Refusal::NotFound)) => break None,
                Err(ChangeError::Unknown) if Instant::now() < deadline => {}
                Err(error) => break Some(error),
            }
        };
        if let Some(why) = why {
            tracing::warn!(%why, "this node does not leave its cluster: it stops, and stays a member");
            return false;
        }
        tracing::info!("this node has left its cluster");
        let noted = may_wait(|| {
            self.local.lock().update(|identity| {
                (identity.removed, identity.left) = (true, true);
            })
        });
        if let Err(error) = noted {
            tracing::warn!(%error, "that it has left is not noted");
        }
        true
    }

    /// Hands leadership over, lets requests finish, then stops consensus and closes the log.
    pub async fn stop(self, node: &Node) {
        upkeep::hand_over(&node.inner.raft).await;
        self.stop.cancel();
        self.client_servers.close();
        self.client_servers.wait().await;
        // Consensus may be waiting for a disk that is full: closing the log frees it then. Its end is awaited by a task
        // that is not given up: openraft panics when others wait for it after the first one has been dropped.
        let raft = node.inner.raft.clone();
        let stopped = tokio::spawn(async move { raft.shutdown().await });
        match tokio::time::timeout(STOP_TIMEOUT, stopped).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!(%error, "consensus did not stop in order"),
            Err(_) => tracing::warn!("consensus does not stop by itself: closing the log under it"),
        }
        self.close().await;
        node.inner.background.close();
        node.inner.background.wait().await;
        let store = node.inner.store.clone();
        let wal = node.inner.wal.clone();
        let closed = elsewhere(move || {
            let synced = store.sync();
            wal.close();
            synced
        });
        match tokio::time::timeout(STOP_TIMEOUT, closed).await {
            Ok(Ok(Ok(_))) => {}
            Ok(Ok(Err(error))) => {
                tracing::warn!(%error, "the store is not synced; the log will make up for it")
            }
            Ok(Err(_)) | Err(_) => tracing::warn!("the disk does not answer; the log will make up for it"),
        }
        tracing::info!("stopped");
    }

    /// Stops everything at once, without a word to the others and without a look at the disk: in a simulation,
    /// what is left of a node that has crashed.
    pub async fn abandon(self, node: Option<Node>) {
        self.stop.cancel();
        self.stop_peers.cancel();
        if let Some(node) = node {
            // It ends with an error where its log has failed under it, and it does end.
            let _ = node.inner.raft.shutdown().await;
        }
    }

    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.stop_peers.cancel();
        for servers in [&self.client_servers, &self.peer_servers] {
            servers.close();
            servers.wait().await;
        }
    }
}
