//! Who belongs to the cluster: letting nodes in, noting new addresses, carrying out what clients ask for.
//!
//! Only the leader changes the membership, one change at a time: parallel changes could leave a joint
//! configuration behind. What a leader before it left half done is finished first: a change of voters is
//! made with `retain` off, so that whoever was to go does go.
//!
//! | file | what |
//! | --- | --- |
//! | `rules` | what may change: decisions alone |
//! | `changes` | what clients ask for, on whichever node they ask |
//! | `promote` | learners that become voters by themselves |
//! | `announce` | making the cluster know this node, and finding out that it was removed |

mod announce;
pub mod changes;
mod promote;
pub mod rules;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use openraft::{
    ChangeMembers, Instant as _, ReadPolicy,
    async_runtime::watch::WatchReceiver,
    errors::{ChangeMembershipError, ClientWriteError, RaftError},
};
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    bootstrap::control::{ChangeAnswer, ControlClient, MemberAnswer, MemberRequest, Members},
    raft::{
        leader::{Leader, Leadership},
        types::{Member, Raft},
    },
};

pub use announce::{Announced, Refused};
pub use changes::{ChangeError, Changed};
use rules::{Change, Place, Roster};

/// A learner whose log is at most this many entries behind the leader's has caught up.
const CAUGHT_UP_ENTRIES: u64 = 1000;
/// A member that has not answered for longer may be dead.
const ANSWERED_WITHIN: Duration = Duration::from_millis(600);

/// Changes the membership on behalf of nodes and clients that ask. Clones share it.
#[derive(Clone)]
pub struct Membership {
    cluster_id: u64,
    raft: Raft,
    leadership: Leadership,
    client: ControlClient,
    learners_max: usize,
    one_at_a_time: Arc<Mutex<()>>,
}

/// Why a change was not made.
enum Undone {
    /// Certainly not made: this node does not lead, or another change is under way.
    Not,
    /// It may have been made, or may still be.
    Unknown(String),
}

impl Membership {
    /// Of a running node; clients may add `learners_max` learners.
    pub fn new(
        cluster_id: u64,
        raft: Raft,
        leadership: Leadership,
        client: ControlClient,
        learners_max: usize,
    ) -> Membership {
        Membership {
            cluster_id,
            raft,
            leadership,
            client,
            learners_max,
            one_at_a_time: Arc::default(),
        }
    }

    /// The right to change the membership, once nothing of an earlier change is left to do. `None`: this node
    /// does not lead with a quorum.
    async fn begin(&self) -> Option<MutexGuard<'_, ()>> {
        let one = self.one_at_a_time.lock().await;
        // A leader that was replaced without knowing it may have an old membership.
        self.raft.get_read_log_id(ReadPolicy::ReadIndex).await.ok()?;
        if self.is_joint() {
            tracing::info!("finishing a membership change");
            self.change(ChangeMembers::AddVoterIds(BTreeSet::new()))
                .await
                .ok()?;
        }
        Some(one)
    }

    /// On the leader: lets a node in, or notes its name and addresses.
    async fn admit(&self, request: MemberRequest) -> MemberAnswer {
        let Some(_one) = self.begin().await else {
            return MemberAnswer::Leader(None);
        };
        let MemberRequest {
            node_id,
            mut member,
            join,
            ..
        } = request;
        let change = match self.member(node_id) {
            Some(known) if known.is_started() && known.claim != member.claim => {
                return MemberAnswer::Refused(format!(
                    "member {node_id:x} has been started before, with a data directory that this node does not have: \
                     remove the member and add it again"
                ));
            }
            Some(known) => {
                member.standing = known.standing;
                if known == member {
                    return MemberAnswer::Done;
                }
                ChangeMembers::SetNodes([(node_id, member)].into())
            }
            None if join => self.newcomer(node_id, member),
            None => return MemberAnswer::Removed,
        };
        match self.change(change).await {
            Ok(()) => MemberAnswer::Done,
            Err(Undone::Not) => MemberAnswer::Leader(None),
            Err(Undone::Unknown(error)) => {
                tracing::warn!(error, "membership not changed");
                MemberAnswer::Leader(None)
            }
        }
    }

    /// A node that comes by itself; it takes the place that a client made for its address, if there is one.
    fn newcomer(&self, node_id: u64, mut member: Member) -> ChangeMembers<u64, Member> {
        tracing::info!(
            node_id = format!("{node_id:x}"),
            name = member.name,
            "a node joins as learner"
        );
        let mut changes = Vec::new();
        if let Some((place, made)) = self.unstarted_at(&member.peer_urls) {
            member.standing = made.standing;
            changes.push(ChangeMembers::RemoveNodes([place].into()));
        }
        changes.push(ChangeMembers::AddNodes([(node_id, member)].into()));
        ChangeMembers::Batch(changes)
    }

    fn unstarted_at(&self, peer_urls: &[String]) -> Option<(u64, Member)> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let mut nodes = metrics.membership_config.membership().nodes();
        nodes
            .find(|(_, member)| !member.is_started() && member.shares_url(peer_urls))
            .map(|(id, member)| (*id, member.clone()))
    }

    fn member(&self, node_id: u64) -> Option<Member> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().get_node(&node_id).cloned()
    }

    async fn change(&self, change: ChangeMembers<u64, Member>) -> Result<(), Undone> {
        use ChangeMembershipError as Refused;
        match self.raft.change_membership(change, false).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                Refused::InProgress(_) | Refused::UncommittedLeaderLog(_),
            ))) => Err(Undone::Not),
            Err(error) => Err(Undone::Unknown(error.to_string())),
        }
    }

    fn is_joint(&self) -> bool {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().get_joint_config().len() > 1
    }

    /// The members as this leader sees them.
    fn roster(&self) -> Roster {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let last = metrics.last_log_index.unwrap_or(0);
        let answers = |id: &u64| {
            let heard = metrics.heartbeat.as_ref().and_then(|heard| heard.get(id));
            matches!(heard, Some(Some(acked)) if acked.elapsed() < ANSWERED_WITHIN)
        };
        let behind = |id: &u64| {
            let matched = metrics.replication.as_ref().and_then(|matched| matched.get(id));
            match matched {
                Some(Some(matched)) => last.saturating_sub(matched.index),
                _ => u64::MAX,
            }
        };
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let place = |(id, member): (&u64, &Member)| {
            let place = Place {
                member: member.clone(),
                votes: voters.contains(id),
                answers: *id == metrics.id || answers(id),
                is_in_sync: *id == metrics.id || behind(id) <= CAUGHT_UP_ENTRIES,
            };
            (*id, place)
        };
        Roster {
            places: membership.nodes().map(place).collect(),
            learners_max: self.learners_max,
        }
    }
}

impl Members for Membership {
    fn admit(&self, request: MemberRequest) -> BoxFuture<'_, MemberAnswer> {
        Box::pin(async move {
            match self.leadership.current() {
                Leader::Here => Membership::admit(self, request).await,
                Leader::There(_, member) => MemberAnswer::Leader(Some(member)),
                Leader::Unknown => MemberAnswer::Leader(None),
            }
        })
    }

    fn change(&self, change: Change) -> BoxFuture<'_, ChangeAnswer> {
        let membership = self.clone();
        Box::pin(membership.change_here(change))
    }
}
