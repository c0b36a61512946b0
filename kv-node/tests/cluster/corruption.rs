//! A member whose keys differ is found: by itself when it starts, and by the leader from time to time.

use std::sync::Arc;

use kv_core::AlarmKind;
use kv_node::storage;

use super::*;

fn put(key: &'static str, value: &'static str) -> Command {
    Command::Put(Put {
        key: key.into(),
        value: value.into(),
        ..Put::default()
    })
}

/// Opens the store as it is, and then one in its place that has applied as much, and holds other values.
fn forged() -> Env {
    let open = |dir: &Path, cluster_id: u64| {
        let honest = storage::open_store(dir, cluster_id)?;
        let point = honest.applied().unwrap();
        drop(honest);
        std::fs::remove_dir_all(dir)?;
        let forged = storage::open_store(dir, cluster_id)?;
        let mut entries: Vec<kv_store::Entry> = (0..=point.index).map(|index| (index, None)).collect();
        let at = entries.len() - 2;
        entries[at].1 = Some(put("a", "1"));
        entries[at + 1].1 = Some(put("b", "forged"));
        forged.apply(&entries, point.raft)?;
        forged.sync()?;
        Ok(forged)
    };
    Env {
        store: Arc::new(open),
        ..Env::real()
    }
}

/// Three nodes with two keys; the last one's are forged and compared by these checks of its own, and of the others.
async fn with_forged(root: &Path, others: Checks, own: Checks) -> Vec<Up> {
    let machines: Vec<Machine> = (0..3).map(|i| Machine::new(root, &format!("n{i}"))).collect();
    let config = |i: usize, checks| Config {
        corruption_checks: checks,
        ..machines[i].config(&format!("n{i}"), static_list(&machines))
    };
    let started = (0..3).map(|i| start(config(i, others)));
    let mut nodes = futures::future::join_all(started).await;
    nodes[0].put("a", "1").await;
    nodes[0].put("b", "1").await;
    until_equal(&nodes).await;
    nodes.pop().unwrap().stop().await;
    let mut running = Running::open(config(2, own)).await.unwrap();
    let node = running.start(forged()).await.unwrap();
    assert_eq!(node.store().revision(), 3);
    nodes.push(Up { running, node });
    nodes
}

async fn is_found(nodes: Vec<Up>) {
    let culprit = nodes[2].node.identity().member_id;
    for up in &nodes {
        until("the alarm is raised", || !up.node.alarms().is_empty()).await;
        let alarms = up.node.alarms();
        let named: Vec<_> = alarms.iter().map(|alarm| (alarm.member_id, alarm.kind)).collect();
        assert_eq!(named, [(culprit, AlarmKind::Corrupt)]);
    }
    let refused = nodes[0]
        .node
        .propose(put("c", "1"), Instant::now() + DEADLINE)
        .await;
    assert_eq!(refused.unwrap().result, Err(kv_core::Error::Corrupt));
    for up in nodes {
        up.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_differs_finds_out_when_it_starts() {
    let root = tempfile::tempdir().unwrap();
    let at_start = Checks {
        at_start: true,
        interval: None,
    };
    is_found(with_forged(root.path(), Checks::OFF, at_start).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_finds_a_member_that_differs() {
    let root = tempfile::tempdir().unwrap();
    // Members that are the same raise nothing: they are compared many times before one of them differs.
    let often = Checks {
        at_start: true,
        interval: Some(Duration::from_millis(50)),
    };
    is_found(with_forged(root.path(), often, Checks::OFF).await).await;
}
