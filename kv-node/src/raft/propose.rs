//! The way of a write into the log: straight in on the leader, forwarded once from a follower.
//!
//! Every failure says whether the command may have been executed. "Not executed" is claimed only
//! when it is certain: the proposal never reached a leader, or the leader refused it before
//! appending it. Only such a proposal is tried again here.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use kv_core::{Command, Outcome};
use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, time::Instant};

use super::{
    forward::Forwarder,
    leader::{Leader, Leadership},
    network::Network,
    submit::{SubmitError, Submitter},
    types::{Applied, Proposal, Raft},
};
use crate::{lease::clock::ClusterClock, space::Space};

/// Proposals that may wait on one node at a time; beyond it: `etcdserver: too many requests`.
pub const PENDING_MAX: usize = 8192;
/// KiB of proposals that may be under way in a leader; beyond it: the same.
const PENDING_KIB_MAX: usize = 128 << 10;
/// How long a proposal waits for a leader to be elected before it is refused.
const LEADER_WAIT: Duration = Duration::from_millis(2500);
/// Pause before a refused proposal looks for the leader again, unless there is news of it earlier.
const REROUTE_PAUSE: Duration = Duration::from_millis(20);

/// Why a proposal got no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ProposeError {
    /// No leader could be found in time. Not executed.
    #[error("no leader")]
    NoLeader,
    /// Too many proposals are waiting. Not executed.
    #[error("too many requests")]
    TooManyRequests,
    /// The disk or the quota is full. Not executed.
    #[error("database space exceeded")]
    NoSpace,
    /// The node is stopping. Not executed.
    #[error("server stopped")]
    Stopped,
    /// The command is larger than a frame. Not executed.
    #[error("request is too large")]
    TooLarge,
    /// No answer in time: it may be executed, now or later.
    #[error("request timed out")]
    TimedOut,
    /// The leader lost its place after taking the command: it may have been executed.
    #[error("request timed out, possibly due to previous leader failure")]
    LeaderLost,
    /// The connection to the leader broke after the command was sent: it may have been executed.
    #[error("request timed out, possibly due to connection lost")]
    ConnectionLost,
}

impl ProposeError {
    /// Whether the command may have been executed all the same.
    pub fn is_unknown(self) -> bool {
        matches!(
            self,
            ProposeError::TimedOut | ProposeError::LeaderLost | ProposeError::ConnectionLost
        )
    }
}

/// What became of one attempt.
#[derive(Debug, Serialize, Deserialize)]
pub enum Attempt {
    /// Applied, with this outcome.
    Done(Outcome),
    /// Refused before it was appended: there is another leader, or none.
    NotLeader,
    /// Anything else.
    Failed(ProposeError),
}

/// Proposes commands for clients and for other nodes. Clones share it.
#[derive(Clone)]
pub struct Proposer {
    submitter: Submitter,
    leadership: Leadership,
    forwarder: Forwarder,
    pending: Arc<Semaphore>,
    /// KiB of proposals under way in this node's own Raft.
    pending_kib: Arc<Semaphore>,
    space: Space,
    clock: ClusterClock,
    request_timeout: Duration,
}

impl Proposer {
    /// For a running node. Must be called inside a tokio runtime.
    pub fn new(
        raft: Raft,
        leadership: Leadership,
        network: Network,
        space: Space,
        clock: ClusterClock,
        request_timeout: Duration,
    ) -> Proposer {
        Proposer {
            leadership,
            forwarder: Forwarder::new(network, request_timeout),
            pending: Arc::new(Semaphore::new(PENDING_MAX)),
            pending_kib: Arc::new(Semaphore::new(PENDING_KIB_MAX)),
            submitter: Submitter::start(raft),
            space,
            clock,
            request_timeout,
        }
    }

    /// Proposals waiting on this node.
    pub fn pending(&self) -> usize {
        PENDING_MAX - self.pending.available_permits()
    }

    /// Proposes a validated command and waits until it is applied.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose(&self, command: &Command, deadline: Instant) -> Result<Outcome, ProposeError> {
        let _pending = self
            .pending
            .try_acquire()
            .map_err(|_| ProposeError::TooManyRequests)?;
        let proposal = Proposal::new(command).map_err(|_| ProposeError::TooLarge)?;
        let no_leader = Instant::now() + LEADER_WAIT;
        let mut leadership = self.leadership.clone();
        loop {
            let attempt = match leadership.current() {
                Leader::Here => self.here(proposal.clone(), command, deadline).await,
                Leader::There(id, member) => {
                    self.forwarder
                        .forward(id, &member, proposal.encoded.clone(), deadline)
                        .await
                }
                Leader::Unknown => Attempt::NotLeader,
            };
            match attempt {
                Attempt::Done(outcome) => return Ok(outcome),
                Attempt::Failed(error) => return Err(error),
                Attempt::NotLeader if Instant::now() >= no_leader.min(deadline) => {
                    return Err(ProposeError::NoLeader);
                }
                Attempt::NotLeader => {
                    leadership
                        .changed(deadline.min(Instant::now() + REROUTE_PAUSE))
                        .await;
                }
            }
        }
    }

    /// Proposes a validated command as leader, or not at all.
    ///
    /// # Errors
    /// As [`Proposer::propose`]; [`ProposeError::NoLeader`] where this node does not lead.
    pub async fn propose_here(&self, command: &Command, deadline: Instant) -> Result<Outcome, ProposeError> {
        let proposal = Proposal::new(command).map_err(|_| ProposeError::TooLarge)?;
        match self.here(proposal, command, deadline).await {
            Attempt::Done(outcome) => Ok(outcome),
            Attempt::NotLeader => Err(ProposeError::NoLeader),
            Attempt::Failed(error) => Err(error),
        }
    }

    /// Proposes to this node's own Raft; it refuses unless it leads with a quorum.
    async fn here(&self, proposal: Proposal, command: &Command, deadline: Instant) -> Attempt {
        if command.grows() && self.space.is_exhausted() {
            return Attempt::Failed(ProposeError::NoSpace);
        }
        // Bytes count as well as proposals: few large ones fill the log's queue as many small ones do.
        let kib = u32::try_from(proposal.encoded.len() / 1024 + 1).unwrap_or(u32::MAX);
        let Ok(_bytes) = self.pending_kib.try_acquire_many(kib) else {
            return Attempt::Failed(ProposeError::TooManyRequests);
        };
        if self.space.log_is_behind() {
            return Attempt::Failed(ProposeError::TooManyRequests);
        }
        match tokio::time::timeout_at(deadline, self.submit(proposal, command)).await {
            Ok(Ok(Applied(Some(outcome)))) => Attempt::Done(outcome),
            Ok(Ok(Applied(None))) => unreachable!("a command has an outcome"),
            Ok(Err(SubmitError::NotLeader)) => Attempt::NotLeader,
            Ok(Err(SubmitError::Stopped)) => Attempt::Failed(ProposeError::Stopped),
            #[cfg(feature = "planted")]
            Ok(Err(SubmitError::Lost)) if quorate_planted::is("unknown-told-as-failed") => {
                Attempt::Failed(ProposeError::NoLeader)
            }
            Ok(Err(SubmitError::Lost)) => Attempt::Failed(ProposeError::LeaderLost),
            Err(_) => Attempt::Failed(ProposeError::TimedOut),
        }
    }

    async fn submit(&self, proposal: Proposal, command: &Command) -> Result<Applied, SubmitError> {
        if !command.is_stamped() {
            return self.submitter.submit(proposal).await;
        }
        let term = self.leadership.own_term().ok_or(SubmitError::NotLeader)?;
        let stamp = self.clock.stamp(term).ok_or(SubmitError::NotLeader)?;
        let mut command = command.clone();
        command.stamp(stamp);
        let proposal = Proposal::new(&command).map_err(|_| SubmitError::NotLeader)?;
        self.submitter.submit_in_term(proposal, term).await
    }

    /// Proposes what another node forwarded; answers in the same order.
    pub async fn propose_forwarded(&self, commands: Vec<Bytes>) -> Vec<Attempt> {
        let deadline = Instant::now() + self.request_timeout;
        let attempts = commands.into_iter().map(|encoded| async move {
            let Ok(_pending) = self.pending.try_acquire() else {
                return Attempt::Failed(ProposeError::TooManyRequests);
            };
            // What cannot be decoded must not reach the log, where every node would stop at it.
            let proposal = Proposal { encoded };
            let Ok(command) = proposal.command() else {
                return Attempt::Failed(ProposeError::TooLarge);
            };
            self.here(proposal, &command, deadline).await
        });
        futures::future::join_all(attempts).await
    }
}
