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
//! | `autopilot` | what the leader changes of its own accord: decisions alone |
//! | `health` | for how long members have been silent, as a leader counts it |
//! | `pilot` | carrying that out |
//! | `report` | telling of it |
//! | `announce` | making the cluster know this node, and finding out that it was removed |

mod announce;
pub mod autopilot;
pub mod changes;
mod health;
mod pilot;
pub mod report;
pub mod rules;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use openraft::{
    ChangeMembers, Instant as _, RaftMetrics, ReadPolicy,
    async_runtime::watch::WatchReceiver,
    errors::{ChangeMembershipError, ClientWriteError, RaftError},
    metrics::RaftServerMetrics,
};
use tokio::{
    sync::{Mutex, Notify, OwnedMutexGuard},
    time::Instant,
};

use crate::{
    bootstrap::control::{ChangeAnswer, ControlClient, MemberAnswer, MemberRequest, Members, Speaks},
    raft::{
        leader::{Leader, Leadership},
        types::{LogId, Member, Raft, TypeConfig},
    },
};

pub use announce::{Announced, Refused};
use autopilot::Policy;
pub use changes::{ChangeError, Changed};
use health::Health;
use pilot::Decisions;
use report::Report;
use rules::{Change, Place, Roster};

/// A learner whose log is at most this many entries behind the leader's has caught up.
const CAUGHT_UP_ENTRIES: u64 = 1000;
/// A member that has not answered for longer may be dead.
const ANSWERED_WITHIN: Duration = Duration::from_millis(600);
/// A member whose machine comes back as another one has stopped answering for so long by then.
const NAMESAKE_SILENT_WITHIN: Duration = Duration::from_secs(2);

/// How long a change waits until the one before it is committed.
const COMMITTED_WITHIN: Duration = Duration::from_secs(2);

/// Changes the membership on behalf of nodes and clients that ask. Clones share it.
#[derive(Clone)]
pub struct Membership {
    cluster_id: u64,
    raft: Raft,
    leadership: Leadership,
    client: ControlClient,
    learners_max: usize,
    policy: Policy,
    one_at_a_time: Arc<Mutex<()>>,
    started: Instant,
    health: Arc<parking_lot::Mutex<Health>>,
    decisions: Arc<parking_lot::Mutex<Decisions>>,
    /// Wakes whoever asks whether this node is still a member.
    look_again: Arc<Notify>,
}

/// Why a change was not made.
enum Undone {
    /// Certainly not made: this node does not lead, or another change is under way.
    Not,
    /// It may have been made, or may still be.
    Unknown(String),
}

/// Nobody else changes the membership until it is dropped.
type Turn = OwnedMutexGuard<()>;

impl Membership {
    /// Of a running node; clients may add `learners_max` learners.
    pub fn new(
        cluster_id: u64,
        raft: Raft,
        leadership: Leadership,
        client: ControlClient,
        learners_max: usize,
        policy: Policy,
    ) -> Membership {
        Membership {
            cluster_id,
            raft,
            leadership,
            client,
            learners_max,
            policy,
            one_at_a_time: Arc::default(),
            started: Instant::now(),
            health: Arc::default(),
            decisions: Arc::default(),
            look_again: Arc::default(),
        }
    }

    /// The right to change the membership, once an earlier change is committed and nothing of it is left to do. `None`:
    /// this node does not lead with a quorum, or it takes too long.
    async fn begin(&self) -> Option<Turn> {
        let turn = self.one_at_a_time.clone().lock_owned().await;
        // A leader that was replaced without knowing it may have an old membership.
        self.raft.get_read_log_id(ReadPolicy::ReadIndex).await.ok()?;
        self.committed().await?;
        if self.is_joint() {
            tracing::info!("finishing a membership change");
            self.change(ChangeMembers::AddVoterIds(BTreeSet::new()))
                .await
                .ok()?;
        }
        Some(turn)
    }

    /// On the leader: lets a node in, or notes its name and addresses.
    async fn admit(&self, request: MemberRequest) -> MemberAnswer {
        if !request.speaks.is_understood() {
            let (theirs, ours) = (request.speaks, Speaks::OURS);
            return MemberAnswer::Refused(format!(
                "it speaks versions {theirs} of the protocol between nodes, the leader {ours}: upgrade one release after the \
                 other, all nodes each time"
            ));
        }
        if request.join
            && let Some(why) = self.namesake(&request).await
        {
            return MemberAnswer::Refused(why);
        }
        let Some(_turn) = self.begin().await else {
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

    /// Why a node that comes by itself must not: a member with its address or name is alive. A machine that lost its
    /// data comes back so, too; its old self has stopped answering by then, or does so soon.
    async fn namesake(&self, request: &MemberRequest) -> Option<String> {
        let taken = || {
            let places = self.roster().places;
            places.into_iter().find_map(|(id, place)| {
                let shares = place.member.shares_url(&request.member.peer_urls);
                let is_other = id != request.node_id && place.member.is_started() && place.answers;
                (is_other && (shares || place.member.name == request.member.name))
                    .then_some((id, place.member))
            })
        };
        let deadline = Instant::now() + NAMESAKE_SILENT_WITHIN;
        loop {
            let (id, member) = taken()?;
            if Instant::now() >= deadline {
                return Some(format!(
                    "member {name:?} ({id:x}) is alive at {urls}: give this node a --name and --initial-advertise-peer-urls of \
                     its own, and do not start a node twice",
                    name = member.name,
                    urls = member.peer_urls.join(","),
                ));
            }
            tokio::time::sleep(ANSWERED_WITHIN / 4).await;
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

    /// A member, as far as this node knows it to be committed.
    fn member(&self, node_id: u64) -> Option<Member> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let committed = metrics.committed_membership_config.membership();
        committed.get_node(&node_id).cloned()
    }

    async fn change(&self, change: ChangeMembers<u64, Member>) -> Result<(), Undone> {
        use ChangeMembershipError as Refused;
        match self.raft.change_membership(change, false).await {
            Ok(done) => {
                self.sees(&done.log_id).await;
                Ok(())
            }
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                Refused::InProgress(_) | Refused::UncommittedLeaderLog(_),
            ))) => Err(Undone::Not),
            Err(error) => Err(Undone::Unknown(error.to_string())),
        }
    }

    /// Waits until what openraft tells of itself includes a change that it has made: it answers first, and whoever is
    /// told then must see the change.
    async fn sees(&self, change: &LogId) {
        let mut metrics = self.raft.server_metrics();
        let is_behind = |metrics: &RaftServerMetrics<TypeConfig>| {
            metrics.membership_config.log_id().as_ref() < Some(change)
        };
        while is_behind(&metrics.borrow_watched()) {
            // Raft has stopped: there will be no news.
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until the membership by which this leader goes is committed: it goes by an entry at once, and the entry may be
    /// lost yet. Whoever was told before that it is a member, or none any more, would rely on that. `None`: it takes
    /// too long.
    async fn committed(&self) -> Option<()> {
        let mut metrics = self.raft.server_metrics();
        let is_committed = |metrics: &RaftServerMetrics<TypeConfig>| {
            metrics.membership_config.log_id() == metrics.committed_membership_config.log_id()
        };
        let committed = async {
            while !is_committed(&metrics.borrow_watched()) {
                metrics.changed().await.ok()?;
            }
            Some(())
        };
        tokio::time::timeout(COMMITTED_WITHIN, committed).await.ok()?
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
        let behind = |id: &u64| {
            let matched = metrics.replication.as_ref().and_then(|matched| matched.get(id));
            match matched {
                Some(Some(matched)) => last.saturating_sub(matched.index),
                _ => u64::MAX,
            }
        };
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let (health, now) = (self.health.lock(), self.started.elapsed());
        let place = |(id, member): (&u64, &Member)| {
            let answers = answers(&metrics, *id);
            let same_for = health.of(*id, now).filter(|(before, _)| *before == answers);
            let place = Place {
                member: member.clone(),
                votes: voters.contains(id),
                answers,
                is_in_sync: *id == metrics.id || behind(id) <= CAUGHT_UP_ENTRIES,
                same_for: same_for.map_or(Duration::ZERO, |(_, same_for)| same_for),
            };
            (*id, place)
        };
        Roster {
            places: membership.nodes().map(place).collect(),
            learners_max: self.learners_max,
            policy: self.policy,
        }
    }
}

/// Whether a member has answered this leader just now; the leader itself always does.
fn answers(metrics: &RaftMetrics<TypeConfig>, id: u64) -> bool {
    let heard = metrics.heartbeat.as_ref().and_then(|heard| heard.get(&id));
    id == metrics.id || matches!(heard, Some(Some(acked)) if acked.elapsed() < ANSWERED_WITHIN)
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

    fn look_again(&self) {
        self.look_again.notify_one();
    }

    fn autopilot(&self) -> Option<Report> {
        (self.leadership.current() == Leader::Here).then(|| self.report())
    }
}
