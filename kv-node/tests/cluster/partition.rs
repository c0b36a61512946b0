//! A leader that is cut off at any moment of a change of the membership.

use kv_node::membership::rules::Change;

use super::{
    switches::{Switches, leader_of, port, start_switched},
    *,
};

const NODES: usize = 5;
/// How long after the beginning of a change the leader is cut off, in microseconds.
const CUT_AFTER_US: [u64; 8] = [0, 200, 500, 1_000, 2_000, 4_000, 8_000, 16_000];

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_cut_off_in_the_middle_of_a_change_leaves_one_membership() {
    let root = tempfile::tempdir().unwrap();
    let machines: Vec<Machine> = (0..NODES + 1)
        .map(|i| Machine::new(root.path(), &format!("n{i}")))
        .collect();
    let switches = Switches::default();
    let policy = Policy {
        reap_after: None,
        ..Policy::default()
    };
    let config = |i: usize| Config {
        autopilot: policy,
        ..machines[i].config(&format!("n{i}"), dynamic(&machines, NODES))
    };
    let started = (0..NODES).map(|i| start_switched(config(i), &switches, port(&machines[i])));
    let nodes = futures::future::join_all(started).await;
    nodes[0].put("a", "1").await;
    let all_announced = || {
        nodes[0]
            .node
            .members()
            .iter()
            .filter(|m| !m.client_urls.is_empty())
            .count()
            == NODES
    };
    until("all announced", all_announced).await;

    for (round, cut_after) in CUT_AFTER_US.into_iter().enumerate() {
        until("a leader", || leader_of(&nodes, None).is_some()).await;
        let leader = leader_of(&nodes, None).unwrap();
        // A place for a member that never comes, or its removal: changes that need nobody else.
        let node = nodes[leader].node.clone();
        let places = node.members().into_iter().filter(|member| member.name.is_empty());
        let place: Vec<u64> = places.map(|member| member.id).collect();
        let change = match place.first() {
            Some(id) => Change::Remove { id: *id },
            None => Change::Add {
                peer_urls: vec![format!("http://{}", machines[NODES].peer)],
                is_learner: true,
            },
        };
        let asked = tokio::spawn(async move {
            node.change_members(change, Instant::now() + Duration::from_secs(3))
                .await
        });
        tokio::time::sleep(Duration::from_micros(cut_after)).await;
        switches.cut_off(port(&machines[leader]));
        let began = Instant::now();
        until("another leader", || leader_of(&nodes, Some(leader)).is_some()).await;
        let other = leader_of(&nodes, Some(leader)).unwrap();
        nodes[other].put("a", &format!("{round}")).await;
        println!(
            "cut after {cut_after} µs: a write again after {:?}",
            began.elapsed()
        );
        switches.heal();
        let outcome = asked.await.unwrap();
        println!("  the change: {:?}", outcome.as_ref().map(|changed| changed.id));

        // Healed: all see one membership, without a joint configuration, and one state.
        until_equal(&nodes).await;
        until("one membership", || {
            let first = nodes[0].node.members();
            nodes
                .iter()
                .all(|up| up.node.members() == first && up.node.voters() == NODES)
        })
        .await;
        if let Ok(changed) = outcome {
            let known = nodes[other]
                .node
                .members()
                .iter()
                .any(|member| member.id == changed.id);
            assert_eq!(
                known,
                changed.members.iter().any(|member| member.id == changed.id),
                "an acknowledged change is lost"
            );
        }
    }
    for up in nodes {
        up.stop().await;
    }
}

/// Values of 1 MiB in the snapshot.
const VALUES: usize = 70;
/// Further writes, after which the log no longer reaches back to the beginning.
const SMALL_VALUES: usize = 200;
/// Bytes of the snapshot that are sent before it is cut off …
const SENT_BEFORE: usize = 40 << 20;
/// … and bytes that are sent in vain at most: flow control lets so much be on its way.
const IN_VAIN: usize = 25 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_cut_off_goes_on_where_it_was() {
    let root = tempfile::tempdir().unwrap();
    let machines: Vec<Machine> = (0..4)
        .map(|i| Machine::new(root.path(), &format!("n{i}")))
        .collect();
    let switches = Switches::default();
    let start = |i: usize| {
        let config = machines[i].config(&format!("n{i}"), dynamic(&machines, 3));
        start_switched(config, &switches, port(&machines[i]))
    };
    let mut nodes = futures::future::join_all((0..3).map(start)).await;
    let value = "v".repeat(1 << 20);
    for i in 0..VALUES {
        nodes[0].put(&format!("k{i}"), &value).await;
    }
    for i in 0..SMALL_VALUES {
        nodes[0].put(&format!("small{i}"), "v").await;
    }
    let is_purged = || nodes.iter().all(|up| up.node.wal().purged().is_some());
    until("logs that do not reach back", is_purged).await;
    let newcomer = start(3).await;
    let to = port(&machines[3]);
    until("more than half of it", || switches.sent_bytes(to) > SENT_BEFORE).await;
    assert_eq!(newcomer.node.store().keys(), 0, "the snapshot is there already");
    switches.cut_off(to);
    // Long enough for the connections to be given up.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        newcomer.node.store().keys(),
        0,
        "half of a snapshot was taken for a whole one"
    );
    nodes[0].put("meanwhile", "1").await;
    switches.heal();
    nodes.push(newcomer);
    until("all of it", || {
        nodes[3].node.store().keys() == VALUES + SMALL_VALUES + 1
    })
    .await;
    let sent_bytes = switches.sent_bytes(to);
    assert!(
        sent_bytes < (VALUES << 20) + IN_VAIN,
        "{sent_bytes} bytes: it was begun anew"
    );
    until_equal(&nodes).await;
    for up in nodes {
        up.stop().await;
    }
}
