//! The end of leases: the leader looks which are over, and proposes to end those.

use std::time::Duration;

use kv_core::{Caller, Command, LeaseExpire, State};
use kv_store::Store;
use tokio::time::Instant;

use super::clock::ClusterClock;
use crate::raft::{
    leader::{Leader, Leadership},
    propose::Proposer,
    read_index::ReadIndex,
};

/// Leases that one command ends, at most: all their keys are deleted in one step of the state machine.
const IDS_MAX: usize = 256;
/// The longest pause between two looks. A lease lasts twice that at least, so none is seen late.
const LOOK_INTERVAL: Duration = Duration::from_millis(1000);
/// Pause after an attempt that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// The replicated clock advances at least this often while there are leases, so that little is lost where all nodes
/// stop.
const TICK_MS: u64 = 10_000;
/// How long confirmation and proposal may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Ends leases whose time is over, while this node leads.
pub struct Expiry {
    pub(crate) store: Store,
    pub(crate) clock: ClusterClock,
    pub(crate) leadership: Leadership,
    pub(crate) read_index: ReadIndex,
    pub(crate) proposer: Proposer,
}

/// What there is to do.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    /// Nothing for so long.
    Nothing(Duration),
    /// These leases are over; none says that only the clock is to be told.
    Now(Vec<i64>),
}

impl Expiry {
    /// Runs until it is dropped.
    pub async fn run(mut self) {
        loop {
            if self.leadership.current() != Leader::Here {
                self.leadership.changed(Instant::now() + LOOK_INTERVAL).await;
                continue;
            }
            let now_ms = self.clock.now_ms();
            match self.store.with_state(|state| due(state, now_ms)) {
                Due::Nothing(pause) => tokio::time::sleep(pause).await,
                Due::Now(ids) => {
                    if !self.expire(ids).await {
                        tokio::time::sleep(RETRY_PAUSE).await;
                    }
                }
            }
        }
    }

    async fn expire(&self, ids: Vec<i64>) -> bool {
        let deadline = Instant::now() + TIMEOUT;
        // A leader that was cut off or stood still learns here that it leads no more, or of renewals. Even if it
        // did not, it could not commit anything.
        if self.read_index.barrier(deadline).await.is_err() {
            return false;
        }
        let command = Command::LeaseExpire(LeaseExpire { ids, now_ms: 0 });
        let expired = self
            .proposer
            .propose_here(&command.by(Caller::Node), deadline)
            .await;
        if let Err(error) = &expired {
            tracing::debug!(%error, "leases that are over go on for now");
        }
        expired.is_ok()
    }
}

fn due(state: &State, now_ms: u64) -> Due {
    let over = state.lease_ends().take_while(|(end_ms, _)| *end_ms <= now_ms);
    let ids: Vec<i64> = over.take(IDS_MAX).map(|(_, id)| id).collect();
    let Some((next_ms, _)) = state.lease_ends().next() else {
        return Due::Nothing(LOOK_INTERVAL);
    };
    if !ids.is_empty() || now_ms >= state.clock_ms() + TICK_MS {
        return Due::Now(ids);
    }
    Due::Nothing(Duration::from_millis(next_ms - now_ms).min(LOOK_INTERVAL))
}
