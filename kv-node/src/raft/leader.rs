//! Who leads, as this node knows it.

use openraft::{
    alias::WatchReceiverOf, async_runtime::watch::WatchReceiver, metrics::RaftServerMetrics,
};
use tokio::time::Instant;

use super::types::{Member, Raft, TypeConfig};

/// Where a request for the leader has to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leader {
    /// This node leads, or thinks so: every use of that is confirmed by a quorum.
    Here,
    /// Another node does.
    There(u64, Member),
    /// There is an election, or no quorum.
    Unknown,
}

/// Follows the leader.
#[derive(Clone)]
pub struct Leadership {
    node_id: u64,
    metrics: WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>,
}

impl Leadership {
    /// Of a running node.
    pub fn of(raft: &Raft) -> Leadership {
        Leadership { node_id: *raft.node_id(), metrics: raft.server_metrics() }
    }

    /// The leader now.
    pub fn current(&self) -> Leader {
        let metrics = self.metrics.borrow_watched();
        match metrics.current_leader {
            None => Leader::Unknown,
            Some(id) if id == self.node_id => Leader::Here,
            Some(id) => match metrics.membership_config.membership().get_node(&id) {
                Some(member) => Leader::There(id, member.clone()),
                None => Leader::Unknown,
            },
        }
    }

    /// Waits until there is news of leader or membership, or until `deadline`; `false` at the deadline.
    pub async fn changed(&mut self, deadline: Instant) -> bool {
        matches!(tokio::time::timeout_at(deadline, self.metrics.changed()).await, Ok(Ok(())))
    }
}
