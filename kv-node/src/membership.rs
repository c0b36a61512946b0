//! Who belongs to the cluster: letting nodes in, noting new addresses, promoting learners.
//!
//! Only the leader changes the membership, one change at a time: parallel changes could leave a joint
//! configuration behind.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use openraft::{ChangeMembers, Instant as _, ReadPolicy, async_runtime::watch::WatchReceiver};
use tokio::sync::Mutex;

use crate::{
    bootstrap::control::{ControlClient, MemberAnswer, MemberRequest, Members},
    raft::{
        leader::{Leader, Leadership},
        types::{Member, Raft},
    },
};

/// A learner whose log is at most this many entries behind the leader's has caught up.
const CAUGHT_UP_ENTRIES: u64 = 1000;
/// A learner that has not answered for longer may be dead.
const ANSWERED_WITHIN: Duration = Duration::from_millis(600);
/// How often the leader looks for learners to promote.
const PROMOTE_INTERVAL: Duration = Duration::from_millis(250);
/// Pause before a node that is not in yet asks again.
const ANNOUNCE_PAUSE: Duration = Duration::from_millis(250);

/// Changes the membership on behalf of nodes that ask.
#[derive(Clone)]
pub struct Membership {
    raft: Raft,
    leadership: Leadership,
    one_at_a_time: Arc<Mutex<()>>,
}

impl Membership {
    /// Of a running node.
    pub fn new(raft: Raft, leadership: Leadership) -> Membership {
        Membership {
            leadership,
            raft,
            one_at_a_time: Arc::default(),
        }
    }

    async fn change_here(&self, request: MemberRequest) -> MemberAnswer {
        let _one = self.one_at_a_time.lock().await;
        let MemberRequest {
            node_id,
            member,
            join,
            ..
        } = request;
        let known = self.member(node_id);
        let result = match known {
            Some(known) if known == member => return MemberAnswer::Done,
            Some(_) => {
                self.change(ChangeMembers::SetNodes([(node_id, member)].into()))
                    .await
            }
            None if join => {
                tracing::info!(
                    node_id = format!("{node_id:x}"),
                    name = member.name,
                    "a node joins as learner"
                );
                self.change(ChangeMembers::AddNodes([(node_id, member)].into()))
                    .await
            }
            // A leader that was replaced without knowing it may have an old membership.
            None if self.raft.get_read_log_id(ReadPolicy::ReadIndex).await.is_err() => {
                return MemberAnswer::Leader(None);
            }
            None => {
                return MemberAnswer::Refused(format!(
                    "node {node_id:x} is not a member of this cluster (any more): start it with --join and an empty data directory"
                ));
            }
        };
        match result {
            Ok(()) => MemberAnswer::Done,
            Err(error) => {
                tracing::warn!(%error, "membership not changed");
                MemberAnswer::Leader(None)
            }
        }
    }

    fn member(&self, node_id: u64) -> Option<Member> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().get_node(&node_id).cloned()
    }

    async fn change(&self, change: ChangeMembers<u64, Member>) -> Result<(), String> {
        self.raft
            .change_membership(change, true)
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    }

    /// Promotes learners while this node leads, up to `max_voters`, keeping the number of voters odd.
    pub async fn promote(self, max_voters: usize) {
        loop {
            tokio::time::sleep(PROMOTE_INTERVAL).await;
            if self.leadership.current() == Leader::Here {
                self.promote_once(max_voters).await;
            }
        }
    }

    async fn promote_once(&self, max_voters: usize) {
        let _one = self.one_at_a_time.lock().await;
        if self.is_joint() {
            // A leader before this one did not finish a change: until it is finished, two majorities are needed.
            tracing::info!("finishing a membership change");
            if let Err(error) = self.change(ChangeMembers::AddVoterIds(BTreeSet::new())).await {
                tracing::warn!(error, "membership change not finished");
            }
            return;
        }
        let voters: BTreeSet<u64> = self.raft.voter_ids().collect();
        let promoted = choose(voters.len(), &self.caught_up_learners(), max_voters);
        if promoted.is_empty() {
            return;
        }
        let ids: Vec<String> = promoted.iter().map(|id| format!("{id:x}")).collect();
        tracing::info!(
            learners = ids.join(","),
            "learners have caught up and become voters"
        );
        if let Err(error) = self.change(ChangeMembers::AddVoterIds(promoted)).await {
            tracing::warn!(error, "learners not promoted");
        }
    }

    fn is_joint(&self) -> bool {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().get_joint_config().len() > 1
    }

    /// Learners that have the log and answer: a dead one must not become a voter.
    fn caught_up_learners(&self) -> Vec<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let last = metrics.last_log_index.unwrap_or(0);
        let (Some(replication), Some(heartbeat)) = (&metrics.replication, &metrics.heartbeat) else {
            return Vec::new();
        };
        let answers = |id: &u64| match heartbeat.get(id) {
            Some(Some(acked)) => acked.elapsed() < ANSWERED_WITHIN,
            _ => false,
        };
        let membership = metrics.membership_config.membership();
        // A member that lost its data and came back under a new id: until the old one is removed, its vote
        // would be counted twice, once for the dead.
        let doubles = |id: &u64| {
            let same = |a: &Member, b: &Member| a.name == b.name || a.peer_urls == b.peer_urls;
            let voters = membership
                .voter_ids()
                .filter_map(|voter| membership.get_node(&voter));
            membership
                .get_node(id)
                .is_some_and(|member| voters.into_iter().any(|voter| same(voter, member)))
        };
        let learners = membership.learner_ids();
        let behind = |id: &u64| match replication.get(id) {
            Some(Some(matched)) => last.saturating_sub(matched.index),
            _ => u64::MAX,
        };
        learners
            .filter(|id| behind(id) <= CAUGHT_UP_ENTRIES && answers(id) && !doubles(id))
            .collect()
    }
}

/// The learners to promote: as many as fit under `max_voters` and leave the number of voters odd.
fn choose(voters: usize, caught_up: &[u64], max_voters: usize) -> BTreeSet<u64> {
    let room = max_voters.saturating_sub(voters).min(caught_up.len());
    let take = if (voters + room) % 2 == 1 {
        room
    } else {
        room.saturating_sub(1)
    };
    caught_up.iter().take(take).copied().collect()
}

impl Members for Membership {
    fn change(&self, request: MemberRequest) -> BoxFuture<'_, MemberAnswer> {
        Box::pin(async move {
            match self.leadership.current() {
                Leader::Here => self.change_here(request).await,
                Leader::There(_, member) => MemberAnswer::Leader(Some(member)),
                Leader::Unknown => MemberAnswer::Leader(None),
            }
        })
    }
}

/// Makes the cluster know this node under its present name and addresses: once, at each start.
///
/// # Errors
/// When the cluster refuses the node, with the reason.
pub async fn announce(
    client: ControlClient,
    request: MemberRequest,
    ask: Vec<String>,
    membership: Membership,
) -> Result<(), String> {
    let mut round = 0usize;
    let mut stranger = None;
    loop {
        match announce_once(&client, &request, &ask, &membership, round).await {
            Ok(MemberAnswer::Done) => return Ok(()),
            Ok(MemberAnswer::Refused(why)) => return Err(why),
            Ok(MemberAnswer::OtherCluster(other)) => {
                if stranger.replace(other) != Some(other) {
                    tracing::error!(
                        ours = format!("{:x}", request.cluster_id),
                        theirs = format!("{other:x}"),
                        "a peer's address belongs to another cluster: if this is the wrong data directory, give the node its own (--data-dir)"
                    );
                }
            }
            Ok(MemberAnswer::Leader(_)) => {}
            Err(error) => tracing::debug!(error, "not announced yet"),
        }
        round += 1;
        tokio::time::sleep(ANNOUNCE_PAUSE).await;
    }
}

async fn announce_once(
    client: &ControlClient,
    request: &MemberRequest,
    ask: &[String],
    membership: &Membership,
    round: usize,
) -> Result<MemberAnswer, String> {
    let at = match membership.leadership.current() {
        Leader::Here => return Ok(membership.change_here(request.clone()).await),
        Leader::There(_, leader) => leader.peer_urls.first().cloned(),
        Leader::Unknown if ask.is_empty() => None,
        Leader::Unknown => ask.get(round % ask.len()).cloned(),
    };
    let at = at.ok_or("no leader and nobody to ask")?;
    let answer = client
        .members(&at, request)
        .await
        .map_err(|error| error.to_string())?;
    match answer {
        MemberAnswer::Leader(Some(leader)) => {
            let at = leader.peer_urls.first().ok_or("the leader has no address")?;
            client
                .members(at, request)
                .await
                .map_err(|error| error.to_string())
        }
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_number_of_voters_odd() {
        let chosen = |voters, learners: &[u64], max| choose(voters, learners, max).len();
        assert_eq!(chosen(3, &[4], 5), 0);
        assert_eq!(chosen(3, &[4, 5], 5), 2);
        assert_eq!(chosen(3, &[4, 5, 6], 5), 2);
        assert_eq!(chosen(1, &[2], 5), 0);
        assert_eq!(chosen(1, &[2, 3], 5), 2);
        assert_eq!(chosen(2, &[3], 5), 1);
        assert_eq!(chosen(5, &[6, 7], 5), 0);
        assert_eq!(chosen(4, &[5, 6], 5), 1);
    }
}
