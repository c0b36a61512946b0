//! Renewals on their way into the log: all that wait on a node in one command.
//!
//! A keepalive is a write, so that whoever leads next knows of it. While one command is under way, new
//! renewals gather for the next, so that thousands of leases cost some commands a second.

use std::collections::BTreeMap;

use kv_core::{Caller, Command, LeaseRenew, Outcome, Response};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Duration, Instant},
};

use crate::{
    gather::gather,
    raft::propose::{ProposeError, Proposer},
};

/// Renewals that may wait on one node; beyond it: `etcdserver: too many requests`.
pub const PENDING_MAX: usize = 16384;
/// Leases in one command, at most.
const IDS_MAX: usize = 4096;

/// TTL in seconds; 0 where there is no such lease.
type Renewed = Result<i64, ProposeError>;

struct Waiting {
    id: i64,
    answer: oneshot::Sender<Renewed>,
}

/// Renews leases. Clones share its rounds.
#[derive(Clone)]
pub struct Renewer {
    queue: mpsc::Sender<Waiting>,
}

impl Renewer {
    /// Starts the task that makes the rounds. Must be called inside a tokio runtime. A round has `timeout`.
    pub fn start(proposer: Proposer, timeout: Duration) -> Renewer {
        let (queue, waiting) = mpsc::channel(PENDING_MAX);
        tokio::spawn(run(proposer, timeout, waiting));
        Renewer { queue }
    }

    /// Starts the lease's TTL anew; its TTL in seconds, or 0 where there is no such lease.
    ///
    /// # Errors
    /// See [`ProposeError`]: where that leaves it open, the lease may be renewed.
    pub async fn renew(&self, id: i64) -> Result<i64, ProposeError> {
        let (answer, renewed) = oneshot::channel();
        self.queue
            .try_send(Waiting { id, answer })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => ProposeError::TooManyRequests,
                mpsc::error::TrySendError::Closed(_) => ProposeError::Stopped,
            })?;
        renewed.await.unwrap_or(Err(ProposeError::Stopped))
    }
}

async fn run(proposer: Proposer, timeout: Duration, mut queue: mpsc::Receiver<Waiting>) {
    let mut round = Vec::new();
    while gather(&mut queue, &mut round, IDS_MAX).await {
        // Whoever stopped waiting need not be renewed for.
        round.retain(|waiting| !waiting.answer.is_closed());
        // Each lease once, however many wait for it.
        let mut ids: Vec<i64> = round.iter().map(|waiting| waiting.id).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            continue;
        }
        let renewed = renew(&proposer, ids, timeout).await;
        for Waiting { id, answer } in round.drain(..) {
            let ttl_s = match &renewed {
                Ok(ttls_s) => Ok(ttls_s.get(&id).copied().unwrap_or(0)),
                Err(error) => Err(*error),
            };
            // Whoever no longer waits has gone.
            let _ = answer.send(ttl_s);
        }
    }
}

async fn renew(
    proposer: &Proposer,
    ids: Vec<i64>,
    timeout: Duration,
) -> Result<BTreeMap<i64, i64>, ProposeError> {
    // Who may renew which lease was asked when the renewal came in.
    let command = Command::LeaseRenew(LeaseRenew {
        ids: ids.clone(),
        now_ms: 0,
    });
    let Outcome { result, .. } = proposer
        .propose(&command.by(Caller::Node), Instant::now() + timeout)
        .await?;
    match result {
        Ok(Response::LeaseRenew { ttls_s }) if ttls_s.len() == ids.len() => {
            Ok(ids.into_iter().zip(ttls_s).collect())
        }
        // A leader of another version.
        result => {
            tracing::error!(?result, "the answer does not fit a renewal");
            Err(ProposeError::ConnectionLost)
        }
    }
}
