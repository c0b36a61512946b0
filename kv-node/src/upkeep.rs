//! What goes on beside the requests of a running node, and the last thing before it stops.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kv_store::Store;
use openraft::{Instant as _, ServerState, async_runtime::watch::WatchReceiver};
use parking_lot::Mutex;

use crate::{
    api,
    blocking::elsewhere,
    bootstrap::control::Local,
    node::Node,
    raft::{
        network::Network,
        types::{Member, Raft},
    },
};

/// How long a leader that stops waits for another to take over.
const HANDOVER_TIMEOUT: Duration = Duration::from_millis(1000);
/// Compaction sweeps pause this long between two slices.
const SWEEP_PAUSE: Duration = Duration::from_millis(20);
/// Elections without a leader after which streams that want one are ended; etcd's number.
const LEADERLESS_ELECTIONS: u32 = 3;
/// How often the sweeper looks for work.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

/// Makes the most advanced follower lead before this node goes.
pub(crate) async fn hand_over(raft: &Raft) {
    let target = {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.state != ServerState::Leader {
            return;
        }
        let own = metrics.id;
        let answers = |id: &u64| {
            let heard = metrics
                .heartbeat
                .as_ref()
                .and_then(|heard| heard.get(id).cloned().flatten());
            heard.is_some_and(|heard| heard.elapsed() < HANDOVER_TIMEOUT)
        };
        let voters = metrics.membership_config.membership().voter_ids();
        let matched = |id: &u64| {
            metrics
                .replication
                .as_ref()
                .and_then(|r| r.get(id).copied().flatten())
        };
        voters.filter(|id| *id != own && answers(id)).max_by_key(matched)
    };
    let Some(target) = target else { return };
    tracing::info!(to = format!("{target:x}"), "handing leadership over");
    if !transfer_leader(raft, target, HANDOVER_TIMEOUT).await {
        tracing::warn!("nobody took over in time; the others will elect a leader");
    }
}

/// Makes a voter lead in the place of this node; `false`: it is none, or has not taken over in time.
///
/// openraft would hand over to anybody, and a leader that does leads no more: a learner never takes over, and where there is
/// no other voter nobody does.
pub(crate) async fn transfer_leader(raft: &Raft, to: u64, timeout: Duration) -> bool {
    if !is_voter(raft, to) || raft.trigger().transfer_leader(to).await.is_err() {
        return false;
    }
    let handed = raft
        .wait(Some(timeout))
        .metrics(|m| m.current_leader == Some(to), "handover")
        .await;
    handed.is_ok()
}

/// Whether a member votes, also once a change of the membership that is under way is done.
pub(crate) fn is_voter(raft: &Raft, id: u64) -> bool {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let configs = metrics.membership_config.membership().get_joint_config();
    configs.iter().all(|voters| voters.contains(&id))
}

/// Frees what compaction gave up, a slice at a time.
pub(crate) async fn sweep(store: Store) {
    loop {
        let step = {
            let store = store.clone();
            elsewhere(move || store.sweep_step()).await
        };
        match step {
            Ok(Ok(true)) => tokio::time::sleep(SWEEP_PAUSE).await,
            Ok(Ok(false)) => tokio::time::sleep(SWEEP_INTERVAL).await,
            Ok(Err(error)) => {
                tracing::warn!(%error, "compacted revisions are not freed yet");
                tokio::time::sleep(SWEEP_INTERVAL).await;
            }
            Err(_) => return,
        }
    }
}

/// Says when there has been no leader for several elections, and when there is one again.
pub(crate) async fn notice_no_leader(node: Node, election: Duration) {
    let mut without = 0;
    loop {
        tokio::time::sleep(election).await;
        without = match node.leader() {
            Some(_) => 0,
            None => (without + 1).min(LEADERLESS_ELECTIONS),
        };
        let lost = without == LEADERLESS_ELECTIONS;
        node.inner
            .leaderless
            .send_if_modified(|leaderless| std::mem::replace(leaderless, lost) != lost);
    }
}

pub(crate) async fn count_leader_changes(raft: Raft) {
    let changes = api::leader_changes();
    let mut metrics = raft.server_metrics();
    let mut last = None;
    loop {
        let leader = metrics.borrow_and_update().current_leader;
        if leader.is_some() && leader != last {
            if last.is_some() {
                changes.increment(1);
            }
            tracing::info!(leader = leader.map(|id| format!("{id:x}")), "there is a leader");
            last = leader;
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// Tells the network where the members are and which of them vote, and keeps them on disk: whom to ask when the store must be
/// rebuilt.
pub(crate) async fn remember_members(raft: Raft, network: Network, local: Arc<Mutex<Local>>) {
    let mut metrics = raft.server_metrics();
    loop {
        let (members, voters) = {
            let metrics = metrics.borrow_and_update();
            let membership = metrics.membership_config.membership();
            let members = membership.nodes().map(|(id, member)| (*id, member.clone()));
            (
                members.collect::<BTreeMap<u64, Member>>(),
                membership.voter_ids().collect(),
            )
        };
        if !members.is_empty() {
            network.know(members.clone(), voters);
            let local = local.clone();
            let saved = elsewhere(move || local.lock().update(|identity| identity.members = members));
            if let Ok(Err(error)) = saved.await {
                tracing::warn!(%error, "members not remembered");
            }
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}
