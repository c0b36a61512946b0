//! Who leads, as this node knows it.
//!
//! openraft goes on naming a leader that has died until another is elected, which without a quorum is
//! never. So this node also looks at the signs of life: a follower at when it last heard from the leader, a
//! leader at when a quorum last answered it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use openraft::{
    Instant as _, RaftMetrics, ServerState, alias::WatchReceiverOf, async_runtime::watch::WatchReceiver,
    metrics::RaftServerMetrics,
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

/// When this node last heard from a leader. Clones share it.
#[derive(Clone)]
pub struct Heard {
    started: Instant,
    at_ms: Arc<AtomicU64>,
}

impl Heard {
    /// As if a leader had been heard just now.
    pub fn now() -> Heard {
        Heard {
            started: Instant::now(),
            at_ms: Arc::default(),
        }
    }

    /// Notes a sign of life.
    pub fn note(&self) {
        let now = self.started.elapsed().as_millis() as u64;
        self.at_ms.store(now, Ordering::Relaxed);
    }

    /// How long ago the last one was.
    pub fn ago(&self) -> Duration {
        self.started
            .elapsed()
            .saturating_sub(Duration::from_millis(self.at_ms.load(Ordering::Relaxed)))
    }
}

/// Follows the leader.
#[derive(Clone)]
pub struct Leadership {
    node_id: u64,
    metrics: WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>,
    heard: Heard,
    /// A leader silent for longer counts as none.
    patience: Duration,
}

impl Leadership {
    /// Of a running node. `lease` is how long openraft itself believes in a silent leader.
    pub fn new(raft: &Raft, heard: Heard, lease: Duration) -> Leadership {
        Leadership {
            node_id: *raft.node_id(),
            metrics: raft.server_metrics(),
            heard,
            patience: lease * 2,
        }
    }

    /// The leader now.
    pub fn current(&self) -> Leader {
        let metrics = self.metrics.borrow_watched();
        match metrics.current_leader {
            None => Leader::Unknown,
            Some(id) if id == self.node_id => {
                if leads(&metrics) {
                    Leader::Here
                } else {
                    Leader::Unknown
                }
            }
            Some(_) if self.heard.ago() > self.patience => Leader::Unknown,
            Some(id) => match metrics.membership_config.membership().get_node(&id) {
                Some(member) => Leader::There(id, member.clone()),
                None => Leader::Unknown,
            },
        }
    }

    /// The term in which this node leads, if it does.
    pub fn own_term(&self) -> Option<u64> {
        let metrics = self.metrics.borrow_watched();
        leads(&metrics).then_some(metrics.vote.leader_id.term)
    }

    /// The leader's id, if there are signs of life of it.
    pub fn alive(&self, metrics: &RaftMetrics<TypeConfig>) -> Option<u64> {
        let silent = if metrics.state == ServerState::Leader {
            let alone = metrics.membership_config.membership().voter_ids().count() == 1;
            !alone
                && metrics
                    .last_quorum_acked
                    .as_ref()
                    .is_none_or(|acked| acked.elapsed() > self.patience)
        } else {
            self.heard.ago() > self.patience
        };
        metrics.current_leader.filter(|_| !silent)
    }

    /// Waits until there is news of leader or membership, or until `deadline`; `false` at the deadline.
    pub async fn changed(&mut self, deadline: Instant) -> bool {
        match tokio::time::timeout_at(deadline, self.metrics.changed()).await {
            Ok(Ok(())) => true,
            // Raft has stopped. There will be no news, and who asks again and again must not do so without a pause.
            Ok(Err(_)) => {
                tokio::time::sleep_until(deadline).await;
                false
            }
            Err(_) => false,
        }
    }
}

/// Whether a node leads. openraft goes on naming one that stepped down because it was removed, as its vote is still the
/// last that it knows.
fn leads(metrics: &RaftServerMetrics<TypeConfig>) -> bool {
    metrics.state == ServerState::Leader
}
