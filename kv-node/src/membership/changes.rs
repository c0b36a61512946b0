//! What clients ask for, on whichever node they ask: decided and carried out by the leader.

use std::time::Duration;

use openraft::ChangeMembers;
use tokio::time::{Instant, timeout_at};

use super::{
    Membership, Turn, Undone,
    rules::{Change, Refusal, Roster},
};
use crate::{
    bootstrap::control::{ChangeAnswer, ChangeRequest, ControlError},
    node::MemberInfo,
    raft::{
        leader::Leader,
        types::{Member, Standing},
    },
    upkeep,
};

/// Pause before the leader is looked for again, unless there is news of it earlier.
pub(super) const REROUTE_PAUSE: Duration = Duration::from_millis(50);

/// Why a client's change has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// It must not be made. Nothing has changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No leader was found in time. Nothing has changed.
    #[error("no leader")]
    NoLeader,
    /// It may have been made, or may still be.
    #[error("the outcome of the membership change is not known")]
    Unknown,
}

/// A change that was made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Changed {
    /// The member it was about.
    pub id: u64,
    /// All members after it.
    pub members: Vec<MemberInfo>,
}

impl Membership {
    /// Asks the leader to make a change.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn ask(&self, change: Change, deadline: Instant) -> Result<Changed, ChangeError> {
        let request = ChangeRequest {
            cluster_id: self.cluster_id,
            change,
        };
        let mut leadership = self.leadership.clone();
        loop {
            let answer = match leadership.current() {
                Leader::Here => self.change_by(deadline, request.change.clone()).await,
                Leader::There(_, leader) => self.ask_leader(&leader, &request, deadline).await?,
                Leader::Unknown => ChangeAnswer::NotLeader,
            };
            match answer {
                ChangeAnswer::Done(changed) => return Ok(changed),
                ChangeAnswer::Refused(refusal) => return Err(refusal.into()),
                ChangeAnswer::Unknown => return Err(ChangeError::Unknown),
                ChangeAnswer::NotLeader if Instant::now() >= deadline => return Err(ChangeError::NoLeader),
                ChangeAnswer::NotLeader => {
                    leadership
                        .changed(deadline.min(Instant::now() + REROUTE_PAUSE))
                        .await;
                }
            }
        }
    }

    async fn ask_leader(
        &self,
        leader: &Member,
        request: &ChangeRequest,
        deadline: Instant,
    ) -> Result<ChangeAnswer, ChangeError> {
        let Some(at) = leader.peer_urls.first() else {
            return Ok(ChangeAnswer::NotLeader);
        };
        match timeout_at(deadline, self.client.change(at, request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(ControlError::Unreached { .. })) => Ok(ChangeAnswer::NotLeader),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the leader's answer to a membership change is lost");
                Err(ChangeError::Unknown)
            }
            Err(_) => Err(ChangeError::Unknown),
        }
    }

    /// Makes a change, for one who waits no longer than until then.
    async fn change_by(&self, deadline: Instant, change: Change) -> ChangeAnswer {
        // Until its turn comes, nothing of it has happened.
        let Ok(Some(turn)) = timeout_at(deadline, self.begin()).await else {
            return ChangeAnswer::NotLeader;
        };
        // A task of its own: a client that goes away must not stop a change half way.
        let task = tokio::spawn(self.clone().change_in_turn(turn, change));
        match timeout_at(deadline, task).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => ChangeAnswer::Unknown,
        }
    }

    /// Makes a change, if this node leads.
    pub(super) async fn change_here(self, change: Change) -> ChangeAnswer {
        if self.leadership.current() != Leader::Here {
            return ChangeAnswer::NotLeader;
        }
        match self.begin().await {
            Some(turn) => self.change_in_turn(turn, change).await,
            None => ChangeAnswer::NotLeader,
        }
    }

    async fn change_in_turn(self, _turn: Turn, change: Change) -> ChangeAnswer {
        let roster = self.roster();
        let new_id = rand::random::<u64>().max(1);
        if let Err(refusal) = roster.check(&change, new_id) {
            tracing::info!(?change, %refusal, "membership change refused");
            return ChangeAnswer::Refused(refusal);
        }
        let own = *self.raft.node_id();
        if matches!(change, Change::Remove { id } | Change::Leave { id } if id == own) {
            // The next leader removes this node: the one that asks finds it.
            upkeep::hand_over(&self.raft).await;
            return ChangeAnswer::NotLeader;
        }
        tracing::info!(?change, "membership change");
        let removed = match change {
            Change::Remove { id } => self.member(id),
            _ => None,
        };
        let (id, done) = match change {
            Change::Leave { id } => match roster.leave(id) {
                Ok(action) => (id, self.carry_out(action).await),
                Err(refusal) => return ChangeAnswer::Refused(refusal),
            },
            change => {
                let (id, steps) = self.steps(change, new_id, &roster);
                (id, self.change(steps).await)
            }
        };
        match done {
            Ok(()) => {
                if let Some(member) = removed {
                    self.tell_removed(member);
                }
                ChangeAnswer::Done(Changed {
                    id,
                    members: MemberInfo::all(&self.raft),
                })
            }
            Err(Undone::Not) => ChangeAnswer::NotLeader,
            Err(Undone::Unknown(error)) => {
                tracing::warn!(error, "the outcome of a membership change is not known");
                ChangeAnswer::Unknown
            }
        }
    }

    /// A member that was removed hears nothing more from the others. Its clients should not wait until it wonders.
    fn tell_removed(&self, member: Member) {
        let client = self.client.clone();
        tokio::spawn(async move {
            for url in &member.peer_urls {
                if let Err(error) = client.look_again(url).await {
                    tracing::debug!(url, %error, "the removed member is not told");
                }
            }
        });
    }

    /// A change that was checked, in openraft's terms.
    fn steps(&self, change: Change, new_id: u64, roster: &Roster) -> (u64, ChangeMembers<u64, Member>) {
        let with = |id: u64, change: &dyn Fn(&mut Member)| {
            let mut member = self.member(id).unwrap_or_default();
            change(&mut member);
            ChangeMembers::SetNodes([(id, member)].into())
        };
        match change {
            Change::Add {
                mut peer_urls,
                is_learner,
            } => {
                peer_urls.sort();
                let standing = if is_learner {
                    Standing::Learner
                } else {
                    Standing::Voter
                };
                let member = Member {
                    peer_urls,
                    standing,
                    ..Member::default()
                };
                (new_id, ChangeMembers::AddNodes([(new_id, member)].into()))
            }
            Change::Remove { id } | Change::Leave { id } => (id, roster.removal(id).steps(&self.raft)),
            Change::Update { id, peer_urls } => {
                (id, with(id, &|member| member.peer_urls = peer_urls.clone()))
            }
            Change::Promote { id } => {
                let voter = with(id, &|member| member.standing = Standing::Voter);
                let promotion = ChangeMembers::AddVoterIds([id].into());
                (id, ChangeMembers::Batch(vec![voter, promotion]))
            }
        }
    }
}
