//! Backups: taken while the cluster works, and what a new cluster makes of them.

use kv_backup::{Manifest, RESTORE_FILE};
use kv_core::LeaseGrant;
use kv_proto::etcdserverpb::{SnapshotRequest, maintenance_client::MaintenanceClient};

use super::*;

fn machines(root: &Path, count: usize) -> Vec<Machine> {
    (0..count).map(|i| Machine::new(root, &format!("n{i}"))).collect()
}

/// Fetches a backup as a client does; the last piece alone says that nothing remains.
async fn backup(machine: &Machine) -> Vec<u8> {
    let client = MaintenanceClient::connect(format!("http://{}", machine.client))
        .await
        .unwrap();
    let mut client = client.max_decoding_message_size(usize::MAX);
    let mut parts = client.snapshot(SnapshotRequest {}).await.unwrap().into_inner();
    let (mut file, mut remaining) = (Vec::new(), Vec::new());
    while let Some(part) = parts.message().await.unwrap() {
        assert_eq!(part.version, "3.5.0");
        file.extend_from_slice(&part.blob);
        remaining.push(part.remaining_bytes);
    }
    assert_eq!(remaining.pop(), Some(0));
    assert!(!remaining.contains(&0));
    file
}

fn restore(file: &[u8], machine: &Machine) {
    std::fs::create_dir_all(&machine.dir).unwrap();
    std::fs::write(machine.dir.join(RESTORE_FILE), file).unwrap();
}

fn manifest(file: &[u8]) -> Manifest {
    kv_backup::check(file).unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_made_of_a_backup_taken_under_writes() {
    let root = tempfile::tempdir().unwrap();
    let old = machines(&root.path().join("old"), 1);
    let up = static_cluster(&old).await.remove(0);
    let grant = Command::LeaseGrant(LeaseGrant {
        id: 7,
        ttl_s: 600,
        now_ms: 0,
    });
    let granted = up.node.propose(grant, Instant::now() + DEADLINE).await.unwrap();
    granted.result.unwrap();
    for number in 0..200 {
        up.put(&format!("k{number:03}"), &"v".repeat(2000)).await;
    }
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let node = up.node.clone();
    let writing = tokio::spawn(async move {
        let mut written = 0;
        while !*stopped.borrow_and_update() {
            let put = Put {
                key: format!("w{written:05}").into(),
                value: "x".into(),
                ..Put::default()
            };
            node.propose(Command::Put(put), Instant::now() + DEADLINE)
                .await
                .unwrap()
                .result
                .unwrap();
            written += 1;
        }
        written
    });
    let file = backup(&old[0]).await;
    stop.send_replace(true);
    let written: i64 = writing.await.unwrap();
    let made = manifest(&file);
    assert_eq!(
        (made.cluster_id, made.compacted),
        (up.node.identity().cluster_id, -1)
    );
    // Every revision is one key here: it is of one moment, somewhere among the writes.
    assert_eq!(made.keys as i64, made.revision - 1);
    assert!((201..=201 + written).contains(&made.revision));
    let hash_then = up.node.store().hash_kv(made.revision).unwrap().hash;
    let old_cluster = up.node.identity().cluster_id;
    up.stop().await;

    let new = machines(&root.path().join("new"), 4);
    for machine in &new[..3] {
        restore(&file, machine);
    }
    let mut nodes = static_cluster(&new[..3]).await;
    assert_ne!(nodes[0].node.identity().cluster_id, old_cluster);
    for up in &nodes {
        assert_eq!(up.get("k199").await.unwrap().len(), 2000);
        let hashed = up.node.store().hash_kv(0).unwrap();
        assert_eq!((hashed.hash, hashed.revision), (hash_then, made.revision));
        assert!(up.node.store().with_state(|state| state.lease(7).is_some()));
    }
    nodes[0].put("new", "1").await;
    // Who comes later, and who comes back, has all.
    nodes.push(start(new[3].config("n3", dynamic(&new, 3))).await);
    assert_eq!(nodes[3].get("k000").await.unwrap().len(), 2000);
    until_equal(&nodes).await;
    nodes.remove(2).stop().await;
    nodes.push(start(new[2].config("n2", static_list(&new[..3]))).await);
    assert_eq!(nodes[3].get("new").await.unwrap(), "1");
    until_equal(&nodes).await;
    assert!(!new[0].dir.join(RESTORE_FILE).exists());
    for up in nodes {
        up.stop().await;
    }
}

async fn small_backup(root: &Path, value: &str) -> Vec<u8> {
    let machine = machines(root, 1);
    let up = static_cluster(&machine).await.remove(0);
    up.put("a", value).await;
    let file = backup(&machine[0]).await;
    up.stop().await;
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_do_not_have_the_same_backup_refuse_each_other() {
    let root = tempfile::tempdir().unwrap();
    let file = small_backup(&root.path().join("a"), "1").await;
    let other = small_backup(&root.path().join("b"), "2").await;
    let new = machines(&root.path().join("new"), 3);
    restore(&file, &new[0]);
    restore(&file, &new[1]);
    let nodes =
        futures::future::join_all((0..2).map(|i| start(new[i].config(&format!("n{i}"), static_list(&new)))))
            .await;
    assert_eq!(nodes[0].get("a").await.unwrap(), "1");
    // The third starts with nothing, then with something else.
    let hash = kv_backup::check(&file[..]).unwrap().1;
    let refused = refusal(new[2].config("n2", static_list(&new))).await;
    assert!(refused.contains("this node starts without a backup"), "{refused}");
    assert!(
        refused.contains(&format!("starts with the backup {hash}")),
        "{refused}"
    );
    std::fs::remove_dir_all(&new[2].dir).unwrap();
    restore(&other, &new[2]);
    let refused = refusal(new[2].config("n2", static_list(&new))).await;
    assert!(
        refused.contains("restore the same backup on every member"),
        "{refused}"
    );
    for up in nodes {
        up.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_in_the_wrong_place_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let file = small_backup(&root.path().join("a"), "1").await;
    let new = machines(&root.path().join("new"), 2);
    // Where no cluster is founded of a list.
    restore(&file, &new[0]);
    let refused = refusal(new[0].config("n0", dynamic(&new, 2))).await;
    assert!(refused.contains("start them with --initial-cluster"), "{refused}");
    // Where there are data already.
    start(new[1].config(
        "n1",
        Bootstrap::Static {
            members: [("n1".to_owned(), vec![format!("http://{}", new[1].peer)])].into(),
            token: "test".to_owned(),
            existing: false,
        },
    ))
    .await
    .stop()
    .await;
    restore(&file, &new[1]);
    let refused = refusal(new[1].config("n1", static_list(&new))).await;
    assert!(refused.contains("has been used before"), "{refused}");
    // Damaged.
    let mut damaged = file.clone();
    damaged[300] ^= 1;
    restore(&damaged, &new[0]);
    let refused = refusal(new[0].config("n0", static_list(&new))).await;
    assert!(refused.contains("cannot be restored"), "{refused}");
}
