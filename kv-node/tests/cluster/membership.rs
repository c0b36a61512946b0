//! Members that are added, promoted, removed, and that come back.

use kv_node::{
    membership::rules::{Change, Refusal},
    node::{ChangeError, Changed, MemberInfo},
};
use kv_proto::etcdserverpb::{MoveLeaderRequest, maintenance_client::MaintenanceClient};

use super::*;

fn machines(root: &Path, count: usize) -> Vec<Machine> {
    (0..count).map(|i| Machine::new(root, &format!("n{i}"))).collect()
}

/// The list of founders, for one that comes later.
pub(super) fn existing(machines: &[Machine]) -> Bootstrap {
    match static_list(machines) {
        Bootstrap::Static { members, token, .. } => Bootstrap::Static {
            members,
            token,
            existing: true,
        },
        other => other,
    }
}

impl Up {
    async fn change(&self, change: Change) -> Result<Changed, ChangeError> {
        self.node.change_members(change, Instant::now() + DEADLINE).await
    }

    async fn add(&self, machine: &Machine, is_learner: bool) -> Result<Changed, ChangeError> {
        let peer_urls = vec![format!("http://{}", machine.peer)];
        self.change(Change::Add {
            peer_urls,
            is_learner,
        })
        .await
    }

    fn member(&self, id: u64) -> Option<MemberInfo> {
        self.node.members().into_iter().find(|member| member.id == id)
    }

    fn id(&self) -> u64 {
        self.node.identity().member_id
    }

    /// Whether a member has a vote in Raft; clients are told so of one that waits for it, too.
    async fn until_voters(&self, count: usize) {
        until("so many voters", || self.node.voters() == count).await;
    }
}

fn is_noted_as_removed(machine: &Machine) -> bool {
    let identity = std::fs::read_to_string(machine.dir.join("identity.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&identity).unwrap()["removed"] == true
}

async fn stop_all(nodes: Vec<Up>) {
    for up in nodes {
        up.stop().await;
    }
}

/// A list of started members that answer is what changes ask for.
async fn until_healthy(nodes: &[Up]) {
    until("all announced", || {
        nodes[0]
            .node
            .members()
            .iter()
            .all(|member| !member.client_urls.is_empty())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_added_takes_its_id_over_and_the_leader_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let machines = machines(root.path(), 4);
    let mut nodes = static_cluster(&machines[..3]).await;
    nodes[0].put("a", "1").await;
    until_healthy(&nodes).await;
    let follower = nodes.iter().find(|up| !up.leads()).unwrap();

    let added = follower.add(&machines[3], false).await.unwrap();
    let member = added.members.iter().find(|member| member.id == added.id).unwrap();
    assert_eq!((member.name.as_str(), member.is_learner), ("", false));
    // It has no vote yet: the quorum is what it was, and nothing waits for it.
    assert_eq!(follower.node.voters(), 3);
    let again = follower.add(&machines[3], false).await.unwrap_err();
    assert_eq!(again, ChangeError::Refused(Refusal::Unhealthy));
    let again = follower.add(&machines[3], true).await.unwrap_err();
    assert_eq!(again, ChangeError::Refused(Refusal::PeerUrlsExist));

    nodes.push(start(machines[3].config("n3", existing(&machines))).await);
    assert_eq!(nodes[3].id(), added.id);
    nodes[3].until_voters(4).await;
    assert_eq!(nodes[3].get("a").await.unwrap(), "1");
    nodes.pop().unwrap().stop().await;
    nodes.push(start(machines[3].config("n3", existing(&machines))).await);
    assert_eq!(nodes[3].id(), added.id, "an id outlives a restart");
    until("its name is known", || {
        nodes[0].member(added.id).unwrap().name == "n3"
    })
    .await;

    let leader = nodes.iter().position(Up::leads).unwrap();
    let id = nodes[leader].id();
    let asked = (leader + 1) % 4;
    until("an answering cluster", || {
        nodes[asked].node.status().leader.is_some()
    })
    .await;
    let removed = nodes[asked].change(Change::Remove { id }).await.unwrap();
    assert!(removed.members.iter().all(|member| member.id != id));
    nodes[asked].put("a", "2").await;
    until("the removed leader knows it", || {
        is_noted_as_removed(&machines[leader])
    })
    .await;
    nodes.remove(leader).stop().await;
    let refused = refusal(machines[leader].config(&format!("n{leader}"), existing(&machines))).await;
    assert!(refused.contains("was removed from its cluster"), "{refused}");
    assert_eq!(nodes[0].node.voters(), 3);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn learners_stay_learners_until_they_are_promoted() {
    let root = tempfile::tempdir().unwrap();
    let machines = machines(root.path(), 3);
    let mut nodes = static_cluster(&machines[..1]).await;
    nodes[0].put("a", "1").await;
    until_healthy(&nodes).await;
    let added = nodes[0].add(&machines[1], true).await.unwrap();
    let promote = Change::Promote { id: added.id };
    let refusal = |result: Result<Changed, ChangeError>| match result.unwrap_err() {
        ChangeError::Refused(refusal) => refusal,
        other => panic!("{other}"),
    };
    assert_eq!(
        refusal(nodes[0].change(promote.clone()).await),
        Refusal::LearnerNotReady
    );
    assert_eq!(
        refusal(nodes[0].add(&machines[2], true).await),
        Refusal::TooManyLearners
    );

    nodes.push(start(machines[1].config("n1", existing(&machines[..2]))).await);
    assert_eq!(nodes[1].id(), added.id);
    assert!(nodes[1].node.status().is_learner);
    // Promotion is asked for where it cannot be decided.
    let deadline = Instant::now() + DEADLINE;
    while let Err(error) = nodes[1].change(promote.clone()).await {
        assert_eq!(error, ChangeError::Refused(Refusal::LearnerNotReady));
        assert!(Instant::now() < deadline, "never in sync");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    nodes[0].until_voters(2).await;
    assert_eq!(refusal(nodes[1].change(promote).await), Refusal::NotLearner);

    // Leadership moves to where it is wanted, if the leader is asked.
    let leader = nodes.iter().position(Up::leads).unwrap();
    let target_id = nodes[1 - leader].id();
    let maintenance = |at: usize| MaintenanceClient::connect(format!("http://{}", machines[at].client));
    let request = MoveLeaderRequest { target_id };
    let refused = maintenance(1 - leader)
        .await
        .unwrap()
        .move_leader(request)
        .await
        .unwrap_err();
    assert_eq!(refused.message(), "etcdserver: not leader");
    maintenance(leader)
        .await
        .unwrap()
        .move_leader(request)
        .await
        .unwrap();
    until("the leader moved", || nodes[1 - leader].leads()).await;
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lost_its_data_is_removed_and_comes_back_as_another() {
    let root = tempfile::tempdir().unwrap();
    let machines = machines(root.path(), 4);
    let mut nodes = static_cluster(&machines[..3]).await;
    nodes[0].put("a", "1").await;
    until_healthy(&nodes).await;
    let lost = nodes.pop().unwrap();
    let lost_id = lost.id();
    lost.stop().await;
    std::fs::remove_dir_all(&machines[2].dir).unwrap();

    until("its silence is noticed", || {
        nodes[0].node.status().leader.is_some()
    })
    .await;
    let deadline = Instant::now() + DEADLINE;
    loop {
        // Its answers are remembered for a moment.
        let refused = nodes[0].add(&machines[3], false).await;
        match refused {
            Err(ChangeError::Refused(Refusal::Unhealthy)) => break,
            Ok(Changed { id, .. }) => drop(nodes[0].change(Change::Remove { id }).await.unwrap()),
            Err(other) => panic!("{other}"),
        }
        assert!(Instant::now() < deadline, "never noticed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let survivor = nodes[1].id();
    let refused = nodes[0]
        .change(Change::Remove { id: survivor })
        .await
        .unwrap_err();
    assert_eq!(refused, ChangeError::Refused(Refusal::Unhealthy));

    nodes[1].change(Change::Remove { id: lost_id }).await.unwrap();
    let refused = refusal(machines[2].config("n2", static_list(&machines[..3]))).await;
    assert!(refused.contains("was removed from this cluster"), "{refused}");

    std::fs::remove_dir_all(&machines[2].dir).unwrap();
    let added = nodes[0].add(&machines[2], false).await.unwrap();
    assert_ne!(added.id, lost_id);
    let back = start(machines[2].config("n2", existing(&machines[..3]))).await;
    assert_eq!(back.id(), added.id);
    back.until_voters(3).await;
    nodes.push(back);
    until_equal(&nodes).await;

    // The place is taken: whoever loses its data once more is somebody else.
    nodes.pop().unwrap().stop().await;
    std::fs::remove_dir_all(&machines[2].dir).unwrap();
    let stranger = start(machines[2].config("n2", existing(&machines[..3]))).await;
    assert!(stranger.id() != added.id && stranger.id() != lost_id);
    nodes.push(stranger);
    stop_all(nodes).await;
}
