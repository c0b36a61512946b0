//! A cluster that lost its quorum for good, made anew of what is left.

use kv_node::recover::{Args, run};

use super::*;

fn args(survivors: &[&Machine], lost: &[&str], into: Option<&Machine>) -> Args {
    Args {
        survivors: survivors.iter().map(|machine| machine.dir.clone()).collect(),
        lost: lost.iter().map(|name| (*name).to_owned()).collect(),
        into: into.map(|machine| machine.dir.clone()),
        yes: true,
    }
}

fn refused(args: &Args) -> String {
    format!("{:#}", run(args).unwrap_err())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_cluster_is_made_of_the_best_survivor() {
    let root = tempfile::tempdir().unwrap();
    let machines: Vec<Machine> = (0..5)
        .map(|i| Machine::new(root.path(), &format!("n{i}")))
        .collect();
    let mut nodes = static_cluster(&machines).await;
    nodes[0].put("early", "1").await;
    until_equal(&nodes).await;
    let old_cluster = nodes[0].node.identity().cluster_id;
    // The first misses the end; the others lose their machines, but for the second.
    nodes.remove(0).stop().await;
    for i in 0..100 {
        nodes[0].put(&format!("k{i}"), "v").await;
    }
    until_equal(&nodes).await;
    let revision = nodes[0].node.store().revision();
    let running = refused(&args(&[&machines[1]], &["n2"], None));
    assert!(running.contains("is in use by another process"), "{running}");
    for up in nodes {
        up.stop().await;
    }

    let new = Machine::new(root.path(), "new");
    let both = [&machines[0], &machines[1]];
    let possible = refused(&args(&both, &["n2", "n3"], Some(&new)));
    assert!(
        possible.contains("n0, n1, n4 are enough of the voters"),
        "{possible}"
    );
    let lost = ["n2", "n3", "n4"];
    let full = refused(&args(&both, &lost, Some(&machines[2])));
    assert!(full.contains("is not empty"), "{full}");
    run(&args(&both, &lost, None)).unwrap();
    assert!(!new.dir.exists(), "made without being told to");
    run(&args(&both, &lost, Some(&new))).unwrap();

    // It starts with the flags of the member that it was, elsewhere if need be.
    let start_new = || start(new.config("n1", static_list(&machines)));
    let up = start_new().await;
    assert_ne!(up.node.identity().cluster_id, old_cluster);
    assert_eq!(up.get("early").await.unwrap(), "1");
    assert_eq!(up.get("k99").await.unwrap(), "v");
    assert_eq!(up.node.store().revision(), revision);
    up.put("after", "2").await;
    up.stop().await;
    let up = start_new().await;
    assert_eq!(up.get("after").await.unwrap(), "2");

    // Others join it, empty; whoever comes back with its old data is a stranger.
    let others: Vec<Machine> = (0..2)
        .map(|i| Machine::new(root.path(), &format!("other{i}")))
        .collect();
    let join = Bootstrap::Dynamic {
        join: vec![new.peer.clone()],
        expect: None,
    };
    let joining = others
        .iter()
        .enumerate()
        .map(|(i, machine)| start(machine.config(&format!("o{i}"), join.clone())));
    let mut nodes = futures::future::join_all(joining).await;
    nodes.push(up);
    until("three voters", || nodes.iter().all(|up| up.node.voters() == 3)).await;
    until_equal(&nodes).await;
    let stranger = refusal(machines[3].config("n3", join)).await;
    assert!(stranger.contains("belongs to cluster"), "{stranger}");
    for up in nodes {
        up.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_acknowledged_is_kept_too() {
    let root = tempfile::tempdir().unwrap();
    let machines: Vec<Machine> = (0..3)
        .map(|i| Machine::new(root.path(), &format!("n{i}")))
        .collect();
    let mut nodes = static_cluster(&machines).await;
    nodes[0].put("a", "1").await;
    until("a leader", || nodes.iter().any(Up::leads)).await;
    let leader = nodes.iter().position(Up::leads).unwrap();
    let leader_up = nodes.remove(leader);
    for up in nodes {
        up.stop().await;
    }
    // In the leader's log alone: nobody is left to acknowledge it.
    let put = Command::Put(Put {
        key: "b".into(),
        value: "2".into(),
        ..Put::default()
    });
    let node = leader_up.node.clone();
    let before = node.status().last_log_index;
    let unknown =
        tokio::spawn(async move { node.propose(put, Instant::now() + Duration::from_secs(1)).await });
    let outcome = unknown.await.unwrap();
    let kept = leader_up.node.status().last_log_index > before;
    leader_up.stop().await;
    let new = Machine::new(root.path(), "new");
    let lost: Vec<String> = (0..3).filter(|i| *i != leader).map(|i| format!("n{i}")).collect();
    let lost: Vec<&str> = lost.iter().map(String::as_str).collect();
    run(&args(&[&machines[leader]], &lost, Some(&new))).unwrap();
    let up = start(new.config(&format!("n{leader}"), static_list(&machines))).await;
    assert_eq!(up.get("a").await.unwrap(), "1");
    assert!(outcome.is_err());
    assert_eq!(up.get("b").await.is_some(), kept);
    up.stop().await;
}
