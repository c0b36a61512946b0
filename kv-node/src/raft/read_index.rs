//! ReadIndex (Raft thesis, §6.4), shared: one confirmation of leadership serves all reads that wait.
//!
//! A linearizable read waits until its node has applied everything that was committed when the read
//! arrived. The leader confirms with a round of heartbeats that it still leads; a follower asks the
//! leader for the index, never for the data. While a round is under way, new reads gather for the
//! next: a read must not use a round that began before it arrived.

use std::time::Duration;

use kv_proto::peer::ReadIndexRequest;
use openraft::{ReadPolicy, errors::LinearizableReadError, errors::RaftError};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::{
    leader::{Leader, Leadership},
    network::Network,
    types::Raft,
};
use crate::gather::gather;

/// Reads that may wait on one node at a time; beyond it: `etcdserver: too many requests`.
const PENDING_MAX: usize = 16384;
/// How long reads wait for a leader before they are refused.
const LEADER_WAIT: Duration = Duration::from_millis(2500);
/// How long one confirmation may take before it is tried again.
const ROUND_TIMEOUT: Duration = Duration::from_millis(1000);
/// Pause before the leader is looked for again, unless there is news of it earlier.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Why a read could not be made linearizable. Nothing was changed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadBarrierError {
    /// No leader with a quorum was found in time.
    #[error("no leader")]
    NoLeader,
    /// Too many reads are waiting.
    #[error("too many requests")]
    TooManyRequests,
    /// This node did not catch up in time.
    #[error("request timed out")]
    TimedOut,
    /// The node is stopping.
    #[error("server stopped")]
    Stopped,
}

type Waiter = oneshot::Sender<Result<u64, ReadBarrierError>>;

/// The barrier. Clones share its rounds.
#[derive(Clone)]
pub struct ReadIndex {
    leadership: Leadership,
    queue: mpsc::Sender<Waiter>,
    applied: watch::Receiver<Option<u64>>,
}

impl ReadIndex {
    /// Starts the task that runs the rounds. Must be called inside a tokio runtime.
    pub fn start(
        raft: Raft,
        leadership: Leadership,
        network: Network,
        applied: watch::Receiver<Option<u64>>,
    ) -> ReadIndex {
        let (queue, waiting) = mpsc::channel(PENDING_MAX);
        let rounds = Rounds {
            leadership: leadership.clone(),
            raft,
            network,
        };
        tokio::spawn(rounds.run(waiting));
        ReadIndex {
            leadership,
            queue,
            applied,
        }
    }

    /// Waits until everything committed before the call is applied here.
    ///
    /// # Errors
    /// See [`ReadBarrierError`].
    pub async fn barrier(&self, deadline: Instant) -> Result<(), ReadBarrierError> {
        let index = self.enqueue()?;
        let index = tokio::time::timeout_at(deadline, index)
            .await
            .map_err(|_| ReadBarrierError::TimedOut)?;
        let index = index.map_err(|_| ReadBarrierError::Stopped)??;
        #[cfg(feature = "planted")]
        if quorate_planted::is("read-before-applied") {
            return Ok(());
        }
        if *self.applied.borrow() >= Some(index) {
            return Ok(());
        }
        let mut applied = self.applied.clone();
        match tokio::time::timeout_at(deadline, applied.wait_for(|applied| *applied >= Some(index))).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ReadBarrierError::Stopped),
            Err(_) => Err(ReadBarrierError::TimedOut),
        }
    }

    /// For a follower that asks: the index that a read arriving now must wait for. It shares the rounds
    /// of this node's own reads.
    ///
    /// # Errors
    /// [`ReadBarrierError::NoLeader`] when this node does not lead or cannot reach a quorum.
    pub async fn for_follower(&self) -> Result<u64, ReadBarrierError> {
        let mut leadership = self.leadership.clone();
        let mut index = self.enqueue()?;
        // Not forwarded: two nodes that each take the other for the leader would wait for one another.
        while leadership.current() == Leader::Here {
            tokio::select! {
                index = &mut index => return index.map_err(|_| ReadBarrierError::Stopped)?,
                _ = leadership.changed(Instant::now() + ROUND_TIMEOUT) => {}
            }
        }
        Err(ReadBarrierError::NoLeader)
    }

    fn enqueue(&self) -> Result<oneshot::Receiver<Result<u64, ReadBarrierError>>, ReadBarrierError> {
        let (waiter, index) = oneshot::channel();
        self.queue.try_send(waiter).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ReadBarrierError::TooManyRequests,
            mpsc::error::TrySendError::Closed(_) => ReadBarrierError::Stopped,
        })?;
        Ok(index)
    }
}

async fn confirm(raft: &Raft) -> Result<u64, ReadBarrierError> {
    #[cfg(feature = "planted")]
    if quorate_planted::is("read-without-quorum") {
        use openraft::async_runtime::watch::WatchReceiver;
        let applied = raft.metrics().borrow_watched().last_applied;
        return Ok(applied.map_or(0, |applied| applied.index));
    }
    match raft.get_read_log_id(ReadPolicy::ReadIndex).await {
        Ok((read, _)) => Ok(read.log_id().index),
        Err(RaftError::APIError(
            LinearizableReadError::ForwardToLeader(_) | LinearizableReadError::QuorumNotEnough(_),
        )) => Err(ReadBarrierError::NoLeader),
        Err(RaftError::Fatal(_)) => Err(ReadBarrierError::Stopped),
    }
}

/// The task that confirms leadership for all waiting reads.
struct Rounds {
    raft: Raft,
    leadership: Leadership,
    network: Network,
}

impl Rounds {
    async fn run(mut self, mut waiting: mpsc::Receiver<Waiter>) {
        let mut waiters = Vec::new();
        while gather(&mut waiting, &mut waiters, PENDING_MAX).await {
            let answer = self.round().await;
            #[cfg(feature = "planted")]
            while quorate_planted::is("read-joins-old-round")
                && let Ok(late) = waiting.try_recv()
            {
                waiters.push(late);
            }
            for waiter in waiters.drain(..) {
                // Whoever no longer waits has had its time-out.
                let _ = waiter.send(answer);
            }
        }
    }

    /// One confirmed index, from whoever leads.
    async fn round(&mut self) -> Result<u64, ReadBarrierError> {
        let give_up = Instant::now() + LEADER_WAIT;
        loop {
            let attempt = tokio::time::timeout(ROUND_TIMEOUT, self.attempt()).await;
            match attempt {
                Ok(Ok(index)) => return Ok(index),
                Ok(Err(ReadBarrierError::Stopped)) => return Err(ReadBarrierError::Stopped),
                _ if Instant::now() >= give_up => return Err(ReadBarrierError::NoLeader),
                _ => {
                    self.leadership
                        .changed(give_up.min(Instant::now() + RETRY_PAUSE))
                        .await
                }
            };
        }
    }

    async fn attempt(&self) -> Result<u64, ReadBarrierError> {
        match self.leadership.current() {
            Leader::Here => confirm(&self.raft).await,
            Leader::There(id, member) => {
                let client = self.network.forwarding(id, &member);
                let mut client = client.map_err(|_| ReadBarrierError::NoLeader)?;
                let answer = client.read_index(ReadIndexRequest {}).await;
                answer
                    .map(|response| response.into_inner().index)
                    .map_err(|_| ReadBarrierError::NoLeader)
            }
            Leader::Unknown => Err(ReadBarrierError::NoLeader),
        }
    }
}
