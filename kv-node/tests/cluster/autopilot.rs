//! Members that die, come back empty, come and go: what the leader does about it by itself.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use kv_node::membership::report::{Report, Role, State};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::{membership::existing, *};

/// Long enough that no live node is silent for so long, and short for a test.
const REAP_AFTER: Duration = Duration::from_secs(3);

fn machines(root: &Path, count: usize) -> Vec<Machine> {
    (0..count).map(|i| Machine::new(root, &format!("n{i}"))).collect()
}

/// Nodes that find each other, with these rules.
struct Cluster {
    machines: Vec<Machine>,
    founders: usize,
    policy: Policy,
}

impl Cluster {
    fn new(root: &Path, count: usize, founders: usize) -> Cluster {
        Cluster {
            machines: machines(root, count),
            founders,
            policy: Policy {
                reap_after: Some(REAP_AFTER),
                ..Policy::default()
            },
        }
    }

    fn config(&self, i: usize) -> Config {
        Config {
            autopilot: self.policy,
            ..self.machines[i].config(&format!("n{i}"), dynamic(&self.machines, self.founders))
        }
    }

    async fn start(&self, i: usize) -> Up {
        start(self.config(i)).await
    }

    async fn found(&self) -> Vec<Up> {
        futures::future::join_all((0..self.founders).map(|i| self.start(i))).await
    }
}

impl Up {
    async fn report(&self) -> Report {
        let deadline = Instant::now() + DEADLINE;
        self.node.membership().ask_for_report(deadline).await.unwrap()
    }

    fn own_name(&self) -> String {
        let id = self.node.identity().member_id;
        let members = self.node.members();
        let own = members.into_iter().find(|member| member.id == id);
        own.unwrap().name
    }

    /// The names of the members, sorted.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .node
            .members()
            .into_iter()
            .map(|member| member.name)
            .collect();
        names.sort();
        names
    }
}

async fn until_members(nodes: &[Up], names: &[&str], voters: usize) {
    until(&format!("members {names:?}, {voters} of them voters"), || {
        nodes
            .iter()
            .all(|up| up.names() == names && up.node.voters() == voters)
    })
    .await;
}

async fn stop_all(nodes: Vec<Up>) {
    for up in nodes {
        up.stop().await;
    }
}

/// Writes, one after the other, on whichever node takes them.
struct Load {
    nodes: Arc<Mutex<Vec<Node>>>,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    /// Ends with the longest time between two writes.
    writer: JoinHandle<Duration>,
}

/// Fewer writes are no load.
const WRITES_MIN: usize = 100;

impl Load {
    fn start(nodes: &[Up], name: &'static str) -> Load {
        let handles: Vec<Node> = nodes.iter().map(|up| up.node.clone()).collect();
        let nodes = Arc::new(Mutex::new(handles));
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicUsize::new(0));
        let writer = tokio::spawn(write(nodes.clone(), stop.clone(), written.clone(), name));
        Load {
            nodes,
            stop,
            written,
            writer,
        }
    }

    /// The nodes that take writes from now on.
    fn go_on_with(&self, nodes: &[Up]) {
        *self.nodes.lock() = nodes.iter().map(|up| up.node.clone()).collect();
    }

    async fn are_under_way(&self) {
        let before = self.written.load(Ordering::Relaxed);
        until("writes", || {
            self.written.load(Ordering::Relaxed) >= before + WRITES_MIN
        })
        .await;
    }

    /// Ends the load; each acknowledged write must be there, and equal everywhere. The longest time between two.
    async fn end(self, nodes: &[Up], name: &str) -> Duration {
        self.are_under_way().await;
        self.stop.store(true, Ordering::Relaxed);
        let gap = self.writer.await.unwrap();
        let written = self.written.load(Ordering::Relaxed);
        println!("{name}: {written} writes, the longest time without one {gap:?}");
        assert!(gap < Duration::from_secs(5), "no write for {gap:?}");
        for i in 0..written {
            assert!(
                nodes[0].get(&format!("{name}/{i}")).await.is_some(),
                "{name}/{i} is lost"
            );
        }
        until_equal(nodes).await;
        gap
    }
}

async fn write(
    nodes: Arc<Mutex<Vec<Node>>>,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    name: &'static str,
) -> Duration {
    let mut tried = 0;
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let node = {
            let nodes = nodes.lock();
            nodes[tried % nodes.len()].clone()
        };
        tried += 1;
        let put = Command::Put(Put {
            key: format!("{name}/{}", written.load(Ordering::Relaxed)).into(),
            value: Bytes::from_static(&[7; 100]),
            ..Put::default()
        });
        let deadline = Instant::now() + Duration::from_secs(2);
        if node.propose(put, deadline).await.is_ok() {
            written.fetch_add(1, Ordering::Relaxed);
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    longest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_voter_is_replaced_by_a_learner_and_the_last_three_stay() {
    let root = tempfile::tempdir().unwrap();
    let cluster = Cluster::new(root.path(), 4, 3);
    let mut nodes = cluster.found().await;
    nodes.push(cluster.start(3).await);
    until_members(&nodes, &["n0", "n1", "n2", "n3"], 3).await;

    let load = Load::start(&nodes[1..], "replaced");
    nodes.remove(0).stop().await;
    let dead = |report: &Report| report.members.iter().find(|member| member.name == "n0").cloned();
    let deadline = Instant::now() + DEADLINE;
    let next = loop {
        let seen = dead(&nodes[0].report().await).unwrap();
        if seen.health == State::Silent {
            break seen.next.unwrap();
        }
        assert!(Instant::now() < deadline, "never noticed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let learner = format!("{:x}", nodes[2].node.identity().member_id);
    assert_eq!((next.action.as_str(), next.by), ("replace", Some(learner)));
    assert!(next.in_ms.unwrap() <= REAP_AFTER.as_millis() as u64);
    until_members(&nodes, &["n1", "n2", "n3"], 3).await;
    load.end(&nodes, "replaced").await;
    let report = nodes[2].report().await;
    assert!(report.healthy && report.failure_tolerance == 1, "{report:?}");
    let decisions: Vec<_> = report
        .decisions
        .iter()
        .map(|made| (&*made.action, made.members.concat()))
        .collect();
    assert_eq!(decisions, [("replace", "n0n3".to_owned())]);

    // It was given up for good, and there are no voters to spare.
    let refused = refusal(cluster.config(0)).await;
    assert!(refused.contains("was removed from its cluster"), "{refused}");
    nodes.remove(0).stop().await;
    tokio::time::sleep(REAP_AFTER + Duration::from_secs(2)).await;
    let report = nodes[0].report().await;
    let kept = report
        .members
        .iter()
        .find(|member| member.health == State::Silent)
        .unwrap();
    let why = kept.next.clone().unwrap();
    assert_eq!(why.action, "keep", "{why:?}");
    assert!(why.why.unwrap().contains("--min-voters"));
    assert_eq!((report.members.len(), report.failure_tolerance), (3, 0));
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stops_hands_over_first() {
    let root = tempfile::tempdir().unwrap();
    let cluster = Cluster::new(root.path(), 3, 3);
    let mut nodes = cluster.found().await;
    for load in ["first", "second", "third"] {
        nodes[0].put("a", "1").await;
        until("a leader", || nodes.iter().any(Up::leads)).await;
        let leader = nodes.iter().position(Up::leads).unwrap();
        let leader = nodes.remove(leader);
        let machine: usize = leader.own_name()[1..].parse().unwrap();
        let writes = Load::start(&nodes, load);
        writes.are_under_way().await;
        leader.stop().await;
        let gap = writes.end(&nodes, load).await;
        // An election after a lost leader takes longer: the heartbeats of one must be missed first.
        assert!(gap < Duration::from_millis(400), "no write for {gap:?}");
        nodes.push(cluster.start(machine).await);
    }
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lost_its_data_replaces_itself() {
    let root = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::new(root.path(), 3, 3);
    cluster.policy.reap_after = Some(Duration::from_secs(600));
    let mut nodes = cluster.found().await;
    nodes[0].put("a", "1").await;
    let lost = nodes.pop().unwrap();
    let lost_id = lost.node.identity().member_id;
    let load = Load::start(&nodes, "wiped");
    lost.stop().await;
    std::fs::remove_dir_all(&cluster.machines[2].dir).unwrap();
    nodes.push(cluster.start(2).await);
    until_members(&nodes, &["n0", "n1", "n2"], 3).await;
    let id = nodes[2].node.identity().member_id;
    assert_ne!(id, lost_id);
    assert!(nodes[0].node.members().iter().all(|member| member.id != lost_id));
    load.end(&nodes, "wiped").await;
    assert_eq!(nodes[2].get("a").await.unwrap(), "1");
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_cluster_keeps_all_members_and_dead_learners_go() {
    let root = tempfile::tempdir().unwrap();
    let cluster = Cluster::new(root.path(), 6, 5);
    let mut nodes = cluster.found().await;
    nodes.push(cluster.start(5).await);
    let all = ["n0", "n1", "n2", "n3", "n4", "n5"];
    until_members(&nodes, &all, 5).await;
    stop_all(nodes).await;
    tokio::time::sleep(REAP_AFTER + Duration::from_millis(500)).await;
    let mut nodes = futures::future::join_all((0..6).map(|i| cluster.start(i))).await;
    nodes[0].put("a", "1").await;
    until_members(&nodes, &all, 5).await;
    let report = nodes[3].report().await;
    assert!(report.decisions.is_empty(), "{report:?}");

    // The learner, and then two voters of five: none is needed.
    let is_learner = |up: &Up| up.node.status().is_learner;
    let learner = nodes.iter().position(is_learner).unwrap();
    assert_eq!(learner, 5);
    nodes.pop().unwrap().stop().await;
    until_members(&nodes, &all[..5], 5).await;
    nodes.pop().unwrap().stop().await;
    nodes.pop().unwrap().stop().await;
    until_members(&nodes, &all[..3], 3).await;
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_voter_is_replaced_from_the_zone_that_has_none() {
    let root = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::new(root.path(), 6, 3);
    cluster.policy.max_voters = 3;
    let config = |i: usize| Config {
        zone: ["a", "b", "b", "a", "c", "b"][i].to_owned(),
        ..cluster.config(i)
    };
    let mut nodes = futures::future::join_all((0..3).map(|i| start(config(i)))).await;
    for i in 3..6 {
        nodes.push(start(config(i)).await);
    }
    until_members(&nodes, &["n0", "n1", "n2", "n3", "n4", "n5"], 3).await;
    nodes.remove(2).stop().await;
    until_members(&nodes, &["n0", "n1", "n3", "n4", "n5"], 3).await;
    let report = nodes[3].report().await;
    let voting = report
        .members
        .iter()
        .filter(|member| member.role != Role::Learner);
    let mut zones: Vec<&str> = voting.map(|member| member.zone.as_str()).collect();
    zones.sort_unstable();
    assert_eq!(zones, ["a", "b", "c"], "{report:?}");
    stop_all(nodes).await;
}

async fn grow(cluster: &Cluster, nodes: &mut Vec<Up>, count: usize, load: &'static str) {
    let writes = Load::start(nodes, load);
    let joining = futures::future::join_all((nodes.len()..count).map(|i| cluster.start(i))).await;
    nodes.extend(joining);
    let is_grown = || nodes.iter().all(|up| up.node.voters() == count);
    until("the newcomers vote", is_grown).await;
    writes.end(nodes, load).await;
}

/// The leader goes first, where it is the most trouble.
async fn shrink(nodes: &mut Vec<Up>, count: usize, load: &'static str) {
    let writes = Load::start(nodes, load);
    while nodes.len() > count {
        until("a leader that is known", || nodes.iter().any(Up::leads)).await;
        let leader = nodes.iter().position(Up::leads).unwrap();
        let leaver = nodes.remove(leader);
        writes.go_on_with(nodes);
        assert!(leaver.running.leave(&leaver.node).await);
        leaver.stop().await;
        let left = nodes.len();
        until("one voter less", || {
            nodes
                .iter()
                .all(|up| up.node.voters() == left && up.node.members().len() == left)
        })
        .await;
    }
    writes.end(nodes, load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_five_three_under_load_and_who_leaves_comes_back_as_another() {
    let root = tempfile::tempdir().unwrap();
    let cluster = Cluster::new(root.path(), 5, 3);
    let mut nodes = cluster.found().await;
    grow(&cluster, &mut nodes, 5, "three-five").await;
    let ids = |nodes: &[Up]| -> Vec<u64> { nodes.iter().map(|up| up.node.identity().member_id).collect() };
    let all = ids(&nodes);
    shrink(&mut nodes, 3, "five-three").await;

    // One more would be too few: it stays a member.
    let stays = nodes.pop().unwrap();
    assert!(!stays.running.leave(&stays.node).await);
    nodes.push(stays);
    assert!(nodes.iter().all(|up| up.node.members().len() == 3));

    let left = ids(&nodes);
    let gone = all.iter().position(|id| !left.contains(id)).unwrap();
    let back = cluster.start(gone).await;
    assert!(!all.contains(&back.node.identity().member_id));
    assert!(back.get("three-five/0").await.is_some());
    nodes.push(back);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_three_five_one_under_load() {
    let root = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::new(root.path(), 5, 1);
    cluster.policy.min_voters = 1;
    let mut nodes = cluster.found().await;
    nodes[0].put("a", "1").await;
    grow(&cluster, &mut nodes, 3, "one-three").await;
    grow(&cluster, &mut nodes, 5, "three-five").await;
    shrink(&mut nodes, 1, "five-one").await;
    assert_eq!(nodes[0].get("a").await.unwrap(), "1");
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founder_of_a_static_list_that_is_dead_is_replaced_by_whoever_joins() {
    let root = tempfile::tempdir().unwrap();
    let machines = machines(root.path(), 4);
    let config = |i: usize, bootstrap| Config {
        autopilot: Policy {
            reap_after: Some(REAP_AFTER),
            ..Policy::default()
        },
        ..machines[i].config(&format!("n{i}"), bootstrap)
    };
    let list = static_list(&machines[..3]);
    let mut nodes = futures::future::join_all((0..3).map(|i| start(config(i, list.clone())))).await;
    nodes[0].put("a", "1").await;
    nodes.pop().unwrap().stop().await;
    nodes.push(start(config(3, existing(&machines))).await);
    until_members(&nodes, &["n0", "n1", "n3"], 3).await;
    stop_all(nodes).await;
}
