//! Clusters of nodes in this process: real logs, stores and sockets; the ways into a cluster and back.
//! Killed processes are the business of the root package's tests.

// A test ends at the first thing that is not as it should be, in its helpers too.
#![allow(clippy::unwrap_used)]

#[path = "cluster/auth.rs"]
mod auth;
#[path = "cluster/autopilot.rs"]
mod autopilot;
#[path = "cluster/backup.rs"]
mod backup;
mod common;
#[path = "cluster/corruption.rs"]
mod corruption;
#[path = "cluster/errors.rs"]
mod errors;
#[path = "cluster/full_disk.rs"]
mod full_disk;
#[path = "cluster/joining.rs"]
mod joining;
#[path = "cluster/leases.rs"]
mod leases;
#[path = "cluster/membership.rs"]
mod membership;
#[path = "cluster/partition.rs"]
mod partition;
#[path = "cluster/recover.rs"]
mod recover;
#[path = "cluster/switches.rs"]
mod switches;
#[path = "cluster/upkeep.rs"]
mod upkeep;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use kv_core::{Command, Put, Range};
use kv_node::{
    auth::TokenOptions,
    bootstrap::Bootstrap,
    corruption::Checks,
    membership::autopilot::Policy,
    node::{Config, Env, Limits, Node},
    running::Running,
    tls::Tls,
};
use tokio::time::Instant;

use common::{DEADLINE, free_address, until};

struct Machine {
    dir: PathBuf,
    peer: String,
    client: String,
}

impl Machine {
    fn new(root: &Path, name: &str) -> Machine {
        Machine {
            dir: root.join(name),
            peer: free_address(),
            client: free_address(),
        }
    }

    fn config(&self, name: &str, bootstrap: Bootstrap) -> Config {
        Config {
            name: name.to_owned(),
            data_dir: self.dir.clone(),
            listen_client: vec![self.client.clone().into()],
            client_urls: vec![format!("http://{}", self.client)],
            listen_peer: vec![self.peer.clone().into()],
            peer_urls: vec![format!("http://{}", self.peer)],
            tls: Tls::default(),
            bootstrap,
            zone: String::new(),
            autopilot: Policy::default(),
            leave_on_terminate: false,
            max_learners: 1,
            retention: None,
            corruption_checks: Checks::OFF,
            quota_bytes: 1 << 30,
            heartbeat_interval_ms: 75,
            election_timeout_ms: 300,
            snapshot_count: 50,
            watch_progress_interval: Duration::from_secs(600),
            limits: Limits {
                max_request_bytes: 1536 << 10,
                max_txn_ops: 128,
                request_timeout: Duration::from_secs(5),
            },
            tokens: TokenOptions::default(),
        }
    }
}

struct Up {
    running: Running,
    node: Node,
}

async fn start(config: Config) -> Up {
    let mut running = Running::open(config).await.unwrap();
    let node = running.start(Env::real()).await.unwrap();
    Up { running, node }
}

impl Up {
    async fn stop(self) {
        self.running.stop(&self.node).await;
    }

    async fn put(&self, key: &str, value: &str) {
        let put = Put {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            ..Put::default()
        };
        let outcome = self
            .node
            .propose(Command::Put(put), Instant::now() + DEADLINE)
            .await
            .unwrap();
        outcome.result.unwrap();
    }

    async fn get(&self, key: &str) -> Option<Bytes> {
        self.node.read_barrier(Instant::now() + DEADLINE).await.unwrap();
        let range = Range {
            key: Bytes::copy_from_slice(key.as_bytes()),
            ..Range::default()
        };
        let read = self.node.store().range(&range).unwrap();
        read.result.kvs.into_iter().next().map(|kv| kv.value)
    }

    fn leads(&self) -> bool {
        self.node.status().leader == Some(self.node.identity().member_id)
    }
}

fn static_list(machines: &[Machine]) -> Bootstrap {
    let members = machines
        .iter()
        .enumerate()
        .map(|(i, m)| (format!("n{i}"), vec![format!("http://{}", m.peer)]));
    Bootstrap::Static {
        members: members.collect::<BTreeMap<_, _>>(),
        token: "test".to_owned(),
        existing: false,
    }
}

async fn static_cluster(machines: &[Machine]) -> Vec<Up> {
    let list = static_list(machines);
    let started = machines
        .iter()
        .enumerate()
        .map(|(i, m)| start(m.config(&format!("n{i}"), list.clone())));
    futures::future::join_all(started).await
}

fn dynamic(machines: &[Machine], expect: usize) -> Bootstrap {
    Bootstrap::Dynamic {
        join: machines.iter().map(|m| m.peer.clone()).collect(),
        expect: Some(expect),
    }
}

fn hashes(nodes: &[Up]) -> Vec<(i64, u32)> {
    nodes
        .iter()
        .map(|up| {
            let store = up.node.store();
            (store.revision(), store.hash_kv(0).unwrap().hash)
        })
        .collect()
}

async fn until_equal(nodes: &[Up]) {
    until("equal hashes on all nodes", || {
        let hashes = hashes(nodes);
        hashes.iter().all(|hash| *hash == hashes[0])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_anywhere_reads_everywhere_and_survives_a_restart_of_all() {
    let root = tempfile::tempdir().unwrap();
    let machines: Vec<Machine> = (0..3)
        .map(|i| Machine::new(root.path(), &format!("n{i}")))
        .collect();
    let nodes = static_cluster(&machines).await;
    for (i, up) in nodes.iter().enumerate() {
        up.put(&format!("key{i}"), &format!("value{i}")).await;
    }
    for up in &nodes {
        for i in 0..3 {
            assert_eq!(up.get(&format!("key{i}")).await.unwrap(), format!("value{i}"));
        }
    }
    until("all members announced", || {
        nodes.iter().all(|up| {
            up.node
                .members()
                .iter()
                .all(|member| !member.client_urls.is_empty())
        })
    })
    .await;
    for up in nodes {
        up.stop().await;
    }
    let nodes = static_cluster(&machines).await;
    assert_eq!(nodes[1].get("key2").await.unwrap(), "value2");
    until_equal(&nodes).await;
    for up in nodes {
        up.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_find_each_other_found_one_cluster_and_let_others_in() {
    let root = tempfile::tempdir().unwrap();
    let machines: Vec<Machine> = (0..5)
        .map(|i| Machine::new(root.path(), &format!("n{i}")))
        .collect();
    let config = |i: usize| machines[i].config(&format!("n{i}"), dynamic(&machines, 3));
    let mut nodes = futures::future::join_all((0..3).map(|i| start(config(i)))).await;
    nodes[0].put("a", "1").await;
    for i in 3..5 {
        nodes.push(start(config(i)).await);
    }
    for i in 0..200 {
        nodes[4].put(&format!("k{i}"), "v").await;
    }
    assert_eq!(nodes[3].get("a").await.unwrap(), "1");
    let clusters: std::collections::BTreeSet<u64> =
        nodes.iter().map(|up| up.node.identity().cluster_id).collect();
    assert_eq!(clusters.len(), 1);
    until("five voters", || {
        let members = nodes[0].node.members();
        members.len() == 5 && members.iter().all(|member| !member.is_learner)
    })
    .await;
    until_equal(&nodes).await;
    for up in nodes {
        up.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_too_long_gets_a_snapshot() {
    let root = tempfile::tempdir().unwrap();
    let machines: Vec<Machine> = (0..3)
        .map(|i| Machine::new(root.path(), &format!("n{i}")))
        .collect();
    let mut nodes = static_cluster(&machines).await;
    nodes[0].put("a", "1").await;
    let away = nodes.pop().unwrap();
    let was = away.node.status().applied_index;
    away.stop().await;
    for i in 0..400 {
        nodes[0].put(&format!("k{i}"), "v").await;
    }
    until("the log is purged past where the node was", || {
        nodes
            .iter()
            .all(|up| up.node.wal().purged().is_some_and(|purged| purged.index > was))
    })
    .await;
    nodes.push(start(machines[2].config("n2", static_list(&machines))).await);
    assert_eq!(nodes[2].get("k399").await.unwrap(), "v");
    until_equal(&nodes).await;
    for up in nodes {
        up.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_or_damaged_store_is_rebuilt_from_log_and_peers() {
    let root = tempfile::tempdir().unwrap();
    let machines: Vec<Machine> = (0..3)
        .map(|i| Machine::new(root.path(), &format!("n{i}")))
        .collect();
    let mut nodes = static_cluster(&machines).await;
    for i in 0..20 {
        nodes[0].put(&format!("k{i}"), "v").await;
    }
    // The log reaches back to the beginning: it alone rebuilds the store.
    nodes.pop().unwrap().stop().await;
    std::fs::remove_dir_all(machines[2].dir.join("store")).unwrap();
    nodes.push(start(machines[2].config("n2", static_list(&machines))).await);
    until_equal(&nodes).await;
    // Now it does not: a peer's snapshot comes first.
    for i in 0..400 {
        nodes[0].put(&format!("k{i}"), "w").await;
    }
    until("the log is purged", || nodes[2].node.wal().purged().is_some()).await;
    nodes.pop().unwrap().stop().await;
    damage(&machines[2].dir.join("store"));
    nodes.push(start(machines[2].config("n2", static_list(&machines))).await);
    assert_eq!(nodes[2].get("k399").await.unwrap(), "w");
    until_equal(&nodes).await;
    let aside = std::fs::read_dir(&machines[2].dir).unwrap().filter(|entry| {
        entry
            .as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .contains("damaged")
    });
    assert_eq!(aside.count(), 1, "the damaged store is kept");
    for up in nodes {
        up.stop().await;
    }
}

/// Overwrites the middle of every sled file below a directory.
fn damage(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            damage(&path);
        } else if path.file_name().is_some_and(|name| name == "db") {
            let length = std::fs::metadata(&path).unwrap().len();
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[..length as usize / 2].fill(0xa5);
            std::fs::write(&path, bytes).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_writes_and_reads_are_refused_and_nothing_is_lost() {
    let root = tempfile::tempdir().unwrap();
    let machines: Vec<Machine> = (0..3)
        .map(|i| Machine::new(root.path(), &format!("n{i}")))
        .collect();
    let mut nodes = static_cluster(&machines).await;
    nodes[0].put("a", "1").await;
    for _ in 0..2 {
        nodes.pop().unwrap().stop().await;
    }
    let leader_is_lost = || {
        nodes[0]
            .node
            .checks()
            .iter()
            .any(|check| check.name == "leader" && check.failure.is_some())
    };
    until("the loss of the majority is noticed", leader_is_lost).await;
    let put = Command::Put(Put {
        key: "a".into(),
        value: "2".into(),
        ..Put::default()
    });
    let refused = nodes[0]
        .node
        .propose(put, Instant::now() + DEADLINE)
        .await
        .unwrap_err();
    assert_eq!(refused, kv_node::node::ProposeError::NoLeader);
    let refused = nodes[0]
        .node
        .read_barrier(Instant::now() + DEADLINE)
        .await
        .unwrap_err();
    assert_eq!(refused, kv_node::node::ReadBarrierError::NoLeader);
    let failing: Vec<_> = nodes[0]
        .node
        .checks()
        .into_iter()
        .filter(|check| check.failure.is_some())
        .collect();
    assert_eq!(failing.len(), 1, "{failing:?}");
    assert_eq!(failing[0].name, "leader");
    nodes.push(start(machines[1].config("n1", static_list(&machines))).await);
    assert_eq!(nodes[0].get("a").await.unwrap(), "1");
    for up in nodes {
        up.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lost_its_data_is_not_let_in_under_its_old_id() {
    let root = tempfile::tempdir().unwrap();
    let machines: Vec<Machine> = (0..3)
        .map(|i| Machine::new(root.path(), &format!("n{i}")))
        .collect();
    let mut nodes = static_cluster(&machines).await;
    nodes[0].put("a", "1").await;
    until("all members announced and remembered", || {
        machines[..2].iter().all(|machine| {
            let identity = std::fs::read_to_string(machine.dir.join("identity.json")).unwrap();
            let identity: serde_json::Value = serde_json::from_str(&identity).unwrap();
            let members = identity["members"].as_object().unwrap();
            members.len() == 3
                && members
                    .values()
                    .all(|m| !m["client_urls"].as_array().unwrap().is_empty())
        })
    })
    .await;
    nodes.pop().unwrap().stop().await;
    std::fs::remove_dir_all(&machines[2].dir).unwrap();
    let refused = refusal(machines[2].config("n2", static_list(&machines))).await;
    assert!(refused.contains("has already been bootstrapped"), "{refused}");
    for up in nodes {
        up.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_stopped_before_it_found_a_cluster_starts_again() {
    let root = tempfile::tempdir().unwrap();
    let machines: Vec<Machine> = (0..3)
        .map(|i| Machine::new(root.path(), &format!("n{i}")))
        .collect();
    let config = |i: usize| machines[i].config(&format!("n{i}"), dynamic(&machines, 3));
    let (shutdown, stopped) = tokio::sync::oneshot::channel();
    let alone = tokio::spawn(kv_node::running::run(config(0), Env::real(), async {
        drop(stopped.await)
    }));
    until("its identity is made", || {
        machines[0].dir.join("identity.json").exists()
    })
    .await;
    shutdown.send(()).unwrap();
    alone.await.unwrap().unwrap();
    let nodes = futures::future::join_all((0..3).map(|i| start(config(i)))).await;
    nodes[0].put("a", "1").await;
    for up in nodes {
        up.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_comes_back_at_another_address_is_found_there() {
    let root = tempfile::tempdir().unwrap();
    let mut machines: Vec<Machine> = (0..3)
        .map(|i| Machine::new(root.path(), &format!("n{i}")))
        .collect();
    let config = |machines: &[Machine], i: usize| machines[i].config(&format!("n{i}"), dynamic(machines, 3));
    let mut nodes = futures::future::join_all((0..3).map(|i| start(config(&machines, i)))).await;
    nodes[0].put("a", "1").await;
    let follower = nodes.iter().position(|up| !up.leads()).unwrap();
    nodes.remove(follower).stop().await;
    machines[follower].peer = free_address();
    nodes.push(start(config(&machines, follower)).await);
    nodes[0].put("a", "2").await;
    until_equal(&nodes).await;
    for up in nodes {
        up.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_gone_is_not_replaced_by_an_empty_one() {
    let root = tempfile::tempdir().unwrap();
    let machines: Vec<Machine> = vec![Machine::new(root.path(), "n0")];
    let up = static_cluster(&machines).await.remove(0);
    up.put("a", "1").await;
    up.stop().await;
    std::fs::remove_dir_all(machines[0].dir.join("wal")).unwrap();
    let mut running = Running::open(machines[0].config("n0", static_list(&machines)))
        .await
        .unwrap();
    let Err(refused) = running.start(Env::real()).await else {
        panic!("started")
    };
    assert!(
        format!("{refused:#}").contains("the log of this node is missing"),
        "{refused:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_in_the_wrong_place_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let machines: Vec<Machine> = (0..3)
        .map(|i| Machine::new(root.path(), &format!("n{i}")))
        .collect();
    let mut nodes = static_cluster(&machines).await;
    nodes[0].put("a", "1").await;

    // Of a cluster of its own, made at the address of a member of this one.
    nodes.pop().unwrap().stop().await;
    let mut stranger = Machine::new(root.path(), "stranger");
    (stranger.peer, stranger.client) = (machines[2].peer.clone(), machines[2].client.clone());
    let alone: BTreeMap<_, _> = [("n2".to_owned(), vec![format!("http://{}", stranger.peer)])].into();
    let list = Bootstrap::Static {
        members: alone,
        token: "other".to_owned(),
        existing: false,
    };
    start(stranger.config("n2", list)).await.stop().await;
    let refused = refusal(stranger.config("n2", static_list(&machines))).await;
    assert!(
        refused.contains("the data directory belongs to cluster"),
        "{refused}"
    );

    // Of another member, which is known by name, or because it runs.
    let refused = refusal(machines[2].config("n1", static_list(&machines))).await;
    assert!(
        refused.contains("belongs to member \"n2\", but --name says \"n1\""),
        "{refused}"
    );
    for up in nodes {
        up.stop().await;
    }
}

async fn refusal(config: Config) -> String {
    let refused = kv_node::running::run(config, Env::real(), std::future::pending())
        .await
        .unwrap_err();
    format!("{refused:#}")
}
