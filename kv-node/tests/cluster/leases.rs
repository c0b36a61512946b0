//! Leases on clusters: what is left of one when its leader dies, and who may end it.

use std::time::Duration;

use kv_core::{Command, LeaseGrant, LeaseTerm, Put, Response};
use tokio::{
    runtime::{Builder, Runtime},
    time::Instant,
};

use super::{DEADLINE, Machine, Up, start, static_list, until};

/// Nodes with a runtime each, so that one can die at once.
struct Cluster {
    nodes: Vec<(Up, Own)>,
    _root: tempfile::TempDir,
}

/// A node's runtime. All that runs there ends with it, at once.
struct Own(Option<Runtime>);

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Cluster {
    async fn start() -> Cluster {
        let root = tempfile::tempdir().unwrap();
        let machines: Vec<Machine> = (0..3)
            .map(|i| Machine::new(root.path(), &format!("n{i}")))
            .collect();
        let list = static_list(&machines);
        let mut starting = Vec::new();
        for (i, machine) in machines.iter().enumerate() {
            let runtime = Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            let up = runtime.spawn(start(machine.config(&format!("n{i}"), list.clone())));
            starting.push((up, runtime));
        }
        let mut nodes = Vec::new();
        for (up, runtime) in starting {
            nodes.push((up.await.unwrap(), Own(Some(runtime))));
        }
        let cluster = Cluster { nodes, _root: root };
        cluster.leader().await;
        cluster
    }

    fn ups(&self) -> impl Iterator<Item = &Up> {
        self.nodes.iter().map(|(up, _)| up)
    }

    async fn leader(&self) -> usize {
        until("a leader", || self.ups().any(Up::leads)).await;
        self.ups().position(Up::leads).unwrap()
    }

    /// The node is gone as if its process were killed.
    fn kill(&mut self, at: usize) {
        drop(self.nodes.remove(at));
    }
}

impl Up {
    async fn ask(&self, command: Command) -> Response {
        let outcome = self
            .node
            .propose(command, Instant::now() + DEADLINE)
            .await
            .unwrap();
        outcome.result.unwrap()
    }

    async fn grant(&self, id: i64, ttl_s: i64) {
        let now_ms = 0;
        self.ask(Command::LeaseGrant(LeaseGrant { id, ttl_s, now_ms }))
            .await;
    }

    async fn put_with_lease(&self, key: &'static str, lease: i64) {
        self.ask(Command::Put(Put {
            key: key.into(),
            lease,
            ..Put::default()
        }))
        .await;
    }

    /// The lease and what is left of it, by this node.
    fn lease(&self, id: i64) -> Option<(LeaseTerm, Duration)> {
        let now_ms = self.node.clock_ms();
        let term = self.node.store().with_state(|state| state.lease(id))?;
        let left_ms = term.expires_at_ms.saturating_sub(now_ms);
        Some((term, Duration::from_millis(left_ms)))
    }
}

const TTL: Duration = Duration::from_secs(60);
/// How far a clock may be behind that of the leader before it: as long as an entry takes from stamp to state.
const BEHIND_MAX: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_lease_survives_its_leader() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let before_grant = Instant::now();
    cluster.nodes[leader].0.grant(7, 60).await;
    let granted = Instant::now();
    tokio::time::sleep(BEHIND_MAX * 2).await;
    cluster.kill(leader);
    let leader = cluster.leader().await;
    // A lease of the new leader: its stamp is the clock that ends the others.
    cluster.nodes[leader].0.grant(8, 60).await;
    for up in cluster.ups() {
        until("the new lease is everywhere", || up.lease(8).is_some()).await;
        let since_grant = before_grant.elapsed();
        let (_, left) = up.lease(7).unwrap();
        let passed = granted.elapsed();
        assert!(left + since_grant >= TTL, "{left:?} left after {since_grant:?}");
        assert!(
            left + passed <= TTL + BEHIND_MAX,
            "{left:?} left after {passed:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_end_under_a_new_leader_and_not_before_their_time() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let up = &cluster.nodes[leader].0;
    let granted = Instant::now();
    up.grant(7, 2).await;
    up.put_with_lease("a", 7).await;
    cluster.kill(leader);
    let gone = |up: &Up| up.lease(7).is_none() && up.node.store().keys() == 0;
    until("both are gone everywhere", || cluster.ups().all(gone)).await;
    assert!(granted.elapsed() >= Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_ends_no_lease() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    cluster.nodes[leader].0.grant(7, 2).await;
    let left = cluster.nodes.swap_remove(leader);
    while !cluster.nodes.is_empty() {
        cluster.kill(0);
    }
    cluster.nodes.push(left);
    let up = &cluster.nodes[0].0;
    let over = |up: &Up| up.lease(7).is_some_and(|(_, left)| left.is_zero());
    until("its time is over", || over(up)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(over(up), "it was ended without a quorum");
}

#[tokio::test(flavor = "multi_thread")]
async fn renewals_go_through_any_node_and_gather() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let follower = &cluster.nodes[(leader + 1) % 3].0;
    for id in 1..=100 {
        follower.grant(id, 60).await;
    }
    let first = follower.lease(1).unwrap().0;
    let log_before = follower.node.status().last_log_index;
    let renewals = (0..500).map(|n| follower.node.renew_lease(n % 102));
    let renewed = futures::future::join_all(renewals).await;
    for (n, ttl) in renewed.into_iter().enumerate() {
        let exists = (1..=100).contains(&(n % 102));
        assert_eq!(ttl.unwrap(), if exists { 60 } else { 0 });
    }
    let entries = follower.node.status().last_log_index - log_before;
    assert!(entries < 50, "{entries} entries for 500 renewals");
    until("renewed here too", || {
        follower.lease(1).unwrap().0.expires_at_ms > first.expires_at_ms
    })
    .await;
}
